//! Answers: what becomes of a result that was read. It is the value at the point of the line where its read's snapshot
//! closed; here it is compared with the value before, brought to the head, and handed to the stages that wait for it.

use crate::database::{Database, ErrorCode, Outlook, QueryError, ReadId};
use crate::diff::diff;
use crate::engine::Engine;
use crate::facts::OutputColumn;
use crate::function::{self, FunctionAnswer};
use crate::groups::{Groups, Lost};
use crate::line::Position;
use crate::live_query::{KeptBy, Knowledge, Value, snapshot_of};
use crate::precision::Versions;
use crate::read_rows::ReadRows;
use crate::reads::ReadAt;
use crate::recorded::NotYet;
use crate::result::{Refreshed, refreshed};
use crate::row_list::RowList;
use crate::template::Plan;
use crate::update::{DiffOp, UpdateKind};
use crate::window::{Refill, Window};
use convoy_query_index::QueryId;
use convoy_types::PgTimestamp;
use std::time::Duration;
use tracing::{debug, warn};

/// What a read says of a live query.
pub(crate) enum ReadResult {
    Rows(ReadRows),
    Function(FunctionAnswer),
}

/// How often in a row a result may fail to be read as if the database were away; then its subscribers are told.
const BROKEN_READS_MAX: u32 = 8;

impl<D: Database> Engine<D> {
    pub(crate) fn query_read(
        &mut self,
        read: ReadId,
        id: QueryId,
        outcome: Result<ReadResult, QueryError>,
    ) {
        let Some(ReadAt { position, label, since, touched_at }) =
            self.reads.answered(self.now, read, id)
        else {
            return;
        };
        if self.audits.is_of(read, id) {
            return match outcome {
                Ok(ReadResult::Rows(rows)) => self.audited(id, Ok(rows)),
                Ok(ReadResult::Function(_)) => {}
                Err(error) => self.audited(id, Err(error)),
            };
        }
        let took = self.now - since;
        self.note_answer(id);
        let Some(query) = self.queries.get_mut(&id) else { return };
        query.forget_read(read);
        query.read_took = took;
        self.counters.reads += 1;
        let rows = match outcome {
            Err(error)
                if error.code == ErrorCode::Unavailable
                    && query.broken_reads < BROKEN_READS_MAX =>
            {
                query.broken_reads += 1;
                query.touched_at = query.touched_at.max(touched_at);
                warn!(query = id.0, %error, "a result could not be read: trying again");
                self.delay_reads();
                if self
                    .queries
                    .get(&id)
                    .is_some_and(|query| query.knowledge == Knowledge::Awaiting(read))
                {
                    self.make_dirty(id);
                }
                return self.forget_waiting(read, id);
            }
            outcome => outcome,
        };
        let is_overtaken = self
            .queries
            .get(&id)
            .is_some_and(|query| query.value_read.is_some_and(|newest| newest > read));
        let mut is_woken = false;
        let (value, is_touched) = match rows {
            Ok(ReadResult::Function(_)) if is_overtaken => {
                // Those who wait for just this one see the newer one instead.
                for (_, session) in self.stages_waiting(read, id) {
                    self.dissolve_stage(session);
                }
                return;
            }
            Ok(ReadResult::Function(FunctionAnswer { value: Err(error), .. }))
                if error.outlook == Outlook::OtherArguments =>
            {
                return self.refuse_all(id, &error);
            }
            Ok(ReadResult::Function(answer)) => {
                match self.record(read, id, position, &answer.reads) {
                    Ok(is_touched) => {
                        is_woken = true;
                        (Ok(self.value_of_function(id, answer.value)), is_touched)
                    }
                    // What the function itself said of it says more.
                    Err(NotYet::Failed(error)) => {
                        (Ok(Value::Failed(answer.value.err().unwrap_or(error))), false)
                    }
                    Err(NotYet::Again) => {
                        if let Some(query) = self.queries.get_mut(&id) {
                            query.touched_at = query.touched_at.max(touched_at);
                        }
                        self.make_dirty(id);
                        return self.forget_waiting(read, id);
                    }
                }
            }
            Ok(ReadResult::Rows(rows)) => (self.value_of(id, Ok(rows)), false),
            Err(error) => (self.value_of(id, Err(error)), false),
        };
        let Ok(value) = value else {
            self.stop_keeping(id);
            self.make_dirty(id);
            return self.forget_waiting(read, id);
        };
        if self.refuse_for_memory(id, &value) {
            return;
        }
        let Some(query) = self.queries.get_mut(&id) else { return };
        if query.value_read.is_some_and(|newest| newest > read) {
            return self.deliver_old(read, id, position, value, touched_at);
        }
        query.broken_reads = 0;
        query.value_read = Some(read);
        query.value_label = label;
        query.why.known(self.now, position);
        let (is_asked_for, before) = (query.asked_for.answered(position), Versions::of(query));
        // What has touched it since is not in it yet.
        let touched_since = std::mem::replace(&mut query.touched_at, touched_at);
        self.set_value(id, value);
        if let Some(query) = self.queries.get_mut(&id) {
            query.touched_at = touched_since;
        }
        if is_asked_for {
            self.count_read(id, before);
        }
        let head = self.head();
        if self.replay_and_deliver(read, id, position) == Err(Refill) {
            self.make_dirty(id);
            self.forget_waiting(read, id);
        }
        let Some(query) = self.queries.get_mut(&id) else { return };
        if query.knowledge == Knowledge::Awaiting(read) {
            query.knowledge = Knowledge::Known;
            query.why.known(self.now, head);
        }
        if is_touched {
            // By a change that came while nobody knew what it reads.
            if let Some(query) = self.queries.get_mut(&id) {
                query.asked_for.by_change(head);
            }
            self.make_dirty(id);
        }
        self.tell_boundary(id);
        self.tell_holdings(id);
        self.set_due(id, is_woken);
        self.stir_subscribers(id);
    }

    /// Returns a function's value as a result, whose columns are those that it has this time.
    fn value_of_function(&mut self, id: QueryId, json: Result<String, QueryError>) -> Value {
        let (columns, rows) = match json {
            Ok(json) => function::result(&json),
            Err(error) => return Value::Failed(error),
        };
        let (count, bytes) = (rows.rows().len(), rows.text_bytes());
        let (count_max, bytes_max) = (self.limits.result_rows_max, self.limits.result_bytes_max);
        if count > count_max || bytes > bytes_max {
            let message = match count > count_max {
                true => format!(
                    "the result has {count} rows, more than {count_max} (--result-rows-max)"
                ),
                false => format!(
                    "the result has {bytes} bytes, more than {bytes_max} (--result-bytes-max)"
                ),
            };
            let message = format!("{message}: return less, page by page with .paginate()");
            // Nobody else has a word in the log for the developer; one is enough.
            let is_known = self.queries.get(&id).is_some_and(|query| {
                matches!(&query.value, Value::Failed(error) if error.code == ErrorCode::LimitExceeded)
            });
            if !is_known {
                let function = self.name_of(id).unwrap_or_default();
                warn!(query = id.0, function, rows = count, bytes, "{message}");
            }
            return Value::Failed(QueryError::new(ErrorCode::LimitExceeded, message));
        }
        if let Some(query) = self.queries.get_mut(&id)
            && query.columns != columns
        {
            // No diff leads from the ones to the others.
            query.columns = columns;
            if !matches!(query.value, Value::Failed(_)) {
                query.value = Value::None;
            }
        }
        Value::Rows(Refreshed { rows, held: None })
    }

    /// Returns the name by which a query is asked for, where it has one.
    fn name_of(&self, id: QueryId) -> Option<&str> {
        let entry = self.templates.get(self.queries.get(&id)?.template)?;
        entry.statement.name.as_deref()
    }

    /// Notes with those who subscribe to a query that it is not the one that takes long.
    fn note_answer(&mut self, id: QueryId) {
        let Some(query) = self.queries.get(&id) else { return };
        for (session, sub) in query.subscribers.iter() {
            let session = self.sessions.get_mut(*session);
            if let Some(sub) = session.and_then(|session| session.subs.get_mut(sub)) {
                sub.answered(self.now);
            }
        }
    }

    /// Plans a query's next read that no change asks for: on its interval, or soon where this one failed. A function that
    /// is woken by what it has read need not be run before that changes, unless what it failed of passes by itself.
    fn set_due(&mut self, id: QueryId, is_woken: bool) {
        /// How soon a read that failed is tried again, though no change asks for it.
        const FAILED_AGAIN: Duration = Duration::from_secs(10);
        let Some(query) = self.queries.get(&id) else { return };
        let interval =
            self.templates.get(query.template).and_then(|entry| entry.statement.directives.refresh);
        let failed = match &query.value {
            Value::Failed(error) => {
                (!is_woken || error.outlook == Outlook::Passes).then_some(FAILED_AGAIN)
            }
            Value::None | Value::Window(_) | Value::Groups(_) | Value::Rows(_) => None,
        };
        if let Some(interval) = interval.into_iter().chain(failed).min() {
            self.due.set(id, self.now + interval);
        }
    }

    /// Returns a result as its plan keeps it.
    ///
    /// # Errors
    /// Where its plan can't keep it: it is to be read otherwise.
    pub(crate) fn value_of(
        &self,
        id: QueryId,
        rows: Result<ReadRows, QueryError>,
    ) -> Result<Value, Lost> {
        let query = self.queries.get(&id);
        let template = query.and_then(|query| self.templates.get(query.template)?.template.clone());
        let (Some(query), Some(template)) = (query, template) else { return Ok(Value::None) };
        let rows = match (rows, &template.plan, query.kept_by) {
            (Ok(rows), ..) => rows,
            // Postgres refused to read the groups, of which there may be too many. The statement itself may yet do.
            (Err(error), Plan::Groups(_), KeptBy::Plan) if error.code != ErrorCode::Unavailable => {
                return Err(Lost::TooLarge);
            }
            (Err(error), ..) => return Ok(Value::Failed(error)),
        };
        let refreshed = |plan, rows: &ReadRows| {
            refreshed(&template, plan, rows).map_or_else(Value::Failed, Value::Rows)
        };
        Ok(match &template.plan {
            Plan::Refresh(plan) => refreshed(plan, &rows),
            Plan::Groups(plan) if query.kept_by == KeptBy::Refresh => {
                refreshed(&plan.refresh, &rows)
            }
            Plan::Groups(plan) => {
                let groups = Groups::read(plan, query.bounds, &query.slots, &rows)?;
                if groups.state_bytes() > self.limits.groups_bytes_max {
                    return Err(Lost::TooLarge);
                }
                Value::Groups(Box::new(groups))
            }
            Plan::Window(plan) => Window::read(plan, query.bounds, rows).map_or_else(
                |error| {
                    let message = format!(
                        "a value of {} could not be read: {error}",
                        plan.table.qualified_name()
                    );
                    Value::Failed(QueryError::new(ErrorCode::Internal, message))
                },
                Value::Window,
            ),
        })
    }

    /// Lets a result be read again with each change that touches it, for its plan can't keep it.
    pub(crate) fn stop_keeping(&mut self, id: QueryId) {
        debug!(query = id.0, "a result can't be kept from row changes: it is read again instead");
        // What is being read for it is in the plan's form.
        self.detach_reads(id);
        if let Some(query) = self.queries.get_mut(&id) {
            query.kept_by = KeptBy::Refresh;
        }
    }

    /// Puts a value in place of the one before, as a diff where there is one.
    fn set_value(&mut self, id: QueryId, value: Value) {
        let Some(query) = self.queries.get_mut(&id) else { return };
        let before = std::mem::replace(&mut query.value, value);
        self.exchange_membership(id, &before);
        let Some(query) = self.queries.get_mut(&id) else { return };
        let ops = match (before.rows(), query.value.rows()) {
            (Some(before), Some(after)) if OutputColumn::are_of_value(&query.columns) => {
                Some(function::value_diff(before, after))
            }
            (Some(before), Some(after)) => Some(diff(before.rows(), after.rows())),
            _ => None,
        };
        match ops {
            Some(ops) if ops.is_empty() => self.counters.reads_unchanged += 1,
            // A diff can't take a field away.
            Some(ops) if ops.iter().any(DiffOp::unsets) => query.replaced(),
            Some(ops) => {
                let before = before.rows().map(RowList::sum);
                query.changed_by(ops, before, self.limits.history_bytes_min);
            }
            None => {
                let same_error = matches!((&before, &query.value), (Value::Failed(before), Value::Failed(after)) if before == after);
                if !same_error {
                    query.replaced();
                }
            }
        }
        self.weigh(id);
    }

    /// Brings a value that was read at an earlier point of the line to the head, handing it to the stages that wait
    /// for it on the way.
    fn replay_and_deliver(
        &mut self,
        read: ReadId,
        id: QueryId,
        read_at: Position,
    ) -> Result<(), Refill> {
        let mut reached = read_at;
        for (position, session) in self.stages_waiting(read, id) {
            self.replay(id, reached, position)?;
            reached = reached.max(position);
            self.deliver(session, read, id);
        }
        let head = self.head();
        self.replay(id, reached, head)
    }

    /// Takes the changes after one point of the line, up to another, into a value that is kept from them.
    fn replay(&mut self, id: QueryId, after: Position, up_to: Position) -> Result<(), Refill> {
        let Some(template) = self.template_of(id) else { return Ok(()) };
        let table = match &template.plan {
            Plan::Window(plan) => plan.table.id,
            Plan::Groups(plan) => plan.table.id,
            Plan::Refresh(_) => return Ok(()),
        };
        if after >= up_to || !self.queries.get(&id).is_some_and(|query| query.value.is_kept()) {
            return Ok(());
        }
        let (changes, committed_at) =
            self.reads.log.changes_between(after, up_to, table).ok_or(Refill)?;
        let is_at_head = up_to == self.head();
        let Some(query) = self.queries.get_mut(&id) else { return Ok(()) };
        // What has touched it after that point is not in it yet.
        let touched_at = std::mem::replace(&mut query.touched_at, committed_at);
        let applied = self.apply_to_value(id, &changes);
        if let Some(query) = self.queries.get_mut(&id) {
            query.touched_at = touched_at.filter(|_| !is_at_head || applied.is_err());
        }
        applied
    }

    /// Hands a read's answer that a newer one has overtaken to the stages that wait for just this one.
    fn deliver_old(
        &mut self,
        read: ReadId,
        id: QueryId,
        read_at: Position,
        value: Value,
        touched_at: Option<PgTimestamp>,
    ) {
        let Some(query) = self.queries.get(&id) else { return };
        let kind = match &value {
            Value::Failed(error) => Some(UpdateKind::Error { last: false, error: error.clone() }),
            value => {
                value.rows().map(|rows| UpdateKind::Snapshot(snapshot_of(rows, &query.columns)))
            }
        };
        // Then who knows the present value knows this one.
        let digest = |value: &Value| value.rows().map(|rows| rows.digest(&query.columns));
        let is_present = digest(&value).is_some() && digest(&value) == digest(&query.value);
        for (position, session) in self.stages_waiting(read, id) {
            if value.is_kept() && position > read_at {
                // It would have to be brought there first.
                self.dissolve_stage(session);
            } else {
                self.deliver_as(session, read, id, kind.clone(), is_present, touched_at);
            }
        }
    }
}
