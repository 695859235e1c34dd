//! The rows of an answer, in one piece of memory: they are made on the database's threads and end on the engine's, and
//! an allocation for each value would leave holes between all that is kept of them.

use bytes::Bytes;
use convoy_types::Datum;

/// The rows that a read gave, each with a text or null for each of the same columns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadRows {
    len: usize,
    columns: usize,
    /// Where each value ends, row by row.
    ends: Vec<End>,
    /// All values, one behind the other.
    texts: String,
}

/// Where a value ends, and whether it is null.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct End {
    // Invariant: at most 2^63, as every length is.
    twice_and_null: usize,
}

impl End {
    fn new(at: usize, is_null: bool) -> Self {
        End { twice_and_null: at << 1 | usize::from(is_null) }
    }

    fn at(self) -> usize {
        self.twice_and_null >> 1
    }

    fn is_null(self) -> bool {
        self.twice_and_null & 1 == 1
    }
}

impl ReadRows {
    /// Returns no rows, with room for as much as another answer had.
    pub fn with_room_of(other: &ReadRows) -> Self {
        ReadRows {
            len: 0,
            columns: 0,
            ends: Vec::with_capacity(other.ends.len()),
            texts: String::with_capacity(other.texts.len()),
        }
    }

    /// Appends a row.
    ///
    /// # Errors
    /// Passes on that of the first value that can't be had. The rows are then as they were.
    pub fn try_push<'a, E>(
        &mut self,
        values: impl IntoIterator<Item = Result<Option<&'a str>, E>>,
    ) -> Result<(), E> {
        let (ends, texts) = (self.ends.len(), self.texts.len());
        for value in values {
            match value {
                Ok(value) => {
                    self.texts.push_str(value.unwrap_or_default());
                    self.ends.push(End::new(self.texts.len(), value.is_none()));
                }
                Err(error) => {
                    self.ends.truncate(ends);
                    self.texts.truncate(texts);
                    return Err(error);
                }
            }
        }
        let columns = self.ends.len() - ends;
        debug_assert!(self.len == 0 || self.columns == columns, "rows of one answer are alike");
        self.columns = columns;
        self.len += 1;
        Ok(())
    }

    /// Returns how many rows there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the bytes of all values.
    pub fn text_bytes(&self) -> usize {
        self.texts.len()
    }

    /// Returns the bytes of memory that the rows take.
    pub fn memory_bytes(&self) -> usize {
        self.texts.len() + self.ends.len() * size_of::<End>()
    }

    /// Returns the rows, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = ReadRow<'_>> {
        (0..self.len).map(|row| ReadRow { rows: self, first: row * self.columns })
    }

    /// Returns the rows in the order of these numbers, one for each.
    pub fn sorted_by(&self, places: &[i64]) -> ReadRows {
        let mut order: Vec<_> = self.iter().zip(places).collect();
        order.sort_by_key(|(_, place)| **place);
        order.into_iter().map(|(row, _)| row.iter()).collect()
    }

    /// Returns the rows as data of their columns, which share this memory.
    pub(crate) fn into_data(self) -> impl ExactSizeIterator<Item = Vec<Datum>> {
        let ReadRows { len, columns, ends, texts } = self;
        let texts = Bytes::from(texts);
        (0..len).map(move |row| {
            let datum = |at: usize| match ends[at].is_null() {
                true => Datum::Null,
                false => Datum::Text(texts.slice(start(&ends, at)..ends[at].at())),
            };
            (row * columns..(row + 1) * columns).map(datum).collect()
        })
    }
}

fn start(ends: &[End], at: usize) -> usize {
    at.checked_sub(1).map_or(0, |before| ends[before].at())
}

impl<R, T> FromIterator<R> for ReadRows
where
    R: IntoIterator<Item = Option<T>>,
    T: AsRef<str>,
{
    fn from_iter<I: IntoIterator<Item = R>>(rows: I) -> Self {
        let mut all = ReadRows::default();
        for row in rows {
            let values: Vec<_> = row.into_iter().collect();
            let values = values.iter().map(|value| value.as_ref().map(T::as_ref));
            let Ok(()) = all.try_push(values.map(Ok::<_, std::convert::Infallible>));
        }
        all
    }
}

/// One row of an answer.
#[derive(Clone, Copy, Debug)]
pub struct ReadRow<'a> {
    rows: &'a ReadRows,
    /// Where its first value is.
    first: usize,
}

impl<'a> ReadRow<'a> {
    /// Returns a column's text, `Some(None)` for null, and `None` where there is no such column.
    pub fn get(&self, column: usize) -> Option<Option<&'a str>> {
        if column >= self.rows.columns {
            return None;
        }
        let at = self.first + column;
        let end = *self.rows.ends.get(at)?;
        let text = &self.rows.texts[start(&self.rows.ends, at)..end.at()];
        Some((!end.is_null()).then_some(text))
    }

    /// Returns the columns' texts, in order, none for null.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Option<&'a str>> + Clone + use<'a> {
        let row = *self;
        (0..row.rows.columns).map(move |column| row.get(column).flatten())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rows() -> impl Strategy<Value = Vec<Vec<Option<String>>>> {
        let value = prop::option::of(".{0,9}");
        (0..4_usize).prop_flat_map(move |columns| {
            prop::collection::vec(prop::collection::vec(value.clone(), columns), 0..6)
        })
    }

    fn texts(rows: &ReadRows) -> Vec<Vec<Option<String>>> {
        let row = |row: ReadRow<'_>| row.iter().map(|text| text.map(str::to_owned)).collect();
        rows.iter().map(row).collect()
    }

    proptest! {
        #[test]
        fn rows_are_what_they_were_made_of(rows in rows()) {
            let read: ReadRows = rows.iter().map(|row| row.iter().map(Option::as_ref)).collect();
            prop_assert_eq!(texts(&read), rows.clone());
            prop_assert_eq!(read.len(), rows.len());
            for (row, values) in read.iter().zip(&rows) {
                prop_assert_eq!(row.get(values.len()), None);
            }
            let data: Vec<Vec<Datum>> = read.into_data().collect();
            let datum = |value: &Option<String>| match value {
                None => Datum::Null,
                Some(text) => Datum::Text(Bytes::from(text.clone())),
            };
            let expected: Vec<Vec<Datum>> =
                rows.iter().map(|row| row.iter().map(datum).collect()).collect();
            prop_assert_eq!(data, expected);
        }

        #[test]
        fn a_row_that_can_not_be_had_leaves_no_trace(rows in rows(), good in 0..3_usize) {
            let mut read: ReadRows = rows.iter().map(|row| row.iter().map(Option::as_ref)).collect();
            let before = read.clone();
            let values = (0..good).map(|_| Ok(Some("x"))).chain([Err("no")]);
            prop_assert_eq!(read.try_push(values), Err("no"));
            prop_assert_eq!(read, before);
        }
    }

    #[test]
    fn places_say_the_order() {
        let rows: ReadRows = ["c", "a", "b"].map(|text| [Some(text)]).into_iter().collect();
        let sorted = rows.sorted_by(&[3, 1, 2]);
        assert_eq!(texts(&sorted).concat(), ["a", "b", "c"].map(|text| Some(text.to_owned())));
    }
}
