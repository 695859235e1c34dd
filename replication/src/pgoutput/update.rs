//! Update: a row changed.

use super::reader::Reader;
use super::{DecodeError, Tuple};
use convoy_types::RelationId;

/// What an Update or Delete says of the row before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OldTuple {
    /// `K`: the identity's columns; the others read null and mean nothing.
    Key(Tuple),
    /// `O`: the whole row.
    Full(Tuple),
}

/// A changed row. Without an old tuple the identity's columns did not change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Update {
    pub(crate) relation: RelationId,
    pub(crate) old: Option<OldTuple>,
    pub(crate) new: Tuple,
}

impl Update {
    pub(super) fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let relation = RelationId(reader.u32("relation id")?);
        let old = match reader.u8("tuple kind")? {
            b'N' => return Ok(Update { relation, old: None, new: Tuple::decode(reader)? }),
            b'K' => OldTuple::Key(Tuple::decode(reader)?),
            b'O' => OldTuple::Full(Tuple::decode(reader)?),
            tag => return Err(DecodeError::UnknownTuple { tag }),
        };
        match reader.u8("tuple kind")? {
            b'N' => Ok(Update { relation, old: Some(old), new: Tuple::decode(reader)? }),
            tag => Err(DecodeError::UnknownTuple { tag }),
        }
    }
}
