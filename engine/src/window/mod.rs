//! Incremental results: one table, filter, projection, order and limit, kept from the row changes themselves.
//!
//! A window *holds* the matching rows in order, from the first one; with a limit, a few more than it shows, so that a
//! row that leaves need not cost a read. It is a function of the set of rows alone: ties are broken by the primary
//! key, never by arrival, and the changes of a batch are applied as their net effect (`docs/postgres.md`, P6).
//!
//! What the changes of a batch come to is said by `net_effect`, and what the plan makes of a row by `projection`.

mod net_effect;
mod projection;

#[cfg(test)]
mod tests;

use crate::diff::{diff, update};
use crate::read_rows::ReadRows;
use crate::result_row::ResultRow;
use crate::row_list::RowList;
use crate::tables::{Fields, TableChange, field_values};
use crate::template::{WindowPlan, spare_rows};
use crate::update::DiffOp;
use convoy_query_index::{SlotValue, Truth};
use convoy_types::{Key, ParseValueError};
use net_effect::net_effect;
use projection::SortKey;
use std::collections::HashMap;

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

    /// Returns how many rows the plan's statement reads, at most.
    pub fn read(self) -> Option<usize> {
        let spare = usize::try_from(spare_rows(self.limit?)).ok()?;
        Some(self.needed()?.saturating_add(spare))
    }
}

#[derive(Debug)]
struct Held {
    sort: SortKey,
    row: ResultRow,
    /// Where the primary key begins in `sort`.
    key_at: usize,
}

impl Held {
    fn new(sort: SortKey, key: &Key, row: ResultRow) -> Self {
        let key_at = sort.len() - key.as_bytes().len();
        Held { sort, row, key_at }
    }

    fn key(&self) -> &[u8] {
        &self.sort[self.key_at..]
    }
}

/// Where each row sorts, by its key. Only kept past so many rows: fewer are found as quickly one by one.
type SortOf = Box<HashMap<Key, SortKey>>;
const SORT_OF_MIN: usize = 64;

/// An incremental result.
#[derive(Debug)]
pub(crate) struct Window {
    bounds: Bounds,
    held: Vec<Held>,
    /// None also where the key alone is the order.
    sort_of: Option<SortOf>,
    /// Whether `held` is every matching row. Else it is those up to its last one.
    complete: bool,
    visible: RowList,
    /// Rows that came or went since somebody asked.
    membership: Vec<Membership>,
}

/// A row that is held from now on, or no longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Membership {
    Held(Key),
    Released(Key),
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
        let mut held = Vec::with_capacity(rows.len());
        for data in rows.into_data() {
            let source = |position: usize| &data[position];
            let row = plan.row(source, |_| None)?.ok_or(unknown())?;
            let (sort, key) =
                (plan.sort_key(source)?.ok_or(unknown())?, plan.key_of(source)?.ok_or(unknown())?);
            held.push(Held::new(sort, &key, row));
        }
        held.sort_by(|left, right| left.sort.cmp(&right.sort));
        let membership = Vec::new();
        let mut window = Window {
            bounds,
            held,
            sort_of: None,
            complete,
            visible: RowList::default(),
            membership,
        };
        window.index_sorts(plan);
        window.visible = RowList::new(window.shown());
        Ok(window)
    }

    /// Returns its part of the ordered rows.
    pub fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// Returns what it shows.
    pub fn visible(&self) -> &RowList {
        &self.visible
    }

    /// Returns the keys of the rows that it holds, shown or spare.
    pub fn held_keys(&self) -> impl ExactSizeIterator<Item = Key> {
        self.held.iter().map(|held| Key::from_bytes(held.key()))
    }

    /// Returns what the last held row has in the first column of the order, where rows beyond it can't matter; none
    /// where any row may.
    pub fn boundary(&self, plan: &WindowPlan) -> Option<Key> {
        let last = if self.complete { None } else { self.held.last() };
        plan.leading_value(&last?.sort)
    }

    /// Returns whether it holds a row with this key.
    pub fn holds(&self, key: &Key) -> bool {
        self.find(key).is_some()
    }

    /// Returns which rows came and went since the last call, in order.
    pub fn take_membership(&mut self) -> Vec<Membership> {
        std::mem::take(&mut self.membership)
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
    ) -> Result<Vec<DiffOp>, Refill> {
        let mut entries = Vec::new();
        for (key, net) in net_effect(plan, changes)? {
            let entry = match &net.now {
                Some(fields) => self.entry(plan, slots, fields, net.origin.as_ref())?,
                None => None,
            };
            entries.push((key, entry));
        }
        if self.bounds.limit.is_none() && self.bounds.offset == 0 {
            Ok(self.put_all(plan, entries))
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
        let before = origin.and_then(|origin| self.find(origin)).map(|index| &self.held[index].row);
        let cell = |column: usize| before.and_then(|row| row.cell(column));
        let row = plan.row(source, cell).map_err(|_| Refill)?;
        // A row whose unchanged values nobody knows matters only if it would be held.
        if row.is_none() && !self.is_beyond(&sort) {
            return Err(Refill);
        }
        Ok(Some(Entry { sort, row }))
    }

    fn is_beyond(&self, sort: &SortKey) -> bool {
        !self.complete && self.held.last().is_none_or(|last| *sort > last.sort)
    }

    /// Returns where a row with this key is held, or would be if the key were all of its order.
    fn find(&self, key: &Key) -> Option<usize> {
        let sort = match &self.sort_of {
            Some(sort_of) => sort_of.get(key)?,
            // The order is the key's, where it is nothing else.
            None if self.held.first()?.key_at == 0 => key.as_bytes(),
            None => return self.held.iter().position(|held| held.key() == key.as_bytes()),
        };
        self.held.binary_search_by(|held| (*held.sort).cmp(sort)).ok()
    }

    /// Begins to keep where rows sort, where there have come to be many.
    fn index_sorts(&mut self, plan: &WindowPlan) {
        if self.sort_of.is_none() && !plan.order.is_empty() && self.held.len() > SORT_OF_MIN {
            let sort = |held: &Held| (Key::from_bytes(held.key()), held.sort.clone());
            self.sort_of = Some(Box::new(self.held.iter().map(sort).collect()));
        }
    }

    fn take(&mut self, key: &Key) -> Option<(usize, Held)> {
        let index = self.find(key)?;
        if let Some(sort_of) = &mut self.sort_of {
            sort_of.remove(key);
        }
        self.membership.push(Membership::Released(key.clone()));
        Some((index, self.held.remove(index)))
    }

    fn put(&mut self, plan: &WindowPlan, key: Key, sort: SortKey, row: ResultRow) -> usize {
        let index = self.held.partition_point(|held| held.sort < sort);
        if let Some(sort_of) = &mut self.sort_of {
            sort_of.insert(key.clone(), sort.clone());
        }
        self.held.insert(index, Held::new(sort, &key, row));
        self.index_sorts(plan);
        self.membership.push(Membership::Held(key));
        index
    }

    /// Applies to a window that shows all it holds: each change is a step of the diff.
    fn put_all(&mut self, plan: &WindowPlan, entries: Vec<(Key, Option<Entry>)>) -> Vec<DiffOp> {
        let mut ops = Vec::new();
        for (key, entry) in entries {
            let before = self.take(&key);
            let after = entry.and_then(|entry| Some((entry.sort, entry.row?)));
            match (before, after) {
                (None, None) => {}
                (None, Some((sort, row))) => {
                    let at = self.put(plan, key, sort, row.clone());
                    self.visible.insert(at, row.clone());
                    ops.push(DiffOp::Insert { row, at });
                }
                (Some((at, held)), None) => {
                    self.visible.remove(at);
                    ops.push(DiffOp::Remove { key: held.row.key().into() });
                }
                (Some((from, held)), Some((sort, row))) => {
                    let at = self.put(plan, key, sort, row.clone());
                    if held.row.key() != row.key() {
                        // Equal, and written otherwise: 1.0 and 1.00. Clients know rows by what is written.
                        self.visible.remove(from);
                        self.visible.insert(at, row.clone());
                        ops.push(DiffOp::Remove { key: held.row.key().into() });
                        ops.push(DiffOp::Insert { row, at });
                        continue;
                    }
                    if at == from {
                        self.visible.replace(at, row.clone());
                    } else {
                        self.visible.remove(from);
                        self.visible.insert(at, row.clone());
                        ops.push(DiffOp::Move { key: row.key().into(), at });
                    }
                    ops.extend(update(&held.row, &row));
                }
            }
        }
        ops
    }

    /// Applies to a window that shows a part of what it holds: the parts before and after are compared.
    fn put_limited(
        &mut self,
        plan: &WindowPlan,
        entries: Vec<(Key, Option<Entry>)>,
    ) -> Result<Vec<DiffOp>, Refill> {
        for (key, entry) in entries {
            self.take(&key);
            let Some(Entry { sort, row: Some(row) }) = entry else { continue };
            if !self.is_beyond(&sort) {
                self.put(plan, key, sort, row);
            }
        }
        if let Some(needed) = self.bounds.needed() {
            if !self.complete && self.held.len() < needed {
                return Err(Refill);
            }
            // No more than a read gives: the boundary stays as near as it can be.
            let held_max = self.bounds.read().unwrap_or(needed);
            if self.held.len() > held_max {
                for gone in self.held.drain(held_max..) {
                    let key = Key::from_bytes(gone.key());
                    if let Some(sort_of) = &mut self.sort_of {
                        sort_of.remove(&key);
                    }
                    self.membership.push(Membership::Released(key));
                }
                self.complete = false;
            }
        }
        let shown = self.shown();
        let ops = diff(self.visible.rows(), &shown);
        if !ops.is_empty() {
            self.visible = RowList::new(shown);
        }
        Ok(ops)
    }

    fn shown(&self) -> Vec<ResultRow> {
        let offset = usize::try_from(self.bounds.offset).unwrap_or(usize::MAX);
        let limit = self
            .bounds
            .limit
            .map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        self.held.iter().skip(offset).take(limit).map(|held| held.row.clone()).collect()
    }
}

fn unknown() -> ParseValueError {
    ParseValueError::Unsupported { type_name: "a value that was not read" }
}
