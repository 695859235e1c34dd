//! Every bound of the engine: what it counts, its default, and what happens when it is reached.

use std::time::Duration;

/// The engine's bounds.
#[derive(Clone, Debug)]
pub struct Limits {
    /// How long a refresh may hold its session's transitions. Then they go on without it, and it is stale.
    pub max_hold: Duration,
    /// How long one statement may run. Then its subscribers get a `TIMEOUT` error.
    pub statement_timeout: Duration,
    /// Rows in a result. One more is a `LIMIT_EXCEEDED` error.
    pub result_rows_max: usize,
    /// Bytes of text in a result. One more is a `LIMIT_EXCEEDED` error.
    pub result_bytes_max: usize,
    /// Bytes of changes that are kept for results being read. Past it those are read once more.
    pub write_log_bytes_max: usize,
    /// Bytes of rows of transactions that wait for a snapshot to be settled, or to show them. Past it they give way to the
    /// tables that they touched, which are read again.
    pub waiting_bytes_max: usize,
    /// Bytes of transactions that are kept while nobody could say yet what is visible. Past it they are let go; what they
    /// did is read anyway.
    pub early_bytes_max: usize,
    /// Bytes of all live queries, estimated (`memory.rs`). Past it no new one begins.
    pub memory_bytes_max: usize,
    /// Bytes of what one live query keeps of its groups and of the values in them (`min`, `max`, `count(DISTINCT)`),
    /// estimated. Past it, it is read again with each change that touches it.
    pub groups_bytes_max: usize,
    /// Reads that run at a time, a database connection or a few each. Further ones wait.
    pub reads_max: usize,
    /// Reads in which one live query may be at a time. A further one waits.
    pub reads_per_query_max: usize,
    /// Bytes of diffs kept for a live query's slower subscribers, at least; a larger result keeps its own size. A
    /// subscriber that is further behind gets a snapshot.
    pub history_bytes_min: usize,
    /// How long the line stands still for a snapshot. Then it goes on, and the snapshot may have to be taken again.
    pub fence_max: Duration,
    /// How long a read may be without any answer; then it is given up, and what it should have read is read anew. Longer
    /// than a statement may run.
    pub read_silence_max: Duration,
    /// How long a snapshot may stay unsettled before the server is made to flush its WAL.
    pub flush_after: Duration,
    /// How often one live query is read again, to compare. Zero: never.
    pub audit_interval: Duration,
    /// How often an idle session hears that it is up to date.
    pub heartbeat: Duration,
    /// How long a subscription waits for its first answer while the database can't be asked.
    pub first_answer_max: Duration,
    /// Templates without live queries that stay analysed.
    pub idle_templates_max: usize,
    /// Changes that each live query remembers for `why`.
    pub why_entries_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_hold: Duration::from_secs(2),
            statement_timeout: Duration::from_secs(30),
            result_rows_max: 100_000,
            result_bytes_max: 16 << 20,
            write_log_bytes_max: 64 << 20,
            waiting_bytes_max: 48 << 20,
            early_bytes_max: 64 << 20,
            memory_bytes_max: 384 << 20,
            groups_bytes_max: 16 << 20,
            reads_max: 8,
            reads_per_query_max: 2,
            history_bytes_min: 16 << 10,
            fence_max: Duration::from_millis(100),
            read_silence_max: Duration::from_secs(60),
            flush_after: Duration::from_millis(5),
            audit_interval: Duration::from_secs(1),
            heartbeat: Duration::from_secs(15),
            first_answer_max: Duration::from_secs(30),
            idle_templates_max: 1_000,
            why_entries_max: 8,
        }
    }
}
