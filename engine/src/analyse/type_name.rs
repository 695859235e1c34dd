//! Names of types: as they are written in a statement, and as Postgres' `format_type` gives them.

use convoy_types::PgType;
use sqlparser::ast::{ArrayElemTypeDef, DataType, ExactNumberInfo, TimezoneInfo};

/// Returns the type that a name without length or precision stands for.
pub(crate) fn plain_type(data_type: &DataType) -> Option<PgType> {
    use TimezoneInfo::{None as NoZone, Tz, WithTimeZone, WithoutTimeZone};
    Some(match data_type {
        DataType::SmallInt(None) | DataType::Int2(None) => PgType::Int2,
        DataType::Int(None) | DataType::Integer(None) | DataType::Int4(None) => PgType::Int4,
        DataType::BigInt(None) | DataType::Int8(None) => PgType::Int8,
        DataType::Numeric(ExactNumberInfo::None)
        | DataType::Decimal(ExactNumberInfo::None)
        | DataType::Dec(ExactNumberInfo::None) => PgType::Numeric,
        DataType::Real | DataType::Float4 => PgType::Float4,
        DataType::DoublePrecision | DataType::Float8 | DataType::Float(ExactNumberInfo::None) => {
            PgType::Float8
        }
        DataType::Bool | DataType::Boolean => PgType::Bool,
        DataType::Text => PgType::Text,
        DataType::Varchar(None) | DataType::CharacterVarying(None) => PgType::Varchar,
        DataType::Uuid => PgType::Uuid,
        DataType::Date => PgType::Date,
        DataType::Time(None, NoZone | WithoutTimeZone) => PgType::Time,
        DataType::Timestamp(None, NoZone | WithoutTimeZone) => PgType::Timestamp,
        DataType::Timestamp(None, WithTimeZone | Tz) => PgType::TimestampTz,
        DataType::Interval { fields: None, precision: None } => PgType::Interval,
        DataType::Bytea => PgType::Bytea,
        DataType::JSONB => PgType::Jsonb,
        DataType::Array(ArrayElemTypeDef::SquareBracket(element, None)) => {
            match plain_type(element)? {
                PgType::Array(_) => return None,
                element => PgType::Array(Box::new(element)),
            }
        }
        _ => return None,
    })
}

/// Returns whether a type's name is that of a whole number.
pub(crate) fn is_integer(data_type: &DataType) -> bool {
    matches!(plain_type(data_type), Some(PgType::Int2 | PgType::Int4 | PgType::Int8))
}

/// Returns the last part of a type's name as `format_type` gives it, without quotes.
pub(crate) fn last_name(type_name: &str) -> String {
    match type_name.strip_suffix('"') {
        Some(quoted) => {
            let start = quoted
                .rfind("\".\"")
                .map(|at| at + 3)
                .or_else(|| quoted.rfind(".\"").map(|at| at + 2));
            quoted[start.unwrap_or(1).min(quoted.len())..].replace("\"\"", "\"")
        }
        None => type_name.rsplit('.').next().unwrap_or(type_name).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_last_part_of_a_name() {
        for (type_name, expect) in [
            ("mood", "mood"),
            ("app.mood", "mood"),
            ("app.\"Mood\"", "Mood"),
            ("\"Mood\"", "Mood"),
            ("\"My App\".mood", "mood"),
            ("\"My App\".\"My \"\"Mood\"\"\"", "My \"Mood\""),
            ("\"a.b\"", "a.b"),
        ] {
            assert_eq!(last_name(type_name), expect, "{type_name}");
        }
    }
}
