//! Row keys: opaque strings of at most 64 bytes that tell a result's rows apart.

use crate::result_row::ResultRow;
use std::collections::HashMap;
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

/// A key's length at most, in bytes (`docs/protocol.md`, section 3).
const KEY_BYTES_MAX: usize = 64;

/// Returns the key of a row whose key columns have these texts: the text itself where there is one, joined with
/// commas where there are several, hashed where that gets too long.
pub(crate) fn row_key<'a>(parts: impl ExactSizeIterator<Item = Option<&'a str>>) -> Box<str> {
    let single = parts.len() == 1;
    let mut key = String::new();
    for (index, part) in parts.enumerate() {
        if index > 0 {
            key.push(',');
        }
        match part {
            None => key.push_str("\\N"),
            Some(text) if single && !text.starts_with(['#', '\\']) => key.push_str(text),
            Some(text) => {
                for character in text.chars() {
                    if matches!(character, ',' | '\\' | '#') {
                        key.push('\\');
                    }
                    key.push(character);
                }
            }
        }
    }
    if key.len() > KEY_BYTES_MAX {
        format!("#{:032x}", xxh3_128(key.as_bytes())).into()
    } else {
        key.into()
    }
}

/// Returns rows with keys made of a hash of their values and an ordinal among equals.
pub(crate) fn hashed_rows<'a, T: Iterator<Item = &'a str> + Clone>(
    rows: impl Iterator<Item = T>,
) -> Vec<ResultRow> {
    let mut seen: HashMap<u128, u32> = HashMap::new();
    rows.map(|cells| {
        let mut hash = Xxh3::new();
        for cell in cells.clone() {
            hash.update(&(cell.len() as u64).to_le_bytes());
            hash.update(cell.as_bytes());
        }
        let hash = hash.digest128();
        let ordinal = seen.entry(hash).or_insert(0);
        let key = format!("#{hash:032x}.{ordinal}");
        *ordinal += 1;
        ResultRow::new(&key, cells)
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(parts: &[Option<&str>]) -> Box<str> {
        row_key(parts.iter().copied())
    }

    #[test]
    fn one_column_is_its_own_key() {
        assert_eq!(&*key(&[Some("42")]), "42");
        assert_eq!(&*key(&[Some("a,b")]), "a,b");
    }

    #[test]
    fn different_columns_have_different_keys() {
        let long = "x".repeat(65);
        let longer = "x".repeat(66);
        let one = [
            None,
            Some("\\N"),
            Some("\\\\N"),
            Some(""),
            Some(&*long),
            Some(&*longer),
            Some("#0123"),
            Some("\\#0123"),
        ];
        let two = [
            [Some("a"), Some("b")],
            [Some("a,"), Some("b")],
            [Some("a"), Some(",b")],
            [Some("a\\"), Some("b")],
            [Some("a\\,"), Some("b")],
            [None, None],
            [Some("\\N"), None],
            [Some(&*long), Some("")],
        ];
        let ones: std::collections::HashSet<_> = one.iter().map(|part| key(&[*part])).collect();
        let twos: std::collections::HashSet<_> = two.iter().map(|parts| key(parts)).collect();
        assert_eq!((ones.len(), twos.len()), (one.len(), two.len()));
        assert!(ones.iter().chain(&twos).all(|key| key.len() <= KEY_BYTES_MAX));
    }
}
