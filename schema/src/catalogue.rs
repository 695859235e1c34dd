//! What stands in the database: the tables by name, with their columns, keys, indexes, and Convoy's marks.
//!
//! Names are looked up as an unqualified name in a statement would be.
//!
//! **What is ours** is said by comments: on a table `convoy: document table` or `convoy: relational table`, on an
//! index `convoy: ` and what it is on. They go where the table goes (renamed, dumped, restored), need no table of
//! their own, and show in `\d+` to whoever wonders. Who overwrites one has only said that Convoy is to leave it alone.

use crate::declared::{Layout, Table};
use crate::layout::{DOC, Kind};
use crate::names::quoted;
use std::collections::{BTreeMap, BTreeSet};
use tokio_postgres::Client;

/// What begins a comment of ours.
pub(crate) const MARK: &str = "convoy: ";

/// A table as the catalogue has it.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    /// A table of its own, and no view, sequence or index.
    pub(crate) is_table: bool,
    /// Postgres' estimate of its rows; none where it was never analysed.
    pub(crate) rows_estimate: Option<f64>,
    pub(crate) comment: Option<String>,
    pub(crate) columns: Vec<Column>,
    pub(crate) primary_key: Vec<String>,
    pub(crate) indexes: BTreeMap<String, StandingIndex>,
}

/// A column.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub(crate) name: String,
    /// The type as `format_type` says it.
    pub(crate) type_name: String,
    pub(crate) kind: Kind,
    pub(crate) not_null: bool,
    pub(crate) has_default: bool,
    /// Whether its collation is the order of bytes.
    pub(crate) is_c: bool,
}

/// An index.
#[derive(Clone, Debug)]
pub(crate) struct StandingIndex {
    pub(crate) comment: Option<String>,
}

impl Standing {
    pub(crate) fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Returns what we have noted of the table.
    pub(crate) fn mark(&self) -> Option<Layout> {
        self.comment.as_deref().and_then(layout_of_mark)
    }

    /// Returns how the table's rows are kept, whatever is declared: a table that has just become relational is used so
    /// before `schema.ts` says it.
    pub(crate) fn shape(&self, table: &Table) -> Layout {
        if let Some(marked) = self.mark() {
            return marked;
        }
        let has_doc = self.column(DOC).is_some_and(|column| column.kind == Kind::Jsonb);
        // A relational table may have a field of that name.
        let is_field = table.layout == Layout::Relational && table.field(DOC).is_some();
        if has_doc && !is_field { Layout::Document } else { Layout::Relational }
    }
}

/// Returns the comment of a table that Convoy makes.
pub(crate) fn table_mark(layout: Layout) -> String {
    match layout {
        Layout::Document => format!("{MARK}document table"),
        Layout::Relational => format!("{MARK}relational table"),
    }
}

/// Returns the comment of an index that Convoy makes.
pub(crate) fn index_mark(keys: &str) -> String {
    format!("{MARK}{keys}")
}

fn layout_of_mark(comment: &str) -> Option<Layout> {
    [Layout::Document, Layout::Relational].into_iter().find(|&layout| comment == table_mark(layout))
}

const TABLES_SQL: &str = "\
SELECT asked.name, c.oid, c.relkind IN ('r', 'p'), c.reltuples::float8,
       pg_catalog.obj_description(c.oid, 'pg_class'),
       (SELECT pg_catalog.array_agg(a.attname::text ORDER BY k.place)
          FROM pg_catalog.pg_index i
          CROSS JOIN LATERAL pg_catalog.unnest(i.indkey::pg_catalog.int2[]) WITH ORDINALITY AS k(attnum, place)
          JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
         WHERE i.indrelid = c.oid AND i.indisprimary AND k.place <= i.indnkeyatts)
FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[])) AS asked(name, quoted)
JOIN pg_catalog.pg_class c ON c.oid = pg_catalog.to_regclass(asked.quoted)";

const COLUMNS_SQL: &str = "\
SELECT a.attrelid, a.attname::text, pg_catalog.format_type(a.atttypid, a.atttypmod),
       CASE WHEN n.nspname = 'pg_catalog' THEN t.typname::text ELSE '' END,
       a.attnotnull, a.atthasdef OR a.attidentity <> '', COALESCE(co.collname IN ('C', 'POSIX'), false)
FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
LEFT JOIN pg_catalog.pg_collation co ON co.oid = a.attcollation
WHERE a.attrelid = ANY($1::pg_catalog.oid[]) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum";

const INDEXES_SQL: &str = "\
SELECT i.indrelid, c.relname::text, pg_catalog.obj_description(c.oid, 'pg_class')
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
WHERE i.indrelid = ANY($1::pg_catalog.oid[])";

/// Looks tables up by name.
pub(crate) async fn standing<'a>(
    client: &Client,
    names: impl IntoIterator<Item = &'a str>,
) -> Result<BTreeMap<String, Standing>, tokio_postgres::Error> {
    let names: Vec<&str> = names.into_iter().collect();
    let in_quotes: Vec<String> = names.iter().map(|name| quoted(name)).collect();
    let mut tables = BTreeMap::new();
    let mut by_oid = BTreeMap::new();
    for row in client.query(TABLES_SQL, &[&names, &in_quotes]).await? {
        let name: String = row.try_get(0)?;
        let (oid, rows): (u32, f64) = (row.try_get(1)?, row.try_get(3)?);
        by_oid.insert(oid, name.clone());
        let table = Standing {
            is_table: row.try_get(2)?,
            rows_estimate: (rows >= 0.0).then_some(rows),
            comment: row.try_get(4)?,
            columns: Vec::new(),
            primary_key: row.try_get::<_, Option<Vec<String>>>(5)?.unwrap_or_default(),
            indexes: BTreeMap::new(),
        };
        tables.insert(name, table);
    }
    let oids: Vec<u32> = by_oid.keys().copied().collect();
    for row in client.query(COLUMNS_SQL, &[&oids]).await? {
        let table = by_oid.get(&row.try_get::<_, u32>(0)?).and_then(|name| tables.get_mut(name));
        let Some(table) = table else { continue };
        table.columns.push(Column {
            name: row.try_get(1)?,
            type_name: row.try_get(2)?,
            kind: kind(row.try_get(3)?),
            not_null: row.try_get(4)?,
            has_default: row.try_get(5)?,
            is_c: row.try_get(6)?,
        });
    }
    for row in client.query(INDEXES_SQL, &[&oids]).await? {
        let table = by_oid.get(&row.try_get::<_, u32>(0)?).and_then(|name| tables.get_mut(name));
        let Some(table) = table else { continue };
        table.indexes.insert(row.try_get(1)?, StandingIndex { comment: row.try_get(2)? });
    }
    Ok(tables)
}

/// Returns the names of the tables in the schema where tables are created that carry a mark of ours.
pub(crate) async fn marked(client: &Client) -> Result<Vec<String>, tokio_postgres::Error> {
    let sql = "\
        SELECT c.relname::text FROM pg_catalog.pg_class c
        WHERE c.relnamespace = pg_catalog.to_regnamespace(pg_catalog.quote_ident(pg_catalog.current_schema()))
          AND c.relkind IN ('r', 'p') AND pg_catalog.obj_description(c.oid, 'pg_class') = ANY($1)
        ORDER BY 1";
    let marks = [Layout::Document, Layout::Relational].map(table_mark);
    let rows = client.query(sql, &[&marks.as_slice()]).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// Returns which of these names something in the schema has where tables are created.
pub(crate) async fn taken(
    client: &Client,
    names: &[String],
) -> Result<BTreeSet<String>, tokio_postgres::Error> {
    let sql = "\
        SELECT c.relname::text FROM pg_catalog.pg_class c
        WHERE c.relnamespace = pg_catalog.to_regnamespace(pg_catalog.quote_ident(pg_catalog.current_schema()))
          AND c.relname = ANY($1)";
    client.query(sql, &[&names]).await?.iter().map(|row| row.try_get(0)).collect()
}

fn kind(type_name: &str) -> Kind {
    match type_name {
        "text" | "varchar" => Kind::Text,
        "numeric" => Kind::Numeric,
        "float4" | "float8" => Kind::Float,
        "int2" | "int4" => Kind::Int,
        "int8" => Kind::BigInt,
        "bool" => Kind::Bool,
        "jsonb" => Kind::Jsonb,
        _ => Kind::Other,
    }
}
