//! A window's LIMIT, OFFSET and FETCH: numbers and parameters.

use crate::analyse::comparand::param_position;
use crate::analyse::outline::Outline;
use crate::analyse::scope::{NotUnderstood, not_understood};
use crate::analyse::type_name::is_integer;
use crate::facts::ParamType;
use crate::template::Count;
use convoy_types::PgType;
use sqlparser::ast::{CastKind, Expr, Fetch, LimitClause, Value};

/// Returns a window's limit and offset.
pub(in crate::analyse) fn limit(
    outline: &Outline<'_>,
    params: &[ParamType],
) -> Result<(Option<Count>, Option<Count>), NotUnderstood> {
    let (mut limit, mut offset) = (None, None);
    match &outline.query.limit_clause {
        None => {}
        Some(LimitClause::LimitOffset { limit: rows, offset: skip, limit_by })
            if limit_by.is_empty() =>
        {
            limit = rows.as_ref().map(|rows| count(rows, params)).transpose()?;
            offset = skip.as_ref().map(|skip| count(&skip.value, params)).transpose()?;
        }
        Some(_) => return not_understood("its LIMIT is not analysed"),
    }
    match &outline.query.fetch {
        None => {}
        Some(Fetch { with_ties: false, percent: false, quantity }) if limit.is_none() => {
            limit =
                Some(quantity.as_ref().map_or(Ok(Count::Constant(1)), |rows| count(rows, params))?);
        }
        Some(_) => return not_understood("it has WITH TIES"),
    }
    Ok((limit, offset))
}

fn count(expr: &Expr, params: &[ParamType]) -> Result<Count, NotUnderstood> {
    match expr {
        Expr::Nested(inner) => return count(inner, params),
        Expr::Value(literal) => match &literal.value {
            Value::Number(digits, false) => {
                if let Some(rows) = digits.parse().ok().filter(|rows| i64::try_from(*rows).is_ok())
                {
                    return Ok(Count::Constant(rows));
                }
            }
            Value::Placeholder(name) => {
                let position = param_position(name);
                let ty = position.and_then(|position| params.get(position)).map(|param| &param.ty);
                if let (Some(position), Some(PgType::Int2 | PgType::Int4 | PgType::Int8)) =
                    (position, ty)
                {
                    return Ok(Count::Param(position));
                }
            }
            _ => {}
        },
        // A parameter that was made a whole number: its type says so.
        Expr::Cast {
            kind: CastKind::Cast | CastKind::DoubleColon,
            expr,
            format: None,
            data_type,
            ..
        } if is_integer(data_type) => {
            if let Ok(Count::Param(position)) = count(expr, params) {
                return Ok(Count::Param(position));
            }
        }
        _ => {}
    }
    not_understood("its LIMIT or OFFSET is neither a number nor a parameter")
}
