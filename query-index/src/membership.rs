//! Which results hold which rows of one table: how a change is matched whose old row the stream does not send.
//!
//! A row that some result holds has a number; a result's rows are a roaring bitmap of numbers, a row's results are
//! [`Postings`]. Keys are stored once, and are compared whole: a row that was let go can't take another with it.

use crate::postings::{Postings, PostingsPool};
use crate::predicate::QueryId;
use convoy_types::Key;
use roaring::RoaringBitmap;
use std::collections::HashMap;
use std::sync::Arc;

/// The rows of one table that results hold.
#[derive(Clone, Debug, Default)]
pub(crate) struct Membership {
    numbers: HashMap<Arc<Key>, u32>,
    rows: Vec<Option<Row>>,
    free: Vec<u32>,
    held: HashMap<QueryId, RoaringBitmap>,
    pool: PostingsPool,
}

#[derive(Clone, Debug)]
struct Row {
    key: Arc<Key>,
    queries: Postings,
}

impl Membership {
    /// Notes that a result holds a row.
    pub(crate) fn hold(&mut self, query: QueryId, key: Key) {
        let number = match self.numbers.get(&key) {
            Some(&number) => {
                if let Some(row) = &mut self.rows[number as usize] {
                    row.queries = self.pool.add(row.queries, query);
                }
                number
            }
            None => {
                let key = Arc::new(key);
                let row = Some(Row { key: Arc::clone(&key), queries: Postings::one(query) });
                let number = match self.free.pop() {
                    Some(number) => {
                        self.rows[number as usize] = row;
                        number
                    }
                    None => {
                        self.rows.push(row);
                        u32::try_from(self.rows.len() - 1)
                            .expect("four billion rows don't fit into memory")
                    }
                };
                self.numbers.insert(key, number);
                number
            }
        };
        self.held.entry(query).or_default().insert(number);
    }

    /// Notes that a result no longer holds a row.
    pub(crate) fn release(&mut self, query: QueryId, key: &Key) {
        let Some(&number) = self.numbers.get(key) else { return };
        let Some(held) = self.held.get_mut(&query) else { return };
        if !held.remove(number) {
            return;
        }
        if held.is_empty() {
            self.held.remove(&query);
        }
        self.let_go(query, number);
    }

    /// Forgets all rows of a result.
    pub(crate) fn forget(&mut self, query: QueryId) {
        for number in self.held.remove(&query).into_iter().flatten() {
            self.let_go(query, number);
        }
    }

    /// Calls `visit` with each query whose result holds the row.
    pub(crate) fn holders(&self, key: &Key, visit: impl FnMut(QueryId)) {
        let number = self.numbers.get(key);
        if let Some(row) = number.and_then(|&number| self.rows[number as usize].as_ref()) {
            self.pool.for_each(row.queries, visit);
        }
    }

    /// Returns whether no result holds a row.
    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    fn let_go(&mut self, query: QueryId, number: u32) {
        let place = &mut self.rows[number as usize];
        let Some(row) = place else { return };
        match self.pool.remove(row.queries, query) {
            Some(queries) => row.queries = queries,
            None => {
                self.numbers.remove(&row.key);
                *place = None;
                self.free.push(number);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::key;

    fn holders(membership: &Membership, row: i32) -> Vec<u32> {
        let mut found = Vec::new();
        membership.holders(&key(row), |query| found.push(query.0));
        found
    }

    #[test]
    fn rows_are_held_and_released() {
        let mut membership = Membership::default();
        membership.hold(QueryId(1), key(10));
        membership.hold(QueryId(1), key(10));
        membership.hold(QueryId(2), key(10));
        membership.hold(QueryId(2), key(11));
        assert_eq!(holders(&membership, 10), [1, 2]);
        assert_eq!(holders(&membership, 11), [2]);
        membership.release(QueryId(1), &key(11));
        assert_eq!(holders(&membership, 11), [2]);
        membership.release(QueryId(1), &key(10));
        assert_eq!(holders(&membership, 10), [2]);
        membership.forget(QueryId(2));
        assert!(membership.is_empty());
        assert_eq!(holders(&membership, 10), [0; 0]);
    }

    #[test]
    fn rows_let_go_cost_nothing() {
        let mut membership = Membership::default();
        for round in 0..100 {
            membership.hold(QueryId(1), key(round));
            membership.release(QueryId(1), &key(round));
        }
        assert_eq!(membership.rows.len(), 1);
        assert!(membership.numbers.is_empty());
    }
}
