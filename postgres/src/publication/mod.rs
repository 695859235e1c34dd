//! Publishing tables, so that the stream has their changes: which publication each belongs in, how it enters without
//! a gap, and when it must move (`docs/postgres.md`, P1, P2 and P8).
//!
//! A table whose old rows carry no usable identity must not be published for updates: **the user's own writes would
//! fail**. So there are two publications, and a table is in at most one. A partitioned table is a member as a whole,
//! so that partitions made later are too, but only where its own key makes sure that those have an identity;
//! otherwise its leaves are members one by one, and the catalogue watch adds new ones.
//!
//! Here is what is done and in which order; what our publications are is in `definition`, where a table belongs in
//! `membership`, what has to change for it in `changes`, and whom we wait for in `writers`.

mod changes;
mod definition;
mod membership;
mod writers;

pub use definition::{FULL, INSERTS_ONLY};

use crate::catalog::{self, Tree};
use crate::connect::ServerStart;
use crate::error::PostgresError;
use crate::pool::Pool;
use changes::Changes;
use convoy_engine::{Publication, QueryError};
use convoy_types::RelationId;
use definition::{Ours, create_publications, refusal, was_overtaken};
use membership::{Member, Membership, foreseen, lost, members, memberships, partition_roots};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio_postgres::Client;
use writers::{Writer, wait_for, writers};

/// Transactions that another Convoy's ADD TABLE may have missed began at most this many before it.
const RECENT_XIDS: i64 = 1000;

/// How often a change of the publications is tried where another Convoy is changing them too.
const CHANGES_MAX: u32 = 5;

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
    /// Tables that were put into our publications, whatever somebody has done to these since.
    put_in: Mutex<BTreeSet<RelationId>>,
    /// Memberships, by their oids, whose earlier writers have all ended: nobody is waited for again for their sake.
    settled: Mutex<HashMap<RelationId, u32>>,
    /// Where relations are members since they were last brought up to date.
    members: Mutex<BTreeMap<RelationId, Ours>>,
    /// One change of the publications at a time.
    changing: tokio::sync::Mutex<()>,
}

impl Publisher {
    pub(crate) fn new(pool: Pool, mode: PublishMode, wait_max: Duration) -> Publisher {
        Publisher {
            pool,
            mode,
            wait_max,
            known: Mutex::default(),
            put_in: Mutex::default(),
            settled: Mutex::default(),
            members: Mutex::default(),
            changing: tokio::sync::Mutex::new(()),
        }
    }

    pub(crate) fn bind_to(&self, server: Option<ServerStart>) {
        self.pool.bind_to(server);
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
            let lease = self.pool.get_briefly(self.wait_max).await.map_err(QueryError::from)?;
            // Somebody else may have published them, and waited for their writers, while we waited for the connection.
            let is_known = |id: &RelationId| {
                let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
                known.contains_key(id) && known.get(id) == foreseen.get(id)
            };
            if wanted.iter().all(is_known) {
                return Ok(foreseen);
            }
            let (writers, members) = self.bring_up_to_date(lease.client(), &wanted).await?;
            self.put_in.lock().unwrap_or_else(PoisonError::into_inner).extend(&wanted);
            wait_for(lease.client(), writers, self.wait_max).await?;
            self.settled.lock().unwrap_or_else(PoisonError::into_inner).extend(members);
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.extend(foreseen.iter().map(|(&id, &publication)| (id, publication)));
        Ok(foreseen)
    }

    /// Returns the tables that somebody has taken out of our publications, with those that are read through them. Each is
    /// told once: describing it again puts it back, or says why that does not go.
    pub(crate) async fn taken_out(
        &self,
        client: &Client,
    ) -> Result<Vec<RelationId>, PostgresError> {
        let members = self.members().clone();
        let lost = lost(client, &members).await?;
        self.members().retain(|id, _| !lost.members.contains(id));
        Ok(lost.related.into_iter().collect())
    }

    fn members(&self) -> std::sync::MutexGuard<'_, BTreeMap<RelationId, Ours>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings the publications to what they should be for tables whose catalogue entries have changed, without
    /// waiting for anybody: whoever describes them again waits.
    pub(crate) async fn adjust(&self, tables: &[RelationId]) -> Result<(), QueryError> {
        self.forget(tables);
        if self.mode == PublishMode::Foresee {
            return Ok(());
        }
        let lease = self.pool.get_briefly(Duration::ZERO).await.map_err(QueryError::from)?;
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
    ) -> Result<(Vec<Writer>, HashMap<RelationId, u32>), QueryError> {
        // A partition is judged with the whole that it is part of.
        let roots = partition_roots(client, wanted).await?;
        let _changing = self.changing.lock().await;
        let trees = catalog::trees(client, &roots).await?;
        let memberships: BTreeMap<RelationId, Membership> =
            trees.values().flat_map(memberships).collect();
        self.change(client, &memberships).await
    }

    /// Brings the publications to what they should be, and returns the transactions that must end before what was
    /// added counts, and the memberships that are settled then.
    async fn change(
        &self,
        client: &Client,
        memberships: &BTreeMap<RelationId, Membership>,
    ) -> Result<(Vec<Writer>, HashMap<RelationId, u32>), QueryError> {
        let mut attempts = 0;
        let Changes { added, there, .. } = loop {
            let members = members(client, memberships.keys().copied()).await?;
            let changes = Changes::between(memberships, &members);
            let statements = &changes.statements;
            if statements.is_empty() {
                break changes;
            }
            create_publications(client).await?;
            let script = format!("BEGIN; {}; COMMIT", statements.join("; "));
            match client.batch_execute(&script).await {
                Ok(()) => {
                    tracing::info!(changes = statements.join("; "), "changed the publications");
                    break changes;
                }
                Err(error) => {
                    // Out of the failed transaction, or the connection is of no use to the next.
                    let _ = client.batch_execute("ROLLBACK").await;
                    attempts += 1;
                    if attempts == CHANGES_MAX || !was_overtaken(&error) {
                        return Err(refusal(&error, statements));
                    }
                }
            }
        };
        let mut settled: HashMap<_, _> =
            there.iter().map(|(id, member)| (*id, member.oid)).collect();
        let mut added = added;
        if !added.is_empty() {
            // What is there by now, ours or made again by somebody else: as new, all of it.
            let members = members(client, memberships.keys().copied()).await?;
            let now = Changes::between(memberships, &members).there;
            let is_new =
                |(id, member): &&(RelationId, Member)| settled.get(id) != Some(&member.oid);
            added.extend(now.iter().filter(is_new).map(|(id, _)| *id));
            settled = now.iter().map(|(id, member)| (*id, member.oid)).collect();
        }
        {
            let mut known = self.members();
            for (&id, membership) in memberships {
                match membership.of {
                    Some(publication) => known.insert(id, publication),
                    None => known.remove(&id),
                };
            }
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
        let known = self.settled.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let unsettled = there.iter().filter(|(id, member)| known.get(id) != Some(&member.oid));
        let youngest = unsettled.map(|(_, member)| member.age).min();
        if let Some(age) = youngest.filter(|&age| age < i64::from(i32::MAX) && age >= 0) {
            let before = |writer: &Writer| writer.xid_age > 0 && writer.xid_age + RECENT_XIDS > age;
            waited_for.extend(writers(client, &all).await?.into_iter().filter(before));
        }
        Ok((waited_for, settled))
    }

    /// Makes our publications where they are missing, with the tables that were published before. They must be there
    /// before the slot is (P1).
    pub(crate) async fn create(&self) -> Result<(), QueryError> {
        if self.mode == PublishMode::Foresee {
            return Ok(());
        }
        {
            let lease = self.pool.get_briefly(Duration::ZERO).await.map_err(QueryError::from)?;
            let _changing = self.changing.lock().await;
            create_publications(lease.client()).await?;
        }
        // Not what is known: that is forgotten each time, and the publications may be gone again before it is known anew.
        let put_in: Vec<RelationId> = {
            let put_in = self.put_in.lock().unwrap_or_else(PoisonError::into_inner);
            put_in.iter().copied().collect()
        };
        if put_in.is_empty() { Ok(()) } else { self.adjust(&put_in).await }
    }
}
