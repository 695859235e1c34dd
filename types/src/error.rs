//! What can be wrong with a text that should be one of this crate's types.

use thiserror::Error;

/// A text that is no WAL position.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{text:?} is not a WAL position, which looks like 16/B374D848")]
pub struct ParseLsnError {
    /// The beginning of the text.
    pub text: String,
}

/// A text that is no `pg_current_snapshot()`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{text:?} is not a snapshot, which looks like 10:20:10,14")]
pub struct ParseSnapshotError {
    /// The beginning of the text.
    pub text: String,
}

/// A text that is no value of a type, or a type whose values we can't read. Never holds the value itself.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ParseValueError {
    /// The text does not read as the type.
    #[error("a text of {len} bytes does not read as {type_name}")]
    Malformed {
        /// The type's name.
        type_name: &'static str,
        /// The text's length in bytes.
        len: usize,
    },
    /// Convoy does not know this type's order or JSON form.
    #[error("values of type {type_name} are not read by Convoy")]
    Unsupported {
        /// The type's name.
        type_name: &'static str,
    },
}
