//! Groups as the plan's statement reads them.

use super::decimal::Decimal;
use super::group::{Group, Kept, count_value};
use super::plan::{GroupsPlan, Scale, State, StateKind, ValueSet};
use super::{Groups, Lost, group_bytes};
use crate::read_rows::{ReadRow, ReadRows};
use crate::row_list::RowList;
use crate::window::Bounds;
use convoy_query_index::SlotValue;
use convoy_types::{Key, KeyBuilder};
use std::collections::HashMap;

/// The columns of a row, one after the other.
struct Columns<'a> {
    row: ReadRow<'a>,
    next: usize,
}

impl<'a> Columns<'a> {
    fn next(&mut self) -> Result<Option<&'a str>, Lost> {
        let column = self.row.get(self.next).ok_or(Lost::TooLarge)?;
        self.next += 1;
        Ok(column)
    }

    fn number(&mut self) -> Result<i64, Lost> {
        self.next()?.and_then(|text| text.parse().ok()).ok_or(Lost::TooLarge)
    }
}

impl Groups {
    /// Returns the groups of what the plan's statement read.
    ///
    /// # Errors
    /// [`Lost::TooLarge`] where they can't be kept.
    pub fn read(
        plan: &GroupsPlan,
        bounds: Bounds,
        slots: &[SlotValue],
        rows: &ReadRows,
    ) -> Result<Self, Lost> {
        let mut groups = Groups {
            bounds,
            groups: HashMap::new(),
            sort_of: HashMap::new(),
            entries: Vec::new(),
            ranks: plan.group_by.iter().map(|_| HashMap::new()).collect(),
            visible: RowList::default(),
            bytes: 0,
            revision: 0,
        };
        for row in rows.iter() {
            groups.read_row(plan, row)?;
        }
        let mut entries = Vec::with_capacity(groups.groups.len());
        for (key, group) in &groups.groups {
            if let Some(entry) = groups.entry(plan, slots, group).map_err(|_| Lost::TooLarge)? {
                entries.push((key.clone(), entry));
            }
        }
        entries.sort_by(|(_, left), (_, right)| left.sort.cmp(&right.sort));
        for (key, entry) in entries {
            groups.sort_of.insert(key, entry.sort.clone());
            groups.entries.push(entry);
        }
        groups.visible = RowList::new(groups.shown());
        Ok(groups)
    }

    fn read_row(&mut self, plan: &GroupsPlan, row: ReadRow<'_>) -> Result<(), Lost> {
        let mut columns = Columns { row, next: 0 };
        let mut key = KeyBuilder::new();
        let mut texts: Vec<Option<Box<str>>> = Vec::with_capacity(plan.group_by.len());
        for column in &plan.group_by {
            let text = columns.next()?;
            key.push_nullable(&plan.table.column(column.field).ty, text.map(str::as_bytes))
                .map_err(|_| Lost::TooLarge)?;
            texts.push(text.map(Into::into));
        }
        let key = key.finish();
        for (at, column) in plan.group_by.iter().enumerate() {
            if !column.is_ranked {
                continue;
            }
            let rank = columns.number()?;
            if let Some(text) = &texts[at] {
                let ty = &plan.table.column(column.field).ty;
                let value = Key::of(ty, text.as_bytes()).map_err(|_| Lost::TooLarge)?;
                let rank = u64::try_from(rank).map_err(|_| Lost::TooLarge)?;
                self.ranks[at].insert(value, rank);
            }
        }
        let mut values = Vec::with_capacity(plan.sets.len());
        for _ in &plan.sets {
            values.push(columns.next()?);
        }
        let set = if plan.sets.is_empty() { None } else { set_of(plan, columns.number()?)? };
        let rows = columns.number()?;
        let is_new = !self.groups.contains_key(&key);
        let group =
            self.groups.entry(key.clone()).or_insert_with(|| Group::empty(plan, texts.into()));
        if is_new {
            self.bytes += group_bytes(plan, &key, group);
        }
        if set.is_none() {
            group.rows = rows;
        }
        for (state, kept) in plan.states.iter().zip(&mut group.states) {
            let grown = match set {
                None => read_state(kept, &mut columns)?,
                Some(set) => read_value(plan, state, kept, set, values[set], &mut columns)?,
            };
            self.bytes = self.bytes.saturating_add_signed(grown);
        }
        Ok(())
    }
}

/// Returns which set a row is of, by what GROUPING says: none where it is a group's own.
fn set_of(plan: &GroupsPlan, grouping: i64) -> Result<Option<usize>, Lost> {
    let all = (1_i64 << plan.sets.len()) - 1;
    let absent = all & !grouping;
    if absent == 0 {
        return Ok(None);
    }
    let set = (0..plan.sets.len()).find(|set| absent == 1 << (plan.sets.len() - 1 - set));
    set.map(Some).ok_or(Lost::TooLarge)
}

/// Reads what a group's own row says of a state.
fn read_state(kept: &mut Kept, columns: &mut Columns<'_>) -> Result<isize, Lost> {
    match kept {
        Kept::Count(count) => *count = columns.number()?,
        Kept::Sum { sum, count } => {
            let text = columns.next()?;
            *sum = text.map_or(Ok(0), str::parse).map_err(|_| Lost::TooLarge)?;
            *count = columns.number()?;
        }
        Kept::Numeric(numeric) => {
            numeric.sum = columns.next()?.map_or(Ok(Decimal::default()), Decimal::read)?;
            numeric.count = columns.number()?;
            numeric.nans = columns.number()?;
            numeric.infinities = columns.number()?;
            numeric.minus_infinities = columns.number()?;
        }
        // The values have rows of their own.
        Kept::Values(_) => drop(columns.next()?),
    }
    Ok(0)
}

/// Reads what a row of a set says of a state: how often a value occurs.
fn read_value(
    plan: &GroupsPlan,
    state: &State,
    kept: &mut Kept,
    set: usize,
    value: Option<&str>,
    columns: &mut Columns<'_>,
) -> Result<isize, Lost> {
    match kept {
        Kept::Count(_) => drop(columns.next()?),
        Kept::Sum { .. } => drop((columns.next()?, columns.next()?)),
        Kept::Numeric(numeric) => {
            columns.next()?;
            let count = columns.number()?;
            for _ in 0..3 {
                columns.next()?;
            }
            let is_its = state.kind == StateKind::NumericSum { scale: Scale::Varies(set) };
            if let (true, Some(scale)) = (is_its && count > 0, value) {
                numeric.count_scale(scale.parse().map_err(|_| Lost::TooLarge)?, count);
            }
        }
        Kept::Values(values) => {
            let count = columns.number()?;
            let (StateKind::Values { set: its }, ValueSet::Column(field)) =
                (state.kind, plan.sets[set])
            else {
                return Ok(0);
            };
            if let (true, Some(text)) = (its == set && count > 0, value) {
                let ty = &plan.table.column(field).ty;
                let key = Key::of(ty, text.as_bytes()).map_err(|_| Lost::TooLarge)?;
                return count_value(values, key, text, count);
            }
        }
    }
    Ok(0)
}
