//! `convoy bench latency`: from COMMIT to a subscriber, against a bare replication client.
//!
//! Each pair has three phases of the same load, in an order that turns round from pair to pair: the bare client alone,
//! Convoy alone, and both at once. *Apart*, neither side pays for the other's walsender, which decodes every commit
//! once more; *together*, both receive the very same commits. Each phase has new processes, so that nothing of one is
//! left to the next but the table.

mod matching;
mod report;

use crate::args::LatencyArgs;
use crate::http::percent_encoded;
use crate::machine::Machine;
use crate::process::cpu_seconds;
use crate::progress::Progress;
use crate::serve::Serve;
use crate::target::Target;
use crate::worker::{Commits, GRACE, Job, Received, Worker, WriteJob, Written};
use anyhow::Context;
use convoy_postgres::launcher::Search;
use matching::Trace;
use report::{Comparison, RateReport, Report, Workload};
use std::num::NonZeroU32;
use std::time::Duration;

/// Rows a tenant, as in the comparisons with peers: a first answer is no single row, nor large.
const ROWS_PER_TENANT: i64 = 100;
/// The bare client's own publication: nothing of Convoy's is needed to receive commits.
const PUBLICATION: &str = "convoy_bench";
/// What a commit does.
const STATEMENT: &str = "UPDATE convoy_bench.orders SET seq = {seq} WHERE id = {id}";
/// What a subscriber sees.
const QUERY: &str = "select id, status, seq from convoy_bench.orders where tenant = $1 order by id";
/// How long the writer may need beyond its schedule: a second a second.
const WRITER_SLACK: Duration = Duration::from_secs(60);

/// Who is attached in a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attached {
    Bare,
    Convoy,
    Both,
}

impl Attached {
    fn words(self) -> &'static str {
        match self {
            Attached::Bare => "the bare client alone",
            Attached::Convoy => "Convoy alone",
            Attached::Both => "both",
        }
    }
}

/// Measures and prints the report.
pub(crate) async fn run(args: &LatencyArgs, search: Search) -> anyhow::Result<()> {
    let machine = Machine::look();
    let progress = Progress::new();
    let target = Target::open(&args.target, search, &progress).await?;
    prepare(&target, args.subscribers).await?;

    let mut bench = Bench { target: &target, args, next_seq: 1 };
    let mut rates = Vec::new();
    for rate in &args.rates {
        let (mut alone_bare, mut alone_convoy, mut both) = (Vec::new(), Vec::new(), Vec::new());
        for pair in 0..args.pairs.get() {
            let mut order = [Attached::Bare, Attached::Both, Attached::Convoy];
            if pair % 2 == 1 {
                order.reverse();
            }
            for attached in order {
                let (number, pairs) = (pair + 1, args.pairs);
                progress.say(&format!(
                    "{rate} commits/s, pair {number} of {pairs}: {}",
                    attached.words()
                ));
                let trace = bench.phase(*rate, attached).await;
                let trace =
                    trace.with_context(|| format!("{rate} commits/s with {}", attached.words()))?;
                match attached {
                    Attached::Bare => alone_bare.push(trace),
                    Attached::Convoy => alone_convoy.push(trace),
                    Attached::Both => both.push(trace),
                }
            }
        }
        let no_samples = "nothing was measured: --seconds is too short for this rate";
        rates.push(RateReport {
            commits_per_second: rate.get(),
            apart: Comparison::of(&alone_bare, &alone_convoy).context(no_samples)?,
            together: Comparison::of(&both, &both).context(no_samples)?,
        });
    }

    let workload = Workload {
        connections: args.connections.get(),
        subscribers: args.subscribers.get(),
        pairs: args.pairs.get(),
        seconds: args.seconds.get(),
        warm_up_seconds: args.warm_up,
        statement: STATEMENT.to_owned(),
        query: QUERY.to_owned(),
    };
    let report = Report { machine, database: target.facts.clone(), workload, rates };
    let leftovers = target.leftovers();
    target.finish().await?;
    drop(progress);
    match args.target.json {
        true => println!("{}", serde_json::to_string_pretty(&report)?),
        false => print!("{}", report.text(leftovers.as_deref())),
    }
    Ok(())
}

async fn prepare(target: &Target, subscribers: NonZeroU32) -> anyhow::Result<()> {
    let rows = i64::from(subscribers.get()) * ROWS_PER_TENANT;
    let sql = format!(
        "CREATE TABLE convoy_bench.orders
           (id int8 PRIMARY KEY, tenant int4 NOT NULL, status text NOT NULL, seq int8 NOT NULL);
         INSERT INTO convoy_bench.orders SELECT n, n / {ROWS_PER_TENANT}, 'open', 0 FROM generate_series(0, {rows} - 1) n;
         CREATE INDEX ON convoy_bench.orders (tenant);
         CREATE PUBLICATION {PUBLICATION} FOR TABLE convoy_bench.orders"
    );
    let client = target.client();
    client.batch_execute(&sql).await.context("could not make the tables")?;
    client.batch_execute("VACUUM ANALYZE convoy_bench.orders").await?;
    Ok(())
}

struct Bench<'run> {
    target: &'run Target,
    args: &'run LatencyArgs,
    /// The number of the next phase's first commit.
    next_seq: i64,
}

impl Bench<'_> {
    async fn phase(&mut self, rate: NonZeroU32, attached: Attached) -> anyhow::Result<Trace> {
        let warm_up = self.args.warm_up as usize * rate.get() as usize;
        let count = warm_up + self.args.seconds.get() as usize * rate.get() as usize;
        let commits = Commits { first: self.next_seq, count };
        self.next_seq += i64::try_from(count)?;
        self.target.await_quiet().await?;

        let mut serve = None;
        let mut subscribers = None;
        if attached != Attached::Bare {
            let started = Serve::start(self.target.url_text()).await?;
            let (address, paths) = (started.address(), self.paths());
            let job = Job::Subscribe { address, paths, commits };
            subscribers = Some(worker_or_last_words("subscribers", &job, &started).await?);
            serve = Some(started);
        }
        let mut bare = None;
        if attached != Attached::Convoy {
            let (database_url, publication) =
                (self.target.url_text().to_owned(), PUBLICATION.to_owned());
            bare = Some(
                Worker::start("bare client", &Job::Receive { database_url, publication, commits })
                    .await?,
            );
        }
        let mut writer =
            Worker::start("writer", &Job::Write(self.write_job(rate, commits))).await?;

        let cpu_before = serve.as_ref().map(|serve| cpu_seconds(serve.pid()?)).transpose()?;
        writer.order("go").await?;
        let scheduled = Duration::from_secs(count as u64 / u64::from(rate.get()));
        let written: Written = writer.result(scheduled * 2 + WRITER_SLACK).await?;
        let bare = received(bare).await?;
        let sse = received(subscribers).await?;
        let cpu_after = serve.as_ref().map(|serve| cpu_seconds(serve.pid()?)).transpose()?;
        if let Some(serve) = serve {
            serve.stop().await?;
        }
        let cpu_us_per_commit =
            cpu_before.zip(cpu_after).map(|(before, after)| (after - before) * 1e6 / count as f64);
        Trace::new(written, bare, sse, warm_up, cpu_us_per_commit)
    }

    fn paths(&self) -> Vec<String> {
        let sql = percent_encoded(QUERY);
        (0..self.args.subscribers.get())
            .map(|tenant| {
                format!("/api/sql?sql={sql}&params={}", percent_encoded(&format!("[{tenant}]")))
            })
            .collect()
    }

    fn write_job(&self, rate: NonZeroU32, commits: Commits) -> WriteJob {
        WriteJob {
            database_url: self.target.url_text().to_owned(),
            statement: STATEMENT.to_owned(),
            commits,
            interval_ns: 1_000_000_000 / u64::from(rate.get()),
            connections: self.args.connections.get() as usize,
            tenants: i64::from(self.args.subscribers.get()),
            rows_per_tenant: ROWS_PER_TENANT,
        }
    }
}

/// Starts a worker that speaks with the server, and shows what the server said if that fails.
async fn worker_or_last_words(
    name: &'static str,
    job: &Job,
    serve: &Serve,
) -> anyhow::Result<Worker> {
    Worker::start(name, job)
        .await
        .with_context(|| format!("convoy serve said last:\n{}", serve.last_words()))
}

/// Tells a receiver that the writer is done, and waits for what it has received.
async fn received(worker: Option<Worker>) -> anyhow::Result<Option<Received>> {
    let Some(mut worker) = worker else { return Ok(None) };
    worker.stop().await;
    Ok(Some(worker.result(GRACE * 2).await?))
}
