//! Sets of live queries that share a key: four bytes where it is one query, which is the common case by far.
//!
//! A [`Postings`] is the query's id itself, or the number of a set in the [`PostingsPool`] that it came from. A set of few
//! is in the pool itself, so that it is found with one cache miss; then it is a sorted list, and a roaring bitmap where it
//! is large.

use crate::predicate::QueryId;
use roaring::RoaringBitmap;

/// The longest list; what is longer is a bitmap.
///
/// A list takes twice a bitmap's memory for each query, and is copied ten times as fast: it is what a change finds that
/// touches a thousand queries.
const LIST_LEN_MAX: usize = 4_096;

/// What a set holds that is neither a list nor a bitmap: as much as the pool's place for either takes.
const FEW_MAX: usize = 7;

/// Marks the number of a set, as opposed to a query's id.
const SET: u32 = 1 << 31;

/// A set of live queries that is not empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Postings(u32);

impl Postings {
    /// Returns the set of one query.
    pub(crate) fn one(query: QueryId) -> Self {
        debug_assert!(query <= QueryId::MAX, "the index refuses greater ids");
        Postings(query.0)
    }

    fn set(self) -> Option<usize> {
        (self.0 & SET != 0).then_some((self.0 & !SET) as usize)
    }
}

#[derive(Clone, Debug)]
enum Set {
    // Invariant: the first `len` are sorted, without duplicates.
    Few { len: u8, ids: [u32; FEW_MAX] },
    // Invariant: sorted, without duplicates.
    List(Vec<u32>),
    Bitmap(RoaringBitmap),
}

impl Set {
    /// Returns the set of these, which are ascending.
    fn few(queries: &[u32]) -> Set {
        let mut ids = [0; FEW_MAX];
        ids[..queries.len()].copy_from_slice(queries);
        Set::Few { len: queries.len() as u8, ids }
    }
}

/// Where the sets of more than one query are.
#[derive(Clone, Debug, Default)]
pub(crate) struct PostingsPool {
    sets: Vec<Set>,
    free: Vec<u32>,
}

impl PostingsPool {
    /// Adds a query and returns the set with it.
    pub(crate) fn add(&mut self, postings: Postings, query: QueryId) -> Postings {
        let Some(set) = postings.set() else {
            if postings.0 == query.0 {
                return postings;
            }
            let both = [postings.0.min(query.0), postings.0.max(query.0)];
            return self.allocate(Set::few(&both));
        };
        let set = &mut self.sets[set];
        match set {
            Set::Few { len, ids } => {
                let count = usize::from(*len);
                if let Err(place) = ids[..count].binary_search(&query.0) {
                    if count < FEW_MAX {
                        ids.copy_within(place..count, place + 1);
                        ids[place] = query.0;
                        *len += 1;
                    } else {
                        let mut list = Vec::with_capacity(FEW_MAX + 1);
                        list.extend_from_slice(ids);
                        list.insert(place, query.0);
                        *set = Set::List(list);
                    }
                }
            }
            Set::List(list) => {
                if let Err(place) = list.binary_search(&query.0) {
                    if list.len() < LIST_LEN_MAX {
                        if list.len() == list.capacity() {
                            list.reserve_exact(list.len() / 4 + 1);
                        }
                        list.insert(place, query.0);
                    } else {
                        let mut bitmap = RoaringBitmap::from_iter(list.drain(..));
                        bitmap.insert(query.0);
                        *set = Set::Bitmap(bitmap);
                    }
                }
            }
            Set::Bitmap(bitmap) => {
                bitmap.insert(query.0);
            }
        }
        postings
    }

    /// Takes a query away and returns what is left; `None` where nothing is.
    pub(crate) fn remove(&mut self, postings: Postings, query: QueryId) -> Option<Postings> {
        let Some(number) = postings.set() else {
            return (postings.0 != query.0).then_some(postings);
        };
        let last = match &mut self.sets[number] {
            Set::Few { len, ids } => {
                let count = usize::from(*len);
                if let Ok(place) = ids[..count].binary_search(&query.0) {
                    ids.copy_within(place + 1..count, place);
                    *len -= 1;
                }
                (*len == 1).then_some(ids[0])
            }
            Set::List(list) => {
                if let Ok(place) = list.binary_search(&query.0) {
                    list.remove(place);
                    if list.len() <= list.capacity() / 2 {
                        list.shrink_to(list.len() + list.len() / 4);
                    }
                }
                // Half of the limit: a set that grows and shrinks around it does not change its form each time.
                if list.len() <= FEW_MAX / 2 {
                    self.sets[number] = Set::few(list);
                }
                None
            }
            Set::Bitmap(bitmap) => {
                bitmap.remove(query.0);
                if bitmap.len() <= LIST_LEN_MAX as u64 / 2 {
                    let list = bitmap.iter().collect();
                    self.sets[number] = Set::List(list);
                }
                None
            }
        };
        Some(last.map_or(postings, |last| {
            self.sets[number] = Set::few(&[]);
            self.free.push(postings.0);
            Postings(last)
        }))
    }

    /// Calls `visit` with each query.
    pub(crate) fn for_each(&self, postings: Postings, mut visit: impl FnMut(QueryId)) {
        match postings.set().map(|set| &self.sets[set]) {
            None => visit(QueryId(postings.0)),
            Some(Set::Few { len, ids }) => {
                ids[..usize::from(*len)].iter().for_each(|&query| visit(QueryId(query)));
            }
            Some(Set::List(list)) => list.iter().for_each(|&query| visit(QueryId(query))),
            Some(Set::Bitmap(bitmap)) => bitmap.iter().for_each(|query| visit(QueryId(query))),
        }
    }

    /// Appends all queries, ascending.
    pub(crate) fn append_to(&self, postings: Postings, found: &mut Vec<QueryId>) {
        match postings.set().map(|set| &self.sets[set]) {
            None => found.push(QueryId(postings.0)),
            Some(Set::Few { len, ids }) => {
                found.extend(ids[..usize::from(*len)].iter().map(|&query| QueryId(query)));
            }
            Some(Set::List(list)) => found.extend(list.iter().map(|&query| QueryId(query))),
            Some(Set::Bitmap(bitmap)) => found.extend(bitmap.iter().map(QueryId)),
        }
    }

    /// Returns a number of what is read first when the set is: so that the cache has it then.
    pub(crate) fn touch(&self, postings: Postings) -> usize {
        match postings.set().map(|set| &self.sets[set]) {
            None | Some(Set::Bitmap(_)) => 0,
            Some(Set::Few { len, .. }) => usize::from(*len),
            Some(Set::List(list)) => list.len(),
        }
    }

    fn allocate(&mut self, set: Set) -> Postings {
        if let Some(number) = self.free.pop() {
            self.sets[(number & !SET) as usize] = set;
            return Postings(number);
        }
        let number = u32::try_from(self.sets.len()).expect("there are fewer sets than queries");
        self.sets.push(set);
        Postings(number | SET)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_set_takes_32_bytes() {
        assert_eq!(size_of::<Set>(), 32);
    }

    proptest! {
        #[test]
        fn postings_are_a_set(steps in prop::collection::vec((any::<bool>(), 0u32..40), 1..200)) {
            let mut pool = PostingsPool::default();
            let mut postings: Option<Postings> = None;
            let mut model = BTreeSet::new();
            for (adds, query) in steps {
                if adds {
                    postings = Some(match postings {
                        Some(postings) => pool.add(postings, QueryId(query)),
                        None => Postings::one(QueryId(query)),
                    });
                    model.insert(query);
                } else {
                    postings = postings.and_then(|postings| pool.remove(postings, QueryId(query)));
                    model.remove(&query);
                }
                let mut seen = Vec::new();
                let mut found = Vec::new();
                if let Some(postings) = postings {
                    pool.for_each(postings, |query| seen.push(query.0));
                    pool.append_to(postings, &mut found);
                }
                prop_assert_eq!(&seen, &model.iter().copied().collect::<Vec<_>>());
                prop_assert_eq!(found.iter().map(|query| query.0).collect::<Vec<_>>(), seen);
                prop_assert!(pool.sets.len() <= 1, "freed sets are used again");
            }
        }
    }
}
