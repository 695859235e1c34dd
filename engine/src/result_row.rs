//! A row of a result, in one piece of memory: there are very many of them, and an allocation for each value would take
//! more than the values do.

use std::fmt;
use std::iter::FusedIterator;
use triomphe::Arc;

/// A row of a result: its key, and each column's value as JSON text. Cheap to clone.
///
/// The key is at most 64 bytes, unique in the result and stable; the values are as `to_jsonb` prints them, one a column.
// How many values there are, the lengths of the key and of each value, then these themselves, without anything between
// them. A number is written in digits of six bits, the least first, of which the last has `LAST` added: ASCII, so that
// the whole is a string and its parts need not be looked at again to be strings.
#[derive(Clone, PartialEq, Eq)]
// An `Arc` without weak references: each row would take eight bytes for their count.
pub struct ResultRow(Arc<str>);

const LAST: u8 = 64;

impl ResultRow {
    /// Returns the row of a key and its values.
    pub fn new<T: AsRef<str>>(key: &str, cells: impl IntoIterator<Item = T>) -> Self {
        let mut builder = RowBuilder::default();
        for cell in cells {
            builder.push(cell.as_ref());
        }
        builder.finish(key)
    }

    /// Returns the key.
    pub fn key(&self) -> &str {
        let (_, numbers) = read_number(self.0.as_bytes());
        let (len, _) = read_number(numbers);
        &self.texts()[..len]
    }

    /// Returns the values, one a column.
    pub fn cells(&self) -> Cells<'_> {
        let (left, numbers) = read_number(self.0.as_bytes());
        let (key_len, lens) = read_number(numbers);
        Cells { left, lens, texts: &self.texts()[key_len..] }
    }

    /// Returns a column's value.
    pub fn cell(&self, column: usize) -> Option<&str> {
        self.cells().nth(column)
    }

    /// Returns the bytes of the key and all values.
    pub fn text_bytes(&self) -> usize {
        self.texts().len()
    }

    /// Returns whether two rows are the same, without a look at their values where they are one piece of memory.
    pub fn is_same(&self, other: &ResultRow) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self == other
    }

    /// Returns the key and the values, one behind the other.
    fn texts(&self) -> &str {
        let bytes = self.0.as_bytes();
        let (cells, mut rest) = read_number(bytes);
        for _ in 0..=cells {
            rest = read_number(rest).1;
        }
        &self.0[bytes.len() - rest.len()..]
    }
}

impl fmt::Debug for ResultRow {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}: ", self.key())?;
        formatter.debug_list().entries(self.cells()).finish()
    }
}

/// The values of a row.
#[derive(Clone, Debug)]
pub struct Cells<'a> {
    left: usize,
    lens: &'a [u8],
    texts: &'a str,
}

impl<'a> Iterator for Cells<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        self.left = self.left.checked_sub(1)?;
        let (len, rest) = read_number(self.lens);
        self.lens = rest;
        let (cell, texts) = self.texts.split_at(len);
        self.texts = texts;
        Some(cell)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Cells<'_> {}
impl FusedIterator for Cells<'_> {}

/// Puts a row together.
#[derive(Debug, Default)]
pub(crate) struct RowBuilder {
    texts: String,
    ends: Vec<usize>,
}

impl RowBuilder {
    /// Returns a builder of a row with so many values.
    pub fn with_cells(cells: usize) -> Self {
        RowBuilder { texts: String::new(), ends: Vec::with_capacity(cells) }
    }

    /// Appends a value.
    pub fn push(&mut self, cell: &str) {
        self.texts.push_str(cell);
        self.ends.push(self.texts.len());
    }

    /// Appends a value that is written by `write`.
    pub fn push_with<E>(
        &mut self,
        write: impl FnOnce(&mut String) -> Result<(), E>,
    ) -> Result<(), E> {
        write(&mut self.texts)?;
        self.ends.push(self.texts.len());
        Ok(())
    }

    /// Returns the row.
    pub fn finish(self, key: &str) -> ResultRow {
        let mut text = String::with_capacity(
            // Two digits are enough for most numbers.
            2 * (self.ends.len() + 2) + key.len() + self.texts.len(),
        );
        push_number(&mut text, self.ends.len());
        push_number(&mut text, key.len());
        let mut start = 0;
        for end in self.ends {
            push_number(&mut text, end - start);
            start = end;
        }
        text.push_str(key);
        text.push_str(&self.texts);
        ResultRow(text.into())
    }
}

fn push_number(text: &mut String, mut number: usize) {
    while number >= usize::from(LAST) {
        text.push(char::from((number % usize::from(LAST)) as u8));
        number /= usize::from(LAST);
    }
    text.push(char::from(number as u8 + LAST));
}

/// Reads a number; what is no number reads as 0, and is none that we wrote.
fn read_number(bytes: &[u8]) -> (usize, &[u8]) {
    let (mut number, mut shift) = (0, 0);
    for (index, &digit) in bytes.iter().enumerate() {
        number |= usize::from(digit % LAST) << shift;
        if digit >= LAST {
            return (number, &bytes[index + 1..]);
        }
        shift += 6;
    }
    (0, &[])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_row_is_what_it_was_made_of(key in ".{0,70}", cells in prop::collection::vec(".{0,200}", 0..80)) {
            let row = ResultRow::new(&key, &cells);
            prop_assert_eq!(row.key(), &key);
            prop_assert_eq!(row.cells().len(), cells.len());
            prop_assert_eq!(row.cells().collect::<Vec<_>>(), cells.iter().collect::<Vec<_>>());
            prop_assert_eq!(row.text_bytes(), key.len() + cells.iter().map(String::len).sum::<usize>());
            prop_assert_eq!(row.cell(cells.len()), None);
        }

        #[test]
        fn rows_are_equal_where_their_parts_are(one in prop::collection::vec("[ab]{0,2}", 1..4), other in prop::collection::vec("[ab]{0,2}", 1..4)) {
            let row = |parts: &[String]| ResultRow::new(&parts[0], &parts[1..]);
            prop_assert_eq!(row(&one) == row(&other), one == other);
        }
    }

    #[test]
    fn long_values_have_long_numbers() {
        let long = "ä".repeat(5_000_000);
        let row = ResultRow::new("k", ["", &long, "x"]);
        assert_eq!(row.cells().map(str::len).collect::<Vec<_>>(), [0, 10_000_000, 1]);
        assert_eq!(row.cell(2), Some("x"));
    }
}
