//! What is counted, and how it is told to Prometheus. Names and units are constants here and nowhere else.

use crate::app::App;
use bytes::Bytes;
use convoy_engine::{Counters as EngineCounters, EngineStatus};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const PREFIX: &str = "convoy";
const READY: &str = "ready";
const LAG: &str = "replication_lag";
const LAG_AGE: &str = "replication_lag_age";
const RETAINED: &str = "replication_slot_retained";
const BLOCKERS: &str = "replication_slot_blockers";
const RECONNECTS: &str = "replication_reconnects";
const LIVE_QUERIES: &str = "live_queries";
const IDENTITIES_WATCHED: &str = "identities_watched";
const LIVE_QUERY_MEMORY: &str = "live_query_memory";
const LIVE_QUERY_MEMORY_LIMIT: &str = "live_query_memory_limit";
const DIRTY_QUERIES: &str = "dirty_queries";
const TEMPLATES: &str = "query_templates";
const SESSIONS: &str = "sessions";
const STREAMS: &str = "streams";
const SUBSCRIPTIONS: &str = "subscriptions";
const READS_RUNNING: &str = "reads_running";
const BACKLOG: &str = "backlog";
const BACKLOG_EVENTS: &str = "backlog_events";
const TRANSACTIONS: &str = "transactions";
const CHANGES: &str = "row_changes";
const TOUCHES: &str = "query_touches";
const DIFFS: &str = "incremental_diffs";
const READS: &str = "reads";
const READ_STATEMENTS: &str = "read_statements";
const READS_BATCHED: &str = "reads_batched";
const READS_UNCHANGED: &str = "reads_unchanged";
const TRANSITIONS: &str = "transitions";
const STALE: &str = "stale_subscriptions";
const SNAPSHOTS_RETAKEN: &str = "snapshots_retaken";
const AUDITS: &str = "audits";
const AUDIT_MISMATCHES: &str = "audit_mismatches";
const WAKE_UPS: &str = "wake_ups";
const WAKE_UPS_FOR_NOTHING: &str = "wake_ups_for_nothing";
const WAKE_UPS_KEPT_ONLY: &str = "wake_ups_kept_only";
const TABLE_WAKE_UPS: &str = "table_wake_ups";
const TABLE_WAKE_UPS_FOR_NOTHING: &str = "table_wake_ups_for_nothing";
const TABLE_WAKE_UPS_KEPT_ONLY: &str = "table_wake_ups_kept_only";
const SENT: &str = "sent";
const FRAMES: &str = "frames_sent";
const MEMORY: &str = "memory";
const MEMORY_LIMIT: &str = "memory_limit";
const STREAMS_COLLAPSED: &str = "streams_collapsed";
const STREAMS_FULL: &str = "streams_full";
const BACKLOG_COLLAPSED: &str = "backlog_collapsed";
const WITHOUT_ROWS: &str = "transactions_without_rows";
/// Not ours: what every process that Prometheus knows is asked for.
const RESIDENT: &str = "process_resident_memory";

/// How far back rates look.
const RATE_WINDOW: Duration = Duration::from_secs(10);

/// What streams count.
#[derive(Debug, Default)]
pub struct Counters {
    frames: AtomicU64,
    bytes: AtomicU64,
}

impl Counters {
    /// Counts what was handed to connections.
    pub fn sent(&self, frames: &[Bytes]) {
        self.frames.fetch_add(frames.len() as u64, Ordering::Relaxed);
        self.bytes
            .fetch_add(frames.iter().map(|frame| frame.len() as u64).sum(), Ordering::Relaxed);
    }
}

/// What happened each second, of late.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// Transactions applied.
    pub transactions: f64,
    /// Row changes matched.
    pub changes: f64,
    /// Transitions sent.
    pub transitions: f64,
    /// Results read.
    pub reads: f64,
}

/// What is counted.
#[derive(Debug, Default)]
pub struct Metrics {
    counters: Arc<Counters>,
    samples: Mutex<VecDeque<(Instant, EngineCounters)>>,
}

impl Metrics {
    /// Returns what streams count with.
    pub fn counters(&self) -> Arc<Counters> {
        self.counters.clone()
    }

    /// Remembers where the engine's counters stand, for rates. Call it each second.
    pub fn sample(&self, now: Instant, counters: EngineCounters) {
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        samples.push_back((now, counters));
        while samples.front().is_some_and(|(at, _)| now.duration_since(*at) > RATE_WINDOW) {
            samples.pop_front();
        }
    }

    /// Returns what happened each second of the last ten.
    pub fn rates(&self, now: Instant) -> Rates {
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let (Some((since, first)), Some((until, last))) = (samples.front(), samples.back()) else {
            return Rates::default();
        };
        let seconds = until.duration_since(*since).as_secs_f64();
        if seconds <= 0.0 || now.duration_since(*until) > RATE_WINDOW {
            return Rates::default();
        }
        let rate = |first: u64, last: u64| last.saturating_sub(first) as f64 / seconds;
        Rates {
            transactions: rate(first.transactions, last.transactions),
            changes: rate(first.changes, last.changes),
            transitions: rate(first.transitions, last.transitions),
            reads: rate(first.reads, last.reads),
        }
    }

    /// Returns everything as text.
    pub fn encode(&self, app: &App, status: Option<&EngineStatus>) -> String {
        let lag = app.lag.view(Instant::now());
        let (sessions, streams) = app.sessions.count();
        let (events, bytes) = app.queue.backlog();
        let mut text = Text(Registry::with_prefix(PREFIX));
        text.gauge(
            READY,
            "Whether requests should be sent here (1) or not (0)",
            u64::from(lag.is_ready),
        );
        text.gauge_in(LAG, "WAL received and not yet applied", Unit::Bytes, lag.lag_bytes as f64);
        text.gauge_in(
            LAG_AGE,
            "Age of the oldest change that is not applied",
            Unit::Seconds,
            lag.lag.as_secs_f64(),
        );
        if let Some(retained) = lag.retained_bytes {
            text.gauge_in(
                RETAINED,
                "WAL that the server keeps for the slot",
                Unit::Bytes,
                retained as f64,
            );
        }
        text.gauge(
            BLOCKERS,
            "Open transactions that a slot which is being made waits for",
            lag.blockers as u64,
        );
        text.counter(RECONNECTS, "Times that the stream was lost", lag.reconnects);
        text.gauge(SESSIONS, "Sessions", sessions as u64);
        text.gauge(STREAMS, "Streams that are open", streams as u64);
        text.gauge(BACKLOG_EVENTS, "Events that wait for the engine", events as u64);
        text.gauge_in(BACKLOG, "Row changes that wait for the engine", Unit::Bytes, bytes as f64);
        text.counter(
            FRAMES,
            "Pieces of streams handed to connections",
            self.counters.frames.load(Ordering::Relaxed),
        );
        text.counter_in(
            SENT,
            "Bytes of streams handed to connections",
            Unit::Bytes,
            self.counters.bytes.load(Ordering::Relaxed),
        );
        text.memory(app, status);
        text.counter(
            STREAMS_FULL,
            "Times that a client's queue was full: what came meanwhile was told together",
            app.sessions.memory().filled(),
        );
        text.counter(
            STREAMS_COLLAPSED,
            "Times that what waited for a client gave way to a snapshot for want of memory",
            app.sessions.memory().collapsed(),
        );
        let collapsed = status.map_or(0, |status| status.counters.collapsed);
        text.counter(
            BACKLOG_COLLAPSED,
            "Transactions whose rows gave way to the tables that they touched while they waited",
            app.queue.collapsed() + collapsed,
        );
        let reads = app.database.read_counters();
        text.counter(READ_STATEMENTS, "Statements run to read results", reads.statements());
        text.counter(
            READS_BATCHED,
            "Results read by statements that read several",
            reads.batched(),
        );
        if let Some(status) = status {
            let counters = &status.counters;
            text.gauge(LIVE_QUERIES, "Live queries", status.live_queries as u64);
            text.gauge(
                IDENTITIES_WATCHED,
                "Live queries that watch who sessions belong to (createContext)",
                status.identities_watched as u64,
            );
            text.gauge_in(
                LIVE_QUERY_MEMORY,
                "What live queries take, estimated",
                Unit::Bytes,
                status.memory_bytes as f64,
            );
            text.gauge_in(
                LIVE_QUERY_MEMORY_LIMIT,
                "What live queries may take (--memory-results)",
                Unit::Bytes,
                status.memory_bytes_max as f64,
            );
            text.gauge(
                DIRTY_QUERIES,
                "Live queries that wait to be read",
                status.dirty_queries as u64,
            );
            text.gauge(TEMPLATES, "Statements analysed", status.templates as u64);
            text.gauge(SUBSCRIPTIONS, "Subscriptions", status.subscriptions as u64);
            text.gauge(READS_RUNNING, "Reads under way", status.reads as u64);
            text.counter(TRANSACTIONS, "Transactions applied", counters.transactions);
            text.counter(
                WITHOUT_ROWS,
                "Transactions applied by reading their tables again, since they were too large or too many",
                counters.without_rows,
            );
            text.counter(CHANGES, "Row changes matched with live queries", counters.changes);
            text.counter(TOUCHES, "Live queries touched, one a change and query", counters.touches);
            text.counter(DIFFS, "Diffs made from row changes alone", counters.diffs);
            text.counter(READS, "Results read", counters.reads);
            text.counter(
                READS_UNCHANGED,
                "Results read that were as before",
                counters.reads_unchanged,
            );
            text.counter(TRANSITIONS, "Transitions sent", counters.transitions);
            text.counter(STALE, "Subscriptions that became stale", counters.stale);
            text.counter(SNAPSHOTS_RETAKEN, "Snapshots taken again", counters.snapshots_retaken);
            text.counter(
                AUDITS,
                "Results read again to be compared with what was held",
                counters.audits,
            );
            text.counter(
                AUDIT_MISMATCHES,
                "Audited results that were not what the database said; any is an error",
                counters.audit_mismatches,
            );
            let (precise, table) = (counters.precise_wake_ups, counters.whole_table_wake_ups);
            text.counter(
                WAKE_UPS,
                "Updates and reads of live queries found by key, range or boundary",
                precise.all,
            );
            text.counter(
                WAKE_UPS_FOR_NOTHING,
                "Those after which the result was as before",
                precise.for_nothing,
            );
            text.counter(
                WAKE_UPS_KEPT_ONLY,
                "Those of wake_ups_for_nothing that changed what is kept for the result: spare rows, groups not shown",
                precise.kept_only,
            );
            text.counter(
                TABLE_WAKE_UPS,
                "Updates and reads of live queries that watch a whole table",
                table.all,
            );
            text.counter(
                TABLE_WAKE_UPS_FOR_NOTHING,
                "Those of them after which the result was as before",
                table.for_nothing,
            );
            text.counter(
                TABLE_WAKE_UPS_KEPT_ONLY,
                "Those of table_wake_ups_for_nothing that changed what is kept for the result",
                table.kept_only,
            );
        }
        text.end()
    }
}

/// A part of memory, as a label.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PartLabel {
    part: &'static str,
}

/// What one part of memory takes, and may take, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct MemoryUse {
    /// The part.
    pub part: &'static str,
    /// What it takes.
    pub bytes: usize,
    /// What it may take.
    pub limit_bytes: usize,
}

/// Returns what each part of memory takes.
pub fn memory_use(app: &App, status: Option<&EngineStatus>) -> [MemoryUse; 7] {
    let of_engine = |bytes: fn(&EngineStatus) -> usize| status.map_or(0, bytes);
    let parts = &app.memory;
    let part = |part, bytes, limit_bytes| MemoryUse { part, bytes, limit_bytes };
    let (_, queued) = app.queue.backlog();
    let waiting = of_engine(|status| status.waiting_bytes);
    [
        part("results", of_engine(|status| status.memory_bytes), parts.results),
        part("sessions", app.sessions.kept().used(), parts.sessions),
        part("streams", app.sessions.memory().used(), parts.streams),
        part("backlog", queued + waiting, parts.backlog),
        part("log", of_engine(|status| status.log_bytes), parts.log),
        part("reads", app.queue.answers().used(), parts.reads),
        part("requests", app.queue.requests().used(), parts.requests),
    ]
}

/// Returns what of the process is in memory, in bytes, by the kernel's word (proc(5)).
pub fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// A registry that lives for one answer: its numbers are read anew each time.
struct Text(Registry);

impl Text {
    fn memory(&mut self, app: &App, status: Option<&EngineStatus>) {
        let used = Family::<PartLabel, Gauge<f64, AtomicU64>>::default();
        let limits = Family::<PartLabel, Gauge<f64, AtomicU64>>::default();
        for MemoryUse { part, bytes, limit_bytes } in memory_use(app, status) {
            used.get_or_create(&PartLabel { part }).set(bytes as f64);
            limits.get_or_create(&PartLabel { part }).set(limit_bytes as f64);
        }
        let what = "What each part of memory takes, estimated";
        self.0.register_with_unit(MEMORY, what, Unit::Bytes, used);
        let what = "What each part of memory may take (--memory-limit and its parts)";
        self.0.register_with_unit(MEMORY_LIMIT, what, Unit::Bytes, limits);
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        let gauge = Gauge::<f64, AtomicU64>::default();
        gauge.set(value as f64);
        self.0.register(name, help, gauge);
    }

    fn gauge_in(&mut self, name: &str, help: &str, unit: Unit, value: f64) {
        let gauge = Gauge::<f64, AtomicU64>::default();
        gauge.set(value);
        self.0.register_with_unit(name, help, unit, gauge);
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        let counter = Counter::<u64>::default();
        counter.inc_by(value);
        self.0.register(name, help, counter);
    }

    fn counter_in(&mut self, name: &str, help: &str, unit: Unit, value: u64) {
        let counter = Counter::<u64>::default();
        counter.inc_by(value);
        self.0.register_with_unit(name, help, unit, counter);
    }

    fn end(self) -> String {
        let mut text = String::new();
        let mut process = Registry::default();
        if let Some(bytes) = resident_bytes() {
            let gauge = Gauge::<f64, AtomicU64>::default();
            gauge.set(bytes as f64);
            process.register_with_unit(RESIDENT, "Resident memory", Unit::Bytes, gauge);
        }
        // Writing to a string does not fail.
        let _ = encode_registry(&mut text, &self.0);
        let _ = encode_registry(&mut text, &process);
        let _ = encode_eof(&mut text);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_of_the_last_seconds() {
        let metrics = Metrics::default();
        let start = Instant::now();
        let counters = |transactions| EngineCounters { transactions, ..EngineCounters::default() };
        assert_eq!(metrics.rates(start), Rates::default());
        for second in 0..=20 {
            // Ten a second, and a hundred from the tenth on.
            let count = if second <= 10 { second * 10 } else { 100 + (second - 10) * 100 };
            metrics.sample(start + Duration::from_secs(second), counters(count));
        }
        assert_eq!(metrics.rates(start + Duration::from_secs(20)).transactions, 100.0);
        assert_eq!(metrics.rates(start + Duration::from_secs(60)), Rates::default());
    }

    #[test]
    fn text_has_units() {
        let mut text = Text(Registry::with_prefix(PREFIX));
        text.gauge_in(LAG, "help", Unit::Bytes, 7.0);
        text.counter(TRANSACTIONS, "help", 3);
        let text = text.end();
        assert!(text.contains("convoy_replication_lag_bytes 7.0"), "{text}");
        assert!(text.contains("convoy_transactions_total 3"), "{text}");
    }
}
