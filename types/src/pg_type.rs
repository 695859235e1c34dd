//! The types whose values Convoy reads itself.

/// A column's type as far as Convoy reads its values; domains stand as their base type.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PgType {
    /// `boolean`
    Bool,
    /// `smallint`
    Int2,
    /// `integer`
    Int4,
    /// `bigint`
    Int8,
    /// `numeric`, with any scale
    Numeric,
    /// `real`
    Float4,
    /// `double precision`
    Float8,
    /// `text`
    Text,
    /// `varchar(n)`
    Varchar,
    /// `char(n)`: trailing blanks are shown and do not count
    Bpchar,
    /// `uuid`
    Uuid,
    /// `date`
    Date,
    /// `time without time zone`
    Time,
    /// `timestamp without time zone`
    Timestamp,
    /// `timestamp with time zone`
    TimestampTz,
    /// `interval`
    Interval,
    /// `bytea`
    Bytea,
    /// `jsonb`
    Jsonb,
    /// An enum: equality by label; its order is the catalog's and not known here
    Enum,
    /// A one-level array of one of the others
    Array(Box<PgType>),
    /// Any other: never compared or shown by Convoy itself
    Other,
}

/// How texts of a column compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Collation {
    /// The type has none.
    None,
    /// Byte order: `C`, `POSIX`, glibc's `C.UTF-8`.
    ByteOrder,
    /// Equal exactly when the bytes are; ordered by rules of its own.
    Deterministic,
    /// Neither equality nor order are the bytes'.
    Nondeterministic,
}
