//! What the database says about a statement and the tables that it reads. Collected by `Database::describe`; the
//! analysis works from these facts alone.

use convoy_query_index::{FieldId, FieldSet};
use convoy_types::{Collation, PgType, RelationId, ReplicaIdentity};
use std::sync::Arc;

/// What kind of relation it is, as far as that decides whether the WAL shows its changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableKind {
    /// A plain, logged table.
    Plain,
    /// A partitioned table: its rows live in its leaves.
    Partitioned,
    /// An unlogged table.
    Unlogged,
    /// A temporary table.
    Temporary,
    /// A foreign table.
    Foreign,
    /// A materialized view.
    MaterializedView,
    /// A sequence.
    Sequence,
    /// A table of `pg_catalog`, `information_schema` or a TOAST table.
    Catalog,
    /// A view: never in the WAL itself; its base tables are listed beside it.
    View,
}

/// Which of our publications a table is in (`docs/postgres.md`, P1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Publication {
    /// `convoy_full`: inserts, updates, deletes, truncates.
    Full,
    /// `convoy_ins`: inserts and truncates, since it has no usable replica identity.
    InsertsOnly,
    /// Neither: it can't be published.
    None,
}

/// One column of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnFacts {
    /// The name, without quotes.
    pub name: String,
    /// The type as far as we read it; a domain's base type.
    pub ty: PgType,
    /// The type's oid, before any domain is resolved.
    pub type_oid: u32,
    /// The type's name as `format_type` gives it, fit for a cast.
    pub type_name: String,
    /// How many digits a numeric of it has behind the point; none where that varies, or its own type does not say.
    pub scale: Option<u32>,
    /// How its texts compare.
    pub collation: Collation,
    /// Whether it is a generated column: absent in the stream before Postgres 18.
    pub generated: bool,
    /// Whether it is NOT NULL.
    pub not_null: bool,
}

/// A table that a statement reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableFacts {
    /// The oid; the root's, for a partitioned table.
    pub id: RelationId,
    /// What kind it is.
    pub kind: TableKind,
    /// The schema's name.
    pub namespace: String,
    /// The name.
    pub name: String,
    /// The columns, by [`FieldId`].
    pub columns: Vec<ColumnFacts>,
    /// The primary key's columns in the key's order; empty where there is none that is valid and immediate.
    pub primary_key: Vec<FieldId>,
    /// What old rows carry. For a partitioned table: the least that any leaf carries.
    pub identity: ReplicaIdentity,
    /// Which publication it is in.
    pub publication: Publication,
    /// Whether row level security applies to the reading role.
    pub row_security: bool,
    /// The leaves, by oid, where rows live elsewhere (partitions and inheritance children); else empty.
    pub leaves: Vec<RelationId>,
}

impl TableFacts {
    /// Returns a column by its field.
    pub fn column(&self, field: FieldId) -> &ColumnFacts {
        &self.columns[usize::from(field.0)]
    }

    /// Returns whether changes of the table are told in the same terms by both: the same columns in the same places, the
    /// same key, the same leaves.
    pub(crate) fn is_told_as(&self, other: &TableFacts) -> bool {
        // The names of types depend on who asks.
        let is_same = |(left, right): (&ColumnFacts, &ColumnFacts)| {
            (&left.name, &left.ty, left.type_oid, left.scale, left.collation, left.generated)
                == (
                    &right.name,
                    &right.ty,
                    right.type_oid,
                    right.scale,
                    right.collation,
                    right.generated,
                )
        };
        self.columns.len() == other.columns.len()
            && self.columns.iter().zip(&other.columns).all(is_same)
            && (&self.primary_key, self.identity, &self.leaves)
                == (&other.primary_key, other.identity, &other.leaves)
    }

    /// Returns whether the stream tells what these columns held in a row that is updated or deleted.
    pub(crate) fn tells_old(&self, fields: &FieldSet) -> bool {
        match self.identity {
            ReplicaIdentity::Full => true,
            ReplicaIdentity::Default => {
                fields.iter().all(|field| self.primary_key.contains(&field))
            }
            ReplicaIdentity::Index | ReplicaIdentity::Nothing => false,
        }
    }

    /// Returns the field of a column by its exact name.
    pub fn field(&self, name: &str) -> Option<FieldId> {
        let position = self.columns.iter().position(|column| column.name == name)?;
        u16::try_from(position).ok().map(FieldId)
    }

    /// Returns the fields of all columns.
    pub fn fields(&self) -> FieldSet {
        FieldSet::all(u16::try_from(self.columns.len()).unwrap_or(u16::MAX))
    }

    /// Returns the fields of the primary key.
    pub(crate) fn key_fields(&self) -> FieldSet {
        self.primary_key.iter().copied().collect()
    }

    /// Returns the quoted, qualified name.
    pub fn qualified_name(&self) -> String {
        format!("{}.{}", quote_identifier(&self.namespace), quote_identifier(&self.name))
    }
}

/// Returns an identifier in double quotes, fit for SQL.
pub fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// One column of a statement's result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputColumn {
    /// The name.
    pub name: String,
    /// The type's oid.
    pub type_oid: u32,
    /// The type's name as the protocol shows it (`int8`, `text`, `_int4`: `pg_type.typname`).
    pub type_name: String,
    /// The type as far as we read it.
    pub ty: PgType,
}

/// One parameter of a statement, as Postgres inferred or was told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParamType {
    /// The type's oid.
    pub type_oid: u32,
    /// The type's name, fit for a cast.
    pub type_name: String,
    /// The type as far as we read it.
    pub ty: PgType,
}

/// A function that the statement (or a view or policy that it goes through) may call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionFacts {
    /// The name as `pg_proc` has it.
    pub name: String,
    /// The schema's name.
    pub namespace: String,
    /// Whether any overload of the name is volatile.
    pub volatile: bool,
    /// Whether an overload by that name is an aggregate.
    pub aggregate: bool,
    /// Whether any overload is merely stable (`now()`): its value may change without a write.
    pub stable: bool,
}

/// What Postgres says about a statement.
#[derive(Clone, Debug)]
pub struct StatementFacts {
    /// The parameters, `$1` first.
    pub params: Vec<ParamType>,
    /// The columns of the result.
    pub columns: Vec<OutputColumn>,
    /// Every relation that it reads, views and their base tables included, partitions under their root
    /// (`docs/postgres.md`, P11); and those that `@depends` names.
    pub tables: Vec<Arc<TableFacts>>,
    /// Every function that a name in the statement, in its views or policies may mean.
    pub functions: Vec<FunctionFacts>,
    /// How a text without a COLLATE of its own compares: the database's default.
    pub default_collation: Collation,
    /// `server_version_num`, as 150018.
    pub server_version_num: u32,
}
