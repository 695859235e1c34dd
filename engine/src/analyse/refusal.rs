//! What can't be live, and what can only with a directive.

use crate::analyse::lexer::{TokenKind, lex};
use crate::database::{ErrorCode, QueryError};
use crate::facts::{FunctionFacts, Publication, StatementFacts, TableKind};
use crate::statement::{Statement, StatementKind};

/// Functions that run a read of their own, whatever they are given: not seen by anybody (`docs/postgres.md`, P12).
const READS_ANYTHING: [&str; 4] =
    ["table_to_xml", "schema_to_xml", "database_to_xml", "cursor_to_xml"];

/// Columns that every table has; no other column can be called so. (`tableoid` changes with the row alone.)
const SYSTEM_COLUMNS: [&str; 5] = ["ctid", "xmin", "xmax", "cmin", "cmax"];

/// Names that give the time.
const CLOCKS: [&str; 8] = [
    "now",
    "current_date",
    "current_time",
    "current_timestamp",
    "localtime",
    "localtimestamp",
    "transaction_timestamp",
    "statement_timestamp",
];

/// Refuses what can't be live.
pub(crate) fn check(statement: &Statement, facts: &StatementFacts) -> Result<(), QueryError> {
    for function in &facts.functions {
        let name = &function.name;
        if function.volatile {
            return refuse(format!(
                "{name} is a volatile function: it may change something, or give another value each time, so a \
                 statement that calls it can't be live"
            ));
        }
        if function.namespace == "pg_catalog"
            && READS_ANYTHING.iter().any(|reads| name.starts_with(reads))
        {
            return refuse(format!(
                "{name} reads tables that can't be seen, so a statement that calls it can't be live"
            ));
        }
    }
    check_columns(facts)?;
    if statement.directives.refresh.is_some() || !statement.directives.depends.is_empty() {
        return Ok(());
    }
    let hint = match statement.kind {
        StatementKind::Recorded => {
            "put it into a .sql file of its own, where `-- @refresh 5s` holds"
        }
        _ => "state how often to read it again (`-- @refresh 5s` in a line of its own)",
    };
    for function in &facts.functions {
        if function.namespace != "pg_catalog" {
            return refuse(format!(
                "what the function {}.{} reads can't be seen: {hint}, or state which tables it reads (`-- @depends t1, t2`)",
                function.namespace, function.name
            ));
        }
    }
    for word in words(&statement.text) {
        if SYSTEM_COLUMNS.contains(&word.as_str()) {
            return refuse(format!(
                "{word} is a system column, whose changes are not published: leave it out, or {hint}"
            ));
        }
    }
    for table in &facts.tables {
        let name = table.qualified_name();
        let what = match (table.kind, table.publication) {
            (TableKind::View, _) => continue,
            (TableKind::Unlogged, _) => "is unlogged, so its changes are not in the WAL".to_owned(),
            (TableKind::Temporary, _) => {
                "is temporary, so its changes are not in the WAL".to_owned()
            }
            (TableKind::Foreign, _) => {
                "is a foreign table, whose changes are not in this server's WAL".to_owned()
            }
            (TableKind::MaterializedView, _) => {
                "is a materialized view, whose changes are not published".to_owned()
            }
            (TableKind::Sequence, _) => "is a sequence, whose changes are not published".to_owned(),
            (TableKind::Catalog, _) => "is a catalog, whose changes are not published".to_owned(),
            (TableKind::Plain | TableKind::Partitioned, Publication::Full) => continue,
            (TableKind::Plain | TableKind::Partitioned, Publication::InsertsOnly) => format!(
                "has no usable replica identity, so only its inserts are published; give it a primary key, or run \
                 `ALTER TABLE {name} REPLICA IDENTITY FULL`"
            ),
            (TableKind::Plain | TableKind::Partitioned, Publication::None) => {
                "is not published, and can't be".to_owned()
            }
        };
        return refuse(format!("{name} {what}; or {hint}"));
    }
    Ok(())
}

fn check_columns(facts: &StatementFacts) -> Result<(), QueryError> {
    for (position, column) in facts.columns.iter().enumerate() {
        if column.name == "?column?" {
            return refuse(format!(
                "column {} of the result has no name: give it one with AS",
                position + 1
            ));
        }
        if facts.columns[..position].iter().any(|other| other.name == column.name) {
            return refuse(format!(
                "two columns of the result are called {}: rename one with AS",
                column.name
            ));
        }
    }
    Ok(())
}

/// Notes that a statement's result changes with time alone.
pub(crate) fn warn_of_time(statement: &Statement, facts: &StatementFacts, notes: &mut Vec<String>) {
    if statement.directives.refresh.is_some() || statement.kind == StatementKind::Recorded {
        return;
    }
    if let Some(clock) = clock(statement, facts) {
        notes.push(format!(
            "the result changes with time ({clock}), which no write tells of: state how often to read it again with \
             `-- @refresh 5s`"
        ));
    }
    if let Some(function) = settings(facts) {
        notes.push(format!(
            "{} looks at settings or catalogs, whose changes no write tells of: state how often to read it again with \
             `-- @refresh 5s`",
            function.name
        ));
    }
}

/// Returns what gives the statement the time, if anything does.
pub(super) fn clock(statement: &Statement, facts: &StatementFacts) -> Option<&'static str> {
    let written = words(&statement.text)
        .into_iter()
        .find_map(|word| CLOCKS.into_iter().find(|clock| *clock == word));
    let called = || {
        CLOCKS
            .into_iter()
            .find(|clock| facts.functions.iter().any(|function| function.name == **clock))
    };
    written.or_else(called)
}

/// Returns a function that looks at settings or catalogs, where there is one.
pub(super) fn settings(facts: &StatementFacts) -> Option<&FunctionFacts> {
    facts.functions.iter().find(|function| {
        let name = function.name.as_str();
        function.stable
            && (name == "current_setting" || name.starts_with("pg_") || name.starts_with("has_"))
    })
}

/// Returns a text's words, in lower case.
fn words(text: &str) -> Vec<String> {
    let tokens = lex(text).tokens.into_iter().filter(|token| token.kind == TokenKind::Word);
    tokens.map(|token| text[token.start..token.end].to_ascii_lowercase()).collect()
}

fn refuse(message: String) -> Result<(), QueryError> {
    Err(QueryError::new(ErrorCode::InvalidArgs, message))
}
