//! A live query: one result, its versions, and what the engine knows of it.

use crate::database::{QueryError, ReadId};
use crate::digest::{Digest, DigestSum};
use crate::facts::OutputColumn;
use crate::groups::Groups;
use crate::held_rows::HeldRows;
use crate::precision::AskedFor;
use crate::result::Refreshed;
use crate::result_row::ResultRow;
use crate::row_list::RowList;
use crate::subscribers::Subscribers;
use crate::update::{Diff, DiffOp, ResultSnapshot, Shared, UpdateKind};
use crate::why::Touches;
use crate::window::{Bounds, Window};
use convoy_query_index::{Holdings, SlotValue, TemplateId};
use convoy_types::{Key, Lsn, PgTimestamp};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Arguments in their types' own output text: equal exactly where the values are the same for Postgres' input.
pub(crate) type ArgumentTexts = Arc<[Option<Arc<str>>]>;

/// What is known of a result at the head of the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Knowledge {
    /// The value is the one at the head.
    Known,
    /// The value at the head is what this closed read will say (and, for a window, what the write log adds to it).
    Awaiting(ReadId),
    /// Nobody knows: it must go into the next read.
    Dirty,
}

/// A result.
#[derive(Debug)]
pub(crate) enum Value {
    /// Nothing yet.
    None,
    /// Kept from the row changes.
    Window(Window),
    /// Kept from the row changes, by groups.
    Groups(Box<Groups>),
    /// As it was read.
    Rows(Refreshed),
    /// The last read failed.
    Failed(QueryError),
}

impl Value {
    /// Returns the rows to be shown, where there are any.
    pub fn rows(&self) -> Option<&RowList> {
        match self {
            Value::Window(window) => Some(window.visible()),
            Value::Groups(groups) => Some(groups.visible()),
            Value::Rows(refreshed) => Some(&refreshed.rows),
            Value::None | Value::Failed(_) => None,
        }
    }

    /// Counts how often changes altered what is kept, whether that is shown or not; 0 where nothing is kept.
    pub fn revision(&self) -> u64 {
        match self {
            Value::Window(window) => window.revision(),
            Value::Groups(groups) => groups.revision(),
            Value::None | Value::Rows(_) | Value::Failed(_) => 0,
        }
    }

    /// Returns the rows of tables that it holds, where they are known and it is not kept from their changes.
    pub fn held(&self) -> Option<&HeldRows> {
        match self {
            Value::Rows(refreshed) => refreshed.held.as_ref(),
            Value::None | Value::Window(_) | Value::Groups(_) | Value::Failed(_) => None,
        }
    }

    /// Returns whether it is kept from the row changes.
    pub fn is_kept(&self) -> bool {
        matches!(self, Value::Window(_) | Value::Groups(_))
    }
}

/// By what a result is kept up to date whose plan is incremental.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeptBy {
    /// By its plan.
    Plan,
    /// By being read again: it turned out to be too much to be kept, or Postgres refused to read it so.
    Refresh,
}

/// How far a subscription has been told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// It has no answer yet.
    Nothing,
    /// It was told this version.
    Version(u64),
    /// It was told something that no diff leads on from: a snapshot is next.
    Reset,
    /// It was told an error that is not this value's while it had been told this version: a snapshot is next, once
    /// there is another version. 0 where it had none.
    Interrupted(u64),
}

/// The newest diffs of a result; the last one leads to its version.
#[derive(Debug)]
struct History {
    /// What the first of them leads on from; none where an older one was forgotten. Its digest is made when somebody
    /// asks.
    base: Option<(DigestSum, usize)>,
    diffs: VecDeque<Arc<Shared<Diff>>>,
    // Invariant: the sum of theirs.
    bytes: usize,
}

impl History {
    /// Adds a diff, and forgets the oldest where they take more than this.
    fn push(&mut self, diff: Diff, bytes_max: usize) {
        self.bytes += diff.text_bytes();
        self.diffs.push_back(Shared::new(diff));
        while self.bytes > bytes_max {
            let Some(dropped) = self.diffs.pop_front() else { break };
            self.bytes -= dropped.value.text_bytes();
            self.base = None;
        }
    }

    /// Returns how many of the last diffs lead on from what has this digest.
    fn since(&self, digest: Digest, columns: &[OutputColumn]) -> Option<usize> {
        let from_base = || {
            let base = self.base.map(|(sum, rows)| sum.digest(columns, rows));
            (base == Some(digest)).then_some(self.diffs.len())
        };
        let after = self.diffs.iter().rev().position(|diff| diff.value.digest == digest);
        after.or_else(from_base)
    }

    /// Returns the last so many diffs, where there are as many.
    fn last(&self, count: usize) -> Option<Vec<Arc<Shared<Diff>>>> {
        let first = self.diffs.len().checked_sub(count)?;
        Some(self.diffs.range(first..).cloned().collect())
    }
}

/// One result with its subscribers.
#[derive(Debug)]
pub(crate) struct LiveQuery {
    pub template: TemplateId,
    pub args: ArgumentTexts,
    pub slots: Arc<[SlotValue]>,
    pub bounds: Bounds,
    /// The boundary of its limit as the index knows it; none for no boundary.
    pub boundary: Option<Key>,
    /// Whether the index counts on knowing the rows that the value holds.
    pub holdings: Holdings,
    pub columns: Arc<[OutputColumn]>,
    pub value: Value,
    pub knowledge: Knowledge,
    pub kept_by: KeptBy,
    /// Counts what the value has been; 0 before the first.
    pub version: u64,
    /// The read that the value comes from: an earlier one that arrives later is no news.
    pub value_read: Option<ReadId>,
    /// The label at which the value was read, for those that are stale.
    pub value_label: Lsn,
    /// When the newest transaction that changed the value committed.
    pub changed_at: Option<PgTimestamp>,
    /// When the newest transaction committed that touched it and is not yet in the value.
    pub touched_at: Option<PgTimestamp>,
    /// How long its last read took.
    pub read_took: Duration,
    /// How many reads in a row broke off.
    pub broken_reads: u32,
    /// Reads that it is in and that have not answered.
    pub reads: Vec<ReadId>,
    pub subscribers: Subscribers,
    /// What it was last found to take, in bytes (`memory.rs`).
    pub weight: usize,
    /// The last changes that touched it.
    pub why: Touches,
    /// Those that ask for it to be read again.
    pub asked_for: AskedFor,
    /// None while there is none: most live queries have none at any time.
    history: Option<Box<History>>,
    /// The value as a snapshot, once somebody needed it.
    snapshot: Option<Arc<Shared<ResultSnapshot>>>,
}

impl LiveQuery {
    pub fn new(
        template: TemplateId,
        args: ArgumentTexts,
        slots: Arc<[SlotValue]>,
        bounds: Bounds,
        columns: Arc<[OutputColumn]>,
    ) -> Self {
        LiveQuery {
            template,
            args,
            slots,
            bounds,
            boundary: None,
            holdings: Holdings::Unknown,
            columns,
            value: Value::None,
            knowledge: Knowledge::Dirty,
            kept_by: KeptBy::Plan,
            version: 0,
            value_read: None,
            value_label: Lsn::default(),
            changed_at: None,
            touched_at: None,
            read_took: Duration::ZERO,
            broken_reads: 0,
            reads: Vec::new(),
            subscribers: Subscribers::default(),
            weight: 0,
            why: Touches::default(),
            asked_for: AskedFor::default(),
            history: None,
            snapshot: None,
        }
    }

    /// Returns whether its value at the head is still to come. An error stands until the next read, and holds nobody up.
    pub fn is_to_come(&self) -> bool {
        self.knowledge != Knowledge::Known && !matches!(self.value, Value::Failed(_))
    }

    /// Takes a read off those that it is in. When it is in none, which is mostly, that takes no memory.
    pub fn forget_read(&mut self, read: ReadId) {
        self.reads.retain(|there| *there != read);
        if self.reads.is_empty() {
            self.reads = Vec::new();
        }
    }

    /// Notes that the value has become another by these steps, and what [`RowList::sum`] said of it before. The value
    /// itself is set by the caller.
    pub fn changed_by(
        &mut self,
        ops: Vec<DiffOp>,
        before: Option<(DigestSum, usize)>,
        history_bytes_min: usize,
    ) {
        if ops.is_empty() {
            return;
        }
        let Some(rows) = self.value.rows() else { return self.replaced() };
        let digest = rows.digest(&self.columns);
        let result_bytes = rows.text_bytes();
        let diff = Diff { columns: self.columns.clone(), ops, digest };
        self.become_another();
        let history = self.history.get_or_insert_with(|| {
            Box::new(History { base: before, diffs: VecDeque::new(), bytes: 0 })
        });
        history.push(diff, history_bytes_min.max(result_bytes));
    }

    /// Notes that the value has become another that no diff leads to.
    pub fn replaced(&mut self) {
        self.become_another();
        self.forget_history();
    }

    fn become_another(&mut self) {
        self.version += 1;
        self.snapshot = None;
        // What no transaction made, as an analysis that failed, has no time. Of two that became visible the other way round
        // than they committed, the newer one is in it, whichever came last.
        self.changed_at =
            self.touched_at.take().map(|at| self.changed_at.map_or(at, |before| at.max(before)));
    }

    /// Forgets diffs and the encoded snapshot, which no subscriber needs any more.
    pub fn forget_history(&mut self) {
        self.history = None;
        self.snapshot = None;
    }

    /// Returns the bytes of the diffs that are kept.
    pub fn history_bytes(&self) -> usize {
        self.history.as_ref().map_or(0, |history| history.bytes)
    }

    /// Returns the bytes of the value as a snapshot, beside the rows that it shares with the value.
    pub fn snapshot_bytes(&self) -> usize {
        self.snapshot.as_ref().map_or(0, |snapshot| {
            snapshot.value.rows.len() * size_of::<ResultRow>() + snapshot.encoded_bytes()
        })
    }

    /// Returns what a subscription that was told so far must be told now; none where it knows.
    pub fn news(&mut self, told: Told, have: Option<Digest>) -> Option<UpdateKind> {
        if let Told::Version(version) = told {
            if version == self.version {
                return None;
            }
            if let Some(diffs) = self.diffs_since(version) {
                return Some(UpdateKind::Diffs(diffs));
            }
        }
        if told == Told::Interrupted(self.version) {
            return None;
        }
        match &self.value {
            Value::None => None,
            Value::Failed(error) => Some(UpdateKind::Error { last: false, error: error.clone() }),
            Value::Window(_) | Value::Groups(_) | Value::Rows(_) => {
                if have.is_some() && have == self.digest() {
                    return Some(UpdateKind::Unchanged);
                }
                // A first answer is whole.
                let have = have.filter(|_| told == Told::Reset);
                match have.and_then(|digest| self.diffs_from(digest)) {
                    Some(diffs) => Some(UpdateKind::Diffs(diffs)),
                    None => self.snapshot().map(UpdateKind::Snapshot),
                }
            }
        }
    }

    fn digest(&self) -> Option<Digest> {
        Some(self.value.rows()?.digest(&self.columns))
    }

    /// Returns the diffs that lead on from what has this digest, where they are still there and shorter than the result.
    fn diffs_from(&self, digest: Digest) -> Option<Vec<Arc<Shared<Diff>>>> {
        self.last_diffs(self.history.as_ref()?.since(digest, &self.columns)?)
    }

    /// Returns the diffs that lead on from a version, where they are still there and shorter than the result.
    fn diffs_since(&self, version: u64) -> Option<Vec<Arc<Shared<Diff>>>> {
        self.last_diffs(usize::try_from(self.version.checked_sub(version)?).ok()?)
    }

    fn last_diffs(&self, count: usize) -> Option<Vec<Arc<Shared<Diff>>>> {
        let diffs = self.history.as_ref()?.last(count)?;
        let result_bytes = self.value.rows()?.text_bytes();
        let diff_bytes: usize = diffs.iter().map(|diff| diff.value.text_bytes()).sum();
        (diffs.len() == 1 || diff_bytes <= result_bytes).then_some(diffs)
    }

    fn snapshot(&mut self) -> Option<Arc<Shared<ResultSnapshot>>> {
        if self.snapshot.is_none() {
            self.snapshot = Some(snapshot_of(self.value.rows()?, &self.columns));
        }
        self.snapshot.clone()
    }
}

/// Returns a list of rows as a snapshot to be sent.
pub(crate) fn snapshot_of(
    rows: &RowList,
    columns: &Arc<[OutputColumn]>,
) -> Arc<Shared<ResultSnapshot>> {
    Shared::new(ResultSnapshot {
        columns: columns.clone(),
        rows: rows.rows().to_vec(),
        digest: rows.digest(columns),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// There may be a million of them. Past this size the allocator would give each 64 bytes more.
    #[test]
    fn a_live_query_is_small() {
        assert!(size_of::<LiveQuery>() <= 448, "{} bytes", size_of::<LiveQuery>());
    }
}
