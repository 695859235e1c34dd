//! What came of the cases, as a table and as JSON.

use crate::machine::Machine;
use crate::samples::Samples;
use crate::table::{Table, head, number};
use crate::target::DatabaseFacts;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;

/// All cases.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) machine: Machine,
    pub(super) database: DatabaseFacts,
    pub(super) cases: Vec<CaseReport>,
}

/// From COMMIT returned to a subscriber, in milliseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Latency {
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
    samples: usize,
}

impl Latency {
    /// Sums samples up.
    pub(super) fn of(samples: &Samples) -> Self {
        let ms = |share| samples.quantile_us(share).unwrap_or(0.0) / 1_000.0;
        Latency { p50_ms: ms(0.5), p99_ms: ms(0.99), max_ms: ms(1.0), samples: samples.len() }
    }

    fn text(&self) -> String {
        let ms = |value: f64| if value < 9.95 { format!("{value:.1}") } else { number(value) };
        format!("{} / {} / {}", ms(self.p50_ms), ms(self.p99_ms), ms(self.max_ms))
    }
}

/// The most that each part of memory was, and its bound, in bytes.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Parts(BTreeMap<String, Part>);

#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Part {
    peak_bytes: f64,
    limit_bytes: f64,
}

impl Parts {
    /// Takes in what /metrics says now.
    pub(super) fn take(&mut self, text: &str) {
        for line in text.lines() {
            let read = |name: &str| {
                let (part, value) = line.strip_prefix(name)?.split_once("\"} ")?;
                Some((part.to_owned(), value.trim().parse::<f64>().ok()?))
            };
            if let Some((part, bytes)) = read("convoy_memory_bytes{part=\"") {
                let peak = &mut self.0.entry(part).or_default().peak_bytes;
                *peak = peak.max(bytes);
            }
            if let Some((part, bytes)) = read("convoy_memory_limit_bytes{part=\"") {
                self.0.entry(part).or_default().limit_bytes = bytes;
            }
        }
    }

    fn limit_bytes(&self) -> f64 {
        self.0.values().map(|part| part.limit_bytes).sum()
    }
}

/// One case.
#[derive(Debug, Serialize)]
pub(super) struct CaseReport {
    pub(super) case: &'static str,
    /// What was done.
    pub(super) what: String,
    pub(super) subscribers: usize,
    /// The prober's latencies, before and after the flood and while it was on.
    pub(super) quiet: Latency,
    pub(super) during: Latency,
    pub(super) probes: usize,
    /// How long after the flood everyone was right.
    pub(super) right_after_s: f64,
    pub(super) before_bytes: u64,
    pub(super) peak_bytes: u64,
    /// When it had settled.
    pub(super) after_bytes: u64,
    pub(super) parts: Parts,
    /// What subscribers were told beside their first answers.
    pub(super) snapshots: u64,
    pub(super) diffs: u64,
    /// Streams that broke and were gone on with; of them, those that were refused for a while.
    pub(super) came_back: u64,
    pub(super) refused: u64,
    /// What /metrics counted meanwhile.
    pub(super) counted: BTreeMap<String, f64>,
    /// What was not as it should be.
    pub(super) faults: Vec<String>,
}

impl CaseReport {
    pub(super) fn new(case: &'static str, before_bytes: u64) -> Self {
        CaseReport {
            case,
            what: String::new(),
            subscribers: 0,
            quiet: Latency::default(),
            during: Latency::default(),
            probes: 0,
            right_after_s: 0.0,
            before_bytes,
            peak_bytes: 0,
            after_bytes: 0,
            parts: Parts::default(),
            snapshots: 0,
            diffs: 0,
            came_back: 0,
            refused: 0,
            counted: BTreeMap::new(),
            faults: Vec::new(),
        }
    }

    /// Holds the most memory that the process had against the bound.
    pub(super) fn check_memory(&mut self) {
        let limit = self.parts.limit_bytes();
        if self.peak_bytes as f64 > limit {
            let mib = |bytes: f64| bytes / f64::from(1 << 20);
            self.faults.push(format!(
                "resident memory was {:.0} MiB, more than --memory-limit, {:.0} MiB",
                mib(self.peak_bytes as f64),
                mib(limit)
            ));
        }
    }
}

impl Report {
    pub(super) fn text(&self, leftovers: Option<&str>) -> String {
        let mut lines = self.machine.lines();
        lines.extend(self.database.lines());
        lines.push((
            "latency",
            "ms from COMMIT returned to a subscriber of another table, p50 / p99 / max".into(),
        ));
        let mut out = head("convoy bench chaos", &lines);
        out.push('\n');
        let mut table = Table::new([
            "case",
            "quiet ms",
            "during ms",
            "right after s",
            "MiB before",
            "peak",
            "after",
            "snapshots",
            "diffs",
            "came back",
            "all right",
        ]);
        let mib = |bytes: u64| format!("{:.0}", bytes as f64 / f64::from(1 << 20));
        for case in &self.cases {
            table.row([
                case.case.to_owned(),
                case.quiet.text(),
                case.during.text(),
                format!("{:.1}", case.right_after_s),
                mib(case.before_bytes),
                mib(case.peak_bytes),
                mib(case.after_bytes),
                case.snapshots.to_string(),
                case.diffs.to_string(),
                case.came_back.to_string(),
                if case.faults.is_empty() { "yes".into() } else { "NO".into() },
            ]);
        }
        out.push_str(&table.render());
        out.push('\n');
        // Writing to a String can't fail.
        for case in &self.cases {
            let _ = writeln!(out, "{}: {}; {} subscribers", case.case, case.what, case.subscribers);
            let counted: Vec<_> = case
                .counted
                .iter()
                .map(|(name, value)| format!("{} {}", name.replace('_', " "), number(*value)))
                .collect();
            let _ = writeln!(out, "  counted: {}", counted.join(", "));
            let parts =
                case.parts.0.iter().filter(|(_, part)| part.peak_bytes >= f64::from(1 << 20));
            let part = |(name, part): (&String, &Part)| {
                let mib = |bytes: f64| number(bytes / f64::from(1 << 20));
                format!("{name} {} of {}", mib(part.peak_bytes), mib(part.limit_bytes))
            };
            let parts: Vec<_> = parts.map(part).collect();
            if !parts.is_empty() {
                let _ = writeln!(out, "  most at a time, MiB: {}", parts.join(", "));
            }
            for fault in &case.faults {
                let _ =
                    writeln!(out, "  NOT RIGHT: {}", fault.chars().take(2_000).collect::<String>());
            }
        }
        if self.machine.is_busy() {
            let _ = writeln!(
                out,
                "the machine was busy: the times are others' as well, memory and rows are not"
            );
        }
        if let Some(leftovers) = leftovers {
            let _ = writeln!(out, "{leftovers}");
        }
        let wrong = self.cases.iter().filter(|case| !case.faults.is_empty()).count();
        let _ = match wrong {
            0 => writeln!(out, "everyone ended up right, within the bound of memory"),
            _ => writeln!(out, "{wrong} of {} cases are not right: see above", self.cases.len()),
        };
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_of_each_part_is_kept_and_held_against_the_whole() {
        let mut case = CaseReport::new("case", 0);
        for bytes in [5, 9, 7] {
            case.parts.take(&format!(
                "convoy_memory_bytes{{part=\"log\"}} {bytes}.0\nconvoy_memory_limit_bytes{{part=\"log\"}} 100.0\n"
            ));
        }
        let part = case.parts.0["log"];
        assert_eq!((part.peak_bytes, part.limit_bytes), (9.0, 100.0));
        case.peak_bytes = 100;
        case.check_memory();
        assert!(case.faults.is_empty());
        case.peak_bytes = 101;
        case.check_memory();
        assert_eq!(case.faults.len(), 1);
    }
}
