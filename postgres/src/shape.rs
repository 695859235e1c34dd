//! What a statement takes and gives, as types for a program that will read its rows: enums with their labels, arrays
//! with what they are of, and the tables' columns that values come from as they are.
//!
//! Unlike [`describe`](crate::describe) it does not ask what the statement reads, and publishes nothing.

use crate::describe::{as_types, param_oids, prepare};
use crate::error::{PostgresError, Sent, query_error};
use crate::pool::Lease;
use convoy_engine::{ErrorCode, QueryError, Statement};
use std::collections::HashMap;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

/// Domains over domains, arrays of domains …: nobody nests deeper.
const DEPTH_MAX: usize = 16;

/// Everything that the asked types are made of. `to_jsonb` makes an object of a composite, and asks a cast of a type
/// that is not built in (PostgreSQL manual, 9.16 "to_json").
const TYPES_SQL: &str = "\
WITH RECURSIVE made_of(oid) AS (
  SELECT asked FROM pg_catalog.unnest($1::pg_catalog.oid[]) AS asked
  UNION
  SELECT part FROM made_of
  JOIN pg_catalog.pg_type t ON t.oid = made_of.oid
  CROSS JOIN LATERAL (VALUES (t.typbasetype), (t.typelem)) AS parts(part)
  WHERE part <> 0
)
SELECT t.oid, t.typname::text, t.typtype::text, t.typbasetype,
       CASE WHEN e.typarray = t.oid THEN e.oid ELSE 0::pg_catalog.oid END,
       (SELECT pg_catalog.array_agg(l.enumlabel::text ORDER BY l.enumsortorder)
          FROM pg_catalog.pg_enum l WHERE l.enumtypid = t.oid),
       t.typtype = 'c' OR t.oid = 'pg_catalog.record'::pg_catalog.regtype OR t.oid >= 16384 AND EXISTS (
         SELECT FROM pg_catalog.pg_cast c
          WHERE c.castsource = t.oid AND c.casttarget = 'pg_catalog.json'::pg_catalog.regtype
            AND c.castmethod = 'f')
FROM made_of
JOIN pg_catalog.pg_type t ON t.oid = made_of.oid
LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem";

/// Columns, and whether none of their values is null. That a column is NOT NULL says nothing of rows in children that
/// inherit from the table, nor in foreign tables, nor of rows from before a constraint that is not validated.
const ORIGINS_SQL: &str = "\
SELECT a.attrelid, a.attnum, n.nspname::text, c.relname::text,
       a.attnotnull AND c.relkind IN ('r', 'p')
       AND (c.relkind = 'p' OR NOT EXISTS (
         SELECT FROM pg_catalog.pg_inherits i WHERE i.inhparent = c.oid))
       AND NOT EXISTS (
         SELECT FROM pg_catalog.pg_partition_tree(c.oid) p
         JOIN pg_catalog.pg_class f ON f.oid = p.relid WHERE f.relkind = 'f')
       AND NOT EXISTS (
         SELECT FROM pg_catalog.pg_constraint k
          WHERE k.conrelid = c.oid AND k.contype = 'n' AND NOT k.convalidated
            AND a.attnum = ANY(k.conkey))
FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE a.attrelid = ANY($1::pg_catalog.oid[]) AND a.attnum > 0";

/// A type, domains down to their base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SqlType {
    /// A type by its name in `pg_type`: `int8`, `text`, `jsonb`.
    Named(String),
    /// An enum's labels, in its order.
    Enum(Vec<String>),
    /// An array.
    Array(Box<SqlType>),
    /// A type whose values JSON has as something of its own: a composite, or one with a cast to json.
    Composite,
}

/// What a statement takes and gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatementShape {
    /// The parameters, `$1` first.
    pub params: Vec<SqlType>,
    /// The columns of the result.
    pub columns: Vec<ColumnShape>,
}

/// A column of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnShape {
    /// The name.
    pub name: String,
    /// The type.
    pub ty: SqlType,
    /// The table's column that its values are; none where they are computed, or Postgres does not say.
    pub origin: Option<ColumnOrigin>,
}

/// A table's column that a result's values come from as they are, or as null by an outer join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnOrigin {
    /// The table's schema.
    pub namespace: String,
    /// The table.
    pub table: String,
    /// Whether no row of the table has null there.
    pub not_null: bool,
}

/// Asks what a statement takes and gives. The connection is in no transaction afterwards.
///
/// # Errors
/// What Postgres says of the statement; and where it has no result.
pub async fn shape(lease: &mut Lease, statement: &Statement) -> Result<StatementShape, QueryError> {
    lease.mark_used();
    let begun = lease.client().batch_execute("BEGIN READ ONLY").await;
    begun.map_err(|error| query_error(&error, None))?;
    let shape = match prepare(lease, statement).await {
        Ok(()) => {
            let shape = ask(lease, statement).await;
            // A prepared statement outlives its transaction, and the pool's clean-up.
            let end = "ROLLBACK; DEALLOCATE convoy_describe";
            (shape, lease.client().batch_execute(end).await)
        }
        Err(error) => (Err(error), lease.client().batch_execute("ROLLBACK").await),
    };
    if shape.1.is_err() {
        lease.mark_broken();
    }
    shape.0
}

async fn ask(lease: &Lease, statement: &Statement) -> Result<StatementShape, QueryError> {
    let param_oids = param_oids(lease).await?;
    let described =
        lease.client().prepare_typed(&statement.text, &as_types(&param_oids)).await.map_err(
            |error| query_error(&error, Some(Sent { text: &statement.text, prefix_chars: 0 })),
        )?;
    let columns = described.columns();
    if columns.is_empty() {
        let message = "the statement has no result; a query is one SELECT with at least one column";
        return Err(QueryError::new(ErrorCode::InvalidArgs, message));
    }
    let asked: Vec<u32> =
        columns.iter().map(|column| column.type_().oid()).chain(param_oids.clone()).collect();
    let types = types(lease.client(), &asked).await?;
    let tables: Vec<u32> = columns.iter().filter_map(|column| column.table_oid()).collect();
    let origins = origins(lease.client(), &tables).await?;
    let column = |column: &tokio_postgres::Column| ColumnShape {
        name: column.name().to_owned(),
        ty: resolve(&types, column.type_().oid(), DEPTH_MAX),
        origin: column
            .table_oid()
            .zip(column.column_id())
            .and_then(|column| origins.get(&column).cloned()),
    };
    Ok(StatementShape {
        params: param_oids.iter().map(|&oid| resolve(&types, oid, DEPTH_MAX)).collect(),
        columns: columns.iter().map(column).collect(),
    })
}

/// A type as the catalog has it.
enum TypeRow {
    Domain(u32),
    Array(u32),
    Enum(Vec<String>),
    Composite,
    Named(String),
}

async fn types(client: &Client, oids: &[u32]) -> Result<HashMap<u32, TypeRow>, PostgresError> {
    let mut types = HashMap::new();
    for row in client.query_typed(TYPES_SQL, &[(&oids, Type::OID_ARRAY)]).await? {
        let element: u32 = row.try_get(4)?;
        let ty = match row.try_get::<_, &str>(2)? {
            "d" => TypeRow::Domain(row.try_get(3)?),
            "e" => TypeRow::Enum(row.try_get::<_, Option<Vec<String>>>(5)?.unwrap_or_default()),
            _ if element != 0 => TypeRow::Array(element),
            _ if row.try_get(6)? => TypeRow::Composite,
            _ => TypeRow::Named(row.try_get(1)?),
        };
        types.insert(row.try_get(0)?, ty);
    }
    Ok(types)
}

fn resolve(types: &HashMap<u32, TypeRow>, oid: u32, depth: usize) -> SqlType {
    match types.get(&oid) {
        Some(TypeRow::Domain(base)) if depth > 0 => resolve(types, *base, depth - 1),
        Some(TypeRow::Array(element)) if depth > 0 => {
            SqlType::Array(Box::new(resolve(types, *element, depth - 1)))
        }
        Some(TypeRow::Enum(labels)) => SqlType::Enum(labels.clone()),
        Some(TypeRow::Composite) => SqlType::Composite,
        Some(TypeRow::Named(name)) => SqlType::Named(name.clone()),
        Some(TypeRow::Domain(_) | TypeRow::Array(_)) | None => SqlType::Named(oid.to_string()),
    }
}

async fn origins(
    client: &Client,
    tables: &[u32],
) -> Result<HashMap<(u32, i16), ColumnOrigin>, PostgresError> {
    if tables.is_empty() {
        return Ok(HashMap::new());
    }
    let mut origins = HashMap::new();
    for row in client.query_typed(ORIGINS_SQL, &[(&tables, Type::OID_ARRAY)]).await? {
        let origin = ColumnOrigin {
            namespace: row.try_get(2)?,
            table: row.try_get(3)?,
            not_null: row.try_get(4)?,
        };
        origins.insert((row.try_get(0)?, row.try_get(1)?), origin);
    }
    Ok(origins)
}
