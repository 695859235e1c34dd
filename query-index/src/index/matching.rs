//! The question: which live queries a change can touch.
//!
//! The table's [`Group`](crate::group::Group)s answer with candidates; those that a look-up does not settle are tested
//! here, with their query's slots. What an old row does not tell, membership may; and a change that matters only to
//! results that hold its row is matched by that alone.

use super::QueryIndex;
use super::template::PlannedPredicate;
use crate::fields::FieldValue;
use crate::group::{Hits, probe_all};
use crate::images::{MatchStats, RowImages};
use crate::postings::{Postings, PostingsPool};
use crate::predicate::{Holdings, OldRows, QueryId, SlotValue};
use crate::truth::Truth;
use roaring::RoaringBitmap;

impl QueryIndex {
    /// Puts the live queries in `hits` that the change can touch, ascending, in place of what was there.
    ///
    /// A row touches a query whose condition it can meet: the new one, or the old one. Where an old row is known in
    /// part and a predicate has [`OldRows::Membership`], it touches the queries whose results hold it. An update that
    /// changes none of a predicate's fields touches nothing. What a predicate's [`Unheld`](crate::Unheld) spares touches
    /// those alone of the queries with known holdings that hold the row.
    ///
    /// The caller keeps `hits` from change to change, so that a change that touches little allocates nothing.
    pub fn matches(&self, images: &RowImages<'_>, hits: &mut Vec<QueryId>) -> MatchStats {
        hits.clear();
        let stats = MatchStats::default();
        let Some(relation) = self.relations.get(&images.relation) else { return stats };
        let mut side = Side {
            index: self,
            images,
            row: images.new.unwrap_or(&[]),
            is_old: false,
            found: Found { queries: hits, settled: 0, pieces: 0 },
            stats,
        };
        if let Some(new) = images.new {
            let groups = relation.groups.iter().filter(|group| group.key.concerns(images));
            probe_all(groups, new, &self.hasher, &mut side);
        }
        if let Some(old) = images.old_row() {
            side.found.settle();
            (side.row, side.is_old) = (old, true);
            let groups = relation.groups.iter().filter(|group| {
                if !group.key.concerns(images) {
                    return false;
                }
                // Most updates leave alone what is looked up: the new row has found it.
                if images.new.is_some_and(|new| group.finds_the_same(new, old)) {
                    return false;
                }
                // What the row does not tell in a look-up's own fields, membership does.
                let by_membership =
                    group.key.old_rows == OldRows::Membership && images.old_key.is_some();
                !(by_membership && group.leaves_open(old))
            });
            probe_all(groups, old, &self.hasher, &mut side);
            self.match_holders(images, old, &mut side);
        }
        side.found.settle();
        side.stats
    }

    /// Adds the queries that hold the row, and whose condition the old row leaves open; or which were spared the change as
    /// if they did not.
    fn match_holders(&self, images: &RowImages<'_>, old: &[FieldValue], side: &mut Side<'_, '_>) {
        let Some(key) = images.old_key else { return };
        let Some(membership) = self.membership.get(&images.relation) else { return };
        side.stats.probes += 1;
        side.found.settle();
        membership.holders(key, |query| {
            if side.found.contains(query) {
                return;
            }
            side.stats.tested += 1;
            let touched = self.predicates(query, images).any(|(planned, slots, is_spared)| {
                let condition = &planned.predicate.condition;
                if is_spared {
                    let mut rows = images.new.into_iter().chain([old]);
                    return rows.any(|row| condition.eval(row, slots).can_be_true());
                }
                planned.predicate.old_rows == OldRows::Membership
                    && condition.eval(old, slots) == Truth::Unknown
                    && planned.leaves_open(old)
            });
            if touched {
                side.found.push(query);
            } else {
                side.stats.rejected += 1;
            }
        });
    }

    /// Returns the predicates of a live query that the change matters to, with its slots, and whether it matters only where
    /// the query holds the row.
    fn predicates(
        &self,
        query: QueryId,
        images: &RowImages<'_>,
    ) -> impl Iterator<Item = (&PlannedPredicate, &[SlotValue], bool)> {
        let live = self.queries.get(query);
        live.into_iter().flat_map(move |(slots, template)| {
            let template = self.templates.get(template);
            template.into_iter().flat_map(move |template| {
                let planned = template.predicates.iter().filter(|planned| {
                    planned.predicate.relation == images.relation
                        && images.changes(&planned.predicate.fields)
                });
                planned.map(move |planned| {
                    let unheld = planned.predicate.unheld.as_ref();
                    let is_spared = unheld.is_some_and(|unheld| unheld.spares(images))
                        && template.holdings(query) == Holdings::Known;
                    (planned, &slots[..], is_spared)
                })
            })
        })
    }
}

/// The hits of a change while they are gathered.
///
/// What look-ups find is appended as it comes, and is sorted and freed of duplicates where it came from more than one:
/// for the one posting list that most changes find, a copy is all there is to do.
struct Found<'a> {
    queries: &'a mut Vec<QueryId>,
    /// So many at the beginning are ascending and distinct.
    settled: usize,
    /// How many ascending runs there are.
    pieces: usize,
}

impl Found<'_> {
    fn push(&mut self, query: QueryId) {
        self.queries.push(query);
        self.pieces += 1;
    }

    /// Returns whether the query is among what is settled; one that came since may be missed.
    fn contains(&self, query: QueryId) -> bool {
        self.queries[..self.settled].binary_search(&query).is_ok()
    }

    fn settle(&mut self) {
        if self.pieces > 1 {
            self.queries.sort_unstable();
            self.queries.dedup();
            self.pieces = 1;
        }
        self.settled = self.queries.len();
    }
}

/// One image of a change on its way through the groups.
struct Side<'a, 'b> {
    index: &'a QueryIndex,
    images: &'a RowImages<'a>,
    row: &'a [FieldValue],
    is_old: bool,
    found: Found<'b>,
    stats: MatchStats,
}

impl Side<'_, '_> {
    fn touches(&self, query: QueryId) -> bool {
        let mut predicates = self.index.predicates(query, self.images);
        // What is spared is asked of those who hold the row.
        predicates.any(|(planned, slots, is_spared)| {
            !is_spared
                && match planned.predicate.condition.eval(self.row, slots) {
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
    fn certain(&mut self, pool: &PostingsPool, postings: Postings) {
        pool.append_to(postings, self.found.queries);
        self.found.pieces += 1;
    }

    fn all_certain(&mut self, queries: &RoaringBitmap) {
        self.found.queries.extend(queries.iter().map(QueryId));
        self.found.pieces += 1;
    }

    fn candidate(&mut self, query: QueryId) {
        if self.found.contains(query) {
            return;
        }
        self.stats.tested += 1;
        if self.touches(query) {
            self.found.push(query);
        } else {
            self.stats.rejected += 1;
        }
    }

    fn stats(&mut self) -> &mut MatchStats {
        &mut self.stats
    }
}
