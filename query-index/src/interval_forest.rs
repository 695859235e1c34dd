//! Intervals that come and go, and which of them hold a point.
//!
//! A B-tree whose nodes know the greatest end below each child (Cormen et al., "Introduction to Algorithms", interval
//! trees): inserting and removing take O(log n), stabbing O(log n) for each interval found. A descent is paid in cache
//! misses, so nodes are wide: a leaf is a *chunk* of intervals that are next to each other, and three levels of inner nodes
//! are enough for a million. Equal intervals are one entry with the queries that have it.
//!
//! Many trees share one [`IntervalForest`]; a tree of few intervals is one leaf. An inner node keeps the first digits of
//! its children's bounds side by side; they decide nearly every comparison, and where two are the same, the bounds
//! themselves are compared, which are in the leaves.

use crate::interval::Interval;
use crate::interval_chunk::{Bound, Chunk, count_less, reach};
use crate::postings::{Postings, PostingsPool};
use crate::predicate::QueryId;

/// No node; as a root, the empty tree.
pub(crate) const NIL: u32 = u32::MAX;

/// Marks the number of an inner node, as opposed to a leaf's.
const INNER: u32 = 1 << 31;

/// The most children of an inner node.
const CHILDREN_MAX: usize = 32;

/// A node with less than this is joined with one beside it, if the two fit into [`JOINED_LEN_MAX`].
const LEN_MIN: usize = 8;

/// Less than a full node, so that the next insertion does not split it again.
const JOINED_LEN_MAX: usize = 28;

/// What a child is, apart from its digits.
#[derive(Clone, Copy, Debug)]
struct Child {
    node: u32,
    /// The leaf with the first beginning.
    first_leaf: u32,
    /// The leaf with the greatest end.
    end_leaf: u32,
}

#[derive(Clone, Debug)]
struct Inner {
    len: usize,
    /// See [`reach`].
    reach: usize,
    /// The digits of the children's first beginnings, and the greatest number behind the last: in eights, for
    /// [`count_less`].
    starts: [[u64; 8]; CHILDREN_MAX / 8],
    /// The digits of the children's greatest ends.
    ends: [u64; CHILDREN_MAX],
    children: [Child; CHILDREN_MAX],
}

impl Inner {
    fn new() -> Self {
        let nothing = Child { node: NIL, first_leaf: NIL, end_leaf: NIL };
        Inner {
            len: 0,
            reach: 0,
            starts: [[u64::MAX; 8]; CHILDREN_MAX / 8],
            ends: [0; CHILDREN_MAX],
            children: [nothing; CHILDREN_MAX],
        }
    }

    fn starts(&self) -> &[u64] {
        &self.starts.as_flattened()[..self.len]
    }

    fn set(&mut self, place: usize, summary: Summary) {
        self.starts.as_flattened_mut()[place] = summary.start;
        self.ends[place] = summary.end;
        self.children[place] = summary.child;
        self.find_reach();
    }

    fn find_reach(&mut self) {
        let starts = self.starts().iter().copied();
        self.reach = reach(starts.zip(self.ends.iter().copied()));
    }

    fn insert(&mut self, place: usize, summary: Summary) {
        self.starts.as_flattened_mut().copy_within(place..self.len, place + 1);
        self.ends.copy_within(place..self.len, place + 1);
        self.children.copy_within(place..self.len, place + 1);
        self.len += 1;
        self.set(place, summary);
    }

    fn remove(&mut self, place: usize) {
        self.starts.as_flattened_mut().copy_within(place + 1..self.len, place);
        self.ends.copy_within(place + 1..self.len, place);
        self.children.copy_within(place + 1..self.len, place);
        self.truncate(self.len - 1);
    }

    fn truncate(&mut self, len: usize) {
        self.len = len;
        self.starts.as_flattened_mut()[len..].fill(u64::MAX);
        self.find_reach();
    }

    /// Appends another's children from one on.
    fn append(&mut self, other: &Inner, from: usize) {
        for place in from..other.len {
            self.starts.as_flattened_mut()[self.len] = other.starts()[place];
            self.ends[self.len] = other.ends[place];
            self.children[self.len] = other.children[place];
            self.len += 1;
        }
        self.find_reach();
    }
}

/// What a parent knows of a node.
#[derive(Clone, Copy, Debug)]
struct Summary {
    start: u64,
    end: u64,
    child: Child,
}

/// What a stab comes to from a node.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Node(u32),
    /// What has an interval that holds the point.
    Postings(Postings),
}

/// Interval trees, each known by its root, which changes with each insertion and removal.
#[derive(Clone, Debug, Default)]
pub(crate) struct IntervalForest {
    leaves: Vec<Chunk>,
    inners: Vec<Inner>,
    free_leaves: Vec<u32>,
    free_inners: Vec<u32>,
}

impl IntervalForest {
    /// Adds a query under an interval and returns the tree's root.
    pub(crate) fn insert(
        &mut self,
        root: u32,
        interval: &Interval,
        query: QueryId,
        pool: &mut PostingsPool,
    ) -> u32 {
        if root == NIL {
            return self.add_leaf(alone(interval, Postings::one(query)));
        }
        let leaf = self.leaf_for(root, interval);
        let chunk = &mut self.leaves[leaf as usize];
        if let Ok(place) = chunk.position(interval) {
            let postings = chunk.postings(place);
            *postings = pool.add(*postings, query);
            return root;
        }
        match self.insert_below(root, interval, Postings::one(query)) {
            None => root,
            Some(sibling) => {
                let mut inner = Inner::new();
                inner.insert(0, self.summary(root));
                inner.insert(1, self.summary(sibling));
                self.add_inner(inner)
            }
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
        let leaf = self.leaf_for(root, interval);
        let chunk = &mut self.leaves[leaf as usize];
        let Ok(place) = chunk.position(interval) else { return root };
        let postings = chunk.postings(place);
        if let Some(left) = pool.remove(*postings, query) {
            *postings = left;
            return root;
        }
        self.remove_below(root, interval);
        let mut root = root;
        while root & INNER != 0 && self.len(root) == 1 {
            let child = self.inner(root).children[0].node;
            self.free(root);
            root = child;
        }
        if self.len(root) == 0 {
            self.free(root);
            return NIL;
        }
        root
    }

    /// Calls `visit` for each interval of the tree that holds the point; returns how many nodes it looked at.
    pub(crate) fn stab(
        &self,
        root: u32,
        point: Bound<'_>,
        visit: &mut impl FnMut(Postings),
    ) -> usize {
        if root == NIL {
            return 0;
        }
        let (mut node, mut seen) = (root, 1);
        while node & INNER != 0 {
            let inner = self.inner(node);
            let Some(last) = self.count_begun_by(inner, point).checked_sub(1) else { return seen };
            // Most go on with the last child that has begun, and need no call.
            for place in last.saturating_sub(inner.reach)..last {
                if self.may_hold(inner, place, point) {
                    seen += self.stab(inner.children[place].node, point, visit);
                }
            }
            if !self.may_hold(inner, last, point) {
                return seen;
            }
            node = inner.children[last].node;
            seen += 1;
        }
        self.leaf(node).stab(point, visit);
        seen
    }

    /// Reads what most stabs read of a node, and returns a number of it.
    ///
    /// It decides nothing: a processor that guesses wrong would forget what it reads of other trees meanwhile.
    pub(crate) fn touch(&self, node: u32, point: Bound<'_>) -> usize {
        if node & INNER == 0 {
            return self.leaf(node).touch(point);
        }
        let inner = self.inner(node);
        let last = count_less(&inner.starts, point.digits).saturating_sub(1) % CHILDREN_MAX;
        (inner.ends[last] as usize).wrapping_add(inner.children[last].node as usize)
    }

    /// Calls `visit` with what follows a node on the way to a point.
    pub(crate) fn step(&self, node: u32, point: Bound<'_>, visit: &mut impl FnMut(Step)) {
        if node & INNER == 0 {
            self.leaf(node).stab(point, &mut |found| visit(Step::Postings(found)));
        } else {
            let inner = self.inner(node);
            let begun = self.count_begun_by(inner, point);
            for place in begun.saturating_sub(1 + inner.reach)..begun {
                if self.may_hold(inner, place, point) {
                    visit(Step::Node(inner.children[place].node));
                }
            }
        }
    }

    /// Calls `visit` for each interval of the tree.
    pub(crate) fn for_each(&self, root: u32, visit: &mut impl FnMut(Postings)) {
        if root == NIL {
        } else if root & INNER == 0 {
            self.leaf(root).all_postings().for_each(visit);
        } else {
            let inner = self.inner(root);
            for child in &inner.children[..inner.len] {
                self.for_each(child.node, visit);
            }
        }
    }

    /// Returns how many children do not begin behind a point: those that follow them do not hold it.
    fn count_begun_by(&self, inner: &Inner, point: Bound<'_>) -> usize {
        self.count_begun(inner, point.digits, |leaf| leaf.start() <= point)
    }

    /// Returns whether some interval below a child ends behind the point.
    fn may_hold(&self, inner: &Inner, place: usize, point: Bound<'_>) -> bool {
        let end = inner.ends[place];
        end > point.digits
            || (end == point.digits && self.leaf(inner.children[place].end_leaf).end() > point)
    }

    /// Returns how many children begin before these digits, or with them and in a leaf that is `begun`.
    fn count_begun(&self, inner: &Inner, digits: u64, begun: impl Fn(&Chunk) -> bool) -> usize {
        let count = count_less(&inner.starts, digits);
        if inner.starts().get(count) != Some(&digits) {
            return count;
        }
        let same = inner.starts()[count..].iter().take_while(|&&start| start == digits).count();
        let children = &inner.children[count..count + same];
        count + children.partition_point(|child| begun(self.leaf(child.first_leaf)))
    }

    /// Returns which child has the interval, or is to have it: the last that does not begin behind it, or the first.
    fn child_for(&self, inner: &Inner, interval: &Interval) -> usize {
        let digits = Bound::new(interval.from()).digits;
        self.count_begun(inner, digits, |leaf| !leaf.is_behind(interval)).saturating_sub(1)
    }

    fn leaf_for(&self, root: u32, interval: &Interval) -> u32 {
        let mut node = root;
        while node & INNER != 0 {
            let inner = self.inner(node);
            node = inner.children[self.child_for(inner, interval)].node;
        }
        node
    }

    /// Adds an interval that the tree does not have; returns what was split off the node.
    fn insert_below(&mut self, node: u32, interval: &Interval, postings: Postings) -> Option<u32> {
        if node & INNER == 0 {
            return self.insert_into_leaf(node, interval, postings);
        }
        let place = self.child_for(self.inner(node), interval);
        let child = self.inner(node).children[place].node;
        let split_off = self.insert_below(child, interval, postings);
        self.refresh(node, place);
        let summary = self.summary(split_off?);
        let place = place + 1;
        let inner = self.inner_mut(node);
        if inner.len < CHILDREN_MAX {
            inner.insert(place, summary);
            return None;
        }
        let mut upper = Inner::new();
        // Where intervals come in ascending order, full nodes stay behind.
        let kept = if place == CHILDREN_MAX { CHILDREN_MAX } else { CHILDREN_MAX / 2 };
        upper.append(inner, kept);
        inner.truncate(kept);
        if place <= kept && kept < CHILDREN_MAX {
            inner.insert(place, summary);
        } else {
            upper.insert(place - kept, summary);
        }
        Some(self.add_inner(upper))
    }

    fn insert_into_leaf(
        &mut self,
        leaf: u32,
        interval: &Interval,
        postings: Postings,
    ) -> Option<u32> {
        let chunk = &mut self.leaves[leaf as usize];
        let (Ok(place) | Err(place)) = chunk.position(interval);
        if chunk.len() < Chunk::LEN_MAX {
            chunk.insert(place, interval, postings);
            return None;
        }
        if place == Chunk::LEN_MAX {
            return Some(self.add_leaf(alone(interval, postings)));
        }
        let mut upper = chunk.split_off(Chunk::LEN_MAX / 2);
        if place <= Chunk::LEN_MAX / 2 {
            chunk.insert(place, interval, postings);
        } else {
            upper.insert(place - Chunk::LEN_MAX / 2, interval, postings);
        }
        Some(self.add_leaf(upper))
    }

    /// Takes an interval away that the tree has; the node may be empty then.
    fn remove_below(&mut self, node: u32, interval: &Interval) {
        if node & INNER == 0 {
            let chunk = &mut self.leaves[node as usize];
            if let Ok(place) = chunk.position(interval) {
                chunk.remove(place);
            }
            return;
        }
        let place = self.child_for(self.inner(node), interval);
        let child = self.inner(node).children[place].node;
        self.remove_below(child, interval);
        let len = self.len(child);
        if len == 0 {
            self.free(child);
            self.inner_mut(node).remove(place);
            return;
        }
        self.refresh(node, place);
        if len < LEN_MIN {
            let after = self.inner(node).len - 1;
            if place > 0 && self.join(node, place - 1) || place >= after {
                return;
            }
            self.join(node, place);
        }
    }

    /// Joins a child with the one that follows, if they fit into one; returns whether they did.
    fn join(&mut self, node: u32, place: usize) -> bool {
        let children = &self.inner(node).children;
        let (left, right) = (children[place].node, children[place + 1].node);
        if self.len(left) + self.len(right) > JOINED_LEN_MAX {
            return false;
        }
        if left & INNER == 0 {
            let chunk = std::mem::take(&mut self.leaves[right as usize]);
            self.leaves[left as usize].append(&chunk);
        } else {
            let inner = self.inner(right).clone();
            self.inner_mut(left).append(&inner, 0);
        }
        self.free(right);
        self.inner_mut(node).remove(place + 1);
        self.refresh(node, place);
        true
    }

    /// Takes down again what a node knows of a child.
    fn refresh(&mut self, node: u32, place: usize) {
        let summary = self.summary(self.inner(node).children[place].node);
        self.inner_mut(node).set(place, summary);
    }

    fn summary(&self, node: u32) -> Summary {
        if node & INNER == 0 {
            let leaf = self.leaf(node);
            let child = Child { node, first_leaf: node, end_leaf: node };
            return Summary { start: leaf.start().digits, end: leaf.end().digits, child };
        }
        let inner = self.inner(node);
        let mut greatest = 0;
        for place in 1..inner.len {
            let end = |place: usize| self.leaf(inner.children[place].end_leaf).end();
            if inner.ends[place] > inner.ends[greatest]
                || (inner.ends[place] == inner.ends[greatest] && end(place) > end(greatest))
            {
                greatest = place;
            }
        }
        let first_leaf = inner.children[0].first_leaf;
        let end_leaf = inner.children[greatest].end_leaf;
        let child = Child { node, first_leaf, end_leaf };
        Summary { start: inner.starts()[0], end: inner.ends[greatest], child }
    }

    fn leaf(&self, node: u32) -> &Chunk {
        &self.leaves[node as usize]
    }

    fn inner(&self, node: u32) -> &Inner {
        &self.inners[(node & !INNER) as usize]
    }

    fn inner_mut(&mut self, node: u32) -> &mut Inner {
        &mut self.inners[(node & !INNER) as usize]
    }

    /// Returns how many intervals a leaf has, or children an inner node.
    fn len(&self, node: u32) -> usize {
        if node & INNER == 0 { self.leaf(node).len() } else { self.inner(node).len }
    }

    fn free(&mut self, node: u32) {
        if node & INNER == 0 {
            self.leaves[node as usize] = Chunk::default();
            self.free_leaves.push(node);
        } else {
            self.free_inners.push(node);
        }
    }

    fn add_leaf(&mut self, chunk: Chunk) -> u32 {
        place_in(&mut self.leaves, &mut self.free_leaves, chunk)
    }

    fn add_inner(&mut self, inner: Inner) -> u32 {
        place_in(&mut self.inners, &mut self.free_inners, inner) | INNER
    }
}

fn alone(interval: &Interval, postings: Postings) -> Chunk {
    let mut chunk = Chunk::default();
    chunk.insert(0, interval, postings);
    chunk
}

fn place_in<T>(nodes: &mut Vec<T>, free: &mut Vec<u32>, node: T) -> u32 {
    if let Some(number) = free.pop() {
        let place = (number & !INNER) as usize;
        nodes[place] = node;
        return place as u32;
    }
    if nodes.len() == nodes.capacity() {
        // An eighth, and not twice as much: what is spare is charged to each interval.
        nodes.reserve_exact(nodes.len() / 8 + 1);
    }
    nodes.push(node);
    u32::try_from(nodes.len() - 1).expect("two billion nodes don't fit into memory")
}

#[cfg(test)]
mod tests;
