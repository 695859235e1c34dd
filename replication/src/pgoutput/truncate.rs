//! Truncate: all rows of some tables went.

use super::DecodeError;
use super::reader::Reader;
use convoy_types::RelationId;

/// The tables that one TRUNCATE emptied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Truncate {
    pub(crate) relations: Vec<RelationId>,
}

impl Truncate {
    pub(super) fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let count = reader.u32("relation count")?;
        // CASCADE and RESTART IDENTITY: which other tables were emptied is listed anyway.
        reader.u8("options")?;
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        if count.saturating_mul(4) > reader.remaining() {
            return Err(DecodeError::TooMany {
                what: "relations",
                count,
                bytes_left: reader.remaining(),
            });
        }
        let relations = (0..count)
            .map(|_| reader.u32("relation id").map(RelationId))
            .collect::<Result<_, _>>()?;
        Ok(Truncate { relations })
    }
}
