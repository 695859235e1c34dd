//! Joins: what must be true of the rows that a table's row is joined with, for it to matter to the result.
//!
//! A row of an inner join's table matters only in a combination of rows that meets every condition. A row on the
//! nullable side of an outer join has an effect in two ways: it adds combinations, which its join's condition must
//! meet, and it takes away the one in which its side is null. So of the conditions further out those count that don't
//! mention that side, for they are the same in both; unless one of them is never true where that side is null: then
//! the other combination is in no result, and the join is an inner one.

use crate::analyse::condition::chain;
use crate::analyse::scope::{Scope, name_parts};
use convoy_query_index::FieldId;
use convoy_types::PgType;
use sqlparser::ast::{BinaryOperator, Expr, JoinConstraint, UnaryOperator};
use std::ops::Range;

/// Expressions nested deeper are not looked into.
const DEPTH_MAX: usize = 50;

/// A column of a scope: which source, and which of its fields.
pub(crate) type ColumnRef = (usize, FieldId);

/// Which sides of a join keep rows without a match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JoinKind {
    Inner,
    Left,
    Right,
    Full,
}

/// A set of sources, by position; none where it may be any.
type Sources = Option<u64>;

/// Something that must be true of a combination of rows.
#[derive(Clone, Debug)]
pub(crate) struct Requirement<'a> {
    pub(crate) what: Required<'a>,
    /// The sources whose rows decide it.
    mentions: Sources,
    /// Sources that it is never true for where their columns are null.
    rejects_nulls_of: u64,
}

/// What is required.
#[derive(Clone, Debug)]
pub(crate) enum Required<'a> {
    /// That the expression is true, in which the sources of this range are visible.
    Holds(&'a Expr, Range<usize>),
    /// That two columns, merged by `USING` or `NATURAL`, are equal.
    Equal(ColumnRef, ColumnRef),
    /// The same of columns that can't be told.
    Unclear,
}

/// Sources that are null together where an outer join finds no match.
#[derive(Clone, Debug)]
pub(crate) struct Nulled {
    range: Range<usize>,
    /// Whether a condition further out may see the difference between a match of theirs and none.
    pub(crate) is_looked_at: bool,
}

/// A column that `USING` or `NATURAL` makes of two.
#[derive(Clone, Debug)]
pub(crate) struct MergedColumn {
    pub(crate) name: String,
    /// The sources that are joined.
    pub(crate) range: Range<usize>,
    /// The column that it is the same as; none where it is either of two, or of another type.
    pub(crate) column: Option<ColumnRef>,
}

impl<'a> Requirement<'a> {
    /// Returns that an expression is true.
    pub(crate) fn holds(scope: &Scope<'_>, expr: &'a Expr, visible: Range<usize>) -> Self {
        let mut mentions = 0;
        let known = mention(scope, expr, &visible, &mut mentions, 0);
        let rejects_nulls_of = rejects_nulls_of(scope, expr, &visible, 0);
        Requirement {
            what: Required::Holds(expr, visible),
            mentions: known.map(|()| mentions),
            rejects_nulls_of,
        }
    }

    fn equal(left: ColumnRef, right: ColumnRef) -> Self {
        let both = bit(left.0).zip(bit(right.0)).map(|(left, right)| left | right);
        Requirement {
            what: Required::Equal(left, right),
            mentions: both,
            rejects_nulls_of: both.unwrap_or(0),
        }
    }

    fn unclear() -> Self {
        Requirement { what: Required::Unclear, mentions: None, rejects_nulls_of: 0 }
    }

    /// Returns whether it is never true where the source's columns are null.
    pub(crate) fn rejects_nulls_of(&self, source: usize) -> bool {
        bit(source).is_some_and(|bit| self.rejects_nulls_of & bit != 0)
    }

    /// Returns whether none of these sources has a say in it.
    pub(crate) fn is_free_of(&self, nulled: &[Nulled]) -> bool {
        nulled.iter().all(|nulled| {
            self.mentions.is_some_and(|mentions| {
                nulled
                    .range
                    .clone()
                    .all(|source| bit(source).is_some_and(|bit| mentions & bit == 0))
            })
        })
    }

    /// Returns the two columns that it requires to be equal, if that is what it does.
    pub(crate) fn equality(&self, scope: &Scope<'_>) -> Option<(ColumnRef, ColumnRef)> {
        match &self.what {
            Required::Equal(left, right) => Some((*left, *right)),
            Required::Unclear => None,
            Required::Holds(expr, visible) => match expr {
                Expr::BinaryOp { left, op: BinaryOperator::Eq, right } => {
                    Some((scope.column(left, visible)?, scope.column(right, visible)?))
                }
                _ => None,
            },
        }
    }
}

fn bit(source: usize) -> Option<u64> {
    1u64.checked_shl(u32::try_from(source).ok()?)
}

impl<'a> Scope<'a> {
    /// Takes a join in.
    pub(super) fn join(
        &mut self,
        kind: JoinKind,
        left: Range<usize>,
        right: Range<usize>,
        constraint: &'a JoinConstraint,
    ) {
        let both = left.start..right.end;
        let required = match constraint {
            JoinConstraint::On(condition) => conjuncts(condition)
                .into_iter()
                .map(|expr| Requirement::holds(self, expr, both.clone()))
                .collect(),
            JoinConstraint::Using(columns) => {
                let names = columns.iter().map(|column| name_parts(column)?.pop());
                match names.collect::<Option<Vec<_>>>() {
                    Some(names) => self.merge(kind, &left, &right, names),
                    None => {
                        self.merges_unknown = true;
                        Vec::new()
                    }
                }
            }
            JoinConstraint::Natural if !self.more => {
                let names = self.visible_names(&right);
                let shared =
                    self.visible_names(&left).into_iter().filter(|name| names.contains(name));
                let shared = shared.collect();
                self.merge(kind, &left, &right, shared)
            }
            JoinConstraint::Natural => {
                self.merges_unknown = true;
                Vec::new()
            }
            JoinConstraint::None => Vec::new(),
        };
        let (held_to_it, nulled) = match kind {
            JoinKind::Inner => (Some(both.clone()), Vec::new()),
            JoinKind::Left => (Some(right.clone()), vec![right]),
            JoinKind::Right => (Some(left.clone()), vec![left]),
            // What its condition does not meet is shown all the same, on either side.
            JoinKind::Full => (None, vec![left, right]),
        };
        if let Some(sources) = held_to_it {
            self.require(sources, &required);
        }
        self.look_at(both, &required);
        nulled.into_iter().for_each(|range| self.close(range));
    }

    /// Lets requirements count for sources: all combinations of their rows that go on must meet them.
    pub(super) fn require(&mut self, sources: Range<usize>, required: &[Requirement<'a>]) {
        for source in &mut self.sources[sources] {
            source.nulled.retain(|Nulled { range, .. }| {
                !range.clone().any(|nulled| {
                    required.iter().any(|requirement| requirement.rejects_nulls_of(nulled))
                })
            });
            let counting =
                required.iter().filter(|requirement| requirement.is_free_of(&source.nulled));
            source.requirements.extend(counting.cloned());
        }
    }

    /// Notes what conditions look at, whether they leave out what does not meet them or not.
    pub(super) fn look_at(&mut self, sources: Range<usize>, conditions: &[Requirement<'a>]) {
        for nulled in self.sources[sources].iter_mut().flat_map(|source| &mut source.nulled) {
            let of = std::slice::from_ref(&*nulled);
            nulled.is_looked_at |= !conditions.iter().all(|condition| condition.is_free_of(of));
        }
    }

    /// Notes that the sources are null together where there is no match.
    fn close(&mut self, range: Range<usize>) {
        for source in &mut self.sources[range.clone()] {
            source.nulled.push(Nulled { range: range.clone(), is_looked_at: false });
        }
    }

    /// Merges columns by name; returns their equalities.
    fn merge(
        &mut self,
        kind: JoinKind,
        left: &Range<usize>,
        right: &Range<usize>,
        names: Vec<String>,
    ) -> Vec<Requirement<'a>> {
        let mut required = Vec::new();
        for name in names {
            let sides = (self.visible_column(&name, left), self.visible_column(&name, right));
            let column = match sides {
                (Some(left), Some(right)) => {
                    required.push(Requirement::equal(left, right));
                    let (of_left, of_right) = (self.facts_of(left), self.facts_of(right));
                    let is_one_type = of_left.type_oid == of_right.type_oid
                        && of_left.ty == of_right.ty
                        && of_left.collation == of_right.collation;
                    match kind {
                        JoinKind::Inner | JoinKind::Left if is_one_type => Some(left),
                        JoinKind::Right if is_one_type => Some(right),
                        _ => None,
                    }
                }
                _ => {
                    required.push(Requirement::unclear());
                    None
                }
            };
            self.merged.push(MergedColumn { name, range: left.start..right.end, column });
        }
        required
    }

    /// Returns every name that a column of the sources has.
    fn visible_names(&self, range: &Range<usize>) -> Vec<String> {
        let mut names = Vec::new();
        for column in self.sources[range.clone()].iter().flat_map(|source| &source.table.columns) {
            if !names.contains(&column.name) {
                names.push(column.name.clone());
            }
        }
        names
    }

    /// Returns the column that an unqualified name means where these sources are visible.
    pub(super) fn visible_column(&self, name: &str, visible: &Range<usize>) -> Option<ColumnRef> {
        if self.merges_unknown {
            return None;
        }
        let within = |merged: &&MergedColumn| {
            merged.name == name
                && visible.start <= merged.range.start
                && merged.range.end <= visible.end
        };
        // Outer joins' columns come later, and are made of inner ones.
        if let Some(merged) = self.merged.iter().rev().find(within) {
            return merged.column;
        }
        let mut found = visible.clone().filter_map(|position| {
            let field = self.sources.get(position)?.table.field(name)?;
            Some((position, field))
        });
        match (found.next(), found.next()) {
            (Some(column), None) => Some(column),
            _ => None,
        }
    }
}

/// Takes a condition apart at its ANDs, also those in brackets.
pub(crate) fn conjuncts(condition: &Expr) -> Vec<&Expr> {
    let (mut found, mut rest) = (Vec::new(), vec![condition]);
    while let Some(part) = rest.pop() {
        match part {
            Expr::Nested(inner) => rest.push(inner),
            Expr::BinaryOp { op: BinaryOperator::And, .. } => {
                rest.extend(chain(part, &BinaryOperator::And).into_iter().rev());
            }
            _ => found.push(part),
        }
    }
    found
}

/// Adds the sources that an expression's value hangs on; none where they can't be told.
fn mention(
    scope: &Scope<'_>,
    expr: &Expr,
    visible: &Range<usize>,
    found: &mut u64,
    depth: usize,
) -> Option<()> {
    if depth > DEPTH_MAX {
        return None;
    }
    let mut all = |exprs: &[&Expr]| {
        exprs.iter().try_for_each(|expr| mention(scope, expr, visible, found, depth + 1))
    };
    match expr {
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) => {
            *found |= bit(scope.column(expr, visible)?.0)?;
            Some(())
        }
        Expr::Value(_) | Expr::TypedString(_) => Some(()),
        Expr::Nested(inner)
        | Expr::IsFalse(inner)
        | Expr::IsNotFalse(inner)
        | Expr::IsTrue(inner)
        | Expr::IsNotTrue(inner)
        | Expr::IsNull(inner)
        | Expr::IsNotNull(inner)
        | Expr::IsUnknown(inner)
        | Expr::IsNotUnknown(inner)
        | Expr::UnaryOp { expr: inner, .. }
        | Expr::Cast { expr: inner, .. } => all(&[inner]),
        Expr::BinaryOp { op: op @ (BinaryOperator::And | BinaryOperator::Or), .. } => {
            all(&chain(expr, op))
        }
        Expr::BinaryOp { left, right, .. }
        | Expr::IsDistinctFrom(left, right)
        | Expr::IsNotDistinctFrom(left, right)
        | Expr::AnyOp { left, right, .. }
        | Expr::AllOp { left, right, .. } => all(&[left, right]),
        Expr::Like { expr, pattern, .. } | Expr::ILike { expr, pattern, .. } => {
            all(&[expr, pattern])
        }
        Expr::Between { expr, low, high, .. } => all(&[expr, low, high]),
        Expr::InList { expr, list, .. } => {
            all(&[expr])?;
            all(&list.iter().collect::<Vec<_>>())
        }
        Expr::Array(array) => all(&array.elem.iter().collect::<Vec<_>>()),
        _ => None,
    }
}

/// Returns the sources for which the expression is never true where their columns are null; perhaps not all.
fn rejects_nulls_of(scope: &Scope<'_>, expr: &Expr, visible: &Range<usize>, depth: usize) -> u64 {
    // Operators of the user's own types may take nulls in their own way.
    let column = |expr: &Expr| {
        scope
            .column(expr, visible)
            .filter(|column| scope.facts_of(*column).ty != PgType::Other)
            .and_then(|column| bit(column.0))
            .unwrap_or(0)
    };
    match expr {
        Expr::Nested(inner) if depth < DEPTH_MAX => {
            rejects_nulls_of(scope, inner, visible, depth + 1)
        }
        Expr::BinaryOp {
            left,
            op:
                BinaryOperator::Eq
                | BinaryOperator::NotEq
                | BinaryOperator::Lt
                | BinaryOperator::LtEq
                | BinaryOperator::Gt
                | BinaryOperator::GtEq,
            right,
        } => column(left) | column(right),
        Expr::Between { expr, .. }
        | Expr::InList { expr, .. }
        | Expr::IsNotNull(expr)
        | Expr::IsTrue(expr)
        | Expr::IsFalse(expr)
        | Expr::UnaryOp { op: UnaryOperator::Not, expr }
        | Expr::Like { expr, any: false, .. }
        | Expr::AnyOp { left: expr, compare_op: BinaryOperator::Eq, .. } => column(expr),
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) => column(expr),
        _ => 0,
    }
}
