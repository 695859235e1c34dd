//! What of the stream waits for the engine, and what is done when that is too much (P10): rows give way to the tables
//! that they touched, which are then read again.

use crate::limits::BACKLOG_TRANSACTIONS_MAX;
use convoy_engine::Event;
use convoy_types::{ChangeKind, Changes, OldRow, Relation, RelationId, RowChange, Transaction};
use std::collections::HashSet;
use std::sync::Arc;

/// Memory of one change beside its values' texts: the row's slots and the change itself.
const CHANGE_BYTES: usize = 160;

/// What became of what was pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It waits.
    Waiting,
    /// It waits, and rows gave way.
    Collapsed,
    /// There are too many transactions: give the stream up.
    Overrun,
}

/// Counts what waits.
pub(super) struct Backlog {
    row_bytes: usize,
    transactions: usize,
    bytes_max: usize,
    transactions_max: usize,
}

impl Backlog {
    /// Returns an empty one, in which so many bytes of rows may wait.
    pub fn new(bytes_max: usize) -> Self {
        Backlog {
            row_bytes: 0,
            transactions: 0,
            bytes_max,
            transactions_max: BACKLOG_TRANSACTIONS_MAX,
        }
    }

    /// Forgets what waited.
    pub fn clear(&mut self) {
        (self.row_bytes, self.transactions) = (0, 0);
    }

    /// Counts an event that begins to wait.
    pub fn count(&mut self, event: &Event) {
        if let Event::Committed(transaction) = event {
            self.transactions += 1;
            self.row_bytes += row_bytes(transaction);
        }
    }

    /// Counts an event that waits no more.
    pub fn discount(&mut self, event: &Event) {
        if let Event::Committed(transaction) = event {
            self.transactions = self.transactions.saturating_sub(1);
            self.row_bytes = self.row_bytes.saturating_sub(row_bytes(transaction));
        }
    }

    /// Lets rows give way where there are too many.
    pub fn collapse_if_needed<'a>(
        &mut self,
        waiting: impl Iterator<Item = &'a mut Event>,
    ) -> Pushed {
        if self.transactions > self.transactions_max {
            return Pushed::Overrun;
        }
        if self.row_bytes <= self.bytes_max {
            return Pushed::Waiting;
        }
        for event in waiting {
            if let Event::Committed(transaction) = event {
                collapse(transaction);
            }
        }
        self.row_bytes = 0;
        Pushed::Collapsed
    }

    /// Returns the bytes of rows that wait.
    pub fn row_bytes(&self) -> usize {
        self.row_bytes
    }
}

/// Keeps of a transaction only which tables it touched.
fn collapse(transaction: &mut Transaction) {
    if let Changes::Rows(rows) = &transaction.changes {
        let mut seen: HashSet<RelationId> = HashSet::new();
        let relations = rows.iter().map(|change| &change.relation);
        let touched: Vec<Arc<Relation>> =
            relations.filter(|relation| seen.insert(relation.id)).cloned().collect();
        transaction.changes = Changes::Touched(touched);
    }
}

fn row_bytes(transaction: &Transaction) -> usize {
    match &transaction.changes {
        Changes::Rows(rows) => rows.iter().map(change_bytes).sum(),
        Changes::Touched(_) => 0,
    }
}

fn change_bytes(change: &RowChange) -> usize {
    let old = |old: &OldRow| match old {
        OldRow::SameKey => 0,
        OldRow::Key(row) | OldRow::Full(row) => row.text_bytes(),
    };
    CHANGE_BYTES
        + match &change.kind {
            ChangeKind::Insert { new } => new.text_bytes(),
            ChangeKind::Update { old: before, new } => old(before) + new.text_bytes(),
            ChangeKind::Delete { old: before } => old(before),
            ChangeKind::Truncate => 0,
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use convoy_types::{Datum, Lsn, PgTimestamp, ReplicaIdentity, Row, Xid};

    fn transaction(tables: &[u32], bytes: usize) -> Event {
        let change = |&id: &u32| RowChange {
            relation: Arc::new(Relation {
                id: RelationId(id),
                namespace: "public".into(),
                name: "t".into(),
                replica_identity: ReplicaIdentity::Full,
                columns: vec![],
            }),
            kind: ChangeKind::Insert {
                new: Row([Datum::Text(Bytes::from(vec![b'x'; bytes]))].into()),
            },
        };
        Event::Committed(Transaction {
            xid: Xid(7),
            commit_lsn: Lsn(1),
            end_lsn: Lsn(2),
            commit_time: PgTimestamp(0),
            changes: Changes::Rows(tables.iter().map(change).collect()),
            messages: vec![],
        })
    }

    #[test]
    fn p10_rows_give_way_to_tables_once_they_are_too_many() {
        let mut backlog = Backlog::new(1000);
        let mut waiting = vec![transaction(&[1, 2, 1], 100)];
        backlog.count(&waiting[0]);
        assert_eq!(backlog.collapse_if_needed(waiting.iter_mut()), Pushed::Waiting);
        waiting.push(transaction(&[3], 900));
        backlog.count(&waiting[1]);
        assert_eq!(backlog.collapse_if_needed(waiting.iter_mut()), Pushed::Collapsed);
        let touched = |event: &Event| match event {
            Event::Committed(Transaction {
                changes: Changes::Touched(tables),
                xid: Xid(7),
                ..
            }) => tables.iter().map(|table| table.id.0).collect::<Vec<_>>(),
            _ => panic!("still rows"),
        };
        assert_eq!(waiting.iter().map(touched).collect::<Vec<_>>(), [vec![1, 2], vec![3]]);
        assert_eq!(backlog.row_bytes(), 0);
        waiting.iter().for_each(|event| backlog.discount(event));
        assert_eq!((backlog.row_bytes(), backlog.transactions), (0, 0));
    }

    #[test]
    fn transactions_are_bounded_too() {
        let mut backlog = Backlog { transactions_max: 1, ..Backlog::new(1000) };
        let mut waiting = [transaction(&[], 0), transaction(&[], 0)];
        waiting.iter().for_each(|event| backlog.count(event));
        assert_eq!(backlog.collapse_if_needed(waiting.iter_mut()), Pushed::Overrun);
    }
}
