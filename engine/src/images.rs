//! Rows before and after a change, as conditions test them: a change's columns and what is derived from them, by field.

use crate::database::Database;
use crate::engine::Engine;
use crate::tables::{TableChange, field_values};
use convoy_query_index::{FieldId, FieldSet, FieldValue, RowImages};
use convoy_types::{Datum, Key, RelationId};

/// A row before and after a change, by field.
pub(crate) struct Images {
    relation: RelationId,
    old: Option<Box<[FieldValue]>>,
    new: Option<Box<[FieldValue]>>,
    old_key: Option<Key>,
    new_key: Option<Key>,
    changed: Option<FieldSet>,
}

impl Images {
    pub fn borrowed(&self) -> RowImages<'_> {
        RowImages {
            relation: self.relation,
            old: self.old.as_deref(),
            new: self.new.as_deref(),
            old_key: self.old_key.as_ref(),
            new_key: self.new_key.as_ref(),
            changed: self.changed.as_ref(),
        }
    }
}

impl<D: Database> Engine<D> {
    /// Returns the row before and after a change, as conditions test it; none where it changes nothing, or nobody reads
    /// the table.
    pub(crate) fn images_of(&self, change: &TableChange) -> Option<Images> {
        let table = &change.table;
        let of_interest = self.index.fields_of_interest(table.id)?;
        let values = |fields: &Option<Box<[Datum]>>| {
            fields.as_ref().map(|fields| {
                field_values(table, self.derived.of_table(table.id), fields, of_interest)
            })
        };
        let (mut old, new) = (values(&change.old), values(&change.new));
        if let (Some(identity), Some(new)) = (&change.identity, &new) {
            // What is in the key has been what it is.
            old = Some(known_by_key(&identity.fields, new));
        }
        if change.is_update {
            // One whose old row was not sent has one all the same, of which nothing is known.
            old = old.or_else(|| Some(Box::default()));
        }
        let changed = if change.is_update { change.changed_fields() } else { None };
        if changed.as_ref() == Some(&FieldSet::default()) {
            return None;
        }
        let (old_key, new_key) = (change.old_key(), change.new_key());
        Some(Images { relation: table.id, old, new, old_key, new_key, changed })
    }
}

/// Returns the values that a row is known to have had, because an update left its key alone.
fn known_by_key(key: &FieldSet, new: &[FieldValue]) -> Box<[FieldValue]> {
    let value = |(position, value): (usize, &FieldValue)| match u16::try_from(position) {
        Ok(field) if key.contains(FieldId(field)) => value.clone(),
        _ => FieldValue::Unknown,
    };
    new.iter().enumerate().map(value).collect()
}
