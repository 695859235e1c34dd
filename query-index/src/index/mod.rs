//! The index itself: templates, the live queries under them, and the question which of them a change can touch.
//!
//! Here is who comes and goes; the question is in `matching`, and how a template's queries are found in `choice`. What
//! `matches` has to find is said by [`crate::NaiveIndex`].

mod choice;
mod matching;
mod plan;
mod relation;
mod template;

use crate::access_path::AccessPath;
use crate::error::IndexError;
use crate::fields::FieldSet;
use crate::membership::Membership;
use crate::predicate::{Holdings, Predicate, QueryId, SlotId, SlotValue, TemplateId};
use crate::queries::{LiveQueries, LiveQuery};
use crate::slab::Slab;
use convoy_types::{Key, RelationId};
use plan::{Plan, Way, group_at};
use relation::{ByRelation, RelationIndex};
use roaring::RoaringBitmap;
use std::collections::{BTreeSet, HashMap};
use std::hash::RandomState;
use std::sync::Arc;
use template::{PlannedPredicate, Template};

/// Which live queries can this row change touch?
#[derive(Clone, Debug, Default)]
pub struct QueryIndex {
    /// Hashes keys, with a secret: nobody can choose values that collide.
    hasher: RandomState,
    templates: Slab<Template>,
    numbers: HashMap<TemplateId, u32>,
    relations: ByRelation<RelationIndex>,
    queries: LiveQueries,
    membership: HashMap<RelationId, Membership>,
    /// The templates whose live queries go over to another plan.
    moving: BTreeSet<u32>,
}

impl QueryIndex {
    /// Returns an empty index.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a template: a statement's predicates, at least one for each table that it reads.
    ///
    /// # Errors
    /// [`IndexError::DuplicateTemplate`] where the template is in the index.
    pub fn add_template(
        &mut self,
        template: TemplateId,
        predicates: Vec<Predicate>,
    ) -> Result<(), IndexError> {
        if self.numbers.contains_key(&template) {
            return Err(IndexError::DuplicateTemplate(template));
        }
        let ways = predicates.iter().map(|predicate| (predicate, Way::by_statement(predicate)));
        let plan = Plan::new(ways, &mut self.relations);
        let mut planned = Vec::with_capacity(predicates.len());
        let mut relations = Vec::with_capacity(predicates.len());
        for predicate in predicates {
            let relation = self.relations.entry(predicate.relation).or_default();
            let condition_fields = predicate.condition.fields();
            relation.fields_of_interest.union_with(&condition_fields);
            relations.push(predicate.relation);
            planned.push(PlannedPredicate { predicate, condition_fields });
        }
        let number = self.templates.insert(Template::new(planned, plan));
        self.numbers.insert(template, number);
        for relation in relations {
            let templates = &mut self.relations.entry(relation).or_default().templates;
            if let Err(place) = templates.binary_search(&number) {
                templates.insert(place, number);
            }
        }
        Ok(())
    }

    /// Takes a template away, and its live queries with it.
    pub fn remove_template(&mut self, template: TemplateId) {
        let Some(&number) = self.numbers.get(&template) else { return };
        let queries = self.templates.get(number).map(|template| template.queries.clone());
        for query in queries.into_iter().flatten() {
            self.take_away(QueryId(query));
        }
        self.numbers.remove(&template);
        self.moving.remove(&number);
        let Some(removed) = self.templates.remove(number) else { return };
        removed.plan.give_up(&mut self.relations);
        if let Some(moving) = &removed.moving {
            moving.plan.give_up(&mut self.relations);
        }
        for planned in &removed.predicates {
            let id = planned.predicate.relation;
            let Some(relation) = self.relations.get_mut(&id) else { continue };
            relation.templates.retain(|&other| other != number);
            if relation.templates.is_empty() {
                self.relations.remove(&id);
                continue;
            }
            let templates =
                relation.templates.iter().filter_map(|&other| self.templates.get(other));
            let mut fields = FieldSet::default();
            for other in templates.flat_map(|template| &template.predicates) {
                if other.predicate.relation == id {
                    fields.union_with(&other.condition_fields);
                }
            }
            relation.fields_of_interest = fields;
        }
    }

    /// Adds a live query: a template with what it puts in the slots. Which rows it holds is unknown.
    ///
    /// # Errors
    /// [`IndexError::UnknownTemplate`] and [`IndexError::DuplicateQuery`] where the order of calls is wrong,
    /// [`IndexError::QueryIdRange`] for an id above [`QueryId::MAX`], [`IndexError::MissingSlot`] and
    /// [`IndexError::ArrayInSlot`] where the slots are not those of the template.
    pub fn insert(
        &mut self,
        query: QueryId,
        template: TemplateId,
        slots: Arc<[SlotValue]>,
    ) -> Result<(), IndexError> {
        if query > QueryId::MAX {
            return Err(IndexError::QueryIdRange(query));
        }
        if self.queries.get(query).is_some() {
            return Err(IndexError::DuplicateQuery(query));
        }
        let unknown = || IndexError::UnknownTemplate(template);
        let number = *self.numbers.get(&template).ok_or_else(unknown)?;
        let template = self.templates.get_mut(number).ok_or_else(unknown)?;
        template.check(&slots)?;
        template.queries.insert(query.0);
        template.plan_of(query).each_group(
            Holdings::Unknown,
            &mut self.relations,
            |group, access| {
                group.insert(access, query, &slots, &self.hasher);
            },
        );
        self.queries.insert(query, LiveQuery { slots, template: number });
        self.note_change(number);
        Ok(())
    }

    /// Takes a live query away; nothing where it is not in the index.
    ///
    /// The rows that its result holds are to be [released](QueryIndex::release) before. Those that are not keep their
    /// place, and name whichever query has the id then.
    pub fn remove(&mut self, query: QueryId) {
        if let Some(template) = self.take_away(query) {
            self.note_change(template);
        }
    }

    /// Takes a live query away and returns the number of its template.
    fn take_away(&mut self, query: QueryId) -> Option<u32> {
        let LiveQuery { slots, template: number } = self.queries.remove(query)?;
        let template = self.templates.get_mut(number)?;
        template.queries.remove(query.0);
        let holdings = template.holdings(query);
        template.set_holdings(query, Holdings::Unknown);
        template.plan_of(query).each_group(holdings, &mut self.relations, |group, access| {
            group.remove(access, query, &slots, &self.hasher);
        });
        Some(number)
    }

    /// Puts another value in a slot of a live query: it moves, as the boundary of a `LIMIT` does.
    ///
    /// The index then has slots of its own for the query, which it no longer shares with the caller.
    ///
    /// # Errors
    /// [`IndexError::UnknownQuery`] where the query is not in the index, [`IndexError::MissingSlot`] and
    /// [`IndexError::ArrayInSlot`] where the slot or the value is not the template's. The query is then as it was.
    pub fn set_slot(
        &mut self,
        query: QueryId,
        slot: SlotId,
        value: SlotValue,
    ) -> Result<(), IndexError> {
        let unknown = || IndexError::UnknownQuery(query);
        let (before, number) = self.queries.get(query).ok_or_else(unknown)?;
        let template = self.templates.get(number).ok_or_else(unknown)?;
        let before = Arc::clone(before);
        let mut slots = before.to_vec();
        let place = slots
            .get_mut(usize::from(slot.0))
            .ok_or(IndexError::MissingSlot { slot, given: before.len() })?;
        *place = value;
        template.check(&slots)?;
        let slots: Arc<[SlotValue]> = slots.into();
        self.queries.set_slots(query, Arc::clone(&slots));
        let (plan, holdings) = (template.plan_of(query), template.holdings(query));
        for place in plan.groups_of(slot, holdings) {
            let Some(group) = group_at(&mut self.relations, place) else { continue };
            // Conjunctions may share an entry of the group: all are taken away before any is added.
            for access in plan.accesses_to(place, holdings) {
                group.remove(access, query, &before, &self.hasher);
            }
            for access in plan.accesses_to(place, holdings) {
                group.insert(access, query, &slots, &self.hasher);
            }
        }
        self.note_change(number);
        Ok(())
    }

    /// Notes whether each row is [held](QueryIndex::hold) here that a live query's result holds, for predicates with an
    /// [`Unheld`](crate::Unheld): changes that it spares then touch the query only where they are of such a row. Nothing
    /// where the query is not in the index.
    pub fn set_holdings(&mut self, query: QueryId, holdings: Holdings) {
        let Some((slots, number)) = self.queries.get(query) else { return };
        let Some(template) = self.templates.get_mut(number) else { return };
        let before = template.holdings(query);
        if !template.set_holdings(query, holdings) {
            return;
        }
        let plan = template.plan_of(query);
        for place in plan.groups_of_holdings() {
            let Some(group) = group_at(&mut self.relations, place) else { continue };
            // As above, and a predicate may stay in a group that another one leaves.
            for access in plan.accesses_to(place, before) {
                group.remove(access, query, slots, &self.hasher);
            }
            for access in plan.accesses_to(place, holdings) {
                group.insert(access, query, slots, &self.hasher);
            }
        }
    }

    /// Notes that a live query's result holds a row, for predicates with
    /// [`OldRows::Membership`](crate::OldRows::Membership) or an [`Unheld`](crate::Unheld).
    pub fn hold(&mut self, query: QueryId, relation: RelationId, key: Key) {
        if query <= QueryId::MAX {
            self.membership.entry(relation).or_default().hold(query, key);
        }
    }

    /// Notes that a live query's result no longer holds a row.
    pub fn release(&mut self, query: QueryId, relation: RelationId, key: &Key) {
        let Some(membership) = self.membership.get_mut(&relation) else { return };
        membership.release(query, key);
        if membership.is_empty() {
            self.membership.remove(&relation);
        }
    }

    /// Adds all live queries to `hits` that read the table: for `TRUNCATE`, and for a transaction too large to keep.
    pub fn on_relation(&self, relation: RelationId, hits: &mut RoaringBitmap) {
        let templates =
            self.relations.get(&relation).into_iter().flat_map(|index| &index.templates);
        for template in templates.filter_map(|&number| self.templates.get(number)) {
            *hits |= &template.queries;
        }
    }

    /// Returns the fields that some template's condition on the table tests; `None` where none reads the table.
    pub fn fields_of_interest(&self, relation: RelationId) -> Option<&FieldSet> {
        self.relations.get(&relation).map(|index| &index.fields_of_interest)
    }

    /// Returns how the live queries of a template's predicate are found; [`AccessPath::Never`] where there is no such
    /// predicate.
    ///
    /// It is what the statement suggests, until the live queries speak for something else. What they
    /// [go over to](QueryIndex::is_moving) is told when all have.
    pub fn access_path(&self, template: TemplateId, predicate_no: usize) -> AccessPath {
        let number = self.numbers.get(&template);
        let template = number.and_then(|&number| self.templates.get(number));
        let way = template.and_then(|template| template.plan.ways.get(predicate_no));
        let routes = way.into_iter().flat_map(|way| &way.routes);
        let mut paths: Vec<AccessPath> = routes.map(|route| route.access.path()).collect();
        match paths.len() {
            0 => AccessPath::Never,
            1 => paths.remove(0),
            _ if paths.contains(&AccessPath::Table) => AccessPath::Table,
            _ if paths.contains(&AccessPath::WideOr) => AccessPath::WideOr,
            _ => AccessPath::Any(paths),
        }
    }

    /// Returns how many live queries there are.
    pub fn len(&self) -> usize {
        self.queries.len()
    }

    /// Returns whether there is no live query.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
