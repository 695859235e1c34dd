//! What a query reads of one table: a condition on a row, and the columns that matter.
//!
//! A *template* is a statement with parameters; its predicates name *slots* where a live query's arguments go, so
//! that a million live queries of one template share one predicate and differ in their slots alone.

use crate::fields::{FieldId, FieldSet, FieldValue};
use crate::images::RowImages;
use convoy_types::{Key, RelationId};

/// A live query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueryId(pub u32);

impl QueryId {
    /// The greatest id that the index takes.
    pub const MAX: QueryId = QueryId(u32::MAX / 2);
}

/// A statement with parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TemplateId(pub u32);

/// A place in a template's predicates that a live query fills with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId(pub u16);

/// What a live query puts in a slot, encoded by the type of the column that it is compared with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SlotValue {
    /// One value; `None` is null.
    One(Option<Key>),
    /// The elements of an array, for `= ANY($1)` and `&& $1`.
    Many(Box<[Option<Key>]>),
    /// No bound: a comparison with it is met by every row that has a value in the field. So stands the boundary of a
    /// `LIMIT` that the result does not reach.
    Open,
}

/// What a field is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operand {
    /// A constant of the statement; `None` is null.
    Constant(Option<Key>),
    /// A live query's own value.
    Slot(SlotId),
}

/// A comparison operator of SQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompareOp {
    /// `=`
    Eq,
    /// `<>`
    Ne,
    /// `<`
    Lt,
    /// `<=`
    Le,
    /// `>`
    Gt,
    /// `>=`
    Ge,
}

/// A condition on one row, with SQL's three-valued logic and a fourth value for what can't be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// `field op operand`
    Compare {
        /// The column.
        field: FieldId,
        /// The operator.
        op: CompareOp,
        /// The other side.
        operand: Operand,
    },
    /// `field IN (…)` or `field = ANY(slot)`.
    In {
        /// The column.
        field: FieldId,
        /// The list; a slot may stand for several values.
        operands: Vec<Operand>,
    },
    /// The text begins with the operand: `field ^@ operand`, `field LIKE 'abc%'`.
    ///
    /// Both sides are keys of a text each, as [`convoy_types::KeyBuilder`] makes them; the byte that ends the operand's
    /// is not compared. Bytes decide, which is right under every deterministic collation.
    Prefix {
        /// The column.
        field: FieldId,
        /// What it begins with.
        operand: Operand,
    },
    /// Some element of the array, or of the JSON array, equals the operand: `field @> ARRAY[operand]`. A slot with
    /// several values asks for one of them: `field && slot`.
    ///
    /// False where no element does, even if one is null or the operand is. What is null then, `operand = ANY (field)`,
    /// may be said with this where null and false are one, but not under a `NOT`.
    HasElement {
        /// The column, of which rows tell [`crate::FieldValue::Elements`].
        field: FieldId,
        /// The element.
        operand: Operand,
    },
    /// `field IS NULL`
    IsNull(FieldId),
    /// `field IS NOT NULL`
    IsNotNull(FieldId),
    /// True where all are; true where there are none.
    And(Vec<Condition>),
    /// True where one is; false where there are none.
    Or(Vec<Condition>),
    /// True where the condition is false.
    Not(Box<Condition>),
    /// Something that we can't evaluate: may be true, false or null.
    Unknown,
}

impl Condition {
    /// Returns the condition that every row meets.
    pub fn always() -> Self {
        Condition::And(Vec::new())
    }
}

/// How queries are found for whose row the stream tells no old values (`REPLICA IDENTITY DEFAULT`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OldRows {
    /// By the condition, with unknown fields counting as met: every query of the template, mostly.
    Condition,
    /// By the row's key: the engine tells the index which rows of this table each result holds.
    Membership,
}

/// What changes of rows can't matter that a result does not hold, while it is known which rows it does hold.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Unheld {
    /// What decides which rows the result holds, the key's columns among it: an update that changes none of these leaves
    /// outside what is outside.
    pub decided_by: FieldSet,
    /// Whether a row that goes can matter though it is not held: it may have kept another one out.
    pub deletes_matter: bool,
}

impl Unheld {
    /// Returns whether the change matters only to results that hold its row. Never for an insert, nor where the row's
    /// key was not told.
    pub fn spares(&self, images: &RowImages<'_>) -> bool {
        images.old_key.is_some()
            && match (images.old_row(), images.new) {
                (None, _) => false,
                (Some(_), None) => !self.deletes_matter,
                (Some(_), Some(_)) => !images.changes(&self.decided_by),
            }
    }
}

/// Whether the index knows which rows a live query's result holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holdings {
    /// It was told of each of them.
    Known,
    /// The result is not known, or is about to be another: any change counts as one of a row that it holds.
    Unknown,
}

/// What a query reads of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Predicate {
    /// The table; the root, for a partitioned one.
    pub relation: RelationId,
    /// A row that does not meet this can't matter to the query.
    pub condition: Condition,
    /// The columns that the query filters, orders or returns: an update that changes none of them can't matter.
    pub fields: FieldSet,
    /// How old rows are matched that the stream does not send.
    pub old_rows: OldRows,
    /// What can't matter of rows that the result does not hold; none where any row's change may.
    pub unheld: Option<Unheld>,
}

impl Predicate {
    /// Returns whether the change may matter by the condition alone, whatever rows the result holds: what the index
    /// says where old rows are matched by it ([`OldRows::Condition`]).
    pub fn may_be_touched(&self, slots: &[SlotValue], images: &RowImages<'_>) -> bool {
        let may_meet = |row: &[FieldValue]| self.condition.eval(row, slots).can_be_true();
        images.relation == self.relation
            && images.changes(&self.fields)
            && (images.new.is_some_and(may_meet) || images.old_row().is_some_and(may_meet))
    }
}
