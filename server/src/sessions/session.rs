//! One session: its streams, one at a time, and what is written to them.

use super::memory::Kept;
use super::state::{Standing, State, used_before};
use crate::auth::Caller;
use crate::limits::RequestLimits;
use crate::pipeline::EventQueue;
use crate::protocol::Claim;
use crate::protocol::{ApiError, Digests, Goodbye, Numbers, ResumeToken, TransitionWriter};
use crate::sse::{Item, QueueOutbox, StreamQueue};
use bytes::Bytes;
use convoy_engine::{Digest, Event, SessionId, Update, UpdateKind};
use convoy_types::Lsn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

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
    pub(super) wire_id: String,
    pub(super) secret: String,
    /// Whose it is: nobody else gets at it ([`Identity::key`](crate::auth::Identity)).
    pub(super) owner: Arc<str>,
    /// For a stream of one query: which. Its token is worth nothing for another.
    pub(super) scope: Option<String>,
    state: Mutex<State>,
}

impl Session {
    /// Returns a session of this owner's, whose stream begins; its `scope` is the query, where it is one's. What the
    /// engine tells it is from `confirmed` or later.
    pub(super) fn begin(
        id: SessionId,
        owner: Arc<str>,
        scope: Option<String>,
        stream: Arc<StreamQueue>,
        confirmed: Lsn,
        kept: Kept,
    ) -> Arc<Session> {
        Arc::new(Session {
            id,
            wire_id: random_token(),
            secret: random_token(),
            owner,
            scope,
            state: Mutex::new(State::new(stream, confirmed, kept)),
        })
    }

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

    /// Returns a position that what the client has is not from before.
    pub fn label(&self) -> Lsn {
        self.lock().label()
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
        let token = ResumeToken { secret: &self.secret, sequence: state.sequence }.to_string();
        match item {
            Item::Transition(transition) => {
                // What was told before stays true of whatever comes after.
                state.last_lsn = state.last_lsn.max(transition.lsn);
                state.is_behind = false;
                // A final error overtakes what a resume has yet to bring.
                let is_final =
                    |update: &Update| matches!(update.kind, UpdateKind::Error { last: true, .. });
                if transition.updates.is_empty() || !transition.updates.iter().all(is_final) {
                    state.note_label(state.last_lsn);
                }
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

    /// Begins a stream where another, or none, was, for a client that got as far as this transition and says which digests
    /// it has. Returns whether it may.
    pub(super) fn resume(
        self: &Arc<Session>,
        stream: &Arc<StreamQueue>,
        sequence: u64,
        have: &Digests,
        caller: &Caller,
        engine: &EventQueue,
    ) -> bool {
        let mut guard = self.lock();
        let state = &mut *guard;
        if state.is_over || sequence > state.sequence {
            return false;
        }
        let is_told = |(with, _, _): &(u64, Arc<str>, ApiError)| *with <= sequence;
        let has_ended = !state.final_errors.is_empty() && state.untold.is_empty();
        if self.scope.is_some() && has_ended && state.final_errors.iter().all(is_told) {
            // Its one query was refused for now, and the client knows: it comes back to ask anew.
            return false;
        }
        state.is_behind = true;
        if let Some(older) = state.stream.replace(stream.clone()) {
            state.rescue(older.end(Goodbye::superseded()));
        }
        state.detached_at = None;
        while state.labels.pop_back_if(|(sent_with, _)| *sent_with > sequence).is_some() {}
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
        // Under the lock: a session's streams reach the engine in the order in which they came. What the caller has shown
        // this time is what counts: what it showed before may be gone.
        self.watch(caller, engine);
        engine.push_control(Event::SessionResumed(self.id, self.outbox(stream)));
        true
    }

    /// Has the engine watch who it belongs to by what this caller has shown, who is the one to whom it belongs.
    pub(super) fn watch(&self, caller: &Caller, engine: &EventQueue) {
        engine.push_control(Event::IdentityWatched { session: self.id, by: caller.watch.clone() });
    }

    /// Its stream ended; it may be resumed for a while.
    pub fn detach(&self, stream: &Arc<StreamQueue>) {
        let left = stream.close();
        let mut state = self.lock();
        state.rescue(left);
        if state.is_current(stream) {
            state.stream = None;
            state.detached_at = Some(Instant::now());
        }
    }

    /// Marks names as used, all of them or none, each with the digest that the client has.
    ///
    /// # Errors
    /// `INVALID_ARGS` for a name that was used before, `LIMIT_EXCEEDED` for too many.
    pub fn claim(&self, limits: &RequestLimits, claims: &[Claim]) -> Result<(), ApiError> {
        let mut state = self.lock();
        if let Some(used) = claims.iter().find(|claim| state.subs.contains_key(&claim.sub)) {
            return Err(used_before(&used.sub));
        }
        state.claim(limits, claims.iter())
    }

    /// Marks those names as used that are free, for a client that comes back and names all that it wants. Returns what
    /// each was to the session before.
    ///
    /// # Errors
    /// `LIMIT_EXCEEDED` for too many, and then none is marked.
    pub fn claim_free(
        &self,
        limits: &RequestLimits,
        claims: &[Claim],
    ) -> Result<Vec<Standing>, ApiError> {
        // In one turn: of two requests that come at once, one finds the names free.
        let mut state = self.lock();
        let standings: Vec<_> = claims.iter().map(|claim| state.standing(&claim.sub)).collect();
        let free = claims.iter().zip(&standings);
        let free = free.filter(|(_, standing)| matches!(standing, Standing::Free));
        state.claim(limits, free.map(|(claim, _)| claim))?;
        Ok(standings)
    }

    /// Tells the stream, or whoever resumes the session, that these subscriptions are none.
    pub fn refuse(&self, refused: Vec<(Arc<str>, ApiError)>) {
        if refused.is_empty() {
            return;
        }
        let mut state = self.lock();
        for (sub, error) in refused {
            state.end(&sub);
            state.untold.push((sub, error));
        }
        state.tell_untold();
    }

    /// From now on nothing that names these is sent. Returns those that stood.
    pub fn unsubscribe(&self, subs: &[Arc<str>]) -> Vec<Arc<str>> {
        let mut state = self.lock();
        let mut stood = Vec::new();
        for sub in subs {
            if state.subs.get(sub).is_some_and(|known| !known.is_gone) {
                state.end(sub);
                stood.push(sub.clone());
            }
        }
        stood
    }

    /// Lets go what waits for a client that has not taken it.
    pub(super) fn collapse(&self, engine: &EventQueue) {
        let mut state = self.lock();
        let Some(waited) = state.stream.as_ref().and_then(|stream| stream.collapse()) else {
            return;
        };
        state.rescue(waited);
        // Under the lock: not after a resume's event, whose outbox has lost nothing.
        engine.push_control(Event::OutboxLost(self.id));
    }

    /// Returns whether it has a stream.
    pub(super) fn is_streaming(&self) -> bool {
        self.lock().stream.is_some()
    }

    /// Returns whether it was ended for good.
    pub(super) fn is_over(&self) -> bool {
        self.lock().is_over
    }

    /// Ends it where nobody has come back for so long; returns whether it is over.
    pub(super) fn expire(&self, ttl: Duration) -> bool {
        let mut state = self.lock();
        state.is_over |= state.detached_at.is_some_and(|since| since.elapsed() >= ttl);
        state.is_over
    }

    /// Ends it for good, since whoever listens to this stream is no longer who it was. Not where another stream has taken
    /// over, or nobody listens: whoever does next is asked for what it shows then.
    pub fn disown(&self, stream: &Arc<StreamQueue>, goodbye: Goodbye) {
        let mut state = self.lock();
        if state.is_current(stream) {
            state.end_for_good(goodbye);
        }
    }

    /// Ends it for good, whoever listens.
    pub(super) fn shut_down(&self, goodbye: Goodbye) {
        self.lock().end_for_good(goodbye);
    }

    /// Returns where the engine puts what it tells this session by a stream.
    pub(super) fn outbox(self: &Arc<Session>, stream: &Arc<StreamQueue>) -> Box<QueueOutbox> {
        Box::new(QueueOutbox { session: self.clone(), queue: stream.clone() })
    }
}

/// Returns 128 random bits.
fn random_token() -> String {
    format!("{:032x}", rand::random::<u128>())
}
