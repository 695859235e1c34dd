//! What subscribers are told: transitions and the updates in them.

use crate::database::QueryError;
use crate::digest::Digest;
use crate::facts::OutputColumn;
use crate::line::Position;
use crate::result_row::ResultRow;
use convoy_types::{Lsn, PgTimestamp};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// A whole result.
#[derive(Clone, Debug)]
pub struct ResultSnapshot {
    /// The columns.
    pub columns: Arc<[OutputColumn]>,
    /// The rows in order.
    pub rows: Vec<ResultRow>,
    /// Equal exactly when columns, keys, values and order are.
    pub digest: Digest,
}

/// One step of a diff. Steps apply in order; positions are those right after the step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiffOp {
    /// A row goes.
    Remove {
        /// Its key.
        key: Box<str>,
    },
    /// A row comes.
    Insert {
        /// The row.
        row: ResultRow,
        /// Where it then stands.
        at: usize,
    },
    /// A row changes in place.
    Update {
        /// Its key.
        key: Box<str>,
        /// The columns that changed, by position, with their new values.
        set: Vec<(usize, Box<str>)>,
    },
    /// A row is taken out and put elsewhere.
    Move {
        /// Its key.
        key: Box<str>,
        /// Where it then stands.
        at: usize,
    },
    /// The value, of a result that is no set of rows, changes.
    Patch {
        /// The steps of an RFC 6902 patch, as JSON without the brackets around them.
        steps: Box<str>,
        /// What it then is.
        value: Box<str>,
    },
}

impl DiffOp {
    /// Returns whether it takes a field away that the row had: those of a function's rows come and go.
    pub(crate) fn unsets(&self) -> bool {
        matches!(self, DiffOp::Update { set, .. } if set.iter().any(|(_, cell)| cell.is_empty()))
    }
}

/// What changed in a result, from one version to a later one.
#[derive(Clone, Debug)]
pub struct Diff {
    /// The columns, for their names.
    pub columns: Arc<[OutputColumn]>,
    /// The steps.
    pub ops: Vec<DiffOp>,
    /// The digest of the result after them.
    pub digest: Digest,
}

impl Diff {
    /// Returns about the bytes that its steps take.
    pub fn text_bytes(&self) -> usize {
        /// What a step takes beside keys and values: names, positions.
        const STEP_BYTES: usize = 32;
        let step = |op: &DiffOp| match op {
            DiffOp::Remove { key } | DiffOp::Move { key, .. } => key.len(),
            DiffOp::Insert { row, .. } => row.text_bytes(),
            DiffOp::Patch { steps, value } => steps.len() + value.len(),
            DiffOp::Update { key, set } => {
                key.len() + set.iter().map(|(_, cell)| cell.len()).sum::<usize>()
            }
        };
        self.ops.iter().map(|op| STEP_BYTES + step(op)).sum()
    }
}

/// A value that many subscribers share, with a place for the bytes that it is encoded to: once for each of the two
/// ways to write numbers, however many there are who read it.
#[derive(Debug)]
pub struct Shared<T> {
    /// The value.
    pub value: T,
    encoded: [OnceLock<bytes::Bytes>; 2],
    /// How many of those who wait for it count its memory.
    holders: AtomicUsize,
}

impl<T> Shared<T> {
    /// Wraps a value.
    pub fn new(value: T) -> Arc<Self> {
        Arc::new(Shared {
            value,
            encoded: [OnceLock::new(), OnceLock::new()],
            holders: AtomicUsize::new(0),
        })
    }

    /// Notes one more who holds on to it. Returns whether that is the first: its memory counts once, however many there
    /// are.
    pub fn hold(&self) -> bool {
        self.holders.fetch_add(1, Ordering::Relaxed) == 0
    }

    /// Notes one less. Returns whether that was the last.
    pub fn release(&self) -> bool {
        self.holders.fetch_sub(1, Ordering::Relaxed) == 1
    }

    /// Returns the bytes of all forms in which it is encoded by now.
    pub fn encoded_bytes(&self) -> usize {
        self.encoded.iter().filter_map(OnceLock::get).map(bytes::Bytes::len).sum()
    }

    /// Returns the bytes of this form, encoding them if nobody has yet. `form` is 0 or 1.
    pub fn encoded(&self, form: usize, encode: impl FnOnce(&T) -> bytes::Bytes) -> &bytes::Bytes {
        self.encoded[form].get_or_init(|| encode(&self.value))
    }
}

/// What is new about one subscription.
#[derive(Clone, Debug)]
pub enum UpdateKind {
    /// The whole result.
    Snapshot(Arc<Shared<ResultSnapshot>>),
    /// Diffs to be applied one after the other; sent as one diff, their steps joined, with the last one's digest.
    Diffs(Vec<Arc<Shared<Diff>>>),
    /// What the client has is right.
    Unchanged,
    /// The result can't keep up; it is as of this position.
    Stale(Lsn),
    /// It failed. Where final, the subscription is gone.
    Error {
        /// Whether the subscription is gone.
        last: bool,
        /// Why.
        error: QueryError,
    },
}

/// An update of one subscription.
#[derive(Clone, Debug)]
pub struct Update {
    /// The client's name for the subscription.
    pub sub: Arc<str>,
    /// What is new.
    pub kind: UpdateKind,
}

/// A step of everything that a session sees, from one database snapshot to a later one.
#[derive(Clone, Debug)]
pub struct Transition {
    /// Every transaction whose commit record ends at or before this is reflected.
    pub lsn: Lsn,
    /// When the newest transaction in it committed; none where no transaction made it.
    pub committed_at: Option<PgTimestamp>,
    /// The ids of mutations of this session that it newly contains.
    pub reflects: Vec<Arc<str>>,
    /// What is new, a subscription each (a `Stale` may follow another of the same subscription).
    pub updates: Vec<Update>,
    /// How many transactions of the engine's line it reflects; tests ask which.
    pub position: Position,
}
