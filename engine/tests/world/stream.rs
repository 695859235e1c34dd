//! What a walsender tells of the database: the slot, the stream, and what is left of both after a crash.

use super::{Commit, Item, World, Write};
use convoy_engine::MUTATION_PREFIX;
use convoy_types::{
    ChangeKind, Changes, Datum, LogicalMessage, Lsn, OldRow, PgTimestamp, ReplicaIdentity, Row,
    RowChange, Transaction, Xid,
};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What a slot that is being made waits for: the end of all that was under way when it was asked for (P10).
#[derive(Debug)]
pub struct Creation {
    commits: usize,
    open: Vec<u32>,
}

/// How much of a transaction the stream tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Telling {
    /// Each row; what did not change is said to be so, if it can be.
    Rows { unchanged_toast: bool },
    /// Only which tables were touched: it was past its budget, or the engine was far behind.
    Touched,
}

/// Transactions that are committed before a slot and not visible when it is there, at most.
const LATE_MAX: usize = 2;

impl World {
    /// Returns the next transaction of the stream.
    pub fn stream(&mut self) -> Option<Transaction> {
        self.stream_as(Telling::Rows { unchanged_toast: false })
    }

    /// Returns the next transaction of the stream, told so.
    pub fn stream_as(&mut self, telling: Telling) -> Option<Transaction> {
        let at = self.commits.iter().position(|commit| !commit.is_streamed)?;
        (self.commits[at].is_streamed, self.commits[at].is_flushed) = (true, true);
        let commit = &self.commits[at];
        let changes = match telling {
            Telling::Touched => Changes::Touched(vec![commit.relation.clone()]),
            Telling::Rows { .. } if commit.is_truncate => {
                let (relation, kind) = (commit.relation.clone(), ChangeKind::Truncate);
                Changes::Rows(vec![RowChange { relation, kind }])
            }
            Telling::Rows { unchanged_toast } => {
                let change = |write: &Write| commit.change(*write, unchanged_toast);
                Changes::Rows(commit.writes.iter().map(change).collect())
            }
        };
        let message = |mutation: &Arc<str>| LogicalMessage {
            prefix: MUTATION_PREFIX.to_owned(),
            content: mutation.as_bytes().to_vec().into(),
        };
        Some(Transaction {
            xid: Xid(commit.xid),
            commit_lsn: Lsn(commit.end_lsn.0 - 50),
            end_lsn: commit.end_lsn,
            commit_time: PgTimestamp(i64::try_from(commit.serial).expect("small")),
            changes,
            messages: commit.mutation.iter().map(message).collect(),
        })
    }

    /// Returns the position that the stream has passed, and whether nothing is left in it.
    pub fn streamed(&self) -> (Lsn, bool) {
        let is_all = self.commits.iter().all(|commit| commit.is_streamed);
        (Lsn(self.insert_lsn), is_all)
    }

    /// Writes WAL that is of no interest.
    pub fn write_wal(&mut self) {
        self.insert_lsn += 8;
    }

    /// Asks for a slot.
    pub fn ask_for_slot(&self) -> Creation {
        let open = self.open.iter().map(|open| open.xid).collect();
        Creation { commits: self.commits.len(), open }
    }

    /// Makes the slot that was asked for, if all that it waits for has ended. The stream brings what commits from now on.
    pub fn make_slot(&mut self, creation: &Creation) -> bool {
        let has_ended = |open: &super::Open| !creation.open.contains(&open.xid);
        let is_hidden = |commit: &&Commit| !commit.is_visible;
        let hidden = self.commits.iter().skip(creation.commits).filter(is_hidden).count();
        let is_ready = self.commits.iter().take(creation.commits).all(|commit| commit.is_visible)
            && self.open.iter().all(has_ended)
            && hidden <= LATE_MAX;
        if is_ready {
            for commit in self.commits.iter_mut().filter(|commit| !commit.is_streamed) {
                commit.pass_by();
            }
        }
        is_ready
    }

    /// Streams again from a slot that is still there, from the position that was confirmed; if what lies before that is
    /// visible, which it has been for long by the time that somebody is back.
    pub fn find_slot(&mut self, confirmed: Lsn) -> bool {
        let is_past = |commit: &Commit| commit.end_lsn <= confirmed || commit.is_before_slot;
        if self.commits.iter().any(|commit| is_past(commit) && !commit.is_visible) {
            return false;
        }
        for commit in &mut self.commits {
            commit.is_streamed = is_past(commit);
        }
        true
    }

    /// Returns the transactions that the stream will not bring, by their numbers.
    pub fn before_stream(&self) -> BTreeSet<u64> {
        let is_over = |commit: &&Commit| commit.is_streamed;
        self.commits.iter().filter(is_over).map(|commit| commit.serial).collect()
    }

    /// Returns how many transactions were not flushed: no stream has brought them, nor anything after them.
    pub fn unflushed(&self) -> usize {
        self.commits.iter().rev().take_while(|commit| !commit.is_flushed).count()
    }

    /// Crashes, and recovers without the last so many transactions, which had not been flushed. What is left is
    /// visible; what was open has ended, if it was not prepared. Positions and ids are given out again (P4). Returns
    /// whether somebody may have seen what is gone.
    pub fn crash(&mut self, vanish: usize) -> bool {
        let left = self.commits.len() - vanish;
        let were_seen = self.commits[left..].iter().any(|commit| commit.is_visible);
        if let Some(first) = self.commits.get(left) {
            self.insert_lsn = first.end_lsn.0 - super::COMMIT_BYTES;
        }
        self.commits.truncate(left);
        let flushed = self.insert_lsn;
        self.open.retain(|open| open.is_prepared && open.since <= flushed);
        for commit in &mut self.commits {
            (commit.is_visible, commit.is_flushed) = (true, true);
        }
        self.items = self.items_after(|_, _| true);
        let commits = self.commits.iter().map(|commit| commit.xid);
        let known = commits.chain(self.open.iter().map(|open| open.xid)).map(super::widened);
        self.latest_completed = known.max().unwrap_or_default().max(self.first_xid);
        let low_half = u32::try_from(self.latest_completed & 0xFFFF_FFFF).expect("32 bits");
        self.next_xid = super::following(low_half);
        were_seen
    }
}

impl Commit {
    /// Notes that it is in the WAL before a slot, whose stream will not bring it.
    pub fn pass_by(&mut self) {
        (self.is_streamed, self.is_flushed, self.is_before_slot) = (true, true, true);
    }

    fn change(&self, write: Write, unchanged_toast: bool) -> RowChange {
        let text = |number: i64| Datum::Text(number.to_string().into());
        let row =
            |item: Item| Row([text(item.id), text(item.grp.into()), text(item.val.into())].into());
        let key = |item: Item| Row([text(item.id), Datum::Missing, Datum::Missing].into());
        let is_full = self.relation.replica_identity == ReplicaIdentity::Full;
        let old =
            |item: Item| if is_full { OldRow::Full(row(item)) } else { OldRow::Key(key(item)) };
        let new = |before: Item, after: Item| {
            let mut new = row(after);
            if unchanged_toast && before.val == after.val {
                new.0[2] = Datum::UnchangedToast;
            }
            new
        };
        let kind = match (write.before, write.after) {
            (Some(before), Some(after)) if !is_full && before.id == after.id => {
                ChangeKind::Update { old: OldRow::SameKey, new: new(before, after) }
            }
            (Some(before), Some(after)) => {
                ChangeKind::Update { old: old(before), new: new(before, after) }
            }
            (None, Some(after)) => ChangeKind::Insert { new: row(after) },
            (Some(before), None) => ChangeKind::Delete { old: old(before) },
            (None, None) => ChangeKind::Truncate,
        };
        RowChange { relation: self.relation.clone(), kind }
    }
}
