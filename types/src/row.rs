//! A row's data, raw, as the WAL carries it.

use bytes::Bytes;

/// One column's value in a row, in Postgres' text form, not yet read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Datum {
    /// SQL's null.
    Null,
    /// The type's output text, a slice of the buffer it came in.
    Text(Bytes),
    /// A TOASTed value that the update did not change, and that the WAL therefore does not repeat. Not null.
    UnchangedToast,
    /// Not sent: a stored generated column, or a column outside the key in a key-only row. Not null either.
    Missing,
}

impl Datum {
    /// Returns the text, `Some(None)` for null, and `None` where the WAL does not say.
    pub fn known(&self) -> Option<Option<&[u8]>> {
        match self {
            Datum::Null => Some(None),
            Datum::Text(text) => Some(Some(text)),
            Datum::UnchangedToast | Datum::Missing => None,
        }
    }
}

/// A row's data, one [`Datum`] a column, in its relation's order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Row(pub Box<[Datum]>);

impl Row {
    /// Returns the bytes that the values' texts take, for budgets.
    pub fn text_bytes(&self) -> usize {
        self.0.iter().map(|datum| if let Datum::Text(text) = datum { text.len() } else { 0 }).sum()
    }

    /// Returns about how many bytes of memory it takes: its texts and their places.
    pub fn memory_bytes(&self) -> usize {
        self.text_bytes() + self.0.len() * size_of::<Datum>()
    }
}
