//! Moves: sessions go from one point of the line to a later one.
//!
//! A session moves at the head, when all its results are known there; or it stages at a closing snapshot and moves when
//! the results that were read at it are in. Whatever holds it longer than its hold is left behind, stale.

use crate::database::{Database, ErrorCode, QueryError, ReadId};
use crate::engine::Engine;
use crate::line::Position;
use crate::live_query::{Knowledge, LiveQuery, Told, Value};
use crate::session::{IDENTITY_SUB, SessionId};
use crate::sessions::{Session, Shows, Stage, Sub};
use crate::update::{Transition, Update, UpdateKind};
use convoy_query_index::QueryId;
use convoy_types::{Lsn, PgTimestamp};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often sessions are looked through for heartbeats and unanswered subscriptions, at least.
const ROUNDS_INTERVAL: Duration = Duration::from_millis(500);

/// How long a session's stage waits for results that it could go without: first answers, and what was stale.
const HOPE: Duration = Duration::from_millis(50);

impl<D: Database> Engine<D> {
    /// Notes that a live query's subscribers may have something to be told.
    pub(crate) fn stir_subscribers(&mut self, id: QueryId) {
        let Some(query) = self.queries.get(&id) else { return };
        for (session, _) in query.subscribers.iter() {
            self.sessions.stir(*session);
        }
        self.told_about.insert(id);
    }

    /// Forgets the diffs that every subscriber has been told.
    pub(crate) fn forget_told(&mut self) {
        for id in std::mem::take(&mut self.told_about) {
            let Some(query) = self.queries.get_mut(&id) else { continue };
            let version = Told::Version(query.version);
            let told = |(session, sub): &(SessionId, Arc<str>)| {
                let Some(session) = self.sessions.get(*session) else { return true };
                // Who is cut off may come back, and go on from before what it was told last.
                !session.is_cut_off()
                    && session.subs.get(sub).is_none_or(|sub| {
                        sub.told == version || matches!(sub.told, Told::Interrupted(_))
                    })
            };
            if query.subscribers.iter().all(told) {
                query.forget_history();
            }
            self.weigh(id);
        }
    }

    /// Moves every session that can move and has a reason to.
    pub(crate) fn move_sessions(&mut self) {
        let label = self.label();
        self.note_passed_mutations(label);
        let reached = |session: &Session| session.awaits.iter().any(|lsn| *lsn <= label);
        let awaiting: Vec<_> = self.sessions.awaiting.iter().copied().collect();
        for id in awaiting {
            match self.sessions.get(id) {
                Some(session) if reached(session) => self.sessions.stir(id),
                Some(session) if !session.awaits.is_empty() => {}
                _ => {
                    self.sessions.awaiting.remove(&id);
                }
            }
        }
        for id in self.sessions.take_restless() {
            self.move_session(id, label);
        }
        // Whose outbox lost what was just sent is told at once what is so now.
        for id in self.sessions.take_restless() {
            self.move_session(id, label);
        }
    }

    /// Half a heartbeat where that is less: one is sent a round early rather than late.
    fn rounds_interval(&self) -> Duration {
        ROUNDS_INTERVAL.min(self.limits.heartbeat / 2)
    }

    fn move_session(&mut self, id: SessionId, label: Lsn) {
        let rounds = self.rounds_interval();
        let (now, head) = (self.now, self.head());
        if self.line.is_none() {
            return;
        }
        let Some(session) = self.sessions.get_mut(id) else { return };
        if session.stage.is_some() || !session.is_ready() {
            return;
        }
        let mut is_blocked = false;
        let mut became_stale = Vec::new();
        // Only who is held already may be let go.
        let holders =
            session.subs.values().filter(|sub| session.held_since.is_some() && sub.holds());
        let to_come = holders
            .filter_map(|sub| self.queries.get(&sub.query?).filter(|query| query.is_to_come()));
        let holds = to_come.map(|query| hold(&self.templates, query, self.limits.max_hold));
        let longest = holds.max().unwrap_or_default();
        for (name, sub) in &mut session.subs {
            let Some(query) = sub.query.and_then(|query| self.queries.get(&query)) else {
                continue;
            };
            if !sub.holds() || !query.is_to_come() {
                continue;
            }
            let hold = hold(&self.templates, query, self.limits.max_hold);
            if session.held_since.is_some_and(|since| sub.is_late(now, since, hold, longest)) {
                sub.stale = true;
                let kind = UpdateKind::Stale(sub.as_of(session.shown));
                became_stale.push(Update { sub: name.clone(), kind });
            } else {
                is_blocked = true;
            }
        }
        self.counters.stale += became_stale.len() as u64;
        if is_blocked {
            session.held_since.get_or_insert(now);
            // The others still hold it; who fell behind is told with them.
            session.stale_updates.append(&mut became_stale);
            self.sessions.held.insert(id);
            return;
        }
        session.held_since = None;
        let mut updates = std::mem::take(&mut session.stale_updates);
        updates.append(&mut became_stale);
        let mut committed_at = None;
        let mut has_more = false;
        for (name, sub) in &mut session.subs {
            if let Some(error) = sub.take_notice() {
                updates.retain(|update| update.sub != *name);
                let kind = UpdateKind::Error { last: false, error };
                updates.push(Update { sub: name.clone(), kind });
                continue;
            }
            let Some(query) = sub.query.and_then(|query| self.queries.get_mut(&query)) else {
                continue;
            };
            let standing = Standing::at_head(query, sub, now, self.limits.max_hold);
            take_news(now, name, sub, query, standing, &mut updates, &mut committed_at);
            has_more |= sub.notice.is_some();
        }
        self.sessions.held.remove(&id);
        if has_more {
            self.sessions.stir(id);
        }
        let Some(session) = self.sessions.get_mut(id) else { return };
        let has_reached =
            session.awaits.iter().any(|lsn| *lsn <= label) || session.reflections.are_due();
        let is_due =
            now + rounds >= session.told_at + self.limits.heartbeat && label > session.label;
        if updates.is_empty() && !has_reached && !is_due {
            session.position = head;
            return;
        }
        self.counters.transitions += 1;
        let reflects = session.reflections.take();
        let committed_at = committed_at.max(reflects.committed_at());
        let reflects = reflects.into_ids();
        session
            .send(now, Transition { lsn: label, committed_at, reflects, updates, position: head });
        if session.take_lost() {
            self.sessions.stir(id);
        }
    }

    /// Lets the sessions that see one of these queries, which were just put into a read, take down what is known at the
    /// head, which is where the read's snapshot closed.
    pub(crate) fn stage_sessions(&mut self, read: ReadId, included: &[QueryId]) {
        let mut concerned = std::collections::BTreeSet::new();
        for id in included {
            let subscribers =
                self.queries.get(id).into_iter().flat_map(|query| query.subscribers.iter());
            concerned.extend(subscribers.map(|(session, _)| *session));
        }
        let (label, position, now) = (self.label(), self.head(), self.now);
        for id in concerned {
            let Some(session) = self.sessions.get_mut(id) else { continue };
            if session.stage.is_some() || !session.is_ready() {
                continue;
            }
            let (mut waiting, mut hoped) = (BTreeMap::new(), BTreeMap::new());
            let mut is_dirty = false;
            for (name, sub) in &session.subs {
                let Some((id, query)) = sub.query.and_then(|id| Some((id, self.queries.get(&id)?)))
                else {
                    continue;
                };
                match query.knowledge {
                    Knowledge::Awaiting(of) if sub.holds() => {
                        waiting.insert(name.clone(), (id, of));
                    }
                    Knowledge::Awaiting(of) if of == read && query.read_took <= HOPE => {
                        hoped.insert(name.clone(), (id, of));
                    }
                    _ => is_dirty |= sub.holds() && query.is_to_come(),
                }
            }
            if is_dirty || (waiting.is_empty() && hoped.is_empty()) {
                continue;
            }
            let mut updates = std::mem::take(&mut session.stale_updates);
            let mut committed_at = None;
            for (name, sub) in &mut session.subs {
                let Some(query) = sub.query.and_then(|query| self.queries.get_mut(&query)) else {
                    // What it has is not brought to this cut: it must not go without saying.
                    if let Some(error) = sub.take_notice() {
                        let kind = UpdateKind::Error { last: false, error };
                        updates.push(Update { sub: name.clone(), kind });
                    }
                    continue;
                };
                // An error holds nobody up, so that it is told here to whoever still shows what was before it.
                let is_failed = matches!(query.value, Value::Failed(_)) && sub.holds();
                let is_told_here = is_failed && !waiting.contains_key(name);
                if query.knowledge == Knowledge::Known || is_told_here {
                    take_news(
                        now,
                        name,
                        sub,
                        query,
                        Standing::InCut,
                        &mut updates,
                        &mut committed_at,
                    );
                }
            }
            session.held_since.get_or_insert(now);
            session.stage = Some(Stage {
                position,
                label,
                committed_at,
                reflects: session.reflections.take(),
                updates,
                waiting,
                hoped,
                hoped_until: now + HOPE,
            });
            self.sessions.held.insert(id);
        }
    }

    /// Returns the sessions whose stages wait for this answer, by the point of the line where they stand.
    pub(crate) fn stages_waiting(&self, read: ReadId, id: QueryId) -> Vec<(Position, SessionId)> {
        let Some(query) = self.queries.get(&id) else { return Vec::new() };
        let stage = |(session, sub): &(SessionId, Arc<str>)| {
            let stage = self.sessions.get(*session)?.stage.as_ref()?;
            stage.expects(sub, id, read).then_some((stage.position, *session))
        };
        let mut waiting: Vec<_> = query.subscribers.iter().filter_map(stage).collect();
        waiting.sort_unstable();
        waiting.dedup();
        waiting
    }

    /// Hands a live query's present value to a stage that waits for it.
    pub(crate) fn deliver(&mut self, id: SessionId, read: ReadId, query: QueryId) {
        let now = self.now;
        let Some(session) = self.sessions.get_mut(id) else { return };
        let Some(stage) = &mut session.stage else { return };
        let Some(state) = self.queries.get_mut(&query) else { return };
        // Through the query's subscribers: a session with a thousand subscriptions gets a thousand of these.
        let names: Vec<_> = state.subscribers.of_session(id).cloned().collect();
        for name in &names {
            let Some(sub) = session.subs.get_mut(name) else { continue };
            if stage.expects(name, query, read) {
                stage.settle(name);
                let Stage { updates, committed_at, .. } = stage;
                take_news(now, name, sub, state, Standing::InCut, updates, committed_at);
            }
        }
        self.send_stage_if_complete(id);
    }

    /// Hands a stage a value that is not the live query's present one, though it may be equal to it.
    pub(crate) fn deliver_as(
        &mut self,
        id: SessionId,
        read: ReadId,
        query: QueryId,
        kind: Option<UpdateKind>,
        is_present: bool,
        touched_at: Option<PgTimestamp>,
    ) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        let Some(stage) = &mut session.stage else { return };
        let Some(state) = self.queries.get(&query) else { return };
        for name in state.subscribers.of_session(id) {
            let Some(sub) = session.subs.get_mut(name) else { continue };
            if stage.expects(name, query, read) {
                stage.settle(name);
                let is_told = is_present && !sub.stale && sub.told == Told::Version(state.version);
                if let Some(kind) = kind.clone().filter(|_| !is_told) {
                    let is_news = !is_first(sub, state) && is_shown(name);
                    if is_news && !matches!(kind, UpdateKind::Error { .. }) {
                        stage.committed_at = stage.committed_at.max(touched_at);
                    }
                    sub.told = Told::Reset;
                    sub.have = None;
                    // It is in the cut again: that it was not need not be said any more.
                    sub.stale = false;
                    stage.updates.retain(|update| update.sub != *name);
                    stage.updates.push(Update { sub: name.clone(), kind });
                }
            }
        }
        self.send_stage_if_complete(id);
    }

    fn send_stage_if_complete(&mut self, id: SessionId) {
        let now = self.now;
        let Some(session) = self.sessions.get_mut(id) else { return };
        if session.stage.as_ref().is_some_and(|stage| stage.is_complete(now)) {
            self.counters.transitions += 1;
            session.send_stage(now);
            self.sessions.held.remove(&id);
            self.sessions.stir(id);
        }
    }

    /// Dissolves the stages that wait for an answer that will not come: their sessions move another way. What they had
    /// taken down is sent again, whole.
    pub(crate) fn forget_waiting(&mut self, read: ReadId, id: QueryId) {
        for (_, session) in self.stages_waiting(read, id) {
            self.dissolve_stage(session);
        }
    }

    pub(crate) fn dissolve_stage(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        let Some(stage) = session.stage.take() else { return };
        session.reflections.give_back(stage.reflects);
        for update in stage.updates {
            match update.kind {
                UpdateKind::Stale(_) => session.stale_updates.push(update),
                _ => session.untell(&update.sub),
            }
        }
        self.sessions.stir(id);
    }

    /// Dissolves all stages.
    pub(crate) fn dissolve_stages(&mut self) {
        let staged = self.sessions.iter().filter(|(_, session)| session.stage.is_some());
        let staged: Vec<_> = staged.map(|(id, _)| id).collect();
        for id in staged {
            self.dissolve_stage(id);
        }
    }

    /// Lets go what has held sessions too long, and tells idle ones that they are up to date.
    pub(crate) fn tick_sessions(&mut self) {
        let held: Vec<_> = self.sessions.held.iter().copied().collect();
        for id in held {
            self.release_stage(id);
            self.sessions.stir(id);
        }
        let (now, heartbeat) = (self.now, self.limits.heartbeat);
        if now < self.rounds_due {
            return;
        }
        let rounds = self.rounds_interval();
        self.rounds_due = now + rounds;
        let idle =
            self.sessions.iter().filter(|(_, session)| now + rounds >= session.told_at + heartbeat);
        let idle: Vec<_> = idle.map(|(id, _)| id).collect();
        for id in idle {
            self.sessions.stir(id);
        }
        self.refuse_the_unanswered();
    }

    /// Sends a stage without what has kept it waiting longer than its hold.
    fn release_stage(&mut self, id: SessionId) {
        let now = self.now;
        let Some(session) = self.sessions.get_mut(id) else { return };
        let (Some(stage), Some(since)) = (&mut session.stage, session.held_since) else { return };
        let shown = session.shown;
        let hold_of = |id: &QueryId| {
            let query = self.queries.get(id);
            query.map_or(Duration::ZERO, |query| hold(&self.templates, query, self.limits.max_hold))
        };
        let longest = stage.waiting.values().map(|(query, _)| hold_of(query)).max();
        let longest = longest.unwrap_or_default();
        let is_late = |name: &Arc<str>, query: &QueryId| {
            let sub = session.subs.get(name);
            sub.is_none_or(|sub| sub.is_late(now, since, hold_of(query), longest))
        };
        let late: Vec<_> = stage
            .waiting
            .iter()
            .filter(|(name, (query, _))| is_late(name, query))
            .map(|(name, _)| name.clone())
            .collect();
        for name in late {
            stage.waiting.remove(&name);
            if let Some(sub) = session.subs.get_mut(&name) {
                sub.stale = true;
                self.counters.stale += 1;
                let kind = UpdateKind::Stale(sub.as_of(shown));
                stage.updates.push(Update { sub: name, kind });
            }
        }
        self.send_stage_if_complete(id);
    }

    /// Ends subscriptions that have had no answer for too long.
    fn refuse_the_unanswered(&mut self) {
        let (now, patience) = (self.now, self.limits.first_answer_max);
        let unanswered = |sub: &Sub| sub.told == Told::Nothing && now >= sub.since + patience;
        let late: Vec<_> = self
            .sessions
            .iter()
            .flat_map(|(id, session)| session.subs.iter().map(move |(name, sub)| (id, name, sub)))
            .filter(|(_, _, sub)| unanswered(sub) && !self.is_being_answered(sub))
            .map(|(id, name, _)| (id, name.clone()))
            .collect();
        if late.is_empty() {
            return;
        }
        let reasons = self.templates.why_applicants_wait();
        for (session, name) in late {
            let reason = reasons.get(&(session, name.clone()));
            let reason = reason.map(|error| format!(": {}", error.message)).unwrap_or_default();
            let message = format!(
                "no answer within {} s: the database could not be asked{reason}",
                patience.as_secs()
            );
            self.refuse(session, &name, QueryError::new(ErrorCode::Unavailable, message));
        }
    }

    /// Returns whether a subscription's first answer is only a matter of its statement's own time.
    fn is_being_answered(&self, sub: &Sub) -> bool {
        let query = sub.query.and_then(|query| self.queries.get(&query));
        query.is_some_and(|query| !query.reads.is_empty() || query.knowledge == Knowledge::Known)
    }

    /// Returns when [`Engine::tick_sessions`] has something to do.
    pub(crate) fn sessions_deadline(&self) -> Instant {
        /// How finely holds and heartbeats are kept.
        const GRAIN: Duration = Duration::from_millis(20);
        let held = (!self.sessions.held.is_empty()).then(|| self.now + GRAIN);
        held.into_iter().chain([self.rounds_due]).min().unwrap_or(self.rounds_due)
    }
}

/// Returns how long a live query may hold its sessions.
fn hold(templates: &crate::templates::Templates, query: &LiveQuery, default: Duration) -> Duration {
    let stated =
        templates.get(query.template).and_then(|entry| entry.statement.directives.max_hold);
    stated.unwrap_or(default)
}

/// How a live query's present value stands to the cut that is being written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It is the value there.
    InCut,
    /// It is an older one.
    Behind,
    /// It is an older one, and has been for so long that it is better than nothing.
    BehindAndLate,
}

impl Standing {
    fn at_head(query: &LiveQuery, sub: &Sub, now: Instant, patience: Duration) -> Self {
        match query.knowledge {
            Knowledge::Known => Standing::InCut,
            _ if now >= sub.since + patience => Standing::BehindAndLate,
            _ => Standing::Behind,
        }
    }
}

/// Returns whether what a subscription is told next joins it to the session's cuts: its first answer, and the next after an
/// error.
fn is_first(sub: &Sub, query: &LiveQuery) -> bool {
    matches!(sub.told, Told::Nothing | Told::Interrupted(_))
        || (sub.shows == Shows::Error && sub.told != Told::Version(query.version))
}

/// Returns whether a client sees what this subscription is told.
fn is_shown(sub: &str) -> bool {
    sub != IDENTITY_SUB
}

/// Writes down what a subscription must be told, and notes that it was.
fn take_news(
    now: Instant,
    name: &Arc<str>,
    sub: &mut Sub,
    query: &mut LiveQuery,
    standing: Standing,
    updates: &mut Vec<Update>,
    committed_at: &mut Option<PgTimestamp>,
) {
    let is_first = is_first(sub, query);
    if matches!(query.value, Value::None) || (is_first && standing == Standing::Behind) {
        return;
    }
    let was_stale = sub.stale;
    // An error is of no point of the line: it is not stale, and nothing but a snapshot follows it.
    let is_failed = matches!(query.value, Value::Failed(_));
    sub.stale = standing != Standing::InCut && (was_stale || is_first) && !is_failed;
    let news = query.news(sub.told, sub.have.as_deref().copied());
    if news.is_none() && matches!(sub.told, Told::Interrupted(_)) {
        return;
    }
    if was_stale && (news.is_some() || !sub.stale) {
        // That it fell behind may not have been told yet, and is said anew where it still is so.
        updates.retain(|update| update.sub != *name);
    }
    match news {
        Some(kind) => {
            query.why.told(now);
            // An error shows no transaction, whichever it was that a read failed over; nor does what has not changed.
            let is_news = !is_first && is_shown(name);
            if is_news && matches!(kind, UpdateKind::Snapshot(_) | UpdateKind::Diffs(_)) {
                *committed_at = (*committed_at).max(query.changed_at);
            }
            updates.push(Update { sub: name.clone(), kind });
            if sub.stale {
                let as_of = UpdateKind::Stale(query.value_label);
                updates.push(Update { sub: name.clone(), kind: as_of });
            }
        }
        None if was_stale && !sub.stale && !is_failed => {
            updates.push(Update { sub: name.clone(), kind: UpdateKind::Unchanged });
        }
        None => {}
    }
    sub.have = None;
    sub.told = Told::Version(query.version);
}
