//! Reads: which results are read together, and at which point of the line. What becomes of the answers is in `answers`.
//!
//! One read at a time is on its way to its snapshot; any number up to a limit run behind it. Which queries a read
//! answers is decided when its snapshot closes: all that are dirty then and whose tables it has locked.

use crate::database::{
    Database, ErrorCode, QueryError, QueryRead, ReadCompany, ReadId, ReadingRole, Snapshot,
};
use crate::engine::Engine;
use crate::function::FunctionRead;
use crate::line::{Accepted, Line, Position};
use crate::live_query::{Knowledge, Value};
use crate::statement::StatementKind;
use crate::write_log::WriteLog;
use convoy_query_index::{QueryId, TemplateId};
use convoy_types::{Lsn, PgTimestamp, RelationId};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use tracing::{debug, warn};

/// How long to leave a database alone that could not be asked, or a table that could not be locked.
const PAUSE: Duration = Duration::from_millis(250);

/// How far a read is.
#[derive(Debug)]
enum Phase {
    /// Waiting for its locks.
    Opening,
    /// Waiting for its snapshot.
    Snapshot { since: Instant, attempts: u32 },
    /// Its snapshot missed an applied transaction: it is taken again at this time.
    Retaking { at: Instant, attempts: u32 },
    /// Its snapshot waits for the stream; if that takes long, the server is made to flush its WAL.
    Settling { flush_at: Instant },
    /// Its queries run. The snapshot closed here.
    Running { position: Position, label: Lsn, since: Instant },
}

#[derive(Debug)]
struct Read {
    phase: Phase,
    /// When the database last said something of it, or was asked to.
    heard: Instant,
    tables: BTreeSet<RelationId>,
    /// Queries that it has not answered, each with when the newest transaction committed that had touched it before the
    /// snapshot closed and is not yet in its value.
    queries: BTreeMap<QueryId, Option<PgTimestamp>>,
    /// When its snapshot was asked for, in the order of the engine's numbers.
    asked: u64,
}

impl Read {
    /// Returns when it counts as lost; none while it is not the database's turn.
    fn silent_at(&self, silence_max: Duration) -> Option<Instant> {
        match self.phase {
            Phase::Opening | Phase::Snapshot { .. } | Phase::Running { .. } => {
                Some(self.heard + silence_max)
            }
            Phase::Retaking { .. } | Phase::Settling { .. } => None,
        }
    }
}

/// Where a result was read.
pub(crate) struct ReadAt {
    /// The point of the line where the snapshot closed.
    pub position: Position,
    /// The label of that point.
    pub label: Lsn,
    /// When the read began to run.
    pub since: Instant,
    /// When the newest transaction committed that the answer brings into the value; none where none had touched it.
    pub touched_at: Option<PgTimestamp>,
}

/// The reads under way.
#[derive(Default)]
pub(crate) struct Reads {
    by_id: BTreeMap<ReadId, Read>,
    /// Changes since the oldest running read's snapshot closed.
    pub log: WriteLog,
    /// Not before this time, since the database could not be reached.
    pub not_before: Option<Instant>,
    /// Tables that somebody kept readers out of, and when to try again.
    kept_out: BTreeMap<RelationId, Instant>,
}

impl Reads {
    /// Forgets a query that is gone: what is read for it is of no interest.
    pub fn forget(&mut self, id: QueryId) {
        for read in self.by_id.values_mut() {
            read.queries.remove(&id);
        }
    }

    /// Notes that a read has answered a query, and returns where it read; none where nobody waits for that answer.
    pub fn answered(&mut self, now: Instant, read: ReadId, query: QueryId) -> Option<ReadAt> {
        let Read { phase: Phase::Running { position, label, since }, queries, heard, .. } =
            self.by_id.get_mut(&read)?
        else {
            return None;
        };
        *heard = now;
        queries.remove(&query).map(|touched_at| ReadAt {
            position: *position,
            label: *label,
            since: *since,
            touched_at,
        })
    }

    /// Returns how many reads run or are on their way.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Returns whether a read is on its way to its snapshot.
    fn is_one_on_its_way(&self) -> bool {
        self.by_id.values().any(|read| !matches!(read.phase, Phase::Running { .. }))
    }

    /// Returns where the oldest running read's snapshot closed.
    fn oldest_position(&self) -> Option<Position> {
        let position = |read: &Read| match read.phase {
            Phase::Running { position, .. } => Some(position),
            _ => None,
        };
        self.by_id.values().filter_map(position).min()
    }
}

impl<D: Database> Engine<D> {
    /// Opens a read if something is dirty and none is on its way.
    pub(crate) fn open_next_read(&mut self) {
        let now = self.now;
        self.reads.kept_out.retain(|_, until| *until > now);
        let waits = self.reads.not_before.is_some_and(|until| until > self.now);
        if self.line.is_none()
            || waits
            || self.reads.is_one_on_its_way()
            || self.reads.len() >= self.limits.reads_max
        {
            return;
        }
        // By template: there may be very many dirty queries, of few.
        let mut templates = BTreeSet::new();
        let wanted = self.dirty.iter().copied().chain(self.audits.wanted());
        let ready = wanted.filter(|&id| self.may_be_read(id));
        templates.extend(ready.filter_map(|id| self.queries.get(&id)).map(|query| query.template));
        if templates.is_empty() {
            return;
        }
        let locked = templates.into_iter().flat_map(|template| self.locked_tables(template));
        let tables: BTreeSet<RelationId> = locked.collect();
        let id = self.next_read_id();
        self.database.open_read(id, tables.iter().copied().collect());
        self.reads.by_id.insert(
            id,
            Read { phase: Phase::Opening, heard: now, tables, queries: BTreeMap::new(), asked: 0 },
        );
    }

    /// Returns whether what is asked now answers queries of a template: it was analysed before the snapshot was asked for,
    /// and its tables are locked.
    pub(crate) fn is_answered_by(
        &self,
        template: TemplateId,
        asked: u64,
        tables: &BTreeSet<RelationId>,
    ) -> bool {
        self.templates.get(template).is_some_and(|entry| entry.current_since < asked)
            && self.locked_tables(template).all(|table| tables.contains(&table))
    }

    pub(crate) fn may_be_read(&self, id: QueryId) -> bool {
        let Some(query) = self.queries.get(&id) else { return false };
        let is_current = self.templates.get(query.template).is_some_and(|entry| entry.is_current);
        is_current
            && self.is_what_it_reads_analysed(query.template)
            && query.reads.len() < self.limits.reads_per_query_max
            && !self.is_kept_out(id)
    }

    /// Returns whether somebody kept readers out of one of its tables a moment ago.
    fn is_kept_out(&self, id: QueryId) -> bool {
        let kept_out = &self.reads.kept_out;
        let Some(query) = self.queries.get(&id).filter(|_| !kept_out.is_empty()) else {
            return false;
        };
        self.locked_tables(query.template).any(|table| kept_out.contains_key(&table))
    }

    fn locked_tables(&self, template: TemplateId) -> impl Iterator<Item = RelationId> {
        let statements = self.recorded.statements_of(template).chain([template]);
        let entries = statements.filter_map(|statement| self.templates.get(statement));
        let templates = entries.filter_map(|entry| entry.template.as_ref());
        templates.flat_map(|template| template.tables.iter().map(|table| table.id))
    }

    /// Returns whether what a function read by a statement, in a read that answers it now, is what it would be if the
    /// statement were a query of the read.
    pub(crate) fn is_read_rightly(&self, read: ReadId, statement: TemplateId) -> bool {
        self.reads
            .by_id
            .get(&read)
            .is_some_and(|read| self.is_answered_by(statement, read.asked, &read.tables))
    }

    pub(crate) fn read_opened(
        &mut self,
        id: ReadId,
        outcome: Result<BTreeSet<RelationId>, QueryError>,
    ) {
        let now = self.now;
        let Some(read) = self.reads.by_id.get_mut(&id) else { return self.database.close_read(id) };
        match outcome {
            Ok(kept_out) => {
                if !kept_out.is_empty() {
                    warn!(read = id.0, tables = ?kept_out, "somebody keeps readers out of tables");
                    read.tables.retain(|table| !kept_out.contains(table));
                    let again = kept_out.into_iter().map(|table| (table, now + PAUSE));
                    self.reads.kept_out.extend(again);
                }
                read.phase = Phase::Retaking { at: now, attempts: 0 };
                self.take_snapshot(id);
            }
            Err(error) => self.read_failed(id, &error),
        }
    }

    /// Asks for a read's snapshot, and lets the line stand still until it is there.
    fn take_snapshot(&mut self, id: ReadId) {
        let asked = self.next_number();
        let now = self.now;
        let (Some(read), Some(line)) = (self.reads.by_id.get_mut(&id), &mut self.line) else {
            return;
        };
        let Phase::Retaking { attempts, .. } = read.phase else { return };
        read.phase = Phase::Snapshot { since: now, attempts };
        read.heard = now;
        read.asked = asked;
        line.fence(id);
        self.database.take_snapshot(id);
    }

    pub(crate) fn snapshot_taken(&mut self, id: ReadId, outcome: Result<Snapshot, QueryError>) {
        let now = self.now;
        let Some(read) = self.reads.by_id.get_mut(&id) else { return };
        let Phase::Snapshot { attempts, .. } = read.phase else { return };
        let snapshot = match outcome {
            Ok(snapshot) => snapshot,
            Err(error) => return self.read_failed(id, &error),
        };
        let Some(line) = &mut self.line else { return };
        match line.snapshot_taken(id, snapshot) {
            Accepted::Pending => {
                read.phase = Phase::Settling { flush_at: now + self.limits.flush_after }
            }
            Accepted::TooOld => {
                // At once, then after 1, 2, 4 … 64 ms: a commit is visible microseconds after it is streamed, mostly.
                let delay = Duration::from_millis(
                    attempts.checked_sub(1).map_or(0, |doublings| 1 << doublings.min(6)),
                );
                self.counters.snapshots_retaken += 1;
                read.phase = Phase::Retaking { at: now + delay, attempts: attempts + 1 };
                if delay.is_zero() {
                    self.take_snapshot(id);
                }
            }
        }
    }

    /// The line stands exactly at the read's snapshot: what is dirty here is read by it.
    pub(crate) fn close_snapshot(&mut self, id: ReadId, snapshot: Snapshot) {
        self.flush_batch();
        let (position, label) = (self.head(), self.label());
        if let Some(observer) = &mut self.observer {
            observer.closed(position, &snapshot);
        }
        let Some(read) = self.reads.by_id.get(&id) else { return };
        let (tables, asked) = (read.tables.clone(), read.asked);
        // Decided once for each template.
        let mut answered: BTreeMap<TemplateId, bool> = BTreeMap::new();
        let mut is_answered = |id: &QueryId| {
            let Some(query) = self.queries.get(id) else { return false };
            let template = query.template;
            let by_this = || self.is_answered_by(template, asked, &tables);
            *answered.entry(template).or_insert_with(by_this) && self.may_be_read(*id)
        };
        let included: Vec<QueryId> =
            self.dirty.iter().copied().filter(|id| is_answered(id)).collect();
        debug!(read = id.0, queries = included.len(), %label, mark = ?snapshot.mark, "snapshot closed");
        let audited = self.begin_audit(id, &tables, asked);
        if included.is_empty() && audited.is_none() {
            self.reads.by_id.remove(&id);
            self.database.close_read(id);
            return;
        }
        let mut questions = Vec::with_capacity(included.len());
        let mut functions = Vec::new();
        let mut queries = BTreeMap::new();
        for &query in &included {
            self.dirty.remove(&query);
            match self.function_read(query) {
                Some(function) => functions.push(function),
                None => questions.extend(self.question(query)),
            }
            if let Some(state) = self.queries.get_mut(&query) {
                state.knowledge = Knowledge::Awaiting(id);
                state.reads.push(id);
                queries.insert(query, state.touched_at.take());
            }
        }
        questions.extend(audited.and_then(|query| self.question(query)));
        queries.extend(audited.map(|query| (query, None)));
        if let Some(read) = self.reads.by_id.get_mut(&id) {
            read.phase = Phase::Running { position, label, since: self.now };
            read.heard = self.now;
            read.queries = queries;
        }
        self.reads.log.begin(position);
        self.stage_sessions(id, &included);
        self.database.run(id, questions, functions);
    }

    fn function_read(&self, id: QueryId) -> Option<FunctionRead> {
        let query = self.queries.get(&id)?;
        let statement = &self.templates.get(query.template)?.statement;
        (statement.kind == StatementKind::Function).then(|| FunctionRead {
            query: id,
            statement: statement.clone(),
            params: query.args.clone(),
            timeout: self.limits.statement_timeout,
        })
    }

    fn question(&self, id: QueryId) -> Option<QueryRead> {
        let query = self.queries.get(&id)?;
        let template = self.templates.get(query.template)?.template.as_ref()?;
        let role = match template.statement.is_ad_hoc() {
            true => ReadingRole::AdHoc,
            false => ReadingRole::Server,
        };
        Some(QueryRead {
            query: id,
            role,
            statement: template.read_by(query.kept_by).clone(),
            company: match query.value {
                Value::Failed(_) => ReadCompany::Alone,
                _ => ReadCompany::Others,
            },
            params: query.args.clone(),
            timeout: self.limits.statement_timeout,
            rows_max: self.limits.result_rows_max,
            bytes_max: self.limits.result_bytes_max,
            last_took: query.read_took,
        })
    }

    pub(crate) fn read_finished(&mut self, id: ReadId) {
        let Some(read) = self.reads.by_id.remove(&id) else { return };
        self.audits.forget_read(id);
        for (query, touched_at) in read.queries {
            // Not answered: the read broke off.
            if let Some(state) = self.queries.get_mut(&query) {
                state.forget_read(id);
                state.touched_at = state.touched_at.max(touched_at);
                if state.knowledge == Knowledge::Awaiting(id) {
                    self.make_dirty(query);
                }
            }
            self.forget_waiting(id, query);
        }
        let oldest = self.reads.oldest_position();
        self.reads.log.trim(oldest);
    }

    /// Takes a query off the reads that it is in: what they say of it is from before something else changed.
    pub(crate) fn detach_reads(&mut self, id: QueryId) {
        self.audits.forget(id);
        let Some(query) = self.queries.get_mut(&id) else { return };
        for read in std::mem::take(&mut query.reads) {
            if let Some(read) = self.reads.by_id.get_mut(&read) {
                read.queries.remove(&id);
            }
            self.forget_waiting(read, id);
        }
    }

    /// Gives a read up; what it has not answered is read again.
    fn read_failed(&mut self, id: ReadId, error: &QueryError) {
        warn!(read = id.0, %error, "a read failed: trying again");
        self.read_finished(id);
        if let Some(line) = &mut self.line {
            line.abandon(id);
        }
        self.database.close_read(id);
        self.delay_reads();
    }

    /// Leaves the database alone for a while.
    pub(crate) fn delay_reads(&mut self) {
        self.reads.not_before = Some(self.now + PAUSE);
    }

    /// Gives all reads up: what they say is worth nothing, or would be.
    pub(crate) fn abandon_reads(&mut self) {
        self.audits.abandon();
        for (id, read) in std::mem::take(&mut self.reads.by_id) {
            if !matches!(read.phase, Phase::Running { .. }) {
                self.database.close_read(id);
            }
            for query in read.queries.into_keys() {
                self.forget_waiting(id, query);
            }
        }
        for query in self.queries.values_mut() {
            query.reads = Vec::new();
        }
        self.reads.log = WriteLog::default();
    }

    /// Gives a read up of which nothing was heard for too long: its connection may be dead without anybody's noticing.
    fn give_up_silent(&mut self, id: ReadId) {
        let message = format!(
            "the database has not answered a read for {} s",
            self.limits.read_silence_max.as_secs()
        );
        self.read_failed(id, &QueryError::new(ErrorCode::Unavailable, message));
    }

    /// Sees to reads that wait: takes snapshots again, lifts the fence, makes the server flush, gives silent ones up.
    pub(crate) fn tick_reads(&mut self) {
        /// How soon a flush is asked for again that changed nothing.
        const FLUSH_AGAIN: Duration = Duration::from_millis(500);
        let (mut retake, mut silent) = (None, Vec::new());
        for (&id, read) in &mut self.reads.by_id {
            if read.silent_at(self.limits.read_silence_max).is_some_and(|at| self.now >= at) {
                silent.push(id);
                continue;
            }
            match &mut read.phase {
                Phase::Retaking { at, .. } if self.now >= *at => retake = Some(id),
                Phase::Snapshot { since, .. } if self.now >= *since + self.limits.fence_max => {
                    if let Some(line) = &mut self.line {
                        line.lift_fence(id);
                    }
                }
                Phase::Settling { flush_at } if self.now >= *flush_at => {
                    *flush_at = self.now + FLUSH_AGAIN;
                    self.database.flush_wal();
                }
                _ => {}
            }
        }
        for id in silent {
            self.give_up_silent(id);
        }
        if let Some(id) = retake {
            self.take_snapshot(id);
        }
    }

    /// Returns when [`Engine::tick_reads`] or [`Engine::open_next_read`] has something to do.
    pub(crate) fn reads_deadline(&self) -> Option<Instant> {
        let is_fenced = self.line.as_ref().is_some_and(Line::is_fenced);
        let phase = |read: &Read| match &read.phase {
            Phase::Retaking { at, .. } => Some(*at),
            Phase::Snapshot { since, .. } if is_fenced => Some(*since + self.limits.fence_max),
            Phase::Settling { flush_at } => Some(*flush_at),
            _ => None,
        };
        let pauses = self.reads.not_before.iter().chain(self.reads.kept_out.values()).copied();
        let pauses = pauses.filter(|until| *until > self.now && !self.dirty.is_empty());
        let silent = |read: &Read| read.silent_at(self.limits.read_silence_max);
        let reads = self.reads.by_id.values();
        reads.clone().filter_map(phase).chain(reads.filter_map(silent)).chain(pauses).min()
    }
}
