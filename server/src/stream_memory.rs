//! What waits for clients, in all: the part `streams` of memory (`limits.rs`), from the engine's transitions to the
//! bytes that a socket has not taken yet.
//!
//! What many wait for is one piece of memory and counts once, however many they are. It counts for as long as anybody
//! has it: a frame that a slow client keeps from being written holds what it was made of ([`Held::into_chunk`]).

use bytes::Bytes;
use convoy_engine::{Diff, DiffOp, ResultRow, ResultSnapshot, Shared, Transition, UpdateKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// What an update takes beside what it says, and what a transition does.
const UPDATE_BYTES: usize = 128;

/// The bound, and how much of it is in use.
#[derive(Debug)]
pub struct StreamMemory {
    // A release may be counted before the hold that it ends: it is below zero for a moment then.
    used: AtomicI64,
    bytes_max: usize,
    filled: AtomicU64,
    collapsed: AtomicU64,
}

impl StreamMemory {
    /// Returns a bound of so many bytes.
    pub fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(StreamMemory {
            used: AtomicI64::new(0),
            bytes_max,
            filled: AtomicU64::new(0),
            collapsed: AtomicU64::new(0),
        })
    }

    /// Returns the bytes in use.
    pub fn used(&self) -> usize {
        usize::try_from(self.used.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// Returns the bound.
    pub fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// Returns whether what waits for one client should give way to what is so now.
    pub fn is_tight(&self) -> bool {
        self.used() > self.bytes_max / 4 * 3
    }

    /// Returns whether nobody new should be let in.
    pub fn is_full(&self) -> bool {
        self.used() > self.bytes_max
    }

    /// Counts a queue that takes no more before its client has read: what comes meanwhile is told together.
    pub fn filled_one(&self) {
        self.filled.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns how often a queue was full so far.
    pub fn filled(&self) -> u64 {
        self.filled.load(Ordering::Relaxed)
    }

    /// Counts a queue that gave way.
    pub fn collapsed_one(&self) {
        self.collapsed.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns how many queues have given way so far.
    pub fn collapsed(&self) -> u64 {
        self.collapsed.load(Ordering::Relaxed)
    }

    fn add(&self, bytes: usize) {
        self.used.fetch_add(i64::try_from(bytes).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    fn sub(&self, bytes: usize) {
        self.used.fetch_sub(i64::try_from(bytes).unwrap_or(i64::MAX), Ordering::Relaxed);
    }
}

/// What is shared with others who wait for it.
#[derive(Debug)]
enum Part {
    Snapshot(Arc<Shared<ResultSnapshot>>),
    Diff(Arc<Shared<Diff>>),
}

impl Part {
    fn bytes(&self) -> usize {
        match self {
            Part::Snapshot(snapshot) => snapshot_bytes(&snapshot.value),
            Part::Diff(diff) => diff_bytes(&diff.value),
        }
    }

    fn hold(&self) -> bool {
        match self {
            Part::Snapshot(snapshot) => snapshot.hold(),
            Part::Diff(diff) => diff.hold(),
        }
    }

    fn release(&self) -> bool {
        match self {
            Part::Snapshot(snapshot) => snapshot.release(),
            Part::Diff(diff) => diff.release(),
        }
    }
}

/// What one who waits holds on to. Dropping it lets go.
#[derive(Debug)]
pub struct Held {
    memory: Arc<StreamMemory>,
    own_bytes: usize,
    parts: Vec<Part>,
}

impl Held {
    /// Returns what nothing is held by yet.
    pub fn nothing(memory: &Arc<StreamMemory>) -> Self {
        Held { memory: memory.clone(), own_bytes: 0, parts: Vec::new() }
    }

    /// Holds what a transition does.
    pub fn of(memory: &Arc<StreamMemory>, transition: &Transition) -> Self {
        let mut held = Held::nothing(memory);
        held.grow(UPDATE_BYTES * (1 + transition.updates.len()));
        for update in &transition.updates {
            match &update.kind {
                UpdateKind::Snapshot(snapshot) => held.hold(Part::Snapshot(snapshot.clone())),
                UpdateKind::Diffs(diffs) => {
                    diffs.iter().for_each(|diff| held.hold(Part::Diff(diff.clone())));
                }
                UpdateKind::Unchanged | UpdateKind::Stale(_) | UpdateKind::Error { .. } => {}
            }
        }
        held
    }

    fn hold(&mut self, part: Part) {
        if part.hold() {
            self.memory.add(part.bytes());
        }
        self.parts.push(part);
    }

    /// Holds so many bytes more, which are nobody else's.
    pub fn grow(&mut self, bytes: usize) {
        self.memory.add(bytes);
        self.own_bytes += bytes;
    }

    /// Holds what another one did, too.
    pub fn join(&mut self, mut other: Held) {
        self.own_bytes += std::mem::take(&mut other.own_bytes);
        self.parts.append(&mut other.parts);
    }

    /// Returns bytes that let go only when nobody has them any more.
    pub fn into_chunk(self: Arc<Self>, bytes: Bytes) -> Bytes {
        Bytes::from_owner(Chunk { bytes, _held: self })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.memory.sub(self.own_bytes);
        for part in &self.parts {
            if part.release() {
                self.memory.sub(part.bytes());
            }
        }
    }
}

struct Chunk {
    bytes: Bytes,
    _held: Arc<Held>,
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Returns about how many bytes a waiting transition holds on to, whether others do too or not.
pub fn transition_bytes(transition: &Transition) -> usize {
    let update = |kind: &UpdateKind| match kind {
        UpdateKind::Snapshot(snapshot) => snapshot_bytes(&snapshot.value),
        UpdateKind::Diffs(diffs) => diffs.iter().map(|diff| diff_bytes(&diff.value)).sum(),
        UpdateKind::Unchanged | UpdateKind::Stale(_) | UpdateKind::Error { .. } => 0,
    };
    let updates = transition.updates.iter().map(|update_of| UPDATE_BYTES + update(&update_of.kind));
    UPDATE_BYTES + updates.sum::<usize>()
}

fn row_bytes(row: &ResultRow) -> usize {
    32 + row.text_bytes()
}

// Rows of one result are of about one size, and walking 100,000 of them would cost the engine's time.
fn snapshot_bytes(snapshot: &ResultSnapshot) -> usize {
    let rows = &snapshot.rows;
    rows.get(rows.len() / 2).map_or(0, row_bytes) * rows.len()
}

fn diff_bytes(diff: &Diff) -> usize {
    let op = |op: &DiffOp| match op {
        DiffOp::Insert { row, .. } => row_bytes(row),
        DiffOp::Update { set, .. } => {
            32 + set.iter().map(|(_, cell)| cell.len() + 24).sum::<usize>()
        }
        DiffOp::Patch { steps, value } => steps.len() + value.len() + 32,
        DiffOp::Remove { .. } | DiffOp::Move { .. } => 32,
    };
    diff.ops.iter().map(op).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use convoy_engine::{Digest, Position, Update};
    use convoy_types::Lsn;

    fn transition(snapshot: &Arc<Shared<ResultSnapshot>>) -> Transition {
        let kind = UpdateKind::Snapshot(snapshot.clone());
        Transition {
            lsn: Lsn(1),
            committed_at: None,
            reflects: Vec::new(),
            updates: vec![Update { sub: "a".into(), kind }],
            position: Position(1),
        }
    }

    fn snapshot() -> Arc<Shared<ResultSnapshot>> {
        let rows = (0..1_000).map(|n| ResultRow::new(&n.to_string(), ["1"; 9])).collect();
        Shared::new(ResultSnapshot {
            columns: [].into(),
            rows,
            digest: Digest::read(&"0".repeat(32)).expect("a digest"),
        })
    }

    #[test]
    fn what_a_thousand_wait_for_counts_once() {
        let memory = StreamMemory::new(1 << 20);
        let large = snapshot();
        let all: Vec<_> = (0..1_000).map(|_| Held::of(&memory, &transition(&large))).collect();
        let one = snapshot_bytes(&large.value);
        assert!(one > 40_000);
        assert_eq!(memory.used(), 1_000 * 2 * UPDATE_BYTES + one);
        // Another version of it is another piece of memory.
        let later = Held::of(&memory, &transition(&snapshot()));
        assert_eq!(memory.used(), 1_001 * 2 * UPDATE_BYTES + 2 * one);
        drop(all);
        assert_eq!(memory.used(), 2 * UPDATE_BYTES + one);
        drop(later);
        assert_eq!(memory.used(), 0);
    }

    #[test]
    fn a_frame_that_is_not_written_holds_what_it_was_made_of() {
        let memory = StreamMemory::new(50_000);
        let mut held = Held::nothing(&memory);
        held.join(Held::of(&memory, &transition(&snapshot())));
        held.grow(100);
        let used = memory.used();
        let held = Arc::new(held);
        let chunks = ["data: ", "{}"].map(|text| held.clone().into_chunk(Bytes::from(text)));
        drop(held);
        assert!(memory.is_tight() && !memory.is_full());
        let slice = chunks[1].slice(1..);
        drop(chunks);
        assert_eq!((memory.used(), &slice[..]), (used, &b"}"[..]));
        drop(slice);
        assert_eq!(memory.used(), 0);
    }
}
