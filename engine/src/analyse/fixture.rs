//! A small schema for the tests of the analysis, and a way to write down what is expected of it.

use crate::analyse::analyse;
use crate::database::{CastValue, QueryError};
use crate::facts::{
    ColumnFacts, FunctionFacts, OutputColumn, ParamType, Publication, StatementFacts, TableFacts,
    TableKind,
};
use crate::statement::Statement;
use crate::template::QueryTemplate;
use convoy_query_index::{CompareOp, Condition, FieldId, Operand};
use convoy_types::{Collation, PgType, RelationId, ReplicaIdentity};
use std::sync::Arc;

/// Returns a type by name: `int4`, `_text`, `order_status`, `text C`.
fn pg_type(name: &str) -> (PgType, u32) {
    let element = name.strip_prefix('_').map(pg_type);
    let known = [
        ("bool", 16),
        ("bytea", 17),
        ("int8", 20),
        ("int2", 21),
        ("int4", 23),
        ("text", 25),
        ("float4", 700),
        ("float8", 701),
        ("bpchar", 1042),
        ("varchar", 1043),
        ("date", 1082),
        ("timestamp", 1114),
        ("timestamptz", 1184),
        ("numeric", 1700),
        ("uuid", 2950),
        ("jsonb", 3802),
        ("json", 114),
    ];
    match (element, name) {
        (Some((element, _)), _) => (PgType::Array(Box::new(element)), 1),
        (None, "order_status") => (PgType::Enum, 90_000),
        (None, _) => {
            let oid = known.iter().find(|(known, _)| *known == name).map_or(0, |(_, oid)| *oid);
            (PgType::from_oid(oid), oid)
        }
    }
}

/// Returns a table from its columns, `name type`, where a `*` marks the key's and `C` or `de` a text's collation.
fn table(id: u32, name: &str, columns: &str) -> TableFacts {
    let mut primary_key = Vec::new();
    let columns = columns
        .split(',')
        .enumerate()
        .map(|(position, column)| {
            let words = column.split_whitespace().collect::<Vec<_>>();
            let (ty, type_oid) = pg_type(words[1]);
            if words.contains(&"*") {
                primary_key.push(FieldId(u16::try_from(position).expect("a small table")));
            }
            let element = if let PgType::Array(element) = &ty { element } else { &ty };
            let is_text = matches!(element, PgType::Text | PgType::Varchar | PgType::Bpchar);
            let collation = match () {
                () if words.contains(&"de") => Collation::Deterministic,
                () if is_text => Collation::ByteOrder,
                () => Collation::None,
            };
            ColumnFacts {
                name: words[0].to_owned(),
                ty,
                type_oid,
                type_name: words[1]
                    .strip_prefix('_')
                    .map_or_else(|| words[1].to_owned(), |element| format!("{element}[]")),
                scale: None,
                collation,
                generated: words.contains(&"generated"),
                not_null: false,
            }
        })
        .collect();
    TableFacts {
        id: RelationId(id),
        kind: TableKind::Plain,
        namespace: "shop".to_owned(),
        name: name.to_owned(),
        columns,
        primary_key,
        identity: ReplicaIdentity::Default,
        publication: Publication::Full,
        row_security: false,
        leaves: Vec::new(),
    }
}

/// Returns the schema's tables.
pub(crate) fn tables() -> Vec<TableFacts> {
    let mut tables = vec![
        table(
            1,
            "customers",
            "id int4 *, name text, email varchar, country bpchar, active bool, created timestamptz, notes json",
        ),
        table(
            2,
            "orders",
            "id int8 *, tenant int4, customer_id int4, status order_status, total numeric, ratio float4, \
             weight float8, placed date, created timestamp, token uuid, tags _text, label text, title text de, \
             data jsonb, doubled int4 generated, active bool",
        ),
        table(3, "order_lines", "order_id int8 *, position int4 *, product text, quantity int4"),
        table(4, "logs", "message text, at timestamptz"),
        table(5, "recent_orders", "id int8, total numeric"),
    ];
    tables[3].publication = Publication::InsertsOnly;
    tables[4].kind = TableKind::View;
    tables[4].publication = Publication::None;
    tables
}

/// A statement with what Postgres would say about it.
pub(crate) struct Case {
    pub(crate) sql: String,
    pub(crate) facts: StatementFacts,
}

impl Case {
    /// Returns a case; the tables and functions are those whose names stand in the text.
    pub(crate) fn new(sql: &str, columns: &str) -> Self {
        let words = sql
            .split(|c: char| !c.is_alphanumeric() && c != '_')
            .map(str::to_ascii_lowercase)
            .collect::<Vec<_>>();
        let has = |name: &str| words.iter().any(|word| word == name);
        let tables = tables()
            .into_iter()
            .filter(|table| has(&table.name) || (table.name == "orders" && has("recent_orders")))
            .map(Arc::new)
            .collect::<Vec<_>>();
        let columns = columns
            .split_whitespace()
            .map(|column| {
                let (name, stated) =
                    column.split_once(':').map_or((column, None), |(name, ty)| (name, Some(ty)));
                let of_table = tables
                    .iter()
                    .find_map(|table| table.columns.iter().find(|facts| facts.name == name));
                let type_name =
                    stated.or(of_table.map(|facts| facts.type_name.as_str())).unwrap_or("text");
                let (ty, type_oid) = pg_type(type_name);
                OutputColumn {
                    name: name.to_owned(),
                    type_oid,
                    type_name: type_name.to_owned(),
                    ty,
                }
            })
            .collect();
        let function = |name: &str, kind: &str| FunctionFacts {
            name: name.to_owned(),
            namespace: if kind == "user" { "shop" } else { "pg_catalog" }.to_owned(),
            volatile: kind == "volatile",
            aggregate: kind == "aggregate",
            stable: kind == "stable",
        };
        let functions = [
            ("count", "aggregate"),
            ("sum", "aggregate"),
            ("max", "aggregate"),
            ("min", "aggregate"),
            ("avg", "aggregate"),
            ("now", "stable"),
            ("current_setting", "stable"),
            ("table_to_xml", "stable"),
            ("lower", "immutable"),
            ("starts_with", "immutable"),
            ("unnest", "immutable"),
            ("date_trunc", "immutable"),
            ("row_number", "window"),
            ("random", "volatile"),
            ("secret", "user"),
        ];
        let functions = functions
            .into_iter()
            .filter(|(name, _)| has(name))
            .map(|(name, kind)| function(name, kind))
            .collect();
        Case {
            sql: sql.to_owned(),
            facts: StatementFacts {
                params: Vec::new(),
                columns,
                tables,
                functions,
                default_collation: Collation::ByteOrder,
                server_version_num: 150_018,
            },
        }
    }

    /// Sets the parameters' types.
    pub(crate) fn params(mut self, types: &str) -> Self {
        self.facts.params = types
            .split_whitespace()
            .map(|name| {
                let (ty, type_oid) = pg_type(name);
                let type_name = name
                    .strip_prefix('_')
                    .map_or_else(|| name.to_owned(), |element| format!("{element}[]"));
                ParamType { type_oid, type_name, ty }
            })
            .collect();
        self
    }

    /// Changes a table.
    pub(crate) fn table(mut self, name: &str, change: impl FnOnce(&mut TableFacts)) -> Self {
        let table = self
            .facts
            .tables
            .iter_mut()
            .find(|table| table.name == name)
            .expect("in the statement");
        change(Arc::make_mut(table));
        self
    }

    /// Analyses it; constants read as they are written, but for those with `bad` in them.
    pub(crate) fn analyse(&self) -> Result<QueryTemplate, QueryError> {
        let statement = Arc::new(Statement::ad_hoc(&self.sql)?);
        let analysis = analyse(&statement, &self.facts)?;
        let read = analysis
            .constants()
            .iter()
            .map(|request| match &request.value {
                CastValue::Text(text) if !text.contains("bad") => Some(text.clone()),
                _ => None,
            })
            .collect::<Vec<_>>();
        analysis.finish(&read)
    }
}

/// Writes a condition down: `*` for a constant, `s0` for a slot.
pub(crate) fn show(condition: &Condition, template: &QueryTemplate, table: RelationId) -> String {
    let operand = |operand: &Operand| match operand {
        Operand::Constant(Some(_)) => "*".to_owned(),
        Operand::Constant(None) => "null".to_owned(),
        Operand::Slot(slot) => format!("s{}", slot.0),
    };
    let name = |field: &FieldId| template.field_name(table, *field);
    let join = |parts: &[Condition], word: &str| {
        let parts = parts.iter().map(|part| show(part, template, table)).collect::<Vec<_>>();
        format!("({})", parts.join(word))
    };
    match condition {
        Condition::Compare { field, op, operand: other } => {
            let op = match op {
                CompareOp::Eq => "=",
                CompareOp::Ne => "<>",
                CompareOp::Lt => "<",
                CompareOp::Le => "<=",
                CompareOp::Gt => ">",
                CompareOp::Ge => ">=",
            };
            format!("{} {op} {}", name(field), operand(other))
        }
        Condition::In { field, operands } => {
            format!(
                "{} in ({})",
                name(field),
                operands.iter().map(operand).collect::<Vec<_>>().join(", ")
            )
        }
        Condition::Prefix { field, operand: start } => {
            format!("{} ^@ {}", name(field), operand(start))
        }
        Condition::HasElement { field, operand: element } => {
            format!("{} has {}", name(field), operand(element))
        }
        Condition::IsNull(field) => format!("{} is null", name(field)),
        Condition::IsNotNull(field) => format!("{} is not null", name(field)),
        Condition::And(parts) if parts.is_empty() => "true".to_owned(),
        Condition::Or(parts) if parts.is_empty() => "false".to_owned(),
        Condition::And(parts) => join(parts, " and "),
        Condition::Or(parts) => join(parts, " or "),
        Condition::Not(inner) => format!("not {}", show(inner, template, table)),
        Condition::Unknown => "?".to_owned(),
    }
}

/// Writes a template's predicates down, `table: condition [columns]`, one a line.
pub(crate) fn show_predicates(template: &QueryTemplate) -> String {
    let lines = template.predicates.iter().map(|predicate| {
        let table = template
            .tables
            .iter()
            .find(|table| table.id == predicate.relation)
            .expect("a predicate's table is one of the template's");
        let names = predicate
            .fields
            .iter()
            .map(|field| table.column(field).name.clone())
            .collect::<Vec<_>>();
        let columns =
            if names.len() == table.columns.len() { "all".to_owned() } else { names.join(" ") };
        let condition = match &predicate.condition {
            Condition::And(parts) if parts.len() == 1 => show(&parts[0], template, table.id),
            condition => show(condition, template, table.id),
        };
        format!("{}: {condition} [{columns}]", table.name)
    });
    lines.collect::<Vec<_>>().join("\n")
}
