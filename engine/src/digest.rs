//! Digests: equal exactly when columns, keys, values and order are, across restarts and however a result came about.
//!
//! A result's digest is a sum over its rows of a hash of the row and of the key before it: keys are unique, so who
//! follows whom says all about the order, and one row that comes, goes or changes costs two or three hashes, however
//! long the result is.

use crate::facts::OutputColumn;
use crate::result_row::ResultRow;
use std::fmt;
use xxhash_rust::xxh3::Xxh3;

/// A result's digest. Opaque to clients, who get it as text and may say later that this is what they have.
// Two halves: a number of 128 bits would take its alignment wherever it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Digest(u64, u64);

impl Digest {
    /// Returns the digest with this text; none where no digest has it.
    pub fn read(text: &str) -> Option<Digest> {
        let digits = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.len() != 32 || !text.bytes().all(digits) {
            return None;
        }
        let (high, low) = text.split_at(16);
        let half = |text| u64::from_str_radix(text, 16).ok();
        Some(Digest(half(high)?, half(low)?))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}{:016x}", self.0, self.1)
    }
}

/// The sum of a result's row hashes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DigestSum(u128);

impl DigestSum {
    /// Adds a row that follows another (or none).
    pub fn add(&mut self, before: Option<&ResultRow>, row: &ResultRow) {
        self.0 = self.0.wrapping_add(row_hash(before, row));
    }

    /// Takes such a row away.
    pub fn subtract(&mut self, before: Option<&ResultRow>, row: &ResultRow) {
        self.0 = self.0.wrapping_sub(row_hash(before, row));
    }

    /// Returns the digest of a result with these columns and this many rows.
    pub fn digest(self, columns: &[OutputColumn], rows: usize) -> Digest {
        let mut hash = Xxh3::new();
        for column in columns {
            update_text(&mut hash, &column.name);
            update_text(&mut hash, &column.type_name);
        }
        hash.update(&(rows as u64).to_le_bytes());
        hash.update(&self.0.to_le_bytes());
        let digest = hash.digest128();
        Digest((digest >> 64) as u64, digest as u64)
    }
}

fn update_text(hash: &mut Xxh3, text: &str) {
    hash.update(&(text.len() as u64).to_le_bytes());
    hash.update(text.as_bytes());
}

fn row_hash(before: Option<&ResultRow>, row: &ResultRow) -> u128 {
    let mut hash = Xxh3::new();
    match before {
        Some(before) => update_text(&mut hash, before.key()),
        None => hash.update(&u64::MAX.to_le_bytes()),
    }
    update_text(&mut hash, row.key());
    for cell in row.cells() {
        update_text(&mut hash, cell);
    }
    hash.digest128()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(high in any::<u64>(), low in any::<u64>()) {
            let digest = Digest(high, low);
            prop_assert_eq!(digest.to_string().len(), 32);
            prop_assert_eq!(Digest::read(&digest.to_string()), Some(digest));
        }

        #[test]
        fn what_was_never_written_is_no_digest(text in "[0-9a-fA-F+ äx]{0,40}") {
            if let Some(digest) = Digest::read(&text) {
                prop_assert_eq!(digest.to_string(), text);
            }
        }
    }
}
