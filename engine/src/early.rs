//! What the stream brings before the line begins: there is a stream, and nobody could say yet what is visible.
//!
//! Nothing is known at that time and nothing is being read, so that what these transactions did will be read in any
//! case. Past a bound they are let go, but for their ids: the first snapshots must show them.

use convoy_types::{ChangeKind, Changes, Lsn, OldRow, Transaction, Xid};
use roaring::RoaringBitmap;

/// What a transaction and a change take beside the values.
const ENTRY_BYTES: usize = 160;

/// Transactions and positions that came before the line.
#[derive(Default)]
pub(crate) struct Early {
    pub transactions: Vec<Transaction>,
    bytes: usize,
    /// The position that the stream has passed.
    pub received: Lsn,
    let_go: RoaringBitmap,
}

impl Early {
    /// Takes a transaction in.
    pub fn receive(&mut self, transaction: Transaction, bytes_max: usize) {
        self.received = self.received.max(transaction.end_lsn);
        self.bytes += bytes(&transaction);
        self.transactions.push(transaction);
        if self.bytes > bytes_max {
            self.let_go.extend(self.transactions.drain(..).map(|transaction| transaction.xid.0));
            self.bytes = 0;
        }
    }

    /// Notes that the stream has passed a position.
    pub fn progress(&mut self, lsn: Lsn) {
        self.received = self.received.max(lsn);
    }

    /// Returns the transactions that were let go.
    pub fn let_go(&self) -> impl Iterator<Item = Xid> + '_ {
        self.let_go.iter().map(Xid)
    }
}

fn bytes(transaction: &Transaction) -> usize {
    let old = |old: &OldRow| match old {
        OldRow::SameKey => 0,
        OldRow::Key(row) | OldRow::Full(row) => row.text_bytes(),
    };
    let change = |kind: &ChangeKind| match kind {
        ChangeKind::Insert { new } => new.text_bytes(),
        ChangeKind::Update { old: before, new } => old(before) + new.text_bytes(),
        ChangeKind::Delete { old: before } => old(before),
        ChangeKind::Truncate => 0,
    };
    let changes = match &transaction.changes {
        Changes::Rows(rows) => rows.iter().map(|row| ENTRY_BYTES + change(&row.kind)).sum(),
        Changes::Touched(relations) => relations.len() * ENTRY_BYTES,
    };
    let message = |message: &convoy_types::LogicalMessage| ENTRY_BYTES + message.content.len();
    ENTRY_BYTES + changes + transaction.messages.iter().map(message).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use convoy_types::PgTimestamp;

    #[test]
    fn past_the_bound_only_ids_are_kept() {
        let mut early = Early::default();
        for xid in 10..1_000 {
            let transaction = Transaction {
                xid: Xid(xid),
                commit_lsn: Lsn(u64::from(xid)),
                end_lsn: Lsn(u64::from(xid) + 1),
                commit_time: PgTimestamp(0),
                changes: Changes::Rows(Vec::new()),
                messages: Vec::new(),
            };
            early.receive(transaction, 10 * ENTRY_BYTES);
            assert!(early.transactions.len() <= 10);
        }
        let kept = early.transactions.iter().map(|transaction| transaction.xid);
        assert_eq!(
            early.let_go().chain(kept).collect::<Vec<_>>(),
            (10..1_000).map(Xid).collect::<Vec<_>>()
        );
        assert_eq!(early.received, Lsn(1_000));
    }
}
