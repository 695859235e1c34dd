//! Tables that somebody keeps readers out of (TRUNCATE, ALTER TABLE, VACUUM FULL …): left out of reads while that
//! lasts, so that queries on other tables need not wait for it.

use crate::error::PostgresError;
use convoy_types::RelationId;
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use tokio_postgres::Client;
use tokio_postgres::types::Type;

/// Which of these tables has an exclusive lock on it or on one of its partitions, or somebody who waits for one: he
/// comes first.
const KEPT_OUT_SQL: &str = "\
WITH RECURSIVE tree(asked, id) AS (
  SELECT asked, asked FROM pg_catalog.unnest($1::pg_catalog.oid[]) AS asked
  UNION
  SELECT tree.asked, i.inhrelid FROM tree JOIN pg_catalog.pg_inherits i ON i.inhparent = tree.id
)
SELECT DISTINCT tree.asked
FROM tree JOIN pg_catalog.pg_locks l ON l.locktype = 'relation' AND l.relation = tree.id
WHERE l.mode = 'AccessExclusiveLock'
  AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d
                    WHERE d.datname = pg_catalog.current_database())";

/// The tables that could not be locked lately.
#[derive(Debug, Default)]
pub(crate) struct KeptOut(Mutex<BTreeSet<RelationId>>);

impl KeptOut {
    fn known(&self) -> std::sync::MutexGuard<'_, BTreeSet<RelationId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns which of these tables, of those that could not be locked before, still can't be. Asks only where there
    /// are any.
    pub(crate) async fn still(
        &self,
        client: &Client,
        tables: &[RelationId],
    ) -> Result<BTreeSet<RelationId>, PostgresError> {
        let suspects: Vec<_> = {
            let known = self.known();
            tables.iter().copied().filter(|table| known.contains(table)).collect()
        };
        self.learn(client, &suspects).await
    }

    /// Returns which of these tables can't be locked now, and remembers them. Not to be asked in the transaction of a
    /// read, whose snapshot it would take.
    pub(crate) async fn learn(
        &self,
        client: &Client,
        tables: &[RelationId],
    ) -> Result<BTreeSet<RelationId>, PostgresError> {
        let mut kept_out = BTreeSet::new();
        if !tables.is_empty() {
            let oids: Vec<u32> = tables.iter().map(|table| table.0).collect();
            for row in client.query_typed(KEPT_OUT_SQL, &[(&oids, Type::OID_ARRAY)]).await? {
                kept_out.insert(RelationId(row.try_get(0)?));
            }
        }
        let mut known = self.known();
        known.retain(|table| !tables.contains(table));
        known.extend(&kept_out);
        Ok(kept_out)
    }
}
