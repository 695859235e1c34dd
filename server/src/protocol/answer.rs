//! Answers that are one JSON document: one-shot results, and what the server tells of itself.

use super::push_json_str;
use super::rows::{Numbers, encode_snapshot_value};
use convoy_engine::{LiveQueryInfo, ResultSnapshot, WhyAction, WhyEntry};
use convoy_types::Lsn;
use serde_json::{Value, json};
use std::time::Duration;

/// Returns the answer of a query that runs once.
pub fn one_shot(snapshot: &ResultSnapshot, lsn: Lsn, numbers: Numbers) -> String {
    let mut out = String::from("{\"value\":");
    encode_snapshot_value(&mut out, snapshot, numbers);
    out.push_str(",\"lsn\":");
    push_json_str(&mut out, &lsn.to_string());
    out.push('}');
    out
}

/// Returns the answer of a mutation.
pub fn mutation_answer(value: &str, lsn: Lsn) -> String {
    format!("{{\"value\":{value},\"lsn\":\"{lsn}\"}}")
}

/// How much is told of live queries, which are their callers'.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Arguments, keys of rows and what Postgres said too: callers are not told apart.
    Everything,
    /// Nothing that could be somebody's data: callers are told apart.
    Nobodys,
}

/// Returns the list of live queries.
pub fn queries(queries: &[LiveQueryInfo], detail: Detail) -> Value {
    let one = |query: &LiveQueryInfo| {
        let mut object = json!({
            "id": query.id.0.to_string(),
            "sql": query.sql,
            "params": query.args,
            "plan": if query.incremental { "incremental" } else { "refresh" },
            "notes": query.notes,
            "found_by": query.found_by,
            "subscribers": query.subscribers,
            "rows": query.rows,
        });
        if let Some(name) = &query.name {
            object["name"] = json!(name);
        }
        if let Some(error) = &query.error {
            object["error"] = json!(error);
        }
        if detail == Detail::Nobodys {
            object["params"] = Value::Null;
            if query.error.is_some() {
                object["error"] = json!("(only its subscribers are told)");
            }
        }
        object
    };
    json!({ "queries": queries.iter().map(one).collect::<Vec<_>>() })
}

/// Returns the last changes that touched a live query. `since_commit` says how long after a commit it was received, by
/// the two machines' clocks.
pub fn why(
    id: &str,
    entries: &[WhyEntry],
    detail: Detail,
    since_commit: impl Fn(&WhyEntry) -> Option<Duration>,
) -> Value {
    let millis = |time: Option<Duration>| time.map(|time| time.as_micros() as f64 / 1000.0);
    let one = |entry: &WhyEntry| {
        let (action, reason) = match entry.action {
            WhyAction::Diff => ("diff", None),
            WhyAction::Refresh(reason) => ("refresh", Some(reason.describe())),
        };
        json!({
            "lsn": entry.lsn.to_string(),
            "committed_at": entry.committed_at.to_string(),
            "table": entry.table,
            "key": if detail == Detail::Everything { json!(entry.key) } else { Value::Null },
            "predicate": entry.predicate,
            "action": action,
            "reason": reason,
            "received_ms": millis(since_commit(entry)),
            "waited_ms": millis(Some(entry.waited)),
            "maintained_ms": millis(entry.maintained),
            "told_ms": millis(entry.told),
        })
    };
    json!({ "id": id, "changes": entries.iter().map(one).collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use convoy_engine::{Digest, OutputColumn, ResultRow};
    use convoy_types::PgType;

    #[test]
    fn one_shot_answers_are_the_contracts() {
        let column = OutputColumn {
            name: "n".into(),
            type_oid: 20,
            type_name: "int8".into(),
            ty: PgType::Int8,
        };
        let snapshot = ResultSnapshot {
            columns: [column].into(),
            rows: vec![ResultRow::new("1", ["9007199254740993"])],
            digest: Digest::read(&"d".repeat(32)).expect("a digest"),
        };
        assert_eq!(
            one_shot(&snapshot, Lsn(0x16_B374_D848), Numbers::String),
            r#"{"value":[{"n":"9007199254740993"}],"lsn":"16/B374D848"}"#
        );
    }
}
