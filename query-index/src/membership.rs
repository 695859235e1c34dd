//! Which results hold which rows of one table: how a change is matched whose old row the stream does not send, and one
//! that matters only to results that hold its row.
//!
//! One entry a row that some result holds: the row's key, and the results as [`Postings`]. Keys are compared whole, so
//! that a row that is let go can't take another with it; most are as long as one integer's, and stand in the entry.
//! Which rows a result holds is known by whoever holds it, and not noted here again.

use crate::postings::{Postings, PostingsPool};
use crate::predicate::QueryId;
use convoy_types::Key;
use std::collections::HashMap;
use std::hash::Hash;

/// The rows of one table that results hold.
#[derive(Clone, Debug, Default)]
pub(crate) struct Membership {
    /// Those whose keys are as long as an integer's.
    short: HashMap<ShortKey, Postings>,
    others: HashMap<Key, Postings>,
    pool: PostingsPool,
}

/// A key of one value of eight bytes: a byte that says so, and the value.
// In halves, so that an entry of a map needs no padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct ShortKey([u32; 2]);

impl ShortKey {
    fn of(key: &Key) -> Option<Self> {
        let [1, a, b, c, d, e, f, g, h] = *key.as_bytes() else { return None };
        Some(ShortKey([u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h])]))
    }
}

impl Membership {
    /// Notes that a result holds a row.
    pub(crate) fn hold(&mut self, query: QueryId, key: Key) {
        match ShortKey::of(&key) {
            Some(short) => hold(&mut self.short, &mut self.pool, query, short),
            None => hold(&mut self.others, &mut self.pool, query, key),
        }
    }

    /// Notes that a result no longer holds a row.
    pub(crate) fn release(&mut self, query: QueryId, key: &Key) {
        match ShortKey::of(key) {
            Some(short) => release(&mut self.short, &mut self.pool, query, &short),
            None => release(&mut self.others, &mut self.pool, query, key),
        }
    }

    /// Calls `visit` with each query whose result holds the row.
    pub(crate) fn holders(&self, key: &Key, visit: impl FnMut(QueryId)) {
        let found = match ShortKey::of(key) {
            Some(short) => self.short.get(&short),
            None => self.others.get(key),
        };
        if let Some(&queries) = found {
            self.pool.for_each(queries, visit);
        }
    }

    /// Returns whether no result holds a row.
    pub(crate) fn is_empty(&self) -> bool {
        self.short.is_empty() && self.others.is_empty()
    }
}

fn hold<K: Eq + Hash>(
    rows: &mut HashMap<K, Postings>,
    pool: &mut PostingsPool,
    query: QueryId,
    key: K,
) {
    rows.entry(key)
        .and_modify(|queries| *queries = pool.add(*queries, query))
        .or_insert(Postings::one(query));
}

fn release<K: Eq + Hash>(
    rows: &mut HashMap<K, Postings>,
    pool: &mut PostingsPool,
    query: QueryId,
    key: &K,
) {
    /// A map that is much larger than what is in it gives the rest back.
    const SHRINK_MIN: usize = 1024;
    let Some(queries) = rows.get_mut(key) else { return };
    match pool.remove(*queries, query) {
        Some(left) => *queries = left,
        None => {
            rows.remove(key);
            if rows.capacity() > SHRINK_MIN && rows.len() < rows.capacity() / 8 {
                rows.shrink_to(rows.len() * 2);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::key;
    use convoy_types::PgType;

    fn holders(membership: &Membership, row: &Key) -> Vec<u32> {
        let mut found = Vec::new();
        membership.holders(row, |query| found.push(query.0));
        found
    }

    #[test]
    fn an_entry_of_an_integer_takes_12_bytes() {
        assert_eq!(size_of::<(ShortKey, Postings)>(), 12);
        assert!(ShortKey::of(&key(7)).is_some() && ShortKey::of(&Key::null()).is_none());
    }

    #[test]
    fn rows_are_held_and_released() {
        let text = |text: &str| Key::of(&PgType::Text, text.as_bytes()).expect("a text");
        for (ten, eleven) in [(key(10), key(11)), (text("a long key"), text("another key"))] {
            let mut membership = Membership::default();
            membership.hold(QueryId(1), ten.clone());
            membership.hold(QueryId(1), ten.clone());
            membership.hold(QueryId(2), ten.clone());
            membership.hold(QueryId(2), eleven.clone());
            assert_eq!(holders(&membership, &ten), [1, 2]);
            assert_eq!(holders(&membership, &eleven), [2]);
            membership.release(QueryId(1), &eleven);
            assert_eq!(holders(&membership, &eleven), [2]);
            membership.release(QueryId(1), &ten);
            assert_eq!(holders(&membership, &ten), [2]);
            membership.release(QueryId(2), &ten);
            membership.release(QueryId(2), &eleven);
            assert!(membership.is_empty());
            assert_eq!(holders(&membership, &ten), [0; 0]);
        }
    }

    #[test]
    fn rows_let_go_cost_nothing() {
        let mut membership = Membership::default();
        for round in 0..20_000 {
            membership.hold(QueryId(1), key(round));
        }
        let most = membership.short.capacity();
        for round in 0..20_000 {
            membership.release(QueryId(1), &key(round));
        }
        assert!(membership.is_empty());
        assert!(membership.short.capacity() < most / 8);
    }
}
