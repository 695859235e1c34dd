//! One structure of look-ups: the live queries of all conjunctions, of whatever template, that look up the same fields
//! and are treated alike when they are found. So statements that differ in a constant share a look-up.

mod ahead;

pub(crate) use ahead::probe_all;

use crate::access::{Access, FieldUse, Fingerprint, Held, Standing};
use crate::eval::field_value;
use crate::fields::{FieldId, FieldSet, FieldValue};
use crate::images::{MatchStats, RowImages};
use crate::interval_chunk::Bound;
use crate::interval_forest::{IntervalForest, NIL};
use crate::postings::{Postings, PostingsPool};
use crate::predicate::{OldRows, QueryId, SlotValue, Unheld};
use convoy_types::Key;
use roaring::RoaringBitmap;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher, RandomState};

/// What conjunctions have in common that share a group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct GroupKey {
    /// What is looked up, ascending.
    look_up: Vec<(FieldId, FieldUse)>,
    is_exact: bool,
    pub(crate) old_rows: OldRows,
    /// [`crate::Predicate::fields`].
    pub(crate) fields: FieldSet,
    /// [`crate::Predicate::unheld`], for queries of which the held rows are known.
    unheld: Option<Unheld>,
}

impl GroupKey {
    pub(crate) fn new(access: &Access, fields: &FieldSet, old_rows: OldRows) -> Self {
        GroupKey {
            look_up: access.fields(),
            is_exact: access.is_exact,
            old_rows,
            fields: fields.clone(),
            unheld: None,
        }
    }

    /// Returns what the same conjunctions have in common for queries of which the held rows are known.
    pub(crate) fn with_unheld(self, unheld: &Unheld) -> Self {
        GroupKey { unheld: Some(unheld.clone()), ..self }
    }

    /// Returns whether a change can matter to a query of the group by its condition. If not, it may still matter to those
    /// that hold its row.
    pub(crate) fn concerns(&self, images: &RowImages<'_>) -> bool {
        images.changes(&self.fields)
            && !self.unheld.as_ref().is_some_and(|unheld| unheld.spares(images))
    }

    fn field(&self, field_use: FieldUse) -> Option<FieldId> {
        self.look_up.iter().find(|(_, of)| *of == field_use).map(|(field, _)| *field)
    }

    fn has_key(&self) -> bool {
        self.look_up.iter().any(|(_, of)| matches!(of, FieldUse::Key | FieldUse::Element))
    }
}

/// The live queries of conjunctions with one [`GroupKey`].
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) key: GroupKey,
    /// How many conjunctions of templates use the group.
    pub(crate) users: usize,
    /// What of the key is asked with each look-up.
    has_key: bool,
    element_field: Option<FieldId>,
    range_field: Option<FieldId>,
    /// All queries of the group; the only structure where nothing is looked up.
    queries: RoaringBitmap,
    /// Those of them that stand under no key.
    unkeyed: RoaringBitmap,
    buckets: Buckets,
    pool: PostingsPool,
}

#[derive(Clone, Debug)]
enum Buckets {
    Whole,
    Keys(ByFingerprint<Postings>),
    Intervals { roots: ByFingerprint<u32>, forest: IntervalForest },
}

/// What stands under one key.
#[derive(Clone, Copy, Debug)]
enum Found {
    Nothing,
    Set(Postings),
    /// The root of a tree of intervals.
    Tree(u32),
}

/// A map by fingerprint, which is a hash already.
type ByFingerprint<V> = HashMap<Fingerprint, V, BuildHasherDefault<Halves>>;

#[derive(Clone, Debug, Default)]
struct Halves(u64);

impl Hasher for Halves {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("a fingerprint is written as one number")
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

impl Hash for Fingerprint {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(u64::from(self.0[0]) | u64::from(self.0[1]) << 32);
    }
}

/// Takes the queries that a look-up finds; the same one perhaps more than once.
pub(crate) trait Hits {
    /// Takes queries that are hits.
    fn certain(&mut self, found: &PostingsPool, postings: Postings);
    /// Takes all queries of a set, which are hits.
    fn all_certain(&mut self, queries: &RoaringBitmap);
    /// Takes a query that is a hit if it passes the test.
    fn candidate(&mut self, query: QueryId);
    /// Returns where the work is counted.
    fn stats(&mut self) -> &mut MatchStats;
}

impl Group {
    pub(crate) fn new(key: GroupKey) -> Self {
        let buckets = if key.field(FieldUse::Range).is_some() {
            Buckets::Intervals { roots: HashMap::default(), forest: IntervalForest::default() }
        } else if key.has_key() {
            Buckets::Keys(HashMap::default())
        } else {
            Buckets::Whole
        };
        Group {
            has_key: key.has_key(),
            element_field: key.field(FieldUse::Element),
            range_field: key.field(FieldUse::Range),
            key,
            users: 0,
            queries: RoaringBitmap::new(),
            unkeyed: RoaringBitmap::new(),
            buckets,
            pool: PostingsPool::default(),
        }
    }

    /// Adds a live query; nothing where no row can meet its conjunction.
    pub(crate) fn insert(
        &mut self,
        access: &Access,
        query: QueryId,
        slots: &[SlotValue],
        hasher: &RandomState,
    ) {
        let entries = match access.standing(hasher, slots) {
            Standing::Nowhere => return,
            Standing::Unkeyed => {
                self.queries.insert(query.0);
                self.unkeyed.insert(query.0);
                return;
            }
            Standing::Under(entries) => entries,
        };
        self.queries.insert(query.0);
        let pool = &mut self.pool;
        for fingerprint in entries.fingerprints {
            match (&mut self.buckets, &entries.interval) {
                (Buckets::Keys(postings), _) => {
                    postings
                        .entry(fingerprint)
                        .and_modify(|postings| *postings = pool.add(*postings, query))
                        .or_insert(Postings::one(query));
                }
                (Buckets::Intervals { roots, forest }, Some(interval)) => {
                    let root = roots.entry(fingerprint).or_insert(NIL);
                    *root = forest.insert(*root, interval, query, pool);
                }
                (Buckets::Whole | Buckets::Intervals { .. }, _) => {}
            }
        }
    }

    /// Takes a live query away that was added with the same slots.
    pub(crate) fn remove(
        &mut self,
        access: &Access,
        query: QueryId,
        slots: &[SlotValue],
        hasher: &RandomState,
    ) {
        self.queries.remove(query.0);
        let entries = match access.standing(hasher, slots) {
            Standing::Nowhere => return,
            Standing::Unkeyed => {
                self.unkeyed.remove(query.0);
                return;
            }
            Standing::Under(entries) => entries,
        };
        let pool = &mut self.pool;
        for fingerprint in entries.fingerprints {
            match (&mut self.buckets, &entries.interval) {
                (Buckets::Keys(postings), _) => {
                    let Some(place) = postings.get_mut(&fingerprint) else { continue };
                    match pool.remove(*place, query) {
                        Some(left) => *place = left,
                        None => {
                            postings.remove(&fingerprint);
                        }
                    }
                }
                (Buckets::Intervals { roots, forest }, Some(interval)) => {
                    let Some(root) = roots.get_mut(&fingerprint) else { continue };
                    *root = forest.remove(*root, interval, query, pool);
                    if *root == NIL {
                        roots.remove(&fingerprint);
                    }
                }
                (Buckets::Whole | Buckets::Intervals { .. }, _) => {}
            }
        }
    }

    /// Returns what a row holds in the fields of the look-up.
    fn held(&self, row: &[FieldValue]) -> Held {
        let fields = self.key.look_up.iter();
        Held::of(fields.map(|&(field, field_use)| (field_value(row, field), field_use)))
    }

    /// Returns whether the row does not tell a field of the look-up.
    pub(crate) fn leaves_open(&self, row: &[FieldValue]) -> bool {
        let mut fields = self.key.look_up.iter();
        fields.any(|&(field, _)| *field_value(row, field) == FieldValue::Unknown)
    }

    /// Returns whether two rows find the same queries, and all of them are hits.
    pub(crate) fn finds_the_same(&self, row: &[FieldValue], other: &[FieldValue]) -> bool {
        let mut fields = self.key.look_up.iter();
        self.key.is_exact
            && fields.all(|&(field, _)| field_value(row, field) == field_value(other, field))
    }

    /// Finds the queries whose conjunction the row can meet.
    pub(crate) fn probe(&self, row: &[FieldValue], hasher: &RandomState, hits: &mut impl Hits) {
        match self.held(row) {
            Held::Nothing => {}
            Held::Known => self.look_up(row, hasher, self.key.is_exact, hits),
            // Each comparison may be true, whatever its other side is.
            Held::Unknown => self.take_all(self.key.is_exact, hits),
            Held::PartlyUnknown if self.is_key_known(row) => {
                self.look_up(row, hasher, false, hits);
            }
            Held::PartlyUnknown => self.take_all(false, hits),
        }
    }

    fn is_key_known(&self, row: &[FieldValue]) -> bool {
        self.key.look_up.iter().all(|&(field, field_use)| match field_use {
            FieldUse::Key => matches!(field_value(row, field), FieldValue::Key(_)),
            FieldUse::Element => matches!(field_value(row, field), FieldValue::Elements(_)),
            FieldUse::Null(_) | FieldUse::Range => true,
        })
    }

    fn take_all(&self, is_certain: bool, hits: &mut impl Hits) {
        hits.stats().probes += 1;
        if is_certain {
            hits.all_certain(&self.queries);
        } else {
            self.queries.iter().for_each(|query| hits.candidate(QueryId(query)));
        }
    }

    /// Looks up a row of which the key is known.
    fn look_up(
        &self,
        row: &[FieldValue],
        hasher: &RandomState,
        is_certain: bool,
        hits: &mut impl Hits,
    ) {
        let elements = self.element_field.map(|field| field_value(row, field));
        match (&self.buckets, elements) {
            (Buckets::Whole, _) => return self.take_all(is_certain, hits),
            (_, Some(FieldValue::Elements(elements))) => {
                for element in elements {
                    let fingerprint = self.fingerprint(row, Some(element), hasher);
                    self.look_under(fingerprint, row, is_certain, hits);
                }
            }
            _ => {
                let fingerprint = self.fingerprint(row, None, hasher);
                self.look_under(fingerprint, row, is_certain, hits);
            }
        }
        self.take_unkeyed(hits);
    }

    fn take_unkeyed(&self, hits: &mut impl Hits) {
        if !self.unkeyed.is_empty() {
            self.unkeyed.iter().for_each(|query| hits.candidate(QueryId(query)));
        }
    }

    fn fingerprint(
        &self,
        row: &[FieldValue],
        element: Option<&Key>,
        hasher: &RandomState,
    ) -> Fingerprint {
        let look_up = if self.has_key { &self.key.look_up[..] } else { &[] };
        let values = look_up.iter().filter_map(|&(field, field_use)| match field_use {
            FieldUse::Element => element,
            FieldUse::Key => match field_value(row, field) {
                FieldValue::Key(key) => Some(key),
                FieldValue::Null | FieldValue::Elements(_) | FieldValue::Unknown => None,
            },
            FieldUse::Null(_) | FieldUse::Range => None,
        });
        Fingerprint::of(hasher, values)
    }

    /// Finds what stands under one key; whatever its intervals are, where the row does not tell the point.
    fn look_under(
        &self,
        fingerprint: Fingerprint,
        row: &[FieldValue],
        is_certain: bool,
        hits: &mut impl Hits,
    ) {
        hits.stats().probes += 1;
        self.take_found(self.find(fingerprint), row, is_certain, hits);
    }

    /// Returns what stands under one key.
    fn find(&self, fingerprint: Fingerprint) -> Found {
        match &self.buckets {
            Buckets::Whole => Found::Nothing,
            Buckets::Keys(postings) => {
                postings.get(&fingerprint).map_or(Found::Nothing, |&postings| Found::Set(postings))
            }
            Buckets::Intervals { roots, .. } => {
                roots.get(&fingerprint).map_or(Found::Nothing, |&root| Found::Tree(root))
            }
        }
    }

    fn take_found(&self, found: Found, row: &[FieldValue], is_certain: bool, hits: &mut impl Hits) {
        match (found, &self.buckets) {
            (Found::Set(postings), _) => self.take(postings, is_certain, hits),
            (Found::Tree(root), Buckets::Intervals { forest, .. }) => {
                let take = &mut |found| self.take(found, is_certain, hits);
                if let Some(point) = self.point(row) {
                    let seen = forest.stab(root, Bound::new(point.as_bytes()), take);
                    hits.stats().probes += seen;
                } else {
                    forest.for_each(root, take);
                }
            }
            (Found::Tree(_) | Found::Nothing, _) => {}
        }
    }

    /// Returns what the row holds in the field of the intervals, if it tells.
    fn point<'a>(&self, row: &'a [FieldValue]) -> Option<&'a Key> {
        match self.range_field.map(|field| field_value(row, field)) {
            Some(FieldValue::Key(point)) => Some(point),
            _ => None,
        }
    }

    fn take(&self, postings: Postings, is_certain: bool, hits: &mut impl Hits) {
        if is_certain {
            hits.certain(&self.pool, postings);
        } else {
            self.pool.for_each(postings, |query| hits.candidate(query));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::normal_form::{Width, conjunctions};
    use crate::predicate::{CompareOp, Condition};
    use crate::testing::{compare, key, slot};

    #[test]
    fn an_entry_of_one_query_takes_12_bytes() {
        assert_eq!(size_of::<(Fingerprint, Postings)>(), 12);
    }

    #[test]
    fn what_is_removed_leaves_no_entry() {
        let hasher = RandomState::new();
        let list = Condition::In { field: FieldId(0), operands: vec![slot(0)] };
        let range = compare(1, CompareOp::Lt, slot(1));
        for condition in [list.clone(), Condition::And(vec![list, range])] {
            let access = Access::choose(&conjunctions(&condition, Width::Narrow)[0]);
            let key_of_group = GroupKey::new(&access, &FieldSet::all(2), OldRows::Condition);
            let mut group = Group::new(key_of_group);
            let slots = |query| {
                let values = [Some(key(query)), Some(key(query / 2)), None];
                [SlotValue::Many(Box::new(values)), SlotValue::One(Some(key(5)))]
            };
            for query in 0..50 {
                group.insert(&access, QueryId(query), &slots(query as i32), &hasher);
            }
            for query in 0..50 {
                group.remove(&access, QueryId(query), &slots(query as i32), &hasher);
            }
            let entries = match &group.buckets {
                Buckets::Whole => panic!("a list is looked up"),
                Buckets::Keys(postings) => postings.len(),
                Buckets::Intervals { roots, .. } => roots.len(),
            };
            assert_eq!((entries, group.queries.len()), (0, 0));
        }
    }
}
