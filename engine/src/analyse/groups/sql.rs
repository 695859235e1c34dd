//! The statement that reads the state of groups: one row for each group, and one for each value of each collection.

use crate::analyse::window::output_text;
use crate::facts::quote_identifier;
use crate::groups::plan::{GroupsPlan, StateKind, ValueSet};
use crate::template::Count;
use convoy_query_index::FieldId;
use std::fmt::Write;

/// Returns the SQL; `filters` are the texts of the plan's filters.
pub(super) fn sql(
    plan: &GroupsPlan,
    alias: Option<&str>,
    selection: Option<&str>,
    filters: &[&str],
) -> String {
    let table = &plan.table;
    let row = quote_identifier(alias.unwrap_or(&table.name));
    let column = |field: FieldId| format!("{row}.{}", quote_identifier(&table.column(field).name));
    let text = |field: FieldId| output_text(&table.column(field).ty, &column(field));
    let group_by: Vec<String> = plan.group_by.iter().map(|group| column(group.field)).collect();

    let mut columns: Vec<String> = plan.group_by.iter().map(|group| text(group.field)).collect();
    let ranked = plan.group_by.iter().filter(|group| group.is_ranked);
    columns.extend(ranked.map(|group| {
        format!(
            "(pg_catalog.dense_rank() OVER (ORDER BY {}))::pg_catalog.text",
            column(group.field)
        )
    }));
    let mut sets = Vec::new();
    for set in &plan.sets {
        let (grouped, shown) = match set {
            ValueSet::Column(field) => (column(*field), text(*field)),
            ValueSet::Scale(field) => {
                let scale = format!("pg_catalog.scale({})", column(*field));
                (scale.clone(), format!("{scale}::pg_catalog.text"))
            }
        };
        sets.push(grouped);
        columns.push(shown);
    }
    if !sets.is_empty() {
        columns.push(format!("GROUPING({})::pg_catalog.text", sets.join(", ")));
    }
    columns.push("pg_catalog.count(*)::pg_catalog.text".to_owned());
    for state in &plan.states {
        let filter = state.filter.map(|filter| filters[filter]);
        let call = |aggregate: &str, more: &str| {
            let condition = match (filter, more) {
                (None, "") => String::new(),
                (None, more) => format!(" FILTER (WHERE {more})"),
                (Some(filter), "") => format!(" FILTER (WHERE {filter})"),
                (Some(filter), more) => format!(" FILTER (WHERE ({filter}) AND {more})"),
            };
            format!("(pg_catalog.{aggregate}{condition})::pg_catalog.text")
        };
        let Some(name) = state.column.map(column) else {
            columns.push(call("count(*)", ""));
            continue;
        };
        let (sum, count) = (format!("sum({name})"), format!("count({name})"));
        match state.kind {
            StateKind::Count | StateKind::Values { .. } => columns.push(call(&count, "")),
            StateKind::Sum => columns.extend([call(&sum, ""), call(&count, "")]),
            StateKind::NumericSum { .. } => {
                // NaN comes after all others.
                let finite = format!(
                    "{name} > '-Infinity'::pg_catalog.numeric AND {name} < 'Infinity'::pg_catalog.numeric"
                );
                columns.extend([call(&sum, &finite), call(&count, &finite)]);
                for special in ["NaN", "Infinity", "-Infinity"] {
                    let is_it = format!("{name} = '{special}'::pg_catalog.numeric");
                    columns.push(call(&count, &is_it));
                }
            }
        }
    }
    let mut sql = format!("SELECT {} FROM {}", columns.join(", "), table.qualified_name());
    if let Some(alias) = alias {
        let _ = write!(sql, " AS {}", quote_identifier(alias));
    }
    if let Some(selection) = selection {
        let _ = write!(sql, " WHERE {selection}");
    }
    if sets.is_empty() {
        if !group_by.is_empty() {
            let _ = write!(sql, " GROUP BY {}", group_by.join(", "));
        }
    } else {
        let own = group_by.join(", ");
        let with = |set: &String| {
            group_by.iter().chain([set]).map(String::as_str).collect::<Vec<_>>().join(", ")
        };
        let with: Vec<String> = sets.iter().map(|set| format!("({})", with(set))).collect();
        let _ = write!(sql, " GROUP BY GROUPING SETS (({own}), {})", with.join(", "));
    }
    // Which groups are shown is decided here, but Postgres should say itself what is wrong with a number below zero.
    for (count, clause) in [(plan.limit, "LIMIT"), (plan.offset, "OFFSET")] {
        if let Some(Count::Param(position)) = count {
            let rows = format!("${}::pg_catalog.int8", position + 1);
            let rest = if clause == "LIMIT" { "NULL" } else { "0" };
            let _ = write!(sql, " {clause} CASE WHEN {rows} < 0 THEN {rows} ELSE {rest} END");
        }
    }
    sql
}
