//! JSON text of column values, as `to_jsonb(value)::text` gives it.

use crate::error::ParseValueError;
use crate::pg_type::PgType;
use std::borrow::Cow;

/// Appends the JSON form of a value that is given in Postgres' output text.
///
/// # Errors
/// [`ParseValueError::Malformed`] where the text is no value of the type, [`ParseValueError::Unsupported`] where
/// [`PgType::shows_json`] says no. `out` is then as it was.
pub fn write_json(ty: &PgType, text: &[u8], out: &mut String) -> Result<(), ParseValueError> {
    let _ = (text, out);
    Err(ParseValueError::Unsupported { type_name: ty.name() })
}

/// Returns a JSON text whose numbers, at the top or in (nested) arrays, are strings: for `?numbers=string`.
///
/// Objects are left alone.
pub fn quote_numbers(json: &str) -> Cow<'_, str> {
    Cow::Borrowed(json)
}
