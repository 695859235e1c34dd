//! Refreshed results: rows as a read's texts say them, and which rows of tables they hold.

use crate::database::{ErrorCode, QueryError};
use crate::held_rows::HeldRows;
use crate::read_rows::{ReadRow, ReadRows};
use crate::result_row::ResultRow;
use crate::row_key::{hashed_rows, row_key};
use crate::row_list::RowList;
use crate::template::{QueryTemplate, RefreshPlan, RowKeys};
use std::collections::HashSet;

/// A refreshed result.
#[derive(Debug)]
pub(crate) struct Refreshed {
    pub rows: RowList,
    /// The rows of tables that it holds, of which the plan asks for them; none where that is not known.
    pub held: Option<HeldRows>,
}

/// Returns what a refresh plan's statement read.
///
/// # Errors
/// Where the keys that somebody stated are not unique.
pub(crate) fn refreshed(
    template: &QueryTemplate,
    plan: &RefreshPlan,
    rows: &ReadRows,
) -> Result<Refreshed, QueryError> {
    let held = match plan.held.as_slice() {
        [] => None,
        tables => HeldRows::of(tables, rows, template.columns.len()),
    };
    Ok(Refreshed { rows: rows_from_read(template, plan, rows)?, held })
}

/// Returns the rows that a refresh plan's statement read.
///
/// # Errors
/// Where the keys that somebody stated are not unique.
fn rows_from_read(
    template: &QueryTemplate,
    plan: &RefreshPlan,
    rows: &ReadRows,
) -> Result<RowList, QueryError> {
    let shown = template.columns.len();
    let key = |row: ReadRow<'_>| -> Box<str> {
        match &plan.keys {
            RowKeys::Appended(_) => row_key(row.iter().skip(shown)),
            RowKeys::Output(columns) => {
                row_key(columns.iter().map(|&column| row.get(column).flatten().map(json_text)))
            }
            RowKeys::OneRow | RowKeys::Hash => "".into(),
        }
    };
    if plan.keys == RowKeys::Hash {
        return Ok(RowList::new(hashed_rows(rows.iter().map(|row| cells(row, shown)))));
    }
    let mut keys = HashSet::with_capacity(rows.len());
    let mut list = Vec::with_capacity(rows.len());
    for row in rows.iter() {
        let key = key(row);
        list.push(ResultRow::new(&key, cells(row, shown)));
        if !keys.insert(key) {
            if template.statement.directives.key.is_empty() {
                // What we took for a key is none: tell rows apart by what they say.
                return Ok(RowList::new(hashed_rows(rows.iter().map(|row| cells(row, shown)))));
            }
            let stated = template.statement.directives.key.join(", ");
            return Err(QueryError::new(
                ErrorCode::InvalidArgs,
                format!(
                    "two rows have the same {stated}: @key must name columns that are unique in the result"
                ),
            ));
        }
    }
    Ok(RowList::new(list))
}

/// Returns the JSON texts of a row's shown columns.
fn cells(row: ReadRow<'_>, shown: usize) -> impl Iterator<Item = &str> + Clone {
    row.iter().take(shown).map(|cell| cell.unwrap_or("null"))
}

/// Returns a JSON string without its quotes where it needs no unescaping; any other JSON as it is.
fn json_text(json: &str) -> &str {
    match json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(text) if !text.contains('\\') => text,
        _ => json,
    }
}
