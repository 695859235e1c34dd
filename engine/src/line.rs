//! The line: committed transactions in the one order in which the engine applies them.
//!
//! Transactions arrive from the stream and wait here until they may be applied. What makes them wait is a *snapshot*:
//! a read's snapshot must be a point of the line, so that the results read at it are the values there. Between asking
//! for a snapshot and hearing of it the line stands still (the *fence*); then it takes first what the snapshot shows,
//! and is *closed* at it once the stream has passed the snapshot's settle position (`docs/postgres.md`, P4 to P6).
//!
//! Only one snapshot is under way at a time. Who reads what at it is not known here.

use crate::database::{ReadId, Snapshot};
use convoy_types::{FullXid, Lsn, SnapshotMark, Transaction, Xid};
use std::collections::VecDeque;
use std::time::Instant;

/// How many transactions have been applied: a point of the line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

/// What the line allows next.
#[derive(Debug)]
pub(crate) enum Step {
    /// This transaction is the next one.
    Apply(Arrived),
    /// The read's snapshot is exactly the head: what it reads is what is so here.
    Close(ReadId, Snapshot),
}

/// A transaction that the stream brought.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub xid: FullXid,
    pub transaction: Transaction,
    pub received_at: Instant,
    /// What it takes, in bytes.
    bytes: usize,
}

/// What became of a snapshot that the line was told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accepted {
    /// It is pending: a `Step::Close` will follow.
    Pending,
    /// A transaction that was applied already is not visible in it: it must be taken again.
    TooOld,
}

#[derive(Debug)]
enum Gate {
    /// Anything may be applied.
    Open,
    /// A snapshot is being taken: nothing may.
    Fenced(ReadId),
    /// A snapshot was taken: only what it shows may.
    Settling(ReadId, Snapshot),
}

/// A transaction that was open when the line began.
#[derive(Debug)]
struct Open {
    xid: FullXid,
    /// Where the earliest snapshot that shows it settles: by then the stream has brought it, or never will.
    ended_by: Option<Lsn>,
}

/// The line of applied transactions, and those that wait to be.
#[derive(Debug)]
pub(crate) struct Line {
    head: Position,
    gate: Gate,
    /// Received, not applied, in the order of their commits.
    arrived: VecDeque<Arrived>,
    /// What their rows take.
    // Invariant: the sum of theirs.
    arrived_bytes: usize,
    /// The greatest position that the stream has passed.
    received: Lsn,
    /// The newest snapshot: what widens transaction ids.
    newest: SnapshotMark,
    /// Whether transactions wait until a snapshot shows them, since a synchronous standby may hold them back (P6).
    synchronous_standbys: bool,
    /// What the snapshot that was asked for by this read must show: every transaction applied before it is heard of that
    /// no earlier one has shown. None is asked for where there is no list.
    must_show: Option<(ReadId, Vec<FullXid>)>,
    /// Applied transactions that no snapshot has shown yet.
    // Invariant: every applied transaction that `newest` does not show is in here.
    unseen: Vec<FullXid>,
    /// Transactions that were not visible when the line began, and that the stream has not brought. Their commit records
    /// may lie before the slot, while a synchronous standby still kept them from being visible: then it never will.
    open: Vec<Open>,
}

impl Line {
    /// Returns a line that begins where a snapshot stands that was taken after the slot was made, with the transactions
    /// that were open just before it.
    pub fn new(snapshot: Snapshot, open: &[Xid], head: Position) -> Self {
        let mark = &snapshot.mark;
        let open = open.iter().map(|xid| mark.widen(*xid)).filter(|xid| !mark.shows(*xid));
        Line {
            open: open.map(|xid| Open { xid, ended_by: None }).collect(),
            head,
            gate: Gate::Open,
            arrived: VecDeque::new(),
            arrived_bytes: 0,
            received: Lsn::default(),
            newest: snapshot.mark,
            synchronous_standbys: snapshot.synchronous_standbys,
            must_show: None,
            unseen: Vec::new(),
        }
    }

    /// Returns how many transactions have been applied.
    pub fn head(&self) -> Position {
        self.head
    }

    /// Returns the greatest position that the stream has passed.
    pub fn received(&self) -> Lsn {
        self.received
    }

    /// Returns the position such that every transaction whose commit record ends at or before it has been applied.
    pub fn label(&self) -> Lsn {
        let held = self.arrived.iter().map(|arrived| arrived.transaction.commit_lsn).min();
        held.map_or(self.received, |held| held.min(self.received))
    }

    /// Returns how many transactions have arrived and wait.
    pub fn waiting(&self) -> usize {
        self.arrived.len()
    }

    /// Returns whether transactions wait for a newer snapshot to show them.
    pub fn wants_probe(&self) -> bool {
        self.waits_for_visibility() && !self.arrived.is_empty() && matches!(self.gate, Gate::Open)
    }

    /// Returns whether a transaction is applied only once a snapshot has shown it. Not only where standbys hold up what
    /// is streamed: who builds on a transaction that was open when the line began is shown by no snapshot that does not
    /// show that one, and then it is known whether the stream has overlooked it.
    fn waits_for_visibility(&self) -> bool {
        self.synchronous_standbys || !self.open.is_empty()
    }

    /// Takes a transaction from the stream.
    pub fn receive(&mut self, transaction: Transaction, received_at: Instant) {
        self.received = self.received.max(transaction.end_lsn);
        let xid = self.newest.widen(transaction.xid);
        self.open.retain(|open| open.xid != xid);
        let bytes = transaction.memory_bytes();
        self.arrived_bytes += bytes;
        self.arrived.push_back(Arrived { xid, transaction, received_at, bytes });
    }

    /// Lets the rows of all that waits give way to the tables that they touched, where they take more than this.
    /// Returns how many transactions gave theirs.
    pub fn bound_waiting(&mut self, bytes_max: usize) -> u64 {
        if self.arrived_bytes <= bytes_max {
            return 0;
        }
        let mut collapsed = 0;
        self.arrived_bytes = 0;
        for arrived in &mut self.arrived {
            collapsed += u64::from(arrived.transaction.row_bytes() > 0);
            arrived.transaction.collapse();
            arrived.bytes = arrived.transaction.memory_bytes();
            self.arrived_bytes += arrived.bytes;
        }
        collapsed
    }

    /// Returns what waits, in bytes.
    pub fn waiting_bytes(&self) -> usize {
        self.arrived_bytes
    }

    /// Notes a transaction that came before the line began and was not kept. The first snapshots must show it.
    pub fn let_go(&mut self, xid: Xid) {
        let xid = self.newest.widen(xid);
        self.open.retain(|open| open.xid != xid);
        if !self.newest.shows(xid) {
            self.unseen.push(xid);
        }
    }

    /// Returns whether a transaction has become visible that the stream may still bring. Until it is known, nothing is
    /// applied: it might build on that one.
    pub fn may_have_overlooked(&self) -> bool {
        self.open.iter().any(|open| open.ended_by.is_some() && !self.settles_without(open.xid))
    }

    /// Returns whether there are transactions that were not visible when the line began, and of which nothing is known yet.
    pub fn has_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// Returns whether a snapshot is being settled that does not show a transaction.
    fn settles_without(&self, xid: FullXid) -> bool {
        matches!(&self.gate, Gate::Settling(_, snapshot) if !snapshot.mark.shows(xid))
    }

    /// Returns whether a transaction has become visible that the stream did not bring and never will, and forgets it.
    /// (It may also have done nothing that is published; the stream does not tell.)
    pub fn overlooked(&mut self) -> bool {
        let is_over = |open: &Open| {
            // What is read at a snapshot that does not show it must be read again: that one comes first.
            let has_passed = |settle_lsn| settle_lsn <= self.received;
            open.ended_by.is_some_and(has_passed) && !self.settles_without(open.xid)
        };
        let overlooked: Vec<_> =
            self.open.iter().filter(|open| is_over(open)).map(|open| open.xid).collect();
        self.open.retain(|open| !overlooked.contains(&open.xid));
        if let Some((_, must_show)) = &mut self.must_show {
            must_show.extend(&overlooked);
        }
        !overlooked.is_empty()
    }

    /// Notes that the stream has passed a position.
    pub fn progress(&mut self, lsn: Lsn) {
        self.received = self.received.max(lsn);
    }

    /// Stands still until the read's snapshot is there.
    ///
    /// # Panics
    /// In debug builds, if another read's snapshot is under way.
    pub fn fence(&mut self, read: ReadId) {
        debug_assert!(matches!(self.gate, Gate::Open), "one snapshot at a time");
        self.gate = Gate::Fenced(read);
        self.must_show = Some((read, self.unseen.clone()));
    }

    /// Returns whether it stands still for a snapshot.
    pub fn is_fenced(&self) -> bool {
        matches!(self.gate, Gate::Fenced(_))
    }

    /// Goes on without waiting for the read's snapshot any longer. One that comes later is checked all the same.
    pub fn lift_fence(&mut self, read: ReadId) {
        if matches!(self.gate, Gate::Fenced(fenced) if fenced == read) {
            self.gate = Gate::Open;
        }
    }

    /// Gives a read's snapshot up, at whatever step it is.
    pub fn abandon(&mut self, read: ReadId) {
        match &self.gate {
            Gate::Fenced(gated) | Gate::Settling(gated, _) if *gated == read => {
                self.gate = Gate::Open;
            }
            _ => {}
        }
        // Another read's may be on its way.
        self.must_show.take_if(|(asked, _)| *asked == read);
    }

    /// Hears of a read's snapshot.
    pub fn snapshot_taken(&mut self, read: ReadId, snapshot: Snapshot) -> Accepted {
        // Not what is unseen by now: a probe may have shown since what this snapshot, which is older, misses.
        let (_, must_show) = self.must_show.take().unwrap_or((read, Vec::new()));
        self.see(&snapshot);
        if must_show.iter().all(|xid| snapshot.mark.shows(*xid)) {
            self.gate = Gate::Settling(read, snapshot);
            Accepted::Pending
        } else {
            self.abandon(read);
            Accepted::TooOld
        }
    }

    /// Hears of a snapshot that nothing is read at.
    pub fn see(&mut self, snapshot: &Snapshot) {
        if snapshot.mark.xmax >= self.newest.xmax {
            self.newest = snapshot.mark.clone();
        }
        self.synchronous_standbys = snapshot.synchronous_standbys;
        self.unseen.retain(|&xid| !snapshot.mark.shows(xid));
        for open in &mut self.open {
            if snapshot.mark.shows(open.xid) {
                // Not the first that was heard of: an older one may still be on its way.
                let known = open.ended_by.unwrap_or(snapshot.settle_lsn);
                open.ended_by = Some(known.min(snapshot.settle_lsn));
            }
        }
    }

    /// Returns the read whose snapshot waits for the stream, and how far that must get.
    pub fn unsettled(&self) -> Option<(ReadId, Lsn)> {
        match &self.gate {
            Gate::Settling(read, snapshot) if self.received < snapshot.settle_lsn => {
                Some((*read, snapshot.settle_lsn))
            }
            _ => None,
        }
    }

    /// Returns the next step, and takes it: an applied transaction moves the head.
    pub fn step(&mut self) -> Option<Step> {
        if self.may_have_overlooked() {
            return None;
        }
        let next = match &self.gate {
            Gate::Fenced(_) => return None,
            Gate::Open if self.waits_for_visibility() => {
                self.arrived.iter().position(|arrived| self.newest.shows(arrived.xid))
            }
            Gate::Open => (!self.arrived.is_empty()).then_some(0),
            Gate::Settling(_, snapshot) => {
                self.arrived.iter().position(|arrived| snapshot.mark.shows(arrived.xid))
            }
        };
        if let Some(index) = next {
            let arrived = self.arrived.remove(index)?;
            self.arrived_bytes -= arrived.bytes;
            let xid = arrived.xid;
            self.head.0 += 1;
            if !self.newest.shows(xid) {
                self.unseen.push(xid);
            }
            // Only where the fence was lifted: the snapshot that was asked for is still on its way.
            if let Some((_, must_show)) = &mut self.must_show {
                must_show.push(xid);
            }
            return Some(Step::Apply(arrived));
        }
        if self.unsettled().is_some() {
            return None;
        }
        match std::mem::replace(&mut self.gate, Gate::Open) {
            Gate::Settling(read, snapshot) => Some(Step::Close(read, snapshot)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use convoy_types::{
        ChangeKind, Changes, Datum, PgTimestamp, Relation, RelationId, ReplicaIdentity, Row,
        RowChange, Xid,
    };
    use std::sync::Arc;

    fn snapshot(mark: &str, settle: u64) -> Snapshot {
        Snapshot {
            mark: mark.parse().expect("a mark"),
            settle_lsn: Lsn(settle),
            synchronous_standbys: false,
            exported: None,
        }
    }

    fn commit(xid: u32, end: u64) -> Transaction {
        Transaction {
            xid: Xid(xid),
            commit_lsn: Lsn(end - 1),
            end_lsn: Lsn(end),
            commit_time: PgTimestamp(0),
            changes: Changes::Rows(Vec::new()),
            messages: Vec::new(),
        }
    }

    fn steps(line: &mut Line) -> Vec<String> {
        std::iter::from_fn(|| line.step())
            .map(|step| match step {
                Step::Apply(arrived) => format!("apply {}", arrived.xid),
                Step::Close(read, _) => format!("close {}", read.0),
            })
            .collect()
    }

    #[test]
    fn p6_a_snapshot_that_misses_an_applied_transaction_is_taken_again() {
        let mut line = Line::new(snapshot("10:10:", 0), &[], Position(0));
        line.receive(commit(10, 100), Instant::now());
        assert_eq!(steps(&mut line), ["apply 10"]);
        line.fence(ReadId(1));
        assert_eq!(line.snapshot_taken(ReadId(1), snapshot("10:12:10", 100)), Accepted::TooOld);
        line.fence(ReadId(1));
        assert_eq!(line.snapshot_taken(ReadId(1), snapshot("11:12:11", 100)), Accepted::Pending);
        assert_eq!(steps(&mut line), ["close 1"]);
    }

    #[test]
    fn p6_a_probe_does_not_vouch_for_an_older_snapshot() {
        let mut line = Line::new(snapshot("10:10:", 0), &[], Position(0));
        line.receive(commit(10, 100), Instant::now());
        assert_eq!(steps(&mut line), ["apply 10"]);
        line.fence(ReadId(1));
        line.see(&snapshot("12:12:", 100));
        assert_eq!(line.snapshot_taken(ReadId(1), snapshot("10:12:10", 100)), Accepted::TooOld);
    }

    #[test]
    fn p6_a_lifted_fence_does_not_let_a_snapshot_miss_anything() {
        let mut line = Line::new(snapshot("10:10:", 0), &[], Position(0));
        line.fence(ReadId(1));
        line.lift_fence(ReadId(1));
        line.see(&snapshot("12:12:", 100));
        line.receive(commit(10, 100), Instant::now());
        assert_eq!(steps(&mut line), ["apply 10"]);
        assert_eq!(line.snapshot_taken(ReadId(1), snapshot("10:12:10", 100)), Accepted::TooOld);
    }

    #[test]
    fn p6_another_read_that_is_given_up_does_not_let_a_snapshot_miss_anything() {
        for is_lifted in [false, true] {
            let mut line = Line::new(snapshot("10:10:", 0), &[], Position(0));
            line.receive(commit(10, 100), Instant::now());
            assert_eq!(steps(&mut line), ["apply 10"]);
            line.fence(ReadId(2));
            if is_lifted {
                line.lift_fence(ReadId(2));
            }
            // It has closed its snapshot long ago, and was silent since.
            line.abandon(ReadId(1));
            assert_eq!(line.snapshot_taken(ReadId(2), snapshot("10:12:10", 0)), Accepted::TooOld);
        }
    }

    #[test]
    fn p6_what_a_snapshot_shows_is_applied_before_what_it_does_not() {
        let mut line = Line::new(snapshot("10:10:", 0), &[], Position(0));
        line.fence(ReadId(1));
        line.receive(commit(10, 100), Instant::now());
        line.receive(commit(11, 200), Instant::now());
        assert_eq!(steps(&mut line), Vec::<String>::new());
        assert_eq!(line.snapshot_taken(ReadId(1), snapshot("10:12:10", 200)), Accepted::Pending);
        // 11 was visible before 10, which the stream had first.
        assert_eq!(steps(&mut line), ["apply 11", "close 1", "apply 10"]);
        assert_eq!(line.head(), Position(2));
    }

    #[test]
    fn p5_a_snapshot_closes_when_the_stream_has_passed_it() {
        let mut line = Line::new(snapshot("10:10:", 0), &[], Position(0));
        line.fence(ReadId(1));
        line.snapshot_taken(ReadId(1), snapshot("12:12:", 300));
        line.receive(commit(10, 100), Instant::now());
        assert_eq!(steps(&mut line), ["apply 10"]);
        assert_eq!(line.unsettled(), Some((ReadId(1), Lsn(300))));
        line.receive(commit(11, 200), Instant::now());
        line.receive(commit(12, 400), Instant::now());
        assert_eq!(steps(&mut line), ["apply 11", "close 1", "apply 12"]);
    }

    #[test]
    fn p6_a_label_stays_behind_what_is_held() {
        let mut line = Line::new(snapshot("10:10:", 0), &[], Position(0));
        line.fence(ReadId(1));
        line.receive(commit(10, 100), Instant::now());
        line.receive(commit(11, 200), Instant::now());
        assert_eq!(line.label(), Lsn(99));
        line.snapshot_taken(ReadId(1), snapshot("10:12:10", 200));
        assert!(matches!(line.step(), Some(Step::Apply(arrived)) if arrived.xid == FullXid(11)));
        assert_eq!(line.label(), Lsn(99), "11 is in, and 10 still holds the label back");
        steps(&mut line);
        assert_eq!(line.label(), Lsn(200));
    }

    #[test]
    fn p6_with_synchronous_standbys_nothing_is_applied_before_it_is_visible() {
        let standbys = |mark| Snapshot { synchronous_standbys: true, ..snapshot(mark, 0) };
        let mut line = Line::new(standbys("10:10:"), &[], Position(0));
        line.receive(commit(10, 100), Instant::now());
        line.receive(commit(11, 200), Instant::now());
        assert_eq!(steps(&mut line), Vec::<String>::new());
        assert!(line.wants_probe());
        line.see(&standbys("10:12:10"));
        assert_eq!(steps(&mut line), ["apply 11"]);
        assert_eq!(line.label(), Lsn(99));
    }

    #[test]
    fn p4_ids_are_widened_across_a_wrap() {
        let mut line = Line::new(snapshot("4294967290:4294967290:", 0), &[], Position(0));
        line.receive(commit(4_294_967_295, 100), Instant::now());
        line.receive(commit(3, 200), Instant::now());
        assert_eq!(steps(&mut line), ["apply 4294967295", "apply 4294967299"]);
        line.fence(ReadId(1));
        let older = snapshot("4294967299:4294967299:", 0);
        assert_eq!(line.snapshot_taken(ReadId(1), older), Accepted::TooOld);
    }

    #[test]
    fn p6_what_was_open_when_the_line_began_and_never_came_was_overlooked() {
        let mut line = Line::new(snapshot("10:10:", 0), &[Xid(9), Xid(11), Xid(12)], Position(0));
        line.progress(Lsn(100));
        assert!(!line.overlooked(), "nothing has ended");
        line.receive(commit(11, 200), Instant::now());
        line.see(&snapshot("12:12:", 200));
        assert!(!line.overlooked(), "9 was visible, and 11 has come");
        line.fence(ReadId(1));
        line.snapshot_taken(ReadId(1), snapshot("13:13:", 300));
        assert!(!line.overlooked(), "12 may still come");
        line.receive(commit(13, 250), Instant::now());
        assert_eq!(steps(&mut line), Vec::<String>::new(), "13 may build on 12");
        line.progress(Lsn(300));
        assert!(line.overlooked());
        assert!(!line.overlooked(), "it is told once");
        assert_eq!(steps(&mut line), ["apply 11", "close 1", "apply 13"]);
    }

    #[test]
    fn p6_a_snapshot_from_before_what_was_overlooked_comes_first_or_is_taken_again() {
        let line = || Line::new(snapshot("10:10:", 0), &[Xid(10)], Position(0));
        let mut settling = line();
        settling.fence(ReadId(1));
        let older = || snapshot("10:12:10", 100);
        assert_eq!(settling.snapshot_taken(ReadId(1), older()), Accepted::Pending);
        settling.see(&snapshot("12:12:", 100));
        settling.progress(Lsn(100));
        assert!(!settling.overlooked());
        assert_eq!(steps(&mut settling), ["close 1"]);
        assert!(settling.overlooked());
        let mut fenced = line();
        fenced.fence(ReadId(1));
        fenced.see(&snapshot("12:12:", 100));
        fenced.progress(Lsn(100));
        assert!(fenced.overlooked());
        assert_eq!(fenced.snapshot_taken(ReadId(1), older()), Accepted::TooOld);
    }

    #[test]
    fn rows_that_wait_for_a_snapshot_give_way_past_their_bound() {
        let relation = Arc::new(Relation {
            id: RelationId(5),
            namespace: "public".into(),
            name: "t".into(),
            replica_identity: ReplicaIdentity::Full,
            columns: Vec::new(),
        });
        let change = || {
            let kind = ChangeKind::Insert { new: Row([Datum::Text("x".repeat(50).into())].into()) };
            RowChange { relation: relation.clone(), kind }
        };
        let with_rows = |xid, end| {
            let changes = Changes::Rows(vec![change(), change()]);
            Transaction { changes, ..commit(xid, end) }
        };
        let mut line = Line::new(snapshot("10:10:", 0), &[], Position(0));
        line.fence(ReadId(1));
        line.receive(with_rows(10, 100), Instant::now());
        let one = line.waiting_bytes();
        assert_eq!((one > 100, line.bound_waiting(one)), (true, 0));
        line.receive(with_rows(11, 200), Instant::now());
        let collapsed = line.bound_waiting(one);
        assert_eq!((collapsed, line.waiting_bytes() < 2 * one - 200), (2, true));
        line.receive(with_rows(12, 300), Instant::now());
        line.lift_fence(ReadId(1));
        let mut touched = Vec::new();
        while let Some(Step::Apply(arrived)) = line.step() {
            touched.push(match arrived.transaction.changes {
                Changes::Rows(rows) => (false, rows.len()),
                Changes::Touched(tables) => (true, tables.len()),
            });
        }
        assert_eq!(touched, [(true, 1), (true, 1), (false, 2)]);
        assert_eq!(line.waiting_bytes(), 0);
    }

    #[test]
    fn p6_what_was_let_go_must_be_shown() {
        let mut line = Line::new(snapshot("10:10:", 0), &[Xid(11)], Position(0));
        line.let_go(Xid(11));
        line.fence(ReadId(1));
        assert_eq!(line.snapshot_taken(ReadId(1), snapshot("10:12:11", 0)), Accepted::TooOld);
        line.fence(ReadId(1));
        assert_eq!(line.snapshot_taken(ReadId(1), snapshot("12:12:", 0)), Accepted::Pending);
        assert!(!line.overlooked());
    }
}
