//! Order-preserving byte encoding of column values.
//!
//! A value is read from Postgres' output text and becomes one *segment*: the byte [`VALUE`] and then bytes that
//! compare, as bytes, as Postgres compares the values; a null is the single byte [`NULL`], and so comes last, as in an
//! ascending ORDER BY. What follows the first byte depends on the type alone:
//!
//! | type | bytes |
//! |---|---|
//! | bool | 0 or 1 |
//! | int2, int4, int8 | 8, big-endian, sign bit flipped |
//! | float4, float8 | 8, IEEE 754 made monotonic; float4 widened, as Postgres does to compare the two |
//! | numeric | class, decimal exponent, pairs of digits, end (`number.rs`) |
//! | text, varchar, enum, bpchar without its blanks | the bytes, then 0 (no text of Postgres' holds a 0) |
//! | bytea | the bytes with 0 as `00 FF`, then `00 00` |
//! | uuid | 16 |
//! | date, time, timestamp, timestamptz, interval | days or microseconds, big-endian, sign bit flipped |
//!
//! No segment of a type is the beginning of another, so keys of several values compare value by value. Which types
//! have equality and order here, and under which collations, is [`PgType::has_equality`]'s and
//! [`PgType::has_order`]'s to say; ranges of keys are `key_range.rs`.

use crate::date_time::{read_date, read_interval, read_time, read_timestamp, read_timestamptz};
use crate::error::ParseValueError;
use crate::hex::{read_bytea, read_uuid};
use crate::number::{encode_float, encode_numeric, numeric_len};
use crate::pg_type::PgType;
use std::str::FromStr;

/// The first byte of a value's segment.
const VALUE: u8 = 1;
/// The only byte of a null's segment.
const NULL: u8 = 2;
/// Comes after every key: no segment starts with it.
pub(crate) const BEHIND_ALL: u8 = 0xFF;

/// One or more column values, encoded so that comparing bytes compares values as Postgres does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub(crate) Box<[u8]>);

impl Key {
    /// Returns the key of a single value, given in Postgres' output text.
    ///
    /// ```
    /// use convoy_types::{Key, PgType};
    /// # fn main() -> Result<(), convoy_types::ParseValueError> {
    /// assert_eq!(Key::of(&PgType::Numeric, b"1.0")?, Key::of(&PgType::Numeric, b"1.00")?);
    /// assert!(Key::of(&PgType::Int4, b"-2")? < Key::of(&PgType::Int4, b"10")?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`KeyBuilder::push`].
    pub fn of(ty: &PgType, text: &[u8]) -> Result<Key, ParseValueError> {
        let mut builder = KeyBuilder::new();
        builder.push(ty, text)?;
        Ok(builder.finish())
    }

    /// Returns the key of a single null.
    pub fn null() -> Key {
        Key(Box::new([NULL]))
    }

    /// Returns the key of the first value alone, given the encoding of several whose first is of this type; of all of it
    /// where it is none.
    pub fn first_of(ty: &PgType, bytes: &[u8]) -> Key {
        let end = if bytes.first() == Some(&NULL) { Some(1) } else { value_len(ty, bytes) };
        Key(bytes[..end.unwrap_or(bytes.len()).min(bytes.len())].into())
    }

    /// Returns the key with an encoding that [`Key::as_bytes`] gave.
    pub fn from_bytes(bytes: &[u8]) -> Key {
        Key(bytes.into())
    }

    /// Returns the encoding.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the least byte string behind this key and behind every longer key that begins with it.
    pub(crate) fn successor(&self) -> Key {
        let mut bytes = self.0.to_vec();
        while bytes.pop_if(|last| *last == u8::MAX).is_some() {}
        match bytes.last_mut() {
            Some(last) => *last += 1,
            None => bytes.push(BEHIND_ALL),
        }
        Key(bytes.into_boxed_slice())
    }
}

/// Joins values to a [`Key`].
#[derive(Clone, Debug, Default)]
pub struct KeyBuilder {
    bytes: Vec<u8>,
}

impl KeyBuilder {
    /// Returns a builder without values.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns a builder of values of a kind of their own.
    pub(crate) fn of_tag(tag: u8) -> Self {
        KeyBuilder { bytes: vec![VALUE, tag] }
    }

    /// Appends a value, given in Postgres' output text: ISO dates, hexadecimal bytea, `t` or `true`.
    ///
    /// # Errors
    /// [`ParseValueError::Malformed`] where the text is no value of the type, [`ParseValueError::Unsupported`] where
    /// the type has neither equality nor order here. The builder is then as it was.
    pub fn push(&mut self, ty: &PgType, text: &[u8]) -> Result<(), ParseValueError> {
        let start = self.bytes.len();
        self.bytes.push(VALUE);
        let pushed = match ty {
            PgType::Jsonb | PgType::Array(_) | PgType::Other => {
                self.bytes.truncate(start);
                return Err(ParseValueError::Unsupported { type_name: ty.name() });
            }
            PgType::Bool => read_bool(text).map(|value| self.bytes.push(u8::from(value))),
            PgType::Int2 => read::<i16>(text).map(|value| self.push_i64(value.into())),
            PgType::Int4 => read::<i32>(text).map(|value| self.push_i64(value.into())),
            PgType::Int8 => read::<i64>(text).map(|value| self.push_i64(value)),
            PgType::Float4 => {
                read::<f32>(text).map(|value| encode_float(value.into(), &mut self.bytes))
            }
            PgType::Float8 => read::<f64>(text).map(|value| encode_float(value, &mut self.bytes)),
            PgType::Numeric => encode_numeric(text, &mut self.bytes),
            PgType::Text | PgType::Varchar | PgType::Enum => self.push_text(text),
            PgType::Bpchar => self.push_text(without_blanks(text)),
            PgType::Bytea => read_bytea(text).map(|bytes| self.push_escaped(bytes)),
            PgType::Uuid => read_uuid(text).map(|bytes| self.bytes.extend_from_slice(&bytes)),
            PgType::Date => read_date(text).map(|days| self.push_i32(days)),
            PgType::Time => read_time(text).map(|micros| self.push_i64(micros)),
            PgType::Timestamp => read_timestamp(text).map(|micros| self.push_i64(micros)),
            PgType::TimestampTz => read_timestamptz(text).map(|micros| self.push_i64(micros)),
            PgType::Interval => read_interval(text).map(|micros| self.push_i128(micros)),
        };
        pushed.ok_or_else(|| {
            self.bytes.truncate(start);
            ParseValueError::Malformed { type_name: ty.name(), len: text.len() }
        })
    }

    /// Appends a null, which comes after every value.
    pub fn push_null(&mut self) {
        self.bytes.push(NULL);
    }

    /// Appends a value, or a null where there is none.
    ///
    /// # Errors
    /// As [`push`](KeyBuilder::push).
    pub fn push_nullable(
        &mut self,
        ty: &PgType,
        text: Option<&[u8]>,
    ) -> Result<(), ParseValueError> {
        match text {
            Some(text) => self.push(ty, text),
            None => {
                self.push_null();
                Ok(())
            }
        }
    }

    /// Returns the key of what was pushed.
    pub fn finish(self) -> Key {
        Key(self.bytes.into_boxed_slice())
    }

    fn push_i32(&mut self, value: i32) {
        self.bytes.extend_from_slice(&(value ^ i32::MIN).to_be_bytes());
    }

    fn push_i64(&mut self, value: i64) {
        self.bytes.extend_from_slice(&(value ^ i64::MIN).to_be_bytes());
    }

    fn push_i128(&mut self, value: i128) {
        self.bytes.extend_from_slice(&(value ^ i128::MIN).to_be_bytes());
    }

    fn push_text(&mut self, text: &[u8]) -> Option<()> {
        if text.contains(&0) {
            return None;
        }
        self.bytes.extend_from_slice(text);
        self.bytes.push(0);
        Some(())
    }

    fn push_escaped(&mut self, bytes: impl Iterator<Item = u8>) {
        for byte in bytes {
            self.bytes.push(byte);
            if byte == 0 {
                self.bytes.push(0xFF);
            }
        }
        self.bytes.extend_from_slice(&[0, 0]);
    }
}

/// Returns how many bytes the first value takes, with the byte before it.
fn value_len(ty: &PgType, bytes: &[u8]) -> Option<usize> {
    let value = bytes.get(1..)?;
    let len = match ty {
        PgType::Bool => 1,
        PgType::Date => 4,
        PgType::Int2
        | PgType::Int4
        | PgType::Int8
        | PgType::Float4
        | PgType::Float8
        | PgType::Time
        | PgType::Timestamp
        | PgType::TimestampTz => 8,
        PgType::Uuid | PgType::Interval => 16,
        PgType::Numeric => numeric_len(value)?,
        PgType::Text | PgType::Varchar | PgType::Bpchar | PgType::Enum => {
            value.iter().position(|&byte| byte == 0)? + 1
        }
        // A zero within is followed by 0xFF.
        PgType::Bytea => value.windows(2).position(|pair| pair == [0, 0])? + 2,
        PgType::Jsonb | PgType::Array(_) | PgType::Other => return None,
    };
    Some(1 + len)
}

fn read<T: FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Reads a bool as `boolout` (`t`) or as a cast to text (`true`) shows it.
pub(crate) fn read_bool(text: &[u8]) -> Option<bool> {
    match text {
        b"t" | b"true" => Some(true),
        b"f" | b"false" => Some(false),
        _ => None,
    }
}

/// Without the blanks at its end: `char(n)` compares so.
fn without_blanks(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|&byte| byte != b' ').map_or(0, |last| last + 1);
    &text[..end]
}

#[cfg(test)]
#[path = "key_tests.rs"]
mod tests;
