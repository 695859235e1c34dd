//! Clients that believe what they are told, and their outboxes.

use super::fault::Fault;
use crate::world::Panel;
use convoy_engine::{
    DiffOp, Digest, ErrorCode, Outbox, OutboxState, QueryError, ResultRow, SessionId, Transition,
    Update, UpdateKind,
};
use convoy_types::Lsn;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// A result as a client has it: keys and cells.
pub type Rows = Vec<(String, Vec<String>)>;

/// A transition on its way to a client.
pub struct Sent {
    /// The epoch of the stream in which it was sent.
    pub epoch: usize,
    /// How often something that was sent before may have been lost.
    pub losses: usize,
    pub transition: Transition,
}

impl Sent {
    /// Returns whether it says no more than that subscriptions have failed for good. That waits for no cut, so it may
    /// overtake what a resume has yet to bring.
    pub fn is_final_error(&self) -> bool {
        let is_final =
            |update: &Update| matches!(update.kind, UpdateKind::Error { last: true, .. });
        let updates = &self.transition.updates;
        !updates.is_empty() && updates.iter().all(is_final)
    }
}

/// What is on its way to a client.
#[derive(Default)]
pub struct Waiting {
    pub transitions: Vec<Sent>,
    /// What never arrived, since there was no memory for it.
    lost: Vec<Sent>,
    /// How often something may have been lost by now.
    losses: usize,
    /// The label of the last transition that was read.
    pub read_lsn: Lsn,
    /// Whether what waits is let go with the next one.
    loses: bool,
    /// The greatest label that was sent.
    pub sent_lsn: Lsn,
    /// Subscriptions that are over: nothing names them any more.
    pub ended: BTreeSet<Arc<str>>,
}

/// A client's bounded queue.
#[derive(Clone, Default)]
pub struct Inbox {
    pub seed: u64,
    /// What is thrown away on the way.
    pub fault: Fault,
    pub waiting: Arc<Mutex<Waiting>>,
    pub room: usize,
    /// The epoch that it is.
    pub epoch: Arc<AtomicUsize>,
    /// Whether its connection is gone: what is sent is lost.
    pub is_cut: Arc<AtomicBool>,
    /// What its reader had when it came back; nobody knows once something was let go.
    pub has: Arc<Mutex<BTreeMap<Arc<str>, Digest>>>,
}

impl Inbox {
    /// Takes its connection away.
    pub fn cut(&self) {
        self.is_cut.store(true, Ordering::Relaxed);
    }

    pub fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::Relaxed)
    }

    /// Takes out what waits.
    pub fn take(&self) -> Vec<Sent> {
        std::mem::take(&mut self.waiting.lock().expect("no panic under it").transitions)
    }

    /// Takes out what was let go.
    pub fn take_lost(&self) -> Vec<Sent> {
        std::mem::take(&mut self.waiting.lock().expect("no panic under it").lost)
    }

    /// Lets go what waits and whatever comes next, or with that alone.
    pub fn lose(&self, at_once: bool) {
        let mut waiting = self.waiting.lock().expect("no panic under it");
        let Waiting { transitions, lost, loses, losses, .. } = &mut *waiting;
        *loses = true;
        if at_once {
            *losses += 1;
            lost.append(transitions);
            self.has.lock().expect("no panic under it").clear();
        }
    }

    pub fn len(&self) -> usize {
        self.waiting.lock().expect("no panic under it").transitions.len()
    }

    pub fn sent_lsn(&self) -> Lsn {
        self.waiting.lock().expect("no panic under it").sent_lsn
    }

    /// Notes that a transition was read that brought what is shown to a point of the line.
    pub fn note_read(&self, lsn: Lsn) {
        let mut waiting = self.waiting.lock().expect("no panic under it");
        waiting.read_lsn = waiting.read_lsn.max(lsn);
    }

    /// Returns whether any subscription was ended.
    pub fn has_ended_any(&self) -> bool {
        !self.waiting.lock().expect("no panic under it").ended.is_empty()
    }

    /// Notes that a subscription was ended.
    pub fn end(&self, sub: &Arc<str>) {
        self.waiting.lock().expect("no panic under it").ended.insert(sub.clone());
    }

    /// Returns one of the same kind over another connection, whose reader has this.
    pub fn again(&self, has: BTreeMap<Arc<str>, Digest>) -> Self {
        let old = self.waiting.lock().expect("no panic under it");
        let (ended, losses, read_lsn) = (old.ended.clone(), old.losses + 1, old.read_lsn);
        let waiting = Waiting { ended, losses, read_lsn, ..Waiting::default() };
        let waiting = Arc::new(Mutex::new(waiting));
        let (is_cut, has) = (Arc::default(), Arc::new(Mutex::new(has)));
        let (epoch, fault) = (self.epoch.clone(), self.fault.clone());
        Inbox { seed: self.seed, fault, waiting, room: self.room, epoch, is_cut, has }
    }
}

impl Outbox for Inbox {
    fn send(&mut self, mut transition: Transition) -> OutboxState {
        self.fault.strike(&mut transition);
        let seed = self.seed;
        let mut waiting = self.waiting.lock().expect("no panic under it");
        for update in &transition.updates {
            let has_ended = waiting.ended.contains(&update.sub);
            assert!(!has_ended, "seed {seed}: {} has ended, and is named", update.sub);
            if matches!(update.kind, UpdateKind::Error { last: true, .. }) {
                waiting.ended.insert(update.sub.clone());
            }
        }
        waiting.sent_lsn = waiting.sent_lsn.max(transition.lsn);
        let (epoch, losses) = (self.epoch.load(Ordering::Relaxed), waiting.losses);
        waiting.transitions.push(Sent { epoch, losses, transition });
        if self.is_cut() {
            return OutboxState::Closed;
        }
        if std::mem::take(&mut waiting.loses) {
            let Waiting { transitions, lost, losses, .. } = &mut *waiting;
            *losses += 1;
            lost.append(transitions);
            self.has.lock().expect("no panic under it").clear();
            return OutboxState::Lost;
        }
        if waiting.transitions.len() >= self.room { OutboxState::Full } else { OutboxState::Ready }
    }

    fn has(&self, sub: &str) -> Option<Digest> {
        self.has.lock().expect("no panic under it").get(sub).copied()
    }

    fn label(&self) -> Lsn {
        self.waiting.lock().expect("no panic under it").read_lsn
    }
}

/// What a subscription asked for.
#[derive(Clone, Copy, Debug)]
pub enum Wish {
    /// A statement.
    Panel(Panel),
    /// A name, by number, and which of its meanings was shown last.
    Name(usize, usize),
}

/// Which errors may be told of what is no name.
#[derive(Clone, Copy, Debug)]
pub struct Excuses {
    /// The database fails, or the catalogue changes.
    pub faults: bool,
    /// There is not room for everything.
    pub memory: bool,
}

impl Excuses {
    fn cover(self, error: &QueryError) -> bool {
        match error.code {
            ErrorCode::Timeout | ErrorCode::Unavailable => self.faults,
            ErrorCode::LimitExceeded => self.memory,
            ErrorCode::InvalidArgs
            | ErrorCode::NotFound
            | ErrorCode::Unauthorized
            | ErrorCode::Forbidden
            | ErrorCode::Conflict
            | ErrorCode::Internal => false,
        }
    }
}

/// A client that believes what it is told.
pub struct Client {
    pub seed: u64,
    pub id: SessionId,
    pub inbox: Inbox,
    pub subs: BTreeMap<Arc<str>, (Wish, i32)>,
    /// Subscriptions that have had no answer in this session; they may have something from an earlier one.
    pub unanswered: BTreeSet<Arc<str>>,
    /// Subscriptions that were told an error: a snapshot is next.
    pub in_error: BTreeSet<Arc<str>>,
    pub results: BTreeMap<Arc<str>, Rows>,
    pub digests: BTreeMap<Arc<str>, Digest>,
    columns: BTreeMap<Arc<str>, String>,
    pub stale: BTreeMap<Arc<str>, bool>,
    /// Those that are stale, each with as of when, and what [`Sent::losses`] was when that was said.
    pub stale_since: BTreeMap<Arc<str>, (Lsn, usize)>,
    /// The mutations of its session that it was told of, each with what [`Sent::losses`] was then.
    pub named: BTreeMap<Arc<str>, usize>,
    pub lsn: Lsn,
    /// Where the last transition brought it that was no final error: the epoch, the point, and what [`Sent::losses`] was.
    pub at: Option<(usize, usize, usize)>,
    pub next_sub: u32,
    /// The epoch of the last transition.
    pub epoch: usize,
    /// What was committed before that epoch's slot and may have been shown, as sets of bits.
    pub possible: Vec<usize>,
    /// Positions that it waits for, and since when nothing but the engine holds them up.
    pub awaits: Vec<(Lsn, Instant)>,
    pub excuses: Excuses,
}

/// What digests stand for: each for one result alone, and each result has one.
#[derive(Default)]
pub struct Digests {
    results: HashMap<Digest, (String, Rows)>,
    digests: HashMap<(String, Rows), Digest>,
}

impl Digests {
    fn check(&mut self, seed: u64, digest: Digest, columns: &str, rows: &Rows) {
        let result = (columns.to_owned(), rows.clone());
        let known = self.digests.entry(result.clone()).or_insert(digest);
        assert_eq!(*known, digest, "seed {seed}: two digests of {result:?}");
        let known = self.results.entry(digest).or_insert_with(|| result.clone());
        assert_eq!(*known, result, "seed {seed}: two results of {digest}");
    }
}

impl Client {
    pub fn new(id: SessionId, inbox: Inbox, excuses: Excuses) -> Self {
        Client {
            seed: inbox.seed,
            id,
            inbox,
            subs: BTreeMap::new(),
            unanswered: BTreeSet::new(),
            in_error: BTreeSet::new(),
            results: BTreeMap::new(),
            digests: BTreeMap::new(),
            columns: BTreeMap::new(),
            stale: BTreeMap::new(),
            stale_since: BTreeMap::new(),
            named: BTreeMap::new(),
            lsn: Lsn(0),
            at: None,
            next_sub: 0,
            epoch: 0,
            possible: vec![0],
            awaits: Vec::new(),
            excuses,
        }
    }

    /// Begins another session with what it has from this one; its results are worth something by their digests alone.
    pub fn begin_anew(&mut self, id: SessionId, inbox: Inbox) {
        (self.id, self.inbox) = (id, inbox);
        (self.lsn, self.possible) = (Lsn(0), vec![0]);
        self.in_error.clear();
        self.stale.clear();
        self.stale_since.clear();
        self.named.clear();
        self.at = None;
        self.awaits.clear();
        self.unanswered = self.subs.keys().cloned().collect();
    }

    pub fn apply(&mut self, name: &Arc<str>, kind: &UpdateKind, digests: &mut Digests) {
        if !self.subs.contains_key(name) {
            // It was sent before the end of the subscription.
            return;
        }
        let seed = self.seed;
        let goes_on = matches!(kind, UpdateKind::Diffs(_) | UpdateKind::Unchanged);
        assert!(
            !goes_on || !self.in_error.contains(name),
            "seed {seed}: {name}: {kind:?} after an error"
        );
        // That something is stale is no answer.
        let is_first = !matches!(kind, UpdateKind::Stale(_)) && self.unanswered.remove(name);
        match kind {
            UpdateKind::Snapshot(snapshot) => {
                self.in_error.remove(name);
                let rows = snapshot.value.rows.iter().map(row).collect();
                let columns = format!("{:?}", snapshot.value.columns);
                digests.check(seed, snapshot.value.digest, &columns, &rows);
                self.results.insert(name.clone(), rows);
                self.digests.insert(name.clone(), snapshot.value.digest);
                self.columns.insert(name.clone(), columns);
                self.stale.insert(name.clone(), false);
            }
            UpdateKind::Diffs(diffs) => {
                assert!(!is_first, "seed {seed}: {name}: a diff for a first answer");
                let Some(rows) = self.results.get_mut(name) else {
                    panic!("seed {seed}: {name}: a diff follows a snapshot")
                };
                for diff in diffs {
                    diff.value.ops.iter().for_each(|op| apply_op(seed, rows, op));
                    let columns = format!("{:?}", diff.value.columns);
                    assert_eq!(
                        Some(&columns),
                        self.columns.get(name),
                        "seed {seed}: {name}: a column set is a snapshot's"
                    );
                    digests.check(seed, diff.value.digest, &columns, rows);
                    self.digests.insert(name.clone(), diff.value.digest);
                }
                self.stale.insert(name.clone(), false);
            }
            UpdateKind::Unchanged => {
                let is_there = self.results.contains_key(name);
                assert!(is_there, "seed {seed}: {name}: nothing is unchanged");
                self.stale.insert(name.clone(), false);
            }
            UpdateKind::Stale(_) => drop(self.stale.insert(name.clone(), true)),
            UpdateKind::Error { error, last } => {
                let is_named = !matches!(self.subs.get(name), Some((Wish::Panel(_), _)));
                let is_excused = is_named || self.excuses.cover(error);
                assert!(is_excused, "seed {seed}: {name}: {error}");
                self.in_error.insert(name.clone());
                if *last {
                    self.forget(name);
                }
            }
        }
    }

    /// Returns whether it has a result that is said to be of now.
    pub fn is_shown_anything(&self) -> bool {
        let is_of_now = |sub: &Arc<str>| {
            let is_open = self.in_error.contains(sub) || self.unanswered.contains(sub);
            !is_open && self.stale.get(sub) == Some(&false)
        };
        self.results.keys().any(is_of_now)
    }

    pub fn forget(&mut self, name: &Arc<str>) {
        self.subs.remove(name);
        self.results.remove(name);
        self.digests.remove(name);
        self.in_error.remove(name);
        self.unanswered.remove(name);
        self.stale_since.remove(name);
    }
}

fn row(row: &ResultRow) -> (String, Vec<String>) {
    (row.key().to_owned(), row.cells().map(str::to_owned).collect())
}

fn apply_op(seed: u64, rows: &mut Rows, op: &DiffOp) {
    let find = |rows: &[(String, Vec<String>)], key: &str| {
        let at = rows.iter().position(|(there, _)| there == key);
        at.unwrap_or_else(|| panic!("seed {seed}: a step names {key}, which is not there"))
    };
    match op {
        DiffOp::Remove { key } => drop(rows.remove(find(rows, key))),
        DiffOp::Insert { row: inserted, at } => {
            let is_new = rows.iter().all(|(key, _)| key != inserted.key());
            assert!(is_new, "seed {seed}: {} stands twice", inserted.key());
            rows.insert(*at, row(inserted));
        }
        DiffOp::Update { key, set } => {
            let at = find(rows, key);
            for (column, value) in set {
                assert_ne!(rows[at].1[*column], **value, "seed {seed}: {key}: it had that value");
                rows[at].1[*column] = value.to_string();
            }
        }
        DiffOp::Patch { value, .. } => rows[0].1[0] = value.to_string(),
        DiffOp::Move { key, at } => {
            let row = rows.remove(find(rows, key));
            rows.insert(*at, row);
        }
    }
}
