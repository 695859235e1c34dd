//! What was measured, in a table, and what must hold of it.

use super::{CHANGED_ONE_IN, WITHIN};
use crate::machine::Machine;
use crate::table::{Table, head, number};
use crate::target::DatabaseFacts;
use anyhow::bail;
use serde::Serialize;
use std::fmt::Write;

#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) machine: Machine,
    pub(super) database: DatabaseFacts,
    pub(super) sessions: u32,
    pub(super) queries: u32,
    pub(super) phases: Vec<Phase>,
    /// The witness alone, in milliseconds.
    pub(super) quiet_p50_ms: f64,
    pub(super) quiet_p99_ms: f64,
}

#[derive(Debug, Serialize)]
pub(super) struct Phase {
    pub(super) name: &'static str,
    /// Streams that were refused, or ended before they were served, and were tried again.
    pub(super) refused: usize,
    /// From the first connection to the last answer.
    pub(super) seconds: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) max_ms: f64,
    pub(super) snapshots: usize,
    pub(super) diffs: usize,
    pub(super) unchanged: usize,
    /// Results that were read, and the statements that did.
    pub(super) reads: u64,
    pub(super) statements: u64,
    pub(super) resident_bytes: u64,
    pub(super) peak_bytes: u64,
    pub(super) witness_p50_ms: f64,
    pub(super) witness_p99_ms: f64,
    pub(super) witness_max_ms: f64,
    pub(super) witness_commits: usize,
}

impl Report {
    /// What must hold whatever the machine.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        // The witness' one query is read before.
        let may_read = [
            ("new", u64::from(self.queries)),
            ("resumed", 0),
            ("restarted", u64::from(self.queries)),
        ];
        for (phase, (name, reads_max)) in self.phases.iter().zip(may_read) {
            if phase.reads > reads_max {
                bail!("{name}: {} results were read, for at most {reads_max}", phase.reads);
            }
            if phase.refused > 0 {
                bail!("{name}: {} streams were refused", phase.refused);
            }
        }
        Ok(())
    }

    pub(super) fn text(&self, leftovers: Option<&str>) -> String {
        let mut lines = self.machine.lines();
        lines.extend(self.database.lines());
        let Report { sessions, queries, .. } = self;
        let load = format!(
            "{sessions} sessions of one subscription each come within {} s; {queries} live queries, of which one in {CHANGED_ONE_IN} changed meanwhile",
            WITHIN.as_secs()
        );
        lines.push(("load", load));
        let mut out = head("convoy bench reconnect", &lines);
        out.push('\n');
        let mut table = Table::new([
            "",
            "served in s",
            "p50 ms",
            "p99 ms",
            "max ms",
            "refused",
            "reads",
            "statements",
            "snapshots",
            "diffs",
            "unchanged",
            "resident MiB",
            "peak MiB",
        ]);
        let mib = |bytes: u64| format!("{:.1}", bytes as f64 / f64::from(1 << 20));
        for phase in &self.phases {
            table.row([
                phase.name.to_owned(),
                format!("{:.2}", phase.seconds),
                number(phase.p50_ms),
                number(phase.p99_ms),
                number(phase.max_ms),
                phase.refused.to_string(),
                phase.reads.to_string(),
                phase.statements.to_string(),
                phase.snapshots.to_string(),
                phase.diffs.to_string(),
                phase.unchanged.to_string(),
                mib(phase.resident_bytes),
                mib(phase.peak_bytes),
            ]);
        }
        out.push_str(&table.render());
        out.push('\n');
        let mut table =
            Table::new(["commit to somebody else", "p50 ms", "p99 ms", "max ms", "commits"]);
        table.row([
            "quiet".into(),
            number(self.quiet_p50_ms),
            number(self.quiet_p99_ms),
            String::new(),
            String::new(),
        ]);
        for phase in &self.phases {
            table.row([
                phase.name.to_owned(),
                number(phase.witness_p50_ms),
                number(phase.witness_p99_ms),
                number(phase.witness_max_ms),
                phase.witness_commits.to_string(),
            ]);
        }
        out.push_str(&table.render());
        if self.machine.is_busy() {
            // Writing to a String can't fail.
            let _ = writeln!(out, "the machine was busy: the times are no measure, the counts are");
        }
        if let Some(leftovers) = leftovers {
            let _ = writeln!(out, "{leftovers}");
        }
        out
    }
}
