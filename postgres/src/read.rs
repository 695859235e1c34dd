//! One read: a transaction that locks first, then takes its snapshot, then reads the results of many queries at it
//! (`docs/postgres.md`, P3, P5 and P13).
//!
//! The transaction that took the snapshot stays open until everything is answered, and holds the locks; where a query
//! is slow, helpers on other connections import its snapshot and take the rest (`worker`).

use crate::batch::{Batches, ReadCounters};
use crate::budget::MemoryBudget;
use crate::error::{PostgresError, query_error};
use crate::function_runs::{self, FunctionSink, Functions};
use crate::jobs::Jobs;
use crate::kept_out::KeptOut;
use crate::lock_script::{LockScript, LockScripts};
use crate::pool::{Lease, Pool};
use crate::watch::{self, Look, Watched};
use crate::worker::Worker;
use convoy_engine::{
    ErrorCode, FunctionRead, QueryError, QueryRead, ReadRows, ReadingRole, Snapshot,
};
use convoy_query_index::QueryId;
use convoy_types::{Lsn, RelationId, Xid};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

pub(crate) const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// The statement that takes the snapshot; its parts are evaluated in order, the position after the snapshot.
const SNAPSHOT_SQL: &str = "\
SELECT pg_catalog.pg_current_snapshot()::pg_catalog.text,
       CASE WHEN pg_catalog.pg_is_in_recovery() THEN NULL
            ELSE pg_catalog.pg_current_wal_insert_lsn()::pg_catalog.text END,
       pg_catalog.current_setting('synchronous_standby_names')";

/// The top-level ids of the transactions that are open, prepared ones too. Each holds a lock on its id until it is visible;
/// ids of subtransactions are given out later. (What `pg_stat_activity` says of others is not for everybody.)
const OPEN_SQL: &str = "\
SELECT DISTINCT ON (virtualtransaction) transactionid::pg_catalog.text
FROM pg_catalog.pg_locks WHERE locktype = 'transactionid' AND mode = 'ExclusiveLock' AND granted
ORDER BY virtualtransaction, pg_catalog.age(transactionid) DESC";

/// Tables whose files are no longer those that the snapshot shows: somebody truncated or rewrote them since. The
/// left side is the snapshot's, the right one today's.
const REWRITTEN_SQL: &str = "\
WITH RECURSIVE tree(id) AS (
  SELECT asked FROM pg_catalog.unnest($1::pg_catalog.oid[]) AS asked
  UNION
  SELECT i.inhrelid FROM tree JOIN pg_catalog.pg_inherits i ON i.inhparent = tree.id
)
SELECT c.relname::text FROM tree JOIN pg_catalog.pg_class c ON c.oid = tree.id
WHERE c.relkind = 'r'
  AND pg_catalog.pg_relation_filenode(c.oid) IS DISTINCT FROM c.relfilenode LIMIT 1";

/// How long a helper waits for a lock, in milliseconds. Whoever wants a table for himself waits for the locks that this
/// read has, and the helper behind him, for whom the read waits in turn: Postgres does not see that circle.
const HELPER_LOCK_WAIT_MS: u32 = 200;

/// What all reads share.
#[derive(Debug)]
pub(crate) struct ReadContext {
    pub(crate) main: Pool,
    pub(crate) ad_hoc: Option<Pool>,
    pub(crate) watched: Watched,
    pub(crate) lock_scripts: LockScripts,
    /// As far as the ad-hoc role may lock.
    pub(crate) ad_hoc_lock_scripts: LockScripts,
    pub(crate) kept_out: KeptOut,
    pub(crate) batches: Batches,
    /// Who runs functions.
    pub(crate) functions: Option<Arc<dyn Functions>>,
    pub(crate) counters: Arc<ReadCounters>,
    /// What answers may take until they are taken in.
    pub(crate) answers: Arc<MemoryBudget>,
    /// Helpers that one read may take beside its own connection.
    pub(crate) helpers_max: usize,
    /// The queue is given this long before a helper is taken.
    pub(crate) helper_after: Duration,
    /// Whether every snapshot is exported, for tests that compare.
    pub(crate) export_snapshots: bool,
}

impl ReadContext {
    /// Closes the idle connections where nobody waits any more for what was asked so long ago: those beside a connection
    /// that is dead are likely to be dead, too, and each would be found out by itself.
    pub(crate) fn suspect_idle(&self, asked: Instant) {
        if asked.elapsed() > self.main.answer_max() {
            self.main.close_idle();
        }
    }
}

/// What becomes of a query of a read.
pub(crate) type Answer = (QueryId, Result<ReadRows, QueryError>);

/// An open read: its connection is in a transaction that holds the locks.
#[derive(Debug)]
pub(crate) struct Read {
    context: Arc<ReadContext>,
    lease: Lease,
    tables: Vec<RelationId>,
    /// Sent again when the snapshot is taken again.
    script: LockScript,
    /// Taken before the snapshot, which therefore shows nothing older.
    look: Look,
    has_snapshot: bool,
    exported: Option<String>,
}

impl Read {
    /// Takes a connection, begins and locks. Returns the tables, too, that somebody keeps readers out of: they are not
    /// part of the read.
    pub(crate) async fn open(
        context: Arc<ReadContext>,
        tables: Vec<RelationId>,
    ) -> Result<(Read, BTreeSet<RelationId>), QueryError> {
        let mut lease = context.main.get().await?;
        // Whoever gives this up half way leaves a statement on it that was not answered.
        lease.mark_used();
        let prepare = async |lease: &Lease| {
            let kept_out = context.kept_out.still(lease.client(), &tables).await?;
            let script = script(&context, lease, &tables, &kept_out).await?;
            Ok::<_, PostgresError>((kept_out, script))
        };
        let (mut kept_out, script) = match prepare(&lease).await {
            // A connection that died while it was idle: the next one is fresh or tells the reason.
            Err(PostgresError::Query(error)) if error.is_closed() => {
                lease.mark_broken();
                drop(lease);
                context.main.close_idle();
                lease = context.main.get().await?;
                prepare(&lease).await?
            }
            other => other?,
        };
        let look = context.watched.look();
        let mut read =
            Read { context, lease, tables, script, look, has_snapshot: false, exported: None };
        match read.begin().await {
            Err(error) if is_out_of_date(&error) => {
                // Renamed, dropped, or the rights have changed since the names were asked for.
                read.context.lock_scripts.forget();
                read.begin_without(&kept_out).await?;
            }
            Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
                read.rollback().await?;
                let learnt = read.context.kept_out.learn(read.lease.client(), &read.tables).await?;
                // Where it is not a table of ours, it is something that a table needs.
                if learnt.is_empty() {
                    return Err(lock_error(error));
                }
                kept_out = learnt;
                read.begin_without(&kept_out).await?;
            }
            begun => begun.map_err(lock_error)?,
        }
        read.tables.retain(|table| !kept_out.contains(table));
        Ok((read, kept_out))
    }

    /// Begins anew, with locks on the other tables.
    async fn begin_without(&mut self, kept_out: &BTreeSet<RelationId>) -> Result<(), QueryError> {
        self.rollback().await?;
        self.script = script(&self.context, &self.lease, &self.tables, kept_out).await?;
        self.begin().await.map_err(lock_error)
    }

    async fn begin(&mut self) -> Result<(), tokio_postgres::Error> {
        self.lease.mark_used();
        self.look = self.context.watched.look();
        self.lease.client().batch_execute(&self.script.sql).await
    }

    async fn rollback(&mut self) -> Result<(), PostgresError> {
        self.has_snapshot = false;
        self.exported = None;
        Ok(self.lease.client().batch_execute("ROLLBACK").await?)
    }

    /// Takes the snapshot; a second time in a new transaction with the same locks.
    pub(crate) async fn take_snapshot(&mut self) -> Result<Snapshot, QueryError> {
        if self.has_snapshot {
            self.rollback().await?;
            self.begin().await.map_err(lock_error)?;
        }
        let mut snapshot = snapshot(&mut self.lease).await?;
        self.has_snapshot = true;
        if self.context.export_snapshots {
            self.exported = Some(export(self.lease.client()).await?);
            snapshot.exported.clone_from(&self.exported);
        }
        Ok(snapshot)
    }

    /// Reads the queries' results and hands each over as it comes. Returns the tables whose catalogue entries are
    /// not what they were.
    pub(crate) async fn run(
        &mut self,
        queries: Vec<QueryRead>,
        functions: Vec<FunctionRead>,
        answer: &(dyn Fn(Answer) + Send + Sync),
        answer_function: FunctionSink<'_>,
    ) -> Vec<RelationId> {
        let (main, ad_hoc): (Vec<_>, Vec<_>) = queries
            .into_iter()
            .partition(|query| query.role == ReadingRole::Server || self.context.ad_hoc.is_none());
        let held_back = Mutex::new(Vec::new());
        let hold_back = |answer: Answer| {
            held_back.lock().unwrap_or_else(PoisonError::into_inner).push(answer);
        };
        let to: &(dyn Fn(Answer) + Send + Sync) =
            if self.script.unlocked.is_empty() { answer } else { &hold_back };
        if !main.is_empty() || !ad_hoc.is_empty() {
            self.answer_all(main, ad_hoc, to).await;
        }
        self.run_functions(functions, answer_function).await;
        if !self.script.unlocked.is_empty() {
            let rewritten = self.rewritten().await;
            for (query, result) in held_back.into_inner().unwrap_or_else(PoisonError::into_inner) {
                match &rewritten {
                    Some(error) => answer((query, Err(error.clone()))),
                    None => answer((query, result)),
                }
            }
        }
        // At this very snapshot: what these results don't fit is found out with them, not a second later.
        match watch::fingerprints(&mut self.lease, &self.tables).await {
            Ok(shown) => self.context.watched.observe(self.look, &shown),
            Err(error) => {
                tracing::debug!(error = %error.chain(), "could not look at the catalog inside a read");
                Vec::new()
            }
        }
    }

    /// Runs functions and hands over what each gave; where tables could not be locked, only once it is sure that the
    /// snapshot shows them.
    async fn run_functions(&mut self, functions: Vec<FunctionRead>, answer: FunctionSink<'_>) {
        if functions.is_empty() {
            return;
        }
        let Some(runner) = self.context.functions.clone() else {
            return function_runs::refuse_all(&functions, answer);
        };
        if self.script.unlocked.is_empty() {
            return function_runs::run_all(&*runner, &mut self.lease, functions, answer).await;
        }
        let held_back = Mutex::new(Vec::new());
        let hold_back = |function: &FunctionRead, outcome| {
            let answer = (function.clone(), outcome);
            held_back.lock().unwrap_or_else(PoisonError::into_inner).push(answer);
        };
        function_runs::run_all(&*runner, &mut self.lease, functions, &hold_back).await;
        let rewritten = self.rewritten().await;
        for (function, outcome) in held_back.into_inner().unwrap_or_else(PoisonError::into_inner) {
            match &rewritten {
                Some(error) => answer(&function, Err(error.clone())),
                None => answer(&function, outcome),
            }
        }
    }

    async fn answer_all(
        &mut self,
        main: Vec<QueryRead>,
        ad_hoc: Vec<QueryRead>,
        answer: &(dyn Fn(Answer) + Send + Sync),
    ) {
        let needs_export = main.len() > 1 || !ad_hoc.is_empty();
        let (known, client) = (self.exported.clone(), self.lease.client().clone());
        let exported = async {
            match known {
                None if needs_export => export(&client).await.map(Some),
                known => Ok(known),
            }
        };
        let context = self.context.clone();
        let jobs = |queries| {
            Jobs::new(queries, &context.batches, &context.counters, &context.answers, answer)
        };
        let (main, ad_hoc) = (jobs(main), jobs(ad_hoc));
        let own_is_done = Notify::new();
        let own = async {
            Worker::new(&mut self.lease).work(&main).await;
            own_is_done.notify_one();
        };
        let tables = &self.tables;
        let helpers = async {
            match exported.await {
                Ok(None) => {}
                Ok(Some(exported)) => {
                    help_out(&context, &exported, tables, &main, &ad_hoc, &own_is_done).await;
                }
                // Our own statements, behind it on the wire, fail with it.
                Err(error) => ad_hoc.fail(&error.into()),
            }
        };
        // In this order, so that the snapshot's name is asked for first; nobody who reads by himself waits for it.
        tokio::join!(biased; helpers, own);
        // What a helper gave back when its connection broke.
        Worker::new(&mut self.lease).work(&main).await;
        main.fail_rest();
        ad_hoc.fail_rest();
    }

    /// Returns the error for results that a truncated or rewritten table may have spoilt.
    async fn rewritten(&self) -> Option<QueryError> {
        let parameters: &[(&(dyn tokio_postgres::types::ToSql + Sync), Type)] =
            &[(&self.script.unlocked, Type::OID_ARRAY)];
        match self.lease.client().query_typed(REWRITTEN_SQL, parameters).await {
            Ok(rows) if rows.is_empty() => None,
            Ok(rows) => {
                let table: String = rows[0].try_get(0).unwrap_or_default();
                let message = format!("{table} was truncated or rewritten while it was read");
                Some(QueryError::new(ErrorCode::Unavailable, message))
            }
            Err(error) => Some(query_error(&error, None)),
        }
    }

    /// Stops what the connection is doing, for nobody wants the answers any more.
    pub(crate) fn abandon(mut self, asked: Instant) {
        self.context.suspect_idle(asked);
        self.lease.canceller().cancel();
        self.lease.mark_broken();
    }
}

/// Returns what begins a read of these tables without those.
async fn script(
    context: &ReadContext,
    lease: &Lease,
    tables: &[RelationId],
    kept_out: &BTreeSet<RelationId>,
) -> Result<LockScript, PostgresError> {
    let tables: Vec<_> = tables.iter().copied().filter(|table| !kept_out.contains(table)).collect();
    context.lock_scripts.get(lease.client(), &tables).await
}

/// Whether a helper's failure to get a connection or the snapshot is the queries' failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Must {
    Answer,
    Try,
}

/// Takes helpers, one after another, as long as queries still wait; ends when all of them have.
async fn help_out(
    context: &ReadContext,
    exported: &str,
    tables: &[RelationId],
    main: &Jobs<'_>,
    ad_hoc: &Jobs<'_>,
    own_is_done: &Notify,
) {
    let source = Source { exported, tables, pool: &context.main, scripts: &context.lock_scripts };
    let ad_hoc_source = match &context.ad_hoc {
        Some(pool) => Source { pool, scripts: &context.ad_hoc_lock_scripts, ..source },
        None => source,
    };
    let mut helpers = FuturesUnordered::new();
    if ad_hoc.has_waiting() {
        helpers.push(help(ad_hoc_source, ad_hoc, Must::Answer));
    }
    let mut own_done = false;
    while !(own_done && helpers.is_empty()) {
        tokio::select! {
            () = own_is_done.notified(), if !own_done => own_done = true,
            Some(()) = helpers.next(), if !helpers.is_empty() => {}
            () = tokio::time::sleep(context.helper_after) => {
                if helpers.len() < context.helpers_max {
                    if main.has_waiting() {
                        helpers.push(help(source, main, Must::Try));
                    } else if ad_hoc.has_waiting() {
                        helpers.push(help(ad_hoc_source, ad_hoc, Must::Try));
                    }
                }
            }
        }
    }
}

/// Where helpers come from, and what they begin with.
#[derive(Clone, Copy)]
struct Source<'a> {
    pool: &'a Pool,
    scripts: &'a LockScripts,
    exported: &'a str,
    tables: &'a [RelationId],
}

/// Takes queries of a queue on another connection, at the exported snapshot.
async fn help(source: Source<'_>, jobs: &Jobs<'_>, must: Must) {
    let Source { pool, scripts, exported, tables } = source;
    let lease = match must {
        Must::Answer => pool.get().await,
        Must::Try => match pool.try_get().await {
            Some(lease) => lease,
            None => return,
        },
    };
    let imported = async {
        let mut lease = lease?;
        lease.mark_used();
        // Locks of its own, and before the snapshot is imported, which is possible only while the read's own connection still
        // has its transaction and with it its locks: else that one could end, somebody truncate a table, and this one see it
        // empty (docs/postgres.md, P3). What its role may not lock is covered by the read's locks alone.
        let locks = scripts.get(lease.client(), tables).await?.sql;
        // The name is Postgres' own, of hexadecimal digits and dashes.
        let script = format!(
            "{locks}; SET TRANSACTION SNAPSHOT '{exported}'; SET LOCAL lock_timeout = {HELPER_LOCK_WAIT_MS}"
        );
        match lease.client().batch_execute(&script).await {
            Err(error) if is_out_of_date(&error) => {
                scripts.forget();
                Err(error.into())
            }
            other => Ok::<_, PostgresError>(other.map(|()| lease)?),
        }
    };
    match imported.await {
        Ok(mut lease) => Worker::helper(&mut lease).work(jobs).await,
        // The queries are no worse for what keeps a helper away: all is read again.
        Err(error) if must == Must::Answer => jobs.fail(&unhelped(error)),
        Err(error) => tracing::debug!(error = %error.chain(), "a read goes on without a helper"),
    }
}

fn unhelped(error: PostgresError) -> QueryError {
    match &error {
        PostgresError::Query(cause)
            if is_out_of_date(cause) || cause.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) =>
        {
            QueryError::new(ErrorCode::Unavailable, error.to_string())
        }
        _ => error.into(),
    }
}

async fn export(client: &Client) -> Result<String, PostgresError> {
    let sql = "SELECT pg_catalog.pg_export_snapshot()";
    Ok(client.query_typed_one(sql, &[]).await?.try_get(0)?)
}

/// Takes a snapshot on a connection, and what must be known of it.
pub(crate) async fn snapshot(lease: &mut Lease) -> Result<Snapshot, QueryError> {
    let statement = lease
        .prepared(&Arc::from(SNAPSHOT_SQL), &Arc::from([]))
        .await
        .map_err(PostgresError::from)?;
    let row = lease.client().query_one(&statement, &[]).await.map_err(PostgresError::from)?;
    let mark: &str = row.try_get(0).map_err(PostgresError::from)?;
    let mark = mark.parse().map_err(|_| PostgresError::Unexpected { what: "a snapshot" })?;
    let insert: Option<&str> = row.try_get(1).map_err(PostgresError::from)?;
    let Some(insert) = insert else {
        let message = "the database is a standby, whose snapshots don't say what they show; \
                       connect to the primary, which holds the slot";
        return Err(QueryError::new(ErrorCode::Unavailable, message));
    };
    let insert: Lsn =
        insert.parse().map_err(|_| PostgresError::Unexpected { what: "a WAL position" })?;
    let standbys: &str = row.try_get(2).map_err(PostgresError::from)?;
    Ok(Snapshot {
        mark,
        settle_lsn: insert.before_bare_page_header(),
        synchronous_standbys: !standbys.trim().is_empty(),
        exported: None,
    })
}

/// Returns the transactions that are open.
pub(crate) async fn open_transactions(lease: &Lease) -> Result<Vec<Xid>, PostgresError> {
    let rows = lease.client().query_typed(OPEN_SQL, &[]).await?;
    let xid = |row: &tokio_postgres::Row| {
        let text: &str = row.try_get(0)?;
        let number = text.parse().map(Xid);
        number.map_err(|_| PostgresError::Unexpected { what: "a transaction id" })
    };
    rows.iter().map(xid).collect()
}

fn is_out_of_date(error: &tokio_postgres::Error) -> bool {
    matches!(
        error.code(),
        Some(
            &SqlState::UNDEFINED_TABLE
                | &SqlState::INVALID_SCHEMA_NAME
                | &SqlState::INSUFFICIENT_PRIVILEGE
                | &SqlState::WRONG_OBJECT_TYPE
        )
    )
}

fn lock_error(error: tokio_postgres::Error) -> QueryError {
    let told = query_error(&error, None);
    if error.code() != Some(&SqlState::LOCK_NOT_AVAILABLE) {
        return told;
    }
    let message = format!(
        "somebody holds a lock on one of the tables that keeps readers out (TRUNCATE, ALTER TABLE, \
         VACUUM FULL …): {}",
        told.message
    );
    QueryError::new(ErrorCode::Timeout, message)
}
