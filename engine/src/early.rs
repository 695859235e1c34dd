//! What the stream brings before the line begins: there is a stream, and nobody could say yet what is visible.
//!
//! Nothing is known at that time and nothing is being read, so that what these transactions did will be read in any
//! case. Past a bound they are let go, but for their ids: the first snapshots must show them.

use convoy_types::{Lsn, Transaction, Xid};
use roaring::RoaringBitmap;

/// What a transaction takes beside itself.
const ENTRY_BYTES: usize = 64;

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
        self.bytes += ENTRY_BYTES + transaction.memory_bytes();
        self.transactions.push(transaction);
        if self.bytes > bytes_max {
            self.let_go.extend(self.transactions.drain(..).map(|transaction| transaction.xid.0));
            self.bytes = 0;
        }
    }

    /// Returns the bytes that are kept.
    pub fn bytes(&self) -> usize {
        self.bytes
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

#[cfg(test)]
mod tests {
    use super::*;
    use convoy_types::{Changes, PgTimestamp};

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
