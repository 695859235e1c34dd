//! Digests: equal exactly when columns, keys, values and order are, across restarts and however a result came about.
//!
//! A result's digest is a sum over its rows of a hash of the row and of the key before it: keys are unique, so who
//! follows whom says all about the order, and one row that comes, goes or changes costs two or three hashes, however
//! long the result is.

use crate::facts::OutputColumn;
use crate::result_row::ResultRow;
use std::sync::Arc;
use xxhash_rust::xxh3::Xxh3;

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
    pub fn digest(self, columns: &[OutputColumn], rows: usize) -> Arc<str> {
        let mut hash = Xxh3::new();
        for column in columns {
            update_text(&mut hash, &column.name);
            update_text(&mut hash, &column.type_name);
        }
        hash.update(&(rows as u64).to_le_bytes());
        hash.update(&self.0.to_le_bytes());
        format!("{:032x}", hash.digest128()).into()
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
