//! The comparison: what each session showed at each point of the line, against the model with just those transactions
//! in effect, and against Postgres at the snapshots that were sampled.

use super::asked::{Answer, Asked, difference};
use super::dice::Dice;
use super::journal::Model;
use super::live::{LineEntry, Moment};
use super::queries::Query;
use super::samples::Samples;
use super::subscribers::{Content, Shown, Step, Subscriber};
use convoy_types::{FullXid, Lsn};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};

/// How many comparisons with the model a seed pays for.
const COMPARISONS: usize = 6_000;

/// What was compared.
#[derive(Debug, Default, Clone, Copy)]
pub struct Compared {
    pub transitions: usize,
    pub positions: usize,
    pub with_model: usize,
    pub with_snapshots: usize,
    pub snapshots: usize,
    /// Samples of which it can't be said when they were taken.
    pub shifting: usize,
}

/// Returns the number of the query that a subscription is of: `q7`, or `q7.2` for a second time.
pub fn query_of(sub: &str) -> usize {
    let number = sub.trim_start_matches('q').split('.').next().unwrap_or_default();
    number.parse().expect("subscriptions are called so")
}

/// Compares everything, and returns what was wrong.
pub async fn verify(
    model: &mut Model,
    queries: &[Query],
    line: &[LineEntry],
    subscribers: &[Subscriber],
    samples: &Samples,
    dice: &mut Dice,
) -> (Compared, Vec<String>) {
    let mut compared = Compared::default();
    let mut problems = labels(line, subscribers);
    let mut samples = samples.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let shifting = shifting(line, model.journaled());
    compared.shifting = samples.keys().filter(|moment| shifting.contains(moment)).count();
    samples.retain(|moment, _| !shifting.contains(moment));
    let mut steps: BTreeMap<Moment, Vec<(&'static str, Step)>> = BTreeMap::new();
    // Before a table's first rows are read, not all that was written to it was in the stream.
    let mut answered_at: BTreeMap<usize, Moment> = BTreeMap::new();
    let (mut changed, mut all) = (0, 0);
    for subscriber in subscribers {
        for step in subscriber.steps() {
            compared.transitions += 1;
            changed += step.changed.len();
            all += step.shown.len();
            for sub in step
                .shown
                .iter()
                .filter(|(_, shown)| matches!(shown, Shown::Value(_)))
                .map(|(sub, _)| sub)
            {
                let first = answered_at.entry(query_of(sub)).or_insert(step.moment());
                *first = (*first).min(step.moment());
            }
            steps.entry(step.moment()).or_default().push((subscriber.name, step));
        }
    }
    let percent = |part: usize, whole: usize| {
        u32::try_from((part * 100 / whole.max(1)).min(100)).unwrap_or(100)
    };
    let (of_changed, of_all) =
        (percent(COMPARISONS * 2 / 3, changed), percent(COMPARISONS / 3, all).max(1));
    let mut asked = Vec::new();
    for query in queries {
        asked.push(Asked::prepare(model.client(), query).await);
    }
    compared.snapshots = samples.len();
    for (moment, xids) in states(line, model.journaled()) {
        let (_, position) = moment;
        model.apply(xids).await;
        let mut answers: BTreeMap<usize, Answer> = BTreeMap::new();
        if let Some(sample) = samples.get(&moment) {
            for (&number, at_snapshot) in sample {
                if answered_at.get(&number).is_none_or(|first| *first > moment) {
                    continue;
                }
                // What is compared is the model itself, and the engine's word for what the snapshot shows.
                let of_model = ask(model, &asked, &mut answers, number).await;
                if let Some(difference) = between(&queries[number], of_model, at_snapshot) {
                    problems.push(format!(
                        "the model differs from the snapshot at position {position} in {}: {difference}",
                        queries[number].expected
                    ));
                }
            }
        }
        let Some(steps) = steps.get(&moment) else { continue };
        compared.positions += 1;
        for (session, step) in steps {
            for (sub, shown) in step.shown.iter() {
                let number = query_of(sub);
                let Shown::Value(content) = shown else { continue };
                let mut wrong = |against: &str, answer: &Answer| {
                    if let Some(difference) = difference(&queries[number], content, answer) {
                        let query = &queries[number];
                        let is_change = step.changed.contains(sub);
                        problems.push(format!(
                            "{session}.{sub} ({}) at position {position}, {} (told just then: {is_change}), against \
                             {against}: {difference}\n    {}\n    {:?}",
                            query.kind, step.lsn, query.sql, query.args
                        ));
                    }
                };
                if queries[number].on_interval {
                    continue;
                }
                if let Some(answer) = samples.get(&moment).and_then(|sample| sample.get(&number)) {
                    compared.with_snapshots += 1;
                    wrong("its snapshot", answer);
                }
                let chance = if step.changed.contains(sub) { of_changed } else { of_all };
                if dice.percent(chance) {
                    compared.with_model += 1;
                    let answer = ask(model, &asked, &mut answers, number).await;
                    wrong("the model", answer);
                }
            }
            if problems.len() > 20 {
                return (compared, problems);
            }
        }
    }
    let rest: Vec<u64> = model.journaled().iter().copied().collect();
    model.apply(rest).await;
    (compared, problems)
}

async fn ask<'a>(
    model: &Model,
    asked: &[Asked],
    answers: &'a mut BTreeMap<usize, Answer>,
    number: usize,
) -> &'a Answer {
    match answers.entry(number) {
        Entry::Occupied(known) => known.into_mut(),
        Entry::Vacant(unknown) => {
            unknown.insert(asked[number].ask(model.client()).await.expect("the model's answer"))
        }
    }
}

fn between(query: &Query, left: &Answer, right: &Answer) -> Option<String> {
    let row = |row: &Vec<String>| Arc::new((String::new(), row.clone()));
    let content = Content {
        columns: left.names.iter().map(|name| (name.clone(), String::new())).collect(),
        rows: left.rows.iter().map(row).collect(),
    };
    difference(query, &content, right)
}

/// Returns, for each moment, the transactions that come to be in effect there.
///
/// Some are never in a stream, and are in effect from its beginning on: those that committed while there was none, which
/// its snapshots show; and those that wrote only to tables that were not published then, which is before anything was
/// read of them.
fn states(line: &[LineEntry], journaled: &BTreeSet<u64>) -> Vec<(Moment, Vec<u64>)> {
    let streams: Vec<&[LineEntry]> =
        line.split(|entry| matches!(entry, LineEntry::Started)).collect();
    let mut states = Vec::new();
    let mut last = 0;
    for (epoch, stream) in (0..).zip(&streams) {
        let is_last = epoch + 1 == streams.len() as u64;
        let applied = applied(stream);
        let newest = stream.iter().rev().find_map(|entry| match entry {
            LineEntry::Closed { mark } => Some(mark),
            _ => None,
        });
        let is_at_start = |xid: &u64| {
            let is_shown = newest.is_some_and(|mark| mark.shows(FullXid(*xid)));
            !applied.contains(xid) && (is_last || is_shown)
        };
        states.push(((epoch, last), journaled.iter().copied().filter(is_at_start).collect()));
        for entry in *stream {
            if let LineEntry::Applied { position, xid, .. } = entry {
                last = *position;
                states.push(((epoch, last), vec![*xid]));
            }
        }
    }
    states
}

fn applied(stream: &[LineEntry]) -> BTreeSet<u64> {
    let xid = |entry: &LineEntry| match entry {
        LineEntry::Applied { xid, .. } => Some(*xid),
        _ => None,
    };
    stream.iter().filter_map(xid).collect()
}

/// Returns the moments at which snapshots closed that do not all show the same: between them a transaction became visible
/// that is never in this stream, and of two samples of one moment nobody could say which has it. (It wrote to a table before
/// that was published, say, whose first readers wait for it; whoever reads no such table sees snapshots close meanwhile.)
fn shifting(line: &[LineEntry], journaled: &BTreeSet<u64>) -> BTreeSet<Moment> {
    let mut shifting = BTreeSet::new();
    let mut last = 0;
    for (epoch, stream) in (0..).zip(line.split(|entry| matches!(entry, LineEntry::Started))) {
        let applied = applied(stream);
        let mut shown: Option<BTreeSet<u64>> = None;
        for entry in stream {
            match entry {
                LineEntry::Applied { position, .. } => (last, shown) = (*position, None),
                LineEntry::Closed { mark } => {
                    let unstreamed = journaled.difference(&applied).copied();
                    let shows = unstreamed.filter(|xid| mark.shows(FullXid(*xid))).collect();
                    if shown.replace(shows).is_some_and(|before| shown.as_ref() != Some(&before)) {
                        shifting.insert((epoch, last));
                    }
                }
                LineEntry::Started => {}
            }
        }
    }
    shifting
}

/// Checks what `lsn` promises: whatever commits at or before it is in.
fn labels(line: &[LineEntry], subscribers: &[Subscriber]) -> Vec<String> {
    let mut ends: Vec<(Lsn, u64)> = line
        .iter()
        .filter_map(|entry| match entry {
            LineEntry::Applied { position, end_lsn, .. } => Some((*end_lsn, *position)),
            _ => None,
        })
        .collect();
    ends.sort_unstable();
    let mut highest = 0;
    for (_, position) in &mut ends {
        highest = highest.max(*position);
        *position = highest;
    }
    let mut problems = Vec::new();
    for subscriber in subscribers {
        for step in subscriber.steps() {
            let count = ends.partition_point(|(end, _)| *end <= step.lsn);
            let must = count.checked_sub(1).map_or(0, |last| ends[last].1);
            if must > step.position {
                problems.push(format!(
                    "{}: lsn {} at position {} promises what stands at {must}",
                    subscriber.name, step.lsn, step.position
                ));
            }
        }
    }
    problems.truncate(5);
    problems
}
