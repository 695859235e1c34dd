//! Templates as the index keeps them: a statement's predicates with the way to each, and the slots that they name.

use crate::access::Access;
use crate::error::IndexError;
use crate::eval::field_value;
use crate::fields::{FieldSet, FieldValue};
use crate::predicate::{Condition, Operand, Predicate, SlotId, SlotValue};
use convoy_types::RelationId;
use roaring::RoaringBitmap;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug)]
pub(super) struct Template {
    pub(super) predicates: Vec<PlannedPredicate>,
    /// The slots that it names, and whether each must hold one value.
    slots: BTreeMap<SlotId, SlotUse>,
    /// Its live queries.
    pub(super) queries: RoaringBitmap,
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
    /// One for each conjunction of the condition, with the number of its group in the table's.
    pub(super) accesses: Vec<(Access, u32)>,
}

impl Template {
    pub(super) fn new(predicates: Vec<PlannedPredicate>) -> Self {
        let mut slots = BTreeMap::new();
        for planned in &predicates {
            collect_slots(&planned.predicate.condition, &mut slots);
        }
        Template { predicates, slots, queries: RoaringBitmap::new() }
    }

    /// Returns the groups in which a live query moves when it puts something else in a slot, with their tables.
    pub(super) fn groups_of(&self, slot: SlotId) -> BTreeSet<(RelationId, u32)> {
        let accesses = self.predicates.iter().flat_map(|planned| {
            planned.accesses.iter().map(|place| (planned.predicate.relation, place))
        });
        accesses
            .filter(|(_, (access, _))| access.uses(slot))
            .map(|(relation, (_, group))| (relation, *group))
            .collect()
    }

    /// Returns the accesses that lead to a group of a table.
    pub(super) fn accesses_to(
        &self,
        relation: RelationId,
        group: u32,
    ) -> impl Iterator<Item = &Access> {
        let predicates =
            self.predicates.iter().filter(move |planned| planned.predicate.relation == relation);
        let accesses = predicates.flat_map(|planned| &planned.accesses);
        accesses.filter(move |(_, number)| *number == group).map(|(access, _)| access)
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
