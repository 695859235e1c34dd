//! SQL that a client or a project's author wrote, with facts that fit some of it.

use convoy_engine::analyse::analyse;
use convoy_engine::{
    ColumnFacts, FunctionFacts, OutputColumn, ParamType, Publication, Statement, StatementFacts,
    TableFacts, TableKind,
};
use convoy_query_index::FieldId;
use convoy_types::{Collation, PgType, RelationId, ReplicaIdentity};
use std::sync::{Arc, LazyLock};

const COLUMNS: [(&str, u32, &str); 8] = [
    ("id", 20, "bigint"),
    ("a", 23, "integer"),
    ("b", 25, "text"),
    ("n", 1700, "numeric"),
    ("t", 1184, "timestamp with time zone"),
    ("d", 1082, "date"),
    ("f", 16, "boolean"),
    ("j", 3802, "jsonb"),
];

static FACTS: LazyLock<StatementFacts> = LazyLock::new(|| {
    let column = |(name, type_oid, type_name): (&str, u32, &str)| ColumnFacts {
        name: name.to_owned(),
        ty: PgType::from_oid(type_oid),
        type_oid,
        type_name: type_name.to_owned(),
        scale: None,
        collation: if name == "b" { Collation::ByteOrder } else { Collation::None },
        generated: false,
        not_null: name == "id",
    };
    let table = |id, name: &str| {
        Arc::new(TableFacts {
            id: RelationId(id),
            kind: TableKind::Plain,
            namespace: "public".to_owned(),
            name: name.to_owned(),
            columns: COLUMNS.into_iter().map(column).collect(),
            primary_key: vec![FieldId(0)],
            identity: ReplicaIdentity::Full,
            publication: Publication::Full,
            row_security: false,
            leaves: Vec::new(),
        })
    };
    let function = |(name, aggregate): (&str, bool)| FunctionFacts {
        name: name.to_owned(),
        namespace: "pg_catalog".to_owned(),
        volatile: false,
        aggregate,
        stable: name == "now",
    };
    let functions = [
        ("count", true),
        ("sum", true),
        ("min", true),
        ("max", true),
        ("lower", false),
        ("now", false),
    ];
    let output = |(name, type_oid, type_name): (&str, u32, &str)| OutputColumn {
        name: name.to_owned(),
        type_oid,
        type_name: type_name.to_owned(),
        ty: PgType::from_oid(type_oid),
    };
    let param = |oid: u32, name: &str| ParamType {
        type_oid: oid,
        type_name: name.to_owned(),
        ty: PgType::from_oid(oid),
    };
    StatementFacts {
        params: vec![param(23, "integer"), param(25, "text")],
        columns: COLUMNS.into_iter().take(2).map(output).collect(),
        tables: vec![table(1, "x"), table(2, "y")],
        functions: functions.into_iter().map(function).collect(),
        default_collation: Collation::ByteOrder,
        server_version_num: 150_018,
    }
});

/// A statement, ad hoc and as a project's file.
pub fn sql(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for statement in [Statement::ad_hoc(text), Statement::named("q", text)] {
        let Ok(statement) = statement else { continue };
        let Ok(analysis) = analyse(&Arc::new(statement), &FACTS) else { continue };
        let constant = |request: &convoy_engine::CastRequest| match &request.value {
            convoy_engine::CastValue::Text(text) => Some(text.clone()),
            convoy_engine::CastValue::Expression(_) => None,
        };
        let constants: Vec<_> = analysis.constants().iter().map(constant).collect();
        let _ = analysis.finish(&constants);
    }
}
