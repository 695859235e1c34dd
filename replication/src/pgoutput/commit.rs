//! Commit: the transaction is complete.

use super::DecodeError;
use super::reader::Reader;
use convoy_types::{Lsn, PgTimestamp};

/// The end of a transaction: where its commit record starts and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Commit {
    pub(crate) commit_lsn: Lsn,
    pub(crate) end_lsn: Lsn,
    pub(crate) commit_time: PgTimestamp,
}

impl Commit {
    pub(super) fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        // Flags, unused so far.
        reader.u8("flags")?;
        Ok(Commit {
            commit_lsn: Lsn(reader.u64("commit LSN")?),
            end_lsn: Lsn(reader.u64("end LSN")?),
            commit_time: PgTimestamp(reader.i64("commit time")?),
        })
    }
}
