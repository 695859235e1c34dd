//! What of the stream waits for the engine, and what is done when that is too much (P10): rows give way to the tables
//! that they touched, which are then read again.
//!
//! Too much is WAL, from what the engine has applied to what was received (`--refresh-lag`): reading again once costs
//! less by then than each change does. And it is memory, whatever the WAL is: where what is left of the transactions is
//! too much, too, the stream is given up.

use convoy_engine::Event;
use convoy_types::Lsn;

/// What became of what was pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It waits.
    Waiting,
    /// It waits, and rows gave way.
    Collapsed,
    /// There are too many transactions, even without their rows: give the stream up.
    Overrun,
}

/// Counts what waits.
pub(super) struct Backlog {
    bytes: usize,
    /// Where the stream began; none before its first event.
    began: Option<Lsn>,
    /// The greatest position that was received.
    received: Lsn,
    /// Whether the engine is behind: then rows give way as they come.
    is_behind: bool,
    lag_bytes_max: u64,
    bytes_max: usize,
    /// How often rows gave way, a transaction each.
    collapsed: u64,
}

impl Backlog {
    /// Returns an empty one, for an engine that may be so many bytes of WAL behind, and transactions that may take so many
    /// bytes of memory while they wait.
    pub fn new(lag_bytes_max: u64, bytes_max: usize) -> Self {
        Backlog {
            bytes: 0,
            began: None,
            received: Lsn::default(),
            is_behind: false,
            lag_bytes_max,
            bytes_max,
            collapsed: 0,
        }
    }

    /// Forgets what waited, and how far the stream was.
    pub fn clear(&mut self) {
        self.bytes = 0;
        (self.began, self.received, self.is_behind) = (None, Lsn::default(), false);
    }

    /// Counts an event that begins to wait; its rows give way at once where the engine is behind.
    pub fn add(&mut self, event: &mut Event) {
        let (from, to) = match event {
            Event::Committed(transaction) => {
                if self.is_behind {
                    self.collapsed += u64::from(transaction.row_bytes() > 0);
                    transaction.collapse();
                }
                self.bytes += transaction.memory_bytes();
                (transaction.commit_lsn, transaction.end_lsn)
            }
            Event::Progress(lsn) => (*lsn, *lsn),
            _ => return,
        };
        self.began.get_or_insert(from);
        self.received = self.received.max(to);
    }

    /// Counts an event that waits no more. Returns what it takes, in bytes.
    pub fn discount(&mut self, event: &Event) -> usize {
        let Event::Committed(transaction) = event else { return 0 };
        let bytes = transaction.memory_bytes();
        self.bytes = self.bytes.saturating_sub(bytes);
        bytes
    }

    /// Lets rows give way where there are too many, or where the engine, which has applied so much, is too far behind.
    pub fn collapse_if_needed<'a>(
        &mut self,
        applied: Lsn,
        waiting: impl Iterator<Item = &'a mut Event>,
    ) -> Pushed {
        // Before it has applied anything, the engine's position is none of this stream.
        let applied = applied.max(self.began.unwrap_or_default());
        let is_behind = self.received.bytes_since(applied) > self.lag_bytes_max;
        let was_behind = std::mem::replace(&mut self.is_behind, is_behind);
        // While it stays behind, what came was collapsed as it came.
        if (!is_behind || was_behind) && self.bytes <= self.bytes_max {
            return Pushed::Waiting;
        }
        self.bytes = 0;
        for event in waiting {
            if let Event::Committed(transaction) = event {
                self.collapsed += u64::from(transaction.row_bytes() > 0);
                transaction.collapse();
                self.bytes += transaction.memory_bytes();
            }
        }
        // Else it would be gone through again and again for ever less.
        match self.bytes > self.bytes_max / 2 {
            true => Pushed::Overrun,
            false => Pushed::Collapsed,
        }
    }

    /// Returns how many transactions' rows have given way so far.
    pub fn collapsed(&self) -> u64 {
        self.collapsed
    }

    /// Returns what waits, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use convoy_types::{
        ChangeKind, Changes, Datum, PgTimestamp, Relation, RelationId, ReplicaIdentity, Row,
        RowChange, Transaction, Xid,
    };
    use std::sync::Arc;

    const ROWS: usize = 128 << 20;

    fn change(id: u32, bytes: usize) -> RowChange {
        RowChange {
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
        }
    }

    fn transaction(tables: &[u32], bytes: usize) -> Event {
        at(1, tables, bytes)
    }

    fn at(lsn: u64, tables: &[u32], bytes: usize) -> Event {
        let change = |&id: &u32| change(id, bytes);
        Event::Committed(Transaction {
            xid: Xid(7),
            commit_lsn: Lsn(lsn),
            end_lsn: Lsn(lsn + 1),
            commit_time: PgTimestamp(0),
            changes: Changes::Rows(tables.iter().map(change).collect()),
            messages: vec![],
        })
    }

    #[test]
    fn p10_rows_give_way_to_tables_once_they_are_too_many() {
        let mut backlog = Backlog::new(1 << 20, 5000);
        let mut waiting = vec![transaction(&[1, 2, 1], 1000)];
        backlog.add(&mut waiting[0]);
        assert_eq!(backlog.collapse_if_needed(Lsn(0), waiting.iter_mut()), Pushed::Waiting);
        waiting.push(transaction(&[3], 2000));
        backlog.add(&mut waiting[1]);
        assert_eq!(backlog.collapse_if_needed(Lsn(0), waiting.iter_mut()), Pushed::Collapsed);
        let touched = |event: &Event| match event {
            Event::Committed(Transaction {
                changes: Changes::Touched(tables),
                xid: Xid(7),
                ..
            }) => tables.iter().map(|table| table.id.0).collect::<Vec<_>>(),
            _ => panic!("still rows"),
        };
        assert_eq!(waiting.iter().map(touched).collect::<Vec<_>>(), [vec![1, 2], vec![3]]);
        let left = backlog.bytes();
        assert!((1..1000).contains(&left), "{left} bytes of two transactions without rows");
        let discounted: usize = waiting.iter().map(|event| backlog.discount(event)).sum();
        assert_eq!((discounted, backlog.bytes()), (left, 0));
    }

    #[test]
    fn transactions_are_bounded_too() {
        let mut backlog = Backlog::new(1 << 20, 5000);
        let mut waiting = Vec::new();
        let pushed = loop {
            waiting.push(transaction(&[], 0));
            backlog.add(waiting.last_mut().expect("one"));
            let pushed = backlog.collapse_if_needed(Lsn(0), waiting.iter_mut());
            if pushed != Pushed::Waiting {
                break pushed;
            }
        };
        assert_eq!(pushed, Pushed::Overrun);
        assert!((10..100).contains(&waiting.len()), "{} in 5,000 bytes", waiting.len());
    }

    #[test]
    fn rows_give_way_while_the_engine_is_far_behind_in_the_log() {
        let mut backlog = Backlog::new(1000, ROWS);
        let mut waiting = Vec::new();
        let mut push = |lsn: u64, applied: u64| {
            waiting.push(at(lsn, &[1], 1));
            backlog.add(waiting.last_mut().expect("one"));
            let pushed = backlog.collapse_if_needed(Lsn(applied), waiting.iter_mut());
            let is_collapsed = |event: &Event| match event {
                Event::Committed(transaction) => matches!(transaction.changes, Changes::Touched(_)),
                _ => false,
            };
            (pushed, waiting.iter().map(is_collapsed).collect::<Vec<_>>())
        };
        // The stream begins far into the log; that the engine has applied nothing of it is no lag.
        assert_eq!(push(50_000, 0), (Pushed::Waiting, vec![false]));
        assert_eq!(push(50_900, 0), (Pushed::Waiting, vec![false; 2]));
        assert_eq!(push(51_000, 0), (Pushed::Collapsed, vec![true; 3]), "1001 bytes");
        // It is said once.
        assert_eq!(push(51_100, 50_000), (Pushed::Waiting, vec![true; 4]));
        // The one that finds it caught up may still be read again; the next ones are not.
        assert_eq!(push(51_200, 50_900), (Pushed::Waiting, vec![true; 5]));
        let caught_up = [vec![true; 5], vec![false]].concat();
        assert_eq!(push(51_300, 51_000), (Pushed::Waiting, caught_up));
    }

    #[test]
    fn a_stream_that_begins_anew_has_no_lag_of_the_one_before() {
        let mut backlog = Backlog::new(1000, ROWS);
        let mut events = [at(10, &[1], 1), at(5_000, &[1], 1)];
        events.iter_mut().for_each(|event| backlog.add(event));
        assert_eq!(backlog.collapse_if_needed(Lsn(0), events.iter_mut()), Pushed::Collapsed);
        backlog.clear();
        let mut events = [at(90_000, &[1], 1)];
        backlog.add(&mut events[0]);
        assert_eq!(backlog.collapse_if_needed(Lsn(0), events.iter_mut()), Pushed::Waiting);
    }
}
