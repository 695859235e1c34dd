//! Type: the name of a column's type that is none of Postgres' own. Checked and let go: the catalog says more.

use super::DecodeError;
use super::reader::Reader;

pub(super) fn check(reader: &mut Reader) -> Result<(), DecodeError> {
    reader.u32("type id")?;
    reader.string("namespace")?;
    reader.string("type name")?;
    Ok(())
}
