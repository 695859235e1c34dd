//! The question: which live queries a change can touch.
//!
//! The table's [`Group`](crate::group::Group)s answer with candidates; those that a look-up does not settle are tested
//! here, with their query's slots. What an old row does not tell, membership may.

use super::QueryIndex;
use super::template::PlannedPredicate;
use crate::fields::FieldValue;
use crate::group::Hits;
use crate::images::{MatchStats, RowImages};
use crate::predicate::{OldRows, QueryId, SlotValue};
use crate::truth::Truth;
use roaring::RoaringBitmap;

impl QueryIndex {
    /// Adds the live queries to `hits` that the change can touch; those that are in it already cost nothing.
    ///
    /// A row touches a query whose condition it can meet: the new one, or the old one. Where an old row is known in
    /// part and a predicate has [`OldRows::Membership`], it touches the queries whose results hold it. An update that
    /// changes none of a predicate's fields touches nothing.
    pub fn matches(&self, images: &RowImages<'_>, hits: &mut RoaringBitmap) -> MatchStats {
        let mut stats = MatchStats::default();
        let Some(relation) = self.relations.get(&images.relation) else { return stats };
        if let Some(new) = images.new {
            let mut side = Side { index: self, images, row: new, is_old: false, hits, stats };
            for group in relation.groups.iter().filter(|group| images.changes(&group.key.fields)) {
                group.probe(new, &self.hasher, &mut side);
            }
            stats = side.stats;
        }
        if let Some(old) = images.old_row() {
            let mut side = Side { index: self, images, row: old, is_old: true, hits, stats };
            for group in relation.groups.iter().filter(|group| images.changes(&group.key.fields)) {
                // Most updates leave alone what is looked up: the new row has found it.
                if images.new.is_some_and(|new| group.finds_the_same(new, old)) {
                    continue;
                }
                // What the row does not tell in a look-up's own fields, membership does.
                let by_membership =
                    group.key.old_rows == OldRows::Membership && images.old_key.is_some();
                if by_membership && group.leaves_open(old) {
                    continue;
                }
                group.probe(old, &self.hasher, &mut side);
            }
            stats = side.stats;
            self.match_holders(images, old, hits, &mut stats);
        }
        stats
    }

    /// Adds the queries that hold the row, and whose condition the old row leaves open.
    fn match_holders(
        &self,
        images: &RowImages<'_>,
        old: &[FieldValue],
        hits: &mut RoaringBitmap,
        stats: &mut MatchStats,
    ) {
        let Some(key) = images.old_key else { return };
        let Some(membership) = self.membership.get(&images.relation) else { return };
        stats.probes += 1;
        membership.holders(key, |query| {
            if hits.contains(query.0) {
                return;
            }
            stats.tested += 1;
            let touched = self.predicates(query, images).any(|(planned, slots)| {
                planned.predicate.old_rows == OldRows::Membership
                    && planned.predicate.condition.eval(old, slots) == Truth::Unknown
                    && planned.leaves_open(old)
            });
            if touched {
                hits.insert(query.0);
            } else {
                stats.rejected += 1;
            }
        });
    }

    /// Returns the predicates of a live query that the change matters to, with its slots.
    fn predicates(
        &self,
        query: QueryId,
        images: &RowImages<'_>,
    ) -> impl Iterator<Item = (&PlannedPredicate, &[SlotValue])> {
        let live = self.queries.get(query);
        live.into_iter().flat_map(move |live| {
            let template = self.templates.get(live.template);
            template
                .into_iter()
                .flat_map(|template| &template.predicates)
                .filter(move |planned| {
                    planned.predicate.relation == images.relation
                        && images.changes(&planned.predicate.fields)
                })
                .map(|planned| (planned, &live.slots[..]))
        })
    }
}

/// One image of a change on its way through the groups.
struct Side<'a, 'b> {
    index: &'a QueryIndex,
    images: &'a RowImages<'a>,
    row: &'a [FieldValue],
    is_old: bool,
    hits: &'b mut RoaringBitmap,
    stats: MatchStats,
}

impl Side<'_, '_> {
    fn touches(&self, query: QueryId) -> bool {
        self.index.predicates(query, self.images).any(|(planned, slots)| {
            match planned.predicate.condition.eval(self.row, slots) {
                Truth::True => true,
                Truth::False | Truth::Null => false,
                // Then membership is asked.
                Truth::Unknown => {
                    !(self.is_old
                        && planned.predicate.old_rows == OldRows::Membership
                        && self.images.old_key.is_some()
                        && planned.leaves_open(self.row))
                }
            }
        })
    }
}

impl Hits for Side<'_, '_> {
    fn certain(&mut self, add: impl FnOnce(&mut RoaringBitmap)) {
        add(self.hits);
    }

    fn candidate(&mut self, query: QueryId) {
        if self.hits.contains(query.0) {
            return;
        }
        self.stats.tested += 1;
        if self.touches(query) {
            self.hits.insert(query.0);
        } else {
            self.stats.rejected += 1;
        }
    }

    fn stats(&mut self) -> &mut MatchStats {
        &mut self.stats
    }
}
