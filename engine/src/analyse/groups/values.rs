//! The values that are made of groups: their columns, aggregates, and aggregates with something in place of null; and
//! what is kept for them.

use super::aggregate::{Kind, call, result_type, scale};
use crate::analyse::condition::ConditionReader;
use crate::analyse::constants::{Constants, is_decimal};
use crate::analyse::equal_columns::ColumnMap;
use crate::analyse::scope::{NotUnderstood, Scope, name_parts, not_understood};
use crate::analyse::type_name::plain_type;
use crate::derived::DerivedField;
use crate::facts::{ColumnFacts, Publication, StatementFacts, TableFacts, TableKind};
use crate::groups::plan::{GroupColumn, GroupValue, State, StateKind, ValueOf, ValueSet};
use crate::template::SlotSpec;
use convoy_query_index::Condition;
use convoy_types::{Collation, PgType, ReplicaIdentity};
use sqlparser::ast::{
    CastKind, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, Value,
};
use std::sync::Arc;

/// Expressions nested deeper are not read.
const DEPTH_MAX: usize = 50;

/// Sets of values beyond this many are not read: GROUPING takes 31 arguments.
const SETS_MAX: usize = 16;

/// The values that were asked for so far, and what is kept for them.
pub(super) struct Values<'a, 'b> {
    scope: &'b Scope<'a>,
    facts: &'b StatementFacts,
    group_by: &'b [GroupColumn],
    pub(super) values: Vec<GroupValue>,
    /// How each value's texts compare.
    collations: Vec<Collation>,
    pub(super) states: Vec<State>,
    pub(super) sets: Vec<ValueSet>,
    /// The conditions of FILTERs, in the select list's order.
    filters: Vec<&'a Expr>,
    /// Whether the select list is read: then a FILTER must be one of those there.
    filters_are_read: bool,
}

impl<'a, 'b> Values<'a, 'b> {
    pub(super) fn new(
        scope: &'b Scope<'a>,
        facts: &'b StatementFacts,
        group_by: &'b [GroupColumn],
    ) -> Self {
        let table = scope.sources[0].table;
        let of = |(at, group): (usize, &GroupColumn)| {
            let ty = table.column(group.field).ty.clone();
            GroupValue { of: ValueOf::Group(at), ty, or_else: None }
        };
        let collation = |group: &GroupColumn| table.column(group.field).collation;
        Values {
            scope,
            facts,
            group_by,
            values: group_by.iter().enumerate().map(of).collect(),
            collations: group_by.iter().map(collation).collect(),
            states: Vec::new(),
            sets: Vec::new(),
            filters: Vec::new(),
            filters_are_read: false,
        }
    }

    /// Returns the position of the value that an expression is.
    pub(super) fn value(&mut self, expr: &'a Expr) -> Result<usize, NotUnderstood> {
        match self.find(expr, 0)? {
            Some(value) => Ok(value),
            None => not_understood("it computes with more than groups' columns and aggregates"),
        }
    }

    /// Returns the position of the value that an expression is, if it is one.
    fn find(&mut self, expr: &'a Expr, depth: usize) -> Result<Option<usize>, NotUnderstood> {
        if depth > DEPTH_MAX {
            return Ok(None);
        }
        if let Expr::Nested(inner) = expr {
            return self.find(inner, depth + 1);
        }
        if let Some((_, field)) = self.scope.column(expr, &self.scope.all()) {
            let position = self.group_by.iter().position(|group| group.field == field);
            return match position {
                Some(position) => Ok(Some(position)),
                None => not_understood("it shows columns that GROUP BY does not name"),
            };
        }
        if let Some((inner, or_else)) = coalesce(expr) {
            let Some(value) = self.find(inner, depth + 1)? else { return Ok(None) };
            let mut value = self.values[value].clone();
            let or_else = match value.ty {
                // Beside a number with a point it would be another type.
                PgType::Int4 | PgType::Int8 => {
                    or_else.parse::<i32>().ok().map(|number| number.to_string())
                }
                PgType::Numeric => is_decimal(&or_else).then_some(or_else),
                _ => None,
            };
            if or_else.is_none() || value.or_else.is_some() {
                return not_understood("its coalesce is of more than an aggregate and a number");
            }
            value.or_else = or_else.map(Into::into);
            return Ok(Some(self.push(value, Collation::None)));
        }
        if let Expr::Cast {
            kind: CastKind::Cast | CastKind::DoubleColon,
            expr: inner,
            data_type,
            format: None,
            ..
        } = expr
        {
            let Some(value) = self.find(inner, depth + 1)? else { return Ok(None) };
            let ty = plain_type(data_type);
            return self.cast(value, ty).map(Some);
        }
        let Some(call) = call(expr, self.scope, self.facts)? else { return Ok(None) };
        let table = self.scope.sources[0].table;
        let column = call.column.map(|field| table.column(field));
        let ty = result_type(call.kind, column)?;
        let filter = match call.filter {
            None => None,
            Some(filter) if !self.filters_are_read => {
                self.filters.push(filter);
                Some(self.filters.len() - 1)
            }
            Some(filter) => match self.filters.iter().position(|known| *known == filter) {
                Some(known) => Some(known),
                None => return not_understood("it filters otherwise than in its select list"),
            },
        };
        let kind = match (call.kind, call.column) {
            (Kind::Count, _) => StateKind::Count,
            (Kind::Sum | Kind::Average, Some(field)) => match column.map(|column| &column.ty) {
                Some(PgType::Numeric) => StateKind::NumericSum {
                    scale: scale(table.column(field), || self.set(ValueSet::Scale(field))),
                },
                _ => StateKind::Sum,
            },
            (_, Some(field)) => StateKind::Values { set: self.set(ValueSet::Column(field)) },
            (_, None) => return not_understood("an aggregate is of no column"),
        };
        let grouped = |field| self.group_by.iter().any(|group| group.field == field);
        if matches!(kind, StateKind::Values { .. }) && call.column.is_some_and(grouped) {
            return not_understood("it looks for the values of a column that it groups by");
        }
        if self.sets.len() > SETS_MAX {
            return not_understood("it has too many aggregates");
        }
        let state = self.state(State { column: call.column, filter, kind });
        let of = match call.kind {
            Kind::Count => ValueOf::Count(state),
            Kind::Distinct => ValueOf::Distinct(state),
            Kind::Sum => ValueOf::Sum(state),
            Kind::Average => ValueOf::Average(state),
            Kind::Least => ValueOf::Least(state),
            Kind::Greatest => ValueOf::Greatest(state),
        };
        let collation = column.map_or(Collation::None, |column| column.collation);
        Ok(Some(self.push(GroupValue { of, ty, or_else: None }, collation)))
    }

    /// Returns the position of a value that is cast: a whole number to another type of them.
    fn cast(&mut self, value: usize, ty: Option<PgType>) -> Result<usize, NotUnderstood> {
        let mut value = self.values[value].clone();
        let is_whole = match value.of {
            ValueOf::Count(_) | ValueOf::Distinct(_) => true,
            ValueOf::Sum(state) => self.states[state].kind == StateKind::Sum,
            _ => false,
        };
        let or_else = value.or_else.as_deref().unwrap_or("0");
        match ty {
            Some(ty @ (PgType::Int2 | PgType::Int4 | PgType::Int8 | PgType::Numeric))
                // A number that fits into the least of them.
                if is_whole && or_else.parse::<i16>().is_ok() =>
            {
                value.ty = ty;
                Ok(self.push(value, Collation::None))
            }
            _ => not_understood("it casts more than whole numbers to whole numbers"),
        }
    }

    fn push(&mut self, value: GroupValue, collation: Collation) -> usize {
        if let Some(known) = self.values.iter().position(|known| *known == value) {
            return known;
        }
        self.values.push(value);
        self.collations.push(collation);
        self.values.len() - 1
    }

    fn state(&mut self, state: State) -> usize {
        if let Some(known) = self.states.iter().position(|known| *known == state) {
            return known;
        }
        self.states.push(state);
        self.states.len() - 1
    }

    fn set(&mut self, set: ValueSet) -> usize {
        if let Some(known) = self.sets.iter().position(|known| *known == set) {
            return known;
        }
        self.sets.push(set);
        self.sets.len() - 1
    }

    /// Reads the conditions of the select list's FILTERs, of which the text has so many.
    pub(super) fn read_filters(
        &mut self,
        count: usize,
        constants: &mut Constants,
        slots: &mut Vec<SlotSpec>,
        derived: &mut Vec<DerivedField>,
    ) -> Result<Vec<Condition>, NotUnderstood> {
        self.filters_are_read = true;
        if self.filters.len() != count {
            return not_understood("its FILTERs are not understood");
        }
        let mut filters = Vec::with_capacity(count);
        for filter in &self.filters {
            let columns = ColumnMap::own(0);
            let filter = ConditionReader::new(self.scope, &columns, self.facts, constants, slots)
                .with_derived(derived)
                .read(filter);
            if !filter.is_exact() {
                return not_understood(
                    "a FILTER has more than comparisons of columns with values of their own type",
                );
            }
            filters.push(filter);
        }
        Ok(filters)
    }

    /// Reads a HAVING: a condition on the values, as if they were a table's columns.
    pub(super) fn read_having(
        &mut self,
        having: &'a Expr,
        constants: &mut Constants,
        slots: &mut Vec<SlotSpec>,
    ) -> Result<Condition, NotUnderstood> {
        let having = self.by_position(having, 0)?;
        let table = Arc::new(self.as_table());
        let scope = Scope::of_table(&table);
        let columns = ColumnMap::own(0);
        let condition =
            ConditionReader::new(&scope, &columns, self.facts, constants, slots).read(&having);
        if !condition.is_exact() {
            return not_understood(
                "its HAVING has more than comparisons of aggregates with values of their own type",
            );
        }
        Ok(condition)
    }

    /// Returns a condition with a column's name in place of each value.
    fn by_position(&mut self, expr: &'a Expr, depth: usize) -> Result<Expr, NotUnderstood> {
        if depth > DEPTH_MAX {
            return not_understood("its HAVING nests too deep");
        }
        let depth = depth + 1;
        let mut deeper = |expr: &'a Expr| self.by_position(expr, depth).map(Box::new);
        let again = match expr {
            Expr::Nested(inner) => Expr::Nested(deeper(inner)?),
            Expr::BinaryOp { left, op, right } => {
                Expr::BinaryOp { left: deeper(left)?, op: op.clone(), right: deeper(right)? }
            }
            Expr::UnaryOp { op, expr } if matches!(**expr, Expr::Value(_)) => {
                Expr::UnaryOp { op: *op, expr: expr.clone() }
            }
            Expr::UnaryOp { op, expr } => Expr::UnaryOp { op: *op, expr: deeper(expr)? },
            Expr::Between { expr, negated, low, high } => Expr::Between {
                expr: deeper(expr)?,
                negated: *negated,
                low: deeper(low)?,
                high: deeper(high)?,
            },
            Expr::InList { expr, list, negated } => Expr::InList {
                expr: deeper(expr)?,
                list: list
                    .iter()
                    .map(|item| deeper(item).map(|item| *item))
                    .collect::<Result<_, _>>()?,
                negated: *negated,
            },
            Expr::IsNull(inner) => Expr::IsNull(deeper(inner)?),
            Expr::IsNotNull(inner) => Expr::IsNotNull(deeper(inner)?),
            Expr::Value(_) | Expr::TypedString(_) => expr.clone(),
            Expr::Cast { expr: inner, .. } if matches!(**inner, Expr::Value(_)) => expr.clone(),
            _ => match self.find(expr, depth)? {
                Some(value) => Expr::Identifier(Ident::with_quote('"', column_name(value))),
                None => {
                    return not_understood(
                        "its HAVING has more than comparisons of aggregates with values of their own type",
                    );
                }
            },
        };
        Ok(again)
    }

    /// Returns the values as the columns of a table.
    fn as_table(&self) -> TableFacts {
        let table = self.scope.sources[0].table;
        let column = |(at, value): (usize, &GroupValue)| ColumnFacts {
            name: column_name(at),
            ty: value.ty.clone(),
            // An enum is compared with its own kind alone.
            type_oid: match value.of {
                ValueOf::Group(group) => table.column(self.group_by[group].field).type_oid,
                _ => 0,
            },
            type_name: match value.of {
                ValueOf::Group(group) => table.column(self.group_by[group].field).type_name.clone(),
                _ => value.ty.name().to_owned(),
            },
            scale: None,
            collation: self.collations[at],
            generated: false,
            not_null: false,
        };
        TableFacts {
            id: table.id,
            kind: TableKind::Plain,
            namespace: String::new(),
            name: String::new(),
            columns: self.values.iter().enumerate().map(column).collect(),
            primary_key: Vec::new(),
            identity: ReplicaIdentity::Full,
            publication: Publication::Full,
            row_security: false,
            leaves: Vec::new(),
        }
    }
}

fn column_name(value: usize) -> String {
    format!("value {value}")
}

/// Reads `coalesce(x, number)`.
fn coalesce(expr: &Expr) -> Option<(&Expr, String)> {
    let Expr::Function(Function {
        name,
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(list),
        within_group,
        filter: None,
        null_treatment: None,
        over: None,
    }) = expr
    else {
        return None;
    };
    let is_it = name_parts(name)?.as_slice() == ["coalesce"]
        && within_group.is_empty()
        && list.duplicate_treatment.is_none()
        && list.clauses.is_empty();
    match list.args.as_slice() {
        [
            FunctionArg::Unnamed(FunctionArgExpr::Expr(inner)),
            FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(literal))),
        ] if is_it => match &literal.value {
            Value::Number(digits, false) => Some((inner, digits.clone())),
            _ => None,
        },
        _ => None,
    }
}

/// Returns whether an expression calls an aggregate, as far as one looks for that here.
pub(super) fn calls_aggregate(expr: &Expr, facts: &StatementFacts) -> bool {
    let mut rest = vec![expr];
    while let Some(expr) = rest.pop() {
        match expr {
            Expr::Nested(inner) | Expr::UnaryOp { expr: inner, .. } => rest.push(inner),
            Expr::Cast { expr: inner, .. } => rest.push(inner),
            Expr::BinaryOp { left, right, .. } => rest.extend([&**left, &**right]),
            Expr::Function(function) => {
                let name = name_parts(&function.name).and_then(|mut parts| parts.pop());
                let is_aggregate = name.is_some_and(|name| {
                    facts.functions.iter().any(|known| known.name == name && known.aggregate)
                });
                if is_aggregate && function.over.is_none() {
                    return true;
                }
                if let FunctionArguments::List(list) = &function.args {
                    rest.extend(list.args.iter().filter_map(|arg| match arg {
                        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
                        _ => None,
                    }));
                }
            }
            _ => {}
        }
    }
    false
}
