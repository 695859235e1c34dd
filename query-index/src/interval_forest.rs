//! Intervals that come and go, and which of them hold a point.
//!
//! A treap (Seidel and Aragon, "Randomized Search Trees", Algorithmica 1996) whose nodes know the greatest end below
//! them (Cormen et al., "Introduction to Algorithms", interval trees): inserting and removing take O(log n), stabbing
//! O(log n) for each interval found. A node holds a *chunk* of intervals that are next to each other, because a
//! descent is paid in cache misses: with chunks it is through a table a tenth as large. Equal intervals are one entry
//! with the queries that have it.
//!
//! Many trees share one [`IntervalForest`], so that a tree of one interval costs one node. What a descent reads is kept
//! apart from the intervals, a cache line a node; the first 16 bytes of both sides decide nearly every comparison there.

use crate::interval::{Interval, Point};
use crate::postings::{Postings, PostingsPool};
use crate::predicate::QueryId;

/// No node; as a root, the empty tree.
pub(crate) const NIL: u32 = u32::MAX;

/// The most intervals of a chunk: scanning them should cost about what a cache miss does.
const CHUNK_LEN_MAX: usize = 16;

/// What a descent reads of a node.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Link {
    /// The prefix of the chunk's first interval.
    start_prefix: u128,
    /// The prefix of the greatest end in the chunk.
    chunk_end_prefix: u128,
    /// The prefix of the greatest end in the subtree.
    end_prefix: u128,
    /// The node with the greatest end in the subtree.
    end_node: u32,
    left: u32,
    right: u32,
    // Invariant: no less than the children's.
    priority: u32,
}

#[derive(Clone, Debug)]
struct Chunk {
    // Invariant: ascending, without duplicates; not empty while the node is in a tree.
    entries: Vec<(Interval, Postings)>,
    /// The entry with the greatest end.
    end_entry: usize,
}

impl Chunk {
    fn first(&self) -> &Interval {
        &self.entries[0].0
    }

    fn end(&self) -> &Interval {
        &self.entries[self.end_entry].0
    }

    fn position(&self, interval: &Interval) -> Result<usize, usize> {
        self.entries.binary_search_by(|(other, _)| other.cmp(interval))
    }

    fn find_end(&mut self) {
        let mut end = 0;
        for (place, (interval, _)) in self.entries.iter().enumerate() {
            if interval.ends_later(&self.entries[end].0) {
                end = place;
            }
        }
        self.end_entry = end;
    }
}

/// Interval trees, each known by its root, which changes with each insertion and removal.
#[derive(Clone, Debug, Default)]
pub(crate) struct IntervalForest {
    links: Vec<Link>,
    chunks: Vec<Chunk>,
    free: Vec<u32>,
    /// The state of the generator of priorities.
    seed: u64,
}

impl IntervalForest {
    /// Returns an empty forest; the seed keeps an adversary from choosing the shape of the trees.
    pub(crate) fn new(seed: u64) -> Self {
        IntervalForest { seed, ..Self::default() }
    }

    /// Adds a query under an interval and returns the tree's root.
    pub(crate) fn insert(
        &mut self,
        root: u32,
        interval: Interval,
        query: QueryId,
        pool: &mut PostingsPool,
    ) -> u32 {
        if root == NIL {
            return self.allocate(vec![(interval, Postings::one(query))]);
        }
        let node = self.chunk_for(root, &interval);
        let chunk = &mut self.chunks[node as usize];
        let place = match chunk.position(&interval) {
            Ok(place) => {
                let postings = &mut chunk.entries[place].1;
                *postings = pool.add(*postings, query);
                return root;
            }
            Err(place) => place,
        };
        let entry = (interval, Postings::one(query));
        let mut split_off = None;
        if chunk.entries.len() < CHUNK_LEN_MAX {
            chunk.entries.insert(place, entry);
        } else if place == CHUNK_LEN_MAX {
            // Where intervals come in ascending order, full chunks stay behind.
            split_off = Some(vec![entry]);
        } else {
            let mut upper = chunk.entries.split_off(CHUNK_LEN_MAX / 2);
            if place <= CHUNK_LEN_MAX / 2 {
                chunk.entries.insert(place, entry);
            } else {
                upper.insert(place - CHUNK_LEN_MAX / 2, entry);
            }
            split_off = Some(upper);
        }
        chunk.find_end();
        self.refresh(root, node);
        match split_off {
            Some(entries) => {
                let node = self.allocate(entries);
                self.insert_node(root, node)
            }
            None => root,
        }
    }

    /// Takes a query away from under an interval and returns the tree's root.
    pub(crate) fn remove(
        &mut self,
        root: u32,
        interval: &Interval,
        query: QueryId,
        pool: &mut PostingsPool,
    ) -> u32 {
        if root == NIL {
            return root;
        }
        let node = self.chunk_for(root, interval);
        let chunk = &mut self.chunks[node as usize];
        let Ok(place) = chunk.position(interval) else { return root };
        let postings = &mut chunk.entries[place].1;
        if let Some(left) = pool.remove(*postings, query) {
            *postings = left;
            return root;
        }
        if chunk.entries.len() == 1 {
            let root = self.remove_node(root, node);
            self.chunks[node as usize].entries = Vec::new();
            self.free.push(node);
            return root;
        }
        chunk.entries.remove(place);
        if chunk.entries.len() <= chunk.entries.capacity() / 4 {
            chunk.entries.shrink_to(2 * chunk.entries.len());
        }
        chunk.find_end();
        self.refresh(root, node);
        root
    }

    /// Calls `visit` for each interval of the tree that holds the point; returns how many nodes it looked at.
    pub(crate) fn stab(&self, root: u32, point: &[u8], visit: &mut impl FnMut(Postings)) -> usize {
        self.stab_below(root, Point::new(point), visit)
    }

    /// Calls `visit` for each interval of the tree.
    pub(crate) fn for_each(&self, root: u32, visit: &mut impl FnMut(Postings)) {
        if root != NIL {
            self.for_each(self.link(root).left, visit);
            self.chunk(root).entries.iter().for_each(|&(_, postings)| visit(postings));
            self.for_each(self.link(root).right, visit);
        }
    }

    fn stab_below(&self, root: u32, point: Point<'_>, visit: &mut impl FnMut(Postings)) -> usize {
        let (mut node, mut seen) = (root, 0);
        while node != NIL {
            seen += 1;
            let link = self.link(node);
            if link.end_prefix < point.prefix
                || (link.end_prefix == point.prefix
                    && !self.chunk(link.end_node).end().ends_behind(point))
            {
                break;
            }
            seen += self.stab_below(link.left, point, visit);
            // All that follow begin no earlier.
            if link.start_prefix > point.prefix {
                break;
            }
            if link.chunk_end_prefix >= point.prefix {
                for (interval, postings) in &self.chunk(node).entries {
                    if !interval.begins_by(point) {
                        return seen;
                    }
                    if interval.ends_behind(point) {
                        visit(*postings);
                    }
                }
            }
            node = link.right;
        }
        seen
    }

    fn link(&self, node: u32) -> &Link {
        &self.links[node as usize]
    }

    fn chunk(&self, node: u32) -> &Chunk {
        &self.chunks[node as usize]
    }

    /// Returns the node whose chunk holds the interval, or is to hold it: the last that does not begin behind it, or the
    /// first of all.
    fn chunk_for(&self, root: u32, interval: &Interval) -> u32 {
        let prefix = interval.start_prefix();
        let (mut node, mut found, mut last) = (root, NIL, root);
        while node != NIL {
            last = node;
            let link = self.link(node);
            let is_behind = link.start_prefix > prefix
                || (link.start_prefix == prefix && self.chunk(node).first() > interval);
            if is_behind {
                node = link.left;
            } else {
                found = node;
                node = link.right;
            }
        }
        if found == NIL { last } else { found }
    }

    fn allocate(&mut self, entries: Vec<(Interval, Postings)>) -> u32 {
        let mut chunk = Chunk { entries, end_entry: 0 };
        chunk.find_end();
        let link = Link {
            start_prefix: 0,
            chunk_end_prefix: 0,
            end_prefix: 0,
            end_node: NIL,
            left: NIL,
            right: NIL,
            priority: self.next_priority(),
        };
        let node = match self.free.pop() {
            Some(node) => {
                self.links[node as usize] = link;
                self.chunks[node as usize] = chunk;
                node
            }
            None => {
                self.links.push(link);
                self.chunks.push(chunk);
                u32::try_from(self.links.len() - 1)
                    .expect("four billion nodes don't fit into memory")
            }
        };
        self.adopt(node, NIL, NIL);
        node
    }

    /// SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
    fn next_priority(&mut self) -> u32 {
        self.seed = self.seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.seed;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed >> 32) as u32
    }

    fn is_before(&self, node: u32, other: u32) -> bool {
        let (prefix, other_prefix) =
            (self.chunk(node).first().start_prefix(), self.link(other).start_prefix);
        prefix < other_prefix
            || (prefix == other_prefix && self.chunk(node).first() < self.chunk(other).first())
    }

    /// Finds the ends on the way to a node again, whose chunk changed.
    fn refresh(&mut self, root: u32, node: u32) {
        let Link { left, right, .. } = *self.link(root);
        if root != node {
            self.refresh(if self.is_before(node, root) { left } else { right }, node);
        }
        self.adopt(root, left, right);
    }

    fn insert_node(&mut self, root: u32, node: u32) -> u32 {
        if root == NIL {
            return node;
        }
        if self.link(node).priority > self.link(root).priority {
            let (left, right) = self.split(root, node);
            self.adopt(node, left, right);
            return node;
        }
        let Link { left, right, .. } = *self.link(root);
        if self.is_before(node, root) {
            let left = self.insert_node(left, node);
            self.adopt(root, left, right);
        } else {
            let right = self.insert_node(right, node);
            self.adopt(root, left, right);
        }
        root
    }

    fn remove_node(&mut self, root: u32, node: u32) -> u32 {
        let Link { left, right, .. } = *self.link(root);
        if root == node {
            return self.merge(left, right);
        }
        if self.is_before(node, root) {
            let left = self.remove_node(left, node);
            self.adopt(root, left, right);
        } else {
            let right = self.remove_node(right, node);
            self.adopt(root, left, right);
        }
        root
    }

    /// Splits a tree into what is before a node that it does not hold, and what is behind.
    fn split(&mut self, root: u32, node: u32) -> (u32, u32) {
        if root == NIL {
            return (NIL, NIL);
        }
        let Link { left, right, .. } = *self.link(root);
        if self.is_before(node, root) {
            let (before, behind) = self.split(left, node);
            self.adopt(root, behind, right);
            (before, root)
        } else {
            let (before, behind) = self.split(right, node);
            self.adopt(root, left, before);
            (root, behind)
        }
    }

    /// Joins two trees of which the first is before the second.
    fn merge(&mut self, before: u32, behind: u32) -> u32 {
        if before == NIL {
            return behind;
        }
        if behind == NIL {
            return before;
        }
        if self.link(before).priority > self.link(behind).priority {
            let Link { left, right, .. } = *self.link(before);
            let right = self.merge(right, behind);
            self.adopt(before, left, right);
            before
        } else {
            let Link { left, right, .. } = *self.link(behind);
            let left = self.merge(before, left);
            self.adopt(behind, left, right);
            behind
        }
    }

    /// Gives a node its children, and takes down again what the link says of the chunks.
    fn adopt(&mut self, node: u32, left: u32, right: u32) {
        let mut end_node = node;
        for child in [left, right] {
            if child != NIL {
                let other = self.link(child).end_node;
                if self.chunk(other).end().ends_later(self.chunk(end_node).end()) {
                    end_node = other;
                }
            }
        }
        let chunk = &self.chunks[node as usize];
        let start_prefix = chunk.first().start_prefix();
        let chunk_end_prefix = chunk.end().end_prefix();
        let end_prefix = self.chunk(end_node).end().end_prefix();
        let priority = self.link(node).priority;
        self.links[node as usize] =
            Link { start_prefix, chunk_end_prefix, end_prefix, end_node, left, right, priority };
    }
}

#[cfg(test)]
mod tests;
