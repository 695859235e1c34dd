//! `convoy bench match`: what a row change costs the index, by how many live queries there are.
//!
//! Needs no database: the index is asked in this process, and right beside it the bare structure that does the same
//! number of look-ups. Both take turns on batches of the same changes, so that what the machine does to one it does to
//! the other, and the medians of the pairs are compared. A change waits for the one before, as it does in the engine: a
//! processor that looks ahead would hide the cache misses of either side otherwise.

mod report;
mod workload;

use crate::args::MatchArgs;
use crate::machine::Machine;
use crate::process;
use crate::progress::Progress;
use crate::samples::Spread;
use anyhow::{Context, ensure};
use convoy_query_index::{QueryIndex, SlotValue};
use report::{Figure, MemoryFigure, Report};
use std::sync::Arc;
use std::time::Instant;
use workload::{CHANGES, HITS, Load, Workload, fill, index_of, slots_of};

/// Live queries whose memory is measured: many, for the kernel counts in pages.
const MEMORY_QUERIES: usize = 1_000_000;
const MEMORY_RANGES: usize = 100_000;
/// How often each side asks its batch in one pair.
const ROUNDS: usize = 3;

/// Measures and prints the report.
pub(crate) fn run(args: &MatchArgs) -> anyhow::Result<()> {
    let machine = Machine::look();
    let progress = Progress::new();
    let most = args.queries_max.get() as usize;
    // First, and kept until both are measured: what is given back would be used again, and not be counted.
    progress.say("memory");
    let mut kept = Vec::new();
    let memory = vec![
        memory_of(Load::Equality, MEMORY_QUERIES.min(most), &mut kept)?,
        memory_of(Load::Ranges, MEMORY_RANGES.min(most), &mut kept)?,
    ];
    drop(kept);
    let mut figures = Vec::new();
    for load in [Load::Equality, Load::Miss, Load::Mixed, Load::ManyHits, Load::Ranges] {
        for queries in (1..=6).map(|power| 10_usize.pow(power)).filter(|&queries| queries <= most) {
            if load == Load::ManyHits && queries < HITS {
                continue;
            }
            progress.say(&format!("{}: {queries} live queries", load.name()));
            figures.push(measure(load, queries, args.pairs.get() as usize)?);
        }
    }
    drop(progress);
    let report = Report { machine, pairs: args.pairs.get(), memory, figures };
    match args.json {
        true => println!("{}", serde_json::to_string_pretty(&report)?),
        false => print!("{}", report.text()),
    }
    Ok(())
}

fn measure(load: Load, queries: usize, pairs: usize) -> anyhow::Result<Figure> {
    let workload = Workload::new(load, queries);
    let mut hits = Vec::new();
    let found = workload.ask(&mut hits);
    let (least, most) = workload.hits;
    ensure!(
        (least * CHANGES..=most * CHANGES).contains(&found),
        "{} over {queries} live queries found {found} hits, which is not what was put there",
        load.name()
    );
    workload.ask_bare();
    let time = |ask: &mut dyn FnMut() -> usize| {
        let begun = Instant::now();
        for _ in 0..ROUNDS {
            std::hint::black_box(ask());
        }
        begun.elapsed().as_nanos() as f64 / (ROUNDS * CHANGES) as f64
    };
    let (mut index, mut bare) = (Vec::new(), Vec::new());
    for pair in 0..pairs {
        // Who begins alternates.
        for turn in 0..2 {
            if (pair + turn) % 2 == 0 {
                index.push(time(&mut || workload.ask(&mut hits)));
            } else {
                bare.push(time(&mut || workload.ask_bare()));
            }
        }
    }
    let ratios = index.iter().zip(&bare).map(|(index, bare)| index / bare).collect();
    Ok(Figure {
        load,
        queries,
        hits_per_change: found as f64 / CHANGES as f64,
        index_ns: Spread::of(index).context("no pairs")?,
        bare_ns: Spread::of(bare).context("no pairs")?,
        ratio: Spread::of(ratios).context("no pairs")?,
    })
}

/// Returns what resident memory grows by when live queries are added whose slots are there already.
fn memory_of(
    load: Load,
    queries: usize,
    kept: &mut Vec<(QueryIndex, Vec<Arc<[SlotValue]>>)>,
) -> anyhow::Result<MemoryFigure> {
    let slots = slots_of(load, queries);
    let mut index = index_of(load);
    let before = process::settled_memory(std::process::id())?.resident_bytes;
    fill(&mut index, &slots);
    let after = process::settled_memory(std::process::id())?.resident_bytes;
    kept.push((index, slots));
    let bytes = after.saturating_sub(before) as f64 / queries as f64;
    Ok(MemoryFigure { load, queries, bytes_per_query: bytes })
}
