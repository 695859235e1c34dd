//! Window plans: one table, filter, projection, order and limit, kept from the row changes themselves.

mod limit;
mod order;
mod sql;

use crate::analyse::clauses::Clauses;
use crate::analyse::condition::ConditionReader;
use crate::analyse::constants::Constants;
use crate::analyse::equal_columns::ColumnMap;
use crate::analyse::outline::{Outline, is_plain_wildcard};
use crate::analyse::scope::{NotUnderstood, Scope, folded, name_parts, not_understood};
use crate::derived::{DerivedField, columns_of};
use crate::facts::{Publication, StatementFacts, TableFacts, TableKind};
use crate::template::{Direction, OrderBy, SlotSpec, WindowPlan};
use convoy_query_index::{
    CompareOp, Condition, FieldId, FieldSet, OldRows, Operand, Predicate, SlotId,
};
use convoy_types::ReplicaIdentity;
pub(super) use limit::limit;
pub(in crate::analyse) use order::direction;
use order::order;
pub(super) use sql::output_text;
use sql::sql;
use sqlparser::ast::{ObjectName, SelectItem, SelectItemQualifiedWildcardKind};

/// What a window plan adds to the template.
pub(crate) struct Window {
    pub(crate) plan: WindowPlan,
    pub(crate) predicate: Predicate,
    pub(crate) slots: Vec<SlotSpec>,
    pub(crate) derived: Vec<DerivedField>,
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
    fields.union_with(&columns_of(&condition.fields(), &derived));
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
        boundary: None,
        derived: derived.clone(),
    };
    plan.sql = sql(&plan, name, clauses.selection()).into();
    let old_rows = match table.identity {
        ReplicaIdentity::Full => OldRows::Condition,
        ReplicaIdentity::Default | ReplicaIdentity::Nothing | ReplicaIdentity::Index => {
            OldRows::Membership
        }
    };
    let condition = match boundary(&plan, slots.len()) {
        None => condition,
        Some((slot, at_boundary)) => {
            plan.boundary = Some(slot);
            match condition {
                Condition::And(mut parts) => {
                    parts.push(at_boundary);
                    Condition::And(parts)
                }
                condition => Condition::And(vec![condition, at_boundary]),
            }
        }
    };
    let predicate = Predicate { relation: table.id, condition, fields, old_rows, unheld: None };
    Ok(Window { plan, predicate, slots, derived })
}

/// Returns the condition of rows at the boundary of a limit or above it, and its slot, the first one that is free.
fn boundary(plan: &WindowPlan, slots: usize) -> Option<(SlotId, Condition)> {
    plan.limit?;
    let leading = plan.leading()?;
    let field = plan.source[leading.source];
    let slot = SlotId(u16::try_from(slots).ok()?);
    // Rows with the same value count: the columns behind it decide.
    let op = match leading.direction {
        Direction::Ascending => CompareOp::Le,
        Direction::Descending => CompareOp::Ge,
    };
    let at_boundary = Condition::Compare { field, op, operand: Operand::Slot(slot) };
    if plan.table.column(field).not_null || plan.table.primary_key.contains(&field) {
        return Some((slot, at_boundary));
    }
    // Nulls compare with nothing, and stand at either end of the order.
    Some((slot, Condition::Or(vec![at_boundary, Condition::IsNull(field)])))
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
    let all = table.fields();
    for item in projection {
        match item {
            SelectItem::UnnamedExpr(expr) => match scope.column(expr, &scope.all()) {
                Some((_, field)) => push(field, None)?,
                None => return not_understood("it selects more than plain columns"),
            },
            SelectItem::ExprWithAlias { expr, alias } => {
                match (scope.column(expr, &scope.all()), folded(alias)) {
                    (Some((_, field)), Some(name)) => push(field, Some(name))?,
                    _ => return not_understood("it selects more than plain columns"),
                }
            }
            SelectItem::Wildcard(options) if is_plain_wildcard(options) => {
                all.iter().try_for_each(|field| push(field, None))?;
            }
            SelectItem::QualifiedWildcard(
                SelectItemQualifiedWildcardKind::ObjectName(name),
                options,
            ) if is_plain_wildcard(options) && is_source(scope, name) => {
                all.iter().try_for_each(|field| push(field, None))?;
            }
            _ => return not_understood("it selects more than plain columns"),
        }
    }
    Ok(output)
}

fn is_source(scope: &Scope<'_>, name: &ObjectName) -> bool {
    matches!(name_parts(name).as_deref(), Some([name]) if scope.source(name) == Some(0))
}
