//! How a template's live queries are found: for each of its predicates the accesses, and the groups that they lead to.

use super::relation::{ByRelation, RelationIndex};
use crate::access::Access;
use crate::group::{Group, GroupKey};
use crate::normal_form::Width;
use crate::predicate::{Predicate, SlotId};
use convoy_types::RelationId;
use std::collections::BTreeSet;

/// How the live queries of one predicate are found.
#[derive(Clone, Debug)]
pub(super) struct Way {
    pub(super) width: Width,
    /// One for each conjunction of the condition.
    pub(super) accesses: Vec<Access>,
}

/// The same, in the groups of the predicate's table.
#[derive(Clone, Debug)]
pub(super) struct PlacedWay {
    relation: RelationId,
    pub(super) width: Width,
    /// Each with the number of its group in the table's.
    pub(super) accesses: Vec<(Access, u32)>,
}

/// How a template's live queries are found: a way for each predicate, in their order.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) ways: Vec<PlacedWay>,
}

impl Plan {
    /// Makes a plan of a way for each predicate; it uses the groups until it is given up.
    pub(super) fn new<'a>(
        ways: impl Iterator<Item = (&'a Predicate, Way)>,
        relations: &mut ByRelation<RelationIndex>,
    ) -> Self {
        let place = |(predicate, way): (&Predicate, Way)| {
            let relation = relations.entry(predicate.relation).or_default();
            let place = |access: Access| {
                let key = GroupKey::new(&access, &predicate.fields, predicate.old_rows);
                let group = relation.use_group(key);
                (access, group)
            };
            let accesses = way.accesses.into_iter().map(place).collect();
            PlacedWay { relation: predicate.relation, width: way.width, accesses }
        };
        Plan { ways: ways.map(place).collect() }
    }

    /// Gives the groups up, in which no query of the template stands any more by this plan.
    pub(super) fn give_up(&self, relations: &mut ByRelation<RelationIndex>) {
        for way in &self.ways {
            let Some(relation) = relations.get_mut(&way.relation) else { continue };
            for &(_, group) in &way.accesses {
                relation.leave_group(group);
            }
        }
    }

    /// Calls on each group in which a live query stands, with the access that leads there.
    pub(super) fn each_group(
        &self,
        relations: &mut ByRelation<RelationIndex>,
        mut act: impl FnMut(&mut Group, &Access),
    ) {
        for way in &self.ways {
            way.each_group(relations, &mut act);
        }
    }

    /// Calls on those of some tables alone.
    pub(super) fn each_group_of(
        &self,
        tables: &BTreeSet<RelationId>,
        relations: &mut ByRelation<RelationIndex>,
        mut act: impl FnMut(&mut Group, &Access),
    ) {
        for way in self.ways.iter().filter(|way| tables.contains(&way.relation)) {
            way.each_group(relations, &mut act);
        }
    }

    /// Returns the tables in whose groups a query stands elsewhere by another plan of the same template.
    pub(super) fn tables_that_differ(&self, other: &Plan) -> BTreeSet<RelationId> {
        let pairs = self.ways.iter().zip(&other.ways);
        let differing = pairs.filter(|(way, other)| way.accesses != other.accesses);
        differing.map(|(way, _)| way.relation).collect()
    }

    /// Returns the groups in which a live query moves when it puts something else in a slot, with their tables.
    pub(super) fn groups_of(&self, slot: SlotId) -> BTreeSet<(RelationId, u32)> {
        let accesses =
            self.ways.iter().flat_map(|way| way.accesses.iter().map(|place| (way.relation, place)));
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
        let ways = self.ways.iter().filter(move |way| way.relation == relation);
        let accesses = ways.flat_map(|way| &way.accesses);
        accesses.filter(move |(_, number)| *number == group).map(|(access, _)| access)
    }
}

impl PlacedWay {
    fn each_group(
        &self,
        relations: &mut ByRelation<RelationIndex>,
        act: &mut impl FnMut(&mut Group, &Access),
    ) {
        let Some(relation) = relations.get_mut(&self.relation) else { return };
        for (access, group) in &self.accesses {
            if let Some(group) = relation.groups.get_mut(*group) {
                act(group, access);
            }
        }
    }
}
