//! Functions of a project as live queries: what is asked of one, what it answers, and its answer as a result.
//!
//! Run at a read's snapshot, a function gives a JSON value, and says by *recorded reads* what it read: statements with
//! arguments that are never run, but analysed as any other. What becomes of those is in `recorded`.

use crate::database::QueryError;
use crate::facts::{OutputColumn, ParamType};
use crate::json_patch::json_patch;
use crate::result_row::ResultRow;
use crate::row_key::row_key;
use crate::row_list::RowList;
use crate::statement::Statement;
use crate::template::{Audit, Batching, Plan, QueryTemplate, ReadStatement, RefreshPlan, RowKeys};
use crate::update::DiffOp;
use convoy_query_index::QueryId;
use convoy_types::{PgType, json_elements, json_members, json_text};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

/// A function to be run for a live query, at a read's snapshot.
#[derive(Clone, Debug)]
pub struct FunctionRead {
    /// The live query.
    pub query: QueryId,
    /// The function: its name, and its version.
    pub statement: Arc<Statement>,
    /// Its arguments, and who asks: JSON texts, the second none where nobody is known.
    pub params: Arc<[Option<Arc<str>>]>,
    /// At most so long.
    pub timeout: Duration,
}

/// One thing that a function read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedRead {
    /// What would read just that, and shows every column that matters.
    pub statement: Arc<Statement>,
    /// Its arguments, in their types' text form.
    pub args: Arc<[Option<Arc<str>>]>,
}

/// What a function gave.
#[derive(Clone, Debug)]
pub struct FunctionAnswer {
    /// Its value, as JSON; or what it threw, which what it read may have led to.
    pub value: Result<String, QueryError>,
    /// What it read.
    pub reads: Vec<RecordedRead>,
}

/// Returns what all live queries of a function share: nothing is known of what it reads before it is run.
pub(crate) fn template(statement: &Arc<Statement>) -> QueryTemplate {
    let text = ParamType { type_oid: 25, type_name: "text".to_owned(), ty: PgType::Text };
    let sql: Arc<str> = "".into();
    QueryTemplate {
        statement: statement.clone(),
        params: vec![text; statement.params.len()],
        columns: Arc::new([]),
        tables: Vec::new(),
        plan: Plan::Refresh(RefreshPlan {
            sql: sql.clone(),
            keys: RowKeys::Hash,
            held: Vec::new(),
        }),
        predicates: Vec::new(),
        slots: Vec::new(),
        derived: Vec::new(),
        read: Arc::new(ReadStatement {
            sql,
            param_types: Arc::new([]),
            batching: Batching::Singly("it is a function".to_owned()),
        }),
        read_unkept: None,
        audit: Audit::Never,
        notes: vec!["run again on each change of what it read".to_owned()],
    }
}

/// The one column of a value that is no set of rows. No column of a statement is without a name.
pub(crate) fn whole_value() -> OutputColumn {
    OutputColumn { name: String::new(), ..column("") }
}

impl OutputColumn {
    /// Returns whether a result with these columns is one value that is no set of rows: the only cell of its only row.
    pub fn are_of_value(columns: &[OutputColumn]) -> bool {
        matches!(columns, [only] if only.name.is_empty())
    }
}

fn column(name: &str) -> OutputColumn {
    OutputColumn {
        name: name.to_owned(),
        type_oid: 3802,
        type_name: "jsonb".to_owned(),
        ty: PgType::Jsonb,
    }
}

/// Returns a function's value as a result: rows where it is an array of objects with distinct strings for `_id`, else
/// one value. Of rows, the columns are all fields that any of them has; an empty cell is a field that it has not.
pub(crate) fn result(json: &str) -> (Arc<[OutputColumn]>, RowList) {
    rows(json).unwrap_or_else(|| {
        let row = ResultRow::new("", [json]);
        (Arc::new([whole_value()]), RowList::new(vec![row]))
    })
}

/// Returns the step that leads from one value to another, neither of them a set of rows; none where they are the same.
pub(crate) fn value_diff(before: &RowList, after: &RowList) -> Vec<DiffOp> {
    let value = |rows: &RowList| rows.rows().first().and_then(|row| row.cell(0).map(Box::from));
    let (Some(before), Some(value)) = (value(before), value(after)) else { return Vec::new() };
    let before: Box<str> = before;
    match before == value {
        true => Vec::new(),
        false => vec![DiffOp::Patch { steps: json_patch(&before, &value), value }],
    }
}

fn rows(json: &str) -> Option<(Arc<[OutputColumn]>, RowList)> {
    let mut columns: Vec<OutputColumn> = Vec::new();
    let mut number_of: HashMap<String, usize> = HashMap::new();
    let mut objects = Vec::new();
    let mut keys = HashSet::new();
    for element in json_elements(json).ok()?? {
        let mut key = None;
        let mut cells = Vec::new();
        for (name, value) in json_members(element).ok()?? {
            if name == "_id" {
                key = value.starts_with('"').then(|| json_text(value).ok()).flatten().flatten();
            }
            let number = *number_of.entry(name.into_owned()).or_insert_with_key(|name| {
                columns.push(column(name));
                columns.len() - 1
            });
            cells.push((number, value));
        }
        let key = row_key([Some(&*key?)].into_iter());
        if !keys.insert(key.clone()) {
            return None;
        }
        objects.push((key, cells));
    }
    // A field without a name would make it look like a value.
    if columns.iter().any(|column| column.name.is_empty()) {
        return None;
    }
    let row = |(key, members): (Box<str>, Vec<(usize, &str)>)| {
        let mut cells = vec![""; columns.len()];
        for (number, value) in members {
            cells[number] = value;
        }
        ResultRow::new(&key, cells)
    };
    let rows = objects.into_iter().map(row).collect();
    Some((columns.into(), RowList::new(rows)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, columns: &[&str], keys: &[&str]) {
        let (found, rows) = result(json);
        assert_eq!(found.iter().map(|column| &*column.name).collect::<Vec<_>>(), columns, "{json}");
        assert_eq!(rows.rows().iter().map(ResultRow::key).collect::<Vec<_>>(), keys, "{json}");
    }

    #[test]
    fn an_array_of_objects_with_distinct_ids_is_a_set_of_rows() {
        check(r#"[{"_id":"a","n":1},{"n":2,"_id":"b","x":null}]"#, &["_id", "n", "x"], &["a", "b"]);
        check("[]", &[], &[]);
        for value in [
            r#"[{"_id":"a"},{"_id":"a"}]"#,
            r#"[{"_id":1}]"#,
            r#"[{"n":1}]"#,
            r#"[1]"#,
            r#"{"_id":"a"}"#,
            "null",
            r#""text""#,
            r#"[{"_id":"a","":1}]"#,
        ] {
            check(value, &[""], &[""]);
        }
        let (_, rows) = result(r#"[{"_id":"a","n":1},{"_id":"b"}]"#);
        assert_eq!(rows.rows()[1].cell(1), Some(""), "a field that is not there");
    }
}
