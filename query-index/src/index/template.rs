//! Templates as the index keeps them: a statement's predicates, the slots that they name, and how live queries are found.

use super::choice::{Choice, Moving};
use super::plan::Plan;
use crate::error::IndexError;
use crate::eval::field_value;
use crate::fields::{FieldSet, FieldValue};
use crate::predicate::{Condition, Holdings, Operand, Predicate, QueryId, SlotId, SlotValue};
use roaring::RoaringBitmap;
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
pub(super) struct Template {
    pub(super) predicates: Vec<PlannedPredicate>,
    /// The slots that it names, and whether each must hold one value.
    slots: BTreeMap<SlotId, SlotUse>,
    /// Its live queries.
    pub(super) queries: RoaringBitmap,
    /// Those of which the held rows are known.
    known: RoaringBitmap,
    pub(super) plan: Plan,
    /// Where they go over to, while they do; changed by the [choice](super::choice) alone.
    pub(super) moving: Option<Moving>,
    pub(super) choice: Choice,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SlotUse {
    /// Compared with a field: one value.
    Compared,
    /// Only in lists, or looked for among elements: one value or an array.
    Listed,
}

#[derive(Clone, Debug)]
pub(super) struct PlannedPredicate {
    pub(super) predicate: Predicate,
    pub(super) condition_fields: FieldSet,
}

impl Template {
    pub(super) fn new(predicates: Vec<PlannedPredicate>, plan: Plan) -> Self {
        let mut slots = BTreeMap::new();
        for planned in &predicates {
            collect_slots(&planned.predicate.condition, &mut slots);
        }
        let choice = Choice::new(predicates.iter().map(|planned| &planned.predicate));
        let (queries, known) = (RoaringBitmap::new(), RoaringBitmap::new());
        Template { predicates, slots, queries, known, plan, moving: None, choice }
    }

    /// Returns whether the rows are known that a live query's result holds.
    pub(super) fn holdings(&self, query: QueryId) -> Holdings {
        if self.known.contains(query.0) { Holdings::Known } else { Holdings::Unknown }
    }

    /// Notes whether they are; returns whether that is news.
    pub(super) fn set_holdings(&mut self, query: QueryId, holdings: Holdings) -> bool {
        match holdings {
            Holdings::Known => self.known.insert(query.0),
            Holdings::Unknown => self.known.remove(query.0),
        }
    }

    /// Returns the plan by which a live query stands where it does.
    pub(super) fn plan_of(&self, query: QueryId) -> &Plan {
        match &self.moving {
            Some(moving) if query.0 < moving.next => &moving.plan,
            Some(_) | None => &self.plan,
        }
    }

    /// Refuses slots that are not those of the template.
    pub(super) fn check(&self, slots: &[SlotValue]) -> Result<(), IndexError> {
        for (&slot, &slot_use) in &self.slots {
            match slots.get(usize::from(slot.0)) {
                None => return Err(IndexError::MissingSlot { slot, given: slots.len() }),
                Some(SlotValue::Many(_)) if slot_use == SlotUse::Compared => {
                    return Err(IndexError::ArrayInSlot(slot));
                }
                Some(SlotValue::One(_) | SlotValue::Many(_) | SlotValue::Open) => {}
            }
        }
        Ok(())
    }
}

impl PlannedPredicate {
    /// Returns whether the row does not tell a field that the condition tests.
    pub(super) fn leaves_open(&self, row: &[FieldValue]) -> bool {
        self.condition_fields.iter().any(|field| *field_value(row, field) == FieldValue::Unknown)
    }
}

fn collect_slots(condition: &Condition, slots: &mut BTreeMap<SlotId, SlotUse>) {
    match condition {
        Condition::Compare { operand: Operand::Slot(slot), .. }
        | Condition::Prefix { operand: Operand::Slot(slot), .. } => {
            slots.insert(*slot, SlotUse::Compared);
        }
        Condition::HasElement { operand: Operand::Slot(slot), .. } => {
            slots.entry(*slot).or_insert(SlotUse::Listed);
        }
        Condition::In { operands, .. } => {
            for operand in operands {
                if let Operand::Slot(slot) = operand {
                    slots.entry(*slot).or_insert(SlotUse::Listed);
                }
            }
        }
        Condition::And(parts) | Condition::Or(parts) => {
            for part in parts {
                collect_slots(part, slots);
            }
        }
        Condition::Not(inner) => collect_slots(inner, slots),
        Condition::Compare { operand: Operand::Constant(_), .. }
        | Condition::Prefix { operand: Operand::Constant(_), .. }
        | Condition::HasElement { operand: Operand::Constant(_), .. }
        | Condition::IsNull(_)
        | Condition::IsNotNull(_)
        | Condition::Unknown => {}
    }
}
