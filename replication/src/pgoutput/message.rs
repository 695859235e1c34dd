//! Message: what somebody put into the WAL with `pg_logical_emit_message`.

use super::DecodeError;
use super::reader::Reader;
use bytes::Bytes;

/// A logical decoding message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogicalDecodingMessage {
    /// Whether it belongs to a transaction; one that does not may come at any time, also of one that aborts.
    pub(crate) is_transactional: bool,
    pub(crate) prefix: String,
    pub(crate) content: Bytes,
}

impl LogicalDecodingMessage {
    pub(super) fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let is_transactional = reader.u8("flags")? & 1 == 1;
        // The message's own LSN, which says nothing about what was received.
        reader.u64("message LSN")?;
        let prefix = reader.string("prefix")?;
        let len = usize::try_from(reader.u32("content length")?).unwrap_or(usize::MAX);
        let content = reader.bytes(len, "content")?;
        Ok(LogicalDecodingMessage { is_transactional, prefix, content })
    }
}
