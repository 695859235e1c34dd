//! Incremental results: one table, filter, projection, order and limit, kept from the row changes themselves.
//!
//! A window *holds* the matching rows in order, from the first one; with a limit, a few more than it shows, so that a
//! row that leaves need not cost a read. It is a function of the set of rows alone: ties are broken by the primary
//! key, never by arrival, and the changes of a batch are applied as their net effect (`docs/postgres.md`, P6).
//!
//! What the changes of a batch come to is said by `net_effect`, what the plan makes of a row by `projection`, and how many
//! spare rows are held by `spare`.

mod net_effect;
mod projection;
mod sort_key;
mod spare;

#[cfg(test)]
mod tests;

use crate::diff::{diff, update};
use crate::read_rows::ReadRows;
use crate::result_row::ResultRow;
use crate::row_list::{RowList, part_of};
use crate::tables::{Fields, TableChange, field_values};
use crate::template::{WindowPlan, spare_rows};
use crate::update::DiffOp;
use convoy_query_index::{SlotValue, Truth};
use convoy_types::{Key, ParseValueError};
use net_effect::net_effect;
use sort_key::SortKey;
use spare::Spare;
use std::collections::HashMap;
use std::ops::Range;

/// The window can't follow a change by itself: its result must be read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refill;

/// A window's part of an ordered set of rows, with limit and offset as numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub offset: u64,
    pub limit: Option<u64>,
}

impl Bounds {
    /// Returns how many rows are shown or skipped, at most.
    fn needed(self) -> Option<usize> {
        self.limit
            .map(|limit| usize::try_from(limit.saturating_add(self.offset)).unwrap_or(usize::MAX))
    }

    /// Returns which of the ordered rows are shown.
    fn shown(self) -> Range<usize> {
        let start = usize::try_from(self.offset).unwrap_or(usize::MAX);
        start..self.needed().unwrap_or(usize::MAX)
    }

    /// Returns how many rows the plan's statement reads beyond those, at most.
    fn spare(self) -> Option<usize> {
        usize::try_from(spare_rows(self.limit?)).ok()
    }

    /// Returns how many rows the plan's statement reads, at most.
    pub fn read(self) -> Option<usize> {
        Some(self.needed()?.saturating_add(self.spare()?))
    }
}

/// Where each row sorts, by its key. Only kept past so many rows: fewer are found as quickly one by one.
type SortOf = Box<HashMap<Key, SortKey>>;
const SORT_OF_MIN: usize = 64;

/// Past so many rows that would be shifted one by one to make room, a batch's rows are merged with those that are held:
/// that costs a look at each of these, and no more however many come.
const SHIFTS_MAX: usize = if cfg!(test) { 32 } else { 16 << 20 };

/// An incremental result.
#[derive(Debug)]
pub(crate) struct Window {
    bounds: Bounds,
    /// Where each held row sorts, ascending.
    held: Vec<SortKey>,
    // Invariant: as many as there are in `held`, in the same order.
    rows: RowList,
    /// None also where the key alone is the order.
    sort_of: Option<SortOf>,
    /// Whether `held` is every matching row. Else it is those up to its last one.
    complete: bool,
    /// Where there is a limit, how many rows beyond it are held.
    spare: Spare,
    /// Counts the rows that changes brought, took, moved or altered, spare ones too.
    revision: u64,
}

/// A row that is held from now on, or no longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Membership {
    Held(Key),
    Released(Key),
}

/// What the changes of a batch did to a window.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    /// The steps that lead from what was shown to what is.
    pub ops: Vec<DiffOp>,
    /// Rows that came or went, in order.
    pub membership: Vec<Membership>,
}

/// A row to be held.
struct Entry {
    sort: SortKey,
    row: Option<ResultRow>,
}

impl Window {
    /// Returns the window of what the plan's statement read.
    ///
    /// # Errors
    /// Where a text does not read as its column's type.
    pub fn read(
        plan: &WindowPlan,
        bounds: Bounds,
        rows: ReadRows,
    ) -> Result<Self, ParseValueError> {
        let complete = bounds.read().is_none_or(|read| rows.len() < read);
        let mut held: Vec<(SortKey, ResultRow)> = Vec::with_capacity(rows.len());
        for data in rows.into_data() {
            let source = |position: usize| &data[position];
            let row = plan.row(source, |_| None)?.ok_or(unknown())?;
            held.push((plan.sort_key(source)?.ok_or(unknown())?, row));
        }
        held.sort_by(|(left, _), (right, _)| left.cmp(right));
        let (held, rows) = held.into_iter().unzip();
        let rows = RowList::showing(rows, bounds.shown());
        let spare = Spare::new(bounds.spare().unwrap_or_default());
        let mut window = Window { bounds, held, rows, sort_of: None, complete, spare, revision: 0 };
        window.index_sorts(plan);
        Ok(window)
    }

    /// Returns its part of the ordered rows.
    pub fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// Returns what it shows.
    pub fn visible(&self) -> &RowList {
        &self.rows
    }

    /// Counts how often a change altered what it holds, shown or spare.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Returns the keys of the rows that it holds, shown or spare.
    pub fn held_keys(&self) -> impl ExactSizeIterator<Item = Key> {
        self.held.iter().map(|sort| Key::from_bytes(sort.key()))
    }

    /// Returns what the last held row has in the first column of the order, where rows beyond it can't matter; none
    /// where any row may.
    pub fn boundary(&self, plan: &WindowPlan) -> Option<Key> {
        let last = if self.complete { None } else { self.held.last() };
        plan.leading_value(last?)
    }

    /// Returns whether it holds a row with this key.
    pub fn holds(&self, key: &Key) -> bool {
        self.find(key).is_some()
    }

    /// Applies the net effect of a batch's changes. Nothing is changed where it fails.
    ///
    /// # Errors
    /// [`Refill`] where the stream does not say enough, or too few rows are left.
    pub fn apply<'a>(
        &mut self,
        plan: &WindowPlan,
        slots: &[SlotValue],
        changes: impl Iterator<Item = &'a TableChange>,
    ) -> Result<Applied, Refill> {
        let mut entries = Vec::new();
        for (key, net) in net_effect(plan, changes)? {
            let entry = match &net.now {
                Some(fields) => self.entry(plan, slots, fields, net.origin.as_ref())?,
                None => None,
            };
            entries.push((key, entry));
        }
        if self.bounds.limit.is_none() && self.bounds.offset == 0 {
            Ok(match self.shifts(&entries) > SHIFTS_MAX {
                true => self.merge_all(plan, entries),
                false => self.put_all(plan, entries),
            })
        } else {
            self.put_limited(plan, entries)
        }
    }

    /// Returns how a row would be held, if it is in the result.
    fn entry(
        &self,
        plan: &WindowPlan,
        slots: &[SlotValue],
        fields: &Fields,
        origin: Option<&Key>,
    ) -> Result<Option<Entry>, Refill> {
        let tested = plan.condition.fields();
        let values = field_values(&plan.table, &plan.derived, fields, &tested);
        match plan.condition.eval(&values, slots) {
            Truth::False | Truth::Null => return Ok(None),
            Truth::Unknown => return Err(Refill),
            Truth::True => {}
        }
        let source = |position: usize| &fields[usize::from(plan.source[position].0)];
        let sort = plan.sort_key(source).map_err(|_| Refill)?.ok_or(Refill)?;
        let before =
            origin.and_then(|origin| self.find(origin)).map(|index| &self.rows.all()[index]);
        let cell = |column: usize| before.and_then(|row| row.cell(column));
        let row = plan.row(source, cell).map_err(|_| Refill)?;
        // A row whose unchanged values nobody knows matters only if it would be held.
        if row.is_none() && !self.is_beyond(&sort) {
            return Err(Refill);
        }
        Ok(Some(Entry { sort, row }))
    }

    fn is_beyond(&self, sort: &SortKey) -> bool {
        !self.complete && self.held.last().is_none_or(|last| sort > last)
    }

    /// Returns where a row with this key is held, or would be if the key were all of its order.
    fn find(&self, key: &Key) -> Option<usize> {
        let sort = match &self.sort_of {
            Some(sort_of) => &**sort_of.get(key)?,
            // The order is the key's, where it is nothing else.
            None if self.held.first()?.is_key_alone() => key.as_bytes(),
            None => return self.held.iter().position(|sort| sort.key() == key.as_bytes()),
        };
        self.held.binary_search_by(|held| (**held).cmp(sort)).ok()
    }

    /// Begins to keep where rows sort, where there have come to be many.
    fn index_sorts(&mut self, plan: &WindowPlan) {
        if self.sort_of.is_none() && !plan.order.is_empty() && self.held.len() > SORT_OF_MIN {
            let sort = |sort: &SortKey| (Key::from_bytes(sort.key()), sort.clone());
            self.sort_of = Some(Box::new(self.held.iter().map(sort).collect()));
        }
    }

    /// Takes a row off those that are held, and returns where it stood among the rows, and where it sorted.
    fn release(&mut self, key: &Key, membership: &mut Vec<Membership>) -> Option<(usize, SortKey)> {
        let index = self.find(key)?;
        if let Some(sort_of) = &mut self.sort_of {
            sort_of.remove(key);
        }
        membership.push(Membership::Released(key.clone()));
        Some((index, self.held.remove(index)))
    }

    /// Adds a row to those that are held, and returns where it is to stand among the rows.
    fn hold(
        &mut self,
        plan: &WindowPlan,
        key: Key,
        sort: SortKey,
        membership: &mut Vec<Membership>,
    ) -> usize {
        let index = self.held.partition_point(|held| *held < sort);
        if let Some(sort_of) = &mut self.sort_of {
            sort_of.insert(key.clone(), sort.clone());
        }
        self.held.insert(index, sort);
        self.index_sorts(plan);
        membership.push(Membership::Held(key));
        index
    }

    /// Returns about how many rows would be shifted if each change were made by itself.
    fn shifts(&self, entries: &[(Key, Option<Entry>)]) -> usize {
        let most = self.held.len() + entries.len();
        if entries.len().saturating_mul(most) <= SHIFTS_MAX {
            return 0;
        }
        let behind = |at: usize| self.held.len() - at;
        let (mut shifts, mut come) = (0_usize, 0_usize);
        for (key, entry) in entries {
            let from = self.find(key);
            let to = entry.as_ref().map(|entry| &entry.sort);
            if from.map(|at| &self.held[at]) == to {
                continue;
            }
            come += usize::from(to.is_some());
            let to = to.map(|sort| self.held.partition_point(|held| held < sort));
            shifts += from.map_or(0, behind) + to.map_or(0, behind);
        }
        // Those that come shift one another.
        shifts.saturating_add(come.saturating_mul(come) / 4)
    }

    /// Applies to a window that shows all it holds, where many rows come, go or move: what is held is made anew.
    fn merge_all(&mut self, plan: &WindowPlan, entries: Vec<(Key, Option<Entry>)>) -> Applied {
        let mut membership = Vec::new();
        let mut goes = vec![false; self.held.len()];
        let mut comes = Vec::with_capacity(entries.len());
        for (key, entry) in entries {
            let from = self.find(&key);
            let after = entry.and_then(|entry| Some((entry.sort, entry.row?)));
            let is_same = match (from, &after) {
                (Some(at), Some((sort, row))) => {
                    self.held[at] == *sort && self.rows.all()[at] == *row
                }
                (from, after) => from.is_none() && after.is_none(),
            };
            self.revision += u64::from(!is_same);
            if let Some(at) = from {
                goes[at] = true;
                membership.push(Membership::Released(key.clone()));
            }
            if let Some(after) = after {
                membership.push(Membership::Held(key));
                comes.push(after);
            }
        }
        comes.sort_by(|(left, _), (right, _)| left.cmp(right));
        let room = self.held.len() + comes.len();
        let (mut held, mut rows) = (Vec::with_capacity(room), Vec::with_capacity(room));
        let mut comes = comes.into_iter().peekable();
        let stays = std::mem::take(&mut self.held).into_iter().zip(self.rows.all()).zip(goes);
        for ((sort, row), _) in stays.filter(|(_, goes)| !goes) {
            while let Some((sort, row)) = comes.next_if(|(comes, _)| *comes < sort) {
                held.push(sort);
                rows.push(row);
            }
            held.push(sort);
            rows.push(row.clone());
        }
        for (sort, row) in comes {
            held.push(sort);
            rows.push(row);
        }
        let ops = diff(self.rows.rows(), &rows);
        self.rows = RowList::new(rows);
        (self.held, self.sort_of) = (held, None);
        self.index_sorts(plan);
        Applied { ops, membership }
    }

    /// Applies to a window that shows all it holds: each change is a step of the diff.
    fn put_all(&mut self, plan: &WindowPlan, entries: Vec<(Key, Option<Entry>)>) -> Applied {
        let (mut ops, mut membership) = (Vec::new(), Vec::new());
        for (key, entry) in entries {
            if let Some(op) = self.change_in_place(&key, entry.as_ref()) {
                ops.extend(op);
                continue;
            }
            let before = self.release(&key, &mut membership);
            let after = entry.and_then(|entry| Some((entry.sort, entry.row?)));
            let before = before.map(|(at, sort)| (at, (sort, self.rows.all()[at].clone())));
            let is_same = before.as_ref().map(|(_, before)| before) == after.as_ref();
            self.revision += u64::from(!is_same);
            match (before, after) {
                (None, None) => {}
                (None, Some((sort, row))) => {
                    let at = self.hold(plan, key, sort, &mut membership);
                    self.rows.insert(at, row.clone());
                    ops.push(DiffOp::Insert { row, at });
                }
                (Some((at, _)), None) => {
                    let gone = self.rows.remove(at);
                    ops.push(DiffOp::Remove { key: gone.key().into() });
                }
                (Some((from, (_, before))), Some((sort, row))) => {
                    let at = self.hold(plan, key, sort, &mut membership);
                    if before.key() != row.key() {
                        // Equal, and written otherwise: 1.0 and 1.00. Clients know rows by what is written.
                        self.rows.remove(from);
                        self.rows.insert(at, row.clone());
                        ops.push(DiffOp::Remove { key: before.key().into() });
                        ops.push(DiffOp::Insert { row, at });
                        continue;
                    }
                    if at == from {
                        self.rows.replace(at, row.clone());
                    } else {
                        self.rows.remove(from);
                        self.rows.insert(at, row.clone());
                        ops.push(DiffOp::Move { key: row.key().into(), at });
                    }
                    ops.extend(update(&before, &row));
                }
            }
        }
        Applied { ops, membership }
    }

    /// Changes a row that stays where it stands, so that no other is shifted. Returns the step, if anything is to be seen
    /// of it; none where the row comes, goes or moves.
    fn change_in_place(&mut self, key: &Key, entry: Option<&Entry>) -> Option<Option<DiffOp>> {
        let Entry { sort, row } = entry?;
        let (at, row) = (self.find(key)?, row.as_ref()?);
        let before = self.rows.all()[at].clone();
        if self.held[at] != *sort || before.key() != row.key() {
            return None;
        }
        if before == *row {
            return Some(None);
        }
        self.revision += 1;
        self.rows.replace(at, row.clone());
        Some(update(&before, row))
    }

    /// Applies to a window that shows a part of what it holds: the parts before and after are compared.
    fn put_limited(
        &mut self,
        plan: &WindowPlan,
        entries: Vec<(Key, Option<Entry>)>,
    ) -> Result<Applied, Refill> {
        // What is shown stays until it is known what comes after it.
        let held_before = self.held.clone();
        let mut membership = Vec::new();
        let mut rows = self.rows.all().to_vec();
        for (key, entry) in entries {
            let before = self.release(&key, &mut membership);
            let before = before.map(|(at, sort)| (sort, rows.remove(at)));
            let after = entry.and_then(|entry| Some((entry.sort, entry.row?)));
            let after = after.filter(|(sort, _)| !self.is_beyond(sort));
            self.revision += u64::from(before != after);
            if let Some((sort, row)) = after {
                rows.insert(self.hold(plan, key, sort, &mut membership), row);
            }
        }
        if let Some(needed) = self.bounds.needed() {
            if !self.complete && self.held.len() < needed {
                self.held = held_before;
                self.sort_of = None;
                self.index_sorts(plan);
                return Err(Refill);
            }
            // One that holds every row is never read again for want of them.
            if !self.complete {
                self.spare.after_batch(self.held.len().saturating_sub(needed));
            }
            // No more than that: the boundary stays as near as it can be.
            let held_max = needed.saturating_add(self.spare.max());
            if self.held.len() > held_max {
                for gone in self.held.drain(held_max..) {
                    let key = Key::from_bytes(gone.key());
                    if let Some(sort_of) = &mut self.sort_of {
                        sort_of.remove(&key);
                    }
                    membership.push(Membership::Released(key));
                }
                rows.truncate(held_max);
                self.complete = false;
            }
        }
        let shown = part_of(&rows, self.bounds.shown());
        let ops = diff(self.rows.rows(), &rows[shown.clone()]);
        if ops.is_empty() {
            self.rows.replace_others(rows, shown);
        } else {
            self.rows = RowList::showing(rows, shown);
        }
        Ok(Applied { ops, membership })
    }
}

fn unknown() -> ParseValueError {
    ParseValueError::Unsupported { type_name: "a value that was not read" }
}
