//! Upkeep: which live queries a transaction touches, and what becomes of them.

use crate::database::Database;
use crate::engine::Engine;
use crate::groups::Lost;
use crate::holdings::finds_by_membership;
use crate::line::Arrived;
use crate::live_query::{KeptBy, Knowledge, Value};
use crate::precision::Versions;
use crate::row_key::row_key;
use crate::row_list::RowList;
use crate::tables::TableChange;
use crate::template::{GroupsPlan, Plan, QueryTemplate, WindowPlan};
use crate::update::DiffOp;
use crate::why::{Cause, Met, RefreshReason, WhyAction};
use crate::window::{Applied, Membership, Refill};
use crate::write_log::Logged;
use convoy_query_index::{FieldId, Holdings, Predicate, QueryId, RowImages, SlotValue};
use convoy_types::{ChangeKind, Changes, Key, RelationId};
use roaring::RoaringBitmap;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tracing::{debug, trace};

/// Changes that are matched and wait to be taken into the results that are kept from them.
#[derive(Default)]
pub(crate) struct Batch {
    by_query: BTreeMap<QueryId, Vec<Arc<TableChange>>>,
    /// Rows that count as held by a window until the batch is in it: a later change of the same batch must find them.
    provisional: Vec<(QueryId, RelationId, Key)>,
}

impl Batch {
    /// Forgets a query that is gone.
    pub fn forget(&mut self, id: QueryId) {
        self.by_query.remove(&id);
        self.provisional.retain(|(query, _, _)| *query != id);
    }
}

impl<D: Database> Engine<D> {
    /// Applies a transaction, the next one of the line.
    pub(crate) fn apply(&mut self, arrived: Arrived) {
        let position = self.head();
        let Arrived { xid, transaction, received_at, .. } = arrived;
        let (lsn, committed_at) = (transaction.end_lsn, transaction.commit_time);
        let applied_at = self.now;
        let cause = |relation: RelationId, key: Option<Box<str>>| {
            Arc::new(Cause { lsn, committed_at, received_at, applied_at, position, relation, key })
        };
        trace!(%xid, %lsn, position = position.0, "applied");
        self.counters.transactions += 1;
        if let Some(observer) = &mut self.observer {
            observer.applied(position, xid, &transaction);
        }
        self.note_mutations(&transaction);
        let mut changes = Vec::new();
        let mut unknown = BTreeSet::new();
        match &transaction.changes {
            Changes::Touched(relations) => {
                self.counters.without_rows += 1;
                for relation in relations {
                    unknown
                        .extend(self.tables.read_through(relation.id).iter().map(|table| table.id));
                }
            }
            Changes::Rows(rows) => {
                for row in rows {
                    if row.kind == ChangeKind::Truncate {
                        unknown.extend(
                            self.tables.read_through(row.relation.id).iter().map(|table| table.id),
                        );
                    } else {
                        changes.extend(self.tables.changes(row).into_iter().map(Arc::new));
                    }
                }
            }
        }
        if changes.is_empty() && unknown.is_empty() {
            return;
        }
        for &table in &unknown {
            let mut hits = RoaringBitmap::new();
            self.index.on_relation(table, &mut hits);
            let cause = cause(table, None);
            for query in hits.into_iter().map(QueryId) {
                self.touch_to_read(query, &cause, RefreshReason::TableAlone);
            }
        }
        for change in &changes {
            self.match_change(change, |key| cause(change.table.id, key));
        }
        let logged = Logged { committed_at, changes, unknown };
        self.reads.log.push(position, logged, self.limits.write_log_bytes_max);
    }

    /// Finds the live queries that a change touches.
    fn match_change(
        &mut self,
        change: &Arc<TableChange>,
        cause: impl Fn(Option<Box<str>>) -> Arc<Cause>,
    ) {
        self.counters.changes += 1;
        let Some(images) = self.images_of(change) else { return };
        let images = images.borrowed();
        let mut hits = Vec::new();
        self.index.matches(&images, &mut hits);
        if hits.is_empty() {
            return;
        }
        let cause = cause(change.shown_key());
        for query in hits {
            match self.recorded.owner(query).is_some() {
                true => self.touch_to_read(query, &cause, RefreshReason::Plan),
                false => self.touch(query, change, &images, &cause),
            }
        }
    }

    fn touch(
        &mut self,
        id: QueryId,
        change: &Arc<TableChange>,
        images: &RowImages<'_>,
        cause: &Arc<Cause>,
    ) {
        let Some(template) = self.template_of(id) else { return };
        let Some(query) = self.queries.get_mut(&id) else { return };
        if template.is_indifferent_to(&query.slots, images) {
            return;
        }
        self.counters.touches += 1;
        query.touched_at = query.touched_at.max(Some(cause.committed_at));
        let by_plan = query.kept_by == KeptBy::Plan && template.plan.is_incremental();
        let is_known = query.knowledge == Knowledge::Known;
        let is_kept = is_known && query.value.is_kept();
        let action = match by_plan {
            true => WhyAction::Diff,
            false => WhyAction::Refresh(RefreshReason::Plan),
        };
        let holds = || match (query.holdings, query.value.held(), images.old_key) {
            (Holdings::Known, Some(held), Some(key)) => held.contains(images.relation, key),
            _ => true,
        };
        let predicate = template.predicate_met(&query.slots, images, holds);
        let met = Met { template: query.template, predicate };
        query.why.note(cause, met, action, self.limits.why_entries_max);
        if is_kept {
            if let Some(key) = images.new_key
                && finds_by_membership(&template)
            {
                self.index.hold(id, change.table.id, key.clone());
                self.batch.provisional.push((id, change.table.id, key.clone()));
            }
            self.batch.by_query.entry(id).or_default().push(change.clone());
        } else if is_known || !by_plan {
            // A result that is kept and is being read takes the change from the write log instead.
            query.asked_for.by_change(cause.position);
            self.make_dirty(id);
        }
    }

    /// Has a live query read again that an entry of the index stands for: itself, or one that has read by it.
    fn touch_to_read(&mut self, entry: QueryId, cause: &Arc<Cause>, reason: RefreshReason) {
        let owner = self.recorded.owner(entry);
        let id = owner.map_or(entry, |owner| owner.query);
        let Some(query) = self.queries.get_mut(&id) else { return };
        let template = owner.map_or(query.template, |owner| owner.template);
        let analysed = self.templates.get(template).and_then(|entry| entry.template.as_ref());
        let of_table = |predicate: &Predicate| predicate.relation == cause.relation;
        let predicate = analysed
            .and_then(|analysed| analysed.predicates.iter().position(of_table))
            .unwrap_or(0);
        let met = Met { template, predicate: u16::try_from(predicate).unwrap_or(u16::MAX) };
        self.counters.touches += 1;
        query.touched_at = query.touched_at.max(Some(cause.committed_at));
        query.why.note(cause, met, WhyAction::Refresh(reason), self.limits.why_entries_max);
        query.asked_for.by_change(cause.position);
        self.make_dirty(id);
    }

    /// Notes that a result is not known at the head and must be read.
    pub(crate) fn make_dirty(&mut self, id: QueryId) {
        self.batch.by_query.remove(&id);
        let Some(query) = self.queries.get_mut(&id) else { return };
        query.knowledge = Knowledge::Dirty;
        self.tell_boundary(id);
        self.tell_holdings(id);
        self.dirty.insert(id);
        self.stir_subscribers(id);
    }

    /// Takes the matched changes into the results that are kept from them.
    pub(crate) fn flush_batch(&mut self) {
        let head = self.head();
        for (id, changes) in std::mem::take(&mut self.batch.by_query) {
            let Some(before) = self.queries.get(&id).map(Versions::of) else { continue };
            match self.apply_to_value(id, &changes) {
                Ok(()) => {
                    if let Some(query) = self.queries.get_mut(&id) {
                        query.why.known(self.now, head);
                    }
                    self.count_batch(id, before);
                    self.tell_boundary(id);
                }
                Err(Refill) => {
                    if let Some(query) = self.queries.get_mut(&id) {
                        query.why.refilled();
                        query.asked_for.by_change(head);
                    }
                    self.make_dirty(id);
                }
            }
            self.stir_subscribers(id);
        }
        for (id, table, key) in std::mem::take(&mut self.batch.provisional) {
            let held = self.queries.get(&id).is_some_and(|query| match &query.value {
                Value::Window(window) => window.holds(&key),
                _ => false,
            });
            if !held {
                self.index.release(id, table, &key);
            }
        }
    }

    /// Takes changes into a result that is kept from them.
    pub(crate) fn apply_to_value(
        &mut self,
        id: QueryId,
        changes: &[Arc<TableChange>],
    ) -> Result<(), Refill> {
        let Some(template) = self.template_of(id) else { return Ok(()) };
        let before = self.queries.get(&id).and_then(|query| query.value.rows()).map(RowList::sum);
        let ops = match &template.plan {
            Plan::Window(plan) => self.apply_to_window(id, &template, plan, changes)?,
            Plan::Groups(plan) => self.apply_to_groups(id, plan, changes)?,
            Plan::Refresh(_) => return Ok(()),
        };
        let Some(query) = self.queries.get_mut(&id) else { return Ok(()) };
        if !ops.is_empty() {
            self.counters.diffs += 1;
        }
        query.changed_by(ops, before, self.limits.history_bytes_min);
        let size = |rows: &RowList| (rows.rows().len(), rows.text_bytes());
        let (rows, bytes) = query.value.rows().map_or((0, 0), size);
        self.weigh(id);
        if rows > self.limits.result_rows_max || bytes > self.limits.result_bytes_max {
            // Reading it again says so in the same words as for any other result, and ends when it has shrunk.
            return Err(Refill);
        }
        Ok(())
    }

    /// Takes changes into groups.
    fn apply_to_groups(
        &mut self,
        id: QueryId,
        plan: &GroupsPlan,
        changes: &[Arc<TableChange>],
    ) -> Result<Vec<DiffOp>, Refill> {
        let Some(query) = self.queries.get_mut(&id) else { return Ok(Vec::new()) };
        let Value::Groups(groups) = &mut query.value else { return Ok(Vec::new()) };
        let of_table =
            changes.iter().map(Arc::as_ref).filter(|change| change.table.id == plan.table.id);
        let bytes_max = self.limits.groups_bytes_max;
        match groups.apply(plan, &query.slots, of_table, bytes_max) {
            Ok(ops) => Ok(ops),
            Err(Lost::ReadAgain) => Err(Refill),
            Err(Lost::TooLarge) => {
                self.stop_keeping(id);
                Err(Refill)
            }
        }
    }

    /// Takes changes into a window, as their net effect.
    fn apply_to_window(
        &mut self,
        id: QueryId,
        template: &QueryTemplate,
        plan: &WindowPlan,
        changes: &[Arc<TableChange>],
    ) -> Result<Vec<DiffOp>, Refill> {
        let Some(query) = self.queries.get_mut(&id) else { return Ok(Vec::new()) };
        let Value::Window(window) = &mut query.value else { return Ok(Vec::new()) };
        let of_table =
            changes.iter().map(Arc::as_ref).filter(|change| change.table.id == plan.table.id);
        let Applied { ops, membership } = window.apply(plan, &query.slots, of_table)?;
        if finds_by_membership(template) {
            for change in membership {
                match change {
                    Membership::Held(key) => self.index.hold(id, plan.table.id, key),
                    Membership::Released(key) => self.index.release(id, plan.table.id, &key),
                }
            }
        }
        Ok(ops)
    }

    /// Tells the index which rows can matter to a limited window: while its value is known, those at its boundary or above
    /// it; else any.
    pub(crate) fn tell_boundary(&mut self, id: QueryId) {
        let Some(query) = self.queries.get(&id) else { return };
        let boundary = match (&query.value, query.knowledge) {
            (Value::Window(window), Knowledge::Known) if window.bounds().limit.is_some() => {
                let template = self.template_of(id);
                let plan = template.as_deref().map(|template| &template.plan);
                let Some(Plan::Window(plan)) = plan else { return };
                window.boundary(plan)
            }
            _ => None,
        };
        if boundary == query.boundary {
            return;
        }
        let Some(template) = self.template_of(id) else { return };
        let Plan::Window(WindowPlan { boundary: Some(slot), .. }) = &template.plan else { return };
        let value = match &boundary {
            Some(key) => SlotValue::One(Some(key.clone())),
            None => SlotValue::Open,
        };
        match self.index.set_slot(id, *slot, value) {
            Ok(()) => {
                if let Some(query) = self.queries.get_mut(&id) {
                    query.boundary = boundary;
                }
            }
            // Then the index has another template's slots for it, and it is about to be read again.
            Err(error) => debug!(query = id.0, %error, "a boundary was not set"),
        }
    }

    pub(crate) fn template_of(&self, id: QueryId) -> Option<Arc<QueryTemplate>> {
        self.templates.get(self.queries.get(&id)?.template)?.template.clone()
    }
}

impl TableChange {
    /// Returns the row's key as results show it, where the table has one.
    fn shown_key(&self) -> Option<Box<str>> {
        let fields = self.new.as_ref().or(self.old.as_ref())?;
        let key = &self.table.primary_key;
        let text = |position: &FieldId| {
            fields
                .get(usize::from(position.0))
                .and_then(|datum| std::str::from_utf8(datum.known()??).ok())
        };
        (!key.is_empty()).then(|| row_key(key.iter().map(text)))
    }
}
