//! The choice of a template's plan, made by its statement first, and by the live queries that there are then.
//!
//! A template is considered when it has some queries, and again whenever a quarter as many came, went or moved as there are:
//! so what it costs to look at a sample of them is paid by those. If another plan is clearly better, the queries go over to
//! it a few at a time, in the order of their ids, so that nothing need be kept of any of them to know where it stands: those
//! up to the one that moved last stand where the new plan says. No change waits for a million to move, and each is answered
//! exactly meanwhile, for a query is always in the groups of one plan.
//!
//! Of one population it does not go to and fro: a plan is left for one that costs half at most, with what may be chance
//! counted against the other one, and not before a good part of the population has changed.

use super::QueryIndex;
use super::plan::{PlacedWay, Plan, Route, Way};
use crate::access::Access;
use crate::normal_form::{Conjunction, Width, conjunctions};
use crate::predicate::{Predicate, QueryId};
use crate::statistics::{SAMPLE_LEN_MAX, Sample};
use roaring::RoaringBitmap;

/// Fewer live queries than this are found soon enough in any way.
const POPULATION_MIN: u32 = 32;

/// Considered again when one part in so many has changed: what all share that came since may be a quarter of all, then.
const CONSIDERED_PARTS: u64 = 4;

/// So many go over with each query that comes, goes or moves: a population has moved when it has grown by a sixteenth.
const MOVES_PER_CHANGE: usize = 16;

/// Returns whether a plan is to be left for one that costs less: half, and a few tests less than that.
fn is_worth_it(cost: f64, present: f64) -> bool {
    cost * 2.0 + 4.0 < present
}

/// What is known of how a template's live queries changed.
#[derive(Clone, Debug)]
pub(super) struct Choice {
    /// Whether there is more than one plan.
    is_open: bool,
    /// Queries that came, went or moved since the plan was considered.
    changes: u32,
    /// How many there were then.
    population: u64,
}

/// Queries that go over to another plan.
#[derive(Clone, Debug)]
pub(super) struct Moving {
    pub(super) plan: Plan,
    /// Those with lower ids stand by that plan.
    pub(super) next: u32,
}

impl Choice {
    pub(super) fn new<'a>(mut predicates: impl Iterator<Item = &'a Predicate>) -> Self {
        Choice { is_open: predicates.any(has_alternatives), changes: 0, population: 0 }
    }

    fn is_due(&self, queries: &RoaringBitmap) -> bool {
        self.changes >= POPULATION_MIN
            && u64::from(self.changes) >= queries.len().min(self.population) / CONSIDERED_PARTS
    }
}

impl Way {
    /// Returns the way that the statement suggests.
    pub(super) fn by_statement(predicate: &Predicate) -> Way {
        let conjunctions = conjunctions(&predicate.condition, Width::Narrow);
        Way { width: Width::Narrow, accesses: conjunctions.iter().map(Access::choose).collect() }
    }
}

fn has_alternatives(predicate: &Predicate) -> bool {
    let narrow = conjunctions(&predicate.condition, Width::Narrow);
    narrow.iter().any(|conjunction| Access::alternatives(conjunction).len() > 1)
        || narrow != conjunctions(&predicate.condition, Width::Wide)
}

impl QueryIndex {
    /// Moves at most so many live queries to where they are found sooner, if they are on their way.
    ///
    /// They move as others of their template come and go; this is for whoever has time between. Each takes about as long
    /// as removing a query and inserting it.
    pub fn tidy(&mut self, moves_max: usize) {
        if let Some(&number) = self.moving.first() {
            self.move_some(number, moves_max);
        }
    }

    /// Returns whether some live queries are on their way.
    pub fn is_moving(&self) -> bool {
        !self.moving.is_empty()
    }

    /// Notes that a live query of a template came, went or moved.
    pub(super) fn note_change(&mut self, number: u32) {
        let Some(template) = self.templates.get_mut(number) else { return };
        if !template.choice.is_open {
            return;
        }
        template.choice.changes = template.choice.changes.saturating_add(1);
        if template.moving.is_some() {
            self.move_some(number, MOVES_PER_CHANGE);
        } else if template.choice.is_due(&template.queries) {
            self.consider(number);
        }
    }

    /// Looks at a sample of a template's live queries, and lets them go over to another plan if that is much better.
    fn consider(&mut self, number: u32) {
        let Some(template) = self.templates.get_mut(number) else { return };
        let population = template.queries.len();
        (template.choice.changes, template.choice.population) = (0, population);
        if population < u64::from(POPULATION_MIN) {
            return;
        }
        let slots = sampled(&template.queries)
            .filter_map(|query| self.queries.get(QueryId(query)).map(|(slots, _)| &slots[..]));
        let sample = Sample::new(&self.hasher, population as usize, slots);
        let present = template.predicates.iter().zip(&template.plan.ways);
        let better: Vec<Option<Way>> = present
            .map(|(planned, present)| better_way(&planned.predicate, present, &sample))
            .collect();
        if better.iter().all(Option::is_none) {
            return;
        }
        let present = template.predicates.iter().zip(&template.plan.ways);
        let ways = present.zip(better).map(|((planned, present), better)| {
            (&planned.predicate, better.unwrap_or_else(|| present.way()))
        });
        let plan = Plan::new(ways, &mut self.relations);
        template.moving = Some(Moving { plan, next: 0 });
        self.moving.insert(number);
        self.move_some(number, MOVES_PER_CHANGE);
    }

    /// Moves some of a template's live queries to the plan that they go over to.
    fn move_some(&mut self, number: u32, moves_max: usize) {
        let Some(template) = self.templates.get_mut(number) else { return };
        let Some(mut moving) = template.moving.take() else { return };
        // Whatever stands in a table where something moves is taken away before any is added, for predicates may share
        // an entry.
        let tables = template.plan.tables_that_differ(&moving.plan);
        let mut moved = 0;
        for query in template.queries.range(moving.next..).take(moves_max) {
            moved += 1;
            moving.next = query + 1;
            let query = QueryId(query);
            let Some((slots, _)) = self.queries.get(query) else { continue };
            let holdings = template.holdings(query);
            template.plan.each_group_of(&tables, holdings, &mut self.relations, |group, access| {
                group.remove(access, query, slots, &self.hasher);
            });
            moving.plan.each_group_of(&tables, holdings, &mut self.relations, |group, access| {
                group.insert(access, query, slots, &self.hasher);
            });
        }
        if moved < moves_max {
            let before = std::mem::replace(&mut template.plan, moving.plan);
            before.give_up(&mut self.relations);
            self.moving.remove(&number);
        } else {
            template.moving = Some(moving);
        }
    }
}

impl PlacedWay {
    fn way(&self) -> Way {
        let accesses = self.routes.iter().map(|route| route.access.clone()).collect();
        Way { width: self.width, accesses }
    }
}

/// Returns some of the queries: one of each stretch of as many, at a place in it that differs.
fn sampled(queries: &RoaringBitmap) -> impl Iterator<Item = u32> {
    let population = queries.len();
    let len = population.min(SAMPLE_LEN_MAX as u64);
    (0..len).filter_map(move |number| {
        let begin = number * population / len;
        let end = (number + 1) * population / len;
        // Always the same place would be the same tenant, where tenants take turns. The golden ratio's digits.
        let place = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        queries.select((begin + place % (end - begin).max(1)) as u32)
    })
}

/// Returns the way to find the live queries of a predicate that the sample speaks for, if it is much better than the
/// present one.
fn better_way(predicate: &Predicate, present: &PlacedWay, sample: &Sample<'_>) -> Option<Way> {
    let of_width = |width| conjunctions(&predicate.condition, width);
    let (narrow, wide) = (of_width(Width::Narrow), of_width(Width::Wide));
    let (same, other, other_width) = match present.width {
        Width::Narrow => (&narrow, &wide, Width::Wide),
        Width::Wide => (&wide, &narrow, Width::Narrow),
    };
    let (mut cost, mut is_better) = (0.0, false);
    let mut accesses = Vec::with_capacity(same.len());
    for (conjunction, Route { access: present, .. }) in same.iter().zip(&present.routes) {
        let present_cost = sample.estimate(present).as_present();
        let (best, best_cost) = cheapest(conjunction, sample);
        if is_worth_it(best_cost, present_cost) {
            is_better = true;
            cost += best_cost;
            accesses.push(best);
        } else {
            cost += present_cost;
            accesses.push(present.clone());
        }
    }
    if same != other {
        let (others, costs): (Vec<Access>, Vec<f64>) =
            other.iter().map(|conjunction| cheapest(conjunction, sample)).unzip();
        if is_worth_it(costs.iter().sum(), cost) {
            return Some(Way { width: other_width, accesses: others });
        }
    }
    is_better.then_some(Way { width: present.width, accesses })
}

/// Returns the access of a conjunction that costs the least, and what it costs.
fn cheapest(conjunction: &Conjunction, sample: &Sample<'_>) -> (Access, f64) {
    let alternatives = Access::alternatives(conjunction).into_iter().map(|access| {
        let cost = sample.estimate(&access).as_other();
        (access, cost)
    });
    alternatives
        .min_by(|one, other| one.1.total_cmp(&other.1))
        .expect("there is the one that the statement suggests")
}
