//! The live queries by id: each one's template and slots.
//!
//! Ids are small numbers that the engine uses again, so the table is an array, in pages: growing it never holds the
//! whole table twice, and a page without queries is given back.

use crate::predicate::{QueryId, SlotValue};
use std::sync::Arc;

const PAGE_LEN: usize = 512;

/// What the index knows of a live query.
#[derive(Clone, Debug)]
pub(crate) struct LiveQuery {
    pub(crate) slots: Arc<[SlotValue]>,
    /// The number of the template in the index.
    pub(crate) template: u32,
}

/// Templates apart from slots: together they would be padded.
#[derive(Clone, Debug)]
struct Page {
    slots: Box<[Option<Arc<[SlotValue]>>]>,
    templates: Box<[u32]>,
    len: usize,
}

/// The live queries.
#[derive(Clone, Debug, Default)]
pub(crate) struct LiveQueries {
    pages: Vec<Option<Page>>,
    len: usize,
}

fn place(query: QueryId) -> (usize, usize) {
    let id = query.0 as usize;
    (id / PAGE_LEN, id % PAGE_LEN)
}

impl LiveQueries {
    /// Returns a query's slots and the number of its template.
    pub(crate) fn get(&self, query: QueryId) -> Option<(&Arc<[SlotValue]>, u32)> {
        let (page, offset) = place(query);
        let page = self.pages.get(page)?.as_ref()?;
        Some((page.slots[offset].as_ref()?, page.templates[offset]))
    }

    /// Gives a query that is in the table other slots.
    pub(crate) fn set_slots(&mut self, query: QueryId, slots: Arc<[SlotValue]>) {
        let (page, offset) = place(query);
        let page = self.pages.get_mut(page).and_then(Option::as_mut);
        if let Some(place) = page.and_then(|page| page.slots[offset].as_mut()) {
            *place = slots;
        }
    }

    /// Adds a query that is not in the table.
    pub(crate) fn insert(&mut self, query: QueryId, live: LiveQuery) {
        let (page, offset) = place(query);
        if page >= self.pages.len() {
            self.pages.resize(page + 1, None);
        }
        let page = self.pages[page].get_or_insert_with(|| Page {
            slots: vec![None; PAGE_LEN].into_boxed_slice(),
            templates: vec![0; PAGE_LEN].into_boxed_slice(),
            len: 0,
        });
        debug_assert!(page.slots[offset].is_none(), "the query is not in the table");
        page.slots[offset] = Some(live.slots);
        page.templates[offset] = live.template;
        page.len += 1;
        self.len += 1;
    }

    pub(crate) fn remove(&mut self, query: QueryId) -> Option<LiveQuery> {
        let (number, offset) = place(query);
        let place = self.pages.get_mut(number)?;
        let page = place.as_mut()?;
        let slots = page.slots[offset].take()?;
        let live = LiveQuery { slots, template: page.templates[offset] };
        page.len -= 1;
        self.len -= 1;
        if page.len == 0 {
            *place = None;
        }
        Some(live)
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_come_and_go() {
        let live = |template| LiveQuery { slots: Arc::new([]), template };
        let mut queries = LiveQueries::default();
        for id in 0..2_000 {
            queries.insert(QueryId(id), live(id));
        }
        assert_eq!(queries.get(QueryId(1_999)).map(|(_, template)| template), Some(1_999));
        assert!(queries.get(QueryId(2_000)).is_none());
        assert!(queries.get(QueryId(9_999_999)).is_none());
        for id in 0..2_000 {
            assert_eq!(queries.remove(QueryId(id)).map(|live| live.template), Some(id));
            assert!(queries.remove(QueryId(id)).is_none());
        }
        assert_eq!(queries.len(), 0);
        assert!(queries.pages.iter().all(Option::is_none));
    }

    #[test]
    fn a_query_takes_20_bytes() {
        assert_eq!(size_of::<Option<Arc<[SlotValue]>>>() + size_of::<u32>(), 20);
    }
}
