//! Which rows of its tables a refreshed result holds, by their primary keys: what the index is told while the result is
//! known (`analyse/unheld.rs` says of what use that is).
//!
//! The keys stand one behind the other, in ascending order: about as many bytes as they have, and 4 each.

use crate::read_rows::ReadRows;
use crate::template::HeldTable;
use convoy_types::{Key, KeyBuilder, RelationId};
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// What an entry of the index takes for a row and a result: 12 bytes in a map that is partly empty.
const INDEX_BYTES: usize = 24;

/// The rows that a result holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HeldRows(Box<[HeldKeys]>);

/// Those of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
struct HeldKeys {
    relation: RelationId,
    /// The keys' encodings.
    // Invariant: ascending and distinct.
    bytes: Box<[u8]>,
    /// Where each ends.
    ends: Box<[u32]>,
}

impl HeldRows {
    /// Returns the rows that a read's rows name behind the columns that are shown; none where a key does not read as one,
    /// or they are too long.
    pub fn of(tables: &[HeldTable], rows: &ReadRows, shown: usize) -> Option<Self> {
        let mut keys: BTreeMap<RelationId, Vec<Key>> = BTreeMap::new();
        for table in tables {
            let keys = keys.entry(table.relation).or_default();
            let from = shown + table.first;
            for row in rows.iter() {
                let columns = from..from + table.types.len();
                let texts = columns.map(|column| row.get(column)).collect::<Option<Vec<_>>>()?;
                // The nulls of an outer join.
                if texts.iter().all(Option::is_none) {
                    continue;
                }
                let mut key = KeyBuilder::new();
                for (ty, text) in table.types.iter().zip(&texts) {
                    key.push(ty, (*text)?.as_bytes()).ok()?;
                }
                keys.push(key.finish());
            }
        }
        let of_table = |(relation, keys)| HeldKeys::new(relation, keys);
        keys.into_iter().map(of_table).collect::<Option<_>>().map(HeldRows)
    }

    /// Returns each row, with its table.
    pub fn iter(&self) -> impl Iterator<Item = (RelationId, Key)> {
        self.0.iter().flat_map(|held| held.keys().map(|key| (held.relation, Key::from_bytes(key))))
    }

    /// Returns whether a row is held.
    pub fn contains(&self, relation: RelationId, key: &Key) -> bool {
        let held = self.0.iter().find(|held| held.relation == relation);
        held.is_some_and(|held| held.find(key.as_bytes()))
    }

    /// Returns the rows that are held here and not there.
    pub fn without<'a>(&'a self, other: &'a HeldRows) -> impl Iterator<Item = (RelationId, Key)> {
        self.0.iter().flat_map(|held| {
            let of_other = other.0.iter().find(|other| other.relation == held.relation);
            let keys = held.keys_without(of_other);
            keys.into_iter().map(|key| (held.relation, Key::from_bytes(key)))
        })
    }

    /// Returns about how many bytes it takes, with its place in the index.
    pub fn memory_bytes(&self) -> usize {
        let of_table =
            |held: &HeldKeys| held.bytes.len() + held.ends.len() * (size_of::<u32>() + INDEX_BYTES);
        self.0.iter().map(of_table).sum()
    }
}

impl HeldKeys {
    fn new(relation: RelationId, mut keys: Vec<Key>) -> Option<Self> {
        keys.sort_unstable();
        keys.dedup();
        let (mut bytes, mut ends) = (Vec::new(), Vec::with_capacity(keys.len()));
        for key in keys {
            bytes.extend_from_slice(key.as_bytes());
            ends.push(u32::try_from(bytes.len()).ok()?);
        }
        Some(HeldKeys { relation, bytes: bytes.into(), ends: ends.into() })
    }

    fn key(&self, number: usize) -> &[u8] {
        let end = |number: usize| self.ends[number] as usize;
        &self.bytes[number.checked_sub(1).map_or(0, end)..end(number)]
    }

    fn keys(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.ends.len()).map(|number| self.key(number))
    }

    fn find(&self, key: &[u8]) -> bool {
        let (mut low, mut high) = (0, self.ends.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.key(middle).cmp(key) {
                Ordering::Equal => return true,
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
            }
        }
        false
    }

    fn keys_without<'a>(&'a self, other: Option<&'a HeldKeys>) -> Vec<&'a [u8]> {
        let mut theirs = other.into_iter().flat_map(HeldKeys::keys).peekable();
        let mut left = Vec::new();
        for key in self.keys() {
            while theirs.next_if(|their| *their < key).is_some() {}
            if theirs.next_if(|their| *their == key).is_none() {
                left.push(key);
            }
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use convoy_types::PgType;

    fn tables() -> [HeldTable; 3] {
        let table = |relation, first, types: &[PgType]| HeldTable {
            relation: RelationId(relation),
            first,
            types: types.into(),
        };
        [
            table(1, 0, &[PgType::Int8]),
            table(2, 1, &[PgType::Text, PgType::Int4]),
            table(1, 3, &[PgType::Int8]),
        ]
    }

    fn rows(rows: &[[&str; 5]]) -> ReadRows {
        rows.iter().map(|row| row.map(|text| (text != "-").then_some(text))).collect()
    }

    fn held(texts: &[[&str; 5]]) -> HeldRows {
        HeldRows::of(&tables(), &rows(texts), 1).expect("keys")
    }

    fn one(value: i64) -> Key {
        Key::of(&PgType::Int8, value.to_string().as_bytes()).expect("a number")
    }

    fn two(text: &str, value: i32) -> Key {
        let mut key = KeyBuilder::new();
        key.push(&PgType::Text, text.as_bytes()).expect("a text");
        key.push(&PgType::Int4, value.to_string().as_bytes()).expect("a number");
        key.finish()
    }

    #[test]
    fn each_row_is_named_once() {
        let held = held(&[
            ["shown", "10", "b", "1", "-7"],
            ["shown", "9", "a", "2", "10"],
            ["shown", "10", "-", "-", "-"],
        ]);
        let (first, second) = (RelationId(1), RelationId(2));
        let expected = [
            (first, one(-7)),
            (first, one(9)),
            (first, one(10)),
            (second, two("a", 2)),
            (second, two("b", 1)),
        ];
        assert_eq!(held.iter().collect::<Vec<_>>(), expected);
        assert!(expected.iter().all(|(relation, key)| held.contains(*relation, key)));
        // Three of 9 bytes and two of 12, where each ends, and their places in the index.
        assert_eq!(held.memory_bytes(), 3 * 9 + 2 * 12 + 5 * (4 + INDEX_BYTES));
        for (relation, key) in [(first, one(0)), (first, one(11)), (RelationId(3), one(9))] {
            assert!(!held.contains(relation, &key));
        }
    }

    #[test]
    fn what_two_results_don_t_share_is_told() {
        let before = held(&[["", "1", "a", "1", "2"], ["", "3", "a", "1", "-"]]);
        let after = held(&[["", "3", "a", "1", "4"], ["", "5", "b", "1", "1"]]);
        let of_first =
            |keys: &[i64]| keys.iter().map(|key| (RelationId(1), one(*key))).collect::<Vec<_>>();
        assert_eq!(before.without(&after).collect::<Vec<_>>(), of_first(&[2]));
        let mut came = of_first(&[4, 5]);
        came.push((RelationId(2), two("b", 1)));
        assert_eq!(after.without(&before).collect::<Vec<_>>(), came);
        assert_eq!(after.without(&HeldRows::default()).count(), after.iter().count());
        assert_eq!(after.without(&after).count(), 0);
    }

    #[test]
    fn a_key_that_does_not_read_leaves_all_unknown() {
        for row in [["", "x", "a", "1", "1"], ["", "1", "a", "-", "1"]] {
            assert_eq!(HeldRows::of(&tables(), &rows(&[row]), 1), None);
        }
        assert_eq!(HeldRows::of(&tables(), &rows(&[["", "1", "a", "1", "1"]]), 2), None);
    }
}
