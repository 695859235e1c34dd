//! Order-preserving byte encoding of column values.

use crate::error::ParseValueError;
use crate::pg_type::PgType;
use std::ops::Bound;

/// One or more column values, encoded so that comparing bytes compares values as Postgres does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Box<[u8]>);

impl Key {
    /// Returns the key of a single value, given in Postgres' output text.
    ///
    /// # Errors
    /// As [`KeyBuilder::push`].
    pub fn of(ty: &PgType, text: &[u8]) -> Result<Key, ParseValueError> {
        let mut builder = KeyBuilder::new();
        builder.push(ty, text)?;
        Ok(builder.finish())
    }

    /// Returns the encoding.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
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

    /// Appends a value, given in Postgres' output text.
    ///
    /// # Errors
    /// [`ParseValueError::Malformed`] where the text is no value of the type, [`ParseValueError::Unsupported`] where
    /// the type has neither equality nor order here.
    pub fn push(&mut self, ty: &PgType, text: &[u8]) -> Result<(), ParseValueError> {
        let _ = text;
        Err(ParseValueError::Unsupported { type_name: ty.name() })
    }

    /// Appends a null, which comes after every value.
    pub fn push_null(&mut self) {
        self.bytes.push(0xFF);
    }

    /// Returns the key of what was pushed.
    pub fn finish(self) -> Key {
        Key(self.bytes.into_boxed_slice())
    }
}

/// A half-open interval of keys, `[from, to)` in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyRange {
    from: Option<Key>,
    to: Option<Key>,
}

impl KeyRange {
    /// Returns the range between two bounds.
    pub fn new(lower: Bound<Key>, upper: Bound<Key>) -> Self {
        let start = |bound| match bound {
            Bound::Included(key) => Some(key),
            Bound::Excluded(key) => Some(successor(key)),
            Bound::Unbounded => None,
        };
        let end = |bound| match bound {
            Bound::Included(key) => Some(successor(key)),
            Bound::Excluded(key) => Some(key),
            Bound::Unbounded => None,
        };
        KeyRange { from: start(lower), to: end(upper) }
    }

    /// Returns the first key of the range; `None` where it is open below.
    pub fn from(&self) -> Option<&Key> {
        self.from.as_ref()
    }

    /// Returns the key behind the range; `None` where it is open above.
    pub fn to(&self) -> Option<&Key> {
        self.to.as_ref()
    }

    /// Returns whether the key lies in the range.
    pub fn contains(&self, key: &Key) -> bool {
        self.from.as_ref().is_none_or(|from| from <= key)
            && self.to.as_ref().is_none_or(|to| key < to)
    }

    /// Returns whether no key lies in the range.
    pub fn is_empty(&self) -> bool {
        matches!((&self.from, &self.to), (Some(from), Some(to)) if from >= to)
    }
}

/// Returns the least byte string behind `key`.
fn successor(key: Key) -> Key {
    let mut bytes = Vec::with_capacity(key.0.len() + 1);
    bytes.extend_from_slice(&key.0);
    bytes.push(0);
    Key(bytes.into_boxed_slice())
}
