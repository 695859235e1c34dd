//! `convoy bench memory`: what a live query costs, and how long it takes to subscribe many.
//!
//! Resident memory of the server, through the kernel's eyes: once one query has been answered, and once all are and it
//! has stopped changing. What the allocator keeps for itself counts. Everything that comes with the queries is charged
//! to them: sessions, results, the index. What the first query of a server brings with it once is not: code that runs
//! for the first time, connections to Postgres.

use crate::args::MemoryArgs;
use crate::http;
use crate::machine::Machine;
use crate::process::{self, Memory};
use crate::progress::Progress;
use crate::samples::Spread;
use crate::serve::Serve;
use crate::sse::{EventReader, Transition, Update};
use crate::table::{Table, head, number};
use crate::target::{DatabaseFacts, Target};
use anyhow::{Context, bail};
use convoy_postgres::launcher::Search;
use serde::Serialize;
use std::fmt::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// A query's rows: the key, the owner, and text; `ROW_BYTES` as JSON each.
const QUERY: &str = "select id, owner, note from convoy_bench.notes where owner = $1";
const ROW_BYTES: u32 = 100;
/// Goals: bytes a query over those of its rows, and seconds until all are subscribed.
const BYTES_MAX: f64 = 2.0 * 1024.0;
const SECONDS_MAX: f64 = 10.0;

/// How long subscribing may take at all.
const SUBSCRIBE_LIMIT: Duration = Duration::from_secs(300);

#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    database: DatabaseFacts,
    queries: u32,
    rows_per_query: u32,
    sessions: u32,
    query: &'static str,
    runs: Vec<Run>,
    bytes_per_query: Spread,
    bytes_per_query_over_rows: Spread,
    subscribe_seconds: Spread,
}

#[derive(Clone, Debug, Serialize)]
struct Run {
    before_bytes: u64,
    after_bytes: u64,
    /// The most that it was meanwhile.
    peak_bytes: u64,
    subscribe_seconds: f64,
    bytes_per_query: f64,
    /// Less the rows' own bytes.
    bytes_per_query_over_rows: f64,
}

/// Measures and prints the report.
pub(crate) async fn run(args: &MemoryArgs, search: Search) -> anyhow::Result<()> {
    if args.sessions > args.queries {
        bail!(
            "--sessions {} is more than --queries {}: a session needs a query",
            args.sessions,
            args.queries
        );
    }
    let machine = Machine::look();
    let progress = Progress::new();
    let target = Target::open(&args.target, search, &progress).await?;
    prepare(&target, args).await?;
    let mut runs = Vec::new();
    for number in 1..=args.runs.get() {
        progress.say(&format!("run {number} of {}: {} queries", args.runs, args.queries));
        target.await_quiet().await?;
        runs.push(measure(&target, args).await?);
    }
    let spread =
        |figure: fn(&Run) -> f64| Spread::of(runs.iter().map(figure).collect()).context("no runs");
    let report = Report {
        machine,
        database: target.facts.clone(),
        queries: args.queries.get(),
        sessions: args.sessions.get(),
        query: QUERY,
        rows_per_query: args.rows.get(),
        bytes_per_query: spread(|run| run.bytes_per_query)?,
        bytes_per_query_over_rows: spread(|run| run.bytes_per_query_over_rows)?,
        subscribe_seconds: spread(|run| run.subscribe_seconds)?,
        runs,
    };
    let leftovers = target.leftovers();
    target.finish().await?;
    drop(progress);
    match args.target.json {
        true => println!("{}", serde_json::to_string_pretty(&report)?),
        false => print!("{}", report.text(leftovers.as_deref())),
    }
    Ok(())
}

async fn prepare(target: &Target, args: &MemoryArgs) -> anyhow::Result<()> {
    let (queries, rows) = (args.queries, args.rows);
    let sql = format!(
        "CREATE TABLE convoy_bench.notes (id int8 PRIMARY KEY, owner int4 NOT NULL, note text NOT NULL);
         INSERT INTO convoy_bench.notes
           SELECT bare.id, bare.owner, repeat('x', {ROW_BYTES} - length(row_to_json(bare)::text))
           FROM generate_series(0, {queries}::int8 * {rows} - 1) n,
             LATERAL (SELECT n AS id, (n / {rows} + 1)::int4 AS owner, ''::text AS note) bare;
         CREATE INDEX ON convoy_bench.notes (owner)"
    );
    let client = target.client();
    client.batch_execute(&sql).await.context("could not make the tables")?;
    client.batch_execute("VACUUM ANALYZE convoy_bench.notes").await?;
    Ok(())
}

async fn measure(target: &Target, args: &MemoryArgs) -> anyhow::Result<Run> {
    let serve = Serve::start(target.url_text()).await?;
    let pid = serve.pid()?;
    let first = tokio::time::timeout(
        SUBSCRIBE_LIMIT,
        subscribe_session(serve.address(), 1..2, args.rows.get()),
    );
    drop(first.await.context("the first query was not answered")??);
    let before = settled(pid).await?;
    let begun = Instant::now();
    let subscribing = subscribe(serve.address(), args);
    let streams = tokio::time::timeout(SUBSCRIBE_LIMIT, subscribing).await;
    let limit = SUBSCRIBE_LIMIT.as_secs();
    let streams = streams
        .with_context(|| format!("subscribing took more than {limit} s"))
        .flatten()
        .with_context(|| format!("convoy serve said last:\n{}", serve.last_words()))?;
    let subscribe_seconds = begun.elapsed().as_secs_f64();
    let after = settled(pid).await?;
    // The sessions are open until here.
    drop(streams);
    serve.stop().await?;
    let grown = after.resident_bytes as f64 - before.resident_bytes as f64;
    let bytes_per_query = grown / f64::from(args.queries.get());
    Ok(Run {
        before_bytes: before.resident_bytes,
        after_bytes: after.resident_bytes,
        peak_bytes: after.peak_bytes,
        subscribe_seconds,
        bytes_per_query,
        bytes_per_query_over_rows: bytes_per_query - f64::from(args.rows.get() * ROW_BYTES),
    })
}

/// Opens all sessions at once and waits for every first answer.
async fn subscribe(address: SocketAddr, args: &MemoryArgs) -> anyhow::Result<Vec<EventReader>> {
    let mut sessions = tokio::task::JoinSet::new();
    for owners in shares(args.queries.get(), args.sessions.get()) {
        sessions.spawn(subscribe_session(address, owners, args.rows.get()));
    }
    let mut streams = Vec::new();
    while let Some(session) = sessions.join_next().await {
        streams.push(session??);
    }
    Ok(streams)
}

/// Spreads queries 1 to `queries` evenly.
fn shares(queries: u32, sessions: u32) -> impl Iterator<Item = std::ops::Range<u32>> {
    let edge = move |session: u32| {
        (u64::from(queries) * u64::from(session) / u64::from(sessions)) as u32 + 1
    };
    (0..sessions).map(move |session| edge(session)..edge(session + 1))
}

async fn subscribe_session(
    address: SocketAddr,
    owners: std::ops::Range<u32>,
    rows: u32,
) -> anyhow::Result<EventReader> {
    let mut missing = owners.len();
    let subscribe: Vec<_> = owners
        .map(|owner| serde_json::json!({"sub": owner.to_string(), "sql": QUERY, "params": [owner]}))
        .collect();
    let body = serde_json::json!({ "subscribe": subscribe }).to_string();
    let mut reader = EventReader::new(http::open_stream(address, "/api/sync", Some(body)).await?);
    while missing > 0 {
        let event = reader.next().await?.context("a stream ended before its first answers")?;
        match event.name.as_str() {
            "transition" => missing = missing.saturating_sub(answered(&event.data, rows)?),
            "goodbye" => bail!("the server says goodbye: {}", event.data),
            _ => {}
        }
    }
    Ok(reader)
}

/// Counts the first answers in a transition, which have so many rows each.
fn answered(data: &str, rows: u32) -> anyhow::Result<usize> {
    let mut answers = 0;
    for update in Transition::read(data)?.updates {
        match update {
            Update::Snapshot { value } if value.len() == rows as usize => answers += 1,
            Update::Snapshot { value } => bail!("a result has {} rows, not {rows}", value.len()),
            Update::Error { error } => bail!("a subscription failed: {error}"),
            other => bail!("a snapshot was expected, not {other:?}"),
        }
    }
    Ok(answers)
}

async fn settled(pid: u32) -> anyhow::Result<Memory> {
    tokio::task::spawn_blocking(move || process::settled_memory(pid)).await?
}

impl Report {
    fn text(&self, leftovers: Option<&str>) -> String {
        let mut lines = self.machine.lines();
        lines.extend(self.database.lines());
        let Report { queries, sessions, query, .. } = self;
        lines.push((
            "load",
            format!("{queries} live queries of one template over {sessions} sessions: {query}"),
        ));
        let rows = self.rows_per_query;
        lines.push(("", format!("{rows} rows each, {ROW_BYTES} bytes as JSON each")));
        let mut out = head("convoy bench memory", &lines);
        out.push('\n');
        let mib = |bytes: u64| format!("{:.1}", bytes as f64 / f64::from(1 << 20));
        let mut table = Table::new([
            "",
            "before MiB",
            "after MiB",
            "peak MiB",
            "bytes a query",
            "over its rows",
            "subscribed in s",
        ]);
        for (index, run) in self.runs.iter().enumerate() {
            table.row([
                format!("run {}", index + 1),
                mib(run.before_bytes),
                mib(run.after_bytes),
                mib(run.peak_bytes),
                number(run.bytes_per_query),
                number(run.bytes_per_query_over_rows),
                format!("{:.2}", run.subscribe_seconds),
            ]);
        }
        let (bytes, seconds) =
            (self.bytes_per_query_over_rows.median, self.subscribe_seconds.median);
        let none = || String::from("");
        table.row([
            "median".into(),
            none(),
            none(),
            none(),
            number(self.bytes_per_query.median),
            number(bytes),
            format!("{seconds:.2}"),
        ]);
        out.push_str(&table.render());
        let verdict = |is_met| if is_met { "met" } else { "missed" };
        // Writing to a String can't fail.
        let _ = write!(
            out,
            "\ngoal {:.0} KiB a query over its rows: {} ({:.1} KiB); goal {SECONDS_MAX:.0} s to subscribe: {} ({seconds:.2} s)\n",
            BYTES_MAX / 1024.0,
            verdict(bytes <= BYTES_MAX),
            bytes / 1024.0,
            verdict(seconds <= SECONDS_MAX),
        );
        if self.machine.is_busy() {
            let _ = writeln!(out, "the machine was busy: the time is no measure, the memory is");
        }
        if let Some(leftovers) = leftovers {
            let _ = writeln!(out, "{leftovers}");
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_spread_evenly_and_none_is_left_out() {
        let all: Vec<_> = shares(10_000, 10).collect();
        assert_eq!((all.first(), all.last()), (Some(&(1..1_001)), Some(&(9_001..10_001))));
        let uneven: Vec<u32> = shares(10, 3).flatten().collect();
        assert_eq!(uneven, (1..=10).collect::<Vec<_>>());
    }

    #[test]
    fn only_first_answers_with_all_rows_count() {
        let snapshot = |rows: &str| {
            format!(r#"{{"updates":[{{"sub":"1","type":"snapshot","value":[{rows}]}}]}}"#)
        };
        assert_eq!(answered(&snapshot(r#"{"id":1}"#), 1).expect("one row"), 1);
        assert_eq!(answered(r#"{"updates":[]}"#, 1).expect("a heartbeat"), 0);
        assert!(answered(&snapshot(""), 1).is_err());
        assert!(
            answered(r#"{"updates":[{"sub":"1","type":"error","final":true,"error":{}}]}"#, 1)
                .is_err()
        );
    }
}
