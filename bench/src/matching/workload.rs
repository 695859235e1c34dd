//! What is matched: live queries of synthetic templates, and row changes that find a known number of them.
//!
//! Beside each stands its *bare structure*: what a program would look the same numbers up in that knows nothing of
//! predicates, types, nulls or queries that come and go.

use convoy_query_index::{
    CompareOp, Condition, FieldId, FieldSet, FieldValue, OldRows, Operand, Predicate, QueryId,
    QueryIndex, RowImages, SlotId, SlotValue, TemplateId,
};
use convoy_types::{Key, PgType, RelationId};
use roaring::RoaringBitmap;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// The table of all changes.
const TABLE: RelationId = RelationId(1);
/// Changes of a batch: enough to time, and few enough that their own rows stay in the cache.
pub(super) const CHANGES: usize = 2_048;
/// Live queries that one change hits in the workload of many hits.
pub(super) const HITS: usize = 1_000;
/// How wide a range is, and how far they are apart.
const RANGE: i64 = 10;

/// A kind of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Load {
    /// `tenant = $1`, all values distinct: each change hits one.
    Equality,
    /// The same; no change hits any.
    Miss,
    /// 20 templates: eight equalities, six ranges, six lists, each on columns of its own choice.
    Mixed,
    /// `tenant = $1`, a thousand queries each: each change hits a thousand.
    ManyHits,
    /// `price >= $1 AND price < $2`, all ranges distinct, half of them taken away and added again.
    Ranges,
}

/// Row changes, as the engine would hand them over.
pub(super) struct Changes {
    rows: Vec<Box<[FieldValue]>>,
    numbers: Vec<i64>,
}

/// The live queries of a load, and its changes.
pub(super) struct Workload {
    pub(super) index: QueryIndex,
    pub(super) changes: Changes,
    bare: Bare,
    /// What each change must hit, at least and at most.
    pub(super) hits: (usize, usize),
}

/// What the index is held against.
enum Bare {
    /// So many look-ups a change in one map.
    Map(HashMap<i64, u32>, usize),
    /// A look-up in a map, and the union of what it finds with an empty set.
    Sets(HashMap<i64, RoaringBitmap>),
    /// A look-up in segments by their beginnings.
    Segments(BTreeMap<i64, (i64, u32)>),
    /// Look-ups in a map and in segments.
    Both(HashMap<i64, u32>, usize, BTreeMap<i64, (i64, u32)>, usize),
}

/// SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): the same load in each run.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) % end.max(1) as u64) as usize
    }

    fn shuffle<T>(&mut self, values: &mut [T]) {
        for place in (1..values.len()).rev() {
            values.swap(place, self.below(place + 1));
        }
    }
}

pub(super) fn key(value: i64) -> Key {
    Key::of(&PgType::Int8, value.to_string().as_bytes()).expect("an integer has a key")
}

pub(super) fn one(value: i64) -> SlotValue {
    SlotValue::One(Some(key(value)))
}

fn compare(field: u16, op: CompareOp, slot: u16) -> Condition {
    Condition::Compare { field: FieldId(field), op, operand: Operand::Slot(SlotId(slot)) }
}

fn between(field: u16) -> Condition {
    Condition::And(vec![compare(field, CompareOp::Ge, 0), compare(field, CompareOp::Lt, 1)])
}

fn predicate(condition: Condition) -> Predicate {
    Predicate {
        relation: TABLE,
        condition,
        fields: FieldSet::all(8),
        old_rows: OldRows::Condition,
        unheld: None,
    }
}

fn add_template(index: &mut QueryIndex, template: u32, condition: Condition) {
    index.add_template(TemplateId(template), vec![predicate(condition)]).expect("it is new");
}

fn insert(index: &mut QueryIndex, query: usize, template: u32, slots: Arc<[SlotValue]>) {
    let query = QueryId(u32::try_from(query).expect("there are a million"));
    index.insert(query, TemplateId(template), slots).expect("the slots are the template's");
}

/// Returns an index of one template without live queries.
pub(super) fn index_of(load: Load) -> QueryIndex {
    let mut index = QueryIndex::new();
    let condition = if load == Load::Ranges { between(0) } else { compare(0, CompareOp::Eq, 0) };
    add_template(&mut index, 0, condition);
    index
}

/// Returns the slots of a load's live queries, in random order: what the engine keeps, too, and shares with the index.
pub(super) fn slots_of(load: Load, len: usize) -> Vec<Arc<[SlotValue]>> {
    let mut numbers: Vec<usize> = (0..len).collect();
    Random(1).shuffle(&mut numbers);
    numbers
        .into_iter()
        .map(|number| {
            let at = if load == Load::ManyHits { number % tenants(len) } else { number } as i64;
            let slots: Arc<[SlotValue]> = match load {
                Load::Ranges => Arc::new([one(at * RANGE), one((at + 1) * RANGE)]),
                _ => Arc::new([one(at)]),
            };
            slots
        })
        .collect()
}

/// Adds live queries of an index's one template.
pub(super) fn fill(index: &mut QueryIndex, slots: &[Arc<[SlotValue]>]) {
    for (query, slots) in slots.iter().enumerate() {
        insert(index, query, 0, Arc::clone(slots));
    }
}

fn tenants(len: usize) -> usize {
    (len / HITS).max(1)
}

impl Workload {
    /// Makes a load of so many live queries.
    pub(super) fn new(load: Load, len: usize) -> Workload {
        let mut random = Random(7);
        match load {
            Load::Equality | Load::Miss | Load::ManyHits => {
                let mut index = index_of(load);
                fill(&mut index, &slots_of(load, len));
                let found: usize = match load {
                    Load::Miss => 0,
                    Load::ManyHits => len.min(HITS),
                    _ => 1,
                };
                let values = if load == Load::ManyHits { tenants(len) } else { len };
                let behind = if load == Load::Miss { len } else { 0 };
                let changes = Changes::new(1, || (behind + random.below(values)) as i64);
                let bare = if load == Load::ManyHits {
                    let mut sets: HashMap<i64, RoaringBitmap> = HashMap::new();
                    for (query, slots) in slots_of(load, len).iter().enumerate() {
                        let tenant = number_of(&slots[0]);
                        sets.entry(tenant).or_default().insert(query as u32);
                    }
                    Bare::Sets(sets)
                } else {
                    Bare::Map(map(len), 1)
                };
                Workload { index, changes, bare, hits: (found, found) }
            }
            Load::Ranges => {
                let mut index = index_of(load);
                let slots = slots_of(load, len);
                fill(&mut index, &slots);
                for (query, slots) in slots.iter().enumerate().filter(|(query, _)| query % 2 == 0) {
                    index.remove(QueryId(query as u32));
                    insert(&mut index, query, 0, Arc::clone(slots));
                }
                let changes = Changes::new(1, || random.below(len * RANGE as usize) as i64);
                Workload { index, changes, bare: Bare::Segments(segments(len)), hits: (1, 1) }
            }
            Load::Mixed => Workload::mixed(len, random),
        }
    }

    fn mixed(len: usize, mut random: Random) -> Workload {
        const TEMPLATES: usize = 20;
        let mut index = QueryIndex::new();
        for template in 0..TEMPLATES as u32 {
            let field = (template % 8) as u16;
            let equal = compare(field, CompareOp::Eq, 0);
            let other = compare((field + 1 + (template / 8) as u16) % 8, CompareOp::Eq, 1);
            let list = Condition::In {
                field: FieldId(field),
                operands: vec![Operand::Slot(SlotId(0)), Operand::Slot(SlotId(1))],
            };
            let condition = match template {
                0..=3 => equal,
                4..=7 => Condition::And(vec![equal, other]),
                8..=13 => between(field),
                _ => list,
            };
            add_template(&mut index, template, condition);
        }
        // As many values as a template has queries.
        let values = len.div_ceil(TEMPLATES);
        for query in 0..len {
            let at = random.below(values) as i64;
            let template = (query % TEMPLATES) as u32;
            let slots = match template {
                8..=13 => [one(at * RANGE), one((at + 1) * RANGE)],
                _ => [one(at * RANGE), one((at + 7) * RANGE)],
            };
            insert(&mut index, query, template, Arc::new(slots));
        }
        let changes = Changes::new(8, || (random.below(values) as i64) * RANGE);
        let bare = Bare::Both(map(values), 14, segments(values), 6);
        Workload { index, changes, bare, hits: (0, 200) }
    }

    /// Asks the index about each change; returns how many hits there were.
    pub(super) fn ask(&self, hits: &mut Vec<QueryId>) -> usize {
        // The compiler can't know that it is zero: which change comes next depends on what the last one found.
        let zero = std::hint::black_box(0);
        let mut found = 0;
        for number in 0..CHANGES {
            let row = &self.changes.rows[number + (hits.len() & zero)];
            let images = RowImages {
                relation: TABLE,
                old: None,
                new: Some(row),
                old_key: None,
                new_key: None,
                changed: None,
            };
            self.index.matches(&images, hits);
            found += hits.len();
        }
        found
    }

    /// Asks the bare structure; returns how many it found.
    pub(super) fn ask_bare(&self) -> usize {
        let zero = std::hint::black_box(0);
        let mut found = 0;
        for number in 0..CHANGES {
            found += self.bare.ask(self.changes.numbers[number + (found & zero)]);
        }
        found
    }
}

impl Bare {
    fn ask(&self, number: i64) -> usize {
        let look_up = |map: &HashMap<i64, u32>, times: usize| {
            (0..times as i64).filter(|by| map.contains_key(&(number ^ by))).count()
        };
        let stab = |segments: &BTreeMap<i64, (i64, u32)>, times: usize| {
            let found = |by: &i64| {
                let at = number ^ (by << 4);
                segments.range(..=at).next_back().is_some_and(|(_, (end, _))| at < *end)
            };
            (0..times as i64).filter(found).count()
        };
        match self {
            Bare::Map(map, times) => look_up(map, *times),
            Bare::Segments(segments) => stab(segments, 1),
            Bare::Both(map, lookups, segments, stabs) => {
                look_up(map, *lookups) + stab(segments, *stabs)
            }
            Bare::Sets(sets) => {
                let mut union = RoaringBitmap::new();
                if let Some(set) = sets.get(&number) {
                    union |= set;
                }
                union.len() as usize
            }
        }
    }
}

impl Changes {
    fn new(fields: usize, mut number: impl FnMut() -> i64) -> Changes {
        let mut numbers = Vec::with_capacity(CHANGES);
        let mut rows: Vec<Box<[FieldValue]>> = Vec::with_capacity(CHANGES);
        for _ in 0..CHANGES {
            let values: Vec<i64> = (0..fields).map(|_| number()).collect();
            numbers.push(values[0]);
            rows.push(values.into_iter().map(|value| FieldValue::Key(key(value))).collect());
        }
        Changes { rows, numbers }
    }
}

fn map(len: usize) -> HashMap<i64, u32> {
    (0..len).map(|number| (number as i64, number as u32)).collect()
}

fn segments(len: usize) -> BTreeMap<i64, (i64, u32)> {
    // In random order, as the index got them: in ascending order a B-tree is half empty.
    let mut numbers: Vec<usize> = (0..len).collect();
    Random(1).shuffle(&mut numbers);
    let segment = |number: usize| {
        let from = number as i64 * RANGE;
        (from, (from + RANGE, number as u32))
    };
    let mut segments = BTreeMap::new();
    for number in numbers {
        let (from, to) = segment(number);
        segments.insert(from, to);
    }
    segments
}

/// Returns the number that [`one`] made a slot of.
fn number_of(slot: &SlotValue) -> i64 {
    let SlotValue::One(Some(key)) = slot else { return 0 };
    let bytes = key.as_bytes().last_chunk::<8>().copied().unwrap_or_default();
    (u64::from_be_bytes(bytes) ^ (1 << 63)) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_load_hits_what_it_says() {
        for load in [Load::Equality, Load::Miss, Load::ManyHits, Load::Ranges, Load::Mixed] {
            let workload = Workload::new(load, 2_000);
            let found = workload.ask(&mut Vec::new());
            let (least, most) = workload.hits;
            assert!((least * CHANGES..=most * CHANGES).contains(&found), "{load:?}: {found}");
            if load != Load::Mixed {
                assert_eq!(workload.ask_bare(), found, "{load:?}");
            }
        }
    }

    #[test]
    fn numbers_are_read_back() {
        for number in [0, 1, -1, i64::MAX, i64::MIN] {
            assert_eq!(number_of(&one(number)), number);
        }
    }
}
