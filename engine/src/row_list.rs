//! A result's rows in order, with the digest of those that are shown kept along.

use crate::digest::{Digest, DigestSum};
use crate::facts::OutputColumn;
use crate::result_row::ResultRow;
use std::ops::Range;

/// Rows in order, of which all are shown or a part; the others stand before and behind it.
#[derive(Clone, Debug, Default)]
pub(crate) struct RowList {
    rows: Vec<ResultRow>,
    shown: Range<usize>,
    /// Of the rows that are shown, as are the bytes.
    sum: DigestSum,
    text_bytes: usize,
}

impl RowList {
    /// Returns the list of these rows, all of which are shown.
    pub fn new(rows: Vec<ResultRow>) -> Self {
        let shown = 0..rows.len();
        RowList::showing(rows, shown)
    }

    /// Returns the list of these rows, of which those in the range are shown, as far as there are any.
    pub fn showing(rows: Vec<ResultRow>, range: Range<usize>) -> Self {
        let shown = part_of(&rows, range);
        let mut sum = DigestSum::default();
        let mut before = None;
        for row in &rows[shown.clone()] {
            sum.add(before, row);
            before = Some(row);
        }
        let text_bytes = rows[shown.clone()].iter().map(ResultRow::text_bytes).sum();
        RowList { rows, shown, sum, text_bytes }
    }

    /// Puts other rows in the place of all, of which those in the range are shown and are what they were.
    pub fn replace_others(&mut self, rows: Vec<ResultRow>, range: Range<usize>) {
        let shown = part_of(&rows, range);
        debug_assert_eq!(self.rows(), &rows[shown.clone()]);
        (self.rows, self.shown) = (rows, shown);
    }

    /// Returns the rows that are shown.
    pub fn rows(&self) -> &[ResultRow] {
        &self.rows[self.shown.clone()]
    }

    /// Returns all rows.
    pub fn all(&self) -> &[ResultRow] {
        &self.rows
    }

    /// Returns the digest, given the columns.
    pub fn digest(&self, columns: &[OutputColumn]) -> Digest {
        self.sum.digest(columns, self.shown.len())
    }

    /// Returns what the digest is made of, beside the columns.
    pub fn sum(&self) -> (DigestSum, usize) {
        (self.sum, self.shown.len())
    }

    /// Returns the bytes of all keys and values that are shown.
    pub fn text_bytes(&self) -> usize {
        self.text_bytes
    }

    /// Puts a row in, to stand at `at`. For lists that are shown whole, as are the next two.
    pub fn insert(&mut self, at: usize, row: ResultRow) {
        self.unlink(at);
        self.shown.end += 1;
        self.text_bytes += row.text_bytes();
        self.rows.insert(at, row);
        self.link(at);
        self.link(at + 1);
    }

    /// Takes the row at `at` out.
    pub fn remove(&mut self, at: usize) -> ResultRow {
        self.unlink(at);
        self.unlink(at + 1);
        self.shown.end -= 1;
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
        debug_assert_eq!(self.shown, 0..self.rows.len(), "it is shown whole");
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

/// Returns what of a range there is in a list.
pub(crate) fn part_of(rows: &[ResultRow], range: Range<usize>) -> Range<usize> {
    let start = range.start.min(rows.len());
    start..range.end.clamp(start, rows.len())
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

    #[test]
    fn what_is_not_shown_does_not_count() {
        let rows: Vec<_> = (0..5).map(|key| row(key, key)).collect();
        for range in [0..5, 1..3, 4..9, 5..5, 7..9] {
            let part = RowList::showing(rows.clone(), range.clone());
            let shown: Vec<_> = rows.iter().skip(range.start).take(range.len()).cloned().collect();
            assert_eq!(part.rows(), shown);
            assert_eq!(part.all(), rows);
            let alone = RowList::new(shown);
            assert_eq!(part.digest(&[]), alone.digest(&[]));
            assert_eq!(part.text_bytes(), alone.text_bytes());
            let mut other = part.clone();
            other.replace_others([part.rows(), &rows].concat(), 0..part.rows().len());
            assert_eq!(other.digest(&[]), part.digest(&[]));
        }
    }
}
