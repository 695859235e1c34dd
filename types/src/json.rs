//! JSON text of column values: exactly what `to_jsonb(value)::text` gives.
//!
//! A value is read from Postgres' output text (`docs/postgres.md`, P9), so that a row from the WAL and one from a
//! SELECT look alike. What `to_jsonb` changes: floats are written out without exponent, NaN and infinities are
//! strings, timestamps get a `T` and minutes in their offset, arrays lose their lower bounds. Everything that has no
//! JSON form of its own is a string of its output text. `jsonb` is passed as it is, for its output is canonical.

use crate::date_time::{read_date, read_interval, read_time, read_timestamp, read_timestamptz};
use crate::error::ParseValueError;
use crate::hex::{read_bytea, read_uuid};
use crate::key::read_bool;
use crate::number::Decimal;
use crate::pg_type::PgType;
use std::borrow::Cow;

/// Appends the JSON form of a value that is given in Postgres' output text.
///
/// ```
/// use convoy_types::{PgType, write_json};
/// # fn main() -> Result<(), convoy_types::ParseValueError> {
/// let mut json = String::new();
/// write_json(&PgType::Float8, b"1e-07", &mut json)?;
/// assert_eq!(json, "0.0000001");
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`ParseValueError::Malformed`] where the text is no value of the type, [`ParseValueError::Unsupported`] where
/// [`PgType::shows_json`] says no. `out` is then as it was.
pub fn write_json(ty: &PgType, text: &[u8], out: &mut String) -> Result<(), ParseValueError> {
    if !ty.shows_json() {
        return Err(ParseValueError::Unsupported { type_name: ty.name() });
    }
    let start = out.len();
    let written = std::str::from_utf8(text).ok().and_then(|text| match ty {
        PgType::Array(element) => write_array(element, text, out),
        _ => write_scalar(ty, text, out),
    });
    written.ok_or_else(|| {
        out.truncate(start);
        ParseValueError::Malformed { type_name: ty.name(), len: text.len() }
    })
}

/// Appends a value; may leave some behind where the text is none.
fn write_scalar(ty: &PgType, text: &str, out: &mut String) -> Option<()> {
    let bytes = text.as_bytes();
    match ty {
        PgType::Bool => out.push_str(if read_bool(bytes)? { "true" } else { "false" }),
        PgType::Int2 | PgType::Int4 | PgType::Int8 => {
            text.parse::<i64>().ok()?;
            out.push_str(text);
        }
        PgType::Numeric | PgType::Float4 | PgType::Float8
            if matches!(text, "NaN" | "Infinity" | "-Infinity") =>
        {
            write_quoted(text, out);
        }
        // Both at the scale that they are shown with.
        PgType::Numeric | PgType::Float4 | PgType::Float8 => Decimal::read(bytes)?.write_plain(out),
        PgType::Text | PgType::Varchar | PgType::Bpchar | PgType::Enum => write_escaped(text, out),
        PgType::Uuid => {
            read_uuid(bytes)?;
            write_quoted(text, out);
        }
        PgType::Date => {
            read_date(bytes)?;
            write_quoted(text, out);
        }
        PgType::Time => {
            read_time(bytes)?;
            write_quoted(text, out);
        }
        PgType::Interval => {
            read_interval(bytes)?;
            write_quoted(text, out);
        }
        PgType::Timestamp => {
            read_timestamp(bytes)?;
            write_timestamp(text, out);
        }
        PgType::TimestampTz => {
            read_timestamptz(bytes)?;
            write_timestamp(text, out);
        }
        PgType::Bytea => {
            // Only its backslash needs an escape.
            let digits = read_bytea(bytes).and_then(|_| text.strip_prefix('\\'))?;
            out.push_str("\"\\\\");
            out.push_str(digits);
            out.push('"');
        }
        PgType::Jsonb => out.push_str(text),
        PgType::Array(_) | PgType::Other => return None,
    }
    Some(())
}

/// Appends a text that needs no escapes.
fn write_quoted(text: &str, out: &mut String) {
    out.push('"');
    out.push_str(text);
    out.push('"');
}

/// Appends a string with just the escapes that jsonb shows (PostgreSQL's `escape_json`).
fn write_escaped(text: &str, out: &mut String) {
    out.reserve(text.len() + 2);
    out.push('"');
    let mut copied = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escape = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0x08 => "\\b",
            0x0C => "\\f",
            0..0x20 => "",
            _ => continue,
        };
        out.push_str(&text[copied..at]);
        copied = at + 1;
        if escape.is_empty() {
            out.push_str("\\u00");
            out.extend(
                [byte >> 4, byte & 0xF]
                    .map(|digit| char::from_digit(digit.into(), 16).unwrap_or('0')),
            );
        } else {
            out.push_str(escape);
        }
    }
    out.push_str(&text[copied..]);
    out.push('"');
}

/// Appends a timestamp that has been checked: `T` before the time, minutes in the offset.
fn write_timestamp(text: &str, out: &mut String) {
    out.push('"');
    match text.split_once(' ') {
        None => out.push_str(text),
        Some((date, time)) => {
            out.push_str(date);
            out.push('T');
            let (time, era) = time.split_at(time.find(' ').unwrap_or(time.len()));
            out.push_str(time);
            // An offset of whole hours is shown as `+02`.
            if time.len() >= 3 && matches!(time.as_bytes()[time.len() - 3], b'+' | b'-') {
                out.push_str(":00");
            }
            out.push_str(era);
        }
    }
    out.push('"');
}

/// Appends an array; may leave some behind where the text is none.
///
/// (PostgreSQL manual, 8.15.6 "Array Input and Output Syntax".) Our types all have the comma as their delimiter.
fn write_array(element: &PgType, text: &str, out: &mut String) -> Option<()> {
    /// PostgreSQL's MAXDIM.
    const DIMENSIONS_MAX: usize = 6;
    let mut rest = match text.strip_prefix('[') {
        Some(bounds) => bounds.split_once('=')?.1,
        None => text,
    };
    if rest == "{}" {
        out.push_str("[]");
        return Some(());
    }
    let mut depth = 0;
    let mut unescaped = String::new();
    loop {
        while let Some(inner) = rest.strip_prefix('{') {
            (rest, depth) = (inner, depth + 1);
            out.push('[');
        }
        if !(1..=DIMENSIONS_MAX).contains(&depth) {
            return None;
        }
        if let Some(quoted) = rest.strip_prefix('"') {
            unescaped.clear();
            rest = unescape_element(quoted, &mut unescaped)?;
            write_scalar(element, &unescaped, out)?;
        } else {
            let (bare, behind) = rest.split_at(rest.find([',', '}'])?);
            rest = behind;
            match bare {
                "" => return None,
                "NULL" => out.push_str("null"),
                _ => write_scalar(element, bare, out)?,
            }
        }
        while let Some(outer) = rest.strip_prefix('}') {
            (rest, depth) = (outer, usize::checked_sub(depth, 1)?);
            out.push(']');
        }
        if rest.is_empty() {
            return (depth == 0).then_some(());
        }
        rest = rest.strip_prefix(',')?;
        out.push_str(", ");
    }
}

/// Appends a quoted element's value; returns what follows its closing quote.
fn unescape_element<'a>(mut text: &'a str, out: &mut String) -> Option<&'a str> {
    loop {
        let (plain, special) = text.split_at(text.find(['"', '\\'])?);
        out.push_str(plain);
        if let Some(behind) = special.strip_prefix('"') {
            return Some(behind);
        }
        let mut characters = special[1..].chars();
        out.push(characters.next()?);
        text = characters.as_str();
    }
}

/// Returns a JSON text whose numbers are strings, for `?numbers=string`: a number itself, and those of (nested) arrays.
///
/// Objects are left alone: what is in them is the user's own JSON.
pub fn quote_numbers(json: &str) -> Cow<'_, str> {
    let bytes = json.as_bytes();
    let mut out = String::new();
    let (mut copied, mut at, mut objects) = (0, 0, 0usize);
    while let Some(&byte) = bytes.get(at) {
        let start = at;
        at += 1;
        match byte {
            b'"' => at = string_end(bytes, at),
            b'{' => objects += 1,
            b'}' => objects = objects.saturating_sub(1),
            b'-' | b'0'..=b'9' if objects == 0 => {
                let in_number = |byte: &u8| {
                    byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-')
                };
                at = start + bytes[start..].iter().take_while(|&byte| in_number(byte)).count();
                out.push_str(&json[copied..start]);
                write_quoted(&json[start..at], &mut out);
                copied = at;
            }
            _ => {}
        }
    }
    if copied == 0 {
        return Cow::Borrowed(json);
    }
    out.push_str(&json[copied..]);
    Cow::Owned(out)
}

/// Returns the position behind the quote that ends the string whose inside starts at `at`.
fn string_end(json: &[u8], mut at: usize) -> usize {
    while let Some(&byte) = json.get(at) {
        at += 1;
        match byte {
            b'"' => break,
            b'\\' => at += 1,
            _ => {}
        }
    }
    at
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
