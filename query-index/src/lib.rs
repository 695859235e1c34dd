//! Which live queries can this row change touch?
//!
//! The index holds *queries*, not rows: for each table, postings by template. Pure: no I/O, no async, no clock.

mod fields;
mod predicate;

pub use fields::{FieldId, FieldSet, FieldValue};
pub use predicate::{CompareOp, Condition, OldRows, Operand, Predicate, QueryId, SlotId, SlotValue, TemplateId};
