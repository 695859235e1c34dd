//! Order-preserving byte encoding of column values.

/// One or more column values, encoded so that comparing bytes compares values as Postgres does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Box<[u8]>);
