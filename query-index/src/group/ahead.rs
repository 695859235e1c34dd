//! Asks several groups so that their cache misses don't wait for each other.
//!
//! Nothing of twenty structures stays in the cache, and a look-up is a chain: the map, a node, its child, the set. Asked one
//! after the other, all links are waited for in turn. So the groups of a batch go link by link together: what each needs
//! next is read for all of them, and only then used.

use super::{Buckets, Found, Group, Hits};
use crate::access::{Fingerprint, Held};
use crate::fields::FieldValue;
use crate::interval_chunk::Bound;
use crate::interval_forest::{IntervalForest, Step};
use crate::postings::Postings;
use std::hash::RandomState;

/// More would be out of the first cache before they are used.
const BATCH: usize = 24;

/// A group that is asked for what stands under one key.
#[derive(Clone, Copy)]
struct Asked<'a> {
    group: &'a Group,
    fingerprint: Fingerprint,
    /// What the row holds in the field of the intervals.
    point: Option<Bound<'a>>,
}

/// A node that is next on the way to a point.
struct Tree<'a> {
    number: usize,
    group: &'a Group,
    forest: &'a IntervalForest,
    node: u32,
    point: Bound<'a>,
}

impl<'a> Asked<'a> {
    fn tree(self, number: usize, node: u32) -> Option<Tree<'a>> {
        match &self.group.buckets {
            Buckets::Intervals { forest, .. } => {
                Some(Tree { number, group: self.group, forest, node, point: self.point? })
            }
            Buckets::Whole | Buckets::Keys(_) => None,
        }
    }
}

/// What is to be read next: each with the number of its group in the batch.
struct Links<T> {
    links: [Option<(usize, T)>; BATCH],
    len: usize,
}

impl<T: Copy> Links<T> {
    fn new() -> Self {
        Links { links: [None; BATCH], len: 0 }
    }

    /// Adds one and returns whether there was room.
    fn push(&mut self, number: usize, link: T) -> bool {
        let Some(place) = self.links.get_mut(self.len) else { return false };
        *place = Some((number, link));
        self.len += 1;
        true
    }

    fn iter(&self) -> impl Iterator<Item = (usize, T)> {
        self.links[..self.len].iter().copied().flatten()
    }
}

/// The groups of a batch, on the way to what a row finds in them.
struct Batch<'a> {
    asked: [Option<Asked<'a>>; BATCH],
    len: usize,
    nodes: Links<u32>,
    sets: Links<Postings>,
}

impl Group {
    /// Returns the one key that is looked up for a row which tells all that the look-up takes.
    fn single_key(&self, row: &[FieldValue], hasher: &RandomState) -> Option<Fingerprint> {
        let is_whole = matches!(self.buckets, Buckets::Whole);
        let has_one = !is_whole && self.element_field.is_none();
        (has_one && matches!(self.held(row), Held::Known))
            .then(|| self.fingerprint(row, None, hasher))
    }
}

/// Asks each group for the queries whose conjunction the row can meet.
pub(crate) fn probe_all<'a>(
    mut groups: impl Iterator<Item = &'a Group>,
    row: &'a [FieldValue],
    hasher: &RandomState,
    hits: &mut impl Hits,
) {
    while let Some(first) = groups.next() {
        let Some(second) = groups.next() else {
            first.probe(row, hasher, hits);
            return;
        };
        let mut batch = Batch::new();
        for group in [first, second].into_iter().chain(groups.by_ref().take(BATCH - 2)) {
            match group.single_key(row, hasher) {
                Some(fingerprint) => batch.add(group, fingerprint, row),
                None => group.probe(row, hasher, hits),
            }
        }
        batch.ask(hits);
    }
}

impl<'a> Batch<'a> {
    fn new() -> Self {
        Batch { asked: [None; BATCH], len: 0, nodes: Links::new(), sets: Links::new() }
    }

    fn add(&mut self, group: &'a Group, fingerprint: Fingerprint, row: &'a [FieldValue]) {
        let point = group.point(row).map(|point| Bound::new(point.as_bytes()));
        self.asked[self.len] = Some(Asked { group, fingerprint, point });
        self.len += 1;
    }

    fn ask(mut self, hits: &mut impl Hits) {
        for number in 0..self.len {
            let Some(Asked { group, fingerprint, point }) = self.asked[number] else { continue };
            debug_assert!(
                point.is_some() || group.range_field.is_none(),
                "the row tells all of it"
            );
            hits.stats().probes += 1;
            group.take_unkeyed(hits);
            // Each has one root or one set at first, so there is room.
            match group.find(fingerprint) {
                Found::Set(postings) => self.sets.push(number, postings),
                Found::Tree(root) => self.nodes.push(number, root),
                Found::Nothing => true,
            };
        }
        while self.nodes.len > 0 {
            self.step(hits);
        }
        self.take_sets(hits);
    }

    /// Goes from each node that is next to those that follow it.
    fn step(&mut self, hits: &mut impl Hits) {
        let nodes = std::mem::replace(&mut self.nodes, Links::new());
        let trees =
            || nodes.iter().filter_map(|(number, node)| self.asked[number]?.tree(number, node));
        read(trees().map(|tree| tree.forest.touch(tree.node, tree.point)));
        for Tree { number, group, forest, node, point } in trees() {
            hits.stats().probes += 1;
            let is_certain = group.key.is_exact;
            // What there is no room for is not waited for together.
            forest.step(node, point, &mut |step| match step {
                Step::Node(child) => {
                    if !self.nodes.push(number, child) {
                        let take = &mut |found| group.take(found, is_certain, hits);
                        let seen = forest.stab(child, point, take);
                        hits.stats().probes += seen;
                    }
                }
                Step::Postings(found) => {
                    if !self.sets.push(number, found) {
                        group.take(found, is_certain, hits);
                    }
                }
            });
        }
    }

    fn take_sets(&mut self, hits: &mut impl Hits) {
        let groups = |number: usize| self.asked[number].map(|asked| asked.group);
        let sets = || self.sets.iter().filter_map(|(number, set)| Some((groups(number)?, set)));
        read(sets().map(|(group, set)| group.pool.touch(set)));
        for (group, set) in sets() {
            group.take(set, group.key.is_exact, hits);
        }
    }
}

/// Reads what is next of all groups before any of it is used.
fn read(touched: impl Iterator<Item = usize>) {
    // Without this the compiler leaves out what is of no use to it.
    std::hint::black_box(touched.fold(0, usize::wrapping_add));
}
