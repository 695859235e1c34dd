//! `db.raw`: a statement of the function's own, with its rows as objects.
//!
//! Postgres makes the objects: the statement stands inside of one that selects its rows with `row_to_json`. It is its
//! own recorded read, under the engine's rules for any statement (P11).

use super::args::Args;
use super::sql::Sql;
use super::value::write_string;
use super::{RecordedRead, Store, StoreError};
use serde_json::Value;
use std::collections::HashSet;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{Kind as TypeKind, Type};

/// What a statement begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Reads,
    Writes,
}

impl Store {
    /// Executes a statement and returns its rows.
    ///
    /// # Errors
    /// [`StoreError::InvalidArgs`] for what is no SELECT, INSERT, UPDATE or DELETE; what Postgres says.
    pub async fn raw(
        &self,
        client: &Client,
        args: &str,
        reads: &mut Vec<RecordedRead>,
    ) -> Result<String, StoreError> {
        let mut args = Args::read("db.raw", args)?;
        let params = args.array("params")?;
        let text = args.needed_string("text")?;
        let Some(verb) = verb(text) else {
            return Err(StoreError::invalid(
                "ctx.db.raw takes one select, with, values, table, insert, update, delete or merge",
            ));
        };
        let inner = text.trim_end().trim_end_matches(';');
        if text.contains('\0') {
            return Err(StoreError::invalid("the statement holds a zero byte, which no SQL does"));
        }
        // What its parameters and columns are, Postgres says.
        let statement = match client.prepare(inner).await {
            Ok(statement) => statement,
            Err(error) => {
                if verb == Verb::Reads {
                    // What it lacks may come; until then nobody knows its parameters' types.
                    let args = params.iter().map(|value| argument(&Type::TEXT, value)).collect();
                    reads.push(RecordedRead { sql: text.to_owned(), args });
                }
                return Err(explained(error.into()));
            }
        };
        if statement.params().len() != params.len() {
            return Err(StoreError::invalid(format!(
                "the statement has {} parameters, and {} are given",
                statement.params().len(),
                params.len()
            )));
        }
        let typed = statement.params().iter().zip(&params);
        let args: Vec<Option<String>> = typed.map(|(ty, value)| argument(ty, value)).collect();
        let mut names = HashSet::new();
        if let Some(twice) = statement.columns().iter().find(|c| !names.insert(c.name())) {
            return Err(StoreError::invalid(format!(
                "two columns are called {:?}: name them apart with AS",
                twice.name()
            )));
        }
        let wrapped = match verb {
            Verb::Reads => format!("select row_to_json(q)::text from ({inner}\n) as q"),
            Verb::Writes if names.is_empty() => inner.to_owned(),
            Verb::Writes => format!("with q as ({inner}\n) select row_to_json(q)::text from q"),
        };
        let sql = Sql { text: wrapped, args };
        if verb == Verb::Reads {
            // Also where it fails: what it reads may be the reason.
            reads.push(RecordedRead { sql: text.to_owned(), args: sql.args.clone() });
        }
        let rows = sql.query(client).await.map_err(explained)?;
        let mut answer = String::from("[");
        for row in rows.iter().filter(|row| !row.is_empty()) {
            if answer.len() > 1 {
                answer.push(',');
            }
            write_safe(row.try_get::<_, Option<&str>>(0)?.unwrap_or("null"), &mut answer);
        }
        answer.push(']');
        Ok(answer)
    }
}

/// Returns what a statement does, by its first word.
fn verb(text: &str) -> Option<Verb> {
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        if let Some(comment) = rest.strip_prefix("--") {
            rest = comment.split_once('\n')?.1;
        } else if let Some(comment) = rest.strip_prefix("/*") {
            rest = comment.split_once("*/")?.1;
        } else if let Some(inner) = rest.strip_prefix('(') {
            rest = inner;
        } else {
            break;
        }
    }
    let word: String = rest.chars().take_while(char::is_ascii_alphabetic).collect();
    match word.to_ascii_lowercase().as_str() {
        "select" | "with" | "values" | "table" => Some(Verb::Reads),
        "insert" | "update" | "delete" | "merge" => Some(Verb::Writes),
        _ => None,
    }
}

fn explained(error: StoreError) -> StoreError {
    let StoreError::Database { error: told, source } = &error else { return error };
    // It is the statement that names what is not there, and not the tables that have become others.
    if let Some(db) = source.as_db_error()
        && [&SqlState::UNDEFINED_COLUMN, &SqlState::UNDEFINED_TABLE].contains(&db.code())
    {
        return StoreError::refused(told.message.clone());
    }
    let is_nested_write = source.code() == Some(&SqlState::FEATURE_NOT_SUPPORTED)
        && source.as_db_error().is_some_and(|db| db.message().contains("data-modifying"));
    match is_nested_write {
        true => StoreError::refused(
            "a statement that writes begins with insert, update or delete in ctx.db.raw: what stands in WITH can only read",
        ),
        false => error,
    }
}

/// Returns a value as its parameter's input function reads it.
fn argument(ty: &Type, value: &Value) -> Option<String> {
    match (ty.kind(), value) {
        (_, Value::Null) => None,
        _ if [Type::JSON, Type::JSONB].contains(ty) => Some(value.to_string()),
        (TypeKind::Array(element), Value::Array(values)) => Some(array(element, values)),
        (_, Value::String(text)) => Some(text.clone()),
        (_, value) => Some(value.to_string()),
    }
}

/// Writes an array as Postgres reads it (PostgreSQL manual, 8.15.2).
fn array(element: &Type, values: &[Value]) -> String {
    let items = values.iter().map(|value| match value {
        Value::Array(inner) if ![Type::JSON, Type::JSONB].contains(element) => {
            array(element, inner)
        }
        value => match argument(element, value) {
            None => "NULL".to_owned(),
            Some(text) => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
        },
    });
    format!("{{{}}}", items.collect::<Vec<_>>().join(","))
}

/// Appends JSON in which whole numbers that a double may not hold are strings.
fn write_safe(json: &str, out: &mut String) {
    let mut rest = json;
    while let Some(start) = rest.find(|c: char| c == '"' || c == '-' || c.is_ascii_digit()) {
        let (before, token) = rest.split_at(start);
        out.push_str(before);
        let end = if token.starts_with('"') {
            string_end(token)
        } else {
            let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '+' | '.');
            token.find(|c| !is_part(c)).unwrap_or(token.len())
        };
        let (token, after) = token.split_at(end);
        match token.parse::<i128>() {
            Ok(number) if number.unsigned_abs() > 1 << 53 => write_string(token, out),
            _ => out.push_str(token),
        }
        rest = after;
    }
    out.push_str(rest);
}

fn string_end(json: &str) -> usize {
    let mut escaped = false;
    for (position, byte) in json.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return position + 1,
            _ => {}
        }
    }
    json.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn big_numbers_are_strings() {
        let check = |json: &str, expect: &str| {
            let mut out = String::new();
            write_safe(json, &mut out);
            assert_eq!(out, expect);
        };
        check(
            r#"{"a":9007199254740993,"b":-9007199254740993,"c":12,"d":1.5e300}"#,
            r#"{"a":"9007199254740993","b":"-9007199254740993","c":12,"d":1.5e300}"#,
        );
        check(
            r#"{"9007199254740993":"\"9007199254740993"}"#,
            r#"{"9007199254740993":"\"9007199254740993"}"#,
        );
        check("null", "null");
    }

    #[test]
    fn statements_are_told_by_their_first_word() {
        for (text, expect) in [
            ("-- what\n/* it */ SELECT 1", Some(Verb::Reads)),
            ("(select 1) union select 2", Some(Verb::Reads)),
            ("Insert into t default values", Some(Verb::Writes)),
            ("drop table t", None),
            ("-- nothing", None),
        ] {
            assert_eq!(verb(text), expect, "{text}");
        }
    }

    #[test]
    fn arrays_are_written_as_postgres_reads_them() {
        let values = [json!("a\"b\\"), json!(null), json!("")];
        assert_eq!(array(&Type::TEXT, &values), r#"{"a\"b\\",NULL,""}"#);
        assert_eq!(array(&Type::INT4, &[json!([1, 2]), json!([3, 4])]), r#"{{"1","2"},{"3","4"}}"#);
    }
}
