//! All live queries, by id. Ids are small numbers that are used again, so the table is an array; what stands in it is
//! boxed, because there are very many and an array or tree of large things is mostly half empty.

use crate::live_query::LiveQuery;
use convoy_query_index::QueryId;

/// Live queries by id.
#[derive(Debug, Default)]
pub(crate) struct LiveQueries {
    by_id: Vec<Option<Box<LiveQuery>>>,
    free: Vec<QueryId>,
    len: usize,
}

impl LiveQueries {
    /// Returns an id that no live query has, for [`LiveQueries::insert`].
    pub fn take_id(&mut self) -> QueryId {
        self.free.pop().unwrap_or_else(|| {
            let id = u32::try_from(self.by_id.len()).expect("the index takes no more");
            self.by_id.push(None);
            QueryId(id)
        })
    }

    /// Takes an id back that no live query came to stand under.
    pub fn give_back(&mut self, id: QueryId) {
        self.free.push(id);
    }

    /// Adds a live query under an id that was taken.
    pub fn insert(&mut self, id: QueryId, query: LiveQuery) {
        if let Some(place) = self.by_id.get_mut(id.0 as usize)
            && place.replace(Box::new(query)).is_none()
        {
            self.len += 1;
        }
    }

    /// Takes a live query out; its id may be used again.
    pub fn remove(&mut self, id: &QueryId) -> Option<LiveQuery> {
        let query = self.by_id.get_mut(id.0 as usize)?.take()?;
        self.len -= 1;
        self.free.push(*id);
        Some(*query)
    }

    pub fn get(&self, id: &QueryId) -> Option<&LiveQuery> {
        self.by_id.get(id.0 as usize)?.as_deref()
    }

    pub fn get_mut(&mut self, id: &QueryId) -> Option<&mut LiveQuery> {
        self.by_id.get_mut(id.0 as usize)?.as_deref_mut()
    }

    /// Returns the ids of all live queries, ascending.
    pub fn ids(&self) -> impl Iterator<Item = QueryId> {
        (0..).map(QueryId).zip(&self.by_id).filter(|(_, query)| query.is_some()).map(|(id, _)| id)
    }

    /// Returns the live queries, by ascending ids.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut LiveQuery> {
        self.by_id.iter_mut().flatten().map(Box::as_mut)
    }

    /// Returns the first id from this one on.
    pub fn next_from(&self, id: QueryId) -> Option<QueryId> {
        let rest = self.by_id.get(id.0 as usize..)?;
        let ahead = rest.iter().position(Option::is_some)?;
        u32::try_from(ahead).ok().map(|ahead| QueryId(id.0 + ahead))
    }

    pub fn len(&self) -> usize {
        self.len
    }
}
