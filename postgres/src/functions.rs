//! Which functions a statement may call: by the names in its text, in the views that it goes through and in their
//! policies, and by what the catalog knows those to depend on (`docs/postgres.md`, P11 and P12).

use crate::catalog::Tree;
use crate::error::PostgresError;
use crate::names::{Name, Usage, names};
use convoy_engine::{FunctionFacts, TableKind};
use convoy_types::RelationId;
use std::collections::{BTreeMap, BTreeSet};
use tokio_postgres::Client;
use tokio_postgres::types::Type;

/// Keywords that are calls without looking like any; their values are the transaction's or the session's.
const KEYWORD_FUNCTIONS: [&str; 12] = [
    "current_catalog",
    "current_date",
    "current_role",
    "current_schema",
    "current_time",
    "current_timestamp",
    "current_user",
    "localtime",
    "localtimestamp",
    "session_user",
    "system_user",
    "user",
];

/// The text of the views, and of the policies of the tables.
const TEXTS_SQL: &str = "\
SELECT pg_catalog.pg_get_viewdef(c.oid) FROM pg_catalog.pg_class c
 WHERE c.oid = ANY($1::pg_catalog.oid[]) AND c.relkind = 'v'
UNION ALL
SELECT pg_catalog.concat_ws(' , ', pg_catalog.pg_get_expr(p.polqual, p.polrelid),
                            pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid))
  FROM pg_catalog.pg_policy p
 WHERE p.polrelid = ANY($1::pg_catalog.oid[])";

/// Functions by name, as the search path or a schema gives them; by what views and policies depend on; and those
/// behind operators that are neither C nor built in, which may read tables.
const FUNCTIONS_SQL: &str = "\
WITH found(oid) AS (
  SELECT p.oid FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.text[]), pg_catalog.unnest($2::pg_catalog.text[])) AS named(schema, name)
  JOIN pg_catalog.pg_proc p ON p.proname = named.name
  JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
  WHERE n.nspname = named.schema
     OR (named.schema = '' AND n.nspname = ANY(pg_catalog.current_schemas(true)))
  UNION
  SELECT p.oid FROM pg_catalog.unnest($3::pg_catalog.text[]) AS named(name)
  JOIN pg_catalog.pg_proc p ON p.proname = named.name AND p.pronargs = 1
  JOIN pg_catalog.pg_type t ON t.oid = p.proargtypes[0]
  WHERE t.typtype = 'c' OR t.oid = 'pg_catalog.record'::pg_catalog.regtype
  UNION
  SELECT d.refobjid FROM pg_catalog.pg_depend d
  JOIN pg_catalog.pg_rewrite r ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = r.oid
  WHERE d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND r.ev_class = ANY($4::pg_catalog.oid[])
  UNION
  SELECT d.refobjid FROM pg_catalog.pg_depend d
  JOIN pg_catalog.pg_policy y ON d.classid = 'pg_catalog.pg_policy'::pg_catalog.regclass AND d.objid = y.oid
  WHERE d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND y.polrelid = ANY($4::pg_catalog.oid[])
  UNION
  SELECT p.oid FROM pg_catalog.pg_operator o
  JOIN pg_catalog.pg_proc p ON p.oid = o.oprcode
  JOIN pg_catalog.pg_language l ON l.oid = p.prolang
  WHERE o.oid >= 16384 AND (l.lanname NOT IN ('c', 'internal') OR p.provolatile = 'v')
    AND pg_catalog.strpos($5, o.oprname) > 0
)
SELECT n.nspname::text, p.proname::text, pg_catalog.bool_or(p.provolatile = 'v'),
       pg_catalog.bool_or(p.prokind = 'a'), pg_catalog.bool_or(p.provolatile = 's')
FROM found
JOIN pg_catalog.pg_proc p ON p.oid = found.oid
JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
GROUP BY 1, 2 ORDER BY 1, 2";

/// Returns the functions that the statement may call, in the order of their names.
pub(crate) async fn functions(
    client: &Client,
    sql: &str,
    trees: &BTreeMap<RelationId, Tree>,
) -> Result<Vec<FunctionFacts>, PostgresError> {
    let mut found: BTreeSet<Name> = names(sql).into_iter().collect();
    let mut text = sql.to_owned();
    let secured: Vec<u32> = trees
        .values()
        .filter(|tree| tree.root.kind == TableKind::View || tree.root.row_security)
        .map(|tree| tree.root.id.0)
        .collect();
    if !secured.is_empty() {
        for row in client.query_typed(TEXTS_SQL, &[(&secured, Type::OID_ARRAY)]).await? {
            let definition: &str = row.try_get(0)?;
            found.extend(names(definition));
            text.push('\n');
            text.push_str(definition);
        }
    }
    let mut schemas: Vec<&str> = Vec::new();
    let mut called: Vec<&str> = Vec::new();
    let mut attributes: Vec<&str> = Vec::new();
    let mut keywords: BTreeSet<&str> = BTreeSet::new();
    for name in &found {
        match name.usage {
            Usage::Called => {
                schemas.push(name.schema.as_deref().unwrap_or_default());
                called.push(&name.name);
            }
            Usage::Attribute => attributes.push(&name.name),
            Usage::Plain if KEYWORD_FUNCTIONS.contains(&name.name.as_str()) => {
                keywords.insert(&name.name);
            }
            Usage::Plain => {}
        }
    }
    // A precision makes a keyword look called: `current_timestamp(3)`.
    keywords.extend(called.iter().filter(|name| KEYWORD_FUNCTIONS.contains(name)));
    let rows = client
        .query_typed(
            FUNCTIONS_SQL,
            &[
                (&schemas, Type::TEXT_ARRAY),
                (&called, Type::TEXT_ARRAY),
                (&attributes, Type::TEXT_ARRAY),
                (&secured, Type::OID_ARRAY),
                (&text, Type::TEXT),
            ],
        )
        .await?;
    let mut functions = Vec::new();
    for row in rows {
        functions.push(FunctionFacts {
            namespace: row.try_get(0)?,
            name: row.try_get(1)?,
            volatile: row.try_get(2)?,
            aggregate: row.try_get(3)?,
            stable: row.try_get(4)?,
        });
    }
    for keyword in keywords {
        let known =
            |facts: &FunctionFacts| facts.name == keyword && facts.namespace == "pg_catalog";
        if !functions.iter().any(known) {
            functions.push(FunctionFacts {
                name: keyword.to_owned(),
                namespace: "pg_catalog".into(),
                volatile: false,
                aggregate: false,
                stable: true,
            });
        }
    }
    Ok(functions)
}
