//! Columns that equal one another in every combination of rows that matters: what is said of one is said of all.
//!
//! `a.x = b.y` lets `a.x = $1` count for `b.y`, whatever the condition on `a.x` is, where both columns' values are
//! equal exactly when their keys are.

use crate::analyse::condition::same_keys;
use crate::analyse::joins::{ColumnRef, Required, Requirement};
use crate::analyse::scope::Scope;
use crate::facts::ColumnFacts;
use convoy_query_index::FieldId;
use convoy_types::PgType;

/// Which columns of a scope count as fields of one source.
#[derive(Debug)]
pub(crate) struct ColumnMap {
    source: usize,
    others: Vec<(ColumnRef, FieldId)>,
}

impl ColumnMap {
    /// Returns that a source's own columns count, and no others.
    pub(crate) fn own(source: usize) -> Self {
        ColumnMap { source, others: Vec::new() }
    }

    /// Returns the source's field that has a column's value.
    pub(crate) fn field(&self, column: ColumnRef) -> Option<FieldId> {
        if column.0 == self.source {
            return Some(column.1);
        }
        self.others.iter().find(|(other, _)| *other == column).map(|(_, field)| *field)
    }
}

/// What must be true where a row of one source matters, and which columns have its values then.
#[derive(Debug)]
pub(crate) struct EqualColumns<'a> {
    pub(crate) columns: ColumnMap,
    pub(crate) requirements: Vec<Requirement<'a>>,
}

impl<'a> EqualColumns<'a> {
    /// Returns what must be true for a source's row to matter.
    pub(crate) fn of(scope: &Scope<'a>, source: usize) -> Self {
        let requirements = all_requirements(scope, source);
        let mut classes: Vec<Vec<ColumnRef>> = Vec::new();
        for (left, right) in requirements.iter().filter_map(|required| required.equality(scope)) {
            if !compare_by_keys(scope.facts_of(left), scope.facts_of(right)) {
                continue;
            }
            let mut joined = vec![left, right];
            classes.retain_mut(|class| {
                let shared = class.contains(&left) || class.contains(&right);
                if shared {
                    joined.append(class);
                }
                !shared
            });
            classes.push(joined);
        }
        let mut others = Vec::new();
        for class in &classes {
            let own = class.iter().filter(|column| column.0 == source).map(|column| column.1);
            if let Some(field) = own.min() {
                others.extend(
                    class.iter().filter(|column| column.0 != source).map(|column| (*column, field)),
                );
            }
        }
        EqualColumns { columns: ColumnMap { source, others }, requirements }
    }
}

/// Returns a source's requirements, and those of every source whose row must be there for them to be true: a row that
/// an outer join found has met the join's condition.
fn all_requirements<'a>(scope: &Scope<'a>, source: usize) -> Vec<Requirement<'a>> {
    let nulled = &scope.sources[source].nulled;
    let mut required = scope.sources[source].requirements.clone();
    let mut found = vec![false; scope.sources.len()];
    found[source] = true;
    let mut looked_at = 0;
    while let Some(requirement) = required.get(looked_at) {
        looked_at += 1;
        let present = (0..scope.sources.len())
            .filter(|&other| !found[other] && requirement.rejects_nulls_of(other))
            .collect::<Vec<_>>();
        for other in present {
            found[other] = true;
            let of_other = scope.sources[other].requirements.iter();
            for new in of_other.filter(|new| new.is_free_of(nulled)) {
                if !required.iter().any(|known| known.is_same_as(new)) {
                    required.push(new.clone());
                }
            }
        }
    }
    required
}

impl Requirement<'_> {
    fn is_same_as(&self, other: &Requirement<'_>) -> bool {
        match (&self.what, &other.what) {
            (Required::Holds(left, _), Required::Holds(right, _)) => std::ptr::eq(*left, *right),
            (Required::Equal(left, right), Required::Equal(other_left, other_right)) => {
                (left, right) == (other_left, other_right)
            }
            (Required::Unclear, Required::Unclear) => true,
            _ => false,
        }
    }
}

/// Returns whether Postgres finds two columns' values equal exactly when their keys are.
fn compare_by_keys(left: &ColumnFacts, right: &ColumnFacts) -> bool {
    let same = match (&left.ty, &right.ty) {
        (PgType::Enum, PgType::Enum) => left.type_oid == right.type_oid,
        (left, right) => same_keys(left, right),
    };
    same && left.ty.has_equality(left.collation) && right.ty.has_equality(right.collation)
}
