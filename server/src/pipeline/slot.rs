//! What the server itself says of our slot, asked over an ordinary connection: how much WAL it retains, and who keeps
//! a slot from being made.

use convoy_postgres::{Pool, PostgresError};
use convoy_types::{Lsn, ParseLsnError};
use std::fmt;
use std::time::Duration;
use thiserror::Error;
use tokio_postgres::types::Type;

/// The server's end of the WAL, and what a slot holds back of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct WalView {
    /// The server's end of it.
    pub end: Lsn,
    /// The slot; none where there is no such slot.
    pub slot: Option<SlotView>,
}

/// What a slot holds back.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SlotView {
    /// WAL that the engine has not confirmed, by the server's own end of it.
    pub unconfirmed_bytes: u64,
    /// WAL that the server keeps for the slot.
    pub retained_bytes: u64,
    /// Whether somebody reads it.
    pub is_active: bool,
    /// The session whose open transaction keeps the slot from letting WAL go, and the age of that in seconds.
    pub oldest_writer: Option<(i32, f64)>,
    /// Whether both publications are there.
    pub has_publications: bool,
}

/// A transaction that a slot which is being made waits for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Blocker {
    /// Whose it is: a process, or what was prepared.
    pub whose: Whose,
    /// Its role.
    pub role: String,
    /// For how long it has been open, in seconds.
    pub age: f64,
}

/// Who has a transaction open.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Whose {
    /// A session of the server's.
    Session {
        /// Its process.
        pid: i32,
        /// What it calls itself.
        application: String,
        /// Its last statement, as far as the server shows it to us. For the log alone: it may hold anything.
        query: String,
    },
    /// Nobody any more: it is prepared, and by this name.
    Prepared(String),
}

impl fmt::Display for Blocker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Blocker { whose, role, age } = self;
        match whose {
            Whose::Session { pid, application, .. } => {
                write!(formatter, "pid {pid} ({role}, {application:?}, open for {age:.0} s)")
            }
            Whose::Prepared(gid) => {
                let gid = gid.replace('\'', "''");
                write!(
                    formatter,
                    "prepared transaction '{gid}' ({role}, open for {age:.0} s: COMMIT PREPARED '{gid}' or ROLLBACK \
                     PREPARED '{gid}' ends it)"
                )
            }
        }
    }
}

/// Why the server did not say.
#[derive(Debug, Error)]
pub(super) enum SlotError {
    #[error("asking for the slot")]
    Postgres(#[from] PostgresError),
    #[error("asking for the slot")]
    Query(#[from] tokio_postgres::Error),
    #[error("reading the slot's position")]
    Lsn(#[from] ParseLsnError),
}

/// Returns where the WAL ends, and what the slot of this name holds back of it.
pub(super) async fn view(pool: &Pool, slot: &str) -> Result<WalView, SlotError> {
    const SQL: &str = "SELECT e.lsn::text, s.slot_name IS NOT NULL, s.confirmed_flush_lsn::text, \
         s.restart_lsn::text, coalesce(s.active, false), w.pid, w.age, \
         (SELECT count(*) FROM pg_catalog.pg_publication \
          WHERE pubname IN ('convoy_full', 'convoy_ins')) = 2 \
         FROM pg_catalog.pg_current_wal_insert_lsn() e(lsn) \
         LEFT JOIN pg_catalog.pg_replication_slots s ON s.slot_name = $1 \
         LEFT JOIN (SELECT pid, extract(epoch FROM now() - xact_start)::float8 AS age \
                    FROM pg_catalog.pg_stat_activity WHERE backend_xid IS NOT NULL \
                    ORDER BY xact_start LIMIT 1) w ON true";
    let lease = pool.get_briefly(Duration::ZERO).await?;
    let row = lease.client().query_typed_one(SQL, &[(&slot, Type::TEXT)]).await?;
    let lsn = |column: usize| -> Result<Option<Lsn>, SlotError> {
        row.try_get::<_, Option<String>>(column)?.map(|text| Ok(text.parse()?)).transpose()
    };
    let end = lsn(0)?.unwrap_or_default();
    if !row.try_get::<_, bool>(1)? {
        return Ok(WalView { end, slot: None });
    }
    let behind = |position: Option<Lsn>| position.map_or(0, |position| end.bytes_since(position));
    let (pid, age): (Option<i32>, Option<f64>) = (row.try_get(5)?, row.try_get(6)?);
    let slot = SlotView {
        unconfirmed_bytes: behind(lsn(2)?),
        retained_bytes: behind(lsn(3)?),
        is_active: row.try_get(4)?,
        oldest_writer: pid.zip(age),
        has_publications: row.try_get(7)?,
    };
    Ok(WalView { end, slot: Some(slot) })
}

/// Returns the transactions that the walsender waits for.
pub(super) async fn blockers(pool: &Pool, walsender: i32) -> Result<Vec<Blocker>, SlotError> {
    // A prepared transaction has no process: what waits for its end waits for its id.
    const SQL: &str = "SELECT a.pid, coalesce(a.usename::text, '?'), \
         coalesce(extract(epoch FROM now() - a.xact_start), 0)::float8, \
         coalesce(a.application_name, ''), coalesce(left(a.query, 200), '') \
         FROM unnest(pg_catalog.pg_blocking_pids($1)) b(pid) \
         JOIN pg_catalog.pg_stat_activity a ON a.pid = b.pid \
         UNION ALL \
         SELECT NULL, p.owner::text, extract(epoch FROM now() - p.prepared)::float8, p.gid, '' \
         FROM pg_catalog.pg_locks l \
         JOIN pg_catalog.pg_prepared_xacts p ON p.transaction = l.transactionid \
         WHERE l.pid = $1 AND NOT l.granted";
    let lease = pool.get_briefly(Duration::ZERO).await?;
    let rows = lease.client().query_typed(SQL, &[(&walsender, Type::INT4)]).await?;
    rows.iter()
        .map(|row| {
            let (pid, role, age) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            let whose = match pid {
                Some(pid) => {
                    Whose::Session { pid, application: row.try_get(3)?, query: row.try_get(4)? }
                }
                None => Whose::Prepared(row.try_get(3)?),
            };
            Ok(Blocker { whose, role, age })
        })
        .collect()
}

/// Drops a slot that nobody reads any more.
pub(super) async fn drop_slot(pool: &Pool, slot: &str) -> Result<(), SlotError> {
    const SQL: &str = "SELECT pg_catalog.pg_drop_replication_slot(slot_name) \
         FROM pg_catalog.pg_replication_slots WHERE slot_name = $1 AND NOT active";
    let lease = pool.get_briefly(Duration::ZERO).await?;
    lease.client().query_typed(SQL, &[(&slot, Type::TEXT)]).await?;
    Ok(())
}
