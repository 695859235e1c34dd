//! Random conditions, live queries and row changes over few fields and few values, so that much of it meets.

use crate::support::{ITEMS, ORDERS, fields, key};
use convoy_query_index::{
    CompareOp, Condition, FieldId, FieldValue, OldRows, Operand, Predicate, SlotId, SlotValue,
};
use convoy_types::{Key, RelationId};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

pub const FIELDS: u16 = 4;
const VALUES: i64 = 6;
/// Slots below this hold one value, the others an array.
const SINGLE_SLOTS: u16 = 3;
const SLOTS: u16 = 5;

fn field(random: &mut StdRng) -> FieldId {
    FieldId(random.random_range(0..FIELDS))
}

pub fn small_key(random: &mut StdRng) -> Key {
    key(random.random_range(0..VALUES))
}

fn nullable_key(random: &mut StdRng) -> Option<Key> {
    random.random_bool(0.92).then(|| small_key(random))
}

fn operand(random: &mut StdRng) -> Operand {
    if random.random_bool(0.6) {
        Operand::Slot(SlotId(random.random_range(0..SINGLE_SLOTS)))
    } else {
        Operand::Constant(nullable_key(random))
    }
}

pub fn condition(random: &mut StdRng, depth: u32) -> Condition {
    let parts = |random: &mut StdRng| {
        let len = random.random_range(0..4);
        (0..len.max(random.random_range(0..3))).map(|_| condition(random, depth - 1)).collect()
    };
    match random.random_range(0..if depth == 0 { 12 } else { 24 }) {
        0..=3 => {
            Condition::Compare { field: field(random), op: CompareOp::Eq, operand: operand(random) }
        }
        4..=7 => {
            let op = [CompareOp::Lt, CompareOp::Le, CompareOp::Gt, CompareOp::Ge, CompareOp::Ne];
            let op = *op.choose(random).expect("there are some");
            Condition::Compare { field: field(random), op, operand: operand(random) }
        }
        8..=9 => {
            let array = Operand::Slot(SlotId(random.random_range(SINGLE_SLOTS..SLOTS)));
            let mut operands: Vec<Operand> =
                (0..random.random_range(0..3)).map(|_| operand(random)).collect();
            if random.random_bool(0.6) {
                operands.push(array);
            }
            Condition::In { field: field(random), operands }
        }
        10 if random.random_bool(0.5) => Condition::IsNull(field(random)),
        10 => Condition::IsNotNull(field(random)),
        11 if random.random_bool(0.3) => Condition::Unknown,
        11 => Condition::always(),
        12..=16 => Condition::And(parts(random)),
        17..=20 => Condition::Or(parts(random)),
        _ => Condition::Not(Box::new(condition(random, depth - 1))),
    }
}

pub fn slots(random: &mut StdRng) -> Vec<SlotValue> {
    (0..SLOTS)
        .map(|slot| {
            if slot < SINGLE_SLOTS {
                SlotValue::One(nullable_key(random))
            } else {
                SlotValue::Many(
                    (0..random.random_range(0..4)).map(|_| nullable_key(random)).collect(),
                )
            }
        })
        .collect()
}

pub fn relation(random: &mut StdRng) -> RelationId {
    if random.random_bool(0.7) { ORDERS } else { ITEMS }
}

pub fn predicate(random: &mut StdRng) -> Predicate {
    let condition = condition(random, 3);
    // What the condition tests matters, and now and then something else.
    let mut read = condition.fields();
    if random.random_bool(0.3) {
        read.insert(field(random));
    }
    let old_rows = if random.random_bool(0.5) { OldRows::Condition } else { OldRows::Membership };
    Predicate { relation: relation(random), condition, fields: read, old_rows }
}

/// Returns a row; now and then a short one, for fields behind the end are unknown.
pub fn row(random: &mut StdRng, unknown: f64) -> Vec<FieldValue> {
    let mut row = full_row(random, unknown);
    if random.random_bool(0.05) {
        row.truncate(2);
    }
    row
}

pub fn full_row(random: &mut StdRng, unknown: f64) -> Vec<FieldValue> {
    (0..FIELDS)
        .map(|_| {
            if random.random_bool(unknown) {
                FieldValue::Unknown
            } else if random.random_bool(0.15) {
                FieldValue::Null
            } else {
                FieldValue::Key(small_key(random))
            }
        })
        .collect()
}

/// A row change, with what [`convoy_query_index::RowImages`] borrows.
#[derive(Debug)]
pub struct Change {
    pub relation: RelationId,
    pub old: Option<Vec<FieldValue>>,
    pub new: Option<Vec<FieldValue>>,
    pub old_key: Option<Key>,
    pub changed: Option<convoy_query_index::FieldSet>,
}

impl Change {
    pub fn random(random: &mut StdRng) -> Change {
        let relation = relation(random);
        let unknown = if random.random_bool(0.5) { 0.0 } else { 0.4 };
        let new = Some(row(random, unknown / 4.0));
        let old_key = random.random_bool(0.8).then(|| small_key(random));
        match random.random_range(0..4) {
            0 => Change { relation, old: None, new, old_key: None, changed: None },
            1 => {
                let old = random.random_bool(0.8).then(|| row(random, unknown));
                Change { relation, old, new: None, old_key, changed: None }
            }
            _ => {
                let old =
                    (old_key.is_none() || random.random_bool(0.8)).then(|| row(random, unknown));
                let some = (0..FIELDS).filter(|_| random.random_bool(0.3)).collect::<Vec<_>>();
                let changed = random.random_bool(0.5).then(|| fields(some));
                Change { relation, old, new, old_key, changed }
            }
        }
    }

    pub fn images(&self) -> convoy_query_index::RowImages<'_> {
        convoy_query_index::RowImages {
            relation: self.relation,
            old: self.old.as_deref(),
            new: self.new.as_deref(),
            old_key: self.old_key.as_ref(),
            new_key: None,
            changed: self.changed.as_ref(),
        }
    }
}
