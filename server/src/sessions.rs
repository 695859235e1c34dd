//! Sessions as the wire knows them: ids and resume tokens, which names were used, one stream each, and a time to live.
//!
//! The engine knows a session by a number and keeps its subscriptions; this keeps what has to be known of what was
//! *sent*: the engine can't tell what of it arrived. A resume token says up to which transition the client has got:
//! from then on, final errors are repeated, and only digests from before count as known.

use crate::auth::Caller;
use crate::limits::{MemoryParts, RequestLimits};
use crate::metrics::Counters;
use crate::pipeline::EventQueue;
use crate::protocol::{ApiError, Code, Goodbye, ResumeToken};
use crate::sse::StreamQueue;
use crate::stream_memory::StreamMemory;
use convoy_engine::{Event, SessionId};
use memory::Kept;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

mod memory;
mod session;
mod state;

pub use crate::protocol::{Claim, Digests};
pub use memory::SessionMemory;
pub use session::{Session, Written};
pub use state::Standing;

/// A stream that may begin.
pub struct Attached {
    /// The session.
    pub session: Arc<Session>,
    /// The queue to read from.
    pub queue: Arc<StreamQueue>,
    /// Whether it is a session that was there before.
    pub resumed: bool,
}

/// All sessions.
pub struct Sessions {
    by_wire_id: Mutex<HashMap<String, Arc<Session>>>,
    by_secret: Mutex<HashMap<String, Arc<Session>>>,
    queue: Arc<EventQueue>,
    limits: RequestLimits,
    memory: Arc<StreamMemory>,
    kept: Arc<SessionMemory>,
    counters: Arc<Counters>,
    next_id: AtomicU64,
    stopping: Mutex<bool>,
}

impl Sessions {
    /// Returns a place without sessions, which share their parts of memory.
    pub fn new(
        queue: Arc<EventQueue>,
        limits: RequestLimits,
        memory: &MemoryParts,
        counters: Arc<Counters>,
    ) -> Self {
        Sessions {
            by_wire_id: Mutex::default(),
            by_secret: Mutex::default(),
            queue,
            limits,
            memory: StreamMemory::new(memory.streams),
            kept: SessionMemory::new(memory.sessions),
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

    /// Returns what sessions take by themselves.
    pub fn kept(&self) -> &SessionMemory {
        &self.kept
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
        Err(ApiError::no_room(message))
    }

    /// Lets go what waits for clients that have not taken it, where memory is tight: what is so by the time they do comes
    /// in its place.
    pub fn relieve(&self) {
        if !self.memory.is_tight() {
            return;
        }
        let streaming: Vec<_> = lock(&self.by_wire_id).values().cloned().collect();
        streaming.iter().for_each(|session| session.collapse(&self.queue));
    }

    /// Returns how many sessions there are, and how many of them have a stream.
    pub fn count(&self) -> (usize, usize) {
        let sessions = lock(&self.by_wire_id);
        let streaming = sessions.values().filter(|session| session.is_streaming()).count();
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
        let is_theirs = |session: &Arc<Session>| *session.owner == *owner && !session.is_over();
        found.filter(is_theirs).ok_or_else(|| {
            ApiError::new(
                Code::NotFound,
                "no such session: open a stream with POST /api/sync, its hello names one",
            )
        })
    }

    /// Begins a session of this caller's with a stream.
    ///
    /// # Errors
    /// `LIMIT_EXCEEDED` where there are too many or too much waits for them, `UNAVAILABLE` while the server stops.
    pub fn open(&self, scope: Option<String>, caller: &Caller) -> Result<Attached, ApiError> {
        self.check_memory()?;
        let is_stopping = lock(&self.stopping);
        if *is_stopping {
            return Err(ApiError::new(Code::Unavailable, "the server is shutting down"));
        }
        let mut sessions = lock(&self.by_wire_id);
        if sessions.len() >= self.limits.sessions_max {
            return Err(ApiError::no_room(format!(
                "there are {} sessions, and no more are taken (--sessions-max)",
                sessions.len()
            )));
        }
        let kept = Kept::session(&self.kept)?;
        let stream = StreamQueue::new(&self.limits.stream(), self.memory.clone());
        let (id, confirmed) = (self.next_id(), self.queue.confirmed());
        let owner = caller.key.clone();
        let session = Session::begin(id, owner, scope, stream.clone(), confirmed, kept);
        sessions.insert(session.wire_id.clone(), session.clone());
        lock(&self.by_secret).insert(session.secret.clone(), session.clone());
        self.queue.push_control(Event::SessionOpened(session.id(), session.outbox(&stream)));
        if caller.watch.is_some() {
            // Before it subscribes to anything.
            session.watch(caller, &self.queue);
        }
        Ok(Attached { session, queue: stream, resumed: false })
    }

    /// Goes on with a session where the token says, and the digests that the client says it has; none where the token
    /// is none of a session of this caller's that lives.
    pub fn resume(
        &self,
        token: &str,
        scope: Option<&str>,
        have: &Digests,
        caller: &Caller,
    ) -> Option<Attached> {
        let ResumeToken { secret, sequence } = ResumeToken::read(token)?;
        let session = lock(&self.by_secret).get(secret).cloned()?;
        if session.scope.as_deref() != scope || session.owner != caller.key {
            return None;
        }
        let stream = StreamQueue::new(&self.limits.stream(), self.memory.clone());
        let resumed = session.resume(&stream, sequence, have, caller, &self.queue);
        resumed.then_some(Attached { session, queue: stream, resumed })
    }

    /// A stream that was full has room again.
    pub fn drained(&self, session: &Session) {
        self.queue.push_control(Event::OutboxDrained(session.id()));
    }

    /// Ends the sessions that nobody came back for, and forgets those that are over.
    pub fn expire(&self) {
        let ttl = self.limits.session_ttl;
        let ended: Vec<_> = lock(&self.by_wire_id)
            .values()
            .filter(|session| session.expire(ttl))
            .cloned()
            .collect();
        ended.iter().for_each(|session| self.forget(session));
    }

    fn forget(&self, session: &Session) {
        lock(&self.by_wire_id).remove(&session.wire_id);
        lock(&self.by_secret).remove(&session.secret);
        self.queue.push_control(Event::SessionClosed(session.id()));
    }

    /// Says goodbye to every stream and takes no more.
    pub fn shut_down(&self) {
        *lock(&self.stopping) = true;
        let sessions = lock(&self.by_wire_id);
        for (index, session) in sessions.values().enumerate() {
            session.shut_down(Goodbye::shutting_down(index, sessions.len()));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing in here panics half way.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How often sessions are looked at for whether their time has come.
pub fn expiry_interval(ttl: Duration) -> Duration {
    (ttl / 10).clamp(Duration::from_millis(10), Duration::from_secs(1))
}

#[cfg(test)]
mod tests;
