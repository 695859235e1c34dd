//! `convoy bench refresh`: what it takes to read many invalidated live queries of one template again, as few statements
//! or as one each.
//!
//! One row that all of them join is changed, so one commit invalidates them all. The time runs from COMMIT's return to
//! the last new result on the subscriber's socket: the stream, the matching, the reads, the diffs and their frames are in
//! it, on both sides alike. The statements are those that the server counts.

use crate::args::RefreshArgs;
use crate::clock::Stamp;
use crate::http;
use crate::machine::Machine;
use crate::progress::Progress;
use crate::samples::{Spread, median};
use crate::serve::Serve;
use crate::sse::{EventReader, Transition, Update};
use crate::table::{Table, head, number};
use crate::target::{DatabaseFacts, Target};
use anyhow::{Context, bail};
use convoy_postgres::launcher::Search;
use serde::Serialize;
use std::fmt::Write;
use std::time::Duration;

/// A query: a sum over a tenant's rows, with a factor that all share. Its result has the number of the commit in it.
const QUERY: &str = "select count(*) as orders, sum(o.amount * r.factor) as total, max(r.seq) as seq \
     from convoy_bench.orders o cross join convoy_bench.rate r where o.tenant = $1";
/// The same for many tenants, as somebody would write it who has a connection and nothing else.
const BARE_TOGETHER: &str = "select b.tenant, q.* from unnest($1::int4[]) as b(tenant) cross join lateral \
     (select count(*)::text, sum(o.amount * r.factor)::text, max(r.seq)::text \
      from convoy_bench.orders o cross join convoy_bench.rate r where o.tenant = b.tenant) q";
const BARE_SINGLE: &str = "select count(*)::text, sum(o.amount * r.factor)::text, max(r.seq)::text \
     from convoy_bench.orders o cross join convoy_bench.rate r where o.tenant = $1";
/// Goals: how many times fewer statements, and how many times faster.
const STATEMENTS_MIN: f64 = 20.0;
const TIME_MIN: f64 = 5.0;
/// Subscriptions of one session; the server has a bound.
const SUBSCRIPTIONS: u32 = 1_000;
/// Refreshes before those that count: connections open, statements are prepared.
const WARM_UP: u32 = 3;
/// How long one refresh may take.
const REFRESH_LIMIT: Duration = Duration::from_secs(120);

#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    database: DatabaseFacts,
    queries: u32,
    rows: u32,
    refreshes: u32,
    query: &'static str,
    batched: Side,
    singly: Side,
    /// One statement each ÷ together, pair by pair.
    statements_ratio: Spread,
    time_ratio: Spread,
    bare_together_ms: Spread,
    bare_singly_ms: Spread,
}

/// One way to read.
#[derive(Debug, Serialize)]
struct Side {
    /// Statements a refresh.
    statements: Spread,
    /// From COMMIT's return to the last new result; each pair's median.
    refresh_ms: Spread,
}

/// One phase of a pair.
#[derive(Clone, Copy, Debug)]
struct Phase {
    statements: f64,
    refresh_ms: f64,
}

/// What was measured in one pair.
#[derive(Clone, Copy, Debug)]
struct Pair {
    batched: Phase,
    singly: Phase,
    bare_together_ms: f64,
    bare_singly_ms: f64,
}

/// How results are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// As the server does by itself.
    Together,
    /// `--batch-max 1`.
    Singly,
}

/// Measures and prints the report.
pub(crate) async fn run(args: &RefreshArgs, search: Search) -> anyhow::Result<()> {
    let machine = Machine::look();
    let progress = Progress::new();
    let target = Target::open(&args.target, search, &progress).await?;
    prepare(&target, args.queries.get(), args.rows.get()).await?;
    let mut pairs = Vec::new();
    let mut seq = 0;
    for number in 1..=args.pairs.get() {
        // The order turns round from pair to pair.
        let mut ways = [Way::Together, Way::Singly];
        if number % 2 == 0 {
            ways.reverse();
        }
        let mut phases = Vec::new();
        for way in ways {
            progress.say(&format!("pair {number} of {}: {way:?}", args.pairs));
            target.await_quiet().await?;
            phases.push((way, measure(&target, args, way, &mut seq).await?));
        }
        let of = |wanted| phases.iter().find(|(way, _)| *way == wanted).map(|(_, phase)| *phase);
        target.await_quiet().await?;
        let (bare_together_ms, bare_singly_ms) = bare(&target, args.queries.get()).await?;
        pairs.push(Pair {
            batched: of(Way::Together).context("a phase")?,
            singly: of(Way::Singly).context("a phase")?,
            bare_together_ms,
            bare_singly_ms,
        });
    }
    let report = Report::of(machine, &target, args, &pairs).context("no pairs")?;
    let leftovers = target.leftovers();
    target.finish().await?;
    drop(progress);
    match args.target.json {
        true => println!("{}", serde_json::to_string_pretty(&report)?),
        false => print!("{}", report.text(leftovers.as_deref())),
    }
    Ok(())
}

async fn prepare(target: &Target, queries: u32, rows: u32) -> anyhow::Result<()> {
    let sql = format!(
        "CREATE TABLE convoy_bench.orders (id int8 PRIMARY KEY, tenant int4 NOT NULL, amount numeric NOT NULL);
         INSERT INTO convoy_bench.orders
           SELECT n, n / {rows}, n % 1000 FROM generate_series(0, {queries}::int8 * {rows} - 1) n;
         CREATE INDEX ON convoy_bench.orders (tenant);
         CREATE TABLE convoy_bench.rate (id int4 PRIMARY KEY, factor numeric NOT NULL, seq int8 NOT NULL);
         INSERT INTO convoy_bench.rate VALUES (1, 1, 0)"
    );
    let client = target.client();
    client.batch_execute(&sql).await.context("could not make the tables")?;
    client.batch_execute("VACUUM ANALYZE convoy_bench.orders, convoy_bench.rate").await?;
    Ok(())
}

/// Starts a server, subscribes, and invalidates everything again and again.
async fn measure(
    target: &Target,
    args: &RefreshArgs,
    way: Way,
    seq: &mut i64,
) -> anyhow::Result<Phase> {
    let options: &[&str] = match way {
        Way::Together => &[],
        Way::Singly => &["--batch-max", "1"],
    };
    let serve = Serve::start_with(target.url_text(), options).await?;
    let said = |error: anyhow::Error| {
        error.context(format!("convoy serve said last:\n{}", serve.last_words()))
    };
    let mut sessions = Vec::new();
    let mut first = 0;
    while first < args.queries.get() {
        let next = args.queries.get().min(first + SUBSCRIPTIONS);
        sessions.push(subscribe(&serve, first..next).await.map_err(said)?);
        first = next;
    }
    let (mut times, mut statements_before) = (Vec::new(), 0.0);
    for round in 0..WARM_UP + args.refreshes.get() {
        if round == WARM_UP {
            statements_before = statements(&serve).await?;
        }
        let refreshed = refresh(target, &mut sessions, seq);
        let refreshed = tokio::time::timeout(REFRESH_LIMIT, refreshed).await;
        let limit = REFRESH_LIMIT.as_secs();
        let refreshed = refreshed.with_context(|| format!("a refresh took more than {limit} s"));
        let time = refreshed.flatten().map_err(said)?;
        if round >= WARM_UP {
            times.push(time);
        }
    }
    let statements = statements(&serve).await? - statements_before;
    drop(sessions);
    serve.stop().await?;
    Ok(Phase {
        statements: statements / f64::from(args.refreshes.get()),
        refresh_ms: median(&times).context("no refreshes")?,
    })
}

/// A session, and how many queries it has.
struct Session {
    reader: EventReader,
    queries: usize,
}

async fn subscribe(serve: &Serve, tenants: std::ops::Range<u32>) -> anyhow::Result<Session> {
    let queries = tenants.len();
    let subscribe: Vec<_> = tenants
        .map(|tenant| {
            serde_json::json!({"sub": tenant.to_string(), "sql": QUERY, "params": [tenant]})
        })
        .collect();
    let body = serde_json::json!({ "subscribe": subscribe }).to_string();
    let body = http::open_stream(serve.address(), "/api/sync", Some(body)).await?;
    let mut session = Session { reader: EventReader::new(body), queries };
    let mut missing = queries;
    while missing > 0 {
        let event = session.next().await?;
        let snapshots = Transition::read(&event.data)?.updates;
        let answers = snapshots.iter().filter(|update| matches!(update, Update::Snapshot { .. }));
        missing = missing.saturating_sub(answers.count());
    }
    Ok(session)
}

impl Session {
    /// Waits for the next transition.
    async fn next(&mut self) -> anyhow::Result<crate::sse::Event> {
        loop {
            let event = self.reader.next().await?.context("a stream ended")?;
            match event.name.as_str() {
                "transition" => return Ok(event),
                "goodbye" => bail!("the server says goodbye: {}", event.data),
                _ => {}
            }
        }
    }

    /// Waits until each of its queries shows this commit. Returns when the last one did.
    async fn shows(&mut self, seq: i64) -> anyhow::Result<Stamp> {
        let mut missing = self.queries;
        loop {
            let event = self.next().await?;
            for update in Transition::read(&event.data)?.updates {
                if let Update::Error { error } = &update {
                    bail!("a subscription failed: {error}");
                }
                missing = missing.saturating_sub(
                    update.sequences().iter().filter(|shown| **shown == seq).count(),
                );
            }
            if missing == 0 {
                return Ok(event.at);
            }
        }
    }
}

/// Invalidates everything; returns how long it took until all of it was new, in milliseconds.
async fn refresh(target: &Target, sessions: &mut [Session], seq: &mut i64) -> anyhow::Result<f64> {
    *seq += 1;
    let sql = "UPDATE convoy_bench.rate SET factor = 1 + $1::int8 % 7, seq = $1";
    target.client().execute(sql, &[&*seq]).await.context("could not write")?;
    let returned = Stamp::now();
    let mut last = returned;
    for shown in futures_util::future::join_all(sessions.iter_mut().map(|s| s.shows(*seq))).await {
        last = last.max(shown?);
    }
    Ok(last.since(returned) as f64 / 1e6)
}

/// Returns how many statements the server has run to read results.
async fn statements(serve: &Serve) -> anyhow::Result<f64> {
    const NAME: &str = "convoy_read_statements_total ";
    let (_, text) = http::get(serve.address(), "/metrics").await?;
    let line = text.lines().find_map(|line| line.strip_prefix(NAME));
    line.with_context(|| format!("no {NAME}in /metrics"))?.trim().parse().context("a number")
}

/// Reads the same results over one connection of our own, together and one by one but all on their way at once. Returns
/// both times in milliseconds.
async fn bare(target: &Target, queries: u32) -> anyhow::Result<(f64, f64)> {
    let client = target.client();
    let (together, single) =
        (client.prepare(BARE_TOGETHER).await?, client.prepare(BARE_SINGLE).await?);
    let tenants: Vec<i32> = (0..queries).map(u32::cast_signed).collect();
    let (mut times_together, mut times_singly) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        let begun = Stamp::now();
        let rows = client.query(&together, &[&tenants]).await?;
        times_together.push(Stamp::now().since(begun) as f64 / 1e6);
        let begun = Stamp::now();
        let mut read = 0;
        for tenants in tenants.chunks(1_000) {
            let reads = tenants.iter().map(|tenant| async {
                let tenant: &(dyn tokio_postgres::types::ToSql + Sync) = tenant;
                client.query(&single, &[tenant]).await
            });
            for rows in futures_util::future::join_all(reads).await {
                read += rows?.len();
            }
        }
        times_singly.push(Stamp::now().since(begun) as f64 / 1e6);
        if rows.len() != read {
            bail!("the bare statements give {} and {read} rows", rows.len());
        }
    }
    let middle = |times: &[f64]| median(times).context("no times");
    Ok((middle(&times_together)?, middle(&times_singly)?))
}

impl Report {
    fn of(machine: Machine, target: &Target, args: &RefreshArgs, pairs: &[Pair]) -> Option<Report> {
        let spread = |figure: &dyn Fn(&Pair) -> f64| Spread::of(pairs.iter().map(figure).collect());
        let side = |phase: &dyn Fn(&Pair) -> Phase| {
            Some(Side {
                statements: spread(&|pair| phase(pair).statements)?,
                refresh_ms: spread(&|pair| phase(pair).refresh_ms)?,
            })
        };
        Some(Report {
            machine,
            database: target.facts.clone(),
            queries: args.queries.get(),
            rows: args.rows.get(),
            refreshes: args.refreshes.get(),
            query: QUERY,
            batched: side(&|pair| pair.batched)?,
            singly: side(&|pair| pair.singly)?,
            statements_ratio: spread(&|pair| pair.singly.statements / pair.batched.statements)?,
            time_ratio: spread(&|pair| pair.singly.refresh_ms / pair.batched.refresh_ms)?,
            bare_together_ms: spread(&|pair| pair.bare_together_ms)?,
            bare_singly_ms: spread(&|pair| pair.bare_singly_ms)?,
        })
    }

    fn text(&self, leftovers: Option<&str>) -> String {
        let mut lines = self.machine.lines();
        lines.extend(self.database.lines());
        let Report { queries, rows, refreshes, query, .. } = self;
        lines.push(("load", format!("{queries} live queries of one template: {query}")));
        lines.push((
            "",
            format!(
                "over {rows} rows each; all invalidated by each of {refreshes} commits in a phase"
            ),
        ));
        let mut out = head("convoy bench refresh", &lines);
        out.push('\n');
        let mut table = Table::new([
            "",
            "statements",
            "refresh ms",
            "statements singly",
            "refresh ms singly",
            "fewer",
            "faster",
            "bare ms",
            "bare singly",
        ]);
        let cells = |of: &dyn Fn(&Spread) -> f64| {
            [
                &self.batched.statements,
                &self.batched.refresh_ms,
                &self.singly.statements,
                &self.singly.refresh_ms,
                &self.statements_ratio,
                &self.time_ratio,
                &self.bare_together_ms,
                &self.bare_singly_ms,
            ]
            .map(|spread| number(of(spread)))
        };
        let mut row = |name: String, of: &dyn Fn(&Spread) -> f64| {
            let [a, b, c, d, e, f, g, h] = cells(of);
            table.row([name, a, b, c, d, e, f, g, h]);
        };
        for pair in 0..self.time_ratio.pairs.len() {
            row(format!("pair {}", pair + 1), &|spread| {
                spread.pairs.get(pair).copied().unwrap_or_default()
            });
        }
        row("median".to_owned(), &|spread| spread.median);
        out.push_str(&table.render());
        let (fewer, faster) = (self.statements_ratio.median, self.time_ratio.median);
        let verdict = |is_met| if is_met { "met" } else { "missed" };
        // Writing to a String can't fail.
        let _ = write!(
            out,
            "\ngoal {STATEMENTS_MIN:.0}× fewer statements: {} ({fewer:.0}×); goal {TIME_MIN:.0}× faster: {} ({faster:.1}×)\n",
            verdict(fewer >= STATEMENTS_MIN),
            verdict(faster >= TIME_MIN),
        );
        if self.machine.is_busy() {
            let _ = writeln!(out, "the machine was busy: the ratios say more than the times");
        }
        if let Some(leftovers) = leftovers {
            let _ = writeln!(out, "{leftovers}");
        }
        out
    }
}
