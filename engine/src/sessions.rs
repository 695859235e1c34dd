//! What sessions have been told, and what holds their next transition up.
//!
//! A session moves from one point of the line to a later one, always at the head (see [`crate::line`]): at once where
//! all its results are known there, or by a *stage*: when a snapshot closes at the head, what is known is taken down and
//! waits for the results that were read at that snapshot.

use crate::database::{QueryError, ReadId};
use crate::digest::Digest;
use crate::line::Position;
use crate::live_query::Told;
use crate::mutations::{Reflected, Reflections};
use crate::session::{Outbox, OutboxState, SessionId, Wish};
use crate::statement::Statement;
use crate::update::{Transition, Update, UpdateKind};
use convoy_query_index::QueryId;
use convoy_types::{Lsn, PgTimestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a subscription asked for by a name.
#[derive(Clone, Debug)]
pub(crate) struct NamedWish {
    /// What the name meant then.
    pub statement: Arc<Statement>,
    /// What was given with it.
    pub given: Arc<dyn Wish>,
}

/// What a client shows of a subscription, as far as it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shows {
    Nothing,
    Error,
    Result,
}

/// What a session was told of a subscription that is behind it.
#[derive(Debug)]
pub(crate) struct Behind {
    /// As of when the client shows it.
    as_of: Lsn,
    /// Whether the client is known to have heard so.
    is_told: bool,
}

/// A subscription of a session.
#[derive(Debug)]
pub(crate) struct Sub {
    /// What it asked for, where that is a name, which may come to mean another statement.
    pub wish: Option<NamedWish>,
    /// The live query; none while its statement is being analysed, and where its name means nothing that fits it.
    pub query: Option<QueryId>,
    /// What it is to be told of its name; without a live query it stays so, and is told again after a resume.
    pub notice: Option<Box<QueryError>>,
    /// How far it has been told, what a stage has taken down included.
    pub told: Told,
    /// What was sent last.
    pub shows: Shows,
    /// Whether it fell out of the session's cuts because it took too long.
    pub stale: bool,
    /// What was said of it since it fell behind, until an update is sent that says more; mostly nothing.
    pub behind: Option<Box<Behind>>,
    /// The digest of what the client has from before; mostly none.
    // Invariant: from a resume or its beginning on, it has been told nothing but that it is stale.
    pub have: Option<Box<Digest>>,
    /// When it was asked for; once it holds its session, when its query was last answered.
    pub since: Instant,
}

impl Sub {
    /// Returns whether the session's transitions wait for it.
    pub fn holds(&self) -> bool {
        let is_told = matches!(self.told, Told::Version(_) | Told::Reset);
        is_told && self.shows == Shows::Result && !self.stale
    }

    /// Notes that its query was answered, for whichever cut.
    pub fn answered(&mut self, now: Instant) {
        if self.holds() {
            self.since = now;
        }
    }

    /// Returns whether it has had its hold, in a session that is held since then, and is let go. Not one that was answered
    /// meanwhile and has been touched again, while another holds the session up; but for good none does.
    pub fn is_late(
        &self,
        now: Instant,
        held_since: Instant,
        hold: Duration,
        longest: Duration,
    ) -> bool {
        now >= held_since + hold && (now >= self.since + hold || now >= held_since + longest + hold)
    }
}

impl Sub {
    /// Returns as of when the client shows it, in a session that is shown what is so at a position.
    pub fn as_of(&self, shown: Lsn) -> Lsn {
        self.behind.as_ref().map_or(shown, |behind| behind.as_of)
    }

    /// Takes what it must be told of its name. A result that it must be told anew goes first: the error would hide it.
    pub fn take_notice(&mut self) -> Option<QueryError> {
        let is_running = self.query.is_some();
        match self.told {
            Told::Reset if is_running => return None,
            Told::Interrupted(_) if !is_running => return None,
            _ => {}
        }
        let error = if is_running { self.notice.take() } else { self.notice.clone() }?;
        self.have = None;
        self.told = match self.told {
            // That it is up to date again is said by a snapshot, after an error.
            _ if is_running && self.stale => Told::Reset,
            Told::Version(version) | Told::Interrupted(version) if is_running => {
                Told::Interrupted(version)
            }
            _ => Told::Interrupted(0),
        };
        Some(*error)
    }
}

/// A transition that waits for results read at the snapshot that closed at its position.
#[derive(Debug)]
pub(crate) struct Stage {
    pub position: Position,
    pub label: Lsn,
    pub committed_at: Option<PgTimestamp>,
    /// The mutations that it is the first to contain.
    pub reflects: Reflected,
    pub updates: Vec<Update>,
    /// The subscriptions that are still missing, each with the read that will answer.
    pub waiting: BTreeMap<Arc<str>, (QueryId, ReadId)>,
    /// Subscriptions without an answer yet, or stale, that this read answers: they come along if they are in before the
    /// others, or before `hoped_until`. Else a result that changes faster than it is read would never get in.
    pub hoped: BTreeMap<Arc<str>, (QueryId, ReadId)>,
    pub hoped_until: Instant,
}

impl Stage {
    /// Returns whether this answer belongs in it.
    pub fn expects(&self, sub: &Arc<str>, query: QueryId, read: ReadId) -> bool {
        let awaited = Some(&(query, read));
        self.waiting.get(sub) == awaited || self.hoped.get(sub) == awaited
    }

    /// Takes a subscription off what it waits for.
    pub fn settle(&mut self, sub: &Arc<str>) {
        self.waiting.remove(sub);
        self.hoped.remove(sub);
    }

    /// Returns whether it can be sent.
    pub fn is_complete(&self, now: Instant) -> bool {
        self.waiting.is_empty() && (self.hoped.is_empty() || now >= self.hoped_until)
    }
}

/// A session's state.
pub(crate) struct Session {
    outbox: Box<dyn Outbox>,
    outbox_state: OutboxState,
    pub subs: BTreeMap<Arc<str>, Sub>,
    pub stage: Option<Stage>,
    /// Subscriptions that became stale and were not named yet.
    pub stale_updates: Vec<Update>,
    /// Since when results that are not known hold its transitions up.
    pub held_since: Option<Instant>,
    /// The last transition's label.
    pub label: Lsn,
    /// What the client shows is of this position or a later one, apart from what it was told is stale: the label, unless
    /// the last transitions may not have arrived.
    pub shown: Lsn,
    /// Positions that it wants to hear of.
    pub awaits: Vec<Lsn>,
    /// When it was last told anything.
    pub told_at: Instant,
    /// Whether its outbox did not take the last transition.
    is_lost: bool,
    /// Its mutations that it is to be told of.
    pub reflections: Reflections,
    /// The point of the line where it is.
    pub position: Position,
}

impl Session {
    pub fn new(outbox: Box<dyn Outbox>, label: Lsn, position: Position, now: Instant) -> Self {
        Session {
            outbox,
            outbox_state: OutboxState::Ready,
            subs: BTreeMap::new(),
            stage: None,
            stale_updates: Vec::new(),
            held_since: None,
            label,
            shown: label,
            awaits: Vec::new(),
            told_at: now,
            is_lost: false,
            reflections: Reflections::default(),
            position,
        }
    }

    /// Takes a new connection: whatever was told before may be lost, so everything is told anew, as what leads on from
    /// what the client has. It hears at once that it is up to date, also where nothing is new or subscribed to: what it
    /// awaited may be among what is lost.
    pub fn resume(&mut self, outbox: Box<dyn Outbox>, now: Instant) {
        self.outbox = outbox;
        self.outbox_state = OutboxState::Ready;
        self.tell_anew();
        for sub in self.subs.values_mut() {
            sub.since = now;
        }
    }

    /// Forgets how far it was told: some of that has not arrived and never will.
    pub fn tell_anew(&mut self) {
        if let Some(stage) = self.stage.take() {
            self.reflections.give_back(stage.reflects);
        }
        self.stale_updates.clear();
        self.held_since = None;
        self.awaits.push(self.label);
        self.reflections.name_again();
        self.shown = self.outbox.label();
        for (name, sub) in &mut self.subs {
            // What was told is still shown: until its news are known too, nothing goes out, or it is called stale.
            if sub.shows == Shows::Nothing {
                sub.told = Told::Nothing;
            } else {
                (sub.told, sub.shows) = (Told::Reset, Shows::Result);
                sub.have = self.outbox.has(name).map(Box::new);
            }
            sub.stale = false;
            if let Some(behind) = &mut sub.behind {
                (behind.as_of, behind.is_told) = (behind.as_of.min(self.shown), false);
            }
        }
    }

    /// Returns whether its outbox takes another transition. One that nobody reads does not, until it is resumed.
    pub fn is_ready(&self) -> bool {
        self.outbox_state == OutboxState::Ready
    }

    /// Returns whether its last transition found nobody who reads: what it was told since it may have to be told again.
    pub fn is_cut_off(&self) -> bool {
        self.outbox_state == OutboxState::Closed
    }

    /// Notes that the outbox has room again.
    pub fn drained(&mut self) {
        if self.outbox_state == OutboxState::Full {
            self.outbox_state = OutboxState::Ready;
        }
    }

    /// Sends a transition that brings the session to a point of the line.
    pub fn send(&mut self, now: Instant, transition: Transition) {
        self.shown = self.label.max(transition.lsn);
        self.put(now, transition);
    }

    /// Puts a transition into the outbox. Its label never goes back, though the stream may after the loss of a slot.
    fn put(&mut self, now: Instant, mut transition: Transition) {
        self.label = self.label.max(transition.lsn);
        transition.lsn = self.label;
        self.position = self.position.max(transition.position);
        self.awaits.retain(|lsn| *lsn > self.label);
        self.told_at = now;
        self.note_what_is_sent(&mut transition);
        self.outbox_state = match self.outbox.send(transition) {
            OutboxState::Lost => {
                self.tell_anew();
                self.is_lost = true;
                OutboxState::Ready
            }
            state => state,
        };
    }

    fn note_what_is_sent(&mut self, transition: &mut Transition) {
        for Update { sub, kind } in &mut transition.updates {
            let Some(sub) = self.subs.get_mut(sub) else { continue };
            match kind {
                UpdateKind::Stale(as_of) => {
                    // What it is of may lie ahead where the stream has gone back.
                    *as_of = transition.lsn.min(*as_of);
                    sub.behind = Some(Box::new(Behind { as_of: *as_of, is_told: true }));
                }
                UpdateKind::Error { .. } => (sub.shows, sub.behind) = (Shows::Error, None),
                UpdateKind::Snapshot(_) | UpdateKind::Diffs(_) | UpdateKind::Unchanged => {
                    (sub.shows, sub.behind) = (Shows::Result, None);
                }
            }
        }
    }

    /// Notes that a subscription will not be told what was taken down for it: something else is sent in its place, whole.
    pub fn untell(&mut self, sub: &Arc<str>) {
        if let Some(sub) = self.subs.get_mut(sub) {
            sub.told = match sub.shows {
                Shows::Nothing => Told::Nothing,
                Shows::Error | Shows::Result => Told::Reset,
            };
            // Who was told so still takes it for stale.
            sub.stale |= sub.behind.as_ref().is_some_and(|behind| behind.is_told);
        }
    }

    /// Returns whether a transition was lost since this was asked last: then there is something to be told.
    pub fn take_lost(&mut self) -> bool {
        std::mem::take(&mut self.is_lost)
    }

    /// Sends an error of one subscription, which never waits for a cut. It brings nothing else, so it names no mutation.
    pub fn send_error(&mut self, now: Instant, sub: Arc<str>, last: bool, error: QueryError) {
        let updates = vec![Update { sub, kind: UpdateKind::Error { last, error } }];
        let (lsn, position) = (self.label, self.position);
        self.put(
            now,
            Transition { lsn, committed_at: None, reflects: Vec::new(), updates, position },
        );
    }

    /// Sends the stage as it is.
    pub fn send_stage(&mut self, now: Instant) {
        let Some(stage) = self.stage.take() else { return };
        self.held_since = None;
        let is_awaited = self.awaits.iter().any(|lsn| *lsn <= stage.label);
        if stage.updates.is_empty() && !is_awaited && stage.reflects.is_empty() {
            self.position = self.position.max(stage.position);
            return;
        }
        let Stage { position, label: lsn, committed_at, reflects, updates, .. } = stage;
        let committed_at = committed_at.max(reflects.committed_at());
        let reflects = reflects.into_ids();
        self.send(now, Transition { lsn, committed_at, reflects, updates, position });
    }
}

/// All sessions.
#[derive(Default)]
pub(crate) struct Sessions {
    by_id: BTreeMap<SessionId, Session>,
    /// Sessions that may have something to be told.
    restless: BTreeSet<SessionId>,
    /// Sessions that wait for a position.
    pub awaiting: BTreeSet<SessionId>,
    /// Sessions that something holds up.
    pub held: BTreeSet<SessionId>,
}

impl Sessions {
    pub fn get(&self, id: SessionId) -> Option<&Session> {
        self.by_id.get(&id)
    }

    pub fn get_mut(&mut self, id: SessionId) -> Option<&mut Session> {
        self.by_id.get_mut(&id)
    }

    pub fn insert(&mut self, id: SessionId, session: Session) {
        self.by_id.insert(id, session);
    }

    pub fn remove(&mut self, id: SessionId) -> Option<Session> {
        self.restless.remove(&id);
        self.awaiting.remove(&id);
        self.held.remove(&id);
        self.by_id.remove(&id)
    }

    pub fn iter(&self) -> impl Iterator<Item = (SessionId, &Session)> {
        self.by_id.iter().map(|(id, session)| (*id, session))
    }

    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Notes that a session may have something to be told.
    pub fn stir(&mut self, id: SessionId) {
        self.restless.insert(id);
    }

    /// Returns the sessions that may have something to be told, and forgets that.
    pub fn take_restless(&mut self) -> BTreeSet<SessionId> {
        std::mem::take(&mut self.restless)
    }
}
