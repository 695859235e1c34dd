//! The index without an index: every predicate of every live query is tried on every change.
//!
//! It says what [`crate::QueryIndex`] has to find, in a page: the oracle of its tests and the baseline of its
//! benchmarks.

use crate::eval::field_value;
use crate::fields::FieldValue;
use crate::images::{MatchStats, RowImages};
use crate::predicate::{
    Holdings, OldRows, Predicate, QueryId, SlotId, SlotValue, TemplateId, Unheld,
};
use crate::truth::Truth;
use convoy_types::{Key, RelationId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Live queries in a list.
#[derive(Clone, Debug, Default)]
pub struct NaiveIndex {
    templates: BTreeMap<TemplateId, Vec<Predicate>>,
    queries: BTreeMap<QueryId, (TemplateId, Arc<[SlotValue]>)>,
    held: BTreeSet<(QueryId, RelationId, Key)>,
    /// The live queries of which all held rows are known.
    known: BTreeSet<QueryId>,
}

impl NaiveIndex {
    /// Returns an empty index.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a template.
    pub fn add_template(&mut self, template: TemplateId, predicates: Vec<Predicate>) {
        self.templates.insert(template, predicates);
    }

    /// Takes a template away, and its live queries.
    pub fn remove_template(&mut self, template: TemplateId) {
        self.templates.remove(&template);
        let queries = self.queries.iter().filter(|(_, (of, _))| *of == template);
        for query in queries.map(|(&query, _)| query).collect::<Vec<_>>() {
            self.remove(query);
        }
    }

    /// Adds a live query.
    pub fn insert(&mut self, query: QueryId, template: TemplateId, slots: Arc<[SlotValue]>) {
        self.queries.insert(query, (template, slots));
    }

    /// Takes a live query away.
    pub fn remove(&mut self, query: QueryId) {
        self.queries.remove(&query);
        self.known.remove(&query);
    }

    /// Puts another value in a slot of a live query.
    pub fn set_slot(&mut self, query: QueryId, slot: SlotId, value: SlotValue) {
        if let Some((_, slots)) = self.queries.get_mut(&query) {
            let mut moved = slots.to_vec();
            if let Some(place) = moved.get_mut(usize::from(slot.0)) {
                *place = value;
            }
            *slots = moved.into();
        }
    }

    /// Notes that a live query's result holds a row.
    pub fn hold(&mut self, query: QueryId, relation: RelationId, key: Key) {
        self.held.insert((query, relation, key));
    }

    /// Notes that a live query's result no longer holds a row.
    pub fn release(&mut self, query: QueryId, relation: RelationId, key: &Key) {
        self.held.remove(&(query, relation, key.clone()));
    }

    /// Notes whether all rows are known that a live query's result holds.
    pub fn set_holdings(&mut self, query: QueryId, holdings: Holdings) {
        match holdings {
            Holdings::Known if self.queries.contains_key(&query) => self.known.insert(query),
            Holdings::Known | Holdings::Unknown => self.known.remove(&query),
        };
    }

    /// Puts the live queries in `hits` that the change can touch, ascending.
    pub fn matches(&self, images: &RowImages<'_>, hits: &mut Vec<QueryId>) -> MatchStats {
        hits.clear();
        let mut stats = MatchStats::default();
        for (&query, (template, slots)) in &self.queries {
            let predicates = self.templates.get(template).into_iter().flatten();
            for predicate in predicates.filter(|predicate| predicate.relation == images.relation) {
                stats.tested += 1;
                if self.touches(images, query, predicate, slots) {
                    hits.push(query);
                } else {
                    stats.rejected += 1;
                }
            }
        }
        hits.dedup();
        stats
    }

    fn touches(
        &self,
        images: &RowImages<'_>,
        query: QueryId,
        predicate: &Predicate,
        slots: &[SlotValue],
    ) -> bool {
        let condition = &predicate.condition;
        if !images.changes(&predicate.fields) {
            return false;
        }
        let holds = |key: &Key| self.held.contains(&(query, images.relation, key.clone()));
        let is_spared = |unheld: &Unheld| unheld.spares(images) && self.known.contains(&query);
        if predicate.unheld.as_ref().is_some_and(is_spared) && !images.old_key.is_some_and(holds) {
            return false;
        }
        if images.new.is_some_and(|new| condition.eval(new, slots).can_be_true()) {
            return true;
        }
        let Some(old) = images.old_row() else { return false };
        match (condition.eval(old, slots), predicate.old_rows, images.old_key) {
            (Truth::True, _, _) => true,
            (Truth::False | Truth::Null, _, _) => false,
            (Truth::Unknown, OldRows::Membership, Some(key)) => {
                let is_unknown = |field| *field_value(old, field) == FieldValue::Unknown;
                if condition.fields().iter().any(is_unknown) { holds(key) } else { true }
            }
            (Truth::Unknown, OldRows::Condition, _)
            | (Truth::Unknown, OldRows::Membership, None) => true,
        }
    }
}
