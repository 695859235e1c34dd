//! Rows as documents: flat JSON objects with `_id`, `_creationTime` and the fields.

use super::StoreError;
use super::cursor::Cursor;
use super::value::{write_json, write_string};
use crate::declared::{Field, Layout};
use crate::layout::{DOC, KeyColumn, Kind, TableLayout};
use crate::names::quoted;
use serde_json::{Map, Value};
use tokio_postgres::Row;

/// What is selected of a table: all that documents need, and what cursors do.
pub(crate) struct Selected<'a> {
    layout: &'a TableLayout,
    keys: Vec<&'a KeyColumn>,
}

impl<'a> Selected<'a> {
    pub(crate) fn new(
        layout: &'a TableLayout,
        keys: impl IntoIterator<Item = &'a KeyColumn>,
    ) -> Selected<'a> {
        Selected { layout, keys: keys.into_iter().collect() }
    }

    /// Returns `select …`: id, creation time, the document or the fields, the keys; all as text.
    pub(crate) fn select(&self) -> String {
        let mut items = vec![format!("{}::text", self.layout.id.ordered)];
        items.push(match &self.layout.creation_time {
            Some(column) => format!("{}::text", column.ordered),
            None => "null::text".to_owned(),
        });
        match self.layout.shape {
            Layout::Document => items.push(format!("{DOC}::text")),
            Layout::Relational => {
                for (_, column) in self.layout.columns() {
                    let name = quoted(&column.name);
                    items.push(match column.kind {
                        Kind::Other => format!("to_jsonb({name})::text"),
                        _ => format!("{name}::text"),
                    });
                }
            }
        }
        items.extend(self.keys.iter().map(|key| format!("({})::text", key.ordered)));
        // ORDER BY takes a bare name for one of the result first: without other names, texts would be ordered. No field
        // begins with an underscore.
        let named = items.iter().enumerate();
        let named = named.map(|(position, item)| format!("{item} as \"_convoy_{position}\""));
        format!("select {}", named.collect::<Vec<_>>().join(", "))
    }

    /// Appends a row as a document.
    pub(crate) fn write(&self, row: &Row, out: &mut String) -> Result<(), StoreError> {
        let text = |position| row.try_get::<_, Option<&str>>(position);
        out.push_str("{\"_id\":");
        write_string(text(0)?.unwrap_or_default(), out);
        if let Some(column) = &self.layout.creation_time {
            out.push_str(",\"_creationTime\":");
            write_json(column.kind, text(1)?, out);
        }
        match self.layout.shape {
            Layout::Document => write_members(text(2)?.unwrap_or_default(), out),
            Layout::Relational => {
                for (position, (field, column)) in self.layout.columns().enumerate() {
                    let value = text(position + 2)?;
                    if value.is_none() && is_missing(field, column.kind) {
                        continue;
                    }
                    out.push(',');
                    write_string(&field.name, out);
                    out.push(':');
                    write_json(column.kind, value, out);
                }
            }
        }
        out.push('}');
        Ok(())
    }

    /// Returns the place of a row in the order.
    pub(crate) fn cursor(&self, row: &Row) -> Result<Cursor, StoreError> {
        let text = |position| row.try_get::<_, Option<String>>(position);
        let first = row.len() - self.keys.len();
        let columns = (first..row.len()).map(text).collect::<Result<_, _>>()?;
        let creation_time = match self.layout.creation_time {
            Some(_) => text(1)?,
            None => None,
        };
        let tail = creation_time.into_iter().chain(text(0)?).collect();
        Ok(Cursor { columns, tail })
    }
}

/// Returns whether a null in a field's column says that the field is missing, and not that it is null. A json field
/// that is null has JSON's null in its column.
fn is_missing(field: &Field, kind: Kind) -> bool {
    field.optional && (!field.nullable || kind == Kind::Jsonb)
}

/// Appends a document's members.
fn write_members(doc: &str, out: &mut String) {
    // Somebody else may have put our own fields in, or what is no object.
    if doc.contains("\"_id\"") || doc.contains("\"_creationTime\"") || !doc.starts_with('{') {
        let mut members: Map<String, Value> = serde_json::from_str(doc).unwrap_or_default();
        members.shift_remove("_id");
        members.shift_remove("_creationTime");
        let text = Value::Object(members).to_string();
        return append(&text, out);
    }
    append(doc, out);
}

fn append(object: &str, out: &mut String) {
    let members = object.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    if let Some(members) = members.filter(|members| !members.is_empty()) {
        out.push(',');
        out.push_str(members);
    }
}

/// The rows that a scan has found.
pub(crate) struct Rows {
    docs: String,
    count: usize,
    last: Option<Cursor>,
}

impl Rows {
    pub(crate) fn new() -> Rows {
        Rows { docs: String::from("["), count: 0, last: None }
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn push_all(
        &mut self,
        selected: &Selected<'_>,
        rows: &[Row],
    ) -> Result<(), StoreError> {
        for row in rows {
            if self.count > 0 {
                self.docs.push(',');
            }
            selected.write(row, &mut self.docs)?;
            self.count += 1;
        }
        if let Some(last) = rows.last() {
            self.last = Some(selected.cursor(last)?);
        }
        Ok(())
    }

    pub(crate) fn last(&self) -> Option<&Cursor> {
        self.last.as_ref()
    }

    /// Returns the scan's answer.
    pub(crate) fn answer(mut self, hash: &str, done: bool) -> String {
        let cursor = match &self.last {
            Some(last) => Value::from(last.encode(hash)),
            None => Value::Null,
        };
        self.docs.insert_str(0, "{\"docs\":");
        self.docs.push_str(&format!("],\"cursor\":{cursor},\"done\":{done}}}"));
        self.docs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_taken_over() {
        let check = |doc: &str, expect: &str| {
            let mut out = String::new();
            write_members(doc, &mut out);
            assert_eq!(out, expect);
        };
        check("{}", "");
        check("{\"a\": 1}", ",\"a\": 1");
        check("{\"a\": 1, \"_id\": 2}", ",\"a\":1");
        check("[1]", "");
        check("{\"a\": \"the \\\"_id\\\"\"}", ",\"a\": \"the \\\"_id\\\"\"");
    }
}
