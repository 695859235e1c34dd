//! Memberships: which publication each relation of a tree belongs in, by what its old rows carry, and which it is in.

use super::definition::{FULL, Ours};
use crate::catalog::{Relation, Tree};
use crate::error::PostgresError;
use convoy_engine::{Publication, TableKind};
use convoy_types::RelationId;
use std::collections::{BTreeMap, BTreeSet};
use tokio_postgres::Client;
use tokio_postgres::types::Type;

/// The members among some relations, and what each membership is.
const MEMBERS_SQL: &str = "\
SELECT r.prrelid, p.pubname::text, pg_catalog.age(r.xmin), r.oid
FROM pg_catalog.pg_publication_rel r JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid
WHERE p.pubname IN ('convoy_full', 'convoy_ins') AND r.prrelid = ANY($1::pg_catalog.oid[])";

/// Those of these relations that are not in these publications, although both are there; with all that they are part of
/// and all that is part of them, for a statement may read any of these.
const LOST_SQL: &str = "\
WITH RECURSIVE lost(id) AS (
  SELECT asked.id
  FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.oid[]), pg_catalog.unnest($2::pg_catalog.text[])) AS asked(id, publication)
  JOIN pg_catalog.pg_publication p ON p.pubname = asked.publication::pg_catalog.name
  JOIN pg_catalog.pg_class c ON c.oid = asked.id
  WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_publication_rel r WHERE r.prrelid = asked.id AND r.prpubid = p.oid)
), above(id) AS (
  SELECT id FROM lost UNION
  SELECT i.inhparent FROM above JOIN pg_catalog.pg_inherits i ON i.inhrelid = above.id
), below(id) AS (
  SELECT id FROM lost UNION
  SELECT i.inhrelid FROM below JOIN pg_catalog.pg_inherits i ON i.inhparent = below.id
)
SELECT id, true FROM lost UNION ALL SELECT id, false FROM above UNION ALL SELECT id, false FROM below";

/// One that is there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    /// Another where it is dropped and made again.
    pub(super) oid: u32,
    /// The age of the transaction that made it.
    pub(super) age: i64,
}

/// Where one relation belongs.
#[derive(Clone, Debug)]
pub(super) struct Membership {
    pub(super) name: String,
    pub(super) of: Option<Ours>,
    /// The relations in which rows that this membership publishes live.
    pub(super) row_holders: Vec<RelationId>,
}

/// Returns which publication a table's changes come through.
pub(super) fn foreseen(tree: &Tree) -> Publication {
    let publishable =
        |relation: &Relation| matches!(relation.kind, TableKind::Plain | TableKind::Partitioned);
    if !publishable(&tree.root) || !tree.members.iter().all(publishable) {
        return Publication::None;
    }
    match tree.row_holders().all(|relation| relation.identity_usable) {
        true => Publication::Full,
        false => Publication::InsertsOnly,
    }
}

/// Returns where each relation of a tree belongs.
pub(super) fn memberships(tree: &Tree) -> Vec<(RelationId, Membership)> {
    let own = |relation: &Relation| match relation.kind {
        TableKind::Plain if relation.identity_usable => Some(Ours::Full),
        TableKind::Plain => Some(Ours::Inserts),
        _ => None,
    };
    let as_a_whole = tree.root.kind == TableKind::Partitioned
        && !tree.root.primary_key.is_empty()
        && foreseen(tree) == Publication::Full;
    let membership = |relation: &Relation| {
        let is_root = relation.id == tree.root.id;
        let of = match (as_a_whole, is_root) {
            (true, true) => Some(Ours::Full),
            // Members through the root; once more would do no harm, and no good.
            (true, false) => None,
            (false, _) => own(relation),
        };
        let row_holders = match as_a_whole && is_root {
            true => tree.leaves().map(|leaf| leaf.id).collect(),
            false => vec![relation.id],
        };
        (relation.id, Membership { name: relation.qualified_name(), of, row_holders })
    };
    std::iter::once(&tree.root).chain(&tree.members).map(membership).collect()
}

/// Returns which of these relations are members.
pub(super) async fn members(
    client: &Client,
    relations: impl Iterator<Item = RelationId>,
) -> Result<BTreeMap<(RelationId, Ours), Member>, PostgresError> {
    let oids: Vec<u32> = relations.map(|id| id.0).collect();
    let mut members = BTreeMap::new();
    for row in client.query_typed(MEMBERS_SQL, &[(&oids, Type::OID_ARRAY)]).await? {
        let (id, name, age): (u32, &str, i32) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let publication = if name == FULL { Ours::Full } else { Ours::Inserts };
        let member = Member { oid: row.try_get(3)?, age: i64::from(age) };
        members.insert((RelationId(id), publication), member);
    }
    Ok(members)
}

/// Members that are none any more.
#[derive(Debug, Default)]
pub(super) struct Lost {
    pub(super) members: BTreeSet<RelationId>,
    /// The members, what they are part of and what is part of them.
    pub(super) related: BTreeSet<RelationId>,
}

/// Returns which of these relations should be members and are not.
pub(super) async fn lost(
    client: &Client,
    should: &BTreeMap<RelationId, Ours>,
) -> Result<Lost, PostgresError> {
    let mut lost = Lost::default();
    if should.is_empty() {
        return Ok(lost);
    }
    let oids: Vec<u32> = should.keys().map(|id| id.0).collect();
    let names: Vec<&str> = should.values().map(|publication| publication.name()).collect();
    let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 2] =
        [(&oids, Type::OID_ARRAY), (&names, Type::TEXT_ARRAY)];
    for row in client.query_typed(LOST_SQL, &parameters).await? {
        let (id, is_member) = (RelationId(row.try_get(0)?), row.try_get(1)?);
        lost.related.insert(id);
        if is_member {
            lost.members.insert(id);
        }
    }
    Ok(lost)
}

/// Returns the tables, partitions replaced by the topmost table that they are part of.
pub(super) async fn partition_roots(
    client: &Client,
    ids: &[RelationId],
) -> Result<Vec<RelationId>, PostgresError> {
    let oids: Vec<u32> = ids.iter().map(|id| id.0).collect();
    let sql = "SELECT DISTINCT coalesce(pg_catalog.pg_partition_root(asked)::pg_catalog.oid, asked) \
               FROM pg_catalog.unnest($1::pg_catalog.oid[]) AS asked";
    let rows = client.query_typed(sql, &[(&oids, Type::OID_ARRAY)]).await?;
    rows.iter().map(|row| Ok(RelationId(row.try_get(0)?))).collect()
}
