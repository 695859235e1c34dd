//! Byte intervals `[from, to)` that come and go, and which of them hold a point.
//!
//! A treap (Seidel and Aragon, "Randomized Search Trees", Algorithmica 1996) ordered by interval, in which each node
//! knows the greatest end below it (Cormen et al., "Introduction to Algorithms", interval trees): inserting and removing
//! take O(log n), stabbing O(log n) for each interval found. Equal intervals are one node with the queries that have it.
//!
//! Many trees share one [`IntervalForest`], so that a tree of one interval costs one node. What a descent reads is kept
//! apart from the rest, 32 bytes a node: the first eight bytes of both keys decide nearly every comparison there.

use crate::postings::{Postings, PostingsPool};
use crate::predicate::QueryId;
use convoy_types::Key;
use std::cmp::Ordering;

/// No node; as a root, the empty tree.
pub(crate) const NIL: u32 = u32::MAX;

/// A half-open interval of byte strings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Interval {
    /// The first point; empty where the interval is open below, because nothing is less than the empty string.
    from: Bytes,
    /// The point behind the last; `None` where the interval is open above.
    to: Option<Bytes>,
}

impl Interval {
    /// Returns the interval of everything.
    pub(crate) fn all() -> Self {
        Interval { from: Bytes::new(&[]), to: None }
    }

    /// Takes away what is less than `key`, and `key` itself where it is not included.
    pub(crate) fn bound_below(&mut self, key: &Key, included: bool) {
        let from = Bytes::bound(key, included);
        if self.from.slice() < from.slice() {
            self.from = from;
        }
    }

    /// Takes away what is greater than `key`, and `key` itself where it is not included.
    pub(crate) fn bound_above(&mut self, key: &Key, included: bool) {
        let to = Bytes::bound(key, !included);
        if self.to.as_ref().is_none_or(|known| to.slice() < known.slice()) {
            self.to = Some(to);
        }
    }

    fn contains(&self, point: &[u8]) -> bool {
        self.from.slice() <= point && self.ends_behind(point)
    }

    fn ends_behind(&self, point: &[u8]) -> bool {
        self.to.as_ref().is_none_or(|to| point < to.slice())
    }
}

/// Bytes, without an allocation where they are few.
#[derive(Clone, Debug)]
enum Bytes {
    Inline { len: u8, bytes: [u8; 22] },
    Heap(Box<[u8]>),
}

impl Bytes {
    fn new(slice: &[u8]) -> Self {
        let mut bytes = [0; 22];
        match bytes.get_mut(..slice.len()) {
            Some(start) => {
                start.copy_from_slice(slice);
                Bytes::Inline { len: slice.len() as u8, bytes }
            }
            None => Bytes::Heap(slice.into()),
        }
    }

    /// Returns the least bytes that are not less than the key, or that are greater.
    fn bound(key: &Key, included: bool) -> Self {
        if included {
            Bytes::new(key.as_bytes())
        } else {
            Bytes::new(&[key.as_bytes(), &[0]].concat())
        }
    }

    fn slice(&self) -> &[u8] {
        match self {
            Bytes::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Bytes::Heap(bytes) => bytes,
        }
    }
}

impl PartialEq for Bytes {
    fn eq(&self, other: &Self) -> bool {
        self.slice() == other.slice()
    }
}

impl Eq for Bytes {}

/// Returns the first eight bytes as a number, so that what has the lesser number is less.
fn prefix(bytes: &[u8]) -> u64 {
    let mut first = [0; 8];
    let len = bytes.len().min(8);
    first[..len].copy_from_slice(&bytes[..len]);
    u64::from_be_bytes(first)
}

/// What a descent reads of a node.
#[derive(Clone, Debug)]
struct Link {
    from_prefix: u64,
    /// The prefix of the greatest end in the subtree; the greatest number where one is open.
    end_prefix: u64,
    /// The node with the greatest end in the subtree.
    end_node: u32,
    left: u32,
    right: u32,
    // Invariant: no less than the children's.
    priority: u32,
}

/// Interval trees, each known by its root, which changes with each insertion and removal.
#[derive(Clone, Debug, Default)]
pub(crate) struct IntervalForest {
    links: Vec<Link>,
    intervals: Vec<(Interval, Postings)>,
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
        if let Some(node) = self.find(root, &interval) {
            let postings = &mut self.intervals[node as usize].1;
            *postings = pool.add(*postings, query);
            return root;
        }
        let node = self.allocate(interval, query);
        self.insert_node(root, node)
    }

    /// Takes a query away from under an interval and returns the tree's root.
    pub(crate) fn remove(
        &mut self,
        root: u32,
        interval: &Interval,
        query: QueryId,
        pool: &mut PostingsPool,
    ) -> u32 {
        let Some(node) = self.find(root, interval) else { return root };
        let postings = &mut self.intervals[node as usize].1;
        match pool.remove(*postings, query) {
            Some(left) => {
                *postings = left;
                root
            }
            None => {
                let root = self.remove_node(root, node);
                self.intervals[node as usize].0 = Interval::all();
                self.free.push(node);
                root
            }
        }
    }

    /// Calls `visit` for each interval of the tree that holds the point; returns how many nodes it looked at.
    pub(crate) fn stab(&self, root: u32, point: &[u8], visit: &mut impl FnMut(Postings)) -> usize {
        self.stab_below(root, point, prefix(point), visit)
    }

    /// Calls `visit` for each interval of the tree.
    pub(crate) fn for_each(&self, root: u32, visit: &mut impl FnMut(Postings)) {
        if root != NIL {
            self.for_each(self.link(root).left, visit);
            visit(self.intervals[root as usize].1);
            self.for_each(self.link(root).right, visit);
        }
    }

    fn stab_below(
        &self,
        node: u32,
        point: &[u8],
        point_prefix: u64,
        visit: &mut impl FnMut(Postings),
    ) -> usize {
        let (mut node, mut seen) = (node, 0);
        while node != NIL {
            seen += 1;
            let link = self.link(node);
            let ends_before = link.end_prefix < point_prefix
                || (link.end_prefix == point_prefix
                    && !self.intervals[link.end_node as usize].0.ends_behind(point));
            if ends_before {
                break;
            }
            seen += self.stab_below(link.left, point, point_prefix, visit);
            if link.from_prefix > point_prefix {
                break;
            }
            let (interval, postings) = &self.intervals[node as usize];
            if interval.contains(point) {
                visit(*postings);
            } else if interval.from.slice() > point {
                break;
            }
            node = link.right;
        }
        seen
    }

    fn link(&self, node: u32) -> &Link {
        &self.links[node as usize]
    }

    fn allocate(&mut self, interval: Interval, query: QueryId) -> u32 {
        let end_prefix = interval.to.as_ref().map_or(u64::MAX, |to| prefix(to.slice()));
        let mut link = Link {
            from_prefix: prefix(interval.from.slice()),
            end_prefix,
            end_node: NIL,
            left: NIL,
            right: NIL,
            priority: self.next_priority(),
        };
        let entry = (interval, Postings::one(query));
        if let Some(node) = self.free.pop() {
            link.end_node = node;
            self.links[node as usize] = link;
            self.intervals[node as usize] = entry;
            return node;
        }
        let node = u32::try_from(self.links.len()).expect("there are fewer intervals than memory");
        link.end_node = node;
        self.links.push(link);
        self.intervals.push(entry);
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

    fn find(&self, root: u32, interval: &Interval) -> Option<u32> {
        let from_prefix = prefix(interval.from.slice());
        let mut node = root;
        while node != NIL {
            node = match self.compare(interval, from_prefix, node) {
                Ordering::Less => self.link(node).left,
                Ordering::Greater => self.link(node).right,
                Ordering::Equal => return Some(node),
            };
        }
        None
    }

    fn compare(&self, interval: &Interval, from_prefix: u64, node: u32) -> Ordering {
        from_prefix.cmp(&self.link(node).from_prefix).then_with(|| {
            let other = &self.intervals[node as usize].0;
            interval.from.slice().cmp(other.from.slice()).then_with(|| {
                match (&interval.to, &other.to) {
                    (Some(left), Some(right)) => left.slice().cmp(right.slice()),
                    (left, right) => left.is_none().cmp(&right.is_none()),
                }
            })
        })
    }

    fn compare_nodes(&self, left: u32, right: u32) -> Ordering {
        self.compare(&self.intervals[left as usize].0, self.link(left).from_prefix, right)
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
        if self.compare_nodes(node, root).is_lt() {
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
        if self.compare_nodes(node, root).is_lt() {
            let left = self.remove_node(left, node);
            self.adopt(root, left, right);
        } else {
            let right = self.remove_node(right, node);
            self.adopt(root, left, right);
        }
        root
    }

    /// Splits a tree into what is less than a node that it does not hold, and what is greater.
    fn split(&mut self, root: u32, node: u32) -> (u32, u32) {
        if root == NIL {
            return (NIL, NIL);
        }
        let Link { left, right, .. } = *self.link(root);
        if self.compare_nodes(node, root).is_lt() {
            let (less, greater) = self.split(left, node);
            self.adopt(root, greater, right);
            (less, root)
        } else {
            let (less, greater) = self.split(right, node);
            self.adopt(root, left, less);
            (root, greater)
        }
    }

    /// Joins two trees of which the first is less.
    fn merge(&mut self, less: u32, greater: u32) -> u32 {
        if less == NIL {
            return greater;
        }
        if greater == NIL {
            return less;
        }
        if self.link(less).priority > self.link(greater).priority {
            let Link { left, right, .. } = *self.link(less);
            let right = self.merge(right, greater);
            self.adopt(less, left, right);
            less
        } else {
            let Link { left, right, .. } = *self.link(greater);
            let left = self.merge(less, left);
            self.adopt(greater, left, right);
            greater
        }
    }

    /// Gives a node its children, and finds the greatest end again.
    fn adopt(&mut self, node: u32, left: u32, right: u32) {
        let mut end = node;
        for child in [left, right] {
            if child != NIL && self.ends_later(self.link(child).end_node, end) {
                end = self.link(child).end_node;
            }
        }
        let end_prefix =
            self.intervals[end as usize].0.to.as_ref().map_or(u64::MAX, |to| prefix(to.slice()));
        let link = &mut self.links[node as usize];
        (link.left, link.right, link.end_node, link.end_prefix) = (left, right, end, end_prefix);
    }

    fn ends_later(&self, node: u32, other: u32) -> bool {
        match (&self.intervals[node as usize].0.to, &self.intervals[other as usize].0.to) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(left), Some(right)) => left.slice() > right.slice(),
        }
    }
}

#[cfg(test)]
mod tests;
