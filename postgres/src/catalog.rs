//! Tables as the catalog has them: kinds, columns, keys, identities, partitions and children.
//!
//! All of it is asked in the role, and in the transaction, of whoever wants to know, in a few queries for any number
//! of tables. Which publication a table is in is `publication`'s to say.

use crate::collation::Collations;
use crate::error::PostgresError;
use crate::types::Types;
use convoy_engine::{ColumnFacts, Publication, TableFacts, TableKind};
use convoy_query_index::FieldId;
use convoy_types::{Collation, RelationId, ReplicaIdentity};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

/// The asked relations and all that inherits from them. A detached-pending partition still counts: readers of older
/// snapshots see its rows.
const RELATIONS_SQL: &str = "\
WITH RECURSIVE tree(root, id) AS (
  SELECT asked, asked FROM pg_catalog.unnest($1::pg_catalog.oid[]) AS asked
  UNION
  SELECT tree.root, i.inhrelid FROM tree JOIN pg_catalog.pg_inherits i ON i.inhparent = tree.id
)
SELECT tree.root, c.oid, c.relkind::text, c.relpersistence::text, n.nspname::text, c.relname::text,
       c.relreplident::text,
       tree.root = c.oid AND c.relkind IN ('r', 'p') AND pg_catalog.row_security_active(c.oid),
       c.relrowsecurity,
       (SELECT pg_catalog.array_agg(k.attnum ORDER BY k.place)
          FROM pg_catalog.pg_index i
          CROSS JOIN LATERAL pg_catalog.unnest(i.indkey::pg_catalog.int2[])
               WITH ORDINALITY AS k(attnum, place)
         WHERE i.indrelid = c.oid AND i.indisprimary AND i.indisvalid AND i.indimmediate
           AND k.place <= i.indnkeyatts),
       EXISTS (SELECT FROM pg_catalog.pg_index i
                WHERE i.indrelid = c.oid AND i.indisreplident AND i.indisvalid AND i.indimmediate),
       EXISTS (SELECT FROM pg_catalog.pg_attribute a
                WHERE a.attrelid = c.oid AND NOT a.attisdropped AND a.attgenerated = 'v')
FROM tree
JOIN pg_catalog.pg_class c ON c.oid = tree.id
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace";

const COLUMNS_SQL: &str = "\
SELECT a.attrelid, a.attnum, a.attname::text, a.atttypid, a.attcollation, a.attgenerated <> '',
       a.attnotnull, a.atttypmod
FROM pg_catalog.pg_attribute a
WHERE a.attrelid = ANY($1::pg_catalog.oid[]) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum";

/// One relation of a tree: a table itself, a partition or a child.
#[derive(Clone, Debug)]
pub(crate) struct Relation {
    pub(crate) id: RelationId,
    pub(crate) kind: TableKind,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) identity: ReplicaIdentity,
    /// Whether old rows really carry what `identity` says: P1's condition for publishing updates.
    pub(crate) identity_usable: bool,
    pub(crate) row_security_active: bool,
    pub(crate) row_security: bool,
    /// The attribute numbers of a valid, immediate primary key.
    pub(crate) primary_key: Vec<i16>,
}

impl Relation {
    pub(crate) fn qualified_name(&self) -> String {
        let quoted = convoy_engine::quote_identifier;
        format!("{}.{}", quoted(&self.namespace), quoted(&self.name))
    }

    /// Returns whether its rows are its own (a partitioned table's live in the leaves).
    pub(crate) fn holds_rows(&self) -> bool {
        self.kind != TableKind::Partitioned
    }
}

/// A relation with everything that inherits from it.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    pub(crate) root: Relation,
    /// Partitions and children of any depth, by oid.
    pub(crate) members: Vec<Relation>,
}

impl Tree {
    /// Returns the relations other than the root that hold rows.
    pub(crate) fn leaves(&self) -> impl Iterator<Item = &Relation> {
        self.members.iter().filter(|member| member.holds_rows())
    }

    /// Returns all relations in which rows of this table live.
    pub(crate) fn row_holders(&self) -> impl Iterator<Item = &Relation> {
        std::iter::once(&self.root).filter(|root| root.holds_rows()).chain(self.leaves())
    }

    /// Returns what kind of table this is: the kind that says least of its changes, among all that hold its rows.
    fn kind(&self) -> TableKind {
        let hidden = self.leaves().map(|leaf| leaf.kind).find(|kind| {
            matches!(kind, TableKind::Unlogged | TableKind::Temporary | TableKind::Foreign)
        });
        match self.root.kind {
            TableKind::Plain | TableKind::Partitioned => hidden.unwrap_or(self.root.kind),
            kind => kind,
        }
    }

    /// Returns the least that any relation with rows of this table says of old rows.
    fn identity(&self) -> ReplicaIdentity {
        let rank = |identity: ReplicaIdentity| match identity {
            ReplicaIdentity::Nothing => 0,
            ReplicaIdentity::Index => 1,
            ReplicaIdentity::Default => 2,
            ReplicaIdentity::Full => 3,
        };
        self.row_holders()
            .map(|relation| match relation.identity_usable {
                true => relation.identity,
                false => ReplicaIdentity::Nothing,
            })
            .min_by_key(|&identity| rank(identity))
            .unwrap_or(self.root.identity)
    }
}

/// Returns the trees of these relations, by the relation; those that are gone are missing.
pub(crate) async fn trees(
    client: &Client,
    ids: &[RelationId],
) -> Result<BTreeMap<RelationId, Tree>, PostgresError> {
    let oids: Vec<u32> = ids.iter().map(|id| id.0).collect();
    let mut roots = BTreeMap::new();
    let mut members: BTreeMap<RelationId, Vec<Relation>> = BTreeMap::new();
    for row in client.query_typed(RELATIONS_SQL, &[(&oids, Type::OID_ARRAY)]).await? {
        let root = RelationId(row.try_get(0)?);
        let identity = match row.try_get::<_, &str>(6)? {
            "f" => ReplicaIdentity::Full,
            "i" => ReplicaIdentity::Index,
            "d" => ReplicaIdentity::Default,
            _ => ReplicaIdentity::Nothing,
        };
        let primary_key: Vec<i16> = row.try_get::<_, Option<Vec<i16>>>(9)?.unwrap_or_default();
        let (has_identity_index, has_virtual_columns): (bool, bool) =
            (row.try_get(10)?, row.try_get(11)?);
        let (kind, persistence, namespace): (&str, &str, String) =
            (row.try_get(2)?, row.try_get(3)?, row.try_get(4)?);
        let relation = Relation {
            id: RelationId(row.try_get(1)?),
            kind: table_kind(kind, persistence, &namespace),
            namespace,
            name: row.try_get(5)?,
            identity,
            identity_usable: match identity {
                // They can't be published, and FULL needs all columns (18).
                ReplicaIdentity::Full => !has_virtual_columns,
                ReplicaIdentity::Index => has_identity_index,
                ReplicaIdentity::Default => !primary_key.is_empty(),
                ReplicaIdentity::Nothing => false,
            },
            row_security_active: row.try_get(7)?,
            row_security: row.try_get(8)?,
            primary_key,
        };
        if relation.id == root {
            roots.insert(root, relation);
        } else {
            members.entry(root).or_default().push(relation);
        }
    }
    let tree = |(id, root)| {
        let mut members = members.remove(&id).unwrap_or_default();
        members.sort_by_key(|member| member.id);
        (id, Tree { root, members })
    };
    Ok(roots.into_iter().map(tree).collect())
}

/// Returns the kind of a relation by `relkind`, `relpersistence` and its schema.
fn table_kind(kind: &str, persistence: &str, namespace: &str) -> TableKind {
    match (kind, persistence) {
        _ if matches!(namespace, "pg_catalog" | "information_schema" | "pg_toast") => {
            TableKind::Catalog
        }
        ("v", _) => TableKind::View,
        ("m", _) => TableKind::MaterializedView,
        ("f", _) => TableKind::Foreign,
        ("S", _) => TableKind::Sequence,
        ("t", _) => TableKind::Catalog,
        (_, "t") => TableKind::Temporary,
        (_, "u") => TableKind::Unlogged,
        ("p", _) => TableKind::Partitioned,
        _ => TableKind::Plain,
    }
}

/// What a reader's role makes of row security.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadThrough {
    /// Tables are read by their name alone.
    Tables,
    /// Views stand between: their owner's rights and policies may apply.
    Views,
}

/// Returns how many digits behind the point a column of this type and modifier has: `numeric(10,2)` has two.
///
/// The modifier is the precision in the upper half, the scale in eleven bits of the lower one, and four
/// (`make_numeric_typmod` of PostgreSQL's `numeric.c`; before 15 the scale had all sixteen, and was never below zero).
fn numeric_scale(type_oid: u32, modifier: i32) -> Option<u32> {
    const HEADER: i32 = 4;
    let lower = modifier.checked_sub(HEADER).filter(|modifier| *modifier >= 0)? & 0x7ff;
    // A scale below zero shows no digits either, but rounds what is before the point.
    let scale = u32::try_from(lower).ok().filter(|scale| *scale < 1024);
    scale.filter(|_| Type::from_oid(type_oid) == Some(Type::NUMERIC))
}

/// Returns the facts of tables. Each is said to be in no publication: that is found out later.
pub(crate) async fn table_facts(
    client: &Client,
    trees: &BTreeMap<RelationId, Tree>,
    collations: &Collations,
    through: ReadThrough,
) -> Result<Vec<TableFacts>, PostgresError> {
    let oids: Vec<u32> = trees.keys().map(|id| id.0).collect();
    let rows = client.query_typed(COLUMNS_SQL, &[(&oids, Type::OID_ARRAY)]).await?;
    let mut type_oids: Vec<u32> = Vec::new();
    let mut collation_oids: Vec<u32> = Vec::new();
    for row in &rows {
        type_oids.push(row.try_get(3)?);
        collation_oids.push(row.try_get(4)?);
    }
    for oids in [&mut type_oids, &mut collation_oids] {
        oids.sort_unstable();
        oids.dedup();
    }
    let types = Types::load(client, &type_oids).await?;
    let collations = collations.load(client, &collation_oids).await?;
    // By table: the attribute numbers beside the columns, since those leave gaps where columns were dropped.
    let mut columns: HashMap<u32, (Vec<i16>, Vec<ColumnFacts>)> = HashMap::new();
    for row in &rows {
        let (type_oid, collation): (u32, u32) = (row.try_get(3)?, row.try_get(4)?);
        let (numbers, facts) = columns.entry(row.try_get(0)?).or_default();
        numbers.push(row.try_get(1)?);
        facts.push(ColumnFacts {
            name: row.try_get(2)?,
            ty: types.pg_type(type_oid),
            type_oid,
            type_name: types.cast_name(type_oid),
            scale: numeric_scale(type_oid, row.try_get(7)?),
            collation: collations.get(&collation).copied().unwrap_or(Collation::None),
            generated: row.try_get(5)?,
            not_null: row.try_get(6)?,
        });
    }
    let facts = trees.values().map(|tree| {
        let root = &tree.root;
        let (numbers, columns) = columns.remove(&root.id.0).unwrap_or_default();
        let field = |attnum: &i16| {
            let position = numbers.iter().position(|number| number == attnum)?;
            u16::try_from(position).ok().map(FieldId)
        };
        let primary_key: Option<Vec<FieldId>> = root.primary_key.iter().map(field).collect();
        TableFacts {
            id: root.id,
            kind: tree.kind(),
            namespace: root.namespace.clone(),
            name: root.name.clone(),
            columns,
            // Children don't inherit a key: it says nothing of a whole that they are part of.
            primary_key: match root.kind != TableKind::Partitioned && !tree.members.is_empty() {
                true => Vec::new(),
                false => primary_key.unwrap_or_default(),
            },
            identity: tree.identity(),
            publication: Publication::None,
            row_security: root.row_security_active
                || (root.row_security && through == ReadThrough::Views),
            leaves: tree.leaves().map(|leaf| leaf.id).collect(),
        }
    });
    Ok(facts.collect())
}

/// Returns facts with what is known of their publication.
pub(crate) fn published(
    facts: Vec<TableFacts>,
    publications: &HashMap<RelationId, Publication>,
) -> Vec<Arc<TableFacts>> {
    let publish = |facts: TableFacts| {
        let publication = publications.get(&facts.id).copied().unwrap_or(Publication::None);
        Arc::new(TableFacts { publication, ..facts })
    };
    facts.into_iter().map(publish).collect()
}
