//! Transactions that are sent before they are complete, because they are large (`streaming`, protocol version 2).
//!
//! They are past any budget by then, so all that is kept of one is which tables it touched, as of any other past its
//! budget: no rows to put in order, and none to take back where a savepoint is rolled back. What such a savepoint touched
//! stays touched, which costs a refresh too many and misses nothing.

use crate::pgoutput::{
    DecodeError, LogicalDecodingMessage, StreamAbort, StreamCommit, StreamedMessage,
};
use crate::relation_cache::RelationCache;
use bytes::Bytes;
use convoy_types::{Changes, LogicalMessage, Relation, RelationId, Transaction, Xid};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The most transactions that may be open at a time; a server has as many as it has connections, and prepared ones.
const TRANSACTIONS_MAX: usize = 1 << 18;

/// The transactions whose blocks have begun to come.
#[derive(Debug, Default)]
pub(crate) struct Streamed {
    open: BTreeMap<Xid, OpenTransaction>,
    /// The one whose block this is.
    current: Option<Xid>,
}

#[derive(Debug, Default)]
struct OpenTransaction {
    touched: BTreeMap<RelationId, Arc<Relation>>,
    /// Tables as they are described inside of it, each by its (sub)transaction: nobody else's before it commits.
    described: BTreeMap<RelationId, (Xid, Arc<Relation>)>,
    messages: Messages,
}

/// Logical messages of a transaction, by the (sub)transaction that wrote each.
#[derive(Debug, Default)]
struct Messages {
    kept: Vec<(Xid, LogicalMessage)>,
    bytes: usize,
}

impl Streamed {
    /// Returns whether a block has begun and not ended.
    pub(crate) fn is_in_block(&self) -> bool {
        self.current.is_some()
    }

    /// Begins a block.
    pub(crate) fn start(&mut self, xid: Xid) -> Result<(), DecodeError> {
        if self.open.len() >= TRANSACTIONS_MAX && !self.open.contains_key(&xid) {
            return Err(DecodeError::TooManyTransactions { limit: TRANSACTIONS_MAX });
        }
        self.open.entry(xid).or_default();
        self.current = Some(xid);
        Ok(())
    }

    /// Takes a message of the block; `keep` says which logical messages are kept.
    pub(crate) fn push(
        &mut self,
        message: Bytes,
        relations: &RelationCache,
        keep: impl FnOnce(LogicalDecodingMessage, &mut usize) -> Option<LogicalMessage>,
    ) -> Result<(), DecodeError> {
        let out_of_order =
            DecodeError::OutOfOrder { message: "streamed", place: "outside a block" };
        let open = self.current.and_then(|xid| self.open.get_mut(&xid)).ok_or(out_of_order)?;
        match StreamedMessage::decode(message)? {
            StreamedMessage::Stop => self.current = None,
            StreamedMessage::Row(relation) => open.touch(relation, relations)?,
            StreamedMessage::Truncate(truncate) => {
                for relation in truncate.relations {
                    open.touch(relation, relations)?;
                }
            }
            StreamedMessage::Relation(xid, relation) => {
                relations.check_room(open.described.len())?;
                open.described.insert(relation.id, (xid, Arc::new(relation)));
            }
            StreamedMessage::Logical(xid, message) => {
                let Messages { kept, bytes } = &mut open.messages;
                kept.extend(keep(message, bytes).map(|message| (xid, message)));
            }
            StreamedMessage::Other => {}
        }
        Ok(())
    }

    /// Takes the end of a transaction; its tables are known as it described them from now on.
    pub(crate) fn commit(
        &mut self,
        end: StreamCommit,
        relations: &mut RelationCache,
    ) -> Result<Transaction, DecodeError> {
        let StreamCommit { xid, commit } = end;
        let out_of_order =
            DecodeError::OutOfOrder { message: "stream commit", place: "of another transaction" };
        let open = self.open.remove(&xid).ok_or(out_of_order)?;
        for (_, relation) in open.described.into_values() {
            relations.put(relation)?;
        }
        Ok(Transaction {
            xid,
            commit_lsn: commit.commit_lsn,
            end_lsn: commit.end_lsn,
            commit_time: commit.commit_time,
            changes: Changes::Touched(open.touched.into_values().collect()),
            messages: open.messages.kept.into_iter().map(|(_, message)| message).collect(),
        })
    }

    /// Forgets what was rolled back, as far as it matters.
    pub(crate) fn abort(&mut self, abort: StreamAbort) {
        let StreamAbort { xid, sub } = abort;
        if sub == xid {
            self.open.remove(&xid);
        } else if let Some(open) = self.open.get_mut(&xid) {
            open.described.retain(|_, (by, _)| *by != sub);
            open.messages.kept.retain(|(by, _)| *by != sub);
        }
    }
}

impl OpenTransaction {
    fn touch(&mut self, id: RelationId, relations: &RelationCache) -> Result<(), DecodeError> {
        let relation = match self.described.get(&id) {
            Some((_, relation)) => relation,
            None => relations.get(id)?,
        };
        if !self.touched.get(&id).is_some_and(|known| Arc::ptr_eq(known, relation)) {
            self.touched.insert(id, relation.clone());
        }
        Ok(())
    }
}
