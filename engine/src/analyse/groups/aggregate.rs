//! Calls of aggregates: which of them are kept from row changes, and of which columns.

use crate::analyse::scope::{NotUnderstood, Scope, name_parts, not_understood};
use crate::facts::{ColumnFacts, StatementFacts};
use crate::groups::plan::Scale;
use convoy_query_index::FieldId;
use convoy_types::PgType;
use sqlparser::ast::{
    DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Value,
};

/// An aggregate that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Count,
    Distinct,
    Sum,
    Average,
    Least,
    Greatest,
}

/// A call of an aggregate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call<'a> {
    pub(super) kind: Kind,
    /// None for `count(*)`.
    pub(super) column: Option<FieldId>,
    pub(super) filter: Option<&'a Expr>,
}

/// Reads an expression as a call of an aggregate; none where it is no call.
pub(super) fn call<'a>(
    expr: &'a Expr,
    scope: &Scope<'_>,
    facts: &StatementFacts,
) -> Result<Option<Call<'a>>, NotUnderstood> {
    let Expr::Function(function) = expr else { return Ok(None) };
    let Function {
        name,
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(list),
        within_group,
        filter,
        null_treatment: None,
        over,
    } = function
    else {
        return not_understood("it calls a function that is not an aggregate of columns");
    };
    let parts = name_parts(name).unwrap_or_default();
    let name = match parts.as_slice() {
        [name] => name,
        [schema, name] if schema == "pg_catalog" => name,
        _ => return not_understood("it calls a function of a schema of its own"),
    };
    let mut known = facts.functions.iter().filter(|known| known.name == *name).peekable();
    let is_built_in = known.peek().is_some()
        && known.all(|known| known.aggregate && known.namespace == "pg_catalog");
    if over.is_some() {
        return not_understood("it has window functions");
    }
    if !is_built_in || !within_group.is_empty() || !list.clauses.is_empty() {
        return not_understood(format!("{name} is not an aggregate that is kept from row changes"));
    }
    let distinct = list.duplicate_treatment == Some(DuplicateTreatment::Distinct);
    let [FunctionArg::Unnamed(arg)] = list.args.as_slice() else {
        return not_understood(format!("{name} has other arguments than one column"));
    };
    let column = match arg {
        FunctionArgExpr::Wildcard => None,
        // `count(1)` counts rows, as any constant does but null.
        FunctionArgExpr::Expr(Expr::Value(literal))
            if name == "count"
                && !distinct
                && matches!(literal.value, Value::Number(..) | Value::SingleQuotedString(_)) =>
        {
            None
        }
        FunctionArgExpr::Expr(expr) => match scope.column(expr, &scope.all()) {
            Some((_, field)) => Some(field),
            None => return not_understood(format!("{name} is of more than a column")),
        },
        _ => return not_understood(format!("{name} is of more than a column")),
    };
    let kind = match (name.as_str(), distinct) {
        ("count", false) => Kind::Count,
        ("count", true) => Kind::Distinct,
        ("sum", false) => Kind::Sum,
        ("avg", false) => Kind::Average,
        ("min", _) => Kind::Least,
        ("max", _) => Kind::Greatest,
        (name, true) => return not_understood(format!("it has {name}(DISTINCT …)")),
        (name, _) => {
            return not_understood(format!(
                "{name} is not an aggregate that is kept from row changes"
            ));
        }
    };
    Ok(Some(Call { kind, column, filter: filter.as_deref() }))
}

/// Returns the type that an aggregate of a column has, where it can be kept exactly.
pub(super) fn result_type(
    kind: Kind,
    column: Option<&ColumnFacts>,
) -> Result<PgType, NotUnderstood> {
    let Some(column) = column else {
        return if kind == Kind::Count {
            Ok(PgType::Int8)
        } else {
            not_understood("an aggregate is of no column")
        };
    };
    let (name, type_name) = (&column.name, &column.type_name);
    match kind {
        // Whether there is a value can be seen of any type.
        Kind::Count => Ok(PgType::Int8),
        Kind::Distinct if column.ty.has_equality(column.collation) => Ok(PgType::Int8),
        Kind::Distinct => not_understood(format!(
            "which values of {name} ({type_name}) are equal is Postgres' own to say"
        )),
        Kind::Sum | Kind::Average => match (kind, &column.ty) {
            (Kind::Sum, PgType::Int2 | PgType::Int4) => Ok(PgType::Int8),
            (_, PgType::Int2 | PgType::Int4 | PgType::Int8 | PgType::Numeric) => {
                Ok(PgType::Numeric)
            }
            (_, PgType::Float4 | PgType::Float8) => not_understood(format!(
                "sums of {name} ({type_name}) depend on the order in which they are added up"
            )),
            _ => not_understood(format!("sums of {name} ({type_name}) are Postgres' own")),
        },
        Kind::Least | Kind::Greatest => {
            if !column.ty.has_order(column.collation) {
                return not_understood(format!(
                    "the order of {name} ({type_name}) is not that of its bytes, and Postgres' own"
                ));
            }
            if !looks_as_it_is(column) {
                return not_understood(format!(
                    "values of {name} ({type_name}) may be equal and look different"
                ));
            }
            // What is shown of a varchar's is a text.
            Ok(if column.ty == PgType::Varchar { PgType::Text } else { column.ty.clone() })
        }
    }
}

/// Returns whether values of a column that are equal look the same.
pub(super) fn looks_as_it_is(column: &ColumnFacts) -> bool {
    column.ty.looks_as_it_is() || (column.ty == PgType::Numeric && column.scale.is_some())
}

/// Returns how many digits behind the point a column's values have; `set` says where the scales are counted if it varies.
pub(super) fn scale(column: &ColumnFacts, set: impl FnOnce() -> usize) -> Scale {
    column.scale.map_or_else(|| Scale::Varies(set()), Scale::Fixed)
}
