//! What documents hold, counted by Postgres: other types than are declared, and nothing where something is needed.

use super::{Plan, WarningKind};
use crate::catalogue::Standing;
use crate::declared::{FieldType, Layout, Table};
use crate::error::SchemaError;
use crate::layout::{DOC, Kind};
use crate::names::{literal, quoted};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

/// No more documents of a table are looked at: planning is done at each save of `schema.ts`.
const DOCUMENTS_MAX: i64 = 1_000_000;

/// Postgres' limit for a statement's result columns is 1,664; fields are asked for in groups.
const FIELDS_AT_ONCE: usize = 200;

/// Adds warnings about a table's documents; returns the fields in which some hold what no index takes.
pub(super) async fn check(
    client: &Client,
    table: &Table,
    stands: &Standing,
    plan: &mut Plan,
) -> Result<Vec<String>, SchemaError> {
    let is_document = table.managed
        && stands.is_table
        && stands.shape(table) == Layout::Document
        && stands.column(DOC).is_some_and(|column| column.kind == Kind::Jsonb);
    let mut doubtful = Vec::new();
    if !is_document {
        return Ok(doubtful);
    }
    let name = quoted(&table.name);
    for fields in table.fields.chunks(FIELDS_AT_ONCE) {
        let mut counts = vec!["count(*)".to_owned()];
        for field in fields {
            let key = literal(&field.name);
            let other = match field.ty {
                FieldType::Json => "false".to_owned(),
                ty => format!("jsonb_typeof({DOC}->{key}) not in ('{}', 'null')", ty.as_str()),
            };
            counts.push(format!("count(*) filter (where {other})"));
            let absent = match (field.optional, field.nullable) {
                (true, true) => "false".to_owned(),
                (true, false) => format!("{DOC}->{key} = 'null'"),
                (false, true) => format!("{DOC}->{key} is null"),
                (false, false) => format!("({DOC}->{key} is null or {DOC}->{key} = 'null')"),
            };
            counts.push(format!("count(*) filter (where {absent})"));
        }
        let sql = format!(
            "select {} from (select {DOC} from {name} limit {DOCUMENTS_MAX}) as documents",
            counts.join(", ")
        );
        let row = match client.query_one(&sql, &[]).await {
            Err(error) if error.code() == Some(&SqlState::QUERY_CANCELED) => {
                let what = "its documents were not looked at: counting them took longer than statement_timeout";
                plan.warn(WarningKind::Note, &table.name, what);
                return Ok(doubtful);
            }
            row => row?,
        };
        let all: i64 = row.try_get(0)?;
        let of = match all {
            DOCUMENTS_MAX => format!("of the first {all} documents"),
            _ => format!("of {all} documents"),
        };
        for (position, field) in fields.iter().enumerate() {
            let (other, absent): (i64, i64) =
                (row.try_get(1 + 2 * position)?, row.try_get(2 + 2 * position)?);
            let (place, key) = (format!("{}.{}", table.name, field.name), literal(&field.name));
            if other > 0 {
                doubtful.push(field.name.clone());
                plan.warn_with(
                    WarningKind::Incompatible,
                    &place,
                    format!("declared {}, and {other} {of} hold something else", field.ty.as_str()),
                    vec![format!(
                        "select _id, {DOC}->{key} from {name} where jsonb_typeof({DOC}->{key}) not in ('{}', 'null');",
                        field.ty.as_str()
                    )],
                );
            }
            if absent > 0 {
                let what = match field.optional {
                    true => "have null in it, which is not declared: .nullable()",
                    false => "are without it: fill it, or declare it .optional()",
                };
                plan.warn_with(
                    WarningKind::Missing,
                    place,
                    format!("{absent} {of} {what}"),
                    Vec::new(),
                );
            }
        }
    }
    Ok(doubtful)
}
