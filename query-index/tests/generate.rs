//! Random conditions, live queries and row changes over few fields and few values, so that much of it meets.

use crate::support::{ITEMS, ORDERS, fields};
use convoy_query_index::{
    CompareOp, Condition, FieldId, FieldValue, OldRows, Operand, Predicate, SlotId, SlotValue,
    Unheld,
};
use convoy_types::{Key, PgType, RelationId};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

/// The fields of a row. Conditions are on the first six, mostly, so that they meet.
const KINDS: [Kind; 10] = [
    Kind::Int,
    Kind::Int,
    Kind::Text,
    Kind::Numeric,
    Kind::Float,
    Kind::Array,
    Kind::Timestamp,
    Kind::Bytea,
    Kind::Bool,
    Kind::Uuid,
];
pub const FIELDS: u16 = KINDS.len() as u16;
const USUAL_FIELDS: u16 = 6;
const ARRAY: FieldId = FieldId(5);
/// For each kind of values two slots of one value, and one of several.
const SLOTS_OF_KIND: u16 = 3;

/// What a field's values are, the odd ones among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Int,
    Text,
    Numeric,
    Float,
    /// Of texts.
    Array,
    Timestamp,
    Bytea,
    Bool,
    Uuid,
}

impl Kind {
    const SCALARS: [Kind; 8] = [
        Kind::Int,
        Kind::Text,
        Kind::Numeric,
        Kind::Float,
        Kind::Timestamp,
        Kind::Bytea,
        Kind::Bool,
        Kind::Uuid,
    ];

    fn of(field: FieldId) -> Kind {
        KINDS[usize::from(field.0)]
    }

    /// Returns the kind of a single value: of an array's, its element's.
    fn scalar(self) -> Kind {
        if self == Kind::Array { Kind::Text } else { self }
    }

    fn values(self) -> (PgType, &'static [&'static str]) {
        match self {
            Kind::Int => {
                (PgType::Int8, &["0", "1", "2", "3", "-9223372036854775808", "9223372036854775807"])
            }
            Kind::Text | Kind::Array => {
                (PgType::Text, &["", "a", "ab", "abc", "abd", "b", "\u{10ffff}", "\u{10ffff}a"])
            }
            Kind::Numeric => {
                let values = &["0", "-0.00", "1", "1.0", "1.5", "NaN", "Infinity", "-Infinity"];
                (PgType::Numeric, values)
            }
            Kind::Float => {
                (PgType::Float8, &["0", "-0", "1.5", "NaN", "Infinity", "-Infinity", "5e-324"])
            }
            Kind::Timestamp => {
                let values =
                    &["-infinity", "infinity", "2000-01-01 00:00:00", "0044-03-15 00:00:00 BC"];
                (PgType::Timestamp, values)
            }
            Kind::Bytea => (
                PgType::Bytea,
                &["\\x", "\\x00", "\\x0000", "\\x00ff", "\\xff", "\\xffffffffffffffffff"],
            ),
            Kind::Bool => (PgType::Bool, &["t", "f"]),
            Kind::Uuid => {
                let values = &[
                    "00000000-0000-0000-0000-000000000000",
                    "00000000-0000-0000-0000-000000000001",
                    "ffffffff-ffff-ffff-ffff-ffffffffffff",
                ];
                (PgType::Uuid, values)
            }
        }
    }

    fn key(self, random: &mut StdRng) -> Key {
        let (ty, values) = self.values();
        let text = values.choose(random).expect("there are some");
        Key::of(&ty, text.as_bytes()).expect("it is a value of the type")
    }

    fn nullable_key(self, random: &mut StdRng) -> Option<Key> {
        random.random_bool(0.92).then(|| self.key(random))
    }

    fn keys(self, random: &mut StdRng) -> Vec<Option<Key>> {
        (0..random.random_range(0..4)).map(|_| self.nullable_key(random)).collect()
    }

    /// Returns a slot of one value, or that of several.
    fn slot(self, number: u16) -> Operand {
        let kind = Kind::SCALARS.iter().position(|&kind| kind == self.scalar());
        let kind = u16::try_from(kind.expect("it is a scalar")).expect("there are few");
        Operand::Slot(SlotId(kind * SLOTS_OF_KIND + number))
    }

    fn operand(self, random: &mut StdRng) -> Operand {
        if random.random_bool(0.6) {
            self.slot(random.random_range(0..SLOTS_OF_KIND - 1))
        } else {
            Operand::Constant(self.scalar().nullable_key(random))
        }
    }

    fn array(self) -> Operand {
        self.slot(SLOTS_OF_KIND - 1)
    }
}

/// Returns whether a condition asks of each field what it holds: elements of an array, and a value of any other.
pub fn is_typed(condition: &Condition) -> bool {
    match condition {
        Condition::Compare { field, .. } => Kind::of(*field) != Kind::Array,
        Condition::HasElement { field, .. } => Kind::of(*field) == Kind::Array,
        Condition::And(parts) | Condition::Or(parts) => parts.iter().all(is_typed),
        Condition::Not(inner) => is_typed(inner),
        _ => true,
    }
}

fn field(random: &mut StdRng) -> FieldId {
    let usual = random.random_bool(0.8);
    FieldId(random.random_range(0..if usual { USUAL_FIELDS } else { FIELDS }))
}

pub fn small_key(random: &mut StdRng) -> Key {
    Kind::Int.key(random)
}

pub fn condition(random: &mut StdRng, depth: u32) -> Condition {
    let parts = |random: &mut StdRng| {
        let len = random.random_range(0..4);
        (0..len.max(random.random_range(0..3))).map(|_| condition(random, depth - 1)).collect()
    };
    let field = field(random);
    let kind = Kind::of(field);
    // Now and then an array is compared as if it were a value, which says nothing.
    match random.random_range(0..if depth == 0 { 14 } else { 26 }) {
        0..=3 if kind != Kind::Array || random.random_bool(0.1) => {
            Condition::Compare { field, op: CompareOp::Eq, operand: kind.operand(random) }
        }
        4..=7 if kind != Kind::Array || random.random_bool(0.1) => {
            let op = [CompareOp::Lt, CompareOp::Le, CompareOp::Gt, CompareOp::Ge, CompareOp::Ne];
            let op = *op.choose(random).expect("there are some");
            Condition::Compare { field, op, operand: kind.operand(random) }
        }
        8..=9 if kind != Kind::Array => {
            let mut operands: Vec<Operand> =
                (0..random.random_range(0..3)).map(|_| kind.operand(random)).collect();
            if random.random_bool(0.6) {
                operands.push(kind.array());
            }
            Condition::In { field, operands }
        }
        10 if kind != Kind::Array => {
            let field = if random.random_bool(0.8) { FieldId(2) } else { field };
            Condition::Prefix { field, operand: Kind::of(field).operand(random) }
        }
        0..=9 | 11 => {
            let field = if random.random_bool(0.9) { ARRAY } else { field };
            let kind = Kind::of(field);
            let many = random.random_bool(0.3);
            let operand = if many { kind.array() } else { kind.operand(random) };
            Condition::HasElement { field, operand }
        }
        10 | 12 if random.random_bool(0.6) => Condition::IsNull(field),
        10 | 12 => Condition::IsNotNull(field),
        13 if random.random_bool(0.3) => Condition::Unknown,
        13 => Condition::always(),
        14..=18 => Condition::And(parts(random)),
        19..=22 => Condition::Or(parts(random)),
        _ => Condition::Not(Box::new(condition(random, depth - 1))),
    }
}

/// Returns a conjunction that can be looked up in several ways, mostly: by lists and ranges of slots, below equalities or
/// not, and with an `OR` of them.
pub fn condition_with_alternatives(random: &mut StdRng) -> Condition {
    let parts = (0..random.random_range(2..5)).map(|_| part(random, true)).collect();
    let and = Condition::And(parts);
    match random.random_range(0..6) {
        0 => Condition::Or(vec![and, part(random, false)]),
        1 => Condition::And(vec![and, condition(random, 1)]),
        _ => and,
    }
}

fn part(random: &mut StdRng, may_be_or: bool) -> Condition {
    let field = FieldId(random.random_range(0..USUAL_FIELDS));
    let kind = Kind::of(field);
    let one = kind.slot(random.random_range(0..SLOTS_OF_KIND - 1));
    let compare = |op, operand| Condition::Compare { field, op, operand };
    match random.random_range(0..10) {
        0..=1 if may_be_or => Condition::Or(vec![part(random, false), part(random, false)]),
        _ if kind == Kind::Array => Condition::HasElement { field, operand: kind.array() },
        0..=2 => compare(CompareOp::Eq, one),
        3..=5 => Condition::In { field, operands: vec![kind.array()] },
        6 => compare(CompareOp::Gt, one),
        7 if kind == Kind::Text => Condition::Prefix { field, operand: one },
        _ => Condition::And(vec![
            compare(CompareOp::Ge, kind.slot(0)),
            compare(CompareOp::Le, kind.slot(1)),
        ]),
    }
}

/// What most live queries put in some of the slots, while it lasts.
pub struct Fashion(Vec<Option<SlotValue>>);

impl Fashion {
    pub fn random(random: &mut StdRng) -> Fashion {
        let shared = |slot| random.random_bool(0.5).then(|| slot_value(random, slot));
        Fashion((0..SLOTS).map(shared).collect())
    }

    pub fn slots(&self, random: &mut StdRng) -> Vec<SlotValue> {
        (0..SLOTS).map(|slot| self.slot_value(random, slot)).collect()
    }

    pub fn slot_value(&self, random: &mut StdRng, slot: u16) -> SlotValue {
        match &self.0[usize::from(slot)] {
            Some(shared) if random.random_bool(0.97) => shared.clone(),
            Some(_) | None => slot_value(random, slot),
        }
    }
}

/// Returns a value for one of the slots.
pub fn slot_value(random: &mut StdRng, slot: u16) -> SlotValue {
    let kind = Kind::SCALARS[usize::from(slot / SLOTS_OF_KIND)];
    if slot % SLOTS_OF_KIND == SLOTS_OF_KIND - 1 {
        if random.random_bool(0.9) {
            return SlotValue::Many(kind.keys(random).into());
        }
    } else if random.random_bool(0.1) {
        return SlotValue::Open;
    }
    SlotValue::One(kind.nullable_key(random))
}

pub const SLOTS: u16 = SLOTS_OF_KIND * Kind::SCALARS.len() as u16;

pub fn slots(random: &mut StdRng) -> Vec<SlotValue> {
    (0..SLOTS).map(|slot| slot_value(random, slot)).collect()
}

pub fn relation(random: &mut StdRng) -> RelationId {
    if random.random_bool(0.7) { ORDERS } else { ITEMS }
}

pub fn predicate(random: &mut StdRng) -> Predicate {
    let condition = condition(random, 3);
    predicate_of(random, condition)
}

pub fn predicate_of(random: &mut StdRng, condition: Condition) -> Predicate {
    // What the condition tests matters, and now and then something else.
    let mut read = condition.fields();
    if random.random_bool(0.3) {
        read.insert(field(random));
    }
    let old_rows = if random.random_bool(0.5) { OldRows::Condition } else { OldRows::Membership };
    let unheld = random.random_bool(0.4).then(|| Unheld {
        decided_by: fields((0..FIELDS).filter(|_| random.random_bool(0.3))),
        deletes_matter: random.random_bool(0.3),
    });
    Predicate { relation: relation(random), condition, fields: read, old_rows, unheld }
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
    KINDS
        .iter()
        .map(|kind| {
            if random.random_bool(unknown) {
                FieldValue::Unknown
            } else if random.random_bool(0.15) {
                FieldValue::Null
            } else if *kind == Kind::Array {
                let mut elements: Vec<Key> = kind.keys(random).into_iter().flatten().collect();
                elements.sort();
                elements.dedup();
                FieldValue::Elements(elements.into())
            } else {
                FieldValue::Key(kind.key(random))
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
