//! Delete: a row went.

use super::reader::Reader;
use super::{DecodeError, OldTuple, Tuple};
use convoy_types::RelationId;

/// A row that is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Delete {
    pub(crate) relation: RelationId,
    pub(crate) old: OldTuple,
}

impl Delete {
    pub(super) fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let relation = RelationId(reader.u32("relation id")?);
        let old = match reader.u8("tuple kind")? {
            b'K' => OldTuple::Key(Tuple::decode(reader)?),
            b'O' => OldTuple::Full(Tuple::decode(reader)?),
            tag => return Err(DecodeError::UnknownTuple { tag }),
        };
        Ok(Delete { relation, old })
    }
}
