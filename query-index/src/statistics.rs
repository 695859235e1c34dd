//! What a look-up would cost, by a sample of the live queries that would stand in it.
//!
//! Nothing is known of the rows to come, and nothing of the table. So a row is taken to be one that some live query asks
//! for, each as likely as the next: what it holds of that query's keys, and at either end of its interval. How many others
//! it finds is what makes one look-up worse than another, since each has to be tested. Entries count as well, for they are
//! memory, and work whenever a query comes or goes.
//!
//! All costs are in tests of a candidate, some hundred nanoseconds.

use crate::access::{Access, Entries, Fingerprint, Standing};
use crate::interval::Interval;
use crate::predicate::SlotValue;
use std::hash::RandomState;

/// The most live queries that are looked at: as many as tell whether a change finds a hundred of a million.
pub(crate) const SAMPLE_LEN_MAX: usize = 256;

/// The most entries that are made of them for one look-up; where lists are long, fewer queries are looked at.
const SAMPLE_ENTRIES_MAX: usize = 4_096;

/// So many entries are worth the test of a candidate with each change.
const ENTRIES_PER_TEST: f64 = 8.0;

/// So many hits that need no test cost as much as the test of a candidate.
const HITS_PER_TEST: f64 = 16.0;

/// So many pairs of queries of a sample may be found together by chance: they are not held against the look-up that there
/// is.
const PAIRS_BY_CHANCE: f64 = 4.0;

/// Some of a template's live queries.
pub(crate) struct Sample<'a> {
    hasher: &'a RandomState,
    /// How many there are in all.
    population: usize,
    slots: Vec<&'a [SlotValue]>,
}

/// What a sample says of a look-up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Estimate {
    /// Without what is found.
    fixed: f64,
    /// For each that is found.
    per_found: f64,
    /// How often a query of the sample was found by a row of another one's.
    pairs: f64,
    /// How many live queries a change finds for each of the pairs.
    found_per_pair: f64,
}

impl Estimate {
    /// Returns the cost of the look-up that there is, with the doubt in its favour.
    pub(crate) fn as_present(self) -> f64 {
        self.cost((self.pairs - PAIRS_BY_CHANCE).max(0.0))
    }

    /// Returns the cost of one that there might be: what the sample does not show may be there nonetheless.
    pub(crate) fn as_other(self) -> f64 {
        self.cost(self.pairs + 1.0)
    }

    fn cost(self, pairs: f64) -> f64 {
        self.fixed + pairs * self.found_per_pair * self.per_found
    }
}

/// The intervals of a sample, each with the key that it is under; without intervals, each key has that of everything.
#[derive(Default)]
struct Ends<'a> {
    /// Where they begin, ascending.
    starts: Vec<(Fingerprint, &'a [u8])>,
    /// Where they end that do, ascending.
    ends: Vec<(Fingerprint, &'a [u8])>,
}

impl<'a> Sample<'a> {
    pub(crate) fn new(
        hasher: &'a RandomState,
        population: usize,
        slots: impl Iterator<Item = &'a [SlotValue]>,
    ) -> Self {
        Sample { hasher, population, slots: slots.take(SAMPLE_LEN_MAX).collect() }
    }

    /// Returns what the sample says of a look-up.
    pub(crate) fn estimate(&self, access: &Access) -> Estimate {
        let (mut entries, mut len) = (0, 0);
        for slots in &self.slots {
            let more = access.count_entries(slots);
            // Two are the least that can have something in common.
            if len >= 2 && entries + more > SAMPLE_ENTRIES_MAX {
                break;
            }
            entries += more;
            len += 1;
        }
        let pairs = self.pairs(access, len);
        let (entries, len) = (entries as f64, len as f64);
        let others = (self.population as f64 - 1.0).max(0.0);
        Estimate {
            fixed: access.look_up_cost() + entries / len.max(1.0) / ENTRIES_PER_TEST,
            per_found: if access.is_exact { 1.0 / HITS_PER_TEST } else { 1.0 },
            pairs,
            found_per_pair: others / (len * (len - 1.0)).max(1.0),
        }
    }

    /// Returns how many of the first `len` queries are found by the row of another, summed over the rows.
    fn pairs(&self, access: &Access, len: usize) -> f64 {
        let (mut unkeyed, mut keyed) = (0_usize, Vec::with_capacity(len));
        for slots in &self.slots[..len] {
            match access.standing(self.hasher, slots) {
                Standing::Nowhere => {}
                Standing::Unkeyed => unkeyed += 1,
                // No row is in an interval that ends where it begins, or before.
                Standing::Under(entries) if entries.interval.as_ref().is_some_and(is_empty) => {}
                Standing::Under(entries) => keyed.push(entries),
            }
        }
        let ends = Ends::of(&keyed);
        let found_under = |entries: &Entries| {
            let interval = entries.interval.as_ref();
            // Not the query itself.
            let found = |&fingerprint| ends.found(fingerprint, interval) - 1.0;
            let found: f64 = entries.fingerprints.iter().map(found).sum();
            found / entries.fingerprints.len() as f64
        };
        let found: f64 = keyed.iter().map(found_under).sum();
        // What stands under no key is found by whatever row.
        let always = unkeyed * (keyed.len() + unkeyed.saturating_sub(1));
        found + always as f64
    }
}

impl<'a> Ends<'a> {
    fn of(all: &'a [Entries]) -> Self {
        let mut ends = Ends::default();
        for Entries { fingerprints, interval } in all {
            let from = interval.as_ref().map_or(&[][..], Interval::from);
            let to = interval.as_ref().and_then(Interval::to);
            for &fingerprint in fingerprints {
                ends.starts.push((fingerprint, from));
                ends.ends.extend(to.map(|to| (fingerprint, to)));
            }
        }
        ends.starts.sort_unstable();
        ends.ends.sort_unstable();
        ends
    }

    /// Returns how many intervals under a key hold the ends of one of them, in the mean.
    fn found(&self, key: Fingerprint, interval: Option<&Interval>) -> f64 {
        let from = interval.map(Interval::from).filter(|from| !from.is_empty());
        let first = from.map(|from| self.count(key, |end| end <= from));
        let to = interval.and_then(Interval::to);
        let last = to.map(|to| self.count(key, |end| end < to));
        match (first, last) {
            (Some(first), Some(last)) => (first + last) as f64 / 2.0,
            (Some(found), None) | (None, Some(found)) => found as f64,
            // It may be anywhere.
            (None, None) => count_under(&self.starts, key, |_| true) as f64,
        }
    }

    /// Returns how many intervals under a key have begun and not ended, by what is not behind a point.
    fn count(&self, key: Fingerprint, is_before: impl Fn(&[u8]) -> bool) -> usize {
        count_under(&self.starts, key, &is_before) - count_under(&self.ends, key, &is_before)
    }
}

fn count_under(
    ends: &[(Fingerprint, &[u8])],
    key: Fingerprint,
    is_before: impl Fn(&[u8]) -> bool,
) -> usize {
    let before = ends.partition_point(|&(of, _)| of < key);
    ends.partition_point(|&(of, end)| of < key || (of == key && is_before(end))) - before
}

fn is_empty(interval: &Interval) -> bool {
    interval.to().is_some_and(|to| to <= interval.from())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::normal_form::{Width, conjunctions};
    use crate::predicate::{CompareOp, Condition};
    use crate::testing::{compare, key, slot};

    /// Returns how many queries of a sample find one another.
    fn pairs(condition: Condition, slots: &[Vec<SlotValue>]) -> f64 {
        let hasher = RandomState::new();
        let sample = Sample::new(&hasher, slots.len(), slots.iter().map(Vec::as_slice));
        let access = Access::choose(&conjunctions(&condition, Width::Narrow)[0]);
        sample.pairs(&access, slots.len())
    }

    fn one(value: i32) -> SlotValue {
        SlotValue::One(Some(key(value)))
    }

    #[test]
    fn queries_that_share_a_key_find_one_another() {
        let equal = || compare(0, CompareOp::Eq, slot(0));
        let of = |values: &[i32]| values.iter().map(|&value| vec![one(value)]).collect::<Vec<_>>();
        assert_eq!(pairs(equal(), &of(&[1, 2, 3])), 0.0);
        assert_eq!(pairs(equal(), &of(&[1, 1, 1, 2])), 6.0);
        assert_eq!(pairs(equal(), &[vec![SlotValue::One(None)], vec![one(1)]]), 0.0);
        // What is open is found by each of the others, and by the other open one.
        let open = || vec![SlotValue::Open];
        assert_eq!(pairs(equal(), &[open(), open(), vec![one(1)], vec![one(2)]]), 6.0);
    }

    #[test]
    fn lists_share_some_of_their_elements() {
        let list = Condition::In { field: crate::FieldId(0), operands: vec![slot(0)] };
        let many = |values: [i32; 2]| {
            vec![SlotValue::Many(values.iter().map(|&value| Some(key(value))).collect())]
        };
        assert_eq!(pairs(list, &[many([1, 2]), many([2, 3]), many([4, 5])]), 1.0);
    }

    #[test]
    fn intervals_hold_the_ends_of_others() {
        let between = || {
            Condition::And(vec![
                compare(0, CompareOp::Ge, slot(0)),
                compare(0, CompareOp::Lt, slot(1)),
            ])
        };
        let of = |bounds: &[(i32, i32)]| {
            bounds.iter().map(|&(from, to)| vec![one(from), one(to)]).collect::<Vec<_>>()
        };
        assert_eq!(pairs(between(), &of(&[(0, 1), (1, 2), (2, 3)])), 0.0);
        assert_eq!(pairs(between(), &of(&[(0, 9), (0, 9), (9, 9)])), 2.0);
        // The inner one's ends are both in the outer one, and neither of the outer one's in the inner.
        assert_eq!(pairs(between(), &of(&[(0, 9), (3, 6)])), 1.0);
        let above = compare(0, CompareOp::Gt, slot(0));
        assert_eq!(pairs(above, &(0..4).map(|from| vec![one(from)]).collect::<Vec<_>>()), 6.0);
    }
}
