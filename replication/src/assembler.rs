//! Puts pgoutput's messages together to committed transactions.
//!
//! Most transactions come whole, one after another, so at most one of those is open here. Past its budget a transaction
//! keeps only which tables it touched: its rows are let go, and those to come are not even decoded. So memory is bounded
//! by the budget however large a transaction is. One for which the server's own memory (`logical_decoding_work_mem`) is
//! too small comes in blocks before it commits, between which others come; see `streamed`.
//!
//! No I/O: fed with message bytes, tested without a server.

use crate::pgoutput::{
    Begin, Commit, DecodeError, Delete, Insert, LogicalDecodingMessage, Message, OldTuple, Update,
    changed_relation,
};
use crate::relation_cache::RelationCache;
use crate::streamed::Streamed;
use bytes::Bytes;
use convoy_types::{
    ChangeKind, Changes, Datum, LogicalMessage, OldRow, Relation, RelationId, Row, RowChange,
    Transaction,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use tracing::{debug, warn};

/// The prefix with which our own logical messages start.
const MESSAGE_PREFIX: &str = "convoy";
/// What one transaction's logical messages may hold together; a mutation writes one of some 100 bytes.
const MESSAGES_BYTES_MAX: usize = 256 * 1024;
/// The longest message kind that is no row and no logical message: a description of 1,600 columns.
const PLAIN_MESSAGE_BYTES_MAX: usize = 1024 * 1024;

/// What a transaction may hold before it is reduced to the tables that it touched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    pub(crate) rows_max: usize,
    /// In bytes of memory: texts, and what each column and row takes besides.
    pub(crate) bytes_max: usize,
}

/// Whether a message is all there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    Whole,
    /// Only its beginning: the rest went past the budget and was let go while it was received.
    Head,
}

/// The state between messages.
#[derive(Debug)]
pub(crate) struct Assembler {
    budget: Budget,
    relations: RelationCache,
    /// From Begin to Commit.
    open: Option<OpenTransaction>,
    /// Those that come in blocks.
    streamed: Streamed,
}

#[derive(Debug)]
struct OpenTransaction {
    begin: Begin,
    content: Content,
    messages: Vec<LogicalMessage>,
    messages_bytes: usize,
}

#[derive(Debug)]
enum Content {
    Rows { changes: Vec<RowChange>, bytes: usize },
    Touched(BTreeMap<RelationId, Arc<Relation>>),
}

impl Assembler {
    pub(crate) fn new(budget: Budget) -> Self {
        Assembler {
            budget,
            relations: RelationCache::default(),
            open: None,
            streamed: Streamed::default(),
        }
    }

    /// Takes one message. Returns the transaction that it completes.
    pub(crate) fn push(
        &mut self,
        message: Bytes,
        extent: Extent,
    ) -> Result<Option<Transaction>, DecodeError> {
        if self.streamed.is_in_block() {
            return self.push_streamed(message, extent).map(|()| None);
        }
        if let Some(relation) = changed_relation(&message)
            && (extent == Extent::Head || self.is_reduced())
        {
            let relation = Arc::clone(self.relations.get(relation)?);
            self.open("row")?.touch(relation);
            return Ok(None);
        }
        if extent == Extent::Head {
            return self.let_go(&message).map(|()| None);
        }
        match Message::decode(message)? {
            Message::Begin(begin) => self.begin(begin)?,
            Message::Commit(commit) => return self.commit(commit).map(Some),
            Message::Relation(relation) => self.relations.put(Arc::new(relation))?,
            Message::Insert(insert) => self.insert(insert)?,
            Message::Update(update) => self.update(update)?,
            Message::Delete(delete) => self.delete(delete)?,
            Message::Truncate(truncate) => {
                for id in truncate.relations {
                    let relation = Arc::clone(self.relations.get(id)?);
                    self.add(RowChange { relation, kind: ChangeKind::Truncate })?;
                }
            }
            Message::Logical(message) => self.logical_message(message)?,
            Message::Type | Message::Origin => {}
            Message::StreamStart(start) => {
                self.check_closed("stream start")?;
                self.streamed.start(start.xid)?;
            }
            Message::StreamCommit(commit) => {
                self.check_closed("stream commit")?;
                return self.streamed.commit(commit, &mut self.relations).map(Some);
            }
            Message::StreamAbort(abort) => {
                self.check_closed("stream abort")?;
                self.streamed.abort(abort);
            }
        }
        Ok(None)
    }

    /// Takes a message of a transaction that comes in blocks.
    fn push_streamed(&mut self, message: Bytes, extent: Extent) -> Result<(), DecodeError> {
        let is_row = matches!(message.first(), Some(b'I' | b'U' | b'D'));
        if extent == Extent::Head && !is_row {
            return self.let_go(&message);
        }
        self.streamed.push(message, &self.relations, kept_message)
    }

    fn check_closed(&self, message: &'static str) -> Result<(), DecodeError> {
        match self.open {
            Some(_) => Err(DecodeError::OutOfOrder { message, place: "inside a transaction" }),
            None => Ok(()),
        }
    }

    fn is_reduced(&self) -> bool {
        matches!(self.open, Some(OpenTransaction { content: Content::Touched(_), .. }))
    }

    fn open(&mut self, message: &'static str) -> Result<&mut OpenTransaction, DecodeError> {
        self.open
            .as_mut()
            .ok_or(DecodeError::OutOfOrder { message, place: "outside a transaction" })
    }

    /// Lets go a message of which only the beginning was kept, where nothing depends on it.
    fn let_go(&self, head: &[u8]) -> Result<(), DecodeError> {
        let message = match head.first() {
            Some(b'M') => {
                debug!("a logical message larger than the transaction budget was let go");
                return Ok(());
            }
            Some(b'T') => "truncate",
            Some(b'R') => "relation",
            _ => "unexpected",
        };
        Err(DecodeError::TooLarge { message, limit_bytes: self.budget.message_bytes_max() })
    }

    fn begin(&mut self, begin: Begin) -> Result<(), DecodeError> {
        self.check_closed("begin")?;
        let content = Content::Rows { changes: Vec::new(), bytes: 0 };
        self.open =
            Some(OpenTransaction { begin, content, messages: Vec::new(), messages_bytes: 0 });
        Ok(())
    }

    fn commit(&mut self, commit: Commit) -> Result<Transaction, DecodeError> {
        let open = self
            .open
            .take()
            .ok_or(DecodeError::OutOfOrder { message: "commit", place: "outside a transaction" })?;
        if open.begin.final_lsn != commit.commit_lsn {
            return Err(DecodeError::OutOfOrder {
                message: "commit",
                place: "of another transaction",
            });
        }
        let changes = match open.content {
            Content::Rows { changes, .. } => Changes::Rows(changes),
            Content::Touched(relations) => Changes::Touched(relations.into_values().collect()),
        };
        Ok(Transaction {
            xid: open.begin.xid,
            commit_lsn: commit.commit_lsn,
            end_lsn: commit.end_lsn,
            commit_time: commit.commit_time,
            changes,
            messages: open.messages,
        })
    }

    fn insert(&mut self, insert: Insert) -> Result<(), DecodeError> {
        let relation = Arc::clone(self.relations.get(insert.relation)?);
        let new = insert.new.into_row(&relation)?;
        self.add(RowChange { relation, kind: ChangeKind::Insert { new } })
    }

    fn update(&mut self, update: Update) -> Result<(), DecodeError> {
        let relation = Arc::clone(self.relations.get(update.relation)?);
        let old = match update.old {
            None => OldRow::SameKey,
            Some(old) => old_row(old, &relation)?,
        };
        let mut new = update.new.into_row(&relation)?;
        if let OldRow::Key(old) | OldRow::Full(old) = &old {
            fill_unchanged(&mut new, old);
        }
        self.add(RowChange { relation, kind: ChangeKind::Update { old, new } })
    }

    fn delete(&mut self, delete: Delete) -> Result<(), DecodeError> {
        let relation = Arc::clone(self.relations.get(delete.relation)?);
        let old = old_row(delete.old, &relation)?;
        self.add(RowChange { relation, kind: ChangeKind::Delete { old } })
    }

    fn add(&mut self, change: RowChange) -> Result<(), DecodeError> {
        let budget = self.budget;
        let open = self.open("row")?;
        let Content::Rows { changes, bytes } = &mut open.content else {
            open.touch(change.relation);
            return Ok(());
        };
        *bytes += change_bytes(&change);
        if changes.len() < budget.rows_max && *bytes <= budget.bytes_max {
            changes.push(change);
        } else {
            debug!(
                xid = open.begin.xid.0,
                rows = changes.len(),
                bytes,
                "transaction past its budget: rows let go"
            );
            open.touch(change.relation);
        }
        Ok(())
    }

    fn logical_message(&mut self, message: LogicalDecodingMessage) -> Result<(), DecodeError> {
        if !message.is_transactional {
            return Ok(());
        }
        let open = self.open("transactional message")?;
        open.messages.extend(kept_message(message, &mut open.messages_bytes));
        Ok(())
    }
}

/// Returns a logical message as it is kept, where it is ours, of a transaction whose messages take so many bytes.
fn kept_message(
    message: LogicalDecodingMessage,
    messages_bytes: &mut usize,
) -> Option<LogicalMessage> {
    if !message.is_transactional || !message.prefix.starts_with(MESSAGE_PREFIX) {
        return None;
    }
    let bytes = message.prefix.len() + message.content.len() + size_of::<LogicalMessage>();
    if *messages_bytes + bytes > MESSAGES_BYTES_MAX {
        warn!(bytes, "logical messages past what one transaction may hold: let go");
        return None;
    }
    *messages_bytes += bytes;
    // Copied, so that a few bytes that are kept don't keep a receive buffer.
    let content = Bytes::copy_from_slice(&message.content);
    Some(LogicalMessage { prefix: message.prefix, content })
}

impl Budget {
    /// Returns the size in bytes past which only a message's beginning need be received.
    pub(crate) fn message_bytes_max(self) -> usize {
        self.bytes_max.max(PLAIN_MESSAGE_BYTES_MAX)
    }
}

impl OpenTransaction {
    /// Keeps of the transaction's rows only their tables, and this table with them.
    fn touch(&mut self, relation: Arc<Relation>) {
        if let Content::Rows { changes, .. } = &mut self.content {
            let touched = std::mem::take(changes)
                .into_iter()
                .map(|change| (change.relation.id, change.relation));
            self.content = Content::Touched(touched.collect());
        }
        if let Content::Touched(relations) = &mut self.content {
            relations.insert(relation.id, relation);
        }
    }
}

fn old_row(old: OldTuple, relation: &Relation) -> Result<OldRow, DecodeError> {
    match old {
        OldTuple::Key(tuple) => tuple.into_key_row(relation).map(OldRow::Key),
        OldTuple::Full(tuple) => tuple.into_row(relation).map(OldRow::Full),
    }
}

/// Takes what the new row does not repeat from the old one: every TOASTed value of a full row, and a key's own from a
/// key, which the server sends where a key column is TOASTed even if it did not change (P9).
fn fill_unchanged(new: &mut Row, old: &Row) {
    for (new, old) in new.0.iter_mut().zip(&old.0) {
        if *new == Datum::UnchangedToast && matches!(old, Datum::Text(_)) {
            *new = old.clone();
        }
    }
}

/// Returns what a change takes in memory. Columns count beside their texts: 1,600 nulls are 1,600 bytes in the
/// stream and forty times that here.
fn change_bytes(change: &RowChange) -> usize {
    let row_bytes = |row: &Row| row.text_bytes() + row.0.len() * size_of::<Datum>();
    let old_bytes = |old: &OldRow| match old {
        OldRow::SameKey => 0,
        OldRow::Key(row) | OldRow::Full(row) => row_bytes(row),
    };
    size_of::<RowChange>()
        + match &change.kind {
            ChangeKind::Insert { new } => row_bytes(new),
            ChangeKind::Update { old, new } => old_bytes(old) + row_bytes(new),
            ChangeKind::Delete { old } => old_bytes(old),
            ChangeKind::Truncate => 0,
        }
}

#[cfg(test)]
#[path = "assembler_tests.rs"]
mod tests;
