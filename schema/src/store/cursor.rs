//! Cursors: where in an order a scan has come to, as an opaque text that a client keeps and gives back.
//!
//! base64url of `{"s": …, "k": […]}`: a hash of what is scanned, and the row's values in the columns of the order that
//! are not the same throughout. The hash keeps a cursor from being used for another query, which would be a mistake; it
//! guards nothing, for a query's own conditions hold whatever cursor it is given.

use super::StoreError;
use super::value::is_value;
use crate::layout::KeyColumn;
use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_64;

/// A longer text is no cursor of ours: an indexed value has less than three kilobytes.
const CURSOR_BYTES_MAX: usize = 64 << 10;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// A place in an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// The values of the columns that the order goes by, first to last.
    pub(crate) columns: Vec<Option<String>>,
    /// Those of creation time and id.
    pub(crate) tail: Vec<String>,
}

/// Returns what cursors of a scan carry, so that they are not taken for another's.
pub(crate) fn scan_hash(described: &str) -> String {
    format!("{:016x}", xxh3_64(described.as_bytes()))
}

impl Cursor {
    pub(crate) fn encode(&self, hash: &str) -> String {
        let tail = self.tail.iter().map(|value| Some(value.as_str()));
        let keys: Vec<Option<&str>> =
            self.columns.iter().map(Option::as_deref).chain(tail).collect();
        encode(json!({ "s": hash, "k": keys }).to_string().as_bytes())
    }

    /// Reads a cursor of a scan with this hash.
    ///
    /// # Errors
    /// [`StoreError::InvalidArgs`] for what is none.
    pub(crate) fn decode(
        text: &str,
        hash: &str,
        columns: &[&KeyColumn],
        tail: &[KeyColumn],
    ) -> Result<Cursor, StoreError> {
        let none =
            || StoreError::invalid("the cursor is none that a scan has given: begin without one");
        if text.len() > CURSOR_BYTES_MAX {
            return Err(none());
        }
        let bytes = decode(text).ok_or_else(none)?;
        let json: Value = serde_json::from_slice(&bytes).map_err(|_| none())?;
        let (of, keys) = (json["s"].as_str(), json["k"].as_array());
        let (Some(of), Some(keys)) = (of, keys) else { return Err(none()) };
        if of != hash {
            return Err(StoreError::invalid(
                "the cursor is another query's: its table, index, equalities and order have to be the same",
            ));
        }
        let expected: Vec<&KeyColumn> = columns.iter().copied().chain(tail).collect();
        if keys.len() != expected.len() {
            return Err(none());
        }
        let mut values = Vec::new();
        for (position, (key, column)) in keys.iter().zip(expected).enumerate() {
            values.push(match key {
                Value::Null if position < columns.len() => None,
                Value::String(text) if is_value(column.kind, text) => Some(text.clone()),
                _ => return Err(none()),
            });
        }
        let tail = values.split_off(columns.len());
        Ok(Cursor { columns: values, tail: tail.into_iter().flatten().collect() })
    }
}

fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 4 / 3 + 3);
    for chunk in bytes.chunks(3) {
        let group = chunk
            .iter()
            .enumerate()
            .fold(0u32, |group, (position, &byte)| group | u32::from(byte) << (16 - 8 * position));
        for sextet in 0..=chunk.len() {
            let value = (group >> (18 - 6 * sextet)) & 63;
            text.push(char::from(ALPHABET[value as usize]));
        }
    }
    text
}

fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    for chunk in text.as_bytes().chunks(4) {
        let mut group = 0u32;
        for (position, byte) in chunk.iter().enumerate() {
            let value = ALPHABET.iter().position(|letter| letter == byte)?;
            group |= u32::try_from(value).ok()? << (18 - 6 * position);
        }
        if chunk.len() == 1 {
            return None;
        }
        let [_, a, b, c] = group.to_be_bytes();
        bytes.extend([a, b, c].into_iter().take(chunk.len() - 1));
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_goes_both_ways() {
        for bytes in [&b""[..], b"a", b"ab", b"abc", b"abcd", &[0, 255, 62, 63, 128]] {
            assert_eq!(decode(&encode(bytes)).as_deref(), Some(bytes));
        }
        // RFC 4648, section 10, without padding.
        assert_eq!(encode(b"fooba"), "Zm9vYmE");
        assert_eq!(decode("Zm9v+"), None);
        assert_eq!(decode("Z"), None);
    }
}
