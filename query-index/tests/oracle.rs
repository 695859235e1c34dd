//! The index finds what brute force finds: exactly, whatever came and went before.

use crate::generate::{
    Change, Fashion, SLOTS, condition_with_alternatives, predicate, predicate_of, relation,
    slot_value, slots, small_key,
};
use crate::support::{ITEMS, ORDERS, for_seeds};
use convoy_query_index::{
    AccessPath, Holdings, NaiveIndex, QueryId, QueryIndex, SlotId, SlotValue, TemplateId,
};
use convoy_types::{Key, RelationId};
use rand::Rng;
use rand::rngs::StdRng;
use roaring::RoaringBitmap;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Both indexes, and what is in them.
#[derive(Default)]
struct Twins {
    index: QueryIndex,
    naive: NaiveIndex,
    templates: BTreeMap<TemplateId, Vec<RelationId>>,
    queries: BTreeMap<QueryId, TemplateId>,
    held: Vec<(QueryId, RelationId, Key)>,
}

impl Twins {
    fn step(&mut self, random: &mut StdRng) {
        match random.random_range(0..100) {
            0..=3 => self.add_template(random),
            4 => self.remove_template(random),
            5..=39 => self.insert(random),
            40..=49 => self.remove(random),
            50..=59 => self.hold(random),
            60..=64 => self.release(random),
            65..=69 => self.set_slot(random),
            70..=77 => self.set_holdings(random),
            _ => self.compare(&Change::random(random)),
        }
    }

    fn add_template(&mut self, random: &mut StdRng) {
        let template = TemplateId(random.random_range(0..20));
        let predicates: Vec<_> =
            (0..random.random_range(1..4)).map(|_| predicate(random)).collect();
        let relations = predicates.iter().map(|predicate| predicate.relation).collect();
        let added = self.index.add_template(template, predicates.clone());
        assert_eq!(added.is_ok(), !self.templates.contains_key(&template));
        if added.is_ok() {
            self.naive.add_template(template, predicates);
            self.templates.insert(template, relations);
        }
    }

    fn remove_template(&mut self, random: &mut StdRng) {
        self.remove_template_of(TemplateId(random.random_range(0..20)));
    }

    fn remove_template_of(&mut self, template: TemplateId) {
        let gone: Vec<QueryId> =
            self.queries.extract_if(.., |_, of| *of == template).map(|(query, _)| query).collect();
        for query in gone {
            self.release_all(query);
        }
        self.index.remove_template(template);
        self.naive.remove_template(template);
        self.templates.remove(&template);
    }

    fn insert(&mut self, random: &mut StdRng) {
        let places = self.templates.len();
        if places == 0 {
            return self.add_template(random);
        }
        let template = self.templates.keys().nth(random.random_range(0..places));
        let template = *template.expect("it is among them");
        let query = QueryId(random.random_range(0..60));
        self.insert_with(query, template, slots(random).into());
    }

    fn insert_with(&mut self, query: QueryId, template: TemplateId, slots: Arc<[SlotValue]>) {
        let inserted = self.index.insert(query, template, Arc::clone(&slots));
        assert_eq!(inserted.is_ok(), !self.queries.contains_key(&query));
        if inserted.is_ok() {
            self.naive.insert(query, template, slots);
            self.queries.insert(query, template);
        }
    }

    fn remove(&mut self, random: &mut StdRng) {
        self.remove_one(QueryId(random.random_range(0..60)));
    }

    fn remove_one(&mut self, query: QueryId) {
        self.release_all(query);
        self.index.remove(query);
        self.naive.remove(query);
        self.queries.remove(&query);
    }

    fn release_all(&mut self, query: QueryId) {
        let released = self.held.extract_if(.., |(holder, _, _)| *holder == query);
        for (_, relation, key) in released {
            self.index.release(query, relation, &key);
            self.naive.release(query, relation, &key);
        }
    }

    fn hold(&mut self, random: &mut StdRng) {
        if self.queries.is_empty() {
            return;
        }
        let place = random.random_range(0..self.queries.len());
        let query = *self.queries.keys().nth(place).expect("it is among them");
        let held = (query, relation(random), small_key(random));
        self.index.hold(held.0, held.1, held.2.clone());
        self.naive.hold(held.0, held.1, held.2.clone());
        self.held.push(held);
    }

    fn set_slot(&mut self, random: &mut StdRng) {
        let query = QueryId(random.random_range(0..60));
        let slot = random.random_range(0..SLOTS);
        self.set_slot_of(query, slot, slot_value(random, slot));
    }

    fn set_slot_of(&mut self, query: QueryId, slot: u16, value: SlotValue) {
        let set = self.index.set_slot(query, SlotId(slot), value.clone());
        assert_eq!(set.is_ok(), self.queries.contains_key(&query));
        self.naive.set_slot(query, SlotId(slot), value);
    }

    fn set_holdings(&mut self, random: &mut StdRng) {
        let query = QueryId(random.random_range(0..60));
        let holdings = if random.random_bool(0.8) { Holdings::Known } else { Holdings::Unknown };
        self.index.set_holdings(query, holdings);
        self.naive.set_holdings(query, holdings);
    }

    fn release(&mut self, random: &mut StdRng) {
        if self.held.is_empty() {
            return;
        }
        let place = random.random_range(0..self.held.len());
        let (query, relation, key) = self.held.swap_remove(place);
        self.index.release(query, relation, &key);
        self.naive.release(query, relation, &key);
    }

    fn compare(&self, change: &Change) {
        let (mut found, mut expected) = (vec![QueryId(7)], vec![QueryId(8)]);
        let stats = self.index.matches(&change.images(), &mut found);
        self.naive.matches(&change.images(), &mut expected);
        assert_eq!(found, expected, "{change:?}");
        assert!(stats.rejected <= stats.tested);
    }

    fn check_tables(&self) {
        assert_eq!(self.index.len(), self.queries.len());
        for relation in [ORDERS, ITEMS] {
            let reads = |template| self.templates[template].contains(&relation);
            let mut found = RoaringBitmap::new();
            self.index.on_relation(relation, &mut found);
            let expected = self.queries.iter().filter(|(_, template)| reads(template));
            assert_eq!(found, expected.map(|(query, _)| query.0).collect());
            let is_read = self.templates.keys().any(reads);
            assert_eq!(self.index.fields_of_interest(relation).is_some(), is_read);
        }
    }
}

#[test]
fn the_index_equals_brute_force() {
    for_seeds(150, |random| {
        let mut twins = Twins::default();
        for _ in 0..600 {
            twins.step(random);
        }
        twins.check_tables();
    });
}

/// Ten million pairs of a live query's predicate and a change, in each run.
#[test]
fn recall_is_complete() {
    const PAIRS: usize = 10_000_000;
    const QUERIES: u32 = 2_000;
    for_seeds(1, |random| {
        let (mut pairs, mut hits) = (0, 0);
        while pairs < PAIRS {
            let (mut index, mut naive) = (QueryIndex::new(), NaiveIndex::new());
            for query in 0..QUERIES {
                // Ten live queries a template.
                let template = TemplateId(query / 10);
                if query % 10 == 0 {
                    let predicates = vec![predicate(random)];
                    index.add_template(template, predicates.clone()).expect("it is new");
                    naive.add_template(template, predicates);
                }
                let slots: Arc<[_]> = slots(random).into();
                let inserted = index.insert(QueryId(query), template, Arc::clone(&slots));
                inserted.expect("the slots are the template's");
                naive.insert(QueryId(query), template, slots);
                if random.random_bool(0.5) {
                    index.set_holdings(QueryId(query), Holdings::Known);
                    naive.set_holdings(QueryId(query), Holdings::Known);
                }
            }
            for round in 0..500 {
                let change = Change::random(random);
                let (mut found, mut expected) = (Vec::new(), Vec::new());
                index.matches(&change.images(), &mut found);
                pairs += naive.matches(&change.images(), &mut expected).tested;
                hits += expected.len();
                assert_eq!(found, expected, "{change:?}");
                if round % 10 == 0 {
                    let query = QueryId(random.random_range(0..QUERIES));
                    let slot = random.random_range(0..SLOTS);
                    let value = slot_value(random, slot);
                    let set = index.set_slot(query, SlotId(slot), value.clone());
                    set.expect("the value is of the slot's kind");
                    naive.set_slot(query, SlotId(slot), value);
                }
            }
        }
        // Neither everything is hit nor nothing.
        assert!((pairs / 100..pairs * 3 / 4).contains(&hits), "{hits} hits of {pairs} pairs");
    });
}

/// Few templates of many live queries, of which most put the same in some slots, now in these and then in others: so that
/// another way to find them is chosen, again and again, while they come, go and move.
struct Crowd {
    twins: Twins,
    fashion: Fashion,
    /// How each predicate's live queries are found.
    paths: BTreeMap<(TemplateId, usize), AccessPath>,
}

impl Crowd {
    const TEMPLATES: u32 = 3;
    const QUERIES: u32 = 400;

    fn new(random: &mut StdRng) -> Crowd {
        let mut twins = Twins::default();
        for template in 0..Crowd::TEMPLATES {
            Crowd::add_template(&mut twins, TemplateId(template), random);
        }
        Crowd { twins, fashion: Fashion::random(random), paths: BTreeMap::new() }
    }

    fn add_template(twins: &mut Twins, template: TemplateId, random: &mut StdRng) {
        // Predicates of one template on one table share entries now and then.
        let predicates: Vec<_> = (0..random.random_range(1..3))
            .map(|_| {
                let condition = condition_with_alternatives(random);
                predicate_of(random, condition)
            })
            .collect();
        let relations = predicates.iter().map(|predicate| predicate.relation).collect();
        twins.index.add_template(template, predicates.clone()).expect("it is new");
        twins.naive.add_template(template, predicates);
        twins.templates.insert(template, relations);
    }

    fn step(&mut self, random: &mut StdRng) {
        let query = QueryId(random.random_range(0..Crowd::QUERIES));
        match random.random_range(0..1_000) {
            0..=1 => self.fashion = Fashion::random(random),
            2 => {
                let template = TemplateId(random.random_range(0..Crowd::TEMPLATES));
                self.twins.remove_template_of(template);
                Crowd::add_template(&mut self.twins, template, random);
            }
            3..=699 if !self.twins.queries.contains_key(&query) => {
                let template = TemplateId(random.random_range(0..Crowd::TEMPLATES));
                self.twins.insert_with(query, template, self.fashion.slots(random).into());
            }
            3..=599 => self.twins.remove_one(query),
            600..=699 => {
                let slot = random.random_range(0..SLOTS);
                self.twins.set_slot_of(query, slot, self.fashion.slot_value(random, slot));
            }
            700..=799 => self.twins.hold(random),
            800..=829 => self.twins.release(random),
            830..=834 => self.twins.index.tidy(random.random_range(0..100)),
            _ => self.twins.compare(&Change::random(random)),
        }
    }

    /// Returns how many predicates' live queries are found in another way than they were.
    fn count_choices(&mut self) -> usize {
        let mut choices = 0;
        for (&template, relations) in &self.twins.templates {
            for number in 0..relations.len() {
                let path = self.twins.index.access_path(template, number);
                let before = self.paths.insert((template, number), path.clone());
                choices += usize::from(before.is_some_and(|before| before != path));
            }
        }
        choices
    }
}

#[test]
fn the_index_equals_brute_force_whatever_is_chosen() {
    let (choices, moving) = (Cell::new(0), Cell::new(0));
    for_seeds(40, |random| {
        let mut crowd = Crowd::new(random);
        for _ in 0..6_000 {
            crowd.step(random);
            choices.set(choices.get() + crowd.count_choices());
            moving.set(moving.get() + usize::from(crowd.twins.index.is_moving()));
        }
        crowd.twins.check_tables();
        for query in crowd.twins.queries.keys().copied().collect::<Vec<_>>() {
            crowd.twins.remove_one(query);
        }
        assert!(crowd.twins.index.is_empty());
        for _ in 0..50 {
            crowd.twins.compare(&Change::random(random));
        }
    });
    if std::env::var_os("CONVOY_SEED").is_none() {
        let (choices, moving) = (choices.get(), moving.get());
        println!("{choices} times another way was chosen; some moved in {moving} steps");
        assert!(choices > 40 && moving > 400, "{choices} choices, {moving} steps");
    }
}

#[test]
fn what_is_removed_leaves_nothing() {
    for_seeds(30, |random| {
        let mut twins = Twins::default();
        for _ in 0..300 {
            twins.step(random);
        }
        for query in twins.queries.keys().copied().collect::<Vec<_>>() {
            twins.release_all(query);
            twins.index.remove(query);
        }
        assert!(twins.index.is_empty());
        for _ in 0..50 {
            let mut hits = Vec::new();
            let stats = twins.index.matches(&Change::random(random).images(), &mut hits);
            assert_eq!((hits.len(), stats.tested), (0, 0));
        }
        for template in twins.templates.keys() {
            twins.index.remove_template(*template);
        }
        assert_eq!(twins.index.fields_of_interest(ORDERS), None);
        assert_eq!(twins.index.fields_of_interest(ITEMS), None);
    });
}
