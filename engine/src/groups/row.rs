//! What a row adds to its group, or takes away from it.

use super::group::{Group, Step};
use super::plan::{GroupsPlan, StateKind};
use super::{Groups, Lost, group_bytes};
use crate::derived::DerivedField;
use crate::tables::field_value;
use convoy_query_index::{Condition, FieldId, FieldSet, FieldValue, SlotValue, Truth};
use convoy_types::{Datum, Key, KeyBuilder};
use std::collections::hash_map::Entry;
use std::hash::{DefaultHasher, Hash, Hasher};

/// A row, with the one before it for what it leaves out.
struct RowValues<'a> {
    fields: &'a [Datum],
    before: Option<&'a [Datum]>,
}

impl<'a> RowValues<'a> {
    fn datum(&self, position: usize) -> &'a Datum {
        let missing = &Datum::Missing;
        match self.fields.get(position) {
            Some(Datum::UnchangedToast) => {
                self.before.and_then(|before| before.get(position)).unwrap_or(missing)
            }
            Some(datum) => datum,
            None => missing,
        }
    }

    /// Returns a column's text, none for null.
    fn text(&self, field: FieldId) -> Result<Option<&'a str>, Lost> {
        match self.datum(usize::from(field.0)).known() {
            None => Err(Lost::ReadAgain),
            Some(None) => Ok(None),
            Some(Some(text)) => std::str::from_utf8(text).map(Some).map_err(|_| Lost::ReadAgain),
        }
    }
}

impl Groups {
    /// Takes a row into its group or out of it, if it counts. Returns the group, and what it was made of before.
    pub(super) fn take_row(
        &mut self,
        plan: &GroupsPlan,
        slots: &[SlotValue],
        fields: &[Datum],
        before: Option<&[Datum]>,
        step: Step,
    ) -> Result<Option<(Key, u64)>, Lost> {
        let row = RowValues { fields, before };
        let mut tested = plan.condition.fields();
        plan.filters.iter().for_each(|filter| tested.union_with(&filter.fields()));
        let values = tested_values(plan, &row, &tested);
        if !is_met(&plan.condition, &values, slots)? {
            return Ok(None);
        }
        let mut met = Vec::with_capacity(plan.filters.len());
        for filter in &plan.filters {
            met.push(is_met(filter, &values, slots)?);
        }
        let mut key = KeyBuilder::new();
        let mut texts = Vec::with_capacity(plan.group_by.len());
        for column in &plan.group_by {
            let text = row.text(column.field)?;
            key.push_nullable(&plan.table.column(column.field).ty, text.map(str::as_bytes))
                .map_err(|_| Lost::ReadAgain)?;
            texts.push(text.map(Into::into));
        }
        let key = key.finish();
        let group = match self.groups.entry(key.clone()) {
            Entry::Occupied(group) => group.into_mut(),
            // Nothing can be taken from a group that is not there.
            Entry::Vacant(_) if step == Step::Goes => return Err(Lost::ReadAgain),
            Entry::Vacant(vacant) => {
                let group = Group::empty(plan, texts.into());
                self.bytes += group_bytes(plan, &key, &group);
                vacant.insert(group)
            }
        };
        let made_of = group.made_of;
        let mut row_hash = DefaultHasher::new();
        group.rows += if step == Step::Comes { 1 } else { -1 };
        for (state, kept) in plan.states.iter().zip(&mut group.states) {
            if state.filter.is_some_and(|filter| !met[filter]) {
                row_hash.write_u8(0);
                continue;
            }
            let grown = match state.column {
                None => {
                    row_hash.write_u8(1);
                    kept.take(StateKind::Count, &convoy_types::PgType::Int8, "", step)?
                }
                Some(field) => match row.text(field)? {
                    None => {
                        row_hash.write_u8(0);
                        0
                    }
                    Some(text) => {
                        row_hash.write_u8(1);
                        if state.kind != StateKind::Count {
                            text.hash(&mut row_hash);
                        }
                        kept.take(state.kind, &plan.table.column(field).ty, text, step)?
                    }
                },
            };
            self.bytes = self.bytes.saturating_add_signed(grown);
        }
        // Odd, so that no number of equal rows comes to nothing.
        let row_hash = row_hash.finish() | 1;
        group.made_of = match step {
            Step::Comes => made_of.wrapping_add(row_hash),
            Step::Goes => made_of.wrapping_sub(row_hash),
        };
        Ok(Some((key, made_of)))
    }
}

fn is_met(condition: &Condition, values: &[FieldValue], slots: &[SlotValue]) -> Result<bool, Lost> {
    match condition.eval(values, slots) {
        Truth::True => Ok(true),
        Truth::False | Truth::Null => Ok(false),
        Truth::Unknown => Err(Lost::ReadAgain),
    }
}

fn tested_values(plan: &GroupsPlan, row: &RowValues<'_>, tested: &FieldSet) -> Vec<FieldValue> {
    let value = |position: usize| match u16::try_from(position).map(FieldId) {
        Ok(field) if tested.contains(field) => field_value(&plan.table, field, row.datum(position)),
        _ => FieldValue::Unknown,
    };
    let mut values: Vec<FieldValue> = (0..row.fields.len()).map(value).collect();
    for DerivedField { field, value, .. } in &plan.derived {
        // They are numbered behind the columns.
        let place = usize::from(field.0);
        values.resize(values.len().max(place + 1), FieldValue::Unknown);
        values[place] = value.read(row.datum(usize::from(value.column.0)));
    }
    values
}
