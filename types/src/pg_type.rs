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

impl PgType {
    /// Returns the built-in type with this oid (`pg_type.dat` of PostgreSQL 18), or [`PgType::Other`].
    ///
    /// An enum or a domain has an oid of its own: the catalog must say what it is.
    pub fn from_oid(oid: u32) -> PgType {
        let array = |element| PgType::Array(Box::new(element));
        match oid {
            16 => PgType::Bool,
            17 => PgType::Bytea,
            20 => PgType::Int8,
            21 => PgType::Int2,
            23 => PgType::Int4,
            25 => PgType::Text,
            700 => PgType::Float4,
            701 => PgType::Float8,
            1042 => PgType::Bpchar,
            1043 => PgType::Varchar,
            1082 => PgType::Date,
            1083 => PgType::Time,
            1114 => PgType::Timestamp,
            1184 => PgType::TimestampTz,
            1186 => PgType::Interval,
            1700 => PgType::Numeric,
            2950 => PgType::Uuid,
            3802 => PgType::Jsonb,
            1000 => array(PgType::Bool),
            1001 => array(PgType::Bytea),
            1005 => array(PgType::Int2),
            1007 => array(PgType::Int4),
            1009 => array(PgType::Text),
            1014 => array(PgType::Bpchar),
            1015 => array(PgType::Varchar),
            1016 => array(PgType::Int8),
            1021 => array(PgType::Float4),
            1022 => array(PgType::Float8),
            1115 => array(PgType::Timestamp),
            1182 => array(PgType::Date),
            1183 => array(PgType::Time),
            1185 => array(PgType::TimestampTz),
            1187 => array(PgType::Interval),
            1231 => array(PgType::Numeric),
            2951 => array(PgType::Uuid),
            3807 => array(PgType::Jsonb),
            _ => PgType::Other,
        }
    }

    /// Returns a name for messages: Postgres' own where there is one.
    pub fn name(&self) -> &'static str {
        match self {
            PgType::Bool => "bool",
            PgType::Int2 => "int2",
            PgType::Int4 => "int4",
            PgType::Int8 => "int8",
            PgType::Numeric => "numeric",
            PgType::Float4 => "float4",
            PgType::Float8 => "float8",
            PgType::Text => "text",
            PgType::Varchar => "varchar",
            PgType::Bpchar => "bpchar",
            PgType::Uuid => "uuid",
            PgType::Date => "date",
            PgType::Time => "time",
            PgType::Timestamp => "timestamp",
            PgType::TimestampTz => "timestamptz",
            PgType::Interval => "interval",
            PgType::Bytea => "bytea",
            PgType::Jsonb => "jsonb",
            PgType::Enum => "enum",
            PgType::Array(_) => "array",
            PgType::Other => "another type",
        }
    }

    /// Returns whether values that are equal look the same, where no collation says otherwise. Numbers may have more or
    /// fewer zeros at the end; `-0` is 0, `30 days` are `1 mon`, and blanks at the end of a `char(n)` don't count.
    pub fn looks_as_it_is(&self) -> bool {
        match self {
            PgType::Bool
            | PgType::Int2
            | PgType::Int4
            | PgType::Int8
            | PgType::Text
            | PgType::Varchar
            | PgType::Uuid
            | PgType::Date
            | PgType::Time
            | PgType::Timestamp
            | PgType::TimestampTz
            | PgType::Bytea
            | PgType::Enum => true,
            PgType::Numeric
            | PgType::Float4
            | PgType::Float8
            | PgType::Interval
            | PgType::Bpchar
            | PgType::Jsonb
            | PgType::Array(_)
            | PgType::Other => false,
        }
    }

    /// Returns whether two values are equal for Postgres exactly when their [`Key`](crate::Key)s are.
    pub fn has_equality(&self, collation: Collation) -> bool {
        match self {
            PgType::Text | PgType::Varchar | PgType::Bpchar => {
                collation != Collation::Nondeterministic
            }
            PgType::Jsonb | PgType::Array(_) | PgType::Other => false,
            PgType::Bool
            | PgType::Int2
            | PgType::Int4
            | PgType::Int8
            | PgType::Numeric
            | PgType::Float4
            | PgType::Float8
            | PgType::Uuid
            | PgType::Date
            | PgType::Time
            | PgType::Timestamp
            | PgType::TimestampTz
            | PgType::Interval
            | PgType::Bytea
            | PgType::Enum => true,
        }
    }

    /// Returns whether Postgres orders two values as their [`Key`](crate::Key)s order.
    pub fn has_order(&self, collation: Collation) -> bool {
        match self {
            PgType::Text | PgType::Varchar | PgType::Bpchar => collation == Collation::ByteOrder,
            // The labels' order is the catalog's.
            PgType::Enum => false,
            _ => self.has_equality(collation),
        }
    }

    /// Returns whether [`write_json`](crate::write_json) can show values of this type.
    pub fn shows_json(&self) -> bool {
        match self {
            PgType::Array(element) => {
                !matches!(**element, PgType::Array(_)) && element.shows_json()
            }
            PgType::Other => false,
            _ => true,
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_orders_by_bytes_alone() {
        for ty in [PgType::Text, PgType::Varchar, PgType::Bpchar] {
            assert!(ty.has_order(Collation::ByteOrder) && ty.has_equality(Collation::ByteOrder));
            assert!(
                !ty.has_order(Collation::Deterministic)
                    && ty.has_equality(Collation::Deterministic)
            );
            assert!(
                !ty.has_order(Collation::Nondeterministic)
                    && !ty.has_equality(Collation::Nondeterministic)
            );
        }
    }

    #[test]
    fn labels_have_equality_and_arrays_have_neither() {
        assert!(
            PgType::Enum.has_equality(Collation::None) && !PgType::Enum.has_order(Collation::None)
        );
        for ty in [PgType::Jsonb, PgType::Other, PgType::from_oid(1007)] {
            assert!(!ty.has_equality(Collation::None) && !ty.has_order(Collation::None), "{ty:?}");
        }
        assert!(
            PgType::Int4.has_order(Collation::None) && PgType::Interval.has_order(Collation::None)
        );
    }

    #[test]
    fn only_one_level_of_arrays_is_shown() {
        let array = |element| PgType::Array(Box::new(element));
        assert!(PgType::Jsonb.shows_json() && array(PgType::Jsonb).shows_json());
        assert!(!PgType::Other.shows_json() && !array(PgType::Other).shows_json());
        assert!(!array(array(PgType::Int4)).shows_json());
        // A json column, and an oid nobody has.
        assert_eq!(
            (PgType::from_oid(114), PgType::from_oid(u32::MAX)),
            (PgType::Other, PgType::Other)
        );
    }
}
