//! Publishing tables, so that the stream has their changes: which publication each belongs in, how it enters without
//! a gap, and when it must move (`docs/postgres.md`, P1, P2 and P8).
//!
//! A table whose old rows carry no usable identity must not be published for updates: **the user's own writes would
//! fail**. So there are two publications, and a table is in at most one. A partitioned table is a member as a whole,
//! so that partitions made later are too, but only where its own key makes sure that those have an identity;
//! otherwise its leaves are members one by one, and the catalogue watch adds new ones.

use crate::catalog::{self, Relation, Tree};
use crate::error::{PostgresError, chain};
use crate::pool::Pool;
use convoy_engine::{ErrorCode, Publication, QueryError, TableKind};
use convoy_types::RelationId;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

/// The publication of tables whose every change is streamed.
pub const FULL: &str = "convoy_full";
/// The publication of tables without a usable identity: inserts and truncates only.
pub const INSERTS_ONLY: &str = "convoy_ins";

/// How often the transactions that we wait for are looked at: at first, and at most.
const POLL: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(200));
/// A transaction that makes us wait longer is named in the log.
const NAME_AFTER: Duration = Duration::from_secs(1);
/// Transactions that another Convoy's ADD TABLE may have missed began at most this many before it.
const RECENT_XIDS: i64 = 1000;

const PUBLICATIONS_SQL: &str = "\
SELECT p.pubname::text, p.puballtables, p.pubinsert, p.pubupdate, p.pubdelete, p.pubtruncate, p.pubviaroot,
       EXISTS (SELECT FROM pg_catalog.pg_publication_namespace s WHERE s.pnpubid = p.oid)
FROM pg_catalog.pg_publication p WHERE p.pubname IN ('convoy_full', 'convoy_ins')";

/// The members among some relations; the age of the transaction that made each one.
const MEMBERS_SQL: &str = "\
SELECT r.prrelid, p.pubname::text, pg_catalog.age(r.xmin)
FROM pg_catalog.pg_publication_rel r JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid
WHERE p.pubname IN ('convoy_full', 'convoy_ins') AND r.prrelid = ANY($1::pg_catalog.oid[])";

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

/// Whether publishing may change the database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PublishMode {
    /// Tables are added to our publications.
    #[default]
    Add,
    /// Nothing is changed: it is only said in which publication each table would be. For `explain`.
    Foresee,
}

/// Publishes tables and remembers which are.
#[derive(Debug)]
pub(crate) struct Publisher {
    pool: Pool,
    mode: PublishMode,
    wait_max: Duration,
    known: Mutex<HashMap<RelationId, Publication>>,
    /// One change of the publications at a time.
    changing: tokio::sync::Mutex<()>,
}

/// A transaction that was writing.
#[derive(Clone, Debug)]
struct Writer {
    transaction: String,
    pid: Option<i32>,
    gid: Option<String>,
    age: Duration,
    xid_age: i64,
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

impl Publisher {
    pub(crate) fn new(pool: Pool, mode: PublishMode, wait_max: Duration) -> Publisher {
        Publisher {
            pool,
            mode,
            wait_max,
            known: Mutex::default(),
            changing: tokio::sync::Mutex::new(()),
        }
    }

    /// Makes sure that these tables are published, and that nobody is still writing to one of them from before it
    /// was. Answers by the trees' roots. A table that is known to be published costs nothing.
    pub(crate) async fn publish(
        &self,
        trees: &BTreeMap<RelationId, Tree>,
    ) -> Result<HashMap<RelationId, Publication>, QueryError> {
        let mut publications = HashMap::new();
        let mut unknown = Vec::new();
        {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            for (&id, tree) in trees {
                match known.get(&id) {
                    Some(&publication) if publication == foreseen(tree) => {
                        publications.insert(id, publication);
                    }
                    _ => unknown.push(id),
                }
            }
        }
        if !unknown.is_empty() {
            publications.extend(self.publish_now(&unknown, trees).await?);
        }
        Ok(publications)
    }

    /// Forgets what is known of tables: their catalogue entries have changed.
    pub(crate) fn forget(&self, tables: &[RelationId]) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        for table in tables {
            known.remove(table);
        }
    }

    async fn publish_now(
        &self,
        ids: &[RelationId],
        trees: &BTreeMap<RelationId, Tree>,
    ) -> Result<HashMap<RelationId, Publication>, QueryError> {
        let foreseen: HashMap<RelationId, Publication> =
            ids.iter().filter_map(|id| Some((*id, foreseen(trees.get(id)?)))).collect();
        let wanted: Vec<RelationId> = foreseen
            .iter()
            .filter(|(_, publication)| **publication != Publication::None)
            .map(|(&id, _)| id)
            .collect();
        if self.mode == PublishMode::Add && !wanted.is_empty() {
            let lease = self.pool.get().await.map_err(QueryError::from)?;
            let writers = self.bring_up_to_date(lease.client(), &wanted).await?;
            self.wait_for(lease.client(), writers).await?;
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.extend(foreseen.iter().map(|(&id, &publication)| (id, publication)));
        Ok(foreseen)
    }

    /// Brings the publications to what they should be for tables whose catalogue entries have changed, without
    /// waiting for anybody: whoever describes them again waits.
    pub(crate) async fn adjust(&self, tables: &[RelationId]) -> Result<(), QueryError> {
        self.forget(tables);
        if self.mode == PublishMode::Foresee {
            return Ok(());
        }
        let lease = self.pool.get().await.map_err(QueryError::from)?;
        let trees = catalog::trees(lease.client(), tables).await?;
        let wanted: Vec<RelationId> = trees
            .iter()
            .filter(|(_, tree)| foreseen(tree) != Publication::None)
            .map(|(&id, _)| id)
            .collect();
        if !wanted.is_empty() {
            self.bring_up_to_date(lease.client(), &wanted).await?;
        }
        Ok(())
    }

    async fn bring_up_to_date(
        &self,
        client: &Client,
        wanted: &[RelationId],
    ) -> Result<Vec<Writer>, QueryError> {
        // A partition is judged with the whole that it is part of.
        let roots = partition_roots(client, wanted).await?;
        let _changing = self.changing.lock().await;
        let trees = catalog::trees(client, &roots).await?;
        let memberships: BTreeMap<RelationId, Membership> =
            trees.values().flat_map(memberships).collect();
        self.change(client, &memberships).await
    }

    /// Brings the publications to what they should be, and returns the transactions that must end before what was
    /// added counts.
    async fn change(
        &self,
        client: &Client,
        memberships: &BTreeMap<RelationId, Membership>,
    ) -> Result<Vec<Writer>, QueryError> {
        let oids: Vec<u32> = memberships.keys().map(|id| id.0).collect();
        let mut members: BTreeMap<(RelationId, Ours), i64> = BTreeMap::new();
        let rows = client
            .query_typed(MEMBERS_SQL, &[(&oids, Type::OID_ARRAY)])
            .await
            .map_err(PostgresError::from)?;
        for row in rows {
            let (id, name, age) = member(&row)?;
            let publication = if name == FULL { Ours::Full } else { Ours::Inserts };
            members.insert((RelationId(id), publication), age);
        }
        let mut statements = Vec::new();
        let mut added = Vec::new();
        let mut recent: Vec<(RelationId, i64)> = Vec::new();
        for (&id, membership) in memberships {
            for publication in [Ours::Full, Ours::Inserts] {
                let is_member = members.get(&(id, publication)).copied();
                let should = membership.of == Some(publication);
                let alter = format!("ALTER PUBLICATION {}", publication.name());
                match (is_member, should) {
                    (None, true) => {
                        statements.push(format!("{alter} ADD TABLE ONLY {}", membership.name));
                        added.push(id);
                    }
                    (Some(_), false) => {
                        statements
                            .insert(0, format!("{alter} DROP TABLE ONLY {}", membership.name));
                    }
                    (Some(age), true) => recent.push((id, age)),
                    (None, false) => {}
                }
            }
        }
        if !statements.is_empty() {
            create_publications(client).await?;
            let script = format!("BEGIN; {}; COMMIT", statements.join("; "));
            if let Err(error) = client.batch_execute(&script).await {
                // Out of the failed transaction, or the connection is of no use to the next.
                let _ = client.batch_execute("ROLLBACK").await;
                return Err(refusal(&error, &statements));
            }
            tracing::info!(changes = statements.join("; "), "changed the publications");
        }
        // Rows live in partitions that are members through their root.
        let added: BTreeSet<RelationId> = added
            .iter()
            .flat_map(|id| memberships.get(id).map(|m| m.row_holders.clone()).unwrap_or_default())
            .collect();
        let holders = memberships.values().flat_map(|m| m.row_holders.iter().copied());
        let all: BTreeSet<RelationId> = holders.collect();
        let mut waited_for = writers(client, &added).await?;
        // What somebody else (another Convoy, or we a moment ago) added may have been missed by transactions from
        // before that.
        let youngest = recent.iter().map(|&(_, age)| age).min();
        if let Some(age) = youngest.filter(|&age| age < i64::from(i32::MAX) && age >= 0) {
            let before = |writer: &Writer| writer.xid_age > 0 && writer.xid_age + RECENT_XIDS > age;
            waited_for.extend(writers(client, &all).await?.into_iter().filter(before));
        }
        Ok(waited_for)
    }

    /// Waits until all of these transactions have ended.
    async fn wait_for(&self, client: &Client, writers: Vec<Writer>) -> Result<(), QueryError> {
        let started = Instant::now();
        let mut open: Vec<Writer> = writers;
        let mut pause = POLL.0;
        let mut named = false;
        while !open.is_empty() {
            if started.elapsed() > self.wait_max {
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

    /// Makes our publications where they are missing, with the tables that were published before. They must be there
    /// before the slot is (P1).
    pub(crate) async fn create(&self) -> Result<(), QueryError> {
        if self.mode == PublishMode::Foresee {
            return Ok(());
        }
        {
            let lease = self.pool.get().await.map_err(QueryError::from)?;
            let _changing = self.changing.lock().await;
            create_publications(lease.client()).await?;
        }
        let known: Vec<RelationId> = {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.keys().copied().collect()
        };
        if known.is_empty() { Ok(()) } else { self.adjust(&known).await }
    }
}

fn member(row: &tokio_postgres::Row) -> Result<(u32, &str, i64), PostgresError> {
    let age: i32 = row.try_get(2)?;
    Ok((row.try_get(0)?, row.try_get(1)?, i64::from(age)))
}

/// One of our two publications.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Ours {
    Full,
    Inserts,
}

impl Ours {
    fn name(self) -> &'static str {
        match self {
            Ours::Full => FULL,
            Ours::Inserts => INSERTS_ONLY,
        }
    }
}

/// Where one relation belongs.
#[derive(Clone, Debug)]
struct Membership {
    name: String,
    of: Option<Ours>,
    /// The relations in which rows that this membership publishes live.
    row_holders: Vec<RelationId>,
}

/// Returns which publication a table's changes come through.
pub(crate) fn foreseen(tree: &Tree) -> Publication {
    let publishable =
        |relation: &Relation| matches!(relation.kind, TableKind::Plain | TableKind::Partitioned);
    if !publishable(&tree.root) || !tree.members.iter().all(publishable) {
        return Publication::None;
    }
    match tree.row_holders().all(|relation| relation.identity_usable) {
        true => Publication::Full,
        false => Publication::InsertsOnly,
    }
}

/// Returns where each relation of a tree belongs.
fn memberships(tree: &Tree) -> Vec<(RelationId, Membership)> {
    let own = |relation: &Relation| match relation.kind {
        TableKind::Plain if relation.identity_usable => Some(Ours::Full),
        TableKind::Plain => Some(Ours::Inserts),
        _ => None,
    };
    let as_a_whole = tree.root.kind == TableKind::Partitioned
        && !tree.root.primary_key.is_empty()
        && foreseen(tree) == Publication::Full;
    let membership = |relation: &Relation| {
        let is_root = relation.id == tree.root.id;
        let of = match (as_a_whole, is_root) {
            (true, true) => Some(Ours::Full),
            // Members through the root; once more would do no harm, and no good.
            (true, false) => None,
            (false, _) => own(relation),
        };
        let row_holders = match as_a_whole && is_root {
            true => tree.leaves().map(|leaf| leaf.id).collect(),
            false => vec![relation.id],
        };
        (relation.id, Membership { name: relation.qualified_name(), of, row_holders })
    };
    std::iter::once(&tree.root).chain(&tree.members).map(membership).collect()
}

/// Returns the tables, partitions replaced by the topmost table that they are part of.
async fn partition_roots(
    client: &Client,
    ids: &[RelationId],
) -> Result<Vec<RelationId>, PostgresError> {
    let oids: Vec<u32> = ids.iter().map(|id| id.0).collect();
    let sql = "SELECT DISTINCT coalesce(pg_catalog.pg_partition_root(asked)::pg_catalog.oid, asked) \
               FROM pg_catalog.unnest($1::pg_catalog.oid[]) AS asked";
    let rows = client.query_typed(sql, &[(&oids, Type::OID_ARRAY)]).await?;
    rows.iter().map(|row| Ok(RelationId(row.try_get(0)?))).collect()
}

async fn writers(
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

/// Makes our publications where they are missing, and refuses others of the same names.
async fn create_publications(client: &Client) -> Result<(), QueryError> {
    let rows = client.query_typed(PUBLICATIONS_SQL, &[]).await.map_err(PostgresError::from)?;
    let mut missing = vec![
        (FULL, format!("CREATE PUBLICATION {FULL}")),
        (
            INSERTS_ONLY,
            format!("CREATE PUBLICATION {INSERTS_ONLY} WITH (publish = 'insert, truncate')"),
        ),
    ];
    for row in rows {
        let get = |column: usize| row.try_get::<_, bool>(column).map_err(PostgresError::from);
        let name: &str = row.try_get(0).map_err(PostgresError::from)?;
        let updates = name == FULL;
        let as_ours = !get(1)?
            && get(2)?
            && get(3)? == updates
            && get(4)? == updates
            && get(5)?
            && !get(6)?
            && !get(7)?;
        if !as_ours {
            let message = format!(
                "the publication {name} is not as Convoy makes it, and might break writes; \
                 drop it and it will be made again: DROP PUBLICATION {name}"
            );
            return Err(QueryError::new(ErrorCode::Unavailable, message));
        }
        missing.retain(|(missing, _)| *missing != name);
    }
    for (_, sql) in missing {
        match client.batch_execute(&sql).await {
            Ok(()) => tracing::info!(sql, "made a publication"),
            // Another Convoy was quicker.
            Err(error)
                if matches!(
                    error.code(),
                    Some(&SqlState::DUPLICATE_OBJECT | &SqlState::UNIQUE_VIOLATION)
                ) => {}
            Err(error) => return Err(refusal(&error, &[sql])),
        }
    }
    Ok(())
}

/// Returns what somebody is told who lacks the right, or who is blocked.
fn refusal(error: &tokio_postgres::Error, statements: &[String]) -> QueryError {
    let sql = statements.join("; ");
    let message = match error.code() {
        Some(&SqlState::INSUFFICIENT_PRIVILEGE) => format!(
            "the table must be in a publication, and Convoy's role may not put it there ({}); \
             let the table's owner run: {sql}",
            chain(error)
        ),
        Some(&SqlState::LOCK_NOT_AVAILABLE) => format!(
            "the table must be in a publication, and somebody holds a lock on it that is in the way \
             (VACUUM, CREATE INDEX, ALTER TABLE …): {sql}"
        ),
        _ => format!("the table could not be published by {sql}: {}", chain(error)),
    };
    let code = match error.as_db_error() {
        Some(_) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
            ErrorCode::InvalidArgs
        }
        _ => ErrorCode::Unavailable,
    };
    QueryError::new(code, message)
}
