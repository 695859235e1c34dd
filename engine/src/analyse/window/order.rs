//! A window's ORDER BY: fields whose order is that of their keys.

use crate::analyse::outline::{Outline, ordinal};
use crate::analyse::scope::{NotUnderstood, Scope, folded, not_understood};
use crate::template::{Direction, Nulls};
use convoy_query_index::FieldId;
use sqlparser::ast::{Expr, OrderByExpr, OrderByOptions, OrderBySort};

/// Returns by which fields a window is ordered.
pub(super) fn order(
    scope: &Scope<'_>,
    outline: &Outline<'_>,
    output: &[(FieldId, String)],
) -> Result<Vec<(FieldId, Direction, Nulls)>, NotUnderstood> {
    let table = scope.sources[0].table;
    outline
        .order_items()?
        .iter()
        .map(|item| {
            let OrderByExpr { expr, options, with_fill: None } = item else {
                return not_understood("its ORDER BY is more than columns");
            };
            let position = match expr {
                Expr::Value(_) => ordinal(expr),
                // A bare name is first the result's column, then the table's (PostgreSQL manual, SELECT, "ORDER BY").
                Expr::Identifier(ident) => {
                    let name = folded(ident);
                    output.iter().position(|(_, output)| Some(output) == name.as_ref())
                }
                _ => None,
            };
            let output_field =
                position.and_then(|position| output.get(position)).map(|(field, _)| *field);
            let Some(field) =
                output_field.or_else(|| scope.column(expr, &scope.all()).map(|(_, field)| field))
            else {
                return not_understood("its ORDER BY is more than columns");
            };
            let column = table.column(field);
            if !column.ty.has_order(column.collation) {
                return not_understood(format!(
                    "the order of {} ({}) is not that of its bytes, and Postgres' own",
                    column.name, column.type_name
                ));
            }
            let (direction, nulls) = direction(options)?;
            Ok((field, direction, nulls))
        })
        .collect()
}

/// Returns which way an item of an ORDER BY runs, and where its nulls stand.
pub(in crate::analyse) fn direction(
    options: &OrderByOptions,
) -> Result<(Direction, Nulls), NotUnderstood> {
    let direction = match options.sort {
        None | Some(OrderBySort::Asc) => Direction::Ascending,
        Some(OrderBySort::Desc) => Direction::Descending,
        Some(OrderBySort::Using(_)) => {
            return not_understood("its ORDER BY names an operator");
        }
    };
    let nulls = match (options.nulls_first, direction) {
        (Some(true), _) | (None, Direction::Descending) => Nulls::First,
        (Some(false), _) | (None, Direction::Ascending) => Nulls::Last,
    };
    Ok((direction, nulls))
}
