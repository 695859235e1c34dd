//! Streams: the queue between the engine and one connection, and the body that empties it.
//!
//! The engine puts transitions into the queue ([`QueueOutbox`]) and never waits; it is told when the queue is full, and
//! again when there is room. Where memory is tight for all of them together, what waits in one queue is let go, and the
//! engine tells its session anew ([`StreamQueue::collapse`]). The connection takes what there is, joined into few writes.
//! What a frame says of its session is the session's business ([`Session::encode`]). A peer that reads nothing is the connection's business
//! (`listener.rs`): hyper does not ask this body for more before the peer took what there was.

use crate::limits::StreamLimits;
use crate::protocol::{Goodbye, Numbers, comment, goodbye};
use crate::sessions::{Session, Sessions};
use crate::stream_memory::{Held, StreamMemory, transition_bytes};
use bytes::Bytes;
use convoy_engine::{
    Digest, ErrorCode, IDENTITY_SUB, Outbox, OutboxState, QueryError, Transition, Update,
    UpdateKind,
};
use convoy_types::Lsn;
use futures_util::Stream;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, SystemTime};
use tokio::time::{Instant, Sleep, sleep};
use tracing::{debug, warn};

/// So much in one item is worth letting go where memory is tight, though what takes its place may be as much.
const COLLAPSE_BYTES_MIN: usize = 64 << 10;
/// At most so much is joined into one turn of the connection.
const TURN_BYTES: usize = 128 << 10;

/// What waits for a connection.
pub enum Item {
    /// A transition of the engine's.
    Transition(Transition),
    /// The session knows of final errors that no transition has told.
    Refused,
}

/// An item in the queue.
struct Waiting {
    item: Item,
    /// What it takes by itself, for the queue's own bound.
    bytes: usize,
    held: Held,
}

#[derive(Default)]
struct QueueState {
    items: VecDeque<Waiting>,
    bytes: usize,
    /// Whether the engine was told that there is no room.
    is_full: bool,
    /// Whether something was let go that the engine takes for sent. Until it knows, nothing may follow that builds on it.
    is_lost: bool,
    /// Whether nobody reads any more.
    is_closed: bool,
    goodbye: Option<Goodbye>,
    waker: Option<Waker>,
}

impl QueueState {
    fn take_items(&mut self) -> Vec<Item> {
        self.bytes = 0;
        self.items.drain(..).map(|waiting| waiting.item).collect()
    }
}

/// What became of an item.
enum Pushed {
    /// It waits.
    In(OutboxState),
    /// It does not, nor does what waited: memory is tight, or it would build on what was let go before.
    Lost(Vec<Item>),
    /// Nobody reads.
    Closed(Item),
}

/// What waits for one connection.
pub struct StreamQueue {
    state: Mutex<QueueState>,
    memory: Arc<StreamMemory>,
    items_max: usize,
    bytes_max: usize,
}

impl StreamQueue {
    /// Returns an empty queue, which shares this memory with others.
    pub fn new(limits: &StreamLimits, memory: Arc<StreamMemory>) -> Arc<Self> {
        Arc::new(StreamQueue {
            state: Mutex::default(),
            memory,
            items_max: limits.queue_transitions_max,
            bytes_max: limits.queue_bytes_max,
        })
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        // Nothing in here panics half way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts an item in, or says why not.
    fn push(&self, item: Item, bytes: usize, held: Held) -> Pushed {
        let mut state = self.lock();
        if state.is_closed || state.goodbye.is_some() {
            return Pushed::Closed(item);
        }
        // In one with the rest: what is let go by others must not come between.
        if matches!(item, Item::Transition(_)) {
            let gives_way = !state.items.is_empty() && self.memory.is_tight();
            if gives_way || state.is_lost {
                if gives_way {
                    self.memory.collapsed_one();
                }
                (state.is_lost, state.is_full) = (false, false);
                let mut lost = state.take_items();
                lost.push(item);
                return Pushed::Lost(lost);
            }
        }
        state.items.push_back(Waiting { item, bytes, held });
        state.bytes += bytes;
        // Once the engine was told that it is full, it waits to hear of room.
        let is_full = state.items.len() >= self.items_max
            || state.bytes >= self.bytes_max
            || self.memory.is_tight();
        if is_full && !std::mem::replace(&mut state.is_full, true) {
            self.memory.filled_one();
        }
        let (waker, is_full) = (state.waker.take(), state.is_full);
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        Pushed::In(if is_full { OutboxState::Full } else { OutboxState::Ready })
    }

    /// Takes out what has waited longest, as a connection does.
    #[cfg(test)]
    pub fn take(&self) -> Option<Item> {
        self.lock().items.pop_front().map(|waiting| waiting.item)
    }

    /// Lets go what waits, where that is worth it. Returns what it was; then the engine must be told that it is lost.
    pub fn collapse(&self) -> Option<Vec<Item>> {
        let mut state = self.lock();
        let is_worth_it = state.items.len() > 1 || state.bytes > COLLAPSE_BYTES_MIN;
        if state.is_closed || state.goodbye.is_some() || state.is_lost || !is_worth_it {
            return None;
        }
        self.memory.collapsed_one();
        (state.is_lost, state.is_full) = (true, true);
        Some(state.take_items())
    }

    /// Lets the stream tell what final errors its session has to tell.
    pub fn push_refused(&self) {
        let _ = self.push(Item::Refused, 0, Held::nothing(&self.memory));
    }

    /// Ends the stream: a `goodbye` is the last that is sent. Returns what waited.
    pub fn end(&self, reason: Goodbye) -> Vec<Item> {
        let mut state = self.lock();
        if state.goodbye.is_none() {
            state.goodbye = Some(reason);
        }
        let (left, waker) = (state.take_items(), state.waker.take());
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        left
    }

    /// Nobody reads any more. Returns what waited.
    pub fn close(&self) -> Vec<Item> {
        let mut state = self.lock();
        state.is_closed = true;
        state.take_items()
    }
}

/// The engine's end of a queue.
pub struct QueueOutbox {
    /// Whose it is.
    pub session: Arc<Session>,
    /// Where it goes.
    pub queue: Arc<StreamQueue>,
}

impl Outbox for QueueOutbox {
    fn send(&mut self, mut transition: Transition) -> OutboxState {
        if let Some(goodbye) = disowned(&mut transition) {
            // Nothing of this cut is for whoever reads.
            debug!(
                session = self.session.id().0,
                code = goodbye.code,
                "nobody knows whose session it is"
            );
            self.session.disown(&self.queue, goodbye);
            return OutboxState::Closed;
        }
        let bytes = transition_bytes(&transition);
        let held = Held::of(&self.queue.memory, &transition);
        match self.queue.push(Item::Transition(transition), bytes, held) {
            Pushed::In(state) => state,
            Pushed::Lost(items) => {
                self.session.rescue(items);
                OutboxState::Lost
            }
            Pushed::Closed(item) => {
                self.session.rescue([item]);
                OutboxState::Closed
            }
        }
    }

    fn has(&self, sub: &str) -> Option<Digest> {
        self.session.has(sub)
    }

    fn label(&self) -> Lsn {
        self.session.label()
    }
}

/// Takes out of a transition what it says of its session's identity, and returns why the session has to end, where that is
/// so. What will pass says nothing of who calls: it is asked again.
fn disowned(transition: &mut Transition) -> Option<Goodbye> {
    let is_of_identity = |update: &mut Update| *update.sub == *IDENTITY_SUB;
    let of_identity = transition.updates.extract_if(.., is_of_identity);
    let goodbye = |update: Update| match update.kind {
        UpdateKind::Error { error, .. } => match error.code {
            ErrorCode::Unavailable | ErrorCode::Timeout => None,
            ErrorCode::Unauthorized => Some(Goodbye::disowned()),
            // There is no room for watching it, or what it hangs on can't be watched.
            ErrorCode::InvalidArgs
            | ErrorCode::Forbidden
            | ErrorCode::Conflict
            | ErrorCode::LimitExceeded
            | ErrorCode::NotFound
            | ErrorCode::Internal => {
                let message = format!("who calls can't be watched: {}", error.message);
                warn!(code = ?error.code, "{message}: the stream ends");
                Some(Goodbye::refused(&QueryError { message, ..error }.into()))
            }
        },
        UpdateKind::Snapshot(_)
        | UpdateKind::Diffs(_)
        | UpdateKind::Unchanged
        | UpdateKind::Stale(_) => None,
    };
    of_identity.filter_map(goodbye).last()
}

/// How a stream is to be.
pub struct StreamOptions {
    /// How numbers are written.
    pub numbers: Numbers,
    /// The long-poll form: ends after the first transition that is not empty, or after this time.
    pub poll: Option<Duration>,
    /// Whether the session was there before. Then that what the client has is still right ends no poll: one after the
    /// other they would come as fast as the network carries them.
    pub resumed: bool,
    /// After how much silence a comment is sent.
    pub heartbeat: Duration,
    /// When whoever reads is no longer known to be who it was: the stream ends; none: never.
    pub expires_at: Option<SystemTime>,
}

/// A point on the wall's clock, which may be set, and goes on while the machine sleeps: it is looked at every so often.
struct Expiry {
    at: SystemTime,
    sleep: Pin<Box<Sleep>>,
}

impl Expiry {
    /// How often the clock is looked at.
    const LOOK_EVERY: Duration = Duration::from_secs(30);

    fn new(at: SystemTime) -> Expiry {
        // The first look is at once.
        Expiry { at, sleep: Box::pin(sleep(Duration::ZERO)) }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.sleep.as_mut().poll(cx));
            match self.at.duration_since(SystemTime::now()) {
                Ok(left) if !left.is_zero() => {
                    self.sleep.as_mut().reset(Instant::now() + left.min(Self::LOOK_EVERY));
                }
                _ => return Poll::Ready(()),
            }
        }
    }
}

/// A stream's body. Dropping it leaves its session to be resumed.
pub struct SseBody {
    sessions: Arc<Sessions>,
    session: Arc<Session>,
    queue: Arc<StreamQueue>,
    numbers: Numbers,
    ends_after_one: bool,
    resumed: bool,
    ends_at: Option<Pin<Box<Sleep>>>,
    heartbeat: Duration,
    silence: Pin<Box<Sleep>>,
    expiry: Option<Expiry>,
    chunks: VecDeque<Bytes>,
    is_over: bool,
}

impl SseBody {
    /// Returns the body that sends `hello`, and then what comes into the queue.
    pub fn new(
        sessions: Arc<Sessions>,
        session: Arc<Session>,
        queue: Arc<StreamQueue>,
        hello: Bytes,
        options: &StreamOptions,
    ) -> Self {
        SseBody {
            sessions,
            session,
            queue,
            numbers: options.numbers,
            ends_after_one: options.poll.is_some(),
            resumed: options.resumed,
            ends_at: options.poll.map(|limit| Box::pin(sleep(limit))),
            heartbeat: options.heartbeat,
            silence: Box::pin(sleep(options.heartbeat)),
            expiry: options.expires_at.map(Expiry::new),
            chunks: VecDeque::from([hello]),
            is_over: false,
        }
    }

    /// Takes what waits in the queue; returns whether there was anything.
    fn fill(&mut self, cx: &Context<'_>) -> bool {
        let mut frames = Vec::new();
        let mut held = Held::nothing(&self.queue.memory);
        let mut bytes = 0;
        let mut drained = false;
        while bytes < TURN_BYTES && !self.is_over {
            let mut state = self.queue.lock();
            if let Some(reason) = state.goodbye.take() {
                state.is_closed = true;
                frames.push(goodbye(&reason));
                self.is_over = true;
                break;
            }
            let Some(waiting) = state.items.pop_front() else {
                state.waker = Some(cx.waker().clone());
                break;
            };
            state.bytes -= waiting.bytes;
            held.join(waiting.held);
            // Room for half of it: one word to the engine for many transitions.
            if state.is_full
                && state.items.len() <= self.queue.items_max / 2
                && state.bytes <= self.queue.bytes_max / 2
            {
                state.is_full = false;
                drained = true;
            }
            drop(state);
            let before = frames.len();
            let written = self.session.encode(&self.queue, waiting.item, self.numbers, &mut frames);
            bytes += frames[before..].iter().map(Bytes::len).sum::<usize>();
            if written.updates > 0 {
                let last_word = self.session.last_word();
                let has_news = !self.resumed || written.updates > written.unchanged;
                self.is_over = (self.ends_after_one && has_news) || last_word.is_some();
                frames.extend(last_word.as_ref().map(goodbye));
            }
        }
        if drained {
            self.sessions.drained(&self.session);
        }
        self.sessions.counters().sent(&frames);
        // What others have too is held by what it is of.
        held.grow(frames.iter().filter(|frame| frame.is_unique()).map(Bytes::len).sum());
        join(frames, Arc::new(held), &mut self.chunks);
        !self.chunks.is_empty()
    }
}

/// Joins small neighbours, so that many frames are one write. Until all are written they hold what they are of.
fn join(frames: Vec<Bytes>, held: Arc<Held>, out: &mut VecDeque<Bytes>) {
    let mut small: Vec<Bytes> = Vec::new();
    let mut push = |chunk: Bytes| out.push_back(held.clone().into_chunk(chunk));
    let flush = |small: &mut Vec<Bytes>, push: &mut dyn FnMut(Bytes)| match small.len() {
        0 => {}
        1 => small.drain(..).for_each(push),
        _ => {
            push(small.concat().into());
            small.clear();
        }
    };
    for frame in frames {
        if frame.len() > TURN_BYTES / 4 {
            flush(&mut small, &mut push);
            push(frame);
        } else {
            small.push(frame);
        }
    }
    flush(&mut small, &mut push);
}

impl Stream for SseBody {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if let Some(chunk) = this.chunks.pop_front() {
                this.silence.as_mut().reset(Instant::now() + this.heartbeat);
                return Poll::Ready(Some(Ok(chunk)));
            }
            if this.is_over {
                return Poll::Ready(None);
            }
            // Before what waits: none of it is for whoever reads after that.
            if let Some(expiry) = &mut this.expiry
                && expiry.poll(cx).is_ready()
            {
                this.is_over = true;
                this.chunks.push_back(goodbye(&Goodbye::expired()));
                continue;
            }
            if this.fill(cx) || this.is_over {
                continue;
            }
            if let Some(ends_at) = &mut this.ends_at
                && ends_at.as_mut().poll(cx).is_ready()
            {
                this.is_over = true;
                // Whoever polls has to have something to go on with.
                let mut frames = Vec::new();
                this.session.encode_first(&this.queue, this.numbers, &mut frames);
                this.chunks.extend(frames);
                continue;
            }
            ready!(this.silence.as_mut().poll(cx));
            this.chunks.push_back(comment());
        }
    }
}

impl Drop for SseBody {
    fn drop(&mut self) {
        self.session.detach(&self.queue);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use convoy_engine::Position;

    fn push(queue: &StreamQueue, lsn: u64) -> Pushed {
        let transition = Transition {
            lsn: Lsn(lsn),
            committed_at: None,
            reflects: Vec::new(),
            updates: Vec::new(),
            position: Position(lsn),
        };
        let held = Held::of(&queue.memory, &transition);
        queue.push(Item::Transition(transition), 1, held)
    }

    fn queue(memory: &Arc<StreamMemory>) -> Arc<StreamQueue> {
        let limits = StreamLimits { queue_transitions_max: 8, queue_bytes_max: 1 << 20 };
        StreamQueue::new(&limits, memory.clone())
    }

    #[test]
    fn where_memory_is_tight_one_waits_at_a_time_and_a_second_is_lost_with_it() {
        let memory = StreamMemory::new(0);
        let queue = queue(&memory);
        assert!(matches!(push(&queue, 1), Pushed::In(OutboxState::Full)));
        assert!(matches!(push(&queue, 2), Pushed::Lost(items) if items.len() == 2));
        assert_eq!(memory.used(), 0);
        assert!(matches!(push(&queue, 3), Pushed::In(OutboxState::Full)));
        assert_eq!((memory.collapsed(), memory.filled()), (1, 2));
    }

    #[test]
    fn nothing_follows_what_was_let_go_before_the_engine_knows() {
        let memory = StreamMemory::new(1 << 20);
        let queue = queue(&memory);
        assert!(matches!(push(&queue, 1), Pushed::In(OutboxState::Ready)));
        assert!(queue.collapse().is_none(), "one small one is not worth it");
        assert!(matches!(push(&queue, 2), Pushed::In(OutboxState::Ready)));
        assert_eq!(queue.collapse().map(|items| items.len()), Some(2));
        assert!(queue.collapse().is_none(), "it is known to be lost");
        // What the engine sends by then builds on what it takes for sent.
        assert!(matches!(push(&queue, 3), Pushed::Lost(items) if items.len() == 1));
        assert!(matches!(push(&queue, 4), Pushed::In(OutboxState::Ready)));
    }
}
