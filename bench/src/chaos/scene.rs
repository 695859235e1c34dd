//! What every case has: tables, a server, subscribers beside the flood, a prober, and somebody who looks at memory.

use super::Case;
use super::cases;
use super::prober::{Prober, latencies};
use super::report::{CaseReport, Latency, Parts};
use super::throttle::Throttle;
use super::watch::{Common, Watcher};
use crate::args::ChaosArgs;
use crate::clock::Stamp;
use crate::http;
use crate::process::{self, Memory};
use crate::progress::Progress;
use crate::serve::Serve;
use crate::target::Target;
use anyhow::Context;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::task::JoinHandle;

/// How often memory is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// The tables of a case: what is flooded, what is not, and the prober's row.
const TABLES: &str = "
    DROP TABLE IF EXISTS convoy_bench.items, convoy_bench.wide, convoy_bench.calm, convoy_bench.probe;
    CREATE TABLE convoy_bench.items (id int8 PRIMARY KEY, grp int4 NOT NULL, n int8 NOT NULL, note text NOT NULL);
    ALTER TABLE convoy_bench.items REPLICA IDENTITY FULL;
    INSERT INTO convoy_bench.items SELECT n, n % 20, 0, 'note ' || n FROM generate_series(1, 2000) n;
    CREATE INDEX ON convoy_bench.items (grp, id);
    CREATE TABLE convoy_bench.wide (id int8 PRIMARY KEY, n int8 NOT NULL, note text NOT NULL);
    ALTER TABLE convoy_bench.wide ALTER note SET STORAGE EXTERNAL;
    CREATE TABLE convoy_bench.calm (id int8 PRIMARY KEY, n int8 NOT NULL);
    INSERT INTO convoy_bench.calm SELECT n, n FROM generate_series(1, 100) n;
    CREATE TABLE convoy_bench.probe (id int8 PRIMARY KEY, seq int8 NOT NULL);
    INSERT INTO convoy_bench.probe VALUES (1, 0);";

/// What subscribers beside the flood see: kept from row changes, by rows and by groups; read again; and not concerned.
const BESIDE: [&str; 4] = [
    "select grp, count(*) as c, sum(n) as s from convoy_bench.items group by grp order by grp",
    "select i.grp, max(c.n) as m, count(*) as c from convoy_bench.items i join convoy_bench.calm c on c.id = i.grp \
     group by i.grp order by i.grp",
    "select id, n, length(note) as l from convoy_bench.wide order by id",
    "select id, n from convoy_bench.calm order by id",
];
/// Groups that have a subscriber to their first rows each.
const GROUPS: usize = 10;

/// A case's stage.
pub(super) struct Scene<'run> {
    pub(super) target: &'run Target,
    pub(super) args: &'run ChaosArgs,
    case: Case,
    progress: &'run Progress,
    serve: Serve,
    prober: Prober,
    looking: JoinHandle<Parts>,
    before: Memory,
    counters: Counters,
    pub(super) common: Arc<Common>,
    pub(super) watchers: Vec<Watcher>,
    stop_looking: tokio::sync::oneshot::Sender<()>,
}

/// What a case did, in words and a number.
pub(super) struct Done {
    pub(super) what: String,
    pub(super) from: Stamp,
    pub(super) to: Stamp,
}

impl<'run> Scene<'run> {
    /// Makes the tables, starts a server, and subscribes to what stands beside the flood.
    pub(super) async fn open(
        target: &'run Target,
        args: &'run ChaosArgs,
        case: Case,
        progress: &'run Progress,
    ) -> anyhow::Result<Self> {
        target.client().batch_execute(TABLES).await.context("could not make the tables")?;
        // No audit, which would mend what was lost before anybody sees it.
        let unaudited = ["--audit-interval", "0"].into_iter();
        let options: Vec<&str> =
            unaudited.chain(args.serve_options.iter().map(String::as_str)).collect();
        let serve = Serve::start_with(target.url_text(), &options).await?;
        let common = Arc::new(Common::default());
        let groups = (0..GROUPS).map(|group| {
            format!("select id, n, note from convoy_bench.items where grp = {group} order by id limit 50")
        });
        let watchers = BESIDE
            .map(str::to_owned)
            .into_iter()
            .chain(groups)
            .map(|sql| Watcher::start(serve.address(), &sql, Throttle::default(), &common));
        let watchers: Vec<_> = watchers.collect();
        for watcher in &watchers {
            watcher.answered().await.with_context(|| serve.last_words())?;
        }
        let prober = Prober::start(target.url_text(), serve.address()).await?;
        let before = process::memory(serve.pid()?)?;
        let (stop_looking, stopped) = tokio::sync::oneshot::channel();
        let looking = tokio::spawn(look(serve.address(), stopped));
        let counters = counters(serve.address()).await?;
        Ok(Scene {
            target,
            args,
            case,
            progress,
            serve,
            prober,
            looking,
            before,
            counters,
            common,
            watchers,
            stop_looking,
        })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.serve.address()
    }

    pub(super) fn say(&self, text: &str) {
        self.progress.say(&format!("{}: {text}", self.case.name()));
    }

    /// Lets quiet time pass, for the prober's figures without a flood.
    pub(super) async fn quiet(&self) {
        tokio::time::sleep(Duration::from_secs_f64(self.args.quiet)).await;
    }

    /// Plays the case, and compares. What went wrong is in the report.
    pub(super) async fn play(mut self) -> CaseReport {
        let mut report = CaseReport::new(self.case.name(), self.before.resident_bytes);
        if self.args.lose_one {
            self.common.loses_one.store(true, Ordering::Relaxed);
        }
        self.quiet().await;
        let case = self.case;
        let done = match cases::play(&mut self, case).await {
            Ok(done) => done,
            Err(error) => {
                report.faults.push(format!(
                    "{error:#}; convoy serve said last: {}",
                    self.serve.last_words()
                ));
                return report;
            }
        };
        report.what = done.what;
        self.say("comparing");
        match self.compare().await {
            Ok(faults) => report.faults.extend(faults),
            Err(error) => report.faults.push(format!("{error:#}")),
        }
        let right = Stamp::now();
        report.right_after_s = right.since(done.to) as f64 / 1e9;
        self.quiet().await;
        if let Err(error) = self.finish(&mut report, done.from, right).await {
            report.faults.push(format!("{error:#}"));
        }
        report
    }

    /// Returns where a subscriber does not show what Postgres says, by the time that patience has run out.
    async fn compare(&self) -> anyhow::Result<Vec<String>> {
        let mut expected: HashMap<&str, Vec<Map<String, Value>>> = HashMap::new();
        for watcher in &self.watchers {
            if !expected.contains_key(watcher.sql.as_str()) {
                expected.insert(&watcher.sql, rows(self.target, &watcher.sql).await?);
            }
        }
        let deadline = tokio::time::Instant::now() + Duration::from_secs_f64(self.args.patience);
        let mut faults = Vec::new();
        for (number, watcher) in self.watchers.iter().enumerate() {
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            let expected = expected.get(watcher.sql.as_str()).map_or(&[][..], Vec::as_slice);
            if let Err(difference) = watcher.shows(expected, left).await {
                faults.push(format!("subscriber {number} of {}: {difference}", watcher.sql));
            }
        }
        Ok(faults)
    }

    async fn finish(self, report: &mut CaseReport, from: Stamp, to: Stamp) -> anyhow::Result<()> {
        let probes = self.prober.finish().await?;
        let (quiet, during) = latencies(&probes, from, to);
        (report.quiet, report.during) = (Latency::of(&quiet), Latency::of(&during));
        report.probes = probes.len();
        let _ = self.stop_looking.send(());
        report.parts = self.looking.await?;
        let after = counters(self.serve.address()).await?;
        report.counted = after
            .into_iter()
            .map(|(name, value)| {
                let before = self.counters.get(&name).copied().unwrap_or(0.0);
                (name, value - before)
            })
            .filter(|(_, value)| *value != 0.0)
            .collect();
        let (snapshots, diffs) = self.watchers.iter().map(Watcher::counts).fold(
            (0, 0),
            |(snapshots, diffs), (more_snapshots, more_diffs)| {
                (snapshots + more_snapshots, diffs + more_diffs)
            },
        );
        (report.snapshots, report.diffs) = (snapshots, diffs);
        report.came_back = self.common.came_back.load(Ordering::Relaxed);
        report.refused = self.common.refused.load(Ordering::Relaxed);
        let subscribers = self.watchers.len();
        report.subscribers = subscribers;
        drop(self.watchers);
        let pid = self.serve.pid()?;
        // Settling takes seconds: where quiet is short, so is everything.
        let memory = match self.args.quiet < 1.0 {
            true => process::memory(pid)?,
            false => tokio::task::spawn_blocking(move || process::settled_memory(pid)).await??,
        };
        (report.peak_bytes, report.after_bytes) = (memory.peak_bytes, memory.resident_bytes);
        report.check_memory();
        self.serve.stop().await
    }
}

/// Returns a statement's rows as Convoy shows them.
async fn rows(target: &Target, sql: &str) -> anyhow::Result<Vec<Map<String, Value>>> {
    let sql = format!("SELECT to_jsonb(r)::text FROM ({sql}) r");
    let rows = target.client().query(&sql, &[]).await.with_context(|| sql.clone())?;
    rows.iter().map(|row| Ok(serde_json::from_str(row.try_get(0)?)?)).collect()
}

/// Counters by name.
type Counters = BTreeMap<String, f64>;

/// What is of interest of /metrics.
const COUNTED: [&str; 9] = [
    "streams_full",
    "streams_collapsed",
    "backlog_collapsed",
    "transactions_without_rows",
    "reads",
    "incremental_diffs",
    "stale_subscriptions",
    "replication_reconnects",
    "transactions",
];

async fn counters(address: SocketAddr) -> anyhow::Result<Counters> {
    let (_, text) = http::get(address, "/metrics").await?;
    let value = |name: &str| {
        let start = format!("convoy_{name}_total ");
        let line = text.lines().find_map(|line| line.strip_prefix(&start));
        (name.to_owned(), line.and_then(|value| value.trim().parse().ok()).unwrap_or(0.0))
    };
    Ok(COUNTED.into_iter().map(value).collect())
}

/// Looks at the parts of memory now and then; returns the most that each was, and its bound.
async fn look(address: SocketAddr, mut stopped: tokio::sync::oneshot::Receiver<()>) -> Parts {
    let mut parts = Parts::default();
    loop {
        // A server that is too busy to say so is looked at again.
        if let Ok((_, text)) = http::get(address, "/metrics").await {
            parts.take(&text);
        }
        tokio::select! {
            _ = &mut stopped => return parts,
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}
