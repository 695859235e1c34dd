//! How a template's live queries are found: for each of its predicates the accesses, and the groups that they lead to.
//!
//! A predicate with an [`Unheld`](crate::Unheld) has its live queries in either of two groups: those of which the held
//! rows are known stand apart, where changes that can't matter to them pass by.

use super::relation::{ByRelation, RelationIndex};
use crate::access::Access;
use crate::group::{Group, GroupKey};
use crate::normal_form::Width;
use crate::predicate::{Holdings, Predicate, SlotId};
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
    /// One for each conjunction of the condition.
    pub(super) routes: Vec<Route>,
}

/// The way to the live queries of one conjunction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) access: Access,
    /// The number of its group in the table's.
    group: u32,
    /// That of the queries of which the held rows are known, where they stand apart.
    group_of_known: Option<u32>,
}

/// A group of a table, by its number.
pub(super) type Place = (RelationId, u32);

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
            let route = |access: Access| {
                let key = GroupKey::new(&access, &predicate.fields, predicate.old_rows);
                let of_known = predicate.unheld.as_ref();
                let of_known = of_known.map(|unheld| key.clone().with_unheld(unheld));
                let group_of_known = of_known.map(|key| relation.use_group(key));
                Route { access, group: relation.use_group(key), group_of_known }
            };
            let routes = way.accesses.into_iter().map(route).collect();
            PlacedWay { relation: predicate.relation, width: way.width, routes }
        };
        Plan { ways: ways.map(place).collect() }
    }

    /// Gives the groups up, in which no query of the template stands any more by this plan.
    pub(super) fn give_up(&self, relations: &mut ByRelation<RelationIndex>) {
        for way in &self.ways {
            let Some(relation) = relations.get_mut(&way.relation) else { continue };
            for route in &way.routes {
                relation.leave_group(route.group);
                route.group_of_known.iter().for_each(|&group| relation.leave_group(group));
            }
        }
    }

    /// Calls on each group in which a live query stands, with the access that leads there.
    pub(super) fn each_group(
        &self,
        holdings: Holdings,
        relations: &mut ByRelation<RelationIndex>,
        mut act: impl FnMut(&mut Group, &Access),
    ) {
        for way in &self.ways {
            way.each_group(holdings, relations, &mut act);
        }
    }

    /// Calls on those of some tables alone.
    pub(super) fn each_group_of(
        &self,
        tables: &BTreeSet<RelationId>,
        holdings: Holdings,
        relations: &mut ByRelation<RelationIndex>,
        mut act: impl FnMut(&mut Group, &Access),
    ) {
        for way in self.ways.iter().filter(|way| tables.contains(&way.relation)) {
            way.each_group(holdings, relations, &mut act);
        }
    }

    /// Returns the tables in whose groups a query stands elsewhere by another plan of the same template.
    pub(super) fn tables_that_differ(&self, other: &Plan) -> BTreeSet<RelationId> {
        let pairs = self.ways.iter().zip(&other.ways);
        let differing = pairs.filter(|(way, other)| way.routes != other.routes);
        differing.map(|(way, _)| way.relation).collect()
    }

    fn routes(&self) -> impl Iterator<Item = (RelationId, &Route)> {
        self.ways.iter().flat_map(|way| way.routes.iter().map(|route| (way.relation, route)))
    }

    /// Returns the groups in which a live query moves when it puts something else in a slot.
    pub(super) fn groups_of(&self, slot: SlotId, holdings: Holdings) -> BTreeSet<Place> {
        let routes = self.routes().filter(|(_, route)| route.access.uses(slot));
        routes.map(|(relation, route)| (relation, route.group(holdings))).collect()
    }

    /// Returns the groups that a live query enters or leaves when the rows come to be known that it holds.
    pub(super) fn groups_of_holdings(&self) -> BTreeSet<Place> {
        let places = self.routes().filter_map(|(relation, route)| {
            let known = route.group_of_known?;
            Some([(relation, route.group), (relation, known)])
        });
        places.flatten().collect()
    }

    /// Returns the accesses that lead a live query to a group.
    pub(super) fn accesses_to(
        &self,
        (relation, group): Place,
        holdings: Holdings,
    ) -> impl Iterator<Item = &Access> {
        let routes = self.routes().filter(move |(of, _)| *of == relation);
        let routes = routes.filter(move |(_, route)| route.group(holdings) == group);
        routes.map(|(_, route)| &route.access)
    }
}

impl PlacedWay {
    fn each_group(
        &self,
        holdings: Holdings,
        relations: &mut ByRelation<RelationIndex>,
        act: &mut impl FnMut(&mut Group, &Access),
    ) {
        for route in &self.routes {
            if let Some(group) = group_at(relations, (self.relation, route.group(holdings))) {
                act(group, &route.access);
            }
        }
    }
}

impl Route {
    /// Returns the number of the group in which a live query is.
    fn group(&self, holdings: Holdings) -> u32 {
        match holdings {
            Holdings::Known => self.group_of_known.unwrap_or(self.group),
            Holdings::Unknown => self.group,
        }
    }
}

/// Returns a group of a table.
pub(super) fn group_at(
    relations: &mut ByRelation<RelationIndex>,
    (relation, group): Place,
) -> Option<&mut Group> {
    relations.get_mut(&relation)?.groups.get_mut(group)
}
