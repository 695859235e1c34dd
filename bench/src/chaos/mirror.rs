//! A subscriber's rows, as the stream says they are; what no client could follow is an error.

use crate::clock::Stamp;
use anyhow::{Context, bail, ensure};
use serde_json::{Map, Value};
use std::collections::HashMap;

/// What a subscription shows.
#[derive(Debug, Default)]
pub(super) struct Shown {
    /// In order.
    keys: Vec<String>,
    rows: HashMap<String, Map<String, Value>>,
    is_stale: bool,
    is_answered: bool,
    /// The position to go on from.
    pub(super) token: Option<String>,
    /// When it changed last.
    pub(super) changed: Option<Stamp>,
    /// Snapshots after the first, and diffs.
    pub(super) snapshots: u64,
    pub(super) diffs: u64,
}

impl Shown {
    /// Takes a transition in.
    pub(super) fn apply(&mut self, data: &str, at: Stamp) -> anyhow::Result<()> {
        let mut data: Value = serde_json::from_str(data).context("a transition is no JSON")?;
        let updates = match data["updates"].take() {
            Value::Array(updates) => updates,
            other => bail!("updates are a list, not {other}"),
        };
        for update in updates {
            self.update(update)?;
            self.changed = Some(at);
        }
        Ok(())
    }

    fn update(&mut self, mut update: Value) -> anyhow::Result<()> {
        let kind = update["type"].as_str().unwrap_or_default().to_owned();
        self.is_stale = kind == "stale";
        match kind.as_str() {
            "snapshot" => {
                let keys: Vec<String> = serde_json::from_value(update["keys"].take())?;
                let rows: Vec<Map<String, Value>> = serde_json::from_value(update["value"].take())?;
                ensure!(keys.len() == rows.len(), "{} keys of {} rows", keys.len(), rows.len());
                self.rows = keys.iter().cloned().zip(rows).collect();
                ensure!(self.rows.len() == keys.len(), "a key comes twice in a snapshot");
                self.keys = keys;
                self.snapshots += u64::from(self.is_answered);
                self.is_answered = true;
            }
            "diff" => {
                self.diffs += 1;
                let Value::Array(ops) = update["ops"].take() else { bail!("a diff has ops") };
                ops.into_iter().try_for_each(|op| self.step(op))?;
            }
            "unchanged" | "stale" => {}
            _ => bail!("a subscription failed: {update}"),
        }
        Ok(())
    }

    fn step(&mut self, mut op: Value) -> anyhow::Result<()> {
        let key = op["key"].as_str().context("a step has a key")?.to_owned();
        match op["op"].as_str() {
            Some("update") => {
                let row = self.rows.get_mut(&key).with_context(|| format!("{key} is not there"))?;
                let Value::Object(set) = op["set"].take() else { bail!("an update sets columns") };
                row.extend(set);
            }
            Some("insert") => {
                let Value::Object(row) = op["row"].take() else { bail!("an insert has a row") };
                ensure!(self.rows.insert(key.clone(), row).is_none(), "{key} came twice");
                self.put(key, &op["at"])?;
            }
            Some("remove") => {
                ensure!(self.rows.remove(&key).is_some(), "{key} went and was not there");
                self.take(&key)?;
            }
            Some("move") => {
                self.take(&key)?;
                self.put(key, &op["at"])?;
            }
            _ => bail!("an unknown step: {op}"),
        }
        Ok(())
    }

    fn take(&mut self, key: &str) -> anyhow::Result<()> {
        let at = self.keys.iter().position(|there| there == key);
        self.keys.remove(at.with_context(|| format!("{key} is not there"))?);
        Ok(())
    }

    fn put(&mut self, key: String, at: &Value) -> anyhow::Result<()> {
        let at = at.as_u64().and_then(|at| usize::try_from(at).ok()).context("a place")?;
        ensure!(at <= self.keys.len(), "place {at} of {}", self.keys.len());
        self.keys.insert(at, key);
        Ok(())
    }

    /// Returns whether it was answered.
    pub(super) fn is_answered(&self) -> bool {
        self.is_answered
    }

    /// Returns what differs from the rows that Postgres gives, in their order; none where nothing does.
    pub(super) fn difference(&self, expected: &[Map<String, Value>]) -> Option<String> {
        if self.is_stale {
            return Some("it is stale".into());
        }
        if self.keys.len() != expected.len() {
            return Some(format!("{} rows, not {}", self.keys.len(), expected.len()));
        }
        self.keys.iter().zip(expected).enumerate().find_map(|(place, (key, expected))| {
            let row = self.rows.get(key);
            (row != Some(expected)).then(|| format!("row {place} is {row:?}, not {expected:?}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(updates: &[&str]) -> anyhow::Result<Shown> {
        let mut shown = Shown::default();
        for update in updates {
            shown.apply(&format!(r#"{{"updates":[{update}]}}"#), Stamp(1))?;
        }
        Ok(shown)
    }

    fn rows(text: &str) -> Vec<Map<String, Value>> {
        serde_json::from_str(text).expect("rows")
    }

    const TWO: &str =
        r#"{"type":"snapshot","keys":["1","2"],"value":[{"id":1,"n":0},{"id":2,"n":0}]}"#;

    #[test]
    fn rows_are_what_snapshots_and_diffs_make_them() {
        let diff = r#"{"type":"diff","ops":[{"op":"remove","key":"1"},{"op":"insert","key":"3","at":0,"row":{"id":3,"n":1}},
                       {"op":"update","key":"2","set":{"n":7}},{"op":"move","key":"2","at":0}]}"#;
        let shown = shown(&[TWO, diff]).expect("good");
        assert_eq!(shown.difference(&rows(r#"[{"id":2,"n":7},{"id":3,"n":1}]"#)), None);
        assert_eq!((shown.snapshots, shown.diffs), (0, 1));
    }

    #[test]
    fn what_differs_is_seen() {
        let fresh = shown(&[TWO]).expect("good");
        for wrong in [
            r#"[{"id":1,"n":0}]"#,
            r#"[{"id":1,"n":0},{"id":2,"n":1}]"#,
            r#"[{"id":2,"n":0},{"id":1,"n":0}]"#,
        ] {
            assert!(fresh.difference(&rows(wrong)).is_some(), "{wrong}");
        }
        let stale = shown(&[TWO, r#"{"type":"stale"}"#]).expect("good");
        assert!(stale.difference(&rows(r#"[{"id":1,"n":0},{"id":2,"n":0}]"#)).is_some());
    }

    #[test]
    fn what_no_client_could_follow_is_an_error() {
        for wrong in [
            r#"{"op":"remove","key":"3"}"#,
            r#"{"op":"update","key":"3","set":{"n":1}}"#,
            r#"{"op":"insert","key":"1","at":0,"row":{"id":1}}"#,
            r#"{"op":"insert","key":"3","at":9,"row":{"id":3}}"#,
            r#"{"op":"move","key":"3","at":0}"#,
        ] {
            let diff = format!(r#"{{"type":"diff","ops":[{wrong}]}}"#);
            assert!(shown(&[TWO, &diff]).is_err(), "{wrong}");
        }
        assert!(shown(&[r#"{"type":"error","final":true,"error":{}}"#]).is_err());
    }
}
