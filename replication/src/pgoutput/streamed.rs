//! Messages of protocol version 2 with `streaming`: a large transaction is sent in blocks while it is still open, each of
//! whose messages names the (sub)transaction that it belongs to.

use super::reader::Reader;
use super::{Commit, DecodeError, LogicalDecodingMessage, Truncate, origin, relation, type_};
use bytes::{Buf, Bytes};
use convoy_types::{Relation, RelationId, Xid};

/// The beginning of a block: of which transaction, which is the top-level one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StreamStart {
    pub(crate) xid: Xid,
}

impl StreamStart {
    pub(super) fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let xid = Xid(reader.u32("transaction id")?);
        // Whether it is the first block, which who keeps track knows.
        reader.u8("first segment")?;
        Ok(StreamStart { xid })
    }
}

/// The transaction whose blocks came before is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StreamCommit {
    pub(crate) xid: Xid,
    pub(crate) commit: Commit,
}

impl StreamCommit {
    pub(super) fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let xid = Xid(reader.u32("transaction id")?);
        Ok(StreamCommit { xid, commit: Commit::decode(reader)? })
    }
}

/// A (sub)transaction whose blocks came before was rolled back; the same id twice: all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StreamAbort {
    pub(crate) xid: Xid,
    pub(crate) sub: Xid,
}

impl StreamAbort {
    pub(super) fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(StreamAbort {
            xid: Xid(reader.u32("transaction id")?),
            sub: Xid(reader.u32("subtransaction id")?),
        })
    }
}

/// What a message in a block says. Rows are not read: which table they are of is all that is kept of a transaction that is
/// sent so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StreamedMessage {
    /// A row of this table changed.
    Row(RelationId),
    Truncate(Truncate),
    Relation(Xid, Relation),
    Logical(Xid, LogicalDecodingMessage),
    /// Types and origins.
    Other,
    /// The block ends.
    Stop,
}

impl StreamedMessage {
    /// Decodes one message of a block; of one about a row, the beginning is enough.
    pub(crate) fn decode(mut bytes: Bytes) -> Result<Self, DecodeError> {
        let tag = match bytes.try_get_u8() {
            Ok(tag) => tag,
            Err(_) => return Err(DecodeError::Truncated { field: "kind" }),
        };
        let mut reader = Reader::new(bytes);
        let message = match tag {
            b'E' => StreamedMessage::Stop,
            b'O' => {
                origin::check(&mut reader)?;
                StreamedMessage::Other
            }
            b'I' | b'U' | b'D' => {
                reader.u32("transaction id")?;
                return Ok(StreamedMessage::Row(RelationId(reader.u32("relation id")?)));
            }
            b'T' => {
                reader.u32("transaction id")?;
                StreamedMessage::Truncate(Truncate::decode(&mut reader)?)
            }
            b'R' => {
                let xid = Xid(reader.u32("transaction id")?);
                StreamedMessage::Relation(xid, relation::decode(&mut reader)?)
            }
            b'Y' => {
                reader.u32("transaction id")?;
                type_::check(&mut reader)?;
                StreamedMessage::Other
            }
            b'M' => {
                let xid = Xid(reader.u32("transaction id")?);
                StreamedMessage::Logical(xid, LogicalDecodingMessage::decode(&mut reader)?)
            }
            tag => return Err(DecodeError::UnknownMessage { tag }),
        };
        reader.finish()?;
        Ok(message)
    }
}
