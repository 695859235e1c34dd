//! The report of `convoy bench latency`.

use super::matching::{Side, Trace, p50_ratio};
use crate::machine::Machine;
use crate::samples::{Samples, Spread, Summary};
use crate::table::{Table, count, head, number};
use crate::target::DatabaseFacts;
use serde::Serialize;
use std::fmt::Write;

/// Goals, for incremental plans: the ratio of the p50s, and what is added to COMMIT's return.
const RATIO_MAX: f64 = 1.5;
const ADDED_US_MAX: f64 = 300.0;
/// The share of the rate that the writer has to hold, or the figures are those of another load.
const RATE_SHARE_MIN: f64 = 0.98;

/// Everything that is reported.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) machine: Machine,
    pub(super) database: DatabaseFacts,
    pub(super) workload: Workload,
    pub(super) rates: Vec<RateReport>,
}

/// What was run.
#[derive(Debug, Serialize)]
pub(super) struct Workload {
    pub(super) connections: u32,
    pub(super) subscribers: u32,
    pub(super) pairs: u32,
    pub(super) seconds: u32,
    pub(super) warm_up_seconds: u32,
    pub(super) statement: String,
    pub(super) query: String,
}

/// The figures at one rate.
#[derive(Debug, Serialize)]
pub(super) struct RateReport {
    pub(super) commits_per_second: u32,
    /// Each side alone with the writer.
    pub(super) apart: Comparison,
    /// Both attached, receiving the same commits.
    pub(super) together: Comparison,
}

/// Convoy against the bare client.
#[derive(Debug, Serialize)]
pub(super) struct Comparison {
    sent_to_bare: Summary,
    sent_to_subscriber: Summary,
    returned_to_bare: Summary,
    /// Its p50 is what Convoy adds to COMMIT's return.
    returned_to_subscriber: Summary,
    /// From when the transaction was due: a late writer is not forgiven.
    due_to_subscriber: Summary,
    sent_to_returned_with_bare: Summary,
    sent_to_returned_with_convoy: Summary,
    /// How late the writer began, in the phases with Convoy.
    due_to_begun: Summary,
    /// p50 of `sent_to_subscriber` ÷ p50 of `sent_to_bare`, pair by pair.
    ratio: Spread,
    /// What the writer managed: the slowest of all phases.
    commits_per_second: f64,
    cpu_us_per_commit: Spread,
    diffs: usize,
    snapshots: usize,
    stale: usize,
}

impl Comparison {
    /// Compares phases pair by pair; `None` if there is nothing to compare.
    pub(super) fn of(bare: &[Trace], convoy: &[Trace]) -> Option<Self> {
        let all = |traces: &[Trace], samples: &dyn Fn(&Trace) -> Samples| {
            Summary::of(&traces.iter().map(samples).collect::<Vec<_>>())
        };
        let sent_to = |side| move |trace: &Trace| trace.arrivals(side, |commit| commit.sent);
        let returned_to =
            |side| move |trace: &Trace| trace.arrivals(side, |commit| commit.returned);
        let commit = |trace: &Trace| trace.between(|commit| commit.sent, |commit| commit.returned);
        let ratio = convoy.iter().zip(bare).map(|(convoy, bare)| {
            p50_ratio(&sent_to(Side::Subscriber)(convoy), &sent_to(Side::Bare)(bare)).ok()
        });
        let rates = bare.iter().chain(convoy).map(Trace::commits_per_second);
        Some(Comparison {
            sent_to_bare: all(bare, &sent_to(Side::Bare))?,
            sent_to_subscriber: all(convoy, &sent_to(Side::Subscriber))?,
            returned_to_bare: all(bare, &returned_to(Side::Bare))?,
            returned_to_subscriber: all(convoy, &returned_to(Side::Subscriber))?,
            due_to_subscriber: all(convoy, &|trace| {
                trace.arrivals(Side::Subscriber, |commit| commit.due)
            })?,
            sent_to_returned_with_bare: all(bare, &commit)?,
            sent_to_returned_with_convoy: all(convoy, &commit)?,
            due_to_begun: all(convoy, &|trace| {
                trace.between(|commit| commit.due, |commit| commit.begun)
            })?,
            ratio: Spread::of(ratio.collect::<Option<_>>()?)?,
            commits_per_second: rates.collect::<Option<Vec<_>>>()?.into_iter().reduce(f64::min)?,
            cpu_us_per_commit: Spread::of(
                convoy.iter().filter_map(|trace| trace.cpu_us_per_commit).collect(),
            )?,
            diffs: convoy.iter().map(|trace| trace.tally.diffs).sum(),
            snapshots: convoy.iter().map(|trace| trace.tally.snapshots).sum(),
            stale: convoy.iter().map(|trace| trace.tally.stale).sum(),
        })
    }

    fn is_ratio_met(&self) -> bool {
        self.ratio.median <= RATIO_MAX
    }

    fn is_added_met(&self) -> bool {
        self.returned_to_subscriber.p50_us <= ADDED_US_MAX
    }

    fn text(&self) -> String {
        let mut table = Table::new(["", "p50 µs", "p99 µs", "max µs", "samples"]);
        let rows = [
            ("COMMIT sent → bare client", &self.sent_to_bare),
            ("COMMIT sent → subscriber", &self.sent_to_subscriber),
            ("COMMIT returned → bare client", &self.returned_to_bare),
            ("COMMIT returned → subscriber", &self.returned_to_subscriber),
            ("due → subscriber", &self.due_to_subscriber),
            ("COMMIT sent → returned, with the bare client", &self.sent_to_returned_with_bare),
            ("COMMIT sent → returned, with Convoy", &self.sent_to_returned_with_convoy),
            ("due → begun, with Convoy", &self.due_to_begun),
        ];
        for (name, summary) in rows {
            let Summary { p50_us, p99_us, max_us, samples, .. } = summary;
            table.row([
                name.to_owned(),
                number(*p50_us),
                number(*p99_us),
                number(*max_us),
                count(*samples),
            ]);
        }
        let mut out = table.render();
        let list = |values: &[f64], show: &dyn Fn(f64) -> String| {
            values.iter().map(|value| show(*value)).collect::<Vec<_>>().join(" ")
        };
        let verdict = |is_met| if is_met { "met" } else { "missed" };
        let two = |value: f64| format!("{value:.2}");
        let added = &self.returned_to_subscriber;
        // Writing to a String can't fail.
        let _ = writeln!(
            out,
            "  ratio of the p50s  {:.2}    goal ≤ {RATIO_MAX:.2}: {}    pairs: {}",
            self.ratio.median,
            verdict(self.is_ratio_met()),
            list(&self.ratio.pairs, &two)
        );
        let _ = writeln!(
            out,
            "  added              {} µs  goal ≤ {ADDED_US_MAX} µs: {}  pairs: {}",
            number(added.p50_us),
            verdict(self.is_added_met()),
            list(&added.pairs_p50_us, &number)
        );
        let _ = writeln!(
            out,
            "  Convoy's CPU       {} µs a commit    updates: {} diffs, {} snapshots, {} stale    \
             writer: {} commits/s",
            number(self.cpu_us_per_commit.median),
            count(self.diffs),
            count(self.snapshots),
            count(self.stale),
            number(self.commits_per_second)
        );
        out
    }
}

impl Report {
    /// Returns the report for a terminal. `leftovers` is what stays in the database.
    pub(super) fn text(&self, leftovers: Option<&str>) -> String {
        let Workload { connections, subscribers, pairs, seconds, warm_up_seconds, .. } =
            &self.workload;
        let mut lines = self.machine.lines();
        lines.extend(self.database.lines());
        lines.push((
            "load",
            format!("open loop, one row updated a commit, synchronous_commit on, {connections} connections in turn"),
        ));
        lines.push((
            "",
            format!(
                "{subscribers} subscribers on as many distinct queries: {}",
                self.workload.query
            ),
        ));
        lines.push((
            "figures",
            format!("medians of {pairs} interleaved pairs of {seconds} s, each after {warm_up_seconds} s of the same load; max of all"),
        ));
        let mut out = head("convoy bench latency", &lines);
        for rate in &self.rates {
            let RateReport { commits_per_second, apart, together } = rate;
            let _ = write!(
                out,
                "\n{commits_per_second} commits/s, apart: each side alone with the writer\n{}\
                 \n{commits_per_second} commits/s, together: both receive the same commits\n{}",
                apart.text(),
                together.text()
            );
        }
        let _ = write!(out, "\n{}\n", self.verdict());
        if let Some(leftovers) = leftovers {
            let _ = writeln!(out, "{leftovers}");
        }
        out
    }

    /// Says what happened, and what to do next.
    fn verdict(&self) -> String {
        let mut missed = Vec::new();
        for rate in &self.rates {
            for (name, comparison) in [("apart", &rate.apart), ("together", &rate.together)] {
                let at = format!("at {}/s {name}", rate.commits_per_second);
                if !comparison.is_ratio_met() {
                    missed.push(format!("ratio {:.2} {at}", comparison.ratio.median));
                }
                if !comparison.is_added_met() {
                    missed.push(format!(
                        "added {} µs {at}",
                        number(comparison.returned_to_subscriber.p50_us)
                    ));
                }
            }
        }
        let mut lines = vec![match missed.as_slice() {
            [] => "goals met at every rate, apart and together".to_owned(),
            _ => format!("goals missed: {}", missed.join(", ")),
        }];
        for rate in &self.rates {
            let held = rate.apart.commits_per_second.min(rate.together.commits_per_second);
            let wanted = rate.commits_per_second;
            if held < f64::from(wanted) * RATE_SHARE_MIN {
                lines.push(format!(
                    "the writer managed {} of {wanted} commits/s: give it more --connections, or a quieter machine",
                    number(held)
                ));
            }
        }
        if self.machine.is_busy() {
            let load = self.machine.load.unwrap_or_default();
            lines.push(format!(
                "the machine was busy (load {load:.1}): run it again on a quiet one before you believe any of it"
            ));
        }
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Stamp;
    use crate::worker::{Received, Tally, Written, WrittenCommit};

    fn trace(after_us: i64) -> Trace {
        let at = |n: i64, us: i64| Stamp(n * 10_000_000 + us * 1_000);
        let commit = |n| WrittenCommit {
            due: at(n, 0),
            begun: at(n, 1),
            sent: at(n, 100),
            returned: at(n, 400),
        };
        let written = Written { commits: (0..10).map(commit).collect() };
        let tally = Tally { diffs: 10, ..Tally::default() };
        let received =
            Received { at: (0..10).map(|n| Some(at(n, 100 + after_us))).collect(), tally };
        Trace::new(written, Some(received.clone()), Some(received), 0, Some(50.0))
            .expect("complete")
    }

    fn report(bare_us: i64, convoy_us: i64) -> Report {
        let machine = Machine {
            cores: 2,
            memory_bytes: Some(24 << 30),
            cpu: None,
            kernel: None,
            load: Some(0.1),
            commit: None,
            is_release_build: true,
        };
        let database =
            DatabaseFacts { version: "15.18".into(), is_private: true, settings: [].into() };
        let workload = Workload {
            connections: 8,
            subscribers: 100,
            pairs: 1,
            seconds: 1,
            warm_up_seconds: 0,
            statement: String::new(),
            query: QUERY.into(),
        };
        let compare = || Comparison::of(&[trace(bare_us)], &[trace(convoy_us)]).expect("samples");
        let rates =
            vec![RateReport { commits_per_second: 100, apart: compare(), together: compare() }];
        Report { machine, database, workload, rates }
    }

    const QUERY: &str = "select 1";

    #[test]
    fn goals_that_are_met_are_said_so() {
        let text = report(400, 600).text(None);
        assert!(text.contains("ratio of the p50s  1.50    goal ≤ 1.50: met"), "{text}");
        // COMMIT returned after 300 µs.
        assert!(text.contains("added              300 µs  goal ≤ 300 µs: met"), "{text}");
        assert!(text.ends_with("goals met at every rate, apart and together\n"), "{text}");
    }

    #[test]
    fn goals_that_are_missed_are_named_at_the_end() {
        let text = report(400, 640).text(Some("left"));
        let end = "goals missed: ratio 1.60 at 100/s apart, added 340 µs at 100/s apart, \
                   ratio 1.60 at 100/s together, added 340 µs at 100/s together\nleft\n";
        assert!(text.ends_with(end), "{text}");
    }

    #[test]
    fn a_writer_that_did_not_hold_the_rate_is_told_on() {
        let mut report = report(400, 600);
        report.rates[0].commits_per_second = 200;
        let text = report.text(None);
        assert!(text.contains("the writer managed 100 of 200 commits/s"), "{text}");
    }

    #[test]
    fn the_json_has_every_pair() {
        let json = serde_json::to_value(report(400, 600)).expect("serialisable");
        assert_eq!(json["rates"][0]["apart"]["ratio"]["pairs"], serde_json::json!([1.5]));
        assert_eq!(json["rates"][0]["together"]["sent_to_bare"]["samples"], 10);
    }
}
