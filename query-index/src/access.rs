//! Chooses how the live queries of a conjunction are found.
//!
//! All look-ups have one form: the values of some fields together are a key (fields of equalities, and of one list: an
//! `IN`, or elements of an array, which are a key each), and under the key there may be intervals of one more field. Tests
//! for null are a gate before it, which costs a query no memory. A literal is taken in where it tells live queries apart, or
//! where nothing else does; what is left out is residual.
//!
//! That all equalities are in the key is always right: their values are hashed together, so one more neither costs a query
//! memory nor a look-up time, and it can only make the queries under a key fewer. Whatever subset of them tells the live
//! queries of a template apart, the whole set does. The real choices are between lists, between ranges, and whether one is
//! worth having at all, for a list's every element is an entry, and a range needs a tree. [`Access::choose`] chooses by
//! what the statement says, which is where a template begins; [`Access::alternatives`] are what its live queries then speak
//! for (`statistics.rs`).

use crate::access_path::AccessPath;
use crate::eval::Comparand;
use crate::fields::{FieldId, FieldValue};
use crate::interval::Interval;
use crate::normal_form::{Conjunction, Literal, NullTest};
use crate::predicate::{CompareOp, Operand, SlotId, SlotValue};
use convoy_types::Key;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, Hash, Hasher, RandomState};

/// What a look-up takes of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum FieldUse {
    /// Its value is part of the key.
    Key,
    /// Each of its elements is part of a key.
    Element,
    /// Nothing but whether it is null.
    Null(NullTest),
    /// Its value is the point whose intervals are found.
    Range,
}

/// Alternative values of one field.
#[derive(Clone, Debug, PartialEq, Eq)]
struct List {
    field: FieldId,
    /// [`FieldUse::Key`] or [`FieldUse::Element`].
    field_use: FieldUse,
    operands: Vec<Operand>,
}

impl List {
    fn has_slot(&self) -> bool {
        self.operands.iter().any(Operand::is_slot)
    }
}

/// Bounds of one field.
type Range = (FieldId, Vec<Bound>);

fn has_slot((_, bounds): &Range) -> bool {
    bounds.iter().any(|bound| bound.operand().is_slot())
}

/// The most ways to look a conjunction up that are compared, and the most lists and ranges that they are put together of.
const ALTERNATIVES_MAX: usize = 16;
const PARTS_MAX: usize = 8;

/// An end of an interval, or both.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Bound {
    Compare(CompareOp, Operand),
    Prefix(Operand),
}

impl Bound {
    fn operand(&self) -> &Operand {
        match self {
            Bound::Compare(_, operand) | Bound::Prefix(operand) => operand,
        }
    }
}

/// How the live queries of one conjunction are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Access {
    equal: BTreeMap<FieldId, Operand>,
    // Invariant: of a field that is not in `equal`.
    list: Option<List>,
    nulls: BTreeSet<(FieldId, NullTest)>,
    // Invariant: of a field that is neither in `equal` nor the list's.
    range: Option<Range>,
    /// Whether whatever is found can meet the condition, without a test.
    pub(crate) is_exact: bool,
    /// Whether an `OR` with too many alternatives was left out.
    is_cut: bool,
}

/// Values as a hash: two that differ share one once in 2^64, and then a query is named that need not be.
// Two halves, so that an entry of a map needs no padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Fingerprint(pub(crate) [u32; 2]);

impl Fingerprint {
    /// Returns the fingerprint of values; each but the last is hashed with its length, so that they can't run together.
    pub(crate) fn of<'a>(hasher: &RandomState, mut values: impl Iterator<Item = &'a Key>) -> Self {
        let Some(mut last) = values.next() else {
            // Intervals under no key: each change asks for them, and there is nothing to hide.
            return Fingerprint([0; 2]);
        };
        let mut state = hasher.build_hasher();
        for value in values {
            last.as_bytes().hash(&mut state);
            last = value;
        }
        state.write(last.as_bytes());
        let hash = state.finish();
        Fingerprint([hash as u32, (hash >> 32) as u32])
    }
}

/// Where a live query stands.
pub(crate) enum Standing {
    /// Nowhere: no row can meet its conjunction.
    Nowhere,
    /// Under no key: it is a candidate whatever the row holds, because a value of its key is open.
    Unkeyed,
    /// Under keys.
    Under(Entries),
}

/// The keys under which a live query stands.
pub(crate) struct Entries {
    // Invariant: not empty.
    pub(crate) fingerprints: BTreeSet<Fingerprint>,
    /// The interval, where the access has a range.
    pub(crate) interval: Option<Interval>,
}

impl Access {
    /// Chooses what of a conjunction is looked up, by what the statement says: slots tell live queries apart, constants do
    /// not.
    ///
    /// A second distinction below one that a slot makes is left out unless it is a range of slots (`symbol = $1 AND
    /// price < $2`: very many may share the symbol).
    pub(crate) fn choose(conjunction: &Conjunction) -> Access {
        let equal = Access::new(conjunction, None, None);
        let mut keys_have_slot = equal.equal.values().any(Operand::is_slot);
        let lists = equal.lists(conjunction).filter(|_| !keys_have_slot);
        let list = lists.max_by_key(List::has_slot);
        keys_have_slot |= list.as_ref().is_some_and(List::has_slot);
        let ranges = equal.ranges(conjunction, list.as_ref().map(|list| list.field));
        let range = ranges
            .into_iter()
            .filter(|range| has_slot(range) || !keys_have_slot)
            .max_by_key(|range| (has_slot(range), is_closed(&range.1)));
        Access::new(conjunction, list, range)
    }

    /// Returns the ways to look a conjunction up that may be the best, [`Access::choose`]'s first.
    ///
    /// They differ in which list and which range of slots they take in, if any: one of constants is the same for all live
    /// queries of a template and can't make those few that are found. Past the limit, what takes in less comes first.
    pub(crate) fn alternatives(conjunction: &Conjunction) -> Vec<Access> {
        let equal = Access::new(conjunction, None, None);
        let keys_have_slot = equal.equal.values().any(Operand::is_slot);
        let lists = equal.lists(conjunction).filter(List::has_slot).take(PARTS_MAX);
        let mut parts = Vec::new();
        for list in std::iter::once(None).chain(lists.map(Some)) {
            let ranges = equal.ranges(conjunction, list.as_ref().map(|list| list.field));
            let ranges = ranges.into_iter().filter(has_slot).take(PARTS_MAX);
            for range in std::iter::once(None).chain(ranges.map(Some)) {
                if keys_have_slot || list.is_some() || range.is_some() {
                    parts.push((list.clone(), range));
                }
            }
        }
        parts.sort_by_key(|(list, range)| {
            usize::from(list.is_some()) + usize::from(range.is_some())
        });
        let mut alternatives = vec![Access::choose(conjunction)];
        for (list, range) in parts {
            let access = Access::new(conjunction, list, range);
            if alternatives.len() < ALTERNATIVES_MAX && !alternatives.contains(&access) {
                alternatives.push(access);
            }
        }
        alternatives
    }

    fn new(conjunction: &Conjunction, list: Option<List>, range: Option<Range>) -> Access {
        let mut access = Access {
            equal: BTreeMap::new(),
            nulls: BTreeSet::new(),
            is_exact: !conjunction.has_residual,
            is_cut: conjunction.is_cut,
            list,
            range,
        };
        for literal in &conjunction.literals {
            if let Literal::Equal(field, operand) = literal
                && access.equal.insert(*field, operand.clone()).is_some()
            {
                access.is_exact = false;
            }
        }
        // A list that is in the key need not be tested; another of the same field must be.
        let mut is_list_open = access.list.is_some();
        for literal in &conjunction.literals {
            let is_in = match literal {
                Literal::Equal(..) => true,
                Literal::In(field, operands) | Literal::Element(field, operands) => {
                    let is_it = access.list.as_ref().is_some_and(|list| {
                        list.field == *field
                            && list.operands == *operands
                            && (list.field_use == FieldUse::Element)
                                == matches!(literal, Literal::Element(..))
                    });
                    is_it && std::mem::take(&mut is_list_open)
                }
                Literal::Bound(field, ..) | Literal::Prefix(field, _) => {
                    access.range.as_ref().is_some_and(|(of, _)| of == field)
                }
                Literal::Null(field, test) => {
                    // What is compared is not null.
                    if *test == NullTest::IsNull || !access.compares(*field) {
                        access.nulls.insert((*field, *test));
                    }
                    true
                }
            };
            access.is_exact &= is_in;
        }
        access
    }

    fn compares(&self, field: FieldId) -> bool {
        self.equal.contains_key(&field)
            || self.list.as_ref().is_some_and(|list| list.field == field)
            || self.range_field() == Some(field)
    }

    /// Returns the lists of a conjunction that may be in the key.
    fn lists(&self, conjunction: &Conjunction) -> impl Iterator<Item = List> {
        conjunction.literals.iter().filter_map(|literal| {
            let (field, field_use, operands) = match literal {
                Literal::In(field, operands) => (*field, FieldUse::Key, operands),
                Literal::Element(field, operands) => (*field, FieldUse::Element, operands),
                _ => return None,
            };
            let is_free = !self.equal.contains_key(&field);
            is_free.then(|| List { field, field_use, operands: operands.clone() })
        })
    }

    /// Returns the bounds of a conjunction by the fields whose intervals may stand under the key.
    fn ranges(
        &self,
        conjunction: &Conjunction,
        listed: Option<FieldId>,
    ) -> BTreeMap<FieldId, Vec<Bound>> {
        let mut ranges: BTreeMap<FieldId, Vec<Bound>> = BTreeMap::new();
        for literal in &conjunction.literals {
            let (field, bound) = match literal {
                Literal::Bound(field, op, operand) => {
                    (*field, Bound::Compare(*op, operand.clone()))
                }
                Literal::Prefix(field, operand) => (*field, Bound::Prefix(operand.clone())),
                _ => continue,
            };
            if !self.equal.contains_key(&field) && listed != Some(field) {
                ranges.entry(field).or_default().push(bound);
            }
        }
        ranges
    }

    /// Returns the fields that are looked up, ascending, and what is taken of each.
    pub(crate) fn fields(&self) -> Vec<(FieldId, FieldUse)> {
        let keys = self.equal.keys().map(|&field| (field, FieldUse::Key));
        let list = self.list.iter().map(|list| (list.field, list.field_use));
        let nulls = self.nulls.iter().map(|&(field, test)| (field, FieldUse::Null(test)));
        let range = self.range_field().map(|field| (field, FieldUse::Range));
        let mut fields: Vec<_> = keys.chain(list).chain(nulls).chain(range).collect();
        fields.sort_unstable();
        fields
    }

    fn range_field(&self) -> Option<FieldId> {
        self.range.as_ref().map(|(field, _)| *field)
    }

    /// Returns whether where a live query stands depends on what it puts in the slot.
    pub(crate) fn uses(&self, slot: SlotId) -> bool {
        let list = self.list.iter().flat_map(|list| &list.operands);
        let bounds = self.range.iter().flat_map(|(_, bounds)| bounds).map(Bound::operand);
        let mut operands = self.equal.values().chain(list).chain(bounds);
        operands.any(|operand| *operand == Operand::Slot(slot))
    }

    /// Returns under how many keys a live query with these slots would stand, at most.
    pub(crate) fn count_entries(&self, slots: &[SlotValue]) -> usize {
        self.list.as_ref().map_or(1, |list| {
            list.operands.iter().map(|operand| operand.elements(slots).count()).sum()
        })
    }

    /// Returns what a change costs that is looked up here, but for what it finds, in tests of a candidate.
    pub(crate) fn look_up_cost(&self) -> f64 {
        let is_element = self.list.as_ref().is_some_and(|list| list.field_use == FieldUse::Element);
        // A row has several elements, and a descent is several nodes.
        let probes = if is_element { 4.0 } else { 1.0 };
        probes * if self.range.is_some() { 3.0 } else { 1.0 }
    }

    /// Returns where a live query with these slots stands.
    pub(crate) fn standing(&self, hasher: &RandomState, slots: &[SlotValue]) -> Standing {
        let Some(interval) = self.interval(slots) else { return Standing::Nowhere };
        let list = self.list.iter().map(|list| (list.field, list.operands.as_slice()));
        let equal =
            self.equal.iter().map(|(&field, operand)| (field, std::slice::from_ref(operand)));
        let mut sources: Vec<(FieldId, &[Operand])> = equal.chain(list).collect();
        sources.sort_by_key(|(field, _)| *field);
        let mut lists: Vec<Vec<&Key>> = Vec::with_capacity(sources.len());
        let mut is_keyed = true;
        for (_, operands) in sources {
            let mut list = Vec::new();
            let mut is_open = false;
            for element in operands.iter().flat_map(|operand| operand.elements(slots)) {
                match element {
                    Comparand::Key(key) => list.push(key),
                    // A comparison with null is never true.
                    Comparand::Null => {}
                    Comparand::Open | Comparand::Missing => is_open = true,
                }
            }
            if list.is_empty() && !is_open {
                return Standing::Nowhere;
            }
            is_keyed &= !is_open;
            lists.push(list);
        }
        if !is_keyed {
            return Standing::Unkeyed;
        }
        let alternatives = lists.iter().map(Vec::len).max().unwrap_or(1);
        let fingerprints = (0..alternatives)
            .map(|number| {
                // A list of one value stands for itself in each alternative.
                let values = lists.iter().map(|list| list[if list.len() > 1 { number } else { 0 }]);
                Fingerprint::of(hasher, values)
            })
            .collect();
        Standing::Under(Entries { fingerprints, interval })
    }

    /// Returns what the bounds leave of the range's field, if there is a range; `None` where one is null.
    fn interval(&self, slots: &[SlotValue]) -> Option<Option<Interval>> {
        let Some((_, bounds)) = &self.range else { return Some(None) };
        let mut interval = Interval::all();
        for bound in bounds {
            let key = match bound.operand().value(slots) {
                Comparand::Key(key) => key,
                Comparand::Null => return None,
                Comparand::Open | Comparand::Missing => continue,
            };
            match bound {
                Bound::Prefix(_) => interval.bound_prefix(key),
                Bound::Compare(CompareOp::Gt, _) => interval.bound_below(key, false),
                Bound::Compare(CompareOp::Ge, _) => interval.bound_below(key, true),
                Bound::Compare(CompareOp::Lt, _) => interval.bound_above(key, false),
                Bound::Compare(CompareOp::Le, _) => interval.bound_above(key, true),
                Bound::Compare(CompareOp::Eq | CompareOp::Ne, _) => {}
            }
        }
        Some(Some(interval))
    }

    /// Returns the path as `explain` shows it.
    pub(crate) fn path(&self) -> AccessPath {
        let mut paths = Vec::new();
        if !self.equal.is_empty() {
            paths.push(AccessPath::Equality(self.equal.keys().copied().collect()));
        }
        paths.extend(self.list.as_ref().map(|list| match list.field_use {
            FieldUse::Element => AccessPath::Element(list.field),
            _ => AccessPath::In(list.field),
        }));
        paths.extend(self.range.as_ref().map(|(field, bounds)| {
            let are_prefixes = bounds.iter().all(|bound| matches!(bound, Bound::Prefix(_)));
            if are_prefixes { AccessPath::Prefix(*field) } else { AccessPath::Range(*field) }
        }));
        paths.extend(self.nulls.iter().map(|&(field, test)| match test {
            NullTest::IsNull => AccessPath::IsNull(field),
            NullTest::IsNotNull => AccessPath::IsNotNull(field),
        }));
        match paths.len() {
            0 if self.is_cut => AccessPath::WideOr,
            0 => AccessPath::Table,
            1 => paths.remove(0),
            _ => AccessPath::All(paths),
        }
    }
}

fn is_closed(bounds: &[Bound]) -> bool {
    let lower = |bound: &Bound| matches!(bound, Bound::Compare(CompareOp::Gt | CompareOp::Ge, _));
    let upper = |bound: &Bound| matches!(bound, Bound::Compare(CompareOp::Lt | CompareOp::Le, _));
    let prefix = |bound: &Bound| matches!(bound, Bound::Prefix(_));
    bounds.iter().any(prefix) || (bounds.iter().any(lower) && bounds.iter().any(upper))
}

/// What a row holds in the fields of a look-up.
pub(crate) enum Held {
    /// Something that no query asks for: a null where values are compared, or what a test for null refuses.
    Nothing,
    /// All that the look-up takes.
    Known,
    /// Some are unknown, or something is told of which the look-up knows nothing: elements where a value is compared.
    PartlyUnknown,
    /// All are unknown.
    Unknown,
}

impl Held {
    pub(crate) fn of<'a>(values: impl Iterator<Item = (&'a FieldValue, FieldUse)>) -> Held {
        let (mut known, mut unknown) = (false, false);
        for (value, field_use) in values {
            match (value, field_use) {
                (FieldValue::Unknown, _) => unknown = true,
                (FieldValue::Null, FieldUse::Null(NullTest::IsNull))
                | (FieldValue::Key(_), FieldUse::Key | FieldUse::Range)
                | (FieldValue::Elements(_), FieldUse::Element)
                | (
                    FieldValue::Key(_) | FieldValue::Elements(_),
                    FieldUse::Null(NullTest::IsNotNull),
                ) => known = true,
                (FieldValue::Null, _) | (_, FieldUse::Null(NullTest::IsNull)) => {
                    return Held::Nothing;
                }
                (FieldValue::Key(_), FieldUse::Element)
                | (FieldValue::Elements(_), FieldUse::Key | FieldUse::Range) => {
                    (known, unknown) = (true, true);
                }
            }
        }
        match (known, unknown) {
            (_, false) => Held::Known,
            (true, true) => Held::PartlyUnknown,
            (false, true) => Held::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::normal_form::{Width, conjunctions};
    use crate::predicate::Condition;
    use crate::testing::{compare, constant, slot};

    fn check(parts: Vec<Condition>, expected: &str, is_exact: bool) {
        let conjunctions = conjunctions(&Condition::And(parts), Width::Narrow);
        let [conjunction] = &conjunctions[..] else { panic!("one alternative: {conjunctions:?}") };
        let access = Access::choose(conjunction);
        assert_eq!(access.path().describe(&|field| format!("c{}", field.0)), expected);
        assert_eq!(access.is_exact, is_exact, "{expected}");
    }

    fn list(field: u16, operands: Vec<Operand>) -> Condition {
        Condition::In { field: FieldId(field), operands }
    }

    #[test]
    fn the_most_selective_path_is_chosen() {
        let equal = |field, operand| compare(field, CompareOp::Eq, operand);
        let above = |field, operand| compare(field, CompareOp::Gt, operand);
        let below = |field, operand| compare(field, CompareOp::Le, operand);
        check(vec![], "table", true);
        check(vec![Condition::Unknown], "table", false);
        check(vec![equal(0, slot(0))], "equality (c0)", true);
        check(vec![equal(1, constant(1)), equal(0, slot(0))], "equality (c0, c1)", true);
        check(vec![equal(0, slot(0)), equal(0, slot(1))], "equality (c0)", false);
        check(vec![equal(0, slot(0)), list(1, vec![slot(1)])], "equality (c0)", false);
        check(
            vec![equal(0, constant(0)), list(1, vec![slot(1)])],
            "equality (c0) with in (c1)",
            true,
        );
        check(vec![list(0, vec![constant(0)]), list(1, vec![slot(1)])], "in (c1)", false);
        check(vec![equal(0, slot(0)), above(1, constant(1))], "equality (c0)", false);
        check(vec![equal(0, slot(0)), above(1, slot(1))], "equality (c0) with range (c1)", true);
        check(
            vec![equal(0, constant(0)), above(1, slot(1))],
            "equality (c0) with range (c1)",
            true,
        );
        check(vec![above(0, slot(0)), above(1, slot(0)), below(1, slot(1))], "range (c1)", false);
        check(vec![above(0, constant(1)), below(1, slot(1))], "range (c1)", false);
        check(
            vec![above(1, slot(0)), Condition::IsNull(FieldId(0))],
            "range (c1) with null (c0)",
            true,
        );
        check(vec![above(1, slot(0)), Condition::IsNotNull(FieldId(1))], "range (c1)", true);
        check(vec![Condition::IsNotNull(FieldId(1))], "not null (c1)", true);
        let begins = |field, operand| Condition::Prefix { field: FieldId(field), operand };
        check(vec![begins(0, slot(0)), above(1, slot(1))], "prefix (c0)", false);
        check(vec![begins(0, slot(0)), above(0, slot(1))], "range (c0)", true);
        let has = |field, operand| Condition::HasElement { field: FieldId(field), operand };
        check(
            vec![has(0, slot(0)), equal(1, constant(1))],
            "equality (c1) with element (c0)",
            true,
        );
        check(vec![has(0, slot(0)), has(0, slot(1))], "element (c0)", false);
        check(vec![has(0, slot(0)), has(0, slot(0))], "element (c0)", false);
    }

    #[test]
    fn queries_that_compare_with_null_stand_nowhere() {
        let hasher = RandomState::new();
        let access = |condition| Access::choose(&conjunctions(&condition, Width::Narrow)[0]);
        let equal = access(compare(0, CompareOp::Eq, slot(0)));
        let stands = |access: &Access, slot| match access.standing(&hasher, &[slot]) {
            Standing::Nowhere => "nowhere",
            Standing::Unkeyed => "unkeyed",
            Standing::Under(_) => "under keys",
        };
        assert_eq!(stands(&equal, SlotValue::One(None)), "nowhere");
        let above = access(compare(0, CompareOp::Gt, slot(0)));
        assert_eq!(stands(&above, SlotValue::One(None)), "nowhere");
        let list = access(list(0, vec![slot(0)]));
        assert_eq!(stands(&list, SlotValue::Many(Box::new([None]))), "nowhere");
        // What is open is met by more than a key can say.
        assert_eq!(stands(&equal, SlotValue::Open), "unkeyed");
        assert_eq!(stands(&list, SlotValue::Open), "unkeyed");
        assert_eq!(stands(&above, SlotValue::Open), "under keys");
        let key = crate::testing::key;
        let values = SlotValue::Many(Box::new([Some(key(1)), None, Some(key(2)), Some(key(1))]));
        let Standing::Under(entries) = list.standing(&hasher, &[values]) else {
            panic!("it can be true")
        };
        assert_eq!(entries.fingerprints.len(), 2);
    }
}
