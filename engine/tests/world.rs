//! A database in memory that does what Postgres does to a reader of its log: commits become visible and reach the stream
//! each at their own time, in orders that differ, and every question is answered whenever it pleases.

use convoy_engine::{
    CastId, CastRequest, ColumnFacts, Database, DescribeId, FunctionFacts, OutputColumn, ParamType,
    ProbeId, ProbeKind, Probed, Publication, QueryRead, ReadId, ReadRows, Snapshot, Statement,
    StatementFacts, TableFacts, TableKind,
};
use convoy_query_index::FieldId;
use convoy_types::{
    ChangeKind, Changes, Collation, Column, Datum, Lsn, OldRow, PgTimestamp, PgType, Relation,
    RelationId, ReplicaIdentity, Row, RowChange, Transaction, Xid,
};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

/// The table `items(id int8 primary key, grp int4, val int4)`.
const TABLE: RelationId = RelationId(20_000);

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

/// A committed transaction.
#[derive(Clone, Debug)]
pub struct Commit {
    pub xid: u32,
    pub end_lsn: Lsn,
    writes: Vec<Write>,
    is_visible: bool,
    is_streamed: bool,
    /// Whether its commit record lies before the slot: the stream never brings it.
    pub is_before_slot: bool,
}

/// A statement that the world knows how to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Panel {
    Group,
    Top,
    Sum,
    Groups,
    /// A join that holds rows of its inner table; they may be missing.
    Joined,
    /// The same where they must be there, and only the first rows are shown.
    TopJoined,
}

impl Panel {
    pub const ALL: [Panel; 6] =
        [Panel::Group, Panel::Top, Panel::Sum, Panel::Groups, Panel::Joined, Panel::TopJoined];

    pub fn sql(self) -> &'static str {
        match self {
            Panel::Group => "select id, val from items where grp = $1 order by id",
            Panel::Top => "select id, val from items where grp = $1 order by val desc limit 3",
            Panel::Sum => "select count(*) as n, sum(val) as total from items where grp = $1",
            Panel::Groups => "select grp, count(*) as n from items group by grp order by grp",
            Panel::Joined => {
                "select a.id, b.val from items a left join items b on b.id = a.val where a.grp = $1 order by a.id"
            }
            Panel::TopJoined => {
                "select a.id, b.grp from items a join items b on b.id = a.val where a.grp = $1 \
                 order by b.val desc, a.id limit 3"
            }
        }
    }

    /// The statement as a project's file.
    pub fn named(self, name: &str) -> Arc<Statement> {
        let header = if self.has_parameter() { "-- @param grp int4\n" } else { "" };
        let text = format!("{header}{}", self.sql());
        Arc::new(Statement::named(name, &text).expect("a statement"))
    }

    pub fn has_parameter(self) -> bool {
        self != Panel::Groups
    }

    fn columns(self) -> &'static [(&'static str, u32)] {
        match self {
            Panel::Group | Panel::Top | Panel::Joined => &[("id", 20), ("val", 23)],
            Panel::TopJoined => &[("id", 20), ("grp", 23)],
            Panel::Sum => &[("n", 20), ("total", 20)],
            Panel::Groups => &[("grp", 23), ("n", 20)],
        }
    }

    /// Returns the result over these rows: what Postgres would show, a text or null for each column.
    pub fn answer(self, items: &BTreeMap<i64, Item>, grp: i32) -> Vec<TextRow> {
        let mut of_group: Vec<Item> =
            items.values().copied().filter(|item| item.grp == grp).collect();
        let shown = |item: &Item| vec![Some(item.id.to_string()), Some(item.val.to_string())];
        match self {
            Panel::Group => of_group.iter().map(shown).collect(),
            Panel::Top => {
                of_group.sort_by_key(|item| (std::cmp::Reverse(item.val), item.id));
                of_group.iter().take(3).map(shown).collect()
            }
            Panel::Sum => {
                let total: i64 = of_group.iter().map(|item| i64::from(item.val)).sum();
                let total = (!of_group.is_empty()).then(|| total.to_string());
                vec![vec![Some(of_group.len().to_string()), total]]
            }
            Panel::Groups => {
                let mut counts: BTreeMap<i32, usize> = BTreeMap::new();
                for item in items.values() {
                    *counts.entry(item.grp).or_default() += 1;
                }
                let row = |(grp, count): (&i32, &usize)| {
                    vec![Some(grp.to_string()), Some(count.to_string())]
                };
                counts.iter().map(row).collect()
            }
            Panel::Joined | Panel::TopJoined => {
                self.joined(items, grp).map(|(a, b)| self.shown(a, b)).collect()
            }
        }
    }

    /// Returns the rows of a join that it shows, in order.
    fn joined(
        self,
        items: &BTreeMap<i64, Item>,
        grp: i32,
    ) -> impl Iterator<Item = (Item, Option<Item>)> {
        let of_group = items.values().filter(|item| item.grp == grp);
        let pair = |a: &Item| (*a, items.get(&i64::from(a.val)).copied());
        let mut pairs: Vec<_> = of_group.map(pair).collect();
        if self == Panel::TopJoined {
            pairs.retain(|(_, b)| b.is_some());
            pairs.sort_by_key(|(a, b)| (std::cmp::Reverse(b.map(|b| b.val)), a.id));
            pairs.truncate(3);
        }
        pairs.into_iter()
    }

    fn shown(self, a: Item, b: Option<Item>) -> Vec<Option<String>> {
        let of_b = b.map(|b| if self == Panel::Joined { b.val } else { b.grp });
        vec![Some(a.id.to_string()), of_b.map(|value| value.to_string())]
    }

    /// Returns what an aggregate's plan reads where the stream tells old rows: the state of each group.
    fn read_groups(self, items: &BTreeMap<i64, Item>, grp: i32) -> Vec<TextRow> {
        let state = |row: &TextRow| -> TextRow {
            match self {
                Panel::Sum => vec![row[0].clone(), row[0].clone(), row[1].clone(), row[0].clone()],
                _ => vec![row[0].clone(), row[1].clone(), row[1].clone()],
            }
        };
        self.answer(items, grp).iter().map(state).collect()
    }

    /// Returns what the plan's own statement reads: with spare rows, or with the group's key appended.
    fn read(self, items: &BTreeMap<i64, Item>, grp: i32) -> Vec<TextRow> {
        match self {
            Panel::Top => {
                let mut of_group: Vec<Item> =
                    items.values().copied().filter(|item| item.grp == grp).collect();
                of_group.sort_by_key(|item| (std::cmp::Reverse(item.val), item.id));
                let rows_max = 3 + usize::try_from(convoy_engine::spare_rows(3)).expect("a few");
                let row = |item: &Item| vec![Some(item.id.to_string()), Some(item.val.to_string())];
                of_group.iter().take(rows_max).map(row).collect()
            }
            Panel::Groups => {
                let appended = |mut row: TextRow| {
                    row.push(row[0].clone());
                    row
                };
                self.answer(items, grp).into_iter().map(appended).collect()
            }
            Panel::Joined | Panel::TopJoined => {
                let keyed = |(a, b): (Item, Option<Item>)| {
                    let mut row = self.shown(a, b);
                    row.extend([Some(a.id.to_string()), b.map(|b| b.id.to_string())]);
                    row
                };
                self.joined(items, grp).map(keyed).collect()
            }
            Panel::Group | Panel::Sum => self.answer(items, grp),
        }
    }
}

/// A row of an answer: a text or null for each column.
pub type TextRow = Vec<Option<String>>;

/// Something the engine asked for.
#[derive(Debug)]
pub enum Question {
    Describe(DescribeId, Panel),
    Cast(CastId, Vec<CastRequest>),
    OpenRead(ReadId),
    TakeSnapshot(ReadId),
    Run(ReadId, Vec<QueryRead>),
    Probe(ProbeId),
}

/// What the engine asked and nobody answered yet.
#[derive(Clone, Default)]
pub struct Questions(Arc<Mutex<Vec<Question>>>);

impl Questions {
    pub fn take(&self, random: &mut SmallRng) -> Option<Question> {
        let mut questions = self.0.lock().expect("no panic under it");
        let len = questions.len();
        (len > 0).then(|| questions.remove(random.random_range(0..len)))
    }

    /// Takes a probe out, if one is asked for.
    pub fn take_probe(&self) -> Option<ProbeId> {
        let mut questions = self.0.lock().expect("no panic under it");
        let probe = |question: &Question| matches!(question, Question::Probe(_));
        let at = questions.iter().position(probe)?;
        match questions.remove(at) {
            Question::Probe(id) => Some(id),
            _ => None,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.lock().expect("no panic under it").is_empty()
    }

    fn push(&self, question: Question) {
        self.0.lock().expect("no panic under it").push(question);
    }
}

impl Database for Questions {
    fn describe(&mut self, id: DescribeId, statement: &Arc<Statement>) {
        let panel = Panel::ALL
            .into_iter()
            .find(|panel| statement.text.ends_with(panel.sql()))
            .expect("one of the panels");
        self.push(Question::Describe(id, panel));
    }

    fn cast(&mut self, id: CastId, values: Vec<CastRequest>) {
        self.push(Question::Cast(id, values));
    }

    fn open_read(&mut self, id: ReadId, _: Vec<RelationId>) {
        self.push(Question::OpenRead(id));
    }

    fn take_snapshot(&mut self, id: ReadId) {
        self.push(Question::TakeSnapshot(id));
    }

    fn run(&mut self, id: ReadId, queries: Vec<QueryRead>) {
        self.push(Question::Run(id, queries));
    }

    fn close_read(&mut self, _: ReadId) {}

    fn flush_wal(&mut self) {}

    fn probe_snapshot(&mut self, id: ProbeId, _: ProbeKind) {
        self.push(Question::Probe(id));
    }

    fn watch(&mut self, _: Vec<RelationId>) {}
}

/// The database.
pub struct World {
    pub commits: Vec<Commit>,
    /// What the next transaction builds on: all that was committed.
    items: BTreeMap<i64, Item>,
    next_xid: u32,
    insert_lsn: u64,
    relation: Arc<Relation>,
    table: Arc<TableFacts>,
    pub synchronous_standbys: bool,
    /// Whether what was committed before the slot may become visible.
    pub standby_answers: bool,
}

impl World {
    pub fn table_id(&self) -> RelationId {
        self.relation.id
    }

    pub fn new(random: &mut SmallRng) -> Self {
        let identity =
            if random.random_bool(0.5) { ReplicaIdentity::Full } else { ReplicaIdentity::Default };
        let columns = [("id", 20, true), ("grp", 23, false), ("val", 23, false)];
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
        World {
            commits: Vec::new(),
            items: items.map(|item| (item.id, item)).collect(),
            // Close to a wrap: ids of 32 bits must be widened (P4).
            next_xid: u32::MAX - random.random_range(0..40),
            insert_lsn: 10_000,
            relation: Arc::new(Relation {
                id: TABLE,
                namespace: "public".to_owned(),
                name: "items".to_owned(),
                replica_identity: identity,
                columns: columns.into_iter().map(column).collect(),
            }),
            table: Arc::new(TableFacts {
                id: TABLE,
                kind: TableKind::Plain,
                namespace: "public".to_owned(),
                name: "items".to_owned(),
                columns: columns.into_iter().map(facts).collect(),
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
        let identity = ReplicaIdentity::Full;
        let columns = self.relation.columns.iter().cloned();
        let columns = columns.map(|column| Column { is_identity: true, ..column }).collect();
        self.relation =
            Arc::new(Relation { replica_identity: identity, columns, ..(*self.relation).clone() });
        self.table = Arc::new(TableFacts { identity, ..(*self.table).clone() });
    }

    pub fn initial(seed: u64) -> BTreeMap<i64, Item> {
        World::new(&mut SmallRng::seed_from_u64(seed)).items
    }

    /// Commits a transaction. It does not touch a row that one which is not visible yet has touched: writers wait for
    /// those (P6, "conflicting writes never invert").
    pub fn commit(&mut self, random: &mut SmallRng) {
        let locked: BTreeSet<i64> = self
            .commits
            .iter()
            .filter(|commit| !commit.is_visible)
            .flat_map(|commit| commit.writes.iter().flat_map(|write| [write.before, write.after]))
            .flatten()
            .map(|item| item.id)
            .collect();
        let mut writes = Vec::new();
        for _ in 0..random.random_range(1..5) {
            let id = random.random_range(0..24);
            let before = self.items.get(&id).copied();
            let new_id = if random.random_bool(0.1) { random.random_range(0..24) } else { id };
            if locked.contains(&id)
                || locked.contains(&new_id)
                || (new_id != id && self.items.contains_key(&new_id))
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
            self.items.remove(&id);
            self.items.extend(after.map(|item| (item.id, item)));
            writes.push(Write { before, after });
        }
        self.push_commit(writes);
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
        self.insert_lsn += 100;
        self.commits.push(Commit {
            xid: self.next_xid,
            end_lsn: Lsn(self.insert_lsn),
            writes,
            is_visible: false,
            is_streamed: false,
            is_before_slot: false,
        });
        // Postgres never gives out the first three.
        self.next_xid = self.next_xid.checked_add(1).unwrap_or(3);
    }

    /// Commits a transaction that a standby keeps from being visible while the slot is made.
    pub fn commit_before_slot(&mut self, random: &mut SmallRng) {
        self.commit(random);
        if let Some(commit) = self.commits.last_mut() {
            (commit.is_streamed, commit.is_before_slot) = (true, true);
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
        }
    }

    /// Returns the next transaction of the stream.
    pub fn stream(&mut self) -> Option<Transaction> {
        let at = self.commits.iter().position(|commit| !commit.is_streamed)?;
        self.commits[at].is_streamed = true;
        let commit = &self.commits[at];
        Some(Transaction {
            xid: Xid(commit.xid),
            commit_lsn: Lsn(commit.end_lsn.0 - 50),
            end_lsn: commit.end_lsn,
            commit_time: PgTimestamp(i64::try_from(commit.end_lsn.0).expect("small")),
            changes: Changes::Rows(commit.writes.iter().map(|write| self.change(*write)).collect()),
            messages: Vec::new(),
        })
    }

    fn change(&self, write: Write) -> RowChange {
        let text = |number: i64| Datum::Text(number.to_string().into());
        let row =
            |item: Item| Row([text(item.id), text(item.grp.into()), text(item.val.into())].into());
        let key = |item: Item| Row([text(item.id), Datum::Missing, Datum::Missing].into());
        let is_full = self.relation.replica_identity == ReplicaIdentity::Full;
        let old =
            |item: Item| if is_full { OldRow::Full(row(item)) } else { OldRow::Key(key(item)) };
        let kind = match (write.before, write.after) {
            (Some(before), Some(after)) if !is_full && before.id == after.id => {
                ChangeKind::Update { old: OldRow::SameKey, new: row(after) }
            }
            (Some(before), Some(after)) => ChangeKind::Update { old: old(before), new: row(after) },
            (None, Some(after)) => ChangeKind::Insert { new: row(after) },
            (Some(before), None) => ChangeKind::Delete { old: old(before) },
            (None, None) => ChangeKind::Truncate,
        };
        RowChange { relation: self.relation.clone(), kind }
    }

    /// Returns the position that the stream has passed, and whether nothing is left in it.
    pub fn streamed(&self) -> (Lsn, bool) {
        let is_all = self.commits.iter().all(|commit| commit.is_streamed);
        (Lsn(self.insert_lsn), is_all)
    }

    pub fn is_all_visible(&self) -> bool {
        self.commits.iter().all(|commit| commit.is_visible)
    }

    /// Takes a snapshot, and says which transactions are open.
    pub fn probe(&self) -> Probed {
        let hidden = self.commits.iter().filter(|commit| !commit.is_visible);
        Probed { snapshot: self.snapshot().0, open: hidden.map(|commit| Xid(commit.xid)).collect() }
    }

    /// Takes a snapshot, and says which transactions it shows.
    pub fn snapshot(&self) -> (Snapshot, Vec<bool>) {
        let epoch = |xid: u32| u64::from(xid) + if xid < 1_000 { 1 << 32 } else { 0 };
        let running: Vec<_> = self
            .commits
            .iter()
            .filter(|commit| !commit.is_visible)
            .map(|commit| epoch(commit.xid))
            .collect();
        let xmax = epoch(self.next_xid);
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
    pub fn items_after(
        &self,
        seed: u64,
        is_in: impl Fn(usize, &Commit) -> bool,
    ) -> BTreeMap<i64, Item> {
        let mut items = World::initial(seed);
        for (_, commit) in self.commits.iter().enumerate().filter(|(at, commit)| is_in(*at, commit))
        {
            for write in &commit.writes {
                items.extend(write.after.map(|item| (item.id, item)));
                if let Some(before) = write
                    .before
                    .filter(|before| write.after.is_none_or(|after| after.id != before.id))
                {
                    items.remove(&before.id);
                }
            }
        }
        items
    }

    pub fn facts(&self, panel: Panel) -> StatementFacts {
        let column = |(name, oid): &(&str, u32)| OutputColumn {
            name: (*name).to_owned(),
            type_oid: *oid,
            type_name: if *oid == 20 { "int8" } else { "int4" }.to_owned(),
            ty: PgType::from_oid(*oid),
        };
        let param = ParamType { type_oid: 23, type_name: "integer".to_owned(), ty: PgType::Int4 };
        let function = |name: &str| FunctionFacts {
            name: name.to_owned(),
            namespace: "pg_catalog".to_owned(),
            volatile: false,
            aggregate: true,
            stable: false,
        };
        StatementFacts {
            params: if panel.has_parameter() { vec![param] } else { Vec::new() },
            columns: panel.columns().iter().map(column).collect(),
            tables: vec![self.table.clone()],
            functions: vec![function("count"), function("sum")],
            default_collation: Collation::ByteOrder,
            server_version_num: 150_018,
        }
    }

    /// Reads one query's result at a snapshot.
    pub fn read(&self, seed: u64, shown: &[bool], query: &QueryRead) -> ReadRows {
        let items = self.items_after(seed, |at, _| shown.get(at).copied().unwrap_or(false));
        let grp =
            query.params.first().and_then(|param| param.as_deref()?.parse().ok()).unwrap_or(0);
        let sql = &*query.statement.sql;
        if sql.contains("count(*))::") {
            let panel = if sql.contains("sum(") { Panel::Sum } else { Panel::Groups };
            return panel.read_groups(&items, grp).into_iter().collect();
        }
        let panel = match sql {
            sql if sql.contains("left join items") => Panel::Joined,
            sql if sql.contains("join items") => Panel::TopJoined,
            sql if sql.contains("sum(val)") => Panel::Sum,
            sql if sql.contains("group by grp") => Panel::Groups,
            sql if sql.to_lowercase().contains("limit") => Panel::Top,
            _ => Panel::Group,
        };
        panel.read(&items, grp).into_iter().collect()
    }
}
