//! pgoutput, protocol version 2: one file a message (PostgreSQL manual, 55.9 "Logical Replication Message Formats").
//!
//! Total functions on bytes that nobody vouches for: they return an error, never panic, and allocate no more than a
//! fixed multiple of the bytes that they were given. Column values are slices of the receive buffer. What the
//! messages mean together is the [assembler](crate::assembler)'s concern.

mod begin;
mod commit;
mod delete;
mod insert;
mod message;
mod origin;
mod reader;
mod relation;
mod streamed;
mod truncate;
mod tuple;
mod type_;
mod update;

pub(crate) use begin::Begin;
pub(crate) use commit::Commit;
pub(crate) use delete::Delete;
pub(crate) use insert::Insert;
pub(crate) use message::LogicalDecodingMessage;
pub(crate) use streamed::{StreamAbort, StreamCommit, StreamStart, StreamedMessage};
pub(crate) use truncate::Truncate;
pub(crate) use tuple::Tuple;
pub(crate) use update::{OldTuple, Update};

use bytes::Bytes;
use convoy_types::{Relation, RelationId};
use reader::Reader;
use thiserror::Error;

/// What is wrong with a message of the stream. All of it means that the server speaks another protocol than we read,
/// or that bytes were lost.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The message is too short.
    #[error("the message ends within its {field}")]
    Truncated {
        /// What was being read.
        field: &'static str,
    },
    /// The message is too long.
    #[error("{len} bytes follow the end of the message")]
    LeftOver {
        /// How many bytes.
        len: usize,
    },
    /// A name is not UTF-8.
    #[error("the {field} is not UTF-8")]
    NotUtf8 {
        /// What was being read.
        field: &'static str,
    },
    /// A count that the message's own length rules out.
    #[error("{count} {what} are announced and {bytes_left} bytes follow")]
    TooMany {
        /// What is counted.
        what: &'static str,
        /// How many are announced.
        count: usize,
        /// How many bytes are there.
        bytes_left: usize,
    },
    /// A message of a kind that protocol version 2 does not have, or not there.
    #[error("message of unknown kind {:?}", char::from(*.tag))]
    UnknownMessage {
        /// The kind's byte.
        tag: u8,
    },
    /// A replica identity that Postgres does not have.
    #[error("replica identity of unknown kind {:?}", char::from(*.tag))]
    UnknownIdentity {
        /// The kind's byte.
        tag: u8,
    },
    /// A tuple of a kind that does not belong there.
    #[error("row of unknown kind {:?}", char::from(*.tag))]
    UnknownTuple {
        /// The kind's byte.
        tag: u8,
    },
    /// A column of a kind that protocol version 2 does not have.
    #[error("column of unknown kind {:?}", char::from(*.tag))]
    UnknownColumn {
        /// The kind's byte.
        tag: u8,
    },
    /// A value in binary form, which we never ask for.
    #[error("column in binary form, which was not asked for")]
    BinaryColumn,
    /// A change of a table that was never described.
    #[error("change of table {relation}, which was not described")]
    UnknownRelation {
        /// The table.
        relation: RelationId,
    },
    /// A row that does not fit its table's description.
    #[error("row of {sent} columns for table {relation}, which was described with {described}")]
    ColumnCount {
        /// The table.
        relation: RelationId,
        /// The columns in the description.
        described: usize,
        /// The columns in the row.
        sent: usize,
    },
    /// A message that can't come at this point.
    #[error("{message} message {place}")]
    OutOfOrder {
        /// The message.
        message: &'static str,
        /// Where it came.
        place: &'static str,
    },
    /// More tables than we keep descriptions of.
    #[error("more than {limit} tables in the stream")]
    TooManyRelations {
        /// The limit.
        limit: usize,
    },
    /// More transactions that are sent in blocks than a server can have open.
    #[error("more than {limit} transactions are open in the stream")]
    TooManyTransactions {
        /// The limit.
        limit: usize,
    },
    /// A message, other than of a row, past the size that we read.
    #[error("{message} message larger than {limit_bytes} bytes")]
    TooLarge {
        /// The message.
        message: &'static str,
        /// The limit in bytes.
        limit_bytes: usize,
    },
}

/// One message of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    Begin(Begin),
    Commit(Commit),
    Relation(Relation),
    Insert(Insert),
    Update(Update),
    Delete(Delete),
    Truncate(Truncate),
    Logical(LogicalDecodingMessage),
    Type,
    Origin,
    StreamStart(StreamStart),
    StreamCommit(StreamCommit),
    StreamAbort(StreamAbort),
}

impl Message {
    /// Decodes one whole message that stands outside of blocks.
    pub(crate) fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let message = match reader.u8("kind")? {
            b'B' => Message::Begin(Begin::decode(&mut reader)?),
            b'C' => Message::Commit(Commit::decode(&mut reader)?),
            b'R' => Message::Relation(relation::decode(&mut reader)?),
            b'I' => Message::Insert(Insert::decode(&mut reader)?),
            b'U' => Message::Update(Update::decode(&mut reader)?),
            b'D' => Message::Delete(Delete::decode(&mut reader)?),
            b'T' => Message::Truncate(Truncate::decode(&mut reader)?),
            b'M' => Message::Logical(LogicalDecodingMessage::decode(&mut reader)?),
            b'Y' => {
                type_::check(&mut reader)?;
                Message::Type
            }
            b'O' => {
                origin::check(&mut reader)?;
                Message::Origin
            }
            b'S' => Message::StreamStart(StreamStart::decode(&mut reader)?),
            b'c' => Message::StreamCommit(StreamCommit::decode(&mut reader)?),
            b'A' => Message::StreamAbort(StreamAbort::decode(&mut reader)?),
            tag => return Err(DecodeError::UnknownMessage { tag }),
        };
        reader.finish()?;
        Ok(message)
    }
}

/// Returns which table's row a message is about, without reading the row; `None` for a message about no row.
pub(crate) fn changed_relation(message: &[u8]) -> Option<RelationId> {
    match message {
        [b'I' | b'U' | b'D', a, b, c, d, ..] => {
            Some(RelationId(u32::from_be_bytes([*a, *b, *c, *d])))
        }
        _ => None,
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
