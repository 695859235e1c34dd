//! TupleData: the columns of one row, new or old, whole or key only.

use super::DecodeError;
use super::reader::Reader;
use convoy_types::{Datum, Relation, Row};

/// One datum a column, as sent. What it means depends on the table, hence [`Tuple::into_row`] and
/// [`Tuple::into_key_row`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tuple(Vec<Datum>);

impl Tuple {
    pub(super) fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let count = usize::from(reader.u16("column count")?);
        // A column takes a byte at least: this bounds what we allocate by what was sent.
        if count > reader.remaining() {
            return Err(DecodeError::TooMany {
                what: "columns",
                count,
                bytes_left: reader.remaining(),
            });
        }
        (0..count).map(|_| datum(reader)).collect::<Result<_, _>>().map(Tuple)
    }

    /// Returns the tuple as a row of `relation`.
    pub(crate) fn into_row(self, relation: &Relation) -> Result<Row, DecodeError> {
        if self.0.len() != relation.columns.len() {
            return Err(DecodeError::ColumnCount {
                relation: relation.id,
                described: relation.columns.len(),
                sent: self.0.len(),
            });
        }
        Ok(Row(self.0.into_boxed_slice()))
    }

    /// Returns a `K` tuple as a row whose columns outside the identity are missing: the nulls that the server sends
    /// for them say nothing about the row (P9).
    pub(crate) fn into_key_row(self, relation: &Relation) -> Result<Row, DecodeError> {
        let mut row = self.into_row(relation)?;
        for (datum, column) in row.0.iter_mut().zip(&relation.columns) {
            if !column.is_identity {
                *datum = Datum::Missing;
            }
        }
        Ok(row)
    }
}

fn datum(reader: &mut Reader) -> Result<Datum, DecodeError> {
    match reader.u8("column kind")? {
        b'n' => Ok(Datum::Null),
        b'u' => Ok(Datum::UnchangedToast),
        b't' => {
            let len = reader.u32("text length")?;
            // A length above what usize holds can't be in the message either.
            let len = usize::try_from(len).unwrap_or(usize::MAX);
            reader.bytes(len, "text").map(Datum::Text)
        }
        b'b' => Err(DecodeError::BinaryColumn),
        tag => Err(DecodeError::UnknownColumn { tag }),
    }
}
