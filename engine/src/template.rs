//! What the analysis makes of a statement: how its result is read, kept and found.

pub use crate::groups::plan::{
    GroupColumn, GroupValue, GroupsPlan, OrderGroups, Scale, State, StateKind, ValueOf, ValueSet,
};

use crate::analyse::Pattern;
use crate::array::array_elements;
use crate::database::{ErrorCode, QueryError};
use crate::derived::DerivedField;
use crate::facts::{OutputColumn, ParamType, TableFacts};
use crate::live_query::KeptBy;
use crate::statement::Statement;
use crate::tables::field_values;
use convoy_query_index::{Condition, FieldId, FieldSet, FieldValue, Predicate, SlotId, SlotValue};
use convoy_types::{Datum, Key, ParseValueError, PgType, RelationId};
use std::convert::Infallible;
use std::sync::Arc;

/// Where a slot of the predicates takes its value from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotSpec {
    /// The parameter, counted from 0.
    pub param: usize,
    /// The type by which the argument's text is encoded: that of the column it is compared with.
    pub ty: PgType,
    /// What of the argument is compared.
    pub reads: SlotReads,
}

/// What of an argument a slot takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotReads {
    /// The argument itself.
    Value,
    /// The elements of an array (`= ANY($1)`, `&& $1`).
    Elements,
    /// One of the elements of an array, for what must have all of them (`@> $1`).
    AnElement,
    /// What a text begins with that meets the pattern (`LIKE $1`).
    PatternStart,
}

impl SlotSpec {
    fn value_of(&self, args: &[Option<Arc<str>>]) -> Result<SlotValue, ParseValueError> {
        self.value(args.get(self.param).and_then(Option::as_deref))
    }

    /// Returns the slot's value for an argument in output text.
    fn value(&self, text: Option<&str>) -> Result<SlotValue, ParseValueError> {
        let key = |text: &str| Key::of(&self.ty, text.as_bytes());
        let Some(text) = text else { return Ok(SlotValue::One(None)) };
        match self.reads {
            SlotReads::Value => Ok(SlotValue::One(Some(key(text)?))),
            SlotReads::PatternStart => Ok(SlotValue::One(Some(key(&Pattern::start(text))?))),
            SlotReads::Elements => {
                let elements = array_elements(text);
                let keys = elements.iter().map(|element| element.as_deref().map(key).transpose());
                Ok(SlotValue::Many(keys.collect::<Result<_, _>>()?))
            }
            SlotReads::AnElement => match array_elements(text).iter().flatten().next() {
                Some(element) => Ok(SlotValue::One(Some(key(element)?))),
                // Every array has all elements of an empty one; and null elements are not looked for here.
                None => Ok(SlotValue::Open),
            },
        }
    }
}

/// A statement, analysed: all that live queries of it share.
#[derive(Debug)]
pub struct QueryTemplate {
    /// What somebody wrote.
    pub statement: Arc<Statement>,
    /// The parameters' types.
    pub params: Vec<ParamType>,
    /// The columns of the result.
    pub columns: Arc<[OutputColumn]>,
    /// Every table that it reads; what a read locks. Views are left out.
    pub tables: Vec<Arc<TableFacts>>,
    /// How the result is kept up to date.
    pub plan: Plan,
    /// Which rows matter, for each table.
    pub predicates: Vec<Predicate>,
    /// What fills the predicates' slots.
    pub slots: Vec<SlotSpec>,
    /// The values inside of jsonb columns that the predicates' conditions are on.
    pub derived: Vec<DerivedField>,
    /// How results are read: what the reads of all its live queries have in common.
    pub read: Arc<ReadStatement>,
    /// How those are read that turn out to be too much for the plan to keep; none where there are none.
    pub read_unkept: Option<Arc<ReadStatement>>,
    /// How results are audited.
    pub audit: Audit,
    /// Why it is as it is, a sentence each, for `explain`.
    pub notes: Vec<String>,
}

/// The statement that reads results of a template, one by one or many at once.
#[derive(Debug)]
pub struct ReadStatement {
    /// Reads one result; all its columns are texts.
    pub sql: Arc<str>,
    /// The parameters' type oids.
    pub param_types: Arc<[u32]>,
    /// Whether many are read at once.
    pub batching: Batching,
}

/// How results are audited: read again, and compared with what is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audit {
    /// A difference is an error.
    Strict,
    /// Postgres may show the same rows in several ways (another order of a float's sum, one of several equals): a
    /// difference is shown and no error.
    Lenient,
    /// Not at all: results change without a write that is seen.
    Never,
}

/// Whether the results of many live queries of a template are read by one statement.
#[derive(Debug)]
pub enum Batching {
    /// By this one, unless the database thinks otherwise.
    Together(BatchStatement),
    /// Each by its own, for this reason.
    Singly(String),
}

/// Reads many results at once (`analyse/batch.rs`).
#[derive(Debug)]
pub struct BatchStatement {
    /// Takes an array for each parameter of [`ReadStatement::sql`]; all are of one length, an element for each result.
    /// Gives the rows of all results in order: the number of the result (int8, from 1 on), the row's place in it (int8),
    /// and the columns that `ReadStatement::sql` gives. A result without rows is not mentioned.
    pub sql: Arc<str>,
    /// For each parameter, whether its array is of texts, which the statement casts: arrays can't be in arrays.
    pub as_text: Box<[bool]>,
}

/// How a result is kept up to date.
#[derive(Debug)]
pub enum Plan {
    /// From the row changes themselves.
    Window(WindowPlan),
    /// From the row changes themselves, by what each group of rows comes to.
    Groups(GroupsPlan),
    /// By reading it again.
    Refresh(RefreshPlan),
}

/// Which way a column is ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Smallest first.
    Ascending,
    /// Largest first.
    Descending,
}

/// Where nulls stand in an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nulls {
    /// Before all values.
    First,
    /// After all values.
    Last,
}

/// One column of an ORDER BY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderBy {
    /// The column, by its position in [`WindowPlan::source`].
    pub source: usize,
    /// Which way.
    pub direction: Direction,
    /// Where nulls stand.
    pub nulls: Nulls,
}

/// A LIMIT or OFFSET.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// A constant.
    Constant(u64),
    /// A parameter, counted from 0; null means no limit (or no offset).
    Param(usize),
}

/// One table, filter, projection, order, limit: kept from the row changes.
#[derive(Debug)]
pub struct WindowPlan {
    /// The table, which has a primary key and publishes all its changes.
    pub table: Arc<TableFacts>,
    /// Reads the rows: each column of `source` in Postgres' *output text*, ordered, with the statement's own
    /// parameters. With a limit it reads `OFFSET 0` and `LIMIT offset + limit + spare` rows, where spare is
    /// `spare_rows(limit)` of this module in SQL's arithmetic.
    pub sql: Arc<str>,
    /// The table's columns that matter: those of the output, the order and the key.
    pub source: Vec<FieldId>,
    /// The output's columns, by their position in `source`.
    pub output: Vec<usize>,
    /// The primary key's columns, by their position in `source`.
    pub key: Vec<usize>,
    /// The order; the key's columns follow by themselves.
    pub order: Vec<OrderBy>,
    /// Which rows are in the result: exact, without [`Condition::Unknown`].
    pub condition: Condition,
    /// At most so many rows.
    pub limit: Option<Count>,
    /// From this one on.
    pub offset: Option<Count>,
    /// With a limit, the slot of the predicate that holds the boundary: what the last held row has in the first column
    /// of the order. Rows beyond it can't matter. It comes behind the slots that parameters fill.
    pub boundary: Option<SlotId>,
    /// The values inside of jsonb columns that the condition is on.
    pub derived: Vec<DerivedField>,
}

impl WindowPlan {
    /// Returns the first column of the order, by its position in `source`, and which way it runs.
    pub fn leading(&self) -> Option<OrderBy> {
        let of_key =
            || OrderBy { source: self.key[0], direction: Direction::Ascending, nulls: Nulls::Last };
        self.order.first().copied().or_else(|| (!self.key.is_empty()).then(of_key))
    }
}

/// Rows that a limited window reads beyond what it shows, so that a row that leaves need not cost a read.
/// In the plan's SQL: `least(limit / 2 + 8, 1000)`.
pub fn spare_rows(limit: u64) -> u64 {
    (limit / 2 + 8).min(1000)
}

/// How the rows of a refreshed result are told apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowKeys {
    /// The read appends this many text columns, which together are unique (primary keys, or GROUP BY columns).
    Appended(usize),
    /// Output columns by position (`@key`, or a key that is in the output anyway).
    Output(Vec<usize>),
    /// There is at most one row.
    OneRow,
    /// A hash of the row and its ordinal among equals.
    Hash,
}

/// Any other statement: read again when a row that it may depend on changes.
#[derive(Clone, Debug)]
pub struct RefreshPlan {
    /// Reads the result: each output column as `to_jsonb(column)::text`, null for null, in order, then what
    /// [`RowKeys::Appended`] says, as text; with the statement's own parameters.
    pub sql: Arc<str>,
    /// How rows are told apart.
    pub keys: RowKeys,
    /// Where its rows name the rows of tables that the index is told of.
    pub held: Vec<HeldTable>,
}

/// A table of which a result's rows name the rows that they come from, by its primary key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldTable {
    /// The table; the root, for a partitioned one.
    pub relation: RelationId,
    /// The first of the key's columns, among those that are appended.
    pub first: usize,
    /// The types of the key's columns.
    pub types: Box<[PgType]>,
}

impl Plan {
    /// Returns whether results are kept from the row changes.
    pub fn is_incremental(&self) -> bool {
        match self {
            Plan::Window(_) | Plan::Groups(_) => true,
            Plan::Refresh(_) => false,
        }
    }
}

impl QueryTemplate {
    /// Returns what a live query with these arguments puts in the predicates' slots; each argument in its type's
    /// output text, none for null. A boundary is open.
    ///
    /// # Errors
    /// [`ErrorCode::Internal`] where an argument's text is none of its type's.
    pub fn slot_values(&self, args: &[Option<Arc<str>>]) -> Result<Arc<[SlotValue]>, QueryError> {
        self.slots_by(|slot| slot.value_of(args)).map_err(|error| {
            let message = format!("an argument could not be read: {error}");
            QueryError::new(ErrorCode::Internal, message)
        })
    }

    /// Returns the same for arguments that may not be as their types print them: those stand for any value.
    pub(crate) fn slot_values_or_open(&self, args: &[Option<Arc<str>>]) -> Arc<[SlotValue]> {
        let value = |slot: &SlotSpec| Ok(slot.value_of(args).unwrap_or(SlotValue::Open));
        let Ok::<_, Infallible>(slots) = self.slots_by(value);
        slots
    }

    fn slots_by<E>(
        &self,
        value: impl Fn(&SlotSpec) -> Result<SlotValue, E>,
    ) -> Result<Arc<[SlotValue]>, E> {
        let has_boundary = matches!(&self.plan, Plan::Window(WindowPlan { boundary: Some(_), .. }));
        let boundary = has_boundary.then_some(Ok(SlotValue::Open));
        self.slots.iter().map(value).chain(boundary).collect()
    }

    /// Returns a row's values as the predicates on its table test them; columns by their field.
    pub fn field_values(&self, table: &TableFacts, row: &[Datum]) -> Box<[FieldValue]> {
        let of_table = |predicate: &&Predicate| predicate.relation == table.id;
        let mut tested = FieldSet::default();
        for predicate in self.predicates.iter().filter(of_table) {
            tested.union_with(&predicate.condition.fields());
        }
        field_values(table, self.derived_of(table.id), row, &tested)
    }

    /// Returns the name of a table's column by its field, or what a derived field reads.
    pub fn field_name(&self, relation: RelationId, field: FieldId) -> String {
        let table = self.tables.iter().find(|table| table.id == relation);
        let derived = self.derived_of(relation).find(|derived| derived.field == field);
        match (table, derived) {
            (Some(table), Some(derived)) => derived.value.describe(table),
            (Some(table), None) if usize::from(field.0) < table.columns.len() => {
                table.column(field).name.clone()
            }
            _ => format!("column {}", field.0),
        }
    }

    fn derived_of(&self, relation: RelationId) -> impl Iterator<Item = &DerivedField> {
        self.derived.iter().filter(move |derived| derived.relation == relation)
    }

    /// Returns how a result is read that is kept so.
    pub(crate) fn read_by(&self, kept_by: KeptBy) -> &Arc<ReadStatement> {
        match kept_by {
            KeptBy::Plan => &self.read,
            KeptBy::Refresh => self.read_unkept.as_ref().unwrap_or(&self.read),
        }
    }
}

impl Plan {
    /// Returns the SQL that reads a result.
    pub fn read_sql(&self) -> &Arc<str> {
        match self {
            Plan::Window(window) => &window.sql,
            Plan::Groups(groups) => &groups.sql,
            Plan::Refresh(refresh) => &refresh.sql,
        }
    }
}
