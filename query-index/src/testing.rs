//! What the unit tests write conditions with.

use crate::fields::FieldId;
use crate::predicate::{CompareOp, Condition, Operand, SlotId};
use convoy_types::{Key, PgType};

pub(crate) fn key(value: i32) -> Key {
    Key::of(&PgType::Int4, value.to_string().as_bytes()).expect("an integer has a key")
}

pub(crate) fn constant(value: i32) -> Operand {
    Operand::Constant(Some(key(value)))
}

pub(crate) fn slot(slot: u16) -> Operand {
    Operand::Slot(SlotId(slot))
}

pub(crate) fn compare(field: u16, op: CompareOp, operand: Operand) -> Condition {
    Condition::Compare { field: FieldId(field), op, operand }
}
