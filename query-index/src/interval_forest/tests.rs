//! The forest against a list of intervals, and its shape.

use super::*;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

impl IntervalForest {
    /// Checks a tree's invariants and returns its height and how many nodes it has.
    fn validate(&self, root: u32) -> (usize, usize) {
        if root == NIL {
            return (0, 0);
        }
        let mut leaves = Vec::new();
        let (height, inners) = self.validate_below(root, &mut leaves);
        let intervals: Vec<(Vec<u8>, bool, Vec<u8>)> = leaves
            .iter()
            .flat_map(|&leaf| self.leaf(leaf).intervals())
            .map(|(interval, _)| {
                let to = interval.to().unwrap_or_default().to_vec();
                (interval.from().to_vec(), interval.to().is_none(), to)
            })
            .collect();
        assert!(intervals.is_sorted_by(|left, right| left < right));
        (height, inners + leaves.len())
    }

    fn validate_below(&self, node: u32, leaves: &mut Vec<u32>) -> (usize, usize) {
        assert!((1..=Chunk::LEN_MAX).contains(&self.len(node)));
        if node & INNER == 0 {
            leaves.push(node);
            return (1, 0);
        }
        let inner = self.inner(node);
        let (mut height, mut inners) = (0, 1);
        for (place, &child) in inner.children[..inner.len].iter().enumerate() {
            let first = leaves.len();
            let below = self.validate_below(child.node, leaves);
            assert!(height == 0 || height == below.0, "all leaves are equally deep");
            (height, inners) = (below.0, inners + below.1);
            assert_eq!(child.first_leaf, leaves[first]);
            assert_eq!(inner.starts()[place], self.leaf(leaves[first]).start().digits);
            let greatest = self.leaf(child.end_leaf).end();
            assert_eq!(inner.ends[place], greatest.digits);
            assert!(leaves[first..].iter().all(|&leaf| self.leaf(leaf).end() <= greatest));
        }
        (1 + height, inners)
    }
}

fn stabbed(forest: &IntervalForest, root: u32, pool: &PostingsPool, point: &[u8]) -> Vec<u32> {
    let mut found = Vec::new();
    forest.stab(root, Bound::new(point), &mut |postings| {
        pool.for_each(postings, |query| found.push(query.0));
    });
    found.sort_unstable();
    found
}

/// Byte strings that often are equal, prefixes of each other, or alike in their first 16 bytes.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let short = prop::collection::vec(prop_oneof![Just(0u8), Just(1), Just(255)], 0..4);
    const STARTS: [&[u8]; 3] = [b"", b"\x01the same long beginning: ", b"\x01\0\0\0\0\0\0\0"];
    (prop::sample::select(&STARTS[..]), short).prop_map(|(start, end)| [start, &end[..]].concat())
}

/// An interval, its bounds and a query.
type Entry = (Interval, Vec<u8>, Option<Vec<u8>>, u32);

proptest! {
    #[test]
    fn stabbing_finds_what_a_scan_finds(
        steps in prop::collection::vec((0u8..7, bytes(), prop::option::of(bytes()), 0u32..6), 1..400),
        points in prop::collection::vec(bytes(), 10),
    ) {
        let mut forest = IntervalForest::default();
        let mut pool = PostingsPool::default();
        // Two trees: what is done to one must not show in the other.
        let mut roots = [NIL, NIL];
        let mut model: [Vec<Entry>; 2] = [Vec::new(), Vec::new()];
        for (step, (kind, from, to, query)) in steps.into_iter().enumerate() {
            let tree = usize::from(kind % 2);
            if kind < 4 || model[tree].is_empty() {
                let interval = Interval::new(&from, to.as_deref());
                roots[tree] = forest.insert(roots[tree], &interval, QueryId(query), &mut pool);
                let entry = (interval, from, to, query);
                if !model[tree].contains(&entry) {
                    model[tree].push(entry);
                }
            } else {
                let place = step % model[tree].len();
                let (interval, _, _, query) = model[tree].swap_remove(place);
                roots[tree] = forest.remove(roots[tree], &interval, QueryId(query), &mut pool);
            }
            for tree in 0..2 {
                forest.validate(roots[tree]);
                for point in &points {
                    let mut expected: Vec<u32> = model[tree]
                        .iter()
                        .filter(|(_, from, to, _)| {
                            from <= point && to.as_ref().is_none_or(|to| point < to)
                        })
                        .map(|&(.., query)| query)
                        .collect();
                    expected.sort_unstable();
                    prop_assert_eq!(stabbed(&forest, roots[tree], &pool, point), expected);
                }
            }
        }
    }
}

#[test]
fn work_is_logarithmic() {
    let mut random = StdRng::seed_from_u64(7);
    let mut pool = PostingsPool::default();
    // In order, and in random order; with digits that differ, and with bounds that only differ as a whole.
    for sorted in [true, false] {
        let mut forest = IntervalForest::default();
        let mut root = NIL;
        let len = 50_000u64;
        for query in 0..len {
            let at = if sorted { query * 10 } else { random.random_range(0..len * 10) };
            let bytes = |at: u64| [&[u8::from(sorted)][..], &at.to_be_bytes()].concat();
            let range = Interval::new(&bytes(at), Some(&bytes(at + 10)));
            root = forest.insert(root, &range, QueryId(query as u32), &mut pool);
        }
        let (height, nodes) = forest.validate(root);
        assert!(height <= 5 && nodes < 50_000 / 12, "{nodes} nodes, {height} high");
        for _ in 0..1_000 {
            let point = random.random_range(0..len * 10).to_be_bytes();
            let point = [&[u8::from(sorted)][..], &point].concat();
            let mut found = 0;
            let seen = forest.stab(root, Bound::new(&point), &mut |_| found += 1);
            assert!(seen <= 5 * (found + 2), "{seen} nodes for {found} found");
        }
    }
}

#[test]
fn nodes_are_used_again() {
    let mut forest = IntervalForest::default();
    let mut pool = PostingsPool::default();
    let mut root = NIL;
    for round in 0..100u32 {
        let range = Interval::new(&round.to_be_bytes(), None);
        root = forest.insert(root, &range, QueryId(round), &mut pool);
        root = forest.remove(root, &range, QueryId(round), &mut pool);
        assert_eq!(root, NIL);
    }
    assert_eq!(forest.leaves.len(), 1);
}

#[test]
fn nodes_stay_full_while_intervals_come_and_go() {
    let mut random = StdRng::seed_from_u64(11);
    let mut pool = PostingsPool::default();
    let (mut forest, mut root) = (IntervalForest::default(), NIL);
    let mut live: Vec<(u64, u32)> = Vec::new();
    let bytes = |at: u64| [&[1][..], &at.to_be_bytes()].concat();
    let range = |at: u64| Interval::new(&bytes(at), Some(&bytes(at + 10)));
    for query in 0..60_000u32 {
        let at = random.random_range(0..1 << 40);
        root = forest.insert(root, &range(at), QueryId(query), &mut pool);
        live.push((at, query));
        if live.len() > 10_000 {
            let (at, query) = live.swap_remove(random.random_range(0..live.len()));
            root = forest.remove(root, &range(at), QueryId(query), &mut pool);
        }
    }
    let (_, nodes) = forest.validate(root);
    assert!(nodes < 10_000 / 12, "{nodes} nodes for 10,000 intervals");
    assert!(forest.leaves.len() < 2 * nodes, "{} leaves", forest.leaves.len());
    for (at, query) in live {
        root = forest.remove(root, &range(at), QueryId(query), &mut pool);
    }
    assert_eq!(root, NIL);
    assert_eq!(forest.free_leaves.len(), forest.leaves.len());
}
