//! Window plans: one table, filter, projection, order and limit, kept from the row changes themselves.

use crate::analyse::clauses::Clauses;
use crate::analyse::comparand::param_position;
use crate::analyse::condition::ConditionReader;
use crate::analyse::constants::Constants;
use crate::analyse::outline::Outline;
use crate::analyse::scope::{NotUnderstood, Scope, folded, name_parts, not_understood};
use crate::analyse::type_name::is_integer;
use crate::facts::{
    ParamType, Publication, StatementFacts, TableFacts, TableKind, quote_identifier,
};
use crate::template::{Count, Direction, Nulls, OrderBy, SlotSpec, WindowPlan, spare_rows};
use convoy_query_index::{Condition, FieldId, FieldSet, OldRows, Predicate};
use convoy_types::{PgType, ReplicaIdentity};
use sqlparser::ast::{
    CastKind, Expr, Fetch, LimitClause, OrderByExpr, OrderByKind, OrderBySort, SelectItem,
    SelectItemQualifiedWildcardKind, Value,
};
use std::fmt::Write;

/// What a window plan adds to the template.
pub(crate) struct Window {
    pub(crate) plan: WindowPlan,
    pub(crate) predicate: Predicate,
    pub(crate) slots: Vec<SlotSpec>,
}

/// Returns a window plan, or why there is none.
pub(crate) fn window(
    outline: &Outline<'_>,
    clauses: &Clauses<'_>,
    facts: &StatementFacts,
    constants: &mut Constants,
) -> Result<Window, NotUnderstood> {
    let select = match outline.selects.as_slice() {
        [select] if outline.is_plain => *select,
        _ => return not_understood("it is more than one SELECT from a table"),
    };
    if select.distinct.is_some() {
        return not_understood("it has DISTINCT");
    }
    if outline.has_groups() || select.having.is_some() {
        return not_understood("it has GROUP BY or HAVING");
    }
    if !select.named_window.is_empty() {
        return not_understood("it has window functions");
    }
    let scope = Scope::of(facts, &select.from, select.selection.as_ref(), &[])?;
    let [source] = scope.sources.as_slice() else {
        return not_understood("it does not read just one table");
    };
    let table = source.table;
    if scope.more || facts.tables.len() != 1 {
        return not_understood("it does not read just one table");
    }
    check_table(table)?;

    let output = output(&scope, &select.projection)?;
    let agrees = output.len() == facts.columns.len()
        && output.iter().zip(&facts.columns).all(|((_, name), column)| *name == column.name);
    if !agrees {
        return not_understood("Postgres names the columns of the result otherwise");
    }
    // Every constant is read even where the plan fails for another reason: a second analysis must find the same ones.
    let mut slots = Vec::new();
    let condition = match &select.selection {
        None => Condition::always(),
        Some(selection) => ConditionReader {
            scope: &scope,
            source: 0,
            params: &facts.params,
            constants,
            slots: &mut slots,
        }
        .read(selection),
    };
    if !condition.is_exact() {
        return not_understood(
            "its WHERE has more than comparisons of columns with values of their own type",
        );
    }
    let mut order = order(&scope, outline, &output)?;
    for &field in &table.primary_key {
        let column = table.column(field);
        if !column.ty.has_order(column.collation) {
            return not_understood(format!(
                "the order of its primary key's {} is Postgres' own",
                column.name
            ));
        }
    }
    let (limit, offset) = limit(outline, &facts.params)?;

    let mut fields = FieldSet::default();
    let sources = output
        .iter()
        .map(|(field, _)| *field)
        .chain(order.iter().map(|item| item.0))
        .chain(table.primary_key.iter().copied());
    let mut source_fields = Vec::new();
    for field in sources {
        if !fields.contains(field) {
            fields.insert(field);
            source_fields.push(field);
        }
    }
    let position =
        |field: FieldId| source_fields.iter().position(|other| *other == field).unwrap_or_default();
    // A column twice in an ORDER BY says nothing the second time.
    let mut seen = FieldSet::default();
    order.retain(|(field, ..)| {
        !seen.contains(*field) && {
            seen.insert(*field);
            true
        }
    });
    let order = order
        .into_iter()
        .map(|(field, direction, nulls)| OrderBy { source: position(field), direction, nulls })
        .collect::<Vec<_>>();
    fields.union_with(&condition.fields());
    for field in fields.iter() {
        let column = table.column(field);
        if column.generated {
            return not_understood(format!(
                "{} is a generated column, which the stream leaves out",
                column.name
            ));
        }
    }

    let name = if source.aliased { Some(source.name.as_str()) } else { None };
    let mut plan = WindowPlan {
        table: table.clone(),
        sql: "".into(),
        output: output.iter().map(|(field, _)| position(*field)).collect(),
        key: table.primary_key.iter().map(|field| position(*field)).collect(),
        source: source_fields,
        order,
        condition: condition.clone(),
        limit,
        offset,
    };
    plan.sql = sql(&plan, name, clauses.selection()).into();
    let old_rows = match table.identity {
        ReplicaIdentity::Full => OldRows::Condition,
        ReplicaIdentity::Default | ReplicaIdentity::Nothing | ReplicaIdentity::Index => {
            OldRows::Membership
        }
    };
    let predicate = Predicate { relation: table.id, condition, fields, old_rows };
    Ok(Window { plan, predicate, slots })
}

fn check_table(table: &TableFacts) -> Result<(), NotUnderstood> {
    let name = &table.name;
    match table.kind {
        TableKind::Plain if !table.leaves.is_empty() => {
            return not_understood(format!("{name} has inheritance children"));
        }
        TableKind::Plain | TableKind::Partitioned => {}
        _ => return not_understood(format!("{name} is no plain table")),
    }
    if table.publication != Publication::Full {
        return not_understood(format!("{name} is not published with all its changes"));
    }
    if table.primary_key.is_empty() {
        return not_understood(format!("{name} has no primary key"));
    }
    if !matches!(table.identity, ReplicaIdentity::Default | ReplicaIdentity::Full) {
        return not_understood(format!(
            "the replica identity of {name} is neither the primary key nor the whole row"
        ));
    }
    if table.row_security {
        return not_understood(format!(
            "row level security applies to {name}, and the stream does not know policies"
        ));
    }
    Ok(())
}

/// Returns the columns of the result by name.
fn output(
    scope: &Scope<'_>,
    projection: &[SelectItem],
) -> Result<Vec<(FieldId, String)>, NotUnderstood> {
    let table = scope.sources[0].table;
    let mut output = Vec::new();
    let mut push = |field: FieldId, name: Option<String>| {
        let column = table.column(field);
        if !column.ty.shows_json() {
            return not_understood(format!(
                "values of {} ({}) are shown by Postgres alone",
                column.name, column.type_name
            ));
        }
        output.push((field, name.unwrap_or_else(|| column.name.clone())));
        Ok(())
    };
    let all = || {
        (0..table.columns.len()).filter_map(|position| u16::try_from(position).ok().map(FieldId))
    };
    for item in projection {
        match item {
            SelectItem::UnnamedExpr(expr) => match scope.column(expr) {
                Some((_, field)) => push(field, None)?,
                None => return not_understood("it selects more than plain columns"),
            },
            SelectItem::ExprWithAlias { expr, alias } => {
                match (scope.column(expr), folded(alias)) {
                    (Some((_, field)), Some(name)) => push(field, Some(name))?,
                    _ => return not_understood("it selects more than plain columns"),
                }
            }
            SelectItem::Wildcard(options) if is_plain_wildcard(options) => {
                all().try_for_each(|field| push(field, None))?;
            }
            SelectItem::QualifiedWildcard(
                SelectItemQualifiedWildcardKind::ObjectName(name),
                options,
            ) if is_plain_wildcard(options) && is_source(scope, name) => {
                all().try_for_each(|field| push(field, None))?;
            }
            _ => return not_understood("it selects more than plain columns"),
        }
    }
    Ok(output)
}

fn is_source(scope: &Scope<'_>, name: &sqlparser::ast::ObjectName) -> bool {
    matches!(name_parts(name).as_deref(), Some([name]) if scope.source(name) == Some(0))
}

/// Returns whether a `*` is nothing but that.
pub(crate) fn is_plain_wildcard(options: &sqlparser::ast::WildcardAdditionalOptions) -> bool {
    options.opt_ilike.is_none()
        && options.opt_exclude.is_none()
        && options.opt_except.is_none()
        && options.opt_replace.is_none()
        && options.opt_rename.is_none()
        && options.opt_alias.is_none()
}

/// Returns the outermost ORDER BY's items.
pub(crate) fn order_items<'a>(outline: &Outline<'a>) -> Result<&'a [OrderByExpr], NotUnderstood> {
    match &outline.query.order_by {
        None => Ok(&[]),
        Some(order_by) => match &order_by.kind {
            OrderByKind::Expressions(items) if order_by.interpolate.is_none() => Ok(items),
            _ => not_understood("its ORDER BY is no list"),
        },
    }
}

fn order(
    scope: &Scope<'_>,
    outline: &Outline<'_>,
    output: &[(FieldId, String)],
) -> Result<Vec<(FieldId, Direction, Nulls)>, NotUnderstood> {
    let table = scope.sources[0].table;
    let items = order_items(outline)?;
    items
        .iter()
        .map(|item| {
            let OrderByExpr { expr, options, with_fill: None } = item else {
                return not_understood("its ORDER BY is more than columns");
            };
            let ordinal = match expr {
                Expr::Value(literal) => match &literal.value {
                    Value::Number(digits, _) => digits.parse::<usize>().ok(),
                    _ => None,
                },
                // A bare name is first the result's column, then the table's (PostgreSQL manual, SELECT, "ORDER BY").
                Expr::Identifier(ident) => {
                    let name = folded(ident);
                    output
                        .iter()
                        .position(|(_, output)| Some(output) == name.as_ref())
                        .map(|position| position + 1)
                }
                _ => None,
            };
            let output_field = ordinal
                .and_then(|ordinal| output.get(ordinal.checked_sub(1)?))
                .map(|(field, _)| *field);
            let Some(field) = output_field.or_else(|| scope.column(expr).map(|(_, field)| field))
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
            Ok((field, direction, nulls))
        })
        .collect()
}

fn limit(
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

/// Returns the SQL that reads the rows, each column in its type's output text.
fn sql(plan: &WindowPlan, alias: Option<&str>, selection: Option<&str>) -> String {
    let table = &plan.table;
    let row = quote_identifier(alias.unwrap_or(&table.name));
    let column = |source: usize| {
        format!("{row}.{}", quote_identifier(&table.column(plan.source[source]).name))
    };
    let columns = plan
        .source
        .iter()
        .enumerate()
        .map(|(position, field)| output_text(&table.column(*field).ty, &column(position)))
        .collect::<Vec<_>>();
    let mut order = plan
        .order
        .iter()
        .map(|item| {
            let direction = if item.direction == Direction::Descending { " DESC" } else { "" };
            let nulls = match (item.nulls, item.direction) {
                (Nulls::First, Direction::Ascending) => " NULLS FIRST",
                (Nulls::Last, Direction::Descending) => " NULLS LAST",
                _ => "",
            };
            format!("{}{direction}{nulls}", column(item.source))
        })
        .collect::<Vec<_>>();
    let ordered = |key: usize| plan.order.iter().any(|item| item.source == key);
    order.extend(plan.key.iter().copied().filter(|&key| !ordered(key)).map(column));
    let mut sql = format!("SELECT {} FROM {}", columns.join(", "), table.qualified_name());
    if let Some(alias) = alias {
        let _ = write!(sql, " AS {}", quote_identifier(alias));
    }
    if let Some(selection) = selection {
        let _ = write!(sql, " WHERE {selection}");
    }
    let _ = write!(sql, " ORDER BY {}", order.join(", "));
    sql.push_str(&limit_sql(plan.limit, plan.offset));
    sql
}

/// Returns LIMIT and OFFSET such that the rows before the window and the spare ones behind it are read too.
///
/// A negative argument is handed on, so that Postgres itself says what is wrong with it.
fn limit_sql(limit: Option<Count>, offset: Option<Count>) -> String {
    let mut sql = String::new();
    let sum = |limit: &str, spare: &str| {
        let skipped = match offset {
            None => "0".to_owned(),
            Some(Count::Constant(rows)) => rows.to_string(),
            Some(Count::Param(position)) => format!("coalesce(${}::int8, 0)", position + 1),
        };
        format!("least({skipped}::numeric + {limit} + {spare}, {})::int8", i64::MAX)
    };
    match limit {
        None => {}
        Some(Count::Constant(rows)) => {
            let _ = write!(sql, " LIMIT {}", sum(&rows.to_string(), &spare_rows(rows).to_string()));
        }
        Some(Count::Param(position)) => {
            let rows = format!("${}::int8", position + 1);
            let sum = sum(&rows, &format!("least({rows} / 2 + 8, 1000)"));
            let _ = write!(sql, " LIMIT CASE WHEN {rows} >= 0 THEN {sum} ELSE {rows} END");
        }
    }
    if let Some(Count::Param(position)) = offset {
        let _ = write!(sql, " OFFSET least(${}::int8, 0)", position + 1);
    }
    sql
}

/// Returns an expression for a column's output text. A cast to text is that, but for two types (seen on 15.18).
fn output_text(ty: &PgType, column: &str) -> String {
    match ty {
        PgType::Bool => format!("CASE WHEN {column} THEN 't' WHEN NOT {column} THEN 'f' END"),
        PgType::Bpchar => format!("pg_catalog.textin(pg_catalog.bpcharout({column}))"),
        _ => format!("{column}::pg_catalog.text"),
    }
}
