//! A result's rows in order, with their digest kept along.

use crate::digest::DigestSum;
use crate::facts::OutputColumn;
use crate::result_row::ResultRow;
use std::sync::Arc;

/// Rows in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct RowList {
    rows: Vec<ResultRow>,
    sum: DigestSum,
    text_bytes: usize,
}

impl RowList {
    /// Returns the list of these rows.
    pub fn new(rows: Vec<ResultRow>) -> Self {
        let mut sum = DigestSum::default();
        for (index, row) in rows.iter().enumerate() {
            sum.add(index.checked_sub(1).map(|before| &rows[before]), row);
        }
        let text_bytes = rows.iter().map(|row| row.text_bytes()).sum();
        RowList { rows, sum, text_bytes }
    }

    /// Returns the rows.
    pub fn rows(&self) -> &[ResultRow] {
        &self.rows
    }

    /// Returns the digest, given the columns.
    pub fn digest(&self, columns: &[OutputColumn]) -> Arc<str> {
        self.sum.digest(columns, self.rows.len())
    }

    /// Returns the bytes of all keys and values.
    pub fn text_bytes(&self) -> usize {
        self.text_bytes
    }

    /// Puts a row in, to stand at `at`.
    pub fn insert(&mut self, at: usize, row: ResultRow) {
        self.unlink(at);
        self.text_bytes += row.text_bytes();
        self.rows.insert(at, row);
        self.link(at);
        self.link(at + 1);
    }

    /// Takes the row at `at` out.
    pub fn remove(&mut self, at: usize) -> ResultRow {
        self.unlink(at);
        self.unlink(at + 1);
        let row = self.rows.remove(at);
        self.text_bytes -= row.text_bytes();
        self.link(at);
        row
    }

    /// Puts a row in another's place.
    pub fn replace(&mut self, at: usize, row: ResultRow) {
        self.unlink(at);
        self.unlink(at + 1);
        self.text_bytes = self.text_bytes - self.rows[at].text_bytes() + row.text_bytes();
        self.rows[at] = row;
        self.link(at);
        self.link(at + 1);
    }

    fn link(&mut self, at: usize) {
        if let Some(row) = self.rows.get(at) {
            self.sum.add(at.checked_sub(1).map(|before| &self.rows[before]), row);
        }
    }

    fn unlink(&mut self, at: usize) {
        if let Some(row) = self.rows.get(at) {
            self.sum.subtract(at.checked_sub(1).map(|before| &self.rows[before]), row);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    fn row(key: u32, value: u32) -> ResultRow {
        ResultRow::new(&key.to_string(), [value.to_string()])
    }

    #[test]
    fn a_list_that_was_changed_has_the_digest_of_one_made_anew() {
        let mut random = SmallRng::seed_from_u64(7);
        let mut list = RowList::default();
        for step in 0..2_000_u32 {
            let len = list.rows().len();
            match random.random_range(0..3) {
                0 if len > 0 => drop(list.remove(random.random_range(0..len))),
                1 if len > 0 => {
                    let at = random.random_range(0..len);
                    let key = list.rows()[at].key().parse().expect("a number");
                    list.replace(at, row(key, step));
                }
                _ => list.insert(random.random_range(0..=len), row(step, step)),
            }
            let anew = RowList::new(list.rows().to_vec());
            assert_eq!(list.digest(&[]), anew.digest(&[]));
            assert_eq!(list.text_bytes(), anew.text_bytes());
        }
    }

    #[test]
    fn order_and_values_count() {
        let digest = |rows: &[ResultRow]| RowList::new(rows.to_vec()).digest(&[]);
        let (a, b) = (row(1, 1), row(2, 1));
        assert_ne!(digest(&[a.clone(), b.clone()]), digest(&[b.clone(), a.clone()]));
        assert_ne!(digest(std::slice::from_ref(&a)), digest(&[row(1, 2)]));
        assert_ne!(digest(&[]), digest(&[a]));
    }
}
