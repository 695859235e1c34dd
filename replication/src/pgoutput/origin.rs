//! Origin: where a replicated transaction came from. Checked and let go: a write is a write, whoever made it.

use super::DecodeError;
use super::reader::Reader;

pub(super) fn check(reader: &mut Reader) -> Result<(), DecodeError> {
    reader.u64("origin LSN")?;
    reader.string("origin name")?;
    Ok(())
}
