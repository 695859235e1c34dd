//! The index itself: templates, the live queries under them, and the question which of them a change can touch.
//!
//! A table's [`Group`]s answer with candidates; those that a look-up does not settle are tested here, with their
//! query's slots. What `matches` has to find is said by [`crate::NaiveIndex`].

use crate::access::{Access, AccessPath, Held};
use crate::error::IndexError;
use crate::eval::field_value;
use crate::fields::{FieldSet, FieldValue};
use crate::group::{Group, GroupKey, Hits};
use crate::images::{MatchStats, RowImages};
use crate::membership::Membership;
use crate::normal_form::conjunctions;
use crate::predicate::{
    Condition, OldRows, Operand, Predicate, QueryId, SlotId, SlotValue, TemplateId,
};
use crate::queries::{LiveQueries, LiveQuery};
use crate::slab::Slab;
use crate::truth::Truth;
use convoy_types::{Key, RelationId};
use roaring::RoaringBitmap;
use std::collections::{BTreeMap, HashMap};
use std::hash::RandomState;
use std::sync::Arc;

/// Which live queries can this row change touch?
#[derive(Clone, Debug, Default)]
pub struct QueryIndex {
    /// Hashes keys, with a secret: nobody can choose values that collide.
    hasher: RandomState,
    templates: Slab<Template>,
    numbers: HashMap<TemplateId, u32>,
    relations: HashMap<RelationId, RelationIndex>,
    queries: LiveQueries,
    membership: HashMap<RelationId, Membership>,
}

#[derive(Clone, Debug)]
struct Template {
    predicates: Vec<PlannedPredicate>,
    /// The slots that it names, and whether each must hold one value.
    slots: BTreeMap<SlotId, SlotUse>,
    queries: RoaringBitmap,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SlotUse {
    /// Compared with a field: one value.
    Compared,
    /// Only in lists: one value or an array.
    Listed,
}

#[derive(Clone, Debug)]
struct PlannedPredicate {
    predicate: Predicate,
    condition_fields: FieldSet,
    /// One for each conjunction of the condition, with the number of its group in the table's.
    accesses: Vec<(Access, u32)>,
}

/// What is read of one table.
#[derive(Clone, Debug, Default)]
struct RelationIndex {
    groups: Slab<Group>,
    group_numbers: HashMap<GroupKey, u32>,
    /// The templates that read the table.
    // Invariant: not empty; sorted, without duplicates.
    templates: Vec<u32>,
    fields_of_interest: FieldSet,
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
        let mut slots = BTreeMap::new();
        let mut planned = Vec::with_capacity(predicates.len());
        let mut relations = Vec::with_capacity(predicates.len());
        for predicate in predicates {
            collect_slots(&predicate.condition, &mut slots);
            let relation = self.relations.entry(predicate.relation).or_default();
            let condition_fields = predicate.condition.fields();
            relation.fields_of_interest.union_with(&condition_fields);
            let accesses = conjunctions(&predicate.condition)
                .iter()
                .map(|conjunction| {
                    let access = Access::choose(conjunction);
                    let key = GroupKey::new(&access, &predicate.fields, predicate.old_rows);
                    (access, relation.use_group(key, &self.hasher))
                })
                .collect();
            relations.push(predicate.relation);
            planned.push(PlannedPredicate { predicate, condition_fields, accesses });
        }
        let queries = RoaringBitmap::new();
        let number = self.templates.insert(Template { predicates: planned, slots, queries });
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
            self.remove(QueryId(query));
        }
        self.numbers.remove(&template);
        let Some(removed) = self.templates.remove(number) else { return };
        for planned in &removed.predicates {
            let id = planned.predicate.relation;
            let Some(relation) = self.relations.get_mut(&id) else { continue };
            for &(_, group) in &planned.accesses {
                relation.leave_group(group);
            }
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

    /// Adds a live query: a template with what it puts in the slots.
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
        for (&slot, &slot_use) in &template.slots {
            match slots.get(usize::from(slot.0)) {
                None => return Err(IndexError::MissingSlot { slot, given: slots.len() }),
                Some(SlotValue::Many(_)) if slot_use == SlotUse::Compared => {
                    return Err(IndexError::ArrayInSlot(slot));
                }
                Some(SlotValue::One(_) | SlotValue::Many(_)) => {}
            }
        }
        template.queries.insert(query.0);
        for planned in &template.predicates {
            let Some(relation) = self.relations.get_mut(&planned.predicate.relation) else {
                continue;
            };
            for (access, group) in &planned.accesses {
                if let Some(group) = relation.groups.get_mut(*group) {
                    group.insert(access, query, &slots, &self.hasher);
                }
            }
        }
        self.queries.insert(query, LiveQuery { slots, template: number });
        Ok(())
    }

    /// Takes a live query away, and what its result holds; nothing where it is not in the index.
    pub fn remove(&mut self, query: QueryId) {
        self.membership.retain(|_, membership| {
            membership.forget(query);
            !membership.is_empty()
        });
        let Some(LiveQuery { slots, template }) = self.queries.remove(query) else { return };
        let Some(template) = self.templates.get_mut(template) else { return };
        template.queries.remove(query.0);
        for planned in &template.predicates {
            let Some(relation) = self.relations.get_mut(&planned.predicate.relation) else {
                continue;
            };
            for (access, group) in &planned.accesses {
                if let Some(group) = relation.groups.get_mut(*group) {
                    group.remove(access, query, &slots, &self.hasher);
                }
            }
        }
    }

    /// Notes that a live query's result holds a row, for predicates with [`OldRows::Membership`].
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

    /// Adds the live queries to `hits` that the change can touch; those that are in it already cost nothing.
    ///
    /// A row touches a query whose condition it can meet: the new one, or the old one. Where an old row is known in
    /// part and a predicate has [`OldRows::Membership`], it touches the queries whose results hold it. An update that
    /// changes none of a predicate's fields touches nothing.
    pub fn matches(&self, images: &RowImages<'_>, hits: &mut RoaringBitmap) -> MatchStats {
        let mut stats = MatchStats::default();
        let Some(relation) = self.relations.get(&images.relation) else { return stats };
        if let Some(new) = images.new {
            let mut side = Side { index: self, images, row: new, is_old: false, hits, stats };
            for group in relation.groups.iter().filter(|group| images.changes(&group.key.fields)) {
                group.probe(new, &self.hasher, &mut side);
            }
            stats = side.stats;
        }
        if let Some(old) = images.old_row() {
            let mut side = Side { index: self, images, row: old, is_old: true, hits, stats };
            for group in relation.groups.iter().filter(|group| images.changes(&group.key.fields)) {
                // Most updates leave alone what is looked up: the new row has found it.
                if images.new.is_some_and(|new| group.finds_the_same(new, old)) {
                    continue;
                }
                // What the row does not tell in a look-up's own fields, membership does.
                let by_membership =
                    group.key.old_rows == OldRows::Membership && images.old_key.is_some();
                if by_membership && matches!(group.held(old), Held::Unknown | Held::PartlyUnknown) {
                    continue;
                }
                group.probe(old, &self.hasher, &mut side);
            }
            stats = side.stats;
            self.match_holders(images, old, hits, &mut stats);
        }
        stats
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
    pub fn access_path(&self, template: TemplateId, predicate_no: usize) -> AccessPath {
        let number = self.numbers.get(&template);
        let template = number.and_then(|&number| self.templates.get(number));
        let planned = template.and_then(|template| template.predicates.get(predicate_no));
        let accesses = planned.into_iter().flat_map(|planned| &planned.accesses);
        let mut paths: Vec<AccessPath> = accesses.map(|(access, _)| access.path()).collect();
        match paths.len() {
            0 => AccessPath::Never,
            1 => paths.remove(0),
            _ if paths.contains(&AccessPath::Table) => AccessPath::Table,
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

    /// Adds the queries that hold the row, and whose condition the old row leaves open.
    fn match_holders(
        &self,
        images: &RowImages<'_>,
        old: &[FieldValue],
        hits: &mut RoaringBitmap,
        stats: &mut MatchStats,
    ) {
        let Some(key) = images.old_key else { return };
        let Some(membership) = self.membership.get(&images.relation) else { return };
        stats.probes += 1;
        membership.holders(key, |query| {
            if hits.contains(query.0) {
                return;
            }
            stats.tested += 1;
            let touched = self.predicates(query, images).any(|(planned, slots)| {
                planned.predicate.old_rows == OldRows::Membership
                    && planned.predicate.condition.eval(old, slots) == Truth::Unknown
                    && planned.leaves_open(old)
            });
            if touched {
                hits.insert(query.0);
            } else {
                stats.rejected += 1;
            }
        });
    }

    /// Returns the predicates of a live query that the change matters to, with its slots.
    fn predicates(
        &self,
        query: QueryId,
        images: &RowImages<'_>,
    ) -> impl Iterator<Item = (&PlannedPredicate, &[SlotValue])> {
        let live = self.queries.get(query);
        live.into_iter().flat_map(move |live| {
            let template = self.templates.get(live.template);
            template
                .into_iter()
                .flat_map(|template| &template.predicates)
                .filter(move |planned| {
                    planned.predicate.relation == images.relation
                        && images.changes(&planned.predicate.fields)
                })
                .map(|planned| (planned, &live.slots[..]))
        })
    }
}

impl PlannedPredicate {
    /// Returns whether the row does not tell a field that the condition tests.
    fn leaves_open(&self, row: &[FieldValue]) -> bool {
        self.condition_fields.iter().any(|field| *field_value(row, field) == FieldValue::Unknown)
    }
}

impl RelationIndex {
    fn use_group(&mut self, key: GroupKey, hasher: &RandomState) -> u32 {
        let number = match self.group_numbers.get(&key) {
            Some(&number) => number,
            None => {
                let number = self.groups.insert(Group::new(key.clone(), hasher));
                self.group_numbers.insert(key, number);
                number
            }
        };
        if let Some(group) = self.groups.get_mut(number) {
            group.users += 1;
        }
        number
    }

    fn leave_group(&mut self, number: u32) {
        let Some(group) = self.groups.get_mut(number) else { return };
        group.users -= 1;
        if group.users == 0 {
            self.group_numbers.remove(&group.key);
            self.groups.remove(number);
        }
    }
}

/// One image of a change on its way through the groups.
struct Side<'a, 'b> {
    index: &'a QueryIndex,
    images: &'a RowImages<'a>,
    row: &'a [FieldValue],
    is_old: bool,
    hits: &'b mut RoaringBitmap,
    stats: MatchStats,
}

impl Side<'_, '_> {
    fn touches(&self, query: QueryId) -> bool {
        self.index.predicates(query, self.images).any(|(planned, slots)| {
            match planned.predicate.condition.eval(self.row, slots) {
                Truth::True => true,
                Truth::False | Truth::Null => false,
                // Then membership is asked.
                Truth::Unknown => {
                    !(self.is_old
                        && planned.predicate.old_rows == OldRows::Membership
                        && self.images.old_key.is_some()
                        && planned.leaves_open(self.row))
                }
            }
        })
    }
}

impl Hits for Side<'_, '_> {
    fn certain(&mut self, add: impl FnOnce(&mut RoaringBitmap)) {
        add(self.hits);
    }

    fn candidate(&mut self, query: QueryId) {
        if self.hits.contains(query.0) {
            return;
        }
        self.stats.tested += 1;
        if self.touches(query) {
            self.hits.insert(query.0);
        } else {
            self.stats.rejected += 1;
        }
    }

    fn stats(&mut self) -> &mut MatchStats {
        &mut self.stats
    }
}

fn collect_slots(condition: &Condition, slots: &mut BTreeMap<SlotId, SlotUse>) {
    match condition {
        Condition::Compare { operand: Operand::Slot(slot), .. } => {
            slots.insert(*slot, SlotUse::Compared);
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
        | Condition::IsNull(_)
        | Condition::IsNotNull(_)
        | Condition::Unknown => {}
    }
}
