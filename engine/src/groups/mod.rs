//! Incremental aggregates: counts, sums, averages and extremes of one table's rows, in groups or of all, kept from the
//! row changes themselves.
//!
//! What is kept of a group is a function of the *set* of its rows: a row that comes is added, one that goes is taken
//! away again, exactly. So the order in which changes arrive does not matter (`docs/postgres.md`, P6), and nothing
//! drifts: numbers are whole ones, at a scale. It takes old rows to do so, and therefore an identity of FULL.
//!
//! What one group keeps is in `group`, what a row adds to it in `row`, the arithmetic in `decimal`, what a read gives in
//! `read`.

mod decimal;
mod group;
pub(crate) mod plan;
mod read;
mod row;

#[cfg(test)]
mod tests;

use crate::diff::{diff, update};
use crate::result_row::{ResultRow, RowBuilder};
use crate::row_key::row_key;
use crate::row_list::RowList;
use crate::tables::TableChange;
use crate::template::{Direction, Nulls};
use crate::update::DiffOp;
use crate::window::Bounds;
use convoy_query_index::{FieldValue, SlotValue, Truth};
use convoy_types::{Key, PgType, write_json};
use group::{Group, Step, Text};
use plan::{GroupsPlan, ValueOf};
use std::collections::{BTreeMap, HashMap};

/// Groups can't follow a change by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lost {
    /// The result must be read again.
    ReadAgain,
    /// It must be read without being kept: it is too much, or too large a number.
    TooLarge,
}

impl From<decimal::TooLarge> for Lost {
    fn from(_: decimal::TooLarge) -> Self {
        Lost::TooLarge
    }
}

/// A group that is shown, or would be but for LIMIT and OFFSET.
#[derive(Clone, Debug)]
struct Entry {
    /// Sorts as Postgres does: the order's values, each as its direction has it, then the group's columns.
    sort: Box<[u8]>,
    row: ResultRow,
}

/// An incremental aggregate.
#[derive(Debug)]
pub(crate) struct Groups {
    bounds: Bounds,
    /// By their columns' values.
    groups: HashMap<Key, Group>,
    /// Where each group that meets HAVING sorts.
    sort_of: HashMap<Key, Box<[u8]>>,
    /// Those, in order.
    entries: Vec<Entry>,
    /// For each column of GROUP BY that is ranked, the ranks of its values.
    ranks: Box<[HashMap<Key, u64>]>,
    visible: RowList,
    /// What the groups take, about.
    bytes: usize,
    /// Counts the groups that batches have made others of, shown or not.
    revision: u64,
}

impl Groups {
    /// Returns what it shows.
    pub fn visible(&self) -> &RowList {
        &self.visible
    }

    /// Returns about how many bytes its state takes, beside what it shows.
    pub fn state_bytes(&self) -> usize {
        self.bytes
    }

    /// Counts how often changes altered a group, shown or not.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Applies a batch's changes; `bytes_max` is what the state may take. Where it fails, what is shown is as before, and the rest is of no use any more.
    ///
    /// # Errors
    /// [`Lost`] where the stream does not say enough, or the result can't be kept.
    pub fn apply<'a>(
        &mut self,
        plan: &GroupsPlan,
        slots: &[SlotValue],
        changes: impl Iterator<Item = &'a TableChange>,
        bytes_max: usize,
    ) -> Result<Vec<DiffOp>, Lost> {
        // The groups that rows come to or leave, with what they were made of before.
        let mut touched = BTreeMap::new();
        for change in changes {
            let rows = [(change.old.as_ref(), Step::Goes), (change.new.as_ref(), Step::Comes)];
            if change.is_update && change.old.is_none()
                || change.new.is_none() && change.old.is_none()
            {
                return Err(Lost::ReadAgain);
            }
            for (fields, step) in rows {
                let Some(fields) = fields else { continue };
                // An update leaves out long values that it did not change; the old row has them (P9).
                let before = if step == Step::Comes { change.old.as_deref() } else { None };
                if let Some((key, made_of)) = self.take_row(plan, slots, fields, before, step)? {
                    touched.entry(key).or_insert(made_of);
                }
            }
        }
        if self.bytes > bytes_max {
            return Err(Lost::TooLarge);
        }
        let mut entries = Vec::with_capacity(touched.len());
        for (key, made_of) in touched {
            let Some(group) = self.groups.get(&key) else { continue };
            self.revision += u64::from(group.made_of != made_of);
            if !group.is_possible() {
                return Err(Lost::ReadAgain);
            }
            let is_there = group.rows > 0 || plan.group_by.is_empty();
            let entry = if is_there { self.entry(plan, slots, group)? } else { None };
            entries.push((key, entry, is_there));
        }
        let mut ops = Vec::new();
        let is_limited = self.bounds.limit.is_some() || self.bounds.offset > 0;
        for (key, entry, is_there) in entries {
            if !is_there {
                self.forget_group(plan, &key);
            }
            self.put(key, entry, if is_limited { None } else { Some(&mut ops) });
        }
        if is_limited {
            let shown = self.shown();
            ops = diff(self.visible.rows(), &shown);
            if !ops.is_empty() {
                self.visible = RowList::new(shown);
            }
        }
        Ok(ops)
    }

    fn forget_group(&mut self, plan: &GroupsPlan, key: &Key) {
        if let Some(group) = self.groups.remove(key) {
            self.bytes = self.bytes.saturating_sub(group_bytes(plan, key, &group));
        }
    }

    /// Puts a group's entry in place of the one before, as steps of a diff where all entries are shown.
    fn put(&mut self, key: Key, entry: Option<Entry>, ops: Option<&mut Vec<DiffOp>>) {
        let before = self.sort_of.remove(&key).and_then(|sort| {
            let at = self.entries.binary_search_by(|entry| entry.sort.cmp(&sort)).ok()?;
            Some((at, self.entries.remove(at)))
        });
        let after = entry.map(|entry| {
            let at = self.entries.partition_point(|other| other.sort < entry.sort);
            self.sort_of.insert(key, entry.sort.clone());
            self.entries.insert(at, entry.clone());
            (at, entry)
        });
        let Some(ops) = ops else { return };
        match (before, after) {
            (None, None) => {}
            (None, Some((at, entry))) => {
                self.visible.insert(at, entry.row.clone());
                ops.push(DiffOp::Insert { row: entry.row, at });
            }
            (Some((at, entry)), None) => {
                self.visible.remove(at);
                ops.push(DiffOp::Remove { key: entry.row.key().into() });
            }
            (Some((from, old)), Some((at, new))) => {
                if at != from {
                    self.visible.remove(from);
                    self.visible.insert(at, new.row.clone());
                    ops.push(DiffOp::Move { key: new.row.key().into(), at });
                } else if old.row != new.row {
                    self.visible.replace(at, new.row.clone());
                }
                ops.extend(update(&old.row, &new.row));
            }
        }
    }

    fn shown(&self) -> Vec<ResultRow> {
        let as_usize = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let (offset, limit) =
            (as_usize(self.bounds.offset), self.bounds.limit.map_or(usize::MAX, as_usize));
        self.entries.iter().skip(offset).take(limit).map(|entry| entry.row.clone()).collect()
    }

    /// Returns how a group is shown, where HAVING lets it.
    fn entry(
        &self,
        plan: &GroupsPlan,
        slots: &[SlotValue],
        group: &Group,
    ) -> Result<Option<Entry>, Lost> {
        let values = plan
            .values
            .iter()
            .map(|value| group.value(plan, value))
            .collect::<Result<Vec<Text>, Lost>>()?;
        let key_of = |at: usize, text: &str| {
            Key::of(&plan.values[at].ty, text.as_bytes()).map_err(|_| Lost::ReadAgain)
        };
        if let Some(having) = &plan.having {
            let tested = having.fields();
            let mut fields = Vec::with_capacity(values.len());
            for (at, text) in values.iter().enumerate() {
                let is_tested = u16::try_from(at)
                    .is_ok_and(|at| tested.contains(convoy_query_index::FieldId(at)));
                fields.push(match text {
                    _ if !is_tested => FieldValue::Unknown,
                    None => FieldValue::Null,
                    Some(text) => FieldValue::Key(key_of(at, text)?),
                });
            }
            match having.eval(&fields, slots) {
                Truth::True => {}
                Truth::False | Truth::Null => return Ok(None),
                Truth::Unknown => return Err(Lost::ReadAgain),
            }
        }
        let mut cells = RowBuilder::with_cells(plan.output.len());
        for &at in &plan.output {
            match &values[at] {
                None => cells.push("null"),
                Some(text) => {
                    let write = |out: &mut _| write_json(&plan.values[at].ty, text.as_bytes(), out);
                    cells.push_with(write).map_err(|_| Lost::ReadAgain)?;
                }
            }
        }
        let columns = || plan.group_by.iter().zip(&group.texts).enumerate();
        let key = if plan.group_by.is_empty() {
            "".into()
        } else {
            let texts = columns().map(|(_, (column, text))| {
                text.as_deref().map(|text| cast_text(&plan.table.column(column.field).ty, text))
            });
            row_key(texts.collect::<Vec<_>>().into_iter())
        };
        let mut sort = Vec::new();
        // One byte for null or not, so that nulls stand first or last whichever way the values run.
        let mut push = |at: usize, direction: Direction, nulls: Nulls| -> Result<(), Lost> {
            let Some(text) = &values[at] else {
                sort.push(if nulls == Nulls::First { 0 } else { 2 });
                return Ok(());
            };
            sort.push(1);
            let start = sort.len();
            let key = key_of(at, text)?;
            match self.ranks_of(plan, at) {
                Some(ranks) => {
                    // A value without a rank: only Postgres knows where it stands.
                    sort.extend(ranks.get(&key).ok_or(Lost::ReadAgain)?.to_be_bytes());
                }
                None => sort.extend_from_slice(key.as_bytes()),
            }
            if direction == Direction::Descending {
                sort[start..].iter_mut().for_each(|byte| *byte = !*byte);
            }
            Ok(())
        };
        for item in &plan.order {
            push(item.value, item.direction, item.nulls)?;
        }
        for (at, _) in columns() {
            push(at, Direction::Ascending, Nulls::Last)?;
        }
        Ok(Some(Entry { sort: sort.into(), row: cells.finish(&key) }))
    }

    /// Returns the ranks of a value's like, where it is of a ranked column.
    fn ranks_of(&self, plan: &GroupsPlan, value: usize) -> Option<&HashMap<Key, u64>> {
        let ValueOf::Group(column) = plan.values[value].of else { return None };
        plan.group_by[column].is_ranked.then(|| &self.ranks[column])
    }
}

/// Returns a value as a cast to text shows it, of those types that groups are of.
fn cast_text<'a>(ty: &PgType, text: &'a str) -> &'a str {
    match (ty, text) {
        (PgType::Bool, "t") => "true",
        (PgType::Bool, "f") => "false",
        _ => text,
    }
}

/// Returns about how many bytes a group takes, its collections left out.
fn group_bytes(plan: &GroupsPlan, key: &Key, group: &Group) -> usize {
    /// The maps' places, the entry's allocations.
    const GROUP_BYTES: usize = 320;
    let texts: usize = group.texts.iter().flatten().map(|text| text.len()).sum();
    GROUP_BYTES + 4 * key.as_bytes().len() + texts + plan.states.len() * size_of::<group::Kept>()
}
