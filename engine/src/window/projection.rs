//! Projection: what a plan makes of a table's row. The row that is shown, where it sorts, and its key.
//!
//! `source` gives the value of each of the plan's source columns; where it comes from is the caller's matter.

use super::sort_key::SortKey;
use crate::result_row::{ResultRow, RowBuilder};
use crate::row_key::row_key;
use crate::template::{Direction, Nulls, WindowPlan};
use convoy_types::{Datum, Key, KeyBuilder, ParseValueError, write_json};

/// What stands before a column's value: nulls stand first or last whichever way the values run.
const NULL_FIRST: u8 = 0;
const NOT_NULL: u8 = 1;
const NULL_LAST: u8 = 2;

impl WindowPlan {
    /// Returns a row to be shown; none where a value is not known and `unchanged` (by output column) has none.
    pub(super) fn row<'a>(
        &self,
        source: impl Fn(usize) -> &'a Datum,
        unchanged: impl Fn(usize) -> Option<&'a str>,
    ) -> Result<Option<ResultRow>, ParseValueError> {
        let mut cells = RowBuilder::with_cells(self.output.len());
        for (column, &position) in self.output.iter().enumerate() {
            match source(position) {
                Datum::Null => cells.push("null"),
                Datum::Text(text) => {
                    let ty = &self.table.column(self.source[position]).ty;
                    cells.push_with(|out| write_json(ty, text, out))?;
                }
                Datum::UnchangedToast | Datum::Missing => match unchanged(column) {
                    Some(cell) => cells.push(cell),
                    None => return Ok(None),
                },
            }
        }
        let mut texts = Vec::with_capacity(self.key.len());
        for &position in &self.key {
            match source(position).known() {
                Some(Some(text)) => texts.push(std::str::from_utf8(text).ok()),
                _ => return Ok(None),
            }
        }
        Ok(Some(cells.finish(&row_key(texts.into_iter()))))
    }

    /// Returns where a row sorts; none where a value is not known.
    pub(super) fn sort_key<'a>(
        &self,
        source: impl Fn(usize) -> &'a Datum,
    ) -> Result<Option<SortKey>, ParseValueError> {
        let mut sort = Vec::new();
        for order in &self.order {
            match source(order.source).known() {
                None => return Ok(None),
                Some(None) => {
                    sort.push(if order.nulls == Nulls::First { NULL_FIRST } else { NULL_LAST })
                }
                Some(Some(text)) => {
                    sort.push(NOT_NULL);
                    let value = Key::of(&self.table.column(self.source[order.source]).ty, text)?;
                    match order.direction {
                        Direction::Ascending => sort.extend_from_slice(value.as_bytes()),
                        Direction::Descending => {
                            sort.extend(value.as_bytes().iter().map(|byte| !byte))
                        }
                    }
                }
            }
        }
        let Some(key) = self.key_of(source)? else { return Ok(None) };
        Ok(Some(SortKey::new(sort, key.as_bytes())))
    }

    /// Returns what a row has in the first column of the order, from where it sorts; none for a null.
    pub(super) fn leading_value(&self, sort: &SortKey) -> Option<Key> {
        let leading = self.leading()?;
        let ty = &self.table.column(self.source[leading.source]).ty;
        if self.order.is_empty() {
            return Some(Key::first_of(ty, sort));
        }
        let (&NOT_NULL, values) = sort.split_first()? else { return None };
        match leading.direction {
            Direction::Ascending => Some(Key::first_of(ty, values)),
            Direction::Descending => {
                let values: Vec<u8> = values.iter().map(|byte| !byte).collect();
                Some(Key::first_of(ty, &values))
            }
        }
    }

    /// Returns a row's primary key; none where a value is not known.
    pub(super) fn key_of<'a>(
        &self,
        source: impl Fn(usize) -> &'a Datum,
    ) -> Result<Option<Key>, ParseValueError> {
        let mut key = KeyBuilder::new();
        for &position in &self.key {
            let Some(Some(text)) = source(position).known() else { return Ok(None) };
            key.push(&self.table.column(self.source[position]).ty, text)?;
        }
        Ok(Some(key.finish()))
    }
}
