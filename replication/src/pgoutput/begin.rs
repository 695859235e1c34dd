//! Begin: a committed transaction's changes follow.

use super::DecodeError;
use super::reader::Reader;
use convoy_types::{Lsn, PgTimestamp, Xid};

/// The head of a transaction. `final_lsn` is where its commit record starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Begin {
    pub(crate) final_lsn: Lsn,
    pub(crate) commit_time: PgTimestamp,
    pub(crate) xid: Xid,
}

impl Begin {
    pub(super) fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Begin {
            final_lsn: Lsn(reader.u64("final LSN")?),
            commit_time: PgTimestamp(reader.i64("commit time")?),
            xid: Xid(reader.u32("transaction id")?),
        })
    }
}
