//! What the server itself says of our slot, asked over an ordinary connection: how much WAL it retains, and who keeps
//! a slot from being made.

use convoy_postgres::{Pool, PostgresError};
use convoy_types::{Lsn, ParseLsnError};
use std::time::Duration;
use thiserror::Error;

/// What a slot holds back.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SlotView {
    /// WAL that the engine has not confirmed, by the server's own end of it.
    pub unconfirmed_bytes: u64,
    /// WAL that the server keeps for the slot.
    pub retained_bytes: u64,
    /// The session whose open transaction keeps the slot from letting WAL go, and the age of that in seconds.
    pub oldest_writer: Option<(i32, f64)>,
    /// Whether both publications are there.
    pub has_publications: bool,
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

/// Returns what the slot holds back; none where there is no such slot.
pub(super) async fn view(pool: &Pool, slot: &str) -> Result<Option<SlotView>, SlotError> {
    const SQL: &str = "SELECT pg_catalog.pg_current_wal_insert_lsn()::text, s.confirmed_flush_lsn::text, \
         s.restart_lsn::text, w.pid, w.age, \
         (SELECT count(*) FROM pg_catalog.pg_publication \
          WHERE pubname IN ('convoy_full', 'convoy_ins')) = 2 \
         FROM pg_catalog.pg_replication_slots s \
         LEFT JOIN (SELECT pid, extract(epoch FROM now() - xact_start)::float8 AS age \
                    FROM pg_catalog.pg_stat_activity WHERE backend_xid IS NOT NULL \
                    ORDER BY xact_start LIMIT 1) w ON true \
         WHERE s.slot_name = $1";
    let lease = pool.get_briefly(Duration::ZERO).await?;
    let name = tokio_postgres::types::Type::TEXT;
    let rows = lease.client().query_typed(SQL, &[(&slot, name)]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let lsn = |column: usize| -> Result<Option<Lsn>, SlotError> {
        row.try_get::<_, Option<String>>(column)?.map(|text| Ok(text.parse()?)).transpose()
    };
    let now = lsn(0)?.unwrap_or_default();
    let behind = |position: Option<Lsn>| position.map_or(0, |position| now.bytes_since(position));
    let (pid, age): (Option<i32>, Option<f64>) = (row.try_get(3)?, row.try_get(4)?);
    Ok(Some(SlotView {
        unconfirmed_bytes: behind(lsn(1)?),
        retained_bytes: behind(lsn(2)?),
        oldest_writer: pid.zip(age),
        has_publications: row.try_get(5)?,
    }))
}

/// Returns the sessions that the walsender waits for, with what they are.
pub(super) async fn blockers(pool: &Pool, walsender: i32) -> Result<Vec<String>, SlotError> {
    const SQL: &str = "SELECT a.pid, coalesce(a.usename::text, '?'), coalesce(a.application_name, ''), \
         coalesce(extract(epoch FROM now() - a.xact_start), 0)::float8 \
         FROM unnest(pg_catalog.pg_blocking_pids($1)) b(pid) \
         JOIN pg_catalog.pg_stat_activity a ON a.pid = b.pid";
    let lease = pool.get_briefly(Duration::ZERO).await?;
    let rows =
        lease.client().query_typed(SQL, &[(&walsender, tokio_postgres::types::Type::INT4)]).await?;
    rows.iter()
        .map(|row| {
            let (pid, user): (i32, String) = (row.try_get(0)?, row.try_get(1)?);
            let (application, age): (String, f64) = (row.try_get(2)?, row.try_get(3)?);
            Ok(format!("pid {pid} ({user}, {application:?}, open for {age:.0} s)"))
        })
        .collect()
}

/// Drops a slot that nobody reads any more.
pub(super) async fn drop_slot(pool: &Pool, slot: &str) -> Result<(), SlotError> {
    const SQL: &str = "SELECT pg_catalog.pg_drop_replication_slot(slot_name) \
         FROM pg_catalog.pg_replication_slots WHERE slot_name = $1 AND NOT active";
    let lease = pool.get_briefly(Duration::ZERO).await?;
    lease.client().query_typed(SQL, &[(&slot, tokio_postgres::types::Type::TEXT)]).await?;
    Ok(())
}
