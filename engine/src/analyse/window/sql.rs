//! The statement that reads a window's rows: its columns as they stand in the stream, in an order without ties, with
//! the rows before the window and spare ones behind it.

use crate::facts::quote_identifier;
use crate::template::{Count, Direction, Nulls, WindowPlan, spare_rows};
use convoy_types::PgType;
use std::fmt::Write;

/// Returns the SQL that reads the rows, each column in its type's output text.
pub(super) fn sql(plan: &WindowPlan, alias: Option<&str>, selection: Option<&str>) -> String {
    let table = &plan.table;
    let row = quote_identifier(alias.unwrap_or(&table.name));
    let column = |source: usize| {
        format!("{row}.{}", quote_identifier(&table.column(plan.source[source]).name))
    };
    let columns = plan
        .source
        .iter()
        .enumerate()
        .map(|(position, field)| output_text(&table.column(*field).ty, &column(position)))
        .collect::<Vec<_>>();
    let mut order = plan
        .order
        .iter()
        .map(|item| {
            let direction = if item.direction == Direction::Descending { " DESC" } else { "" };
            let nulls = match (item.nulls, item.direction) {
                (Nulls::First, Direction::Ascending) => " NULLS FIRST",
                (Nulls::Last, Direction::Descending) => " NULLS LAST",
                _ => "",
            };
            format!("{}{direction}{nulls}", column(item.source))
        })
        .collect::<Vec<_>>();
    let ordered = |key: usize| plan.order.iter().any(|item| item.source == key);
    order.extend(plan.key.iter().copied().filter(|&key| !ordered(key)).map(column));
    let mut sql = format!("SELECT {} FROM {}", columns.join(", "), table.qualified_name());
    if let Some(alias) = alias {
        let _ = write!(sql, " AS {}", quote_identifier(alias));
    }
    if let Some(selection) = selection {
        let _ = write!(sql, " WHERE {selection}");
    }
    let _ = write!(sql, " ORDER BY {}", order.join(", "));
    sql.push_str(&limit_sql(plan.limit, plan.offset));
    sql
}

/// Returns LIMIT and OFFSET such that the rows before the window and the spare ones behind it are read too.
///
/// A negative argument is handed on, so that Postgres itself says what is wrong with it.
fn limit_sql(limit: Option<Count>, offset: Option<Count>) -> String {
    let mut sql = String::new();
    let sum = |limit: &str, spare: &str| {
        let skipped = match offset {
            None => "0".to_owned(),
            Some(Count::Constant(rows)) => rows.to_string(),
            Some(Count::Param(position)) => format!("coalesce(${}::int8, 0)", position + 1),
        };
        format!("least({skipped}::numeric + {limit} + {spare}, {})::int8", i64::MAX)
    };
    match limit {
        None => {}
        Some(Count::Constant(rows)) => {
            let _ = write!(sql, " LIMIT {}", sum(&rows.to_string(), &spare_rows(rows).to_string()));
        }
        Some(Count::Param(position)) => {
            let rows = format!("${}::int8", position + 1);
            let sum = sum(&rows, &format!("least({rows} / 2 + 8, 1000)"));
            let _ = write!(sql, " LIMIT CASE WHEN {rows} >= 0 THEN {sum} ELSE {rows} END");
        }
    }
    if let Some(Count::Param(position)) = offset {
        let _ = write!(sql, " OFFSET least(${}::int8, 0)", position + 1);
    }
    sql
}

/// Returns an expression for a column's output text. A cast to text is that, but for two types (seen on 15.18).
pub(in crate::analyse) fn output_text(ty: &PgType, column: &str) -> String {
    match ty {
        PgType::Bool => format!("CASE WHEN {column} THEN 't' WHEN NOT {column} THEN 'f' END"),
        PgType::Bpchar => format!("pg_catalog.textin(pg_catalog.bpcharout({column}))"),
        _ => format!("{column}::pg_catalog.text"),
    }
}
