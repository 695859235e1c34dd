//! The tables that live queries read, and the WAL's changes in their terms: leaves under their roots, columns by field
//! (`docs/postgres.md`, P8 and P9).

use crate::array::array_elements;
use crate::derived::DerivedField;
use crate::facts::TableFacts;
use convoy_query_index::{FieldId, FieldSet, FieldValue};
use convoy_types::{
    ChangeKind, Datum, Key, KeyBuilder, OldRow, ParseValueError, PgType, Relation, RelationId, Row,
    RowChange,
};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// A row's data by field.
pub(crate) type Fields = Box<[Datum]>;

/// A change of one row of a table that somebody reads.
#[derive(Clone, Debug)]
pub(crate) struct TableChange {
    pub table: Arc<TableFacts>,
    /// The row before; key columns alone, where the WAL has no more. None for an insert, and for an update under a
    /// key identity that left the key alone.
    pub old: Option<Fields>,
    /// The row after.
    pub new: Option<Fields>,
    /// Whether it is an update: then an `old` that is none has the new row's replica identity.
    pub is_update: bool,
    /// What an update left alone whose old row was not sent; none for any other change.
    pub identity: Option<Arc<Identity>>,
}

/// A replica identity that is less than the whole row, as the stream itself names it.
#[derive(Debug)]
pub(crate) struct Identity {
    /// Its columns.
    pub fields: FieldSet,
    /// All others.
    pub others: FieldSet,
}

impl Identity {
    /// Returns a table's identity of these columns.
    pub fn new(table: &TableFacts, fields: FieldSet) -> Arc<Self> {
        let others = table.fields().iter().filter(|field| !fields.contains(*field)).collect();
        Arc::new(Identity { fields, others })
    }
}

impl TableChange {
    /// Returns the primary key of the row before; the new one's where the WAL says that it did not change.
    pub fn old_key(&self) -> Option<Key> {
        let mut key = self.table.primary_key.iter();
        match &self.old {
            Some(old) => primary_key(&self.table, old),
            None => {
                let identity = self.identity.as_ref()?;
                if key.all(|field| identity.fields.contains(*field)) {
                    self.new_key()
                } else {
                    None
                }
            }
        }
    }

    /// Returns the primary key of the row after.
    pub fn new_key(&self) -> Option<Key> {
        primary_key(&self.table, self.new.as_ref()?)
    }

    /// Returns the fields that an update changed and no others, where the whole old row is known; those that it may have
    /// changed, where it is known that it left the key alone.
    pub fn changed_fields(&self) -> Option<FieldSet> {
        let new = self.new.as_ref()?;
        if let Some(identity) = &self.identity {
            let may_differ =
                |field: &FieldId| new.get(usize::from(field.0)) != Some(&Datum::UnchangedToast);
            return Some(identity.others.iter().filter(may_differ).collect());
        }
        let old = self.old.as_ref()?;
        let mut changed = FieldSet::default();
        for (position, (old, new)) in old.iter().zip(new).enumerate() {
            let field = FieldId(u16::try_from(position).ok()?);
            match (old, new) {
                // A generated column may have changed with any other (P9).
                (Datum::Missing, Datum::Missing) if self.table.column(field).generated => {
                    changed.insert(field)
                }
                (Datum::Missing | Datum::UnchangedToast, _) => return None,
                (_, Datum::UnchangedToast) => {}
                (old, new) if old != new => changed.insert(field),
                _ => {}
            }
        }
        Some(changed)
    }
}

/// Returns a row's primary key, where the table has one and the row's columns are all known.
pub(crate) fn primary_key(table: &TableFacts, fields: &[Datum]) -> Option<Key> {
    if table.primary_key.is_empty() {
        return None;
    }
    let mut key = KeyBuilder::new();
    for &field in &table.primary_key {
        let text = fields.get(usize::from(field.0))?.known()??;
        key.push(&table.column(field).ty, text).ok()?;
    }
    Some(key.finish())
}

/// Returns a row's values in the fields that matter to an index, derived ones too; all others are unknown.
pub(crate) fn field_values<'a>(
    table: &TableFacts,
    derived: impl IntoIterator<Item = &'a DerivedField>,
    fields: &[Datum],
    of_interest: &FieldSet,
) -> Box<[FieldValue]> {
    let value = |(position, datum): (usize, &Datum)| {
        let Some(field) =
            u16::try_from(position).ok().map(FieldId).filter(|field| of_interest.contains(*field))
        else {
            return FieldValue::Unknown;
        };
        field_value(table, field, datum)
    };
    let mut values: Vec<_> = fields.iter().enumerate().map(value).collect();
    for DerivedField { field, value, .. } in derived {
        let (place, column) = (usize::from(field.0), fields.get(usize::from(value.column.0)));
        // What a place among the columns is of, the table's own facts say.
        if let Some(column) = column.filter(|_| place >= fields.len())
            && of_interest.contains(*field)
        {
            values.resize(values.len().max(place + 1), FieldValue::Unknown);
            values[place] = value.read(column);
        }
    }
    values.into_boxed_slice()
}

/// Returns one field's value.
pub(crate) fn field_value(table: &TableFacts, field: FieldId, datum: &Datum) -> FieldValue {
    match datum.known() {
        Some(None) => FieldValue::Null,
        Some(Some(text)) => match &table.column(field).ty {
            PgType::Array(element) => element_values(element, text),
            ty => key_value(ty, text),
        },
        None => FieldValue::Unknown,
    }
}

/// Returns a value that is not null, in output text.
fn key_value(ty: &PgType, text: &[u8]) -> FieldValue {
    match Key::of(ty, text) {
        Ok(key) => FieldValue::Key(key),
        // Conditions on a type that has no keys only ask whether there is a value.
        Err(ParseValueError::Unsupported { .. }) => FieldValue::Key(KeyBuilder::new().finish()),
        Err(_) => FieldValue::Unknown,
    }
}

/// Returns the distinct elements of an array that are not null.
fn element_values(ty: &PgType, text: &[u8]) -> FieldValue {
    let Ok(text) = std::str::from_utf8(text) else { return FieldValue::Unknown };
    let keys =
        array_elements(text).into_iter().flatten().map(|element| Key::of(ty, element.as_bytes()));
    match keys.collect::<Result<BTreeSet<_>, _>>() {
        Ok(keys) => FieldValue::Elements(keys.into_iter().collect()),
        Err(ParseValueError::Unsupported { .. }) => FieldValue::Key(KeyBuilder::new().finish()),
        Err(_) => FieldValue::Unknown,
    }
}

/// Where each field of a table stands in the rows that the WAL sends for it or for one of its leaves.
struct Projection {
    relation: Arc<Relation>,
    positions: Box<[Option<usize>]>,
    identity: Arc<Identity>,
}

/// The tables that somebody reads.
#[derive(Default)]
pub(crate) struct Tables {
    /// The tables that a relation of the WAL holds rows of: itself, and what it is a leaf of.
    read_through: HashMap<RelationId, Vec<Arc<TableFacts>>>,
    projections: HashMap<(RelationId, RelationId), Projection>,
}

impl Tables {
    /// Sets the tables that are read.
    pub fn set(&mut self, tables: impl Iterator<Item = Arc<TableFacts>>) {
        self.read_through.clear();
        self.projections.clear();
        for table in tables {
            for id in std::iter::once(&table.id).chain(&table.leaves) {
                let readers = self.read_through.entry(*id).or_default();
                if readers.iter().all(|reader| reader.id != table.id) {
                    readers.push(table.clone());
                }
            }
        }
    }

    /// Returns the tables whose rows this relation of the WAL holds.
    pub fn read_through(&self, relation: RelationId) -> &[Arc<TableFacts>] {
        self.read_through.get(&relation).map_or(&[], Vec::as_slice)
    }

    /// Returns a row change in the terms of each table that is read; nothing for a TRUNCATE, whose tables
    /// [`Tables::read_through`] names.
    pub fn changes(&mut self, change: &RowChange) -> Vec<TableChange> {
        let Some(tables) = self.read_through.get(&change.relation.id) else { return Vec::new() };
        let projections = &mut self.projections;
        let mut table_change = |table: &Arc<TableFacts>| {
            let projection = projections
                .entry((change.relation.id, table.id))
                .and_modify(|known| {
                    if !Arc::ptr_eq(&known.relation, &change.relation) {
                        *known = Projection::new(table, &change.relation);
                    }
                })
                .or_insert_with(|| Projection::new(table, &change.relation));
            let old = |old: &OldRow| match old {
                OldRow::SameKey => None,
                OldRow::Key(row) | OldRow::Full(row) => Some(projection.fields(row)),
            };
            let (old, new) = match &change.kind {
                ChangeKind::Insert { new } => (None, Some(projection.fields(new))),
                ChangeKind::Update { old: before, new } => {
                    (old(before), Some(projection.fields(new)))
                }
                ChangeKind::Delete { old: before } => (old(before), None),
                ChangeKind::Truncate => return None,
            };
            let is_update = matches!(change.kind, ChangeKind::Update { .. });
            let is_same_key =
                matches!(change.kind, ChangeKind::Update { old: OldRow::SameKey, .. });
            let identity = is_same_key.then(|| projection.identity.clone());
            Some(TableChange { table: table.clone(), old, new, is_update, identity })
        };
        tables.iter().filter_map(&mut table_change).collect()
    }
}

impl Projection {
    fn new(table: &TableFacts, relation: &Arc<Relation>) -> Self {
        let positions: Box<[Option<usize>]> =
            table.columns.iter().map(|column| relation.column_position(&column.name)).collect();
        let is_of_identity = |field: &FieldId| {
            positions[usize::from(field.0)]
                .is_some_and(|position| relation.columns[position].is_identity)
        };
        let identity = Identity::new(table, table.fields().iter().filter(is_of_identity).collect());
        Projection { relation: relation.clone(), positions, identity }
    }

    fn fields(&self, row: &Row) -> Fields {
        let datum =
            |position: &Option<usize>| position.and_then(|position| row.0.get(position).cloned());
        self.positions.iter().map(|position| datum(position).unwrap_or(Datum::Missing)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyse::fixture::tables;
    use convoy_types::{Column, ReplicaIdentity};

    fn text(text: &str) -> Datum {
        Datum::Text(text.as_bytes().to_vec().into())
    }

    /// Returns a change of `order_lines`, whose key is its first two columns, under an identity of the key.
    fn change(kind: ChangeKind) -> TableChange {
        let table = tables().into_iter().find(|table| table.name == "order_lines").expect("there");
        let column = |(position, column): (usize, &crate::facts::ColumnFacts)| Column {
            name: column.name.clone(),
            type_oid: column.type_oid,
            type_modifier: -1,
            is_identity: position < 2,
        };
        let relation = Relation {
            id: table.id,
            namespace: table.namespace.clone(),
            name: table.name.clone(),
            replica_identity: ReplicaIdentity::Default,
            columns: table.columns.iter().enumerate().map(column).collect(),
        };
        let mut tables = Tables::default();
        tables.set(std::iter::once(Arc::new(table)));
        let change = RowChange { relation: Arc::new(relation), kind };
        tables.changes(&change).pop().expect("one table is read")
    }

    #[test]
    fn an_update_without_an_old_row_has_left_the_key_alone() {
        let row = |values: [&str; 4]| Row(values.iter().map(|value| text(value)).collect());
        let new = || row(["1", "2", "apple", "3"]);
        let others: FieldSet = [FieldId(2), FieldId(3)].into_iter().collect();
        let same_key = change(ChangeKind::Update { old: OldRow::SameKey, new: new() });
        assert_eq!(same_key.changed_fields(), Some(others));
        assert_eq!(same_key.old_key(), same_key.new_key());

        let missing = || Datum::Missing;
        let key = Row(Box::new([text("1"), text("1"), missing(), missing()]));
        let other_key = change(ChangeKind::Update { old: OldRow::Key(key), new: new() });
        assert_eq!(other_key.changed_fields(), None, "anything may have changed");
        assert_ne!(other_key.old_key(), other_key.new_key());
    }

    #[test]
    fn long_values_that_were_not_sent_were_left_alone() {
        let update = |identity: &[u16]| TableChange {
            table: Arc::new(tables().swap_remove(0)),
            old: None,
            new: Some(Box::new([text("7"), text("Ada"), Datum::UnchangedToast, Datum::Missing])),
            is_update: true,
            identity: Some(Identity::new(
                &tables().swap_remove(0),
                identity.iter().copied().map(FieldId).collect(),
            )),
        };
        let may_have_changed = |change: &TableChange| {
            let changed = change.changed_fields().expect("some may have changed");
            [0, 1, 2, 3].map(|field| changed.contains(FieldId(field)))
        };
        // A generated column may be missing, and have changed.
        assert_eq!(may_have_changed(&update(&[0])), [false, true, false, true]);
        assert!(update(&[0]).old_key().is_some());
        // The key is not the identity: it may be another.
        assert_eq!(may_have_changed(&update(&[1])), [true, false, false, true]);
        assert_eq!(update(&[1]).old_key(), None);
    }
}
