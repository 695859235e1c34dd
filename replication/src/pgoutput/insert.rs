//! Insert: a row came.

use super::reader::Reader;
use super::{DecodeError, Tuple};
use convoy_types::RelationId;

/// A new row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Insert {
    pub(crate) relation: RelationId,
    pub(crate) new: Tuple,
}

impl Insert {
    pub(super) fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let relation = RelationId(reader.u32("relation id")?);
        match reader.u8("tuple kind")? {
            b'N' => Ok(Insert { relation, new: Tuple::decode(reader)? }),
            tag => Err(DecodeError::UnknownTuple { tag }),
        }
    }
}
