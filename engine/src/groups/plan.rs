//! What an aggregate's plan says: which rows count, what is kept of each group, and what is shown of that.

use crate::derived::DerivedField;
use crate::facts::TableFacts;
use crate::template::{Count, Direction, Nulls, RefreshPlan};
use convoy_query_index::{Condition, FieldId};
use convoy_types::PgType;
use std::sync::Arc;

/// Aggregates over one table, perhaps in groups: kept from the row changes, of which the stream tells old rows too.
#[derive(Debug)]
pub struct GroupsPlan {
    /// The table; its identity is FULL.
    pub table: Arc<TableFacts>,
    /// Reads the state of all groups, with the statement's own parameters: for each group a row, and for each value of
    /// each of `sets` in a group another one. Its columns, all of them texts: those of `group_by`, in their types' output
    /// text; the rank among its like of each that is ranked; for each set the value, which means something where the
    /// number behind these has the bit of that set, the last one's the lowest, at 0 (it is not there without sets); the
    /// number of rows; then what each of `states` needs ([`StateKind`]).
    pub sql: Arc<str>,
    /// Which rows count: exact, without [`Condition::Unknown`].
    pub condition: Condition,
    /// The columns of GROUP BY; none where all rows are one group, which is there even without rows.
    pub group_by: Vec<GroupColumn>,
    /// The conditions of FILTER, as exact.
    pub filters: Vec<Condition>,
    /// What is kept of each group.
    pub states: Vec<State>,
    /// What the values in a group's collections are read of.
    pub sets: Vec<ValueSet>,
    /// What is made of a group: first its columns, then aggregates.
    pub values: Vec<GroupValue>,
    /// The result's columns, by position in `values`.
    pub output: Vec<usize>,
    /// Which groups are shown; its fields are positions in `values`.
    pub having: Option<Condition>,
    /// The order; that of the groups' columns follows by itself.
    pub order: Vec<OrderGroups>,
    /// At most so many groups.
    pub limit: Option<Count>,
    /// From this one on.
    pub offset: Option<Count>,
    /// The values inside of jsonb columns that `condition` and `filters` are on.
    pub derived: Vec<DerivedField>,
    /// How the result is read where its groups can't be kept: what they hold may be too much, or too large a number.
    pub refresh: RefreshPlan,
}

/// A column of GROUP BY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupColumn {
    /// Which one.
    pub field: FieldId,
    /// Whether the order of its values is Postgres' own: then their ranks are read, and a value that has none yet is
    /// read anew.
    pub is_ranked: bool,
}

/// Something that is kept of each group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// The column that it is of; none where it is of rows.
    pub column: Option<FieldId>,
    /// Which rows of the group count, by position in [`GroupsPlan::filters`]; none where all do.
    pub filter: Option<usize>,
    /// What it is.
    pub kind: StateKind,
}

/// What kind of state it is, and what the plan's statement reads for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateKind {
    /// How many rows, or how many of them have a value. Reads that.
    Count,
    /// The sum of whole numbers. Reads the sum and how many have a value.
    Sum,
    /// The sum of numerics. Reads the sum of finite ones, how many these are, and how many are NaN, Infinity and
    /// -Infinity.
    NumericSum {
        /// How many digits they have behind the point.
        scale: Scale,
    },
    /// Each value that occurs, and how often. Reads how many have a value: in the rows of a set how often it occurs.
    Values {
        /// The position in [`GroupsPlan::sets`] of where the values are.
        set: usize,
    },
}

/// How many digits numerics have behind the point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Always this many: the column says so.
    Fixed(u32),
    /// It varies; how often each occurs is in the set at this position in [`GroupsPlan::sets`].
    Varies(usize),
}

/// What is counted by value in each group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueSet {
    /// A column's values.
    Column(FieldId),
    /// The scales of a numeric column's.
    Scale(FieldId),
}

/// A value that is made of a group's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupValue {
    /// What it is.
    pub of: ValueOf,
    /// Its type. A whole number may be cast to another type of them.
    pub ty: PgType,
    /// What stands for null, as output text (`coalesce`).
    pub or_else: Option<Box<str>>,
}

/// What a value is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueOf {
    /// A column of GROUP BY, by position.
    Group(usize),
    /// `count(*)`, `count(x)`: a state, by position, as all that follow.
    Count(usize),
    /// `sum(x)`
    Sum(usize),
    /// `avg(x)`
    Average(usize),
    /// `min(x)`
    Least(usize),
    /// `max(x)`
    Greatest(usize),
    /// `count(DISTINCT x)`
    Distinct(usize),
}

/// One item of an ORDER BY over groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderGroups {
    /// The position in [`GroupsPlan::values`].
    pub value: usize,
    /// Which way.
    pub direction: Direction,
    /// Where nulls stand.
    pub nulls: Nulls,
}
