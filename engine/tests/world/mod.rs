//! A database in memory that does what Postgres does to a reader of its log: commits become visible and reach the stream
//! each at their own time, in orders that differ, and every question is answered whenever it pleases.

mod answers;
mod panel;
mod questions;
mod stream;

pub use panel::{OfGroup, Panel, TextRow};
pub use questions::{Question, Questions};
pub use stream::{Creation, Telling};

use convoy_engine::{ColumnFacts, Probed, Publication, Snapshot, TableFacts, TableKind};
use convoy_query_index::FieldId;
use convoy_types::{Collation, Column, Lsn, PgType, Relation, RelationId, ReplicaIdentity, Xid};
use rand::Rng;
use rand::rngs::SmallRng;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The table `items(id int8 primary key, grp int4, val int4)`.
const TABLE: RelationId = RelationId(20_000);

/// The table's columns: name, type, whether it is the key.
const COLUMNS: [(&str, u32, bool); 3] = [("id", 20, true), ("grp", 23, false), ("val", 23, false)];

/// Where the WAL begins.
const FIRST_LSN: u64 = 10_000;

/// What a transaction takes of it.
const COMMIT_BYTES: u64 = 100;

/// The rows of the table by their key.
pub type Items = BTreeMap<i64, Item>;

/// A row of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item {
    pub id: i64,
    pub grp: i32,
    pub val: i32,
}

/// A row before and after; none where it was or is not there.
#[derive(Clone, Copy, Debug)]
pub struct Write {
    before: Option<Item>,
    after: Option<Item>,
}

impl Write {
    fn rows(&self) -> impl Iterator<Item = i64> {
        self.before.into_iter().chain(self.after).map(|item| item.id)
    }
}

/// A committed transaction.
#[derive(Clone, Debug)]
pub struct Commit {
    /// Which one it is: unlike an xid or a position, a number that no other transaction ever has.
    pub serial: u64,
    pub xid: u32,
    pub end_lsn: Lsn,
    writes: Vec<Write>,
    is_truncate: bool,
    /// The table as the stream describes it when it comes to this transaction.
    relation: Arc<Relation>,
    pub is_visible: bool,
    is_streamed: bool,
    /// Whether the stream has brought it at any time, so that no crash takes it back.
    is_flushed: bool,
    /// Whether its commit record lies before the slot: the stream never brings it.
    pub is_before_slot: bool,
    /// The mutation that it names itself as.
    mutation: Option<Arc<str>>,
}

impl Commit {
    /// Brings its writes into these rows.
    pub fn apply(&self, items: &mut Items) {
        for Write { before, after } in &self.writes {
            if let Some(before) =
                before.filter(|before| after.is_none_or(|after| after.id != before.id))
            {
                items.remove(&before.id);
            }
            items.extend(after.map(|item| (item.id, item)));
        }
    }
}

/// A transaction that has written and not ended, prepared or not.
#[derive(Debug)]
struct Open {
    xid: u32,
    writes: Vec<Write>,
    is_prepared: bool,
    /// Where the WAL was when it had written.
    since: u64,
}

/// The database.
pub struct World {
    /// In the order of their commit records.
    pub commits: Vec<Commit>,
    /// What the next transaction builds on: all that was committed.
    items: Items,
    initial: Items,
    open: Vec<Open>,
    first_xid: u64,
    next_xid: u32,
    /// The greatest id of a transaction that is visible or rolled back.
    latest_completed: u64,
    next_serial: u64,
    insert_lsn: u64,
    relation: Arc<Relation>,
    table: Arc<TableFacts>,
    pub synchronous_standbys: bool,
    /// Whether what was committed before the slot may become visible.
    pub standby_answers: bool,
}

/// Returns a transaction's id with its epoch: ids that wrapped are small.
fn widened(xid: u32) -> u64 {
    u64::from(xid) + if xid < 1_000_000 { 1 << 32 } else { 0 }
}

/// Returns the id that is given out next. Postgres never gives out the first three.
fn following(xid: u32) -> u32 {
    xid.checked_add(1).unwrap_or(3)
}

impl World {
    pub fn table_id(&self) -> RelationId {
        self.relation.id
    }

    pub fn new(random: &mut SmallRng) -> Self {
        let identity =
            if random.random_bool(0.5) { ReplicaIdentity::Full } else { ReplicaIdentity::Default };
        let column = |(name, type_oid, is_key): (&str, u32, bool)| Column {
            name: name.to_owned(),
            type_oid,
            type_modifier: -1,
            is_identity: is_key || identity == ReplicaIdentity::Full,
        };
        let facts = |(name, type_oid, not_null): (&str, u32, bool)| ColumnFacts {
            name: name.to_owned(),
            ty: PgType::from_oid(type_oid),
            type_oid,
            type_name: if type_oid == 20 { "bigint" } else { "integer" }.to_owned(),
            scale: None,
            collation: Collation::None,
            generated: false,
            not_null,
        };
        let items =
            (0..12).map(|id| Item { id, grp: i32::try_from(id % 3).expect("small"), val: 5 });
        let items: Items = items.map(|item| (item.id, item)).collect();
        // Close to a wrap: ids of 32 bits must be widened (P4).
        let next_xid = u32::MAX - random.random_range(0..40);
        World {
            commits: Vec::new(),
            initial: items.clone(),
            items,
            open: Vec::new(),
            first_xid: u64::from(next_xid) - 1,
            next_xid,
            latest_completed: u64::from(next_xid) - 1,
            next_serial: 1,
            insert_lsn: FIRST_LSN,
            relation: Arc::new(Relation {
                id: TABLE,
                namespace: "public".to_owned(),
                name: "items".to_owned(),
                replica_identity: identity,
                columns: COLUMNS.into_iter().map(column).collect(),
            }),
            table: Arc::new(TableFacts {
                id: TABLE,
                kind: TableKind::Plain,
                namespace: "public".to_owned(),
                name: "items".to_owned(),
                columns: COLUMNS.into_iter().map(facts).collect(),
                primary_key: vec![FieldId(0)],
                identity,
                publication: Publication::Full,
                row_security: false,
                leaves: Vec::new(),
            }),
            synchronous_standbys: random.random_bool(0.2),
            standby_answers: false,
        }
    }

    /// Lets the stream tell what rows were before.
    pub fn tell_old_rows(&mut self) {
        self.set_identity(ReplicaIdentity::Full);
    }

    fn set_identity(&mut self, identity: ReplicaIdentity) {
        let columns = self.relation.columns.iter().cloned().zip(COLUMNS);
        let columns = columns.map(|(column, (_, _, is_key))| Column {
            is_identity: is_key || identity == ReplicaIdentity::Full,
            ..column
        });
        self.relation = Arc::new(Relation {
            replica_identity: identity,
            columns: columns.collect(),
            ..(*self.relation).clone()
        });
        self.table = Arc::new(TableFacts { identity, ..(*self.table).clone() });
    }

    /// Alters the table's replica identity.
    ///
    /// # Panics
    /// Where somebody writes the table.
    pub fn alter_identity(&mut self) {
        assert!(self.is_unwritten(), "it waits for whoever has written the table");
        self.set_identity(match self.relation.replica_identity {
            ReplicaIdentity::Full => ReplicaIdentity::Default,
            _ => ReplicaIdentity::Full,
        });
    }

    /// Returns whether no transaction holds a lock of the table for what it wrote.
    pub fn is_unwritten(&self) -> bool {
        self.open.is_empty() && self.is_all_visible()
    }

    /// Returns whether a transaction keeps readers out of the table: it has truncated it and is not visible yet.
    pub fn is_kept_out(&self) -> bool {
        self.commits.iter().any(|commit| commit.is_truncate && !commit.is_visible)
    }

    /// Commits a transaction that empties the table.
    ///
    /// # Panics
    /// Where somebody writes the table.
    pub fn truncate(&mut self) {
        assert!(self.is_unwritten(), "it waits for whoever has written the table");
        let items = std::mem::take(&mut self.items);
        let writes =
            items.into_values().map(|item| Write { before: Some(item), after: None }).collect();
        self.push_commit(writes);
        if let Some(commit) = self.commits.last_mut() {
            commit.is_truncate = true;
        }
    }

    /// Chooses what a transaction writes. It touches no row that one which is not visible yet has touched: writers wait
    /// for those (P6, "conflicting writes never invert").
    fn choose_writes(&self, random: &mut SmallRng) -> Vec<Write> {
        let hidden = self.commits.iter().filter(|commit| !commit.is_visible);
        let hidden = hidden.flat_map(|commit| &commit.writes);
        let of_others = hidden.chain(self.open.iter().flat_map(|open| &open.writes));
        let locked: BTreeSet<i64> = of_others.flat_map(Write::rows).collect();
        // It may write a row again that it has written.
        let mut items = self.items.clone();
        let mut writes = Vec::new();
        for _ in 0..random.random_range(1..5) {
            let id = random.random_range(0..24);
            let before = items.get(&id).copied();
            let new_id = if random.random_bool(0.1) { random.random_range(0..24) } else { id };
            if locked.contains(&id)
                || locked.contains(&new_id)
                || (new_id != id && items.contains_key(&new_id))
            {
                continue;
            }
            let gone = before.is_some() && random.random_bool(0.3);
            let item =
                Item { id: new_id, grp: random.random_range(0..3), val: random.random_range(0..6) };
            let after = (!gone).then_some(item);
            if before.is_none() && after.is_none() {
                continue;
            }
            items.remove(&id);
            items.extend(after.map(|item| (item.id, item)));
            writes.push(Write { before, after });
        }
        writes
    }

    fn take_xid(&mut self) -> u32 {
        let xid = self.next_xid;
        self.next_xid = following(xid);
        xid
    }

    /// Commits a transaction.
    pub fn commit(&mut self, random: &mut SmallRng) {
        if !self.is_kept_out() {
            let writes = self.choose_writes(random);
            self.take_in(&writes);
            self.push_commit(writes);
        }
    }

    /// Commits a mutation's transaction, which writes nothing where it may not, and sometimes else. Returns its number.
    pub fn commit_mutation(
        &mut self,
        random: &mut SmallRng,
        mutation: Arc<str>,
        may_write: bool,
    ) -> u64 {
        let writes_nothing = !may_write || self.is_kept_out() || random.random_bool(0.3);
        let writes = if writes_nothing { Vec::new() } else { self.choose_writes(random) };
        self.take_in(&writes);
        self.push_commit(writes);
        let commit = self.commits.last_mut().expect("it was just committed");
        commit.mutation = Some(mutation);
        commit.serial
    }

    /// Answers who committed a transaction, if that has got so far: with a position that includes it, all of it flushed.
    pub fn answer_commit(&mut self, serial: u64, random: &mut SmallRng) -> Option<Lsn> {
        let commit = self.commit_of(serial).filter(|commit| commit.is_visible)?;
        let flushed = match random.random_bool(0.5) {
            true => commit.end_lsn,
            false => Lsn(self.insert_lsn),
        };
        for commit in self.commits.iter_mut().filter(|commit| commit.end_lsn <= flushed) {
            commit.is_flushed = true;
        }
        Some(flushed)
    }

    /// Begins a transaction that has written and goes on.
    pub fn begin(&mut self, random: &mut SmallRng) {
        if !self.is_kept_out() {
            let (writes, xid) = (self.choose_writes(random), self.take_xid());
            let (is_prepared, since) = (random.random_bool(0.5), self.insert_lsn);
            self.open.push(Open { xid, writes, is_prepared, since });
        }
    }

    /// Ends an open transaction: mostly it commits.
    pub fn end(&mut self, random: &mut SmallRng) {
        if self.open.is_empty() {
            return;
        }
        let Open { xid, writes, .. } = self.open.remove(random.random_range(0..self.open.len()));
        if random.random_bool(0.2) {
            self.latest_completed = self.latest_completed.max(widened(xid));
            return;
        }
        self.take_in(&writes);
        self.push_commit_of(xid, writes);
    }

    /// Returns whether transactions have written and not ended.
    pub fn has_open(&self) -> bool {
        !self.open.is_empty()
    }

    fn take_in(&mut self, writes: &[Write]) {
        for Write { before, after } in writes {
            if let Some(before) = before {
                self.items.remove(&before.id);
            }
            self.items.extend(after.map(|item| (item.id, item)));
        }
    }

    /// Commits a transaction that brings rows, or other values of theirs.
    pub fn commit_rows(&mut self, rows: impl IntoIterator<Item = Item>) {
        let write =
            |item: Item| Write { before: self.items.insert(item.id, item), after: Some(item) };
        let writes = rows.into_iter().map(write).collect();
        self.push_commit(writes);
    }

    /// Commits a transaction that leaves this of a row, or takes it away.
    pub fn commit_row(&mut self, id: i64, after: Option<Item>) {
        let before = self.items.remove(&id);
        self.items.extend(after.map(|item| (item.id, item)));
        self.push_commit(vec![Write { before, after }]);
    }

    fn push_commit(&mut self, writes: Vec<Write>) {
        let xid = self.take_xid();
        self.push_commit_of(xid, writes);
    }

    fn push_commit_of(&mut self, xid: u32, writes: Vec<Write>) {
        self.insert_lsn += COMMIT_BYTES;
        self.commits.push(Commit {
            serial: self.next_serial,
            xid,
            end_lsn: Lsn(self.insert_lsn),
            writes,
            is_truncate: false,
            relation: self.relation.clone(),
            is_visible: false,
            is_streamed: false,
            is_flushed: false,
            is_before_slot: false,
            mutation: None,
        });
        self.next_serial += 1;
    }

    /// Commits a transaction that a standby keeps from being visible while the slot is made.
    pub fn commit_before_slot(&mut self, random: &mut SmallRng) {
        self.commit(random);
        if let Some(commit) = self.commits.last_mut() {
            commit.pass_by();
        }
        self.synchronous_standbys = true;
    }

    fn may_show(&self, at: usize) -> bool {
        let commit = &self.commits[at];
        !commit.is_visible && (self.standby_answers || !commit.is_before_slot)
    }

    /// Makes some commit visible, mostly the oldest.
    pub fn show(&mut self, random: &mut SmallRng) {
        let hidden: Vec<_> = (0..self.commits.len()).filter(|&at| self.may_show(at)).collect();
        let at =
            if random.random_bool(0.8) { 0 } else { random.random_range(0..hidden.len().max(1)) };
        if let Some(&at) = hidden.get(at) {
            self.commits[at].is_visible = true;
            self.latest_completed = self.latest_completed.max(widened(self.commits[at].xid));
        }
    }

    pub fn is_all_visible(&self) -> bool {
        self.commits.iter().all(|commit| commit.is_visible)
    }

    /// Takes a snapshot, and says which transactions are open.
    pub fn probe(&self) -> Probed {
        let hidden = self.commits.iter().filter(|commit| !commit.is_visible);
        let open = hidden.map(|commit| commit.xid).chain(self.open.iter().map(|open| open.xid));
        Probed { snapshot: self.snapshot().0, open: open.map(Xid).collect() }
    }

    /// Takes a snapshot, and says which transactions it shows.
    pub fn snapshot(&self) -> (Snapshot, Vec<bool>) {
        let xmax = self.latest_completed + 1;
        let hidden = self.commits.iter().filter(|commit| !commit.is_visible);
        let running = hidden.map(|commit| commit.xid).chain(self.open.iter().map(|open| open.xid));
        // It does not tell of those that began after the last one that ended.
        let running: BTreeSet<u64> = running.map(widened).filter(|xid| *xid < xmax).collect();
        let xmin = running.first().copied().unwrap_or(xmax);
        let running = running.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
        let snapshot = Snapshot {
            mark: format!("{xmin}:{xmax}:{running}").parse().expect("a snapshot"),
            settle_lsn: Lsn(self.insert_lsn),
            synchronous_standbys: self.synchronous_standbys,
            exported: None,
        };
        (snapshot, self.commits.iter().map(|commit| commit.is_visible).collect())
    }

    /// Returns the rows after some of the transactions, in the order of their commits.
    pub fn items_after(&self, is_in: impl Fn(usize, &Commit) -> bool) -> Items {
        let mut items = self.initial.clone();
        for (_, commit) in self.commits.iter().enumerate().filter(|(at, commit)| is_in(*at, commit))
        {
            commit.apply(&mut items);
        }
        items
    }

    /// Returns the transaction with this number, if it is still there.
    pub fn commit_of(&self, serial: u64) -> Option<&Commit> {
        let at = self.commits.binary_search_by_key(&serial, |commit| commit.serial).ok()?;
        self.commits.get(at)
    }
}
