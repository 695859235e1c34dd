//! Comparands: what stands on the other side of a comparison, before the column's type is looked at.
//!
//! A literal, perhaps cast, or a parameter; anything else is more than a value, and the comparison is not understood.
//! How Postgres compares the two is left to `condition`.

use crate::analyse::constants::is_decimal;
use crate::analyse::scope::folded;
use crate::analyse::type_name::{last_name, plain_type};
use crate::facts::ParamType;
use convoy_types::PgType;
use sqlparser::ast::{CastKind, DataType, Expr, ObjectNamePart, UnaryOperator, Value};

/// What a column is compared with, before its type is looked at.
pub(crate) enum Comparand {
    /// A string without a type: takes the column's.
    Untyped(String),
    /// A whole number.
    Integer(String),
    /// A number with a point.
    Decimal(String),
    /// A value of a stated type.
    Typed(PgType, Option<String>, String),
    Null,
    Param(usize),
}

impl Comparand {
    /// Reads what stands on the other side of a comparison, or none where it is more than a value.
    pub(crate) fn of(expr: &Expr, params: &[ParamType]) -> Option<Self> {
        match expr {
            Expr::Nested(inner) => Comparand::of(inner, params),
            Expr::Value(literal) => match &literal.value {
                Value::SingleQuotedString(text) => Some(Comparand::Untyped(text.clone())),
                Value::DollarQuotedString(text) => Some(Comparand::Untyped(text.value.clone())),
                Value::Number(digits, false) => number(digits),
                Value::Boolean(true) => Some(Comparand::Typed(PgType::Bool, None, "t".to_owned())),
                Value::Boolean(false) => Some(Comparand::Typed(PgType::Bool, None, "f".to_owned())),
                Value::Null => Some(Comparand::Null),
                Value::Placeholder(name) => param_position(name).map(Comparand::Param),
                _ => None,
            },
            Expr::UnaryOp { op: UnaryOperator::Minus, expr } => match &**expr {
                Expr::Value(literal) => match &literal.value {
                    Value::Number(digits, false) => number(&format!("-{digits}")),
                    _ => None,
                },
                _ => None,
            },
            Expr::Cast {
                kind: CastKind::Cast | CastKind::DoubleColon,
                expr,
                data_type,
                format: None,
                ..
            } => cast(&Comparand::of(expr, params)?, data_type, params),
            Expr::TypedString(typed) if !typed.uses_odbc_syntax => match &typed.value.value {
                Value::SingleQuotedString(text) => {
                    cast(&Comparand::Untyped(text.clone()), &typed.data_type, params)
                }
                _ => None,
            },
            _ => None,
        }
    }
}

/// Returns the position of `$1` and its like, counted from 0.
pub(crate) fn param_position(placeholder: &str) -> Option<usize> {
    placeholder.strip_prefix('$')?.parse::<usize>().ok()?.checked_sub(1)
}

fn number(digits: &str) -> Option<Comparand> {
    if !is_decimal(digits) {
        return None;
    }
    // A whole number beyond int8 is numeric for Postgres.
    let whole = digits.parse::<i64>().is_ok();
    Some(if whole {
        Comparand::Integer(digits.to_owned())
    } else {
        Comparand::Decimal(digits.to_owned())
    })
}

/// Returns a value that is cast to a type.
pub(crate) fn cast(
    inner: &Comparand,
    data_type: &DataType,
    params: &[ParamType],
) -> Option<Comparand> {
    if let DataType::Custom(name, modifiers) = data_type {
        let Some(ObjectNamePart::Identifier(ident)) = name.0.last() else { return None };
        let name = folded(ident).filter(|_| modifiers.is_empty())?;
        return match inner {
            Comparand::Untyped(text) => {
                Some(Comparand::Typed(PgType::Other, Some(name), text.clone()))
            }
            Comparand::Param(position) => {
                let param = params.get(*position)?;
                let same = param.ty == PgType::Enum && last_name(&param.type_name) == name;
                same.then_some(Comparand::Param(*position))
            }
            _ => None,
        };
    }
    let ty = plain_type(data_type)?;
    let is_float = matches!(ty, PgType::Float4 | PgType::Float8);
    let is_integer = matches!(ty, PgType::Int2 | PgType::Int4 | PgType::Int8);
    match inner {
        Comparand::Untyped(text) => Some(Comparand::Typed(ty, None, text.clone())),
        Comparand::Integer(text) if is_integer || is_float || ty == PgType::Numeric => {
            Some(Comparand::Typed(ty, None, text.clone()))
        }
        Comparand::Decimal(text) if is_float || ty == PgType::Numeric => {
            Some(Comparand::Typed(ty, None, text.clone()))
        }
        Comparand::Typed(PgType::Bool, None, text) if ty == PgType::Bool => {
            Some(Comparand::Typed(ty, None, text.clone()))
        }
        Comparand::Null => Some(Comparand::Null),
        // A parameter that is of that type anyway.
        Comparand::Param(position) => params
            .get(*position)
            .filter(|param| param.ty == ty)
            .map(|_| Comparand::Param(*position)),
        Comparand::Integer(_) | Comparand::Decimal(_) | Comparand::Typed(..) => None,
    }
}
