//! Seeds, and short ways to write conditions.

use convoy_query_index::{
    CompareOp, Condition, FieldId, FieldSet, FieldValue, MatchStats, OldRows, Operand, Predicate,
    QueryId, QueryIndex, RowImages, SlotId, SlotValue, TemplateId,
};
use convoy_types::{Key, PgType, RelationId};
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use std::sync::Arc;

pub const ORDERS: RelationId = RelationId(1);
pub const ITEMS: RelationId = RelationId(2);

/// Runs cases of a law with seeds of their own, and says which seed failed.
pub fn for_seeds(cases: u64, law: impl Fn(&mut StdRng)) {
    let variable = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().expect(name));
    if let Some(seed) = variable("CONVOY_SEED") {
        law(&mut StdRng::seed_from_u64(seed));
        return;
    }
    let mut seeds = StdRng::from_os_rng();
    for _ in 0..cases * variable("CONVOY_CASES").unwrap_or(1) {
        let seed = seeds.next_u64();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            law(&mut StdRng::seed_from_u64(seed));
        }));
        if let Err(panic) = outcome {
            eprintln!("replay with CONVOY_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

pub fn key(value: i64) -> Key {
    Key::of(&PgType::Int8, value.to_string().as_bytes()).expect("an integer has a key")
}

pub fn text_key(text: &str) -> Key {
    Key::of(&PgType::Text, text.as_bytes()).expect("a text has a key")
}

pub fn value(value: i64) -> FieldValue {
    FieldValue::Key(key(value))
}

pub fn constant(value: i64) -> Operand {
    Operand::Constant(Some(key(value)))
}

pub fn slot(slot: u16) -> Operand {
    Operand::Slot(SlotId(slot))
}

pub fn one(value: i64) -> SlotValue {
    SlotValue::One(Some(key(value)))
}

pub fn many(values: impl IntoIterator<Item = i64>) -> SlotValue {
    SlotValue::Many(values.into_iter().map(|value| Some(key(value))).collect())
}

pub fn compare(field: u16, op: CompareOp, operand: Operand) -> Condition {
    Condition::Compare { field: FieldId(field), op, operand }
}

pub fn equal(field: u16, operand: Operand) -> Condition {
    compare(field, CompareOp::Eq, operand)
}

pub fn any_of(field: u16, operands: Vec<Operand>) -> Condition {
    Condition::In { field: FieldId(field), operands }
}

pub fn and<const N: usize>(parts: [Condition; N]) -> Condition {
    Condition::And(parts.into())
}

pub fn or<const N: usize>(parts: [Condition; N]) -> Condition {
    Condition::Or(parts.into())
}

pub fn fields(fields: impl IntoIterator<Item = u16>) -> FieldSet {
    fields.into_iter().map(FieldId).collect()
}

/// Returns a predicate on `orders` that reads five fields.
pub fn predicate(condition: Condition) -> Predicate {
    Predicate {
        relation: ORDERS,
        condition,
        fields: FieldSet::all(5),
        old_rows: OldRows::Condition,
        unheld: None,
    }
}

/// Returns an index with one template, number 1.
pub fn index_of(predicate: Predicate) -> QueryIndex {
    let mut index = QueryIndex::new();
    index.add_template(TemplateId(1), vec![predicate]).expect("it is the first template");
    index
}

/// Adds a live query of template 1.
pub fn insert<const N: usize>(index: &mut QueryIndex, query: u32, slots: [SlotValue; N]) {
    index
        .insert(QueryId(query), TemplateId(1), Arc::new(slots))
        .expect("the slots are the template's");
}

pub fn inserted(row: &[FieldValue]) -> RowImages<'_> {
    RowImages {
        relation: ORDERS,
        old: None,
        new: Some(row),
        old_key: None,
        new_key: None,
        changed: None,
    }
}

pub fn updated<'a>(old: &'a [FieldValue], new: &'a [FieldValue]) -> RowImages<'a> {
    RowImages { old: Some(old), ..inserted(new) }
}

/// Returns what the index finds, and what it cost.
pub fn found(index: &QueryIndex, images: &RowImages<'_>) -> (Vec<u32>, MatchStats) {
    let mut hits = Vec::new();
    let stats = index.matches(images, &mut hits);
    (hits.iter().map(|query| query.0).collect(), stats)
}
