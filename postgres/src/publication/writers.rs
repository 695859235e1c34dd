//! Transactions that write to a table from before it was published: their changes are not in the stream, so they must
//! end before the table is read (`docs/postgres.md`, P2).

use crate::error::PostgresError;
use convoy_engine::{ErrorCode, QueryError};
use convoy_types::RelationId;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use tokio_postgres::Client;
use tokio_postgres::types::Type;

/// How often the transactions that we wait for are looked at: at first, and at most.
const POLL: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(200));
/// A transaction that makes us wait longer is named in the log.
const NAME_AFTER: Duration = Duration::from_secs(1);

/// Transactions that may have written to some relations and have not ended, prepared ones too. `VACUUM` and index
/// builds (ShareUpdateExclusive, Share) are left out: they write no rows, and take hours.
const WRITERS_SQL: &str = "\
SELECT DISTINCT l.virtualtransaction, l.pid, p.gid,
       coalesce(extract(epoch FROM pg_catalog.clock_timestamp() - coalesce(a.xact_start, p.prepared)), 0)
         ::pg_catalog.float8,
       coalesce(pg_catalog.age(coalesce(a.backend_xid, p.transaction)), 0),
       coalesce(a.application_name, ''), coalesce(a.backend_xid, p.transaction)::pg_catalog.text
FROM pg_catalog.pg_locks l
LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
LEFT JOIN pg_catalog.pg_locks own
  ON l.pid IS NULL AND own.pid IS NULL AND own.locktype = 'transactionid'
 AND own.virtualtransaction = l.virtualtransaction
LEFT JOIN pg_catalog.pg_prepared_xacts p ON p.transaction = own.transactionid
WHERE l.locktype = 'relation' AND l.granted
  AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
  AND l.relation = ANY($1::pg_catalog.oid[])
  AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()
  AND l.mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')";

/// A transaction that was writing.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    transaction: String,
    pid: Option<i32>,
    gid: Option<String>,
    age: Duration,
    pub(super) xid_age: i64,
    application: String,
    /// Its xid, if it has one; stays the same when it is prepared, while the virtual one ends.
    xid: Option<String>,
}

impl Writer {
    fn name(&self) -> String {
        let age = format!("open for {:.1} s", self.age.as_secs_f64());
        match (self.pid, &self.gid) {
            (Some(pid), _) if self.application.is_empty() => format!("pid {pid} ({age})"),
            (Some(pid), _) => format!("pid {pid} ({}, {age})", self.application),
            (None, Some(gid)) => format!("prepared transaction {gid:?} ({age})"),
            (None, None) => format!("transaction {} ({age})", self.transaction),
        }
    }

    fn remedy(&self) -> String {
        match (self.pid, &self.gid) {
            (Some(pid), _) => format!("SELECT pg_terminate_backend({pid})"),
            (None, Some(gid)) => format!("ROLLBACK PREPARED '{}'", gid.replace('\'', "''")),
            (None, None) => "SELECT * FROM pg_prepared_xacts".to_owned(),
        }
    }
}

/// Waits until all of these transactions have ended.
pub(super) async fn wait_for(
    client: &Client,
    mut open: Vec<Writer>,
    wait_max: Duration,
) -> Result<(), QueryError> {
    let started = Instant::now();
    let mut pause = POLL.0;
    let mut named = false;
    while !open.is_empty() {
        if started.elapsed() > wait_max {
            let writer = &open[0];
            let message = format!(
                "the table was just published, and {} has been writing to it since before that; \
                 it must end first (to end it: {})",
                writer.name(),
                writer.remedy()
            );
            return Err(QueryError::new(ErrorCode::Unavailable, message));
        }
        if !named && started.elapsed() > NAME_AFTER {
            named = true;
            for writer in &open {
                tracing::warn!(
                    writer = writer.name(),
                    "waiting for a transaction that was writing to a table before it was published"
                );
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(POLL.1);
        let still = still_open(client, &open).await?;
        open.retain(|writer| {
            still.contains(&writer.transaction)
                || writer.xid.as_ref().is_some_and(|xid| still.contains(xid))
        });
    }
    Ok(())
}

/// Returns the transactions that may be writing to one of these tables.
pub(super) async fn writers(
    client: &Client,
    tables: &BTreeSet<RelationId>,
) -> Result<Vec<Writer>, PostgresError> {
    if tables.is_empty() {
        return Ok(Vec::new());
    }
    let oids: Vec<u32> = tables.iter().map(|id| id.0).collect();
    let mut writers = Vec::new();
    for row in client.query_typed(WRITERS_SQL, &[(&oids, Type::OID_ARRAY)]).await? {
        let (age, xid_age): (f64, i32) = (row.try_get(3)?, row.try_get(4)?);
        writers.push(Writer {
            transaction: row.try_get(0)?,
            pid: row.try_get(1)?,
            gid: row.try_get(2)?,
            age: Duration::try_from_secs_f64(age.max(0.0)).unwrap_or_default(),
            xid_age: i64::from(xid_age),
            application: row.try_get(5)?,
            xid: row.try_get(6)?,
        });
    }
    Ok(writers)
}

/// Returns the virtual ids of these transactions that still hold a lock (each holds one on its own id as long as it
/// lives), and the xids of those that were prepared since.
async fn still_open(
    client: &Client,
    writers: &[Writer],
) -> Result<BTreeSet<String>, PostgresError> {
    let transactions: Vec<&str> = writers.iter().map(|w| w.transaction.as_str()).collect();
    let xids: Vec<&str> = writers.iter().filter_map(|w| w.xid.as_deref()).collect();
    // The running ones first: one that is prepared in between shows in the second part.
    let running = "SELECT DISTINCT virtualtransaction FROM pg_catalog.pg_locks \
                   WHERE virtualtransaction = ANY($1::pg_catalog.text[])";
    let prepared = "SELECT transaction::pg_catalog.text FROM pg_catalog.pg_prepared_xacts \
                    WHERE transaction::pg_catalog.text = ANY($1::pg_catalog.text[])";
    let mut open = BTreeSet::new();
    for (sql, ids) in [(running, transactions), (prepared, xids)] {
        for row in client.query_typed(sql, &[(&ids, Type::TEXT_ARRAY)]).await? {
            open.insert(row.try_get(0)?);
        }
    }
    Ok(open)
}
