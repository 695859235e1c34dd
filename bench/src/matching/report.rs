//! What `convoy bench match` prints.

use super::workload::{CHANGES, Load};
use crate::machine::Machine;
use crate::samples::Spread;
use crate::table::{Table, count, head, number};
use serde::Serialize;
use std::fmt::Write;

/// Goals, in nanoseconds a change; in bytes; in changes a second.
const EQUALITY_NS: f64 = 600.0;
const MIXED_NS: f64 = 10_000.0;
const MANY_HITS_NS: f64 = 10_000.0;
const RANGES_NS: f64 = 300.0;
const MISSES_PER_SECOND: f64 = 1_000_000.0;
const EQUALITY_BYTES: f64 = 48.0;
const RANGE_BYTES: f64 = 40.0;
/// What a million may cost more than a thousand.
const GROWTH: f64 = 1.5;
/// Where noise hides an absolute figure, this many times the bare structure decides.
const BARE: f64 = 1.3;
/// What each live query takes in the table of all, whatever looks it up.
const TABLE_BYTES: f64 = 20.0;

#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) machine: Machine,
    pub(super) pairs: u32,
    pub(super) memory: Vec<MemoryFigure>,
    pub(super) figures: Vec<Figure>,
}

#[derive(Debug, Serialize)]
pub(super) struct MemoryFigure {
    pub(super) load: Load,
    pub(super) queries: usize,
    pub(super) bytes_per_query: f64,
}

#[derive(Debug, Serialize)]
pub(super) struct Figure {
    pub(super) load: Load,
    pub(super) queries: usize,
    pub(super) hits_per_change: f64,
    pub(super) index_ns: Spread,
    pub(super) bare_ns: Spread,
    pub(super) ratio: Spread,
}

impl Load {
    pub(super) fn name(self) -> &'static str {
        match self {
            Load::Equality => "equality, 1 hit",
            Load::Miss => "equality, no hit",
            Load::Mixed => "20 templates, mixed",
            Load::ManyHits => "equality, many hits",
            Load::Ranges => "ranges, 1 hit",
        }
    }
}

impl Report {
    pub(super) fn text(&self) -> String {
        let mut lines = self.machine.lines();
        lines.push(("load", format!("{CHANGES} inserts a batch, medians of {} pairs", self.pairs)));
        lines.push(("bare", "as many look-ups in a HashMap, or a BTreeMap of segments".into()));
        let mut out = head("convoy bench match", &lines);
        out.push('\n');
        let mut table = Table::new(["", "live queries", "hits", "ns a change", "bare", "ratio"]);
        let mut load = None;
        for figure in &self.figures {
            let is_first = load.replace(figure.load) != Some(figure.load);
            table.row([
                if is_first { figure.load.name().into() } else { String::new() },
                count(figure.queries),
                number(figure.hits_per_change),
                number(figure.index_ns.median),
                number(figure.bare_ns.median),
                format!("{:.2}", figure.ratio.median),
            ]);
        }
        out.push_str(&table.render());
        out.push('\n');
        // Writing to a String can't fail.
        for memory in &self.memory {
            let (queries, bytes) = (count(memory.queries), memory.bytes_per_query);
            let _ = match memory.load {
                Load::Ranges => {
                    let structure = (bytes - TABLE_BYTES).max(0.0);
                    let met = verdict(structure <= RANGE_BYTES);
                    writeln!(
                        out,
                        "goal {RANGE_BYTES:.0} bytes a range ({queries}): {met} ({structure:.1}, and {TABLE_BYTES:.0} \
                         in the table of all live queries)"
                    )
                }
                _ => {
                    let met = verdict(bytes <= EQUALITY_BYTES);
                    writeln!(
                        out,
                        "goal {EQUALITY_BYTES:.0} bytes a live query ({queries}): {met} ({bytes:.1}; its slots are \
                         the engine's as well, and not in it)"
                    )
                }
            };
        }
        for (load, queries, goal) in [
            (Load::Equality, 1_000_000, EQUALITY_NS),
            (Load::Mixed, 1_000_000, MIXED_NS),
            (Load::ManyHits, 1_000_000, MANY_HITS_NS),
            (Load::Ranges, 100_000, RANGES_NS),
        ] {
            let Some(figure) = self.figure(load, queries) else { continue };
            let (ns, ratio) = (figure.index_ns.median, figure.ratio.median);
            let met = match (ns <= goal, ratio <= BARE) {
                (true, _) => "met".to_owned(),
                (false, true) => format!("met by at most {BARE} times bare ({ratio:.2})"),
                (false, false) => format!("missed ({ratio:.2} times bare)"),
            };
            let (name, queries, goal, ns) = (load.name(), count(queries), number(goal), number(ns));
            let _ = writeln!(out, "goal {goal} ns, {name} ({queries}): {met} ({ns} ns)");
        }
        if let Some(miss) = self.figure(Load::Miss, 1_000_000) {
            let per_second = 1e9 / miss.index_ns.median;
            let met = verdict(per_second >= MISSES_PER_SECOND);
            let (goal, per_second) = (number(MISSES_PER_SECOND), number(per_second));
            let _ = writeln!(out, "goal {goal} changes ignored a second: {met} ({per_second})");
        }
        let growth = self.figure(Load::Equality, 1_000).zip(self.figure(Load::Equality, 1_000_000));
        if let Some((few, many)) = growth {
            let growth = many.index_ns.median / few.index_ns.median;
            let bare = many.bare_ns.median / few.bare_ns.median;
            let met = verdict(growth <= GROWTH);
            let _ = writeln!(
                out,
                "goal {GROWTH} times from 1,000 to 1,000,000: {met} ({growth:.2}; bare {bare:.2})"
            );
        }
        if self.machine.is_busy() {
            let _ = writeln!(out, "the machine was busy: the times are not the index's alone");
        }
        out
    }

    fn figure(&self, load: Load, queries: usize) -> Option<&Figure> {
        self.figures.iter().find(|figure| figure.load == load && figure.queries == queries)
    }
}

fn verdict(is_met: bool) -> &'static str {
    if is_met { "met" } else { "missed" }
}
