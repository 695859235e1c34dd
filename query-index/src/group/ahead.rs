//! Asks several groups so that their cache misses don't wait for each other.
//!
//! Nothing of twenty structures stays in the cache, and a look-up is a chain: the map, a node, its child, the set. Asked one
//! after the other, all links are waited for in turn. So the groups of a batch go link by link together: what each needs
//! next is read for all of them, and only then used. Nothing is decided here: the groups are asked as ever, and what they
//! read is in the cache.

use super::{Buckets, Found, Group, Hits};
use crate::access::{FieldUse, Fingerprint, Held};
use crate::fields::FieldValue;
use crate::interval_forest::Step;
use std::hash::RandomState;

/// More would be out of the first cache before they are used.
const BATCH: usize = 24;

/// A group on the way to what a row finds in it.
#[derive(Clone, Copy)]
struct Ahead<'a> {
    group: &'a Group,
    /// `None` where the group's look-up is none by a single key, or the row does not tell the key.
    fingerprint: Option<Fingerprint>,
    found: Found,
    /// What is to be read next.
    next: Found,
}

impl<'a> Ahead<'a> {
    fn new(group: &'a Group, row: &[FieldValue], hasher: &RandomState) -> Self {
        let fingerprint = group.single_key(row, hasher);
        Ahead { group, fingerprint, found: Found::Nothing, next: Found::Nothing }
    }

    /// Reads the beginning of what is next.
    fn touch(&self) -> usize {
        match (self.next, &self.group.buckets) {
            (Found::Set(postings), _) => self.group.pool.touch(postings),
            (Found::Tree(node), Buckets::Intervals { forest, .. }) => forest.touch(node),
            (Found::Nothing | Found::Tree(_), _) => 0,
        }
    }

    /// Goes on to what follows it.
    fn step(&mut self, row: &[FieldValue]) {
        self.next = match (self.next, &self.group.buckets, self.group.point(row)) {
            (Found::Tree(node), Buckets::Intervals { forest, .. }, Some(point)) => {
                match forest.step(node, point.as_bytes()) {
                    Step::Nothing => Found::Nothing,
                    Step::Node(node) => Found::Tree(node),
                    Step::Postings(postings) => Found::Set(postings),
                }
            }
            _ => Found::Nothing,
        };
    }
}

impl Group {
    /// Returns the one key that is looked up for a row which tells all that the look-up takes.
    fn single_key(&self, row: &[FieldValue], hasher: &RandomState) -> Option<Fingerprint> {
        let is_whole = matches!(self.buckets, Buckets::Whole);
        let has_one = !is_whole && self.key.field(FieldUse::Element).is_none();
        (has_one && matches!(self.held(row), Held::Known))
            .then(|| self.fingerprint(row, None, hasher))
    }
}

/// Asks each group for the queries whose conjunction the row can meet.
pub(crate) fn probe_all<'a>(
    mut groups: impl Iterator<Item = &'a Group>,
    row: &[FieldValue],
    hasher: &RandomState,
    hits: &mut impl Hits,
) {
    while let Some(first) = groups.next() {
        let Some(second) = groups.next() else {
            first.probe(row, hasher, hits);
            return;
        };
        let mut batch = [Ahead::new(first, row, hasher); BATCH];
        batch[1] = Ahead::new(second, row, hasher);
        let mut len = 2;
        for (place, group) in batch[2..].iter_mut().zip(groups.by_ref()) {
            *place = Ahead::new(group, row, hasher);
            len += 1;
        }
        let batch = &mut batch[..len];
        read_ahead(batch, row);
        for ahead in batch {
            match ahead.fingerprint {
                Some(_) => ahead.group.take_single(ahead.found, row, hits),
                None => ahead.group.probe(row, hasher, hits),
            }
        }
    }
}

fn read_ahead(batch: &mut [Ahead<'_>], row: &[FieldValue]) {
    for ahead in &mut *batch {
        if let Some(fingerprint) = ahead.fingerprint {
            ahead.found = ahead.group.find(fingerprint);
            ahead.next = ahead.found;
        }
    }
    let mut left = true;
    while left {
        let touched: usize = batch.iter().map(Ahead::touch).fold(0, usize::wrapping_add);
        // Without this the compiler leaves out what is of no use to it.
        std::hint::black_box(touched);
        left = false;
        for ahead in &mut *batch {
            ahead.step(row);
            left |= !matches!(ahead.next, Found::Nothing);
        }
    }
}
