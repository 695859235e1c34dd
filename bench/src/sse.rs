//! Server-sent events as a client reads them (WHATWG HTML, 9.2), and what of Convoy's transitions is of interest here.

use crate::clock::Stamp;
use anyhow::{Context, bail};
use bytes::BytesMut;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::Deserialize;

/// The longest event that is read, in bytes: a first answer of 16 MiB and then some.
const EVENT_BYTES_MAX: usize = 64 << 20;

/// An event, and when its last byte was there.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) data: String,
    /// What to go on from.
    pub(crate) id: Option<String>,
    pub(crate) at: Stamp,
}

/// Reads events from a body.
#[derive(Debug)]
pub(crate) struct EventReader {
    body: Incoming,
    buffer: EventBuffer,
    read_at: Stamp,
}

impl EventReader {
    /// Reads from this body.
    pub(crate) fn new(body: Incoming) -> Self {
        EventReader { body, buffer: EventBuffer::default(), read_at: Stamp::now() }
    }

    /// Waits for the next event; `None` at the end. Cancel-safe.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Option<Event>> {
        loop {
            if let Some((name, data, id)) = self.buffer.pop() {
                return Ok(Some(Event { name, data, id, at: self.read_at }));
            }
            let Some(frame) = self.body.frame().await else { return Ok(None) };
            // Before anything is done with the bytes.
            self.read_at = Stamp::now();
            if let Some(bytes) = frame.context("the stream broke off")?.data_ref() {
                self.buffer.push(bytes)?;
            }
        }
    }
}

/// Cuts bytes into events.
#[derive(Debug, Default)]
struct EventBuffer {
    bytes: BytesMut,
    /// Up to here there is no end of an event.
    searched: usize,
}

impl EventBuffer {
    fn push(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        if self.bytes.len() + bytes.len() > EVENT_BYTES_MAX {
            bail!("an event is larger than {} MiB", EVENT_BYTES_MAX >> 20);
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// Returns the next event's name, data and id; blocks without data, like comments, are passed over.
    fn pop(&mut self) -> Option<(String, String, Option<String>)> {
        loop {
            let from = self.searched.min(self.bytes.len());
            let Some(found) = self.bytes[from..].windows(2).position(|pair| pair == b"\n\n") else {
                self.searched = self.bytes.len().saturating_sub(1);
                return None;
            };
            let block = self.bytes.split_to(from + found + 2);
            self.searched = 0;
            let (mut name, mut data, mut id) = (String::new(), None, None);
            for line in String::from_utf8_lossy(&block).lines() {
                match line.split_once(':') {
                    Some(("event", value)) => value.trim_start_matches(' ').clone_into(&mut name),
                    Some(("data", value)) => {
                        data = Some(value.strip_prefix(' ').unwrap_or(value).to_owned())
                    }
                    Some(("id", value)) => id = Some(value.trim_start_matches(' ').to_owned()),
                    _ => {}
                }
            }
            if let Some(data) = data {
                return Some((name, data, id));
            }
        }
    }
}

/// A transition, as far as a benchmark looks into it.
#[derive(Debug, Deserialize)]
pub(crate) struct Transition {
    pub(crate) updates: Vec<Update>,
}

/// An update of one subscription.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(crate) enum Update {
    Snapshot {
        value: Vec<SequencedRow>,
    },
    Diff {
        ops: Vec<Operation>,
    },
    Stale {},
    Error {
        error: serde_json::Value,
    },
    #[serde(other)]
    Other,
}

/// An operation of a diff.
#[derive(Debug, Deserialize)]
pub(crate) struct Operation {
    row: Option<SequencedRow>,
    set: Option<SequencedRow>,
}

/// A row with the number of the commit that wrote it last, if it was written or has one.
#[derive(Debug, Deserialize)]
pub(crate) struct SequencedRow {
    seq: Option<i64>,
}

impl Transition {
    /// Reads an event's data.
    pub(crate) fn read(data: &str) -> anyhow::Result<Self> {
        let shown = || format!("not a transition: {}", data.chars().take(200).collect::<String>());
        serde_json::from_str(data).with_context(shown)
    }
}

impl Update {
    /// Returns the numbers of the commits that it shows.
    pub(crate) fn sequences(&self) -> Vec<i64> {
        match self {
            Update::Snapshot { value } => value.iter().filter_map(|row| row.seq).collect(),
            Update::Diff { ops } => {
                let row = |op: &Operation| op.row.as_ref().or(op.set.as_ref())?.seq;
                ops.iter().filter_map(row).collect()
            }
            Update::Stale {} | Update::Error { .. } | Update::Other => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_cut_wherever_the_bytes_are_cut() {
        let text = b": here\n\nevent: hello\ndata: {\"a\":1}\n\nid: x\nevent: transition\ndata: {}\n\n: end";
        for size in 1..text.len() {
            let mut buffer = EventBuffer::default();
            let mut events = Vec::new();
            for chunk in text.chunks(size) {
                buffer.push(chunk).expect("small");
                events.extend(std::iter::from_fn(|| buffer.pop()));
            }
            let expected = [("hello", "{\"a\":1}", None), ("transition", "{}", Some("x"))];
            assert_eq!(
                events,
                expected.map(|(name, data, id)| {
                    (name.to_owned(), data.to_owned(), id.map(str::to_owned))
                }),
                "chunks of {size}"
            );
        }
    }

    fn sequences(updates: &str) -> Vec<i64> {
        let transition =
            Transition::read(&format!("{{\"lsn\":\"0/1\",\"updates\":{updates}}}")).expect("good");
        transition.updates.iter().flat_map(Update::sequences).collect()
    }

    #[test]
    fn finds_the_commits_in_every_kind_of_update() {
        let snapshot = r#"[{"sub":"0","type":"snapshot","keys":["1"],"value":[{"id":1,"seq":7},{"id":2,"seq":null}]}]"#;
        assert_eq!(sequences(snapshot), [7]);
        let diff = r#"[{"sub":"0","type":"diff","ops":[{"op":"update","key":"1","set":{"seq":8}},{"op":"remove","key":"2"},
                        {"op":"insert","key":"3","at":0,"row":{"id":3,"seq":9}},{"op":"update","key":"4","set":{"id":1}}]}]"#;
        assert_eq!(sequences(diff), [8, 9]);
        assert_eq!(
            sequences(r#"[{"sub":"0","type":"unchanged"},{"sub":"1","type":"stale","lsn":"0/1"}]"#),
            [0_i64; 0]
        );
        assert_eq!(sequences("[]"), [0_i64; 0]);
    }

    #[test]
    fn what_is_no_transition_is_shown() {
        let error = Transition::read("<html>").expect_err("no JSON").to_string();
        assert!(error.contains("<html>"), "{error}");
    }
}
