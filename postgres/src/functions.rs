//! Which functions a statement may call: by the names in its text, in the views that it goes through and in their
//! policies, and by what the catalog knows those to depend on (`docs/postgres.md`, P11 and P12); and those that it
//! calls without their names: behind operators, casts, the checks of domains, and aggregates.

use crate::catalog::Tree;
use crate::error::PostgresError;
use crate::names::{Name, TextNames, Usage, names, text_names};
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

/// Functions by name, as the search path or a schema gives them, with those of which aggregates are made; by what views
/// and policies depend on; and behind operators and casts, those that are neither C nor built in, which may read tables.
/// What a domain checks does not show in a result, so only what may do something counts.
///
/// A cast is found where its target stands behind `::` or in CAST and a value of its source may be there: a column by
/// name, a parameter, what a function gives, or a cast again. (Built-in types are everywhere.) An implicit cast is found
/// by its source alone.
const FUNCTIONS_SQL: &str = "\
WITH RECURSIVE target(oid) AS (
  SELECT t.oid FROM pg_catalog.pg_type t WHERE t.typname = ANY($6::pg_catalog.text[]) OR t.oid = ANY($7::pg_catalog.oid[])
  UNION
  SELECT part FROM target JOIN pg_catalog.pg_type t ON t.oid = target.oid
  CROSS JOIN LATERAL pg_catalog.unnest(ARRAY[t.typelem, t.typbasetype]) AS part WHERE part <> 0
), named(oid) AS (
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
  SELECT p.oid FROM pg_catalog.unnest($3::pg_catalog.text[]) AS named(name)
  JOIN pg_catalog.pg_proc p ON p.proname = named.name AND p.pronargs - p.pronargdefaults <= 1 AND p.oid >= 16384
  JOIN pg_catalog.pg_type t ON t.oid = p.proargtypes[0]
  WHERE t.typtype IN ('c', 'd', 'p') OR p.provariadic <> 0
), source(oid) AS (
  SELECT oid FROM target
  UNION
  SELECT a.atttypid FROM pg_catalog.pg_attribute a
  WHERE a.attrelid = ANY($8::pg_catalog.oid[]) AND a.attname = ANY($9::pg_catalog.text[])
  UNION
  SELECT p.prorettype FROM named JOIN pg_catalog.pg_proc p ON p.oid = named.oid
), found(oid) AS (
  SELECT oid FROM named
  UNION
  SELECT part FROM named JOIN pg_catalog.pg_aggregate g ON g.aggfnoid = named.oid AND named.oid >= 16384
  CROSS JOIN LATERAL pg_catalog.unnest(ARRAY[g.aggtransfn, g.aggfinalfn, g.aggcombinefn, g.aggserialfn,
    g.aggdeserialfn, g.aggmtransfn, g.aggminvtransfn, g.aggmfinalfn]::pg_catalog.oid[]) AS part
  UNION
  SELECT p.oid FROM pg_catalog.pg_cast c
  JOIN pg_catalog.pg_proc p ON p.oid = c.castfunc
  JOIN pg_catalog.pg_language l ON l.oid = p.prolang
  WHERE c.oid >= 16384 AND (l.lanname NOT IN ('c', 'internal') OR p.provolatile = 'v')
    AND (c.casttarget IN (SELECT oid FROM target)
           AND (c.castsource < 16384 OR c.castsource IN (SELECT oid FROM source))
         OR c.castcontext = 'i' AND c.castsource >= 16384 AND c.castsource IN (SELECT oid FROM source))
  UNION
  SELECT p.oid FROM target
  JOIN pg_catalog.pg_constraint k ON k.contypid = target.oid
  JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass AND d.objid = k.oid
  JOIN pg_catalog.pg_proc p ON d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND p.oid = d.refobjid
  WHERE p.provolatile = 'v'
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

/// The names that types have in SQL beside those in the catalog (PostgreSQL manual, table 8.1).
const TYPE_ALIASES: [(&str, &[&str]); 15] = [
    ("bigint", &["int8"]),
    ("bit", &["varbit"]),
    ("boolean", &["bool"]),
    ("char", &["bpchar", "varchar"]),
    ("character", &["bpchar", "varchar"]),
    ("dec", &["numeric"]),
    ("decimal", &["numeric"]),
    ("double", &["float8"]),
    ("float", &["float4", "float8"]),
    ("int", &["int4"]),
    ("integer", &["int4"]),
    ("real", &["float4"]),
    ("smallint", &["int2"]),
    ("time", &["timetz"]),
    ("timestamp", &["timestamptz"]),
];

/// Returns the functions that the statement may call, in the order of their names.
pub(crate) async fn functions(
    client: &Client,
    sql: &str,
    param_oids: &[u32],
    trees: &BTreeMap<RelationId, Tree>,
) -> Result<Vec<FunctionFacts>, PostgresError> {
    let TextNames { names: own, words, types } = text_names(sql);
    let mut found: BTreeSet<Name> = own.into_iter().collect();
    let aliased = |name: &String| TYPE_ALIASES.iter().find(|(alias, _)| alias == name);
    let targets: Vec<&str> = (types.iter().filter_map(aliased))
        .flat_map(|(_, names)| names.iter().copied())
        .chain(types.iter().map(String::as_str))
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let relations: Vec<u32> = trees.values().map(|tree| tree.root.id.0).collect();
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
                (&targets, Type::TEXT_ARRAY),
                (&param_oids, Type::OID_ARRAY),
                (&relations, Type::OID_ARRAY),
                (&words, Type::TEXT_ARRAY),
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
