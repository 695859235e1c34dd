//! A table as the WAL describes it.

use std::fmt;

/// A table's oid (`pg_class.oid`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelationId(pub u32);

impl fmt::Display for RelationId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// What the WAL says of the old row (`pg_class.relreplident`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicaIdentity {
    /// The primary key's columns, where there is a primary key.
    Default,
    /// Nothing.
    Nothing,
    /// The whole row.
    Full,
    /// The columns of a unique index.
    Index,
}

/// One column of a [`Relation`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// The column's name, as it is, without quotes.
    pub name: String,
    /// The type's oid (`pg_attribute.atttypid`).
    pub type_oid: u32,
    /// The type's modifier (`pg_attribute.atttypmod`), -1 where it has none.
    pub type_modifier: i32,
    /// Whether the column is part of the replica identity.
    pub is_identity: bool,
}

/// A table as a pgoutput Relation message describes it: the columns that changes of it carry, in their order.
///
/// Stored generated columns are absent before Postgres 18; a partition's own columns may stand in another order than
/// its root's (`docs/postgres.md`, P8 and P9). So columns are found by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    /// The table's oid; a leaf's, for a partitioned table.
    pub id: RelationId,
    /// The schema's name.
    pub namespace: String,
    /// The table's name.
    pub name: String,
    /// What old rows carry.
    pub replica_identity: ReplicaIdentity,
    /// The columns in the order of each row's data.
    pub columns: Vec<Column>,
}

impl Relation {
    /// Returns the position of a column in this table's rows.
    pub fn column_position(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }
}
