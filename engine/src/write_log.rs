//! The write log: what was applied since the oldest running read's snapshot, table by table.

use crate::line::Position;
use crate::tables::TableChange;
use convoy_types::{Datum, PgTimestamp, RelationId};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// What one transaction did to the tables that are read.
pub(crate) struct Logged {
    pub committed_at: PgTimestamp,
    pub changes: Vec<Arc<TableChange>>,
    /// Tables whose changes are not known row by row: they must be read again.
    pub unknown: BTreeSet<RelationId>,
}

/// What was applied since the oldest running read's snapshot, for results that are still being read: what a result
/// does not yet show is taken into it when it is there.
#[derive(Default)]
pub(crate) struct WriteLog {
    entries: VecDeque<(Position, Logged)>,
    bytes: usize,
    /// From here on it is complete.
    begins_after: Position,
    is_kept: bool,
}

impl WriteLog {
    /// Keeps changes from this point of the line on, if it does not already.
    pub fn begin(&mut self, position: Position) {
        if !self.is_kept {
            self.is_kept = true;
            self.begins_after = position;
        }
    }

    /// Forgets what no read needs any more; everything, where none runs.
    pub fn trim(&mut self, oldest_read: Option<Position>) {
        let Some(oldest) = oldest_read else {
            *self = WriteLog::default();
            return;
        };
        while self.entries.front().is_some_and(|(position, _)| *position <= oldest) {
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        if let Some((position, logged)) = self.entries.pop_front() {
            self.begins_after = self.begins_after.max(position);
            self.bytes -= logged.bytes();
        }
    }

    /// Adds a transaction; what is oldest goes where that makes it too much.
    pub fn push(&mut self, position: Position, logged: Logged, bytes_max: usize) {
        if !self.is_kept {
            return;
        }
        self.bytes += logged.bytes();
        self.entries.push_back((position, logged));
        while self.bytes > bytes_max && !self.entries.is_empty() {
            self.drop_first();
        }
    }

    /// Returns the bytes that are kept.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns a table's changes after one point of the line, up to another, and when the last transaction committed that
    /// made one; none where they are not all known.
    pub fn changes_between(
        &self,
        after: Position,
        up_to: Position,
        table: RelationId,
    ) -> Option<(Vec<Arc<TableChange>>, Option<PgTimestamp>)> {
        if after < self.begins_after {
            return None;
        }
        let (mut changes, mut committed_at) = (Vec::new(), None);
        for (_, logged) in
            self.entries.iter().filter(|(position, _)| *position > after && *position <= up_to)
        {
            if logged.unknown.contains(&table) {
                return None;
            }
            let of_table = logged.changes.iter().filter(|change| change.table.id == table);
            let known = changes.len();
            changes.extend(of_table.cloned());
            if changes.len() > known {
                committed_at = Some(logged.committed_at);
            }
        }
        Some((changes, committed_at))
    }
}

impl Logged {
    fn bytes(&self) -> usize {
        /// What a change takes beside its values.
        const CHANGE_BYTES: usize = 128;
        let changes: usize =
            self.changes.iter().map(|change| CHANGE_BYTES + change.text_bytes()).sum();
        changes + CHANGE_BYTES + self.unknown.len() * size_of::<RelationId>()
    }
}

impl TableChange {
    fn text_bytes(&self) -> usize {
        let bytes = |datum: &Datum| if let Datum::Text(text) = datum { text.len() } else { 0 } + size_of::<Datum>();
        self.old.iter().chain(&self.new).flat_map(|fields| fields.iter()).map(bytes).sum()
    }
}
