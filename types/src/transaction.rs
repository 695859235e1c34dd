//! A committed transaction as the stream delivers it.

use crate::change::RowChange;
use crate::lsn::Lsn;
use crate::relation::{Relation, RelationId};
use crate::timestamp::PgTimestamp;
use crate::xid::Xid;
use bytes::Bytes;
use std::collections::HashSet;
use std::sync::Arc;

/// What a transaction did to the published tables.
#[derive(Clone, Debug)]
pub enum Changes {
    /// Each change of a row, in the order of the WAL.
    Rows(Vec<RowChange>),
    /// Only which tables were touched: the rows went past the budget, or past what may wait for the engine. What is
    /// read from these tables must be read again.
    Touched(Vec<Arc<Relation>>),
}

/// A message that somebody put into the WAL with `pg_logical_emit_message(true, prefix, content)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogicalMessage {
    /// Whose message it is.
    pub prefix: String,
    /// What it says.
    pub content: Bytes,
}

/// A committed transaction. Only commits are ordered: data of concurrent transactions interleave in the WAL.
#[derive(Clone, Debug)]
pub struct Transaction {
    /// The top-level transaction id.
    pub xid: Xid,
    /// Where the commit record starts.
    pub commit_lsn: Lsn,
    /// Where the commit record ends: a position that includes this transaction.
    pub end_lsn: Lsn,
    /// When it committed, by the server's clock.
    pub commit_time: PgTimestamp,
    /// What it did.
    pub changes: Changes,
    /// Its transactional messages with one of our prefixes.
    pub messages: Vec<LogicalMessage>,
}

impl Transaction {
    /// Returns about how many bytes of memory it takes.
    pub fn memory_bytes(&self) -> usize {
        let tables = match &self.changes {
            Changes::Rows(_) => 0,
            Changes::Touched(tables) => tables.len() * size_of::<Arc<Relation>>(),
        };
        let message = |message: &LogicalMessage| {
            size_of::<LogicalMessage>() + message.prefix.len() + message.content.len()
        };
        let messages: usize = self.messages.iter().map(message).sum();
        size_of::<Transaction>() + self.row_bytes() + tables + messages
    }

    /// Returns about how many bytes of memory its rows take; nothing where only its tables are known.
    pub fn row_bytes(&self) -> usize {
        match &self.changes {
            Changes::Rows(rows) => rows.iter().map(RowChange::memory_bytes).sum(),
            Changes::Touched(_) => 0,
        }
    }

    /// Keeps of it only which tables it touched.
    pub fn collapse(&mut self) {
        if let Changes::Rows(rows) = &self.changes {
            let mut seen: HashSet<RelationId> = HashSet::new();
            let relations = rows.iter().map(|change| &change.relation);
            let touched: Vec<Arc<Relation>> =
                relations.filter(|relation| seen.insert(relation.id)).cloned().collect();
            self.changes = Changes::Touched(touched);
        }
    }
}
