//! One change of one row.

use crate::relation::Relation;
use crate::row::Row;
use std::sync::Arc;

/// What a change says of the row before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OldRow {
    /// Nothing: an update that left the identity's columns alone, under any identity but FULL. The old row has the
    /// new row's key.
    SameKey,
    /// The identity's columns; every other column is [`Datum::Missing`](crate::Datum::Missing).
    Key(Row),
    /// The whole row, TOASTed values included (REPLICA IDENTITY FULL).
    Full(Row),
}

/// What happened to a row, or to all rows of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// A row came.
    Insert {
        /// The row.
        new: Row,
    },
    /// A row changed. Unchanged TOASTed values of `new` are filled in from a full `old`.
    Update {
        /// The row before.
        old: OldRow,
        /// The row after.
        new: Row,
    },
    /// A row went. `old` is never [`OldRow::SameKey`].
    Delete {
        /// The row before.
        old: OldRow,
    },
    /// All rows went.
    Truncate,
}

/// A change of one row, with the table's description that its data follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowChange {
    /// The table; a leaf, for a partitioned one.
    pub relation: Arc<Relation>,
    /// What happened.
    pub kind: ChangeKind,
}

impl RowChange {
    /// Returns about how many bytes of memory it takes: the rows' texts, their places, and the change itself.
    pub fn memory_bytes(&self) -> usize {
        let old = |old: &OldRow| match old {
            OldRow::SameKey => 0,
            OldRow::Key(row) | OldRow::Full(row) => row.memory_bytes(),
        };
        size_of::<RowChange>()
            + match &self.kind {
                ChangeKind::Insert { new } => new.memory_bytes(),
                ChangeKind::Update { old: before, new } => old(before) + new.memory_bytes(),
                ChangeKind::Delete { old: before } => old(before),
                ChangeKind::Truncate => 0,
            }
    }
}
