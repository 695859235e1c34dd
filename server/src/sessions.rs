//! Sessions as the wire knows them: ids and resume tokens, which names were used, one stream each, and a time to live.
//!
//! The engine knows a session by a number and keeps its subscriptions; this keeps what has to be known of what was
//! *sent*: the engine can't tell what of it arrived. A resume token says up to which transition the client has got:
//! from then on, final errors are repeated, and only digests from before count as known.

use crate::limits::RequestLimits;
use crate::metrics::Counters;
use crate::pipeline::EventQueue;
use crate::protocol::{ApiError, Code, Goodbye, Numbers, TransitionWriter};
use crate::sse::{Item, QueueOutbox, StreamQueue};
use crate::stream_memory::StreamMemory;
use bytes::Bytes;
use convoy_engine::{Digest, Event, SessionId, Update, UpdateKind};
use convoy_types::Lsn;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Final errors that a session remembers, to repeat them where a stream broke.
const FINAL_ERRORS_MAX: usize = 256;

/// What is known of a subscription's name.
#[derive(Default)]
struct Sub {
    /// Whether it ended: nothing that names it is sent any more.
    is_gone: bool,
    /// The digest that was sent last, and with which transition; 0 for what the client said it had from before.
    sent: Option<(u64, Digest)>,
    /// After a resume, until the next update: whether the client has what was sent last.
    has_it: bool,
    /// With which transition it was first told anything, if the client may have that. A first answer is no diff.
    answered: Option<u64>,
}

#[derive(Default)]
struct State {
    subs: HashMap<Arc<str>, Sub>,
    active: usize,
    /// The number of the last transition sent.
    sequence: u64,
    last_lsn: Lsn,
    /// After a resume, until the next transition of the engine's: the client may not have what `last_lsn` promises.
    is_behind: bool,
    /// Final errors with the transition that told them.
    final_errors: Vec<(u64, Arc<str>, ApiError)>,
    /// Final errors that no transition has told yet. Bounded by the names that a session may use.
    untold: Vec<(Arc<str>, ApiError)>,
    stream: Option<Arc<StreamQueue>>,
    /// When the stream went; none while there is one.
    detached_at: Option<Instant>,
    is_over: bool,
}

/// What was written to a stream.
#[derive(Clone, Copy, Debug, Default)]
pub struct Written {
    /// Updates in all.
    pub updates: usize,
    /// Those that say only that what the client has is right.
    pub unchanged: usize,
}

/// A session.
pub struct Session {
    id: SessionId,
    wire_id: String,
    secret: String,
    /// Whose it is: nobody else gets at it ([`Identity::key`](crate::auth::Identity)).
    owner: Arc<str>,
    /// For a stream of one query: which. Its token is worth nothing for another.
    scope: Option<String>,
    state: Mutex<State>,
}

impl Session {
    /// Returns the engine's number.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// Returns the id as clients know it.
    pub fn wire_id(&self) -> &str {
        &self.wire_id
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the digest of what this session has told the client of a subscription, as far as it is known that it
    /// arrived. What it has from before is none of that: a first answer is whole.
    pub fn has(&self, sub: &str) -> Option<Digest> {
        let state = self.lock();
        let sub = state.subs.get(sub).filter(|sub| sub.has_it && sub.answered.is_some())?;
        sub.sent.map(|(_, digest)| digest)
    }

    /// Writes what waited in a stream's queue; returns what that was. Nothing once another stream has taken over, which
    /// is told what this one was not.
    pub fn encode(
        &self,
        stream: &Arc<StreamQueue>,
        item: Item,
        numbers: Numbers,
        chunks: &mut Vec<Bytes>,
    ) -> Written {
        let mut guard = self.lock();
        let state = &mut *guard;
        if !state.is_current(stream) {
            state.rescue([item]);
            return Written::default();
        }
        state.sequence += 1;
        let token = format!("{}-{}", self.secret, state.sequence);
        match item {
            Item::Transition(transition) => {
                // What was told before stays true of whatever comes after.
                state.last_lsn = state.last_lsn.max(transition.lsn);
                state.is_behind = false;
                let (committed_at, reflects) = (transition.committed_at, &transition.reflects);
                let mut writer = TransitionWriter::begin(
                    chunks,
                    numbers,
                    &token,
                    state.last_lsn,
                    committed_at,
                    reflects,
                );
                let mut unchanged = 0;
                for update in transition.updates {
                    unchanged += usize::from(!state.write(&mut writer, update));
                }
                state.write_untold(&mut writer);
                Written { updates: writer.end(), unchanged }
            }
            Item::Refused => {
                let mut writer =
                    TransitionWriter::begin(chunks, numbers, &token, state.last_lsn, None, &[]);
                state.write_untold(&mut writer);
                Written { updates: writer.end(), unchanged: 0 }
            }
        }
    }
}

impl Session {
    /// Writes a transition where none was ever written: without its token nobody could go on with the session.
    pub fn encode_first(
        &self,
        stream: &Arc<StreamQueue>,
        numbers: Numbers,
        chunks: &mut Vec<Bytes>,
    ) {
        if self.lock().sequence == 0 {
            self.encode(stream, Item::Refused, numbers, chunks);
        }
    }

    /// Returns why a stream of one query has nothing more to say; none while it may.
    pub fn last_word(&self) -> Option<Goodbye> {
        self.scope.as_ref()?;
        let state = self.lock();
        state.final_errors.last().map(|(_, _, error)| Goodbye::refused(error))
    }

    /// Takes in what never got as far as a stream. Results come anew when the session is resumed; final errors would
    /// not.
    pub fn rescue(&self, items: impl IntoIterator<Item = Item>) {
        self.lock().rescue(items);
    }
}

impl State {
    fn is_current(&self, stream: &Arc<StreamQueue>) -> bool {
        self.stream.as_ref().is_some_and(|current| Arc::ptr_eq(current, stream))
    }

    fn standing(&self, name: &str) -> Standing {
        match self.subs.get(name) {
            None => Standing::Free,
            Some(sub) if !sub.is_gone => Standing::Stands,
            Some(_) if self.untold.iter().any(|(untold, _)| **untold == *name) => Standing::Stands,
            Some(_) => Standing::Gone(used_before(name)),
        }
    }

    /// Marks names as used, each with the digest that the client has.
    fn claim<'a>(
        &mut self,
        limits: &RequestLimits,
        names: impl Iterator<Item = &'a (Arc<str>, Option<Digest>)> + Clone,
    ) -> Result<(), ApiError> {
        let count = names.clone().count();
        let limit = |there: usize, max: usize, what: &str, flag: &str| {
            if there + count > max {
                let message = format!("a session has at most {max} {what} ({flag})");
                return Err(ApiError::new(Code::LimitExceeded, message));
            }
            Ok(())
        };
        limit(self.active, limits.subscriptions_max, "subscriptions", "--subscriptions-max")?;
        limit(
            self.subs.len(),
            limits.subscription_names_max,
            "names of subscriptions in its life",
            "--subscription-names-max",
        )?;
        self.subs.extend(names.map(|(name, have)| {
            let sent = have.map(|digest| (0, digest));
            (name.clone(), Sub { sent, ..Sub::default() })
        }));
        self.active += count;
        Ok(())
    }

    fn rescue(&mut self, items: impl IntoIterator<Item = Item>) {
        for item in items {
            let Item::Transition(transition) = item else { continue };
            for update in transition.updates {
                if let UpdateKind::Error { last: true, error } = update.kind
                    && self.subs.get(&update.sub).is_some_and(|sub| !sub.is_gone)
                {
                    self.end(&update.sub);
                    self.untold.push((update.sub, error.into()));
                }
            }
        }
        self.tell_untold();
    }

    /// Lets the stream tell final errors that nothing has told. One that goes on where another broke has to wait for the
    /// engine's next transition, which is due at once: before it, no position is true of what the client has.
    fn tell_untold(&self) {
        let may_go = !self.untold.is_empty() && (!self.is_behind || self.active == 0);
        if let Some(stream) = self.stream.as_ref().filter(|_| may_go) {
            stream.push_refused();
        }
    }

    fn write_untold(&mut self, writer: &mut TransitionWriter<'_>) {
        for (sub, error) in std::mem::take(&mut self.untold) {
            writer.error(&sub, true, &error);
            self.remember_error(sub, error);
        }
    }

    /// Writes an update; returns whether it says more than that what the client has is right.
    fn write(&mut self, writer: &mut TransitionWriter<'_>, update: Update) -> bool {
        let sequence = self.sequence;
        let Some(sub) = self.subs.get_mut(&update.sub) else { return true };
        if sub.is_gone {
            return true;
        }
        let has_it = std::mem::take(&mut sub.has_it);
        sub.answered.get_or_insert(sequence);
        match update.kind {
            UpdateKind::Snapshot(snapshot) => {
                let digest = snapshot.value.digest;
                let had = sub.sent.as_ref().filter(|_| has_it).map(|(_, digest)| *digest);
                if had == Some(digest) {
                    // It had it before this frame, and has it also where this one is lost.
                    writer.unchanged(&update.sub);
                    return false;
                } else {
                    writer.snapshot(&update.sub, &snapshot);
                    sub.sent = Some((sequence, digest));
                }
            }
            UpdateKind::Diffs(diffs) => {
                writer.diffs(&update.sub, &diffs);
                sub.sent = diffs.last().map(|diff| (sequence, diff.value.digest));
            }
            UpdateKind::Unchanged => {
                writer.unchanged(&update.sub);
                return false;
            }
            UpdateKind::Stale(lsn) => {
                writer.stale(&update.sub, lsn);
                // The update that ends staleness may still find the client with what it had.
                sub.has_it = has_it;
            }
            UpdateKind::Error { last, error } => {
                let error = ApiError::from(error);
                writer.error(&update.sub, last, &error);
                // The next one is a snapshot, whatever the client had.
                sub.sent = None;
                if last {
                    self.remember_error(update.sub, error);
                }
            }
        }
        true
    }

    /// Ends a subscription, and keeps its error until the client is known to have it.
    fn remember_error(&mut self, sub: Arc<str>, error: ApiError) {
        self.end(&sub);
        if self.final_errors.len() >= FINAL_ERRORS_MAX {
            self.final_errors.remove(0);
        }
        self.final_errors.push((self.sequence, sub, error));
    }

    fn end(&mut self, sub: &Arc<str>) {
        let known = self.subs.entry(sub.clone()).or_default();
        if !known.is_gone {
            self.active -= usize::from(self.active > 0);
        }
        *known = Sub { is_gone: true, ..Sub::default() };
    }
}

/// Which digests a client has, by `sub`.
pub type Digests = HashMap<Arc<str>, Digest>;

/// A stream that may begin.
pub struct Attached {
    /// The session.
    pub session: Arc<Session>,
    /// The queue to read from.
    pub queue: Arc<StreamQueue>,
    /// Whether it is a session that was there before.
    pub resumed: bool,
}

/// What a name is to a session.
#[derive(Debug)]
pub enum Standing {
    /// It was never used.
    Free,
    /// A subscription has it, or its end is on its way to the client.
    Stands,
    /// It was used, and no subscription has it any more.
    Gone(ApiError),
}

/// All sessions.
pub struct Sessions {
    by_wire_id: Mutex<HashMap<String, Arc<Session>>>,
    by_secret: Mutex<HashMap<String, Arc<Session>>>,
    queue: Arc<EventQueue>,
    limits: RequestLimits,
    memory: Arc<StreamMemory>,
    counters: Arc<Counters>,
    next_id: AtomicU64,
    stopping: Mutex<bool>,
}

impl Sessions {
    /// Returns a place without sessions, whose streams share this memory.
    pub fn new(
        queue: Arc<EventQueue>,
        limits: RequestLimits,
        memory: Arc<StreamMemory>,
        counters: Arc<Counters>,
    ) -> Self {
        Sessions {
            by_wire_id: Mutex::default(),
            by_secret: Mutex::default(),
            queue,
            limits,
            memory,
            counters,
            next_id: AtomicU64::new(1),
            stopping: Mutex::new(false),
        }
    }

    /// Returns the counters that streams keep.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Returns what streams share.
    pub fn memory(&self) -> &Arc<StreamMemory> {
        &self.memory
    }

    /// Checks that there is memory for another stream, or answer.
    ///
    /// # Errors
    /// `LIMIT_EXCEEDED` where there is none.
    pub fn check_memory(&self) -> Result<(), ApiError> {
        if !self.memory.is_full() {
            return Ok(());
        }
        let message = format!(
            "{} bytes wait for clients, more than {} (--memory-streams, a part of --memory-limit): try again when they \
             have read",
            self.memory.used(),
            self.memory.bytes_max()
        );
        Err(ApiError::new(Code::LimitExceeded, message))
    }

    /// Lets go what waits for clients that have not taken it, where memory is tight: what is so by the time they do comes
    /// in its place.
    pub fn relieve(&self) {
        if !self.memory.is_tight() {
            return;
        }
        let streaming: Vec<_> = lock(&self.by_wire_id).values().cloned().collect();
        for session in streaming {
            let mut state = session.lock();
            let Some(waited) = state.stream.as_ref().and_then(|stream| stream.collapse()) else {
                continue;
            };
            state.rescue(waited);
            // Under the lock: not after a resume's event, whose outbox has lost nothing.
            self.queue.push_control(Event::OutboxLost(session.id));
        }
    }

    /// Returns how many sessions there are, and how many of them have a stream.
    pub fn count(&self) -> (usize, usize) {
        let sessions = lock(&self.by_wire_id);
        let streaming = sessions.values().filter(|session| session.lock().stream.is_some()).count();
        (sessions.len(), streaming)
    }

    /// Returns a number for an engine's session that has no wire.
    pub fn next_id(&self) -> SessionId {
        SessionId(self.next_id.fetch_add(1, Ordering::Relaxed))
    }

    /// Returns a session of this owner's by its id.
    ///
    /// # Errors
    /// `NOT_FOUND` where there is none, or none any more, or where it is somebody else's.
    pub fn find(&self, wire_id: &str, owner: &str) -> Result<Arc<Session>, ApiError> {
        let found = lock(&self.by_wire_id).get(wire_id).cloned();
        found.filter(|session| *session.owner == *owner).ok_or_else(|| {
            ApiError::new(
                Code::NotFound,
                "no such session: open a stream with POST /api/sync, its hello names one",
            )
        })
    }

    /// Begins a session of this owner's with a stream.
    ///
    /// # Errors
    /// `LIMIT_EXCEEDED` where there are too many or too much waits for them, `UNAVAILABLE` while the server stops.
    pub fn open(&self, scope: Option<String>, owner: &Arc<str>) -> Result<Attached, ApiError> {
        self.check_memory()?;
        let is_stopping = lock(&self.stopping);
        if *is_stopping {
            return Err(ApiError::new(Code::Unavailable, "the server is shutting down"));
        }
        let mut sessions = lock(&self.by_wire_id);
        if sessions.len() >= self.limits.sessions_max {
            return Err(ApiError::new(
                Code::LimitExceeded,
                format!(
                    "there are {} sessions, and no more are taken (--sessions-max)",
                    sessions.len()
                ),
            ));
        }
        let stream = StreamQueue::new(&self.limits.stream(), self.memory.clone());
        let session = Arc::new(Session {
            id: self.next_id(),
            wire_id: random_token(),
            secret: random_token(),
            owner: owner.clone(),
            scope,
            // Whatever the engine tells this session is from here or later.
            state: Mutex::new(State {
                stream: Some(stream.clone()),
                last_lsn: self.queue.confirmed(),
                ..State::default()
            }),
        });
        sessions.insert(session.wire_id.clone(), session.clone());
        lock(&self.by_secret).insert(session.secret.clone(), session.clone());
        self.queue.push_control(Event::SessionOpened(session.id, outbox(&session, &stream)));
        Ok(Attached { session, queue: stream, resumed: false })
    }

    /// Goes on with a session where the token says, and the digests that the client says it has; none where the token
    /// is none of a session of this owner's that lives.
    pub fn resume(
        &self,
        token: &str,
        scope: Option<&str>,
        have: &Digests,
        owner: &str,
    ) -> Option<Attached> {
        let (secret, sequence) = token.rsplit_once('-')?;
        let sequence: u64 = sequence.parse().ok()?;
        let session = lock(&self.by_secret).get(secret).cloned()?;
        if session.scope.as_deref() != scope || *session.owner != *owner {
            return None;
        }
        let stream = StreamQueue::new(&self.limits.stream(), self.memory.clone());
        let mut guard = session.lock();
        let state = &mut *guard;
        if state.is_over || sequence > state.sequence {
            return None;
        }
        let is_told = |(with, _, _): &(u64, Arc<str>, ApiError)| *with <= sequence;
        let has_ended = !state.final_errors.is_empty() && state.untold.is_empty();
        if scope.is_some() && has_ended && state.final_errors.iter().all(is_told) {
            // Its one query was refused for now, and the client knows: it comes back to ask anew.
            return None;
        }
        state.is_behind = true;
        if let Some(older) = state.stream.replace(stream.clone()) {
            state.rescue(older.end(Goodbye::superseded()));
        }
        state.detached_at = None;
        for (name, sub) in state.subs.iter_mut().filter(|(_, sub)| !sub.is_gone) {
            // What was sent later may never have arrived.
            sub.sent.take_if(|(sent_with, _)| *sent_with > sequence);
            sub.answered.take_if(|answered_with| *answered_with > sequence);
            if let Some(digest) = have.get(name) {
                sub.sent = Some((sequence, *digest));
            }
            sub.has_it = sub.sent.is_some();
        }
        let told = std::mem::take(&mut state.final_errors);
        let lost = told.into_iter().filter(|error| !is_told(error));
        state.untold.extend(lost.map(|(_, sub, error)| (sub, error)));
        state.tell_untold();
        // Under the lock: a session's streams reach the engine in the order in which they came.
        self.queue.push_control(Event::SessionResumed(session.id, outbox(&session, &stream)));
        drop(guard);
        Some(Attached { session, queue: stream, resumed: true })
    }

    /// A stream ended; its session may be resumed for a while.
    pub fn detach(&self, session: &Session, stream: &Arc<StreamQueue>) {
        let left = stream.close();
        let mut state = session.lock();
        state.rescue(left);
        if state.is_current(stream) {
            state.stream = None;
            state.detached_at = Some(Instant::now());
        }
    }

    /// A stream that was full has room again.
    pub fn drained(&self, session: &Session) {
        self.queue.push_control(Event::OutboxDrained(session.id));
    }

    /// Marks names as used, all of them or none, each with the digest that the client has.
    ///
    /// # Errors
    /// `INVALID_ARGS` for a name that was used before, `LIMIT_EXCEEDED` for too many.
    pub fn claim(
        &self,
        session: &Session,
        names: &[(Arc<str>, Option<Digest>)],
    ) -> Result<(), ApiError> {
        let mut state = session.lock();
        if let Some((used, _)) = names.iter().find(|(name, _)| state.subs.contains_key(name)) {
            return Err(used_before(used));
        }
        state.claim(&self.limits, names.iter())
    }

    /// Marks those names as used that are free, for a client that comes back and names all that it wants. Returns what
    /// each was to the session before.
    ///
    /// # Errors
    /// `LIMIT_EXCEEDED` for too many, and then none is marked.
    pub fn claim_free(
        &self,
        session: &Session,
        names: &[(Arc<str>, Option<Digest>)],
    ) -> Result<Vec<Standing>, ApiError> {
        // In one turn: of two requests that come at once, one finds the names free.
        let mut state = session.lock();
        let standings: Vec<_> = names.iter().map(|(name, _)| state.standing(name)).collect();
        let free = names.iter().zip(&standings);
        let free = free.filter(|(_, standing)| matches!(standing, Standing::Free));
        state.claim(&self.limits, free.map(|(name, _)| name))?;
        Ok(standings)
    }

    /// Tells the stream, or whoever resumes the session, that these subscriptions are none.
    pub fn refuse(&self, session: &Session, refused: Vec<(Arc<str>, ApiError)>) {
        if refused.is_empty() {
            return;
        }
        let mut state = session.lock();
        for (sub, error) in refused {
            state.end(&sub);
            state.untold.push((sub, error));
        }
        state.tell_untold();
    }

    /// From now on nothing that names these is sent. Returns those that stood.
    pub fn unsubscribe(&self, session: &Session, subs: &[Arc<str>]) -> Vec<Arc<str>> {
        let mut state = session.lock();
        let mut stood = Vec::new();
        for sub in subs {
            if state.subs.get(sub).is_some_and(|known| !known.is_gone) {
                state.end(sub);
                stood.push(sub.clone());
            }
        }
        stood
    }

    /// Ends the sessions that nobody came back for.
    pub fn expire(&self) {
        let ttl = self.limits.session_ttl;
        let is_due = |state: &State| state.detached_at.is_some_and(|since| since.elapsed() >= ttl);
        let due: Vec<_> = lock(&self.by_wire_id)
            .values()
            .filter(|session| is_due(&session.lock()))
            .cloned()
            .collect();
        for session in due {
            let mut state = session.lock();
            // It may have been resumed meanwhile.
            if is_due(&state) {
                state.is_over = true;
                drop(state);
                self.forget(&session);
            }
        }
    }

    fn forget(&self, session: &Session) {
        lock(&self.by_wire_id).remove(&session.wire_id);
        lock(&self.by_secret).remove(&session.secret);
        self.queue.push_control(Event::SessionClosed(session.id));
    }

    /// Says goodbye to every stream and takes no more.
    pub fn shut_down(&self) {
        *lock(&self.stopping) = true;
        let sessions = lock(&self.by_wire_id);
        for (index, session) in sessions.values().enumerate() {
            let mut state = session.lock();
            state.is_over = true;
            if let Some(stream) = state.stream.take() {
                let _ = stream.end(Goodbye::shutting_down(index, sessions.len()));
            }
        }
    }
}

fn used_before(name: &str) -> ApiError {
    ApiError::invalid(format!(
        "sub {name:?} was used before in this session: give each subscription a name of its own"
    ))
}

fn outbox(session: &Arc<Session>, queue: &Arc<StreamQueue>) -> Box<QueueOutbox> {
    Box::new(QueueOutbox { session: session.clone(), queue: queue.clone() })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing in here panics half way.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns 128 random bits.
fn random_token() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// How often sessions are looked at for whether their time has come.
pub fn expiry_interval(ttl: Duration) -> Duration {
    (ttl / 10).clamp(Duration::from_millis(10), Duration::from_secs(1))
}

#[cfg(test)]
mod tests;
