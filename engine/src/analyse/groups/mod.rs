//! Aggregates over one table's rows, in groups or of all, kept from the row changes themselves.

mod aggregate;
mod sql;
mod values;

use crate::analyse::clauses::Clauses;
use crate::analyse::condition::ConditionReader;
use crate::analyse::constants::Constants;
use crate::analyse::equal_columns::ColumnMap;
use crate::analyse::outline::{Outline, ordinal};
use crate::analyse::scope::{NotUnderstood, Resolved, Scope, folded, not_understood};
use crate::analyse::window::{direction, limit};
use crate::derived::{DerivedField, columns_of};
use crate::facts::{Publication, StatementFacts, TableFacts, TableKind};
use crate::groups::plan::{GroupColumn, GroupsPlan, OrderGroups};
use crate::template::{RefreshPlan, RowKeys, SlotSpec};
use convoy_query_index::{Condition, FieldId, FieldSet, OldRows, Predicate};
use convoy_types::ReplicaIdentity;
use sqlparser::ast::{Distinct, Expr, GroupByExpr, OrderByExpr, Select, SelectItem};
use values::Values;

/// Values of a group, and states of one, beyond this many are not kept.
const VALUES_MAX: usize = 100;

/// What a plan of groups adds to the template.
pub(crate) struct Groups {
    pub(crate) plan: GroupsPlan,
    pub(crate) predicate: Predicate,
    pub(crate) slots: Vec<SlotSpec>,
    pub(crate) derived: Vec<DerivedField>,
}

/// Returns whether a statement is one SELECT of groups, or of aggregates as far as its select list shows. DISTINCT makes
/// a group of each row that it gives.
pub(crate) fn is_aggregate(outline: &Outline<'_>, facts: &StatementFacts) -> bool {
    let [select] = outline.selects.as_slice() else { return false };
    let is_call = |item: &SelectItem| {
        let (SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) = item else {
            return false;
        };
        values::calls_aggregate(expr, facts)
    };
    outline.has_groups()
        || select.having.is_some()
        || select.distinct.is_some()
        || select.projection.iter().any(is_call)
}

/// Returns a plan of groups, or why there is none. `refresh` is how the statement would be read again.
pub(crate) fn groups(
    outline: &Outline<'_>,
    clauses: &Clauses<'_>,
    facts: &StatementFacts,
    constants: &mut Constants,
    refresh: RefreshPlan,
) -> Result<Groups, NotUnderstood> {
    let select = match outline.selects.as_slice() {
        [select] if outline.is_plain => *select,
        _ => return not_understood("it is more than one SELECT from a table"),
    };
    let is_distinct = match &select.distinct {
        None | Some(Distinct::All) => false,
        Some(Distinct::Distinct) if !outline.has_groups() && select.having.is_none() => true,
        Some(Distinct::Distinct | Distinct::On(_)) => {
            return not_understood("its DISTINCT is of more than columns");
        }
    };
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

    // Every constant is read even where the plan fails for another reason: a second analysis must find the same ones.
    let (mut slots, mut derived) = (Vec::new(), Vec::new());
    let condition = match &select.selection {
        None => Condition::always(),
        Some(selection) => {
            let columns = ColumnMap::own(0);
            ConditionReader::new(&scope, &columns, facts, constants, &mut slots)
                .with_derived(&mut derived)
                .read(selection)
        }
    };
    if !condition.is_exact() {
        return not_understood(
            "its WHERE has more than comparisons of columns with values of their own type",
        );
    }
    let group_by = match is_distinct {
        true => distinct(&scope, select)?,
        false => group_by(&scope, select, facts)?,
    };
    let keys =
        if group_by.is_empty() { RowKeys::OneRow } else { RowKeys::Appended(group_by.len()) };
    if refresh.keys != keys {
        return not_understood("its rows are told apart by other columns than those of GROUP BY");
    }
    let mut values = Values::new(&scope, facts, &group_by);
    let filter_texts = clauses.filters();
    let output = output(&mut values, &select.projection, facts)?;
    let filters = values.read_filters(filter_texts.len(), constants, &mut slots, &mut derived)?;
    let order = order(&mut values, outline, facts, &output)?;
    let having = match &select.having {
        None => None,
        Some(having) => Some(values.read_having(having, constants, &mut slots)?),
    };
    let (limit, offset) = limit(outline, &facts.params)?;
    if values.values.len() > VALUES_MAX || values.states.len() > VALUES_MAX {
        return not_understood("it has too many aggregates");
    }

    let mut fields: FieldSet = group_by.iter().map(|column| column.field).collect();
    fields.union_with(&values.states.iter().filter_map(|state| state.column).collect());
    for tested in std::iter::once(&condition).chain(&filters) {
        fields.union_with(&columns_of(&tested.fields(), &derived));
    }
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
    let Values { values, states, sets, .. } = values;
    let mut plan = GroupsPlan {
        table: table.clone(),
        sql: "".into(),
        condition: condition.clone(),
        group_by,
        filters,
        states,
        sets,
        values,
        output,
        having,
        order,
        limit,
        offset,
        derived: derived.clone(),
        refresh,
    };
    plan.sql = sql::sql(&plan, name, clauses.selection(), &filter_texts).into();
    let predicate = Predicate {
        relation: table.id,
        condition,
        fields,
        old_rows: OldRows::Condition,
        unheld: None,
    };
    Ok(Groups { plan, predicate, slots, derived })
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
    if table.row_security {
        return not_understood(format!(
            "row level security applies to {name}, and the stream does not know policies"
        ));
    }
    if table.identity != ReplicaIdentity::Full {
        let also =
            if table.kind == TableKind::Partitioned { " for each of its leaves" } else { "" };
        return not_understood(format!(
            "the stream does not tell what rows of {name} were before; with ALTER TABLE {} REPLICA IDENTITY FULL{also} \
             it would, and this need not be read again",
            table.qualified_name()
        ));
    }
    Ok(())
}

/// Returns the columns of GROUP BY.
fn group_by(
    scope: &Scope<'_>,
    select: &Select,
    facts: &StatementFacts,
) -> Result<Vec<GroupColumn>, NotUnderstood> {
    let GroupByExpr::Expressions(exprs, modifiers) = &select.group_by else {
        return not_understood("its GROUP BY is no list");
    };
    if !modifiers.is_empty() {
        return not_understood("its GROUP BY is no list");
    }
    let table = scope.sources[0].table;
    let mut columns: Vec<GroupColumn> = Vec::new();
    for expr in exprs {
        let mut expr = expr;
        while let Expr::Nested(inner) = expr {
            expr = inner;
        }
        let of_output = match expr {
            Expr::Value(_) => ordinal(expr),
            // A bare name is first a column of the table, then of the result (PostgreSQL manual, SELECT, "GROUP BY").
            Expr::Identifier(ident) => folded(ident)
                .filter(|name| scope.resolve_name(name) == Resolved::Elsewhere)
                .and_then(|name| facts.columns.iter().position(|column| column.name == name)),
            _ => None,
        };
        let of_output = of_output.and_then(|position| match select.projection.get(position)? {
            SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => Some(expr),
            _ => None,
        });
        let Some((_, field)) = scope.column(of_output.unwrap_or(expr), &scope.all()) else {
            return not_understood("its GROUP BY is more than columns");
        };
        push(&mut columns, table, field)?;
    }
    Ok(columns)
}

/// Returns the columns that a DISTINCT shows: each row that it gives is a group of its own.
fn distinct(scope: &Scope<'_>, select: &Select) -> Result<Vec<GroupColumn>, NotUnderstood> {
    let mut columns = Vec::new();
    for item in &select.projection {
        let column = match item {
            SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => {
                scope.column(expr, &scope.all())
            }
            _ => None,
        };
        let Some((_, field)) = column else {
            return not_understood("its DISTINCT is of more than columns");
        };
        push(&mut columns, scope.sources[0].table, field)?;
    }
    Ok(columns)
}

/// Adds a column to those that rows are grouped by.
fn push(
    columns: &mut Vec<GroupColumn>,
    table: &TableFacts,
    field: FieldId,
) -> Result<(), NotUnderstood> {
    let column = table.column(field);
    if !column.ty.has_equality(column.collation) || !aggregate::looks_as_it_is(column) {
        return not_understood(format!(
            "values of {} ({}) may be equal and look different",
            column.name, column.type_name
        ));
    }
    if columns.iter().any(|other| other.field == field) {
        return not_understood(format!("it groups by {} twice", column.name));
    }
    columns.push(GroupColumn { field, is_ranked: !column.ty.has_order(column.collation) });
    Ok(())
}

/// Returns the result's columns, by the positions of their values.
fn output<'a>(
    values: &mut Values<'a, '_>,
    projection: &'a [SelectItem],
    facts: &StatementFacts,
) -> Result<Vec<usize>, NotUnderstood> {
    if projection.len() != facts.columns.len() {
        return not_understood("it selects more than groups' columns and aggregates");
    }
    let mut output = Vec::with_capacity(projection.len());
    for (item, column) in projection.iter().zip(&facts.columns) {
        let (SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) = item else {
            return not_understood("it selects more than groups' columns and aggregates");
        };
        let value = values.value(expr)?;
        if values.values[value].ty != column.ty {
            return not_understood(format!("Postgres gives {} another type", column.name));
        }
        output.push(value);
    }
    Ok(output)
}

/// Returns by which values groups are ordered.
fn order<'a>(
    values: &mut Values<'a, '_>,
    outline: &'a Outline<'a>,
    facts: &StatementFacts,
    output: &[usize],
) -> Result<Vec<OrderGroups>, NotUnderstood> {
    let mut order = Vec::new();
    for item in outline.order_items()? {
        let OrderByExpr { expr, options, with_fill: None } = item else {
            return not_understood("its ORDER BY is more than columns");
        };
        let position = match expr {
            Expr::Value(_) => ordinal(expr),
            // A bare name is first the result's column, then the table's (PostgreSQL manual, SELECT, "ORDER BY").
            Expr::Identifier(ident) => {
                let name = folded(ident);
                facts.columns.iter().position(|column| Some(&column.name) == name.as_ref())
            }
            _ => None,
        };
        let value = match position.and_then(|position| output.get(position)) {
            Some(value) => *value,
            None => values.value(expr)?,
        };
        let (direction, nulls) = direction(options)?;
        order.push(OrderGroups { value, direction, nulls });
    }
    Ok(order)
}
