//! Templates as the index keeps them: a statement's predicates with the way to each, and the slots that they name.
//!
//! A predicate with an [`Unheld`](crate::Unheld) has its live queries in either of two groups: those of which the held
//! rows are known stand apart, where changes that can't matter to them pass by.

use crate::access::Access;
use crate::error::IndexError;
use crate::eval::field_value;
use crate::fields::{FieldSet, FieldValue};
use crate::predicate::{Condition, Holdings, Operand, Predicate, QueryId, SlotId, SlotValue};
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
    /// Those of which the held rows are known.
    known: RoaringBitmap,
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
    /// One for each conjunction of the condition.
    pub(super) routes: Vec<Route>,
}

/// The way to the live queries of one conjunction.
#[derive(Clone, Debug)]
pub(super) struct Route {
    pub(super) access: Access,
    /// The number of its group in the table's.
    pub(super) group: u32,
    /// That of the queries of which the held rows are known, where they stand apart.
    pub(super) group_of_known: Option<u32>,
}

impl Route {
    /// Returns the number of the group in which a live query is.
    pub(super) fn group(&self, holdings: Holdings) -> u32 {
        match holdings {
            Holdings::Known => self.group_of_known.unwrap_or(self.group),
            Holdings::Unknown => self.group,
        }
    }
}

impl Template {
    pub(super) fn new(predicates: Vec<PlannedPredicate>) -> Self {
        let mut slots = BTreeMap::new();
        for planned in &predicates {
            collect_slots(&planned.predicate.condition, &mut slots);
        }
        Template { predicates, slots, queries: RoaringBitmap::new(), known: RoaringBitmap::new() }
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

    fn routes(&self) -> impl Iterator<Item = (RelationId, &Route)> {
        self.predicates.iter().flat_map(|planned| {
            planned.routes.iter().map(|route| (planned.predicate.relation, route))
        })
    }

    /// Returns the groups in which a live query moves when it puts something else in a slot, with their tables.
    pub(super) fn groups_of(
        &self,
        slot: SlotId,
        holdings: Holdings,
    ) -> BTreeSet<(RelationId, u32)> {
        let routes = self.routes().filter(|(_, route)| route.access.uses(slot));
        routes.map(|(relation, route)| (relation, route.group(holdings))).collect()
    }

    /// Returns the groups that a live query enters or leaves when the rows come to be known that it holds, with their
    /// tables.
    pub(super) fn groups_of_holdings(&self) -> BTreeSet<(RelationId, u32)> {
        let places = self.routes().filter_map(|(relation, route)| {
            let known = route.group_of_known?;
            Some([(relation, route.group), (relation, known)])
        });
        places.flatten().collect()
    }

    /// Returns the accesses that lead a live query to a group of a table.
    pub(super) fn accesses_to(
        &self,
        (relation, group): (RelationId, u32),
        holdings: Holdings,
    ) -> impl Iterator<Item = &Access> {
        let routes = self.routes().filter(move |(of, _)| *of == relation);
        let routes = routes.filter(move |(_, route)| route.group(holdings) == group);
        routes.map(|(_, route)| &route.access)
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
