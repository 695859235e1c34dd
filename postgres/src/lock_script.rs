//! What begins a read: the transaction, and locks on its tables by name. Names are looked up once for each set of
//! tables and kept until the catalog changes.

use crate::error::PostgresError;
use crate::read::BEGIN;
use convoy_engine::quote_identifier;
use convoy_types::RelationId;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use tokio_postgres::Client;
use tokio_postgres::types::Type;

/// At most so many sets of tables are remembered; past it all are forgotten.
const SCRIPTS_MAX: usize = 512;

/// How long a read waits for its locks, in milliseconds: longer than a short TRUNCATE takes. Then the tables in question
/// are left out of it.
const LOCK_WAIT_MS: u32 = 200;

/// Asked outside the read's transaction: inside, the question itself would take the snapshot.
const NAMES_SQL: &str = "\
SELECT c.oid, n.nspname::text, c.relname::text, c.relkind IN ('r', 'p'),
       pg_catalog.has_table_privilege(c.oid, 'SELECT')
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = ANY($1::pg_catalog.oid[]) ORDER BY c.oid";

/// What begins a read.
#[derive(Clone, Debug)]
pub(crate) struct LockScript {
    /// `BEGIN`, and `LOCK TABLE` where there is a table to lock.
    pub(crate) sql: String,
    /// Tables that the role may not lock: it has rights on columns only.
    pub(crate) unlocked: Vec<u32>,
}

/// The scripts that were asked for.
#[derive(Debug, Default)]
pub(crate) struct LockScripts(Mutex<HashMap<Vec<RelationId>, LockScript>>);

impl LockScripts {
    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<Vec<RelationId>, LockScript>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the script for these tables, asking the catalog for their names at the first time.
    pub(crate) async fn get(
        &self,
        client: &Client,
        tables: &[RelationId],
    ) -> Result<LockScript, PostgresError> {
        let known = self.known().get(tables).cloned();
        if let Some(script) = known {
            return Ok(script);
        }
        let script = load(client, tables).await?;
        let mut known = self.known();
        if known.len() >= SCRIPTS_MAX {
            known.clear();
        }
        known.insert(tables.to_vec(), script.clone());
        Ok(script)
    }

    /// Forgets all names: some have changed.
    pub(crate) fn forget(&self) {
        self.known().clear();
    }
}

async fn load(client: &Client, tables: &[RelationId]) -> Result<LockScript, PostgresError> {
    let oids: Vec<u32> = tables.iter().map(|id| id.0).collect();
    let mut names = Vec::new();
    let mut unlocked = Vec::new();
    if !oids.is_empty() {
        for row in client.query_typed(NAMES_SQL, &[(&oids, Type::OID_ARRAY)]).await? {
            let (namespace, name): (&str, &str) = (row.try_get(1)?, row.try_get(2)?);
            match (row.try_get(3)?, row.try_get(4)?) {
                (false, _) => {}
                (true, false) => unlocked.push(row.try_get(0)?),
                (true, true) => {
                    names.push(format!(
                        "{}.{}",
                        quote_identifier(namespace),
                        quote_identifier(name)
                    ));
                }
            }
        }
    }
    // LOCK TABLE goes down to partitions and children by itself, and asks for rights on the parent alone.
    let sql = match names.is_empty() {
        true => BEGIN.to_owned(),
        // The setting is back to the session's own after the locks: only they hold up the reads behind this one.
        false => format!(
            "{BEGIN}; SET LOCAL lock_timeout = {LOCK_WAIT_MS}; LOCK TABLE {} IN ACCESS SHARE MODE; \
             SET LOCAL lock_timeout TO DEFAULT",
            names.join(", ")
        ),
    };
    Ok(LockScript { sql, unlocked })
}
