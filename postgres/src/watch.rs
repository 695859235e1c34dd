//! The catalogue watch: DDL, grants and policies send nothing through the stream (`docs/postgres.md`, P7), so the
//! entries of every table that is read are looked at each second, inside every read at its own snapshot, and when a
//! statement is described.
//!
//! One fingerprint a table stands for everything that could change what its readers see: the table's own entry, its
//! columns with their rights, types' names and enums' labels, its keys, its policies and whether they are ours, a view's rule, its schema, whether
//! its bare name means it, and all that for whatever inherits from it.

use crate::connect::Connection;
use crate::error::PostgresError;
use convoy_types::RelationId;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use tokio_postgres::types::Type;

/// What is hashed. Plain indexes don't count: nothing depends on them but speed. Our own publications' memberships
/// are not in the catalog tables that are looked at.
const FINGERPRINTS_SQL: &str = "\
WITH RECURSIVE tree(root, id) AS (
  SELECT asked, asked FROM pg_catalog.unnest($1::pg_catalog.oid[]) AS asked
  UNION
  SELECT tree.root, i.inhrelid FROM tree JOIN pg_catalog.pg_inherits i ON i.inhparent = tree.id
)
SELECT tree.root, pg_catalog.hashtextextended(pg_catalog.string_agg(pg_catalog.concat_ws('|',
  c.oid, c.relname, c.relnamespace, c.relowner, c.relfilenode, c.relreplident, c.relkind, c.relpersistence,
  c.relrowsecurity, c.relforcerowsecurity, coalesce(c.relacl::pg_catalog.text, '-'),
  pg_catalog.has_table_privilege(c.oid, 'SELECT'), pg_catalog.pg_table_is_visible(c.oid),
  CASE WHEN c.relkind IN ('r', 'p') THEN pg_catalog.row_security_active(c.oid) END,
  (SELECT pg_catalog.concat_ws(' ', n.nspname, n.nspacl) FROM pg_catalog.pg_namespace n WHERE n.oid = c.relnamespace),
  (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', a.attnum, a.attname, a.atttypid, a.atttypmod,
            a.attnotnull, a.attisdropped, a.attgenerated, a.attcollation, ty.typname, ty.typnamespace,
            coalesce(a.attacl::pg_catalog.text, '-')), ',' ORDER BY a.attnum)
     FROM pg_catalog.pg_attribute a LEFT JOIN pg_catalog.pg_type ty ON ty.oid = a.atttypid
    WHERE a.attrelid = c.oid AND a.attnum > 0), '#',
  (SELECT pg_catalog.string_agg(e.oid || e.enumlabel, ',' ORDER BY e.oid)
     FROM pg_catalog.pg_attribute a
     JOIN pg_catalog.pg_type ty ON ty.oid = a.atttypid
     JOIN pg_catalog.pg_enum e ON e.enumtypid IN (ty.oid, ty.typelem, ty.typbasetype)
    WHERE a.attrelid = c.oid AND a.attnum > 0), '#',
  (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', i.indexrelid, i.indisprimary, i.indisvalid,
            i.indimmediate, i.indisreplident, i.indkey), ',' ORDER BY i.indexrelid)
     FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND (i.indisprimary OR i.indisreplident)), '#',
  (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', p.oid, p.polcmd, p.polpermissive, p.polroles,
            p.polqual, p.polwithcheck,
            (SELECT pg_catalog.string_agg(pg_catalog.pg_has_role(named, 'USAGE')::pg_catalog.text, ' ' ORDER BY named)
               FROM pg_catalog.unnest(p.polroles) AS named WHERE named <> 0)), ',' ORDER BY p.oid)
     FROM pg_catalog.pg_policy p WHERE p.polrelid = c.oid), '#',
  (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', r.ev_type, r.is_instead, r.ev_qual, r.ev_action), ',' ORDER BY r.oid)
     FROM pg_catalog.pg_rewrite r WHERE r.ev_class = c.oid)
  ), ';' ORDER BY c.oid), 0)
FROM tree JOIN pg_catalog.pg_class c ON c.oid = tree.id
GROUP BY tree.root";

/// A table's fingerprint; none for one that is gone.
pub(crate) type Fingerprint = Option<i64>;

/// Which of two looks at the catalog was the later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Look(u64);

/// Takes the fingerprints of tables, as the connection's transaction sees the catalog.
// Prepared: each read asks, and to plan it anew would take longer than many a result.
pub(crate) async fn fingerprints(
    connection: &mut Connection,
    tables: &[RelationId],
) -> Result<Vec<(RelationId, Fingerprint)>, PostgresError> {
    if tables.is_empty() {
        return Ok(Vec::new());
    }
    let oids: Vec<u32> = tables.iter().map(|id| id.0).collect();
    let mut found = HashMap::new();
    let types = Arc::from([Type::OID_ARRAY.oid()]);
    let statement = connection.prepared(&Arc::from(FINGERPRINTS_SQL), &types).await?;
    for row in connection.client().query(&statement, &[&oids]).await? {
        found.insert(RelationId(row.try_get(0)?), row.try_get(1)?);
    }
    Ok(tables.iter().map(|table| (*table, found.get(table).copied())).collect())
}

/// What is known of the tables that are read.
#[derive(Debug, Default)]
pub(crate) struct Watched(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    tables: BTreeSet<RelationId>,
    /// The views that were described together with a table: the engine knows the tables, and hears of the views
    /// through them.
    views: BTreeMap<RelationId, BTreeSet<RelationId>>,
    seen: HashMap<RelationId, (Look, Fingerprint)>,
    looks: u64,
}

impl Watched {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the tables that are watched. What was seen of others stays: one may have been described already and be
    /// watched next, and what happened to it in between must be noticed.
    pub(crate) fn set(&self, tables: Vec<RelationId>) {
        self.state().tables = tables.into_iter().collect();
    }

    /// Says that a statement reads these tables through these views.
    pub(crate) fn link(&self, views: &[RelationId], tables: &[RelationId]) {
        let mut state = self.state();
        for view in views {
            state.views.entry(*view).or_default().extend(tables);
        }
    }

    /// Returns all that is to be looked at.
    pub(crate) fn to_look_at(&self) -> Vec<RelationId> {
        let State { tables, views, .. } = &*self.state();
        let is_read = |with: &BTreeSet<RelationId>| with.iter().any(|table| tables.contains(table));
        let views = views.iter().filter(|(_, with)| is_read(with)).map(|(view, _)| view);
        tables.iter().chain(views).copied().collect()
    }

    /// Takes a number before a look at the catalog, so that an older look never passes for news.
    pub(crate) fn look(&self) -> Look {
        let mut state = self.state();
        state.looks += 1;
        Look(state.looks)
    }

    /// Takes what a look showed, and returns the tables that are no longer what they were, with those that are read
    /// through a view that changed.
    pub(crate) fn observe(
        &self,
        look: Look,
        shown: &[(RelationId, Fingerprint)],
    ) -> Vec<RelationId> {
        let mut state = self.state();
        let mut changed = BTreeSet::new();
        for &(id, fingerprint) in shown {
            match state.seen.get(&id) {
                Some(&(seen, _)) if seen > look => continue,
                Some(&(_, known)) if known != fingerprint => {
                    changed.insert(id);
                    if let Some(tables) = state.views.get(&id) {
                        changed.extend(tables);
                    }
                }
                _ => {}
            }
            state.seen.insert(id, (look, fingerprint));
        }
        changed.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: RelationId = RelationId(1);
    const VIEW: RelationId = RelationId(2);

    #[test]
    fn a_first_look_is_no_news_and_a_difference_is() {
        let watched = Watched::default();
        assert!(watched.observe(watched.look(), &[(TABLE, Some(1))]).is_empty());
        assert!(watched.observe(watched.look(), &[(TABLE, Some(1))]).is_empty());
        assert_eq!(watched.observe(watched.look(), &[(TABLE, Some(2))]), [TABLE]);
        assert_eq!(watched.observe(watched.look(), &[(TABLE, None)]), [TABLE]);
    }

    #[test]
    fn an_older_look_is_no_news() {
        let watched = Watched::default();
        let (older, newer) = (watched.look(), watched.look());
        watched.observe(newer, &[(TABLE, Some(2))]);
        assert!(watched.observe(older, &[(TABLE, Some(1))]).is_empty());
        assert!(watched.observe(watched.look(), &[(TABLE, Some(2))]).is_empty());
    }

    #[test]
    fn what_was_described_before_it_is_watched_is_remembered() {
        let watched = Watched::default();
        watched.observe(watched.look(), &[(TABLE, Some(1))]);
        watched.set(vec![RelationId(7)]);
        watched.set(vec![RelationId(7), TABLE]);
        assert_eq!(watched.observe(watched.look(), &[(TABLE, Some(2))]), [TABLE]);
    }

    #[test]
    fn a_changed_view_concerns_the_tables_that_are_read_through_it() {
        let watched = Watched::default();
        watched.link(&[VIEW], &[TABLE]);
        watched.set(vec![TABLE]);
        assert_eq!(watched.to_look_at(), [TABLE, VIEW]);
        watched.observe(watched.look(), &[(VIEW, Some(1))]);
        assert_eq!(watched.observe(watched.look(), &[(VIEW, Some(2))]), [TABLE, VIEW]);
    }
}
