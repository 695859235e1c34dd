//! Transitions: the frames that move a client's results.
//!
//! The part of an update that all its subscribers share is encoded once for each way to write numbers
//! ([`Shared::encoded`]); a frame joins those bytes with what is the subscriber's own: its `sub`, the position, the
//! token. Large shared parts go out as they are, without a copy.

use super::error::ApiError;
use super::push_json_str;
use super::rows::Numbers;
use super::update::{encode_ops, encode_snapshot};
use bytes::Bytes;
use convoy_engine::{Diff, OutputColumn, ResultSnapshot, Shared};
use convoy_types::{Lsn, PgTimestamp};
use std::fmt::Write;
use std::sync::Arc;

/// Parts from here on are sent as they are; smaller ones are copied into their frame.
const COPY_BYTES_MAX: usize = 32 << 10;

/// Writes one transition's frame, update by update.
pub struct TransitionWriter<'a> {
    chunks: &'a mut Vec<Bytes>,
    out: String,
    numbers: Numbers,
    updates: usize,
}

impl<'a> TransitionWriter<'a> {
    /// Begins a frame. What is complete of it goes to `chunks`.
    pub fn begin(
        chunks: &'a mut Vec<Bytes>,
        numbers: Numbers,
        token: &str,
        lsn: Lsn,
        committed_at: Option<PgTimestamp>,
        reflects: &[Arc<str>],
    ) -> Self {
        let mut out = String::with_capacity(512);
        let _ = write!(
            out,
            "event: transition\nid: {token}\ndata: {{\"lsn\":\"{lsn}\",\"committed_at\":"
        );
        match committed_at {
            Some(time) => {
                let _ = write!(out, "\"{time}\"");
            }
            None => out.push_str("null"),
        }
        out.push_str(",\"reflects\":[");
        for (position, id) in reflects.iter().enumerate() {
            if position > 0 {
                out.push(',');
            }
            push_json_str(&mut out, id);
        }
        out.push_str("],\"updates\":[");
        TransitionWriter { chunks, out, numbers, updates: 0 }
    }

    fn begin_update(&mut self, sub: &str) {
        self.out.push_str(if self.updates > 0 { ",{\"sub\":" } else { "{\"sub\":" });
        self.updates += 1;
        push_json_str(&mut self.out, sub);
        self.out.push(',');
    }

    fn push_shared(&mut self, bytes: &Bytes) {
        if bytes.len() <= COPY_BYTES_MAX
            && let Ok(text) = std::str::from_utf8(bytes)
        {
            self.out.push_str(text);
        } else {
            self.chunks.push(std::mem::take(&mut self.out).into());
            self.chunks.push(bytes.clone());
        }
    }

    /// Writes a whole result.
    pub fn snapshot(&mut self, sub: &str, snapshot: &Shared<ResultSnapshot>) {
        self.begin_update(sub);
        let numbers = self.numbers;
        let bytes = snapshot.encoded(numbers.form(), |snapshot| encode_snapshot(snapshot, numbers));
        self.push_shared(bytes);
    }

    /// Writes diffs as one: their steps joined, with the last one's digest.
    pub fn diffs(&mut self, sub: &str, diffs: &[Arc<Shared<Diff>>]) {
        let Some(last) = diffs.last() else { return };
        self.begin_update(sub);
        // Writing to a String can't fail.
        let (kind, steps) = match OutputColumn::are_of_value(&last.value.columns) {
            true => ("patch", "patch"),
            false => ("diff", "ops"),
        };
        let digest = last.value.digest;
        let _ = write!(self.out, "\"type\":\"{kind}\",\"digest\":\"{digest}\",\"{steps}\":[");
        let numbers = self.numbers;
        let mut is_first = true;
        for diff in diffs.iter().filter(|diff| !diff.value.ops.is_empty()) {
            if !std::mem::take(&mut is_first) {
                self.out.push(',');
            }
            let bytes = diff.encoded(numbers.form(), |diff| encode_ops(diff, numbers));
            self.push_shared(bytes);
        }
        self.out.push_str("]}");
    }

    /// Writes that what the client has is right.
    pub fn unchanged(&mut self, sub: &str) {
        self.begin_update(sub);
        self.out.push_str("\"type\":\"unchanged\"}");
    }

    /// Writes that the result is as of an earlier position.
    pub fn stale(&mut self, sub: &str, lsn: Lsn) {
        self.begin_update(sub);
        let _ = write!(self.out, "\"type\":\"stale\",\"lsn\":\"{lsn}\"}}");
    }

    /// Writes an error; `last` where the subscription is gone.
    pub fn error(&mut self, sub: &str, last: bool, error: &ApiError) {
        self.begin_update(sub);
        let _ = write!(self.out, "\"type\":\"error\",\"final\":{last},\"error\":");
        error.push_object(&mut self.out);
        self.out.push('}');
    }

    /// Ends the frame; returns how many updates it has.
    pub fn end(mut self) -> usize {
        self.out.push_str("]}\n\n");
        self.chunks.push(self.out.into());
        self.updates
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Code;
    use convoy_engine::{DiffOp, Digest, ResultRow};
    use convoy_types::PgType;

    fn columns() -> Arc<[OutputColumn]> {
        let column = |name: &str, ty: PgType, type_name: &str| OutputColumn {
            name: name.into(),
            type_oid: 0,
            type_name: type_name.into(),
            ty,
        };
        [column("id", PgType::Int8, "int8"), column("status", PgType::Text, "text")].into()
    }

    fn row(key: &str, cells: [&str; 2]) -> ResultRow {
        ResultRow::new(key, cells)
    }

    fn frame(numbers: Numbers, write: impl FnOnce(&mut TransitionWriter<'_>)) -> String {
        let mut chunks = Vec::new();
        let at = PgTimestamp::from_unix_micros(1_795_255_200_000_000);
        let reflects = ["m".into()];
        let mut writer = TransitionWriter::begin(
            &mut chunks,
            numbers,
            "t",
            Lsn(0x1A2_B3C0),
            Some(at),
            &reflects,
        );
        write(&mut writer);
        writer.end();
        String::from_utf8(chunks.concat()).expect("UTF-8")
    }

    /// Returns the digest whose text is this digit all along.
    fn digest(digit: &str) -> Digest {
        Digest::read(&digit.repeat(32)).expect("a digest")
    }

    const HEAD: &str = "event: transition\nid: t\ndata: {\"lsn\":\"0/1A2B3C0\",\"committed_at\":\
                        \"2026-11-21T10:00:00.000000Z\",\"reflects\":[\"m\"],\"updates\":[";

    #[test]
    fn snapshots_are_the_contracts() {
        let rows = vec![row("1", ["1", "\"open\""]), row("2", ["2", "\"paid\""])];
        let snapshot =
            Shared::new(ResultSnapshot { columns: columns(), rows, digest: digest("d") });
        let expect = |ids: [&str; 2]| {
            format!(
                "{HEAD}{{\"sub\":\"a\",\"type\":\"snapshot\",\"digest\":\"{}\",\"columns\":[{{\"name\":\"id\",\"type\":\
                 \"int8\"}},{{\"name\":\"status\",\"type\":\"text\"}}],\"keys\":[\"1\",\"2\"],\"value\":[{{\"id\":{},\
                 \"status\":\"open\"}},{{\"id\":{},\"status\":\"paid\"}}]}}]}}\n\n",
                digest("d"),
                ids[0],
                ids[1]
            )
        };
        assert_eq!(
            frame(Numbers::Number, |writer| writer.snapshot("a", &snapshot)),
            expect(["1", "2"])
        );
        assert_eq!(
            frame(Numbers::String, |writer| writer.snapshot("a", &snapshot)),
            expect(["\"1\"", "\"2\""])
        );
    }

    #[test]
    fn diffs_join_their_steps() {
        let diff =
            |ops, of: &str| Shared::new(Diff { columns: columns(), ops, digest: digest(of) });
        let first = diff(
            vec![
                DiffOp::Remove { key: "7".into() },
                DiffOp::Insert { row: row("9", ["9", "\"new\""]), at: 0 },
            ],
            "1",
        );
        let none = diff(vec![], "2");
        let last = diff(
            vec![
                DiffOp::Update { key: "2".into(), set: vec![(1, "\"open\"".into())] },
                DiffOp::Move { key: "2".into(), at: 3 },
            ],
            "3",
        );
        assert_eq!(
            frame(Numbers::Number, |writer| writer.diffs("b", &[first, none, last])),
            format!(
                "{HEAD}{{\"sub\":\"b\",\"type\":\"diff\",\"digest\":\"{}\",\"ops\":[{{\"op\":\"remove\",\"key\":\"7\"}},\
                 {{\"op\":\"insert\",\"key\":\"9\",\"at\":0,\"row\":{{\"id\":9,\"status\":\"new\"}}}},{{\"op\":\"update\",\
                 \"key\":\"2\",\"set\":{{\"status\":\"open\"}}}},{{\"op\":\"move\",\"key\":\"2\",\"at\":3}}]}}]}}\n\n",
                digest("3")
            )
        );
    }

    #[test]
    fn other_updates_are_the_contracts() {
        let all = frame(Numbers::Number, |writer| {
            writer.unchanged("d");
            writer.stale("e", Lsn(16));
            writer.error("f", true, &ApiError::new(Code::InvalidArgs, "no"));
        });
        assert_eq!(
            all,
            format!(
                "{HEAD}{{\"sub\":\"d\",\"type\":\"unchanged\"}},{{\"sub\":\"e\",\"type\":\"stale\",\"lsn\":\"0/10\"}},\
                 {{\"sub\":\"f\",\"type\":\"error\",\"final\":true,\"error\":{{\"code\":\"INVALID_ARGS\",\"message\":\
                 \"no\"}}}}]}}\n\n"
            )
        );
    }

    #[test]
    fn large_parts_are_not_copied() {
        let rows = vec![row("1", ["1", &format!("\"{}\"", "x".repeat(COPY_BYTES_MAX))])];
        let snapshot =
            Shared::new(ResultSnapshot { columns: columns(), rows, digest: digest("d") });
        let mut chunks = Vec::new();
        let mut writer =
            TransitionWriter::begin(&mut chunks, Numbers::Number, "t", Lsn(0), None, &[]);
        writer.snapshot("a", &snapshot);
        writer.unchanged("b");
        assert_eq!(writer.end(), 2);
        let shared = snapshot.encoded(0, |_| unreachable!("encoded before"));
        assert_eq!(chunks[1].as_ptr(), shared.as_ptr());
        assert!(
            String::from_utf8(chunks.concat())
                .expect("UTF-8")
                .ends_with("}]},{\"sub\":\"b\",\"type\":\"unchanged\"}]}\n\n")
        );
    }
}
