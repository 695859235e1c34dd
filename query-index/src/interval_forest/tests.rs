//! The forest against a list of intervals, and its shape.

use super::*;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

impl IntervalForest {
    /// Checks a tree's invariants and returns its height.
    fn validate(&self, root: u32) -> usize {
        let mut chunks = Vec::new();
        let height = self.validate_below(root, &mut chunks);
        let intervals: Vec<&Interval> = chunks
            .iter()
            .flat_map(|&node| &self.chunk(node).entries)
            .map(|(interval, _)| interval)
            .collect();
        assert!(intervals.is_sorted_by(|left, right| left < right));
        height
    }

    fn validate_below(&self, root: u32, chunks: &mut Vec<u32>) -> usize {
        if root == NIL {
            return 0;
        }
        let (link, chunk) = (self.link(root), self.chunk(root));
        assert!((1..=CHUNK_LEN_MAX).contains(&chunk.entries.len()));
        assert_eq!(link.start_prefix, chunk.first().start_prefix());
        assert_eq!(link.chunk_end_prefix, chunk.end().end_prefix());
        let left = self.validate_below(link.left, chunks);
        chunks.push(root);
        let right = self.validate_below(link.right, chunks);
        let greatest = self.chunk(link.end_node).end();
        assert_eq!(link.end_prefix, greatest.end_prefix());
        assert!(chunk.entries.iter().all(|(interval, _)| !interval.ends_later(greatest)));
        for child in [link.left, link.right].into_iter().filter(|&child| child != NIL) {
            assert!(self.link(child).priority <= link.priority);
            assert!(!self.chunk(self.link(child).end_node).end().ends_later(greatest));
        }
        1 + left.max(right)
    }
}

fn stabbed(forest: &IntervalForest, root: u32, pool: &PostingsPool, point: &[u8]) -> Vec<u32> {
    let mut found = Vec::new();
    forest.stab(root, point, &mut |postings| {
        pool.for_each(postings, |query| found.push(query.0));
    });
    found.sort_unstable();
    found
}

/// Byte strings that often are equal, prefixes of each other, or alike in their first 16 bytes.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let short = prop::collection::vec(prop_oneof![Just(0u8), Just(1), Just(255)], 0..4);
    const STARTS: [&[u8]; 3] =
        [b"", b"the same long beginning: ", b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"];
    (prop::sample::select(&STARTS[..]), short).prop_map(|(start, end)| [start, &end[..]].concat())
}

/// An interval, its bounds and a query.
type Entry = (Interval, Vec<u8>, Option<Vec<u8>>, u32);

proptest! {
    #[test]
    fn stabbing_finds_what_a_scan_finds(
        steps in prop::collection::vec((0u8..6, bytes(), prop::option::of(bytes()), 0u32..6), 1..250),
        points in prop::collection::vec(bytes(), 10),
    ) {
        let mut forest = IntervalForest::new(1);
        let mut pool = PostingsPool::default();
        // Two trees: what is done to one must not show in the other.
        let mut roots = [NIL, NIL];
        let mut model: [Vec<Entry>; 2] = [Vec::new(), Vec::new()];
        for (step, (kind, from, to, query)) in steps.into_iter().enumerate() {
            let tree = usize::from(kind % 2);
            if kind < 4 || model[tree].is_empty() {
                let interval = Interval::new(&from, to.as_deref());
                roots[tree] = forest.insert(roots[tree], interval.clone(), QueryId(query), &mut pool);
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
    // In order, and in random order: a search tree without balance is a list in the first case.
    for sorted in [true, false] {
        let mut forest = IntervalForest::new(3);
        let mut root = NIL;
        let len = 50_000u64;
        for query in 0..len {
            let at = if sorted { query * 10 } else { random.random_range(0..len * 10) };
            let range = Interval::new(&at.to_be_bytes(), Some(&(at + 10).to_be_bytes()));
            root = forest.insert(root, range, QueryId(query as u32), &mut pool);
        }
        let height = forest.validate(root);
        assert!(height < 50, "the tree is {height} high");
        for _ in 0..1_000 {
            let point = random.random_range(0..len * 10).to_be_bytes();
            let mut found = 0;
            let seen = forest.stab(root, &point, &mut |_| found += 1);
            assert!(seen < 60 * (found + 2), "{seen} nodes for {found} found");
        }
    }
}

#[test]
fn nodes_are_used_again() {
    let mut forest = IntervalForest::new(5);
    let mut pool = PostingsPool::default();
    let mut root = NIL;
    for round in 0..100u32 {
        let range = Interval::new(&round.to_be_bytes(), None);
        root = forest.insert(root, range.clone(), QueryId(round), &mut pool);
        root = forest.remove(root, &range, QueryId(round), &mut pool);
        assert_eq!(root, NIL);
    }
    assert_eq!(forest.links.len(), 1);
    assert_eq!((size_of::<Link>(), size_of::<(Interval, Postings)>()), (64, 56));
}
