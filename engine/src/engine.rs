//! The engine: its state, and the loop's body. What each event does stands in the file that its kind names.

use crate::answers::ReadResult;
use crate::audit::Audits;
use crate::database::{CastId, Database, DescribeId, ProbeId, QueryError, ReadId};
use crate::derived::DerivedFields;
use crate::early::Early;
use crate::event::Event;
use crate::limits::Limits;
use crate::line::{Line, Position, Step};
use crate::live_queries::LiveQueries;
use crate::live_query::ArgumentTexts;
use crate::mutations::ExpectedMutations;
use crate::observer::Observer;
use crate::precision::WakeUps;
use crate::reads::Reads;
use crate::recorded::RecordedReads;
use crate::schedule::Schedule;
use crate::sessions::{Session, Sessions};
use crate::statement::Statement;
use crate::subscribe::CastPurpose;
use crate::tables::Tables;
use crate::templates::Templates;
use crate::upkeep::Batch;
use convoy_query_index::{QueryId, QueryIndex, TemplateId};
use convoy_types::Lsn;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

/// Live queries and their sessions: a state machine that is fed events and acts through its database and outboxes.
///
/// Give it each event with [`Engine::handle`] and, when no further one is at hand, call [`Engine::flush`]; give it
/// [`Event::Tick`] at [`Engine::next_deadline`].
pub struct Engine<D> {
    pub(crate) limits: Limits,
    pub(crate) database: D,
    /// The transactions' order; none while nothing streams, and until the first snapshot after streaming began.
    pub(crate) line: Option<Line>,
    /// Transactions and positions that came before the line's first snapshot.
    pub(crate) early: Early,
    /// Whether replication streams.
    pub(crate) streaming: bool,
    /// The line's head when there is no line, so that positions never go back.
    pub(crate) last_head: Position,
    pub(crate) tables: Tables,
    pub(crate) derived: DerivedFields,
    pub(crate) index: QueryIndex,
    pub(crate) templates: Templates,
    /// What named queries are that were redefined: who asks for one may not have heard. As many as the project had.
    pub(crate) definitions: HashMap<String, Result<Arc<Statement>, QueryError>>,
    pub(crate) queries: LiveQueries,
    /// What those that are functions read.
    pub(crate) recorded: RecordedReads,
    pub(crate) query_of: HashMap<(TemplateId, ArgumentTexts), QueryId>,
    /// Live queries whose value is not known and not under way.
    pub(crate) dirty: BTreeSet<QueryId>,
    /// When queries must be read again though nothing touched them: on their interval, or since a read failed.
    pub(crate) due: Schedule<QueryId>,
    /// When statements whose analysis failed are tried again.
    pub(crate) retries: Schedule<TemplateId>,
    /// When sessions are looked through for heartbeats and unanswered subscriptions.
    pub(crate) rounds_due: Instant,
    /// Live queries whose subscribers had something to be told since the last flush.
    pub(crate) told_about: BTreeSet<QueryId>,
    /// Changes that are matched and not yet taken into the windows.
    pub(crate) batch: Batch,
    pub(crate) reads: Reads,
    pub(crate) sessions: Sessions,
    /// Mutations of sessions whose transactions are still to come.
    pub(crate) expected: ExpectedMutations,
    pub(crate) casts: HashMap<CastId, CastPurpose>,
    pub(crate) counters: Counters,
    pub(crate) audits: Audits,
    /// What all live queries take beside their statements, estimated.
    // Invariant: the sum of their weights.
    pub(crate) result_bytes: usize,
    /// Whether a probe of the newest snapshot is under way, and when the next one is due.
    pub(crate) probe: Probe,
    /// Who hears what the line does, in tests.
    pub(crate) observer: Option<Box<dyn Observer>>,
    next_id: u64,
    pub(crate) now: Instant,
}

/// Live queries that go over to where the index finds them sooner, after one turn: about half a millisecond.
const MOVES_PER_FLUSH_MAX: usize = 256;

/// Positions that a session may await at a time.
const AWAITS_MAX: usize = 1024;

/// What has been done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Transactions applied.
    pub transactions: u64,
    /// Row changes that were matched against the index.
    pub changes: u64,
    /// Live queries that a change touched, one a change and query.
    pub touches: u64,
    /// Diffs that window plans made from row changes.
    pub diffs: u64,
    /// Results read.
    pub reads: u64,
    /// Results read that were what they had been.
    pub reads_unchanged: u64,
    /// Transitions sent.
    pub transitions: u64,
    /// Snapshots that had to be taken again, since an applied transaction was not yet visible.
    pub snapshots_retaken: u64,
    /// Transactions whose rows gave way to the tables that they touched, while they waited for a snapshot.
    pub collapsed: u64,
    /// Transactions that came without rows, since they were too large or too many: their tables were read again.
    pub without_rows: u64,
    /// Subscriptions that became stale.
    pub stale: u64,
    /// Results that were read again to be compared with what was held.
    pub audits: u64,
    /// Those that differed. More than none is an error of ours.
    pub audit_mismatches: u64,
    /// Wake-ups of live queries that are found by keys, ranges or boundaries.
    pub precise_wake_ups: WakeUps,
    /// Wake-ups of the others.
    pub whole_table_wake_ups: WakeUps,
}

/// The state of asking what is visible now.
#[derive(Debug)]
pub(crate) struct Probe {
    /// The one that was asked last and is not answered. Answers to others say nothing of the line that there is now.
    pub in_flight: Option<ProbeId>,
    /// The last one that was answered.
    pub answered: ProbeId,
    /// Not before this time, unless something waits for the first.
    pub due: Instant,
    /// How often in a row something has waited for one.
    pub attempts: u32,
}

impl<D: Database> Engine<D> {
    /// Returns an engine without sessions that waits for [`Event::ReplicationStarted`].
    pub fn new(limits: Limits, database: D, now: Instant) -> Self {
        Engine {
            limits,
            database,
            line: None,
            early: Early::default(),
            streaming: false,
            last_head: Position::default(),
            tables: Tables::default(),
            derived: DerivedFields::default(),
            index: QueryIndex::new(),
            templates: Templates::default(),
            definitions: HashMap::new(),
            queries: LiveQueries::default(),
            recorded: RecordedReads::default(),
            query_of: HashMap::new(),
            dirty: BTreeSet::new(),
            due: Schedule::default(),
            retries: Schedule::default(),
            rounds_due: now,
            told_about: BTreeSet::new(),
            batch: Batch::default(),
            reads: Reads::default(),
            sessions: Sessions::default(),
            expected: ExpectedMutations::default(),
            casts: HashMap::new(),
            counters: Counters::default(),
            audits: Audits::new(now),
            result_bytes: 0,
            probe: Probe { in_flight: None, answered: ProbeId(0), due: now, attempts: 0 },
            observer: None,
            next_id: 0,
            now,
        }
    }

    /// Lets somebody hear what the line does from now on.
    pub fn observe(&mut self, observer: Box<dyn Observer>) {
        self.observer = Some(observer);
    }

    /// Takes an event in.
    pub fn handle(&mut self, now: Instant, event: Event) {
        self.now = now;
        match event {
            Event::ReplicationStarted => self.replication_started(),
            Event::Committed(transaction) => {
                match &mut self.line {
                    Some(line) => line.receive(transaction, now),
                    None if self.streaming => {
                        self.early.receive(transaction, self.limits.early_bytes_max);
                    }
                    None => {}
                }
                self.advance();
                if let Some(line) = &mut self.line {
                    self.counters.collapsed += line.bound_waiting(self.limits.waiting_bytes_max);
                }
            }
            Event::Progress(lsn) => {
                match &mut self.line {
                    Some(line) => line.progress(lsn),
                    None if self.streaming => self.early.progress(lsn),
                    None => {}
                }
                self.advance();
            }
            Event::ReplicationLost => self.replication_lost(),

            Event::Described(id, described) => self.described(id, *described),
            Event::Cast(id, values) => self.cast(id, values),
            Event::ReadOpened(id, outcome) => self.read_opened(id, outcome),
            Event::SnapshotTaken(id, outcome) => {
                self.snapshot_taken(id, outcome);
                self.advance();
            }
            Event::QueryRead(read, query, outcome) => {
                self.query_read(read, query, outcome.map(ReadResult::Rows));
            }
            Event::FunctionRead(read, query, answer) => {
                self.query_read(read, query, Ok(ReadResult::Function(answer)));
            }
            Event::ReadFinished(read) => self.read_finished(read),
            Event::SnapshotProbed(id, outcome) => self.snapshot_probed(id, outcome),
            Event::CatalogChanged(relations) => self.catalog_changed(&relations),

            Event::QueriesRedefined(redefinitions) => self.queries_redefined(redefinitions),

            Event::SessionOpened(id, outbox) => {
                let session = Session::new(outbox, self.label(), self.head(), now);
                self.sessions.insert(id, session);
            }
            Event::SessionResumed(id, outbox) => {
                if let Some(session) = self.sessions.get_mut(id) {
                    session.resume(outbox, now);
                    // The diffs that were kept for it go once it has been told.
                    let seen = session.subs.values().filter_map(|sub| sub.query);
                    let has_diffs = |id: &QueryId| {
                        self.queries.get(id).is_some_and(|query| query.history_bytes() > 0)
                    };
                    self.told_about.extend(seen.filter(has_diffs));
                    self.sessions.awaiting.insert(id);
                    self.sessions.stir(id);
                }
            }
            Event::IdentityWatched { session, by } => self.watch_identity(session, by),
            Event::IdentitiesDoubted => self.doubt_identities(),
            Event::Subscribe { session, sub, query, have } => {
                self.subscribe(session, sub, query, have)
            }
            Event::Unsubscribe { session, sub } => self.unsubscribe(session, &sub),
            Event::Await(id, lsn) => {
                if let Some(session) = self.sessions.get_mut(id) {
                    // The furthest is what counts where somebody awaits without end.
                    session.awaits.truncate(AWAITS_MAX - 1);
                    session.awaits.push(lsn);
                    self.sessions.awaiting.insert(id);
                    self.sessions.stir(id);
                }
            }
            Event::MutationBegun { session, mutation } => self.expect_mutation(session, mutation),
            Event::MutationFailed(mutation) => self.mutation_failed(&mutation),
            Event::MutationDone(mutation, lsn) => self.mutation_done(mutation, lsn),
            Event::OutboxDrained(id) => {
                if let Some(session) = self.sessions.get_mut(id) {
                    session.drained();
                    self.sessions.stir(id);
                }
            }
            Event::OutboxLost(id) => {
                if let Some(session) = self.sessions.get_mut(id) {
                    session.drained();
                    session.tell_anew();
                    self.sessions.stir(id);
                }
            }
            Event::SessionClosed(id) => self.close_session(id),

            Event::Tick => {
                self.tick();
                self.advance();
            }
        }
    }

    /// Does what is better done once for many events: takes matched changes into the windows, moves sessions, opens the
    /// next read, lets some live queries go over to where the index finds them sooner. Call it when no event is at hand.
    pub fn flush(&mut self, now: Instant) {
        self.now = now;
        self.flush_batch();
        self.move_sessions();
        self.forget_told();
        self.open_next_read();
        self.probe_if_wanted();
        self.index.tidy(MOVES_PER_FLUSH_MAX);
    }

    /// Returns the position that replication may confirm: everything before it has been applied.
    pub fn confirmed(&self) -> Lsn {
        self.label()
    }

    /// Returns what waits for a snapshot, in bytes. Rows have given way where it is more than may.
    pub fn waiting_bytes(&self) -> usize {
        self.line.as_ref().map_or(0, |line| line.waiting_bytes())
    }

    /// Takes every step that the line allows.
    pub(crate) fn advance(&mut self) {
        loop {
            // Before what may build on it.
            self.read_what_was_overlooked();
            let Some(step) = self.line.as_mut().and_then(Line::step) else { break };
            match step {
                Step::Apply(arrived) => self.apply(arrived),
                Step::Close(read, snapshot) => self.close_snapshot(read, snapshot),
            }
        }
        if let Some(line) = &self.line {
            self.last_head = line.head();
        }
    }

    /// Returns the label of the head: see [`Line::label`].
    pub(crate) fn label(&self) -> Lsn {
        self.line.as_ref().map_or(Lsn::default(), Line::label)
    }

    /// Returns the head.
    pub(crate) fn head(&self) -> Position {
        self.line.as_ref().map_or(self.last_head, Line::head)
    }

    pub(crate) fn next_number(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    pub(crate) fn next_describe_id(&mut self) -> DescribeId {
        DescribeId(self.next_number())
    }

    pub(crate) fn next_cast_id(&mut self) -> CastId {
        CastId(self.next_number())
    }

    pub(crate) fn next_probe_id(&mut self) -> ProbeId {
        ProbeId(self.next_number())
    }

    /// Returns the greatest id that a probe may have by now.
    pub(crate) fn last_probe_id(&self) -> ProbeId {
        ProbeId(self.next_id)
    }

    pub(crate) fn next_read_id(&mut self) -> ReadId {
        ReadId(self.next_number())
    }
}
