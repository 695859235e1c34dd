//! The event queue: everything that the engine works on, in the order in which it came.
//!
//! Four kinds of senders, each bounded in its own way and none that blocks: the stream (its rows collapse, P10),
//! answers of the database (as many as there are questions), requests of clients (by their bytes: a request waits
//! before it is taken in), and control events (a few a session, and sessions are bounded).

use super::backlog::{Backlog, Pushed};
use super::runner::LiveEngine;
use crate::limits::MemoryParts;
use convoy_engine::Event;
use convoy_postgres::{MemoryBudget, Room};
use convoy_types::Lsn;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Of the stream's events, so many and so many bytes are handled where they were received.
const INLINE_EVENTS_MAX: usize = 8;
const INLINE_BYTES_MAX: usize = 64 << 10;
/// Room for so many events is kept when none waits; what a flood took beyond it is given back.
const KEPT_EVENTS: usize = 256;
/// Past so many bytes of row changes the engine takes no further events in one turn.
const TURN_BYTES: usize = 4 << 20;
/// What an event of a request takes beside its texts.
const EVENT_BYTES: usize = 64;

/// A question that is answered between two events.
pub(super) type Question = Box<dyn FnOnce(&LiveEngine) + Send>;

/// What waits for the engine.
pub(super) enum Queued {
    Event(Event),
    /// Events of one request, with the room that they take until they are handled.
    Request(Vec<Event>, Room),
    /// Somebody wants to know something of the engine. Bounded by the connections that may ask.
    Ask(Question),
}

struct State {
    queued: VecDeque<Queued>,
    backlog: Backlog,
    /// When the engine wants a turn though nothing came.
    deadline: Option<Instant>,
    is_stopped: bool,
}

/// The queue.
pub struct EventQueue {
    state: Mutex<State>,
    arrived: Condvar,
    requests: Arc<MemoryBudget>,
    answers: Arc<MemoryBudget>,
    confirmed: AtomicU64,
    /// What waits in the engine for a snapshot, in bytes, and what may.
    waiting: AtomicUsize,
    waiting_max: usize,
}

/// Room for the events of a request.
pub struct Reservation(Room);

impl EventQueue {
    /// Returns an empty queue, whose rows give way once the engine is so many bytes of WAL behind, and which has these
    /// parts of memory.
    pub fn new(refresh_lag_bytes: u64, memory: &MemoryParts) -> Arc<Self> {
        Arc::new(EventQueue {
            state: Mutex::new(State {
                queued: VecDeque::new(),
                backlog: Backlog::new(refresh_lag_bytes, memory.queued()),
                deadline: None,
                is_stopped: false,
            }),
            arrived: Condvar::new(),
            requests: MemoryBudget::new(memory.requests),
            answers: MemoryBudget::new(memory.reads),
            confirmed: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            waiting_max: memory.waiting(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, queued: Queued) {
        let mut state = self.lock();
        if !state.is_stopped {
            state.queued.push_back(queued);
            drop(state);
            self.wake();
        }
    }

    /// Wakes the engine's thread.
    pub(super) fn wake(&self) {
        self.arrived.notify_one();
    }

    /// Puts an answer of the database in.
    pub fn push_answer(&self, event: Event) {
        self.push(Queued::Event(event));
    }

    /// Puts in what becomes of a session: opened, resumed, drained, closed.
    pub fn push_control(&self, event: Event) {
        self.push(Queued::Event(event));
    }

    /// Waits for room for a request of so many bytes and events.
    pub async fn reserve(&self, bytes: usize, events: usize) -> Reservation {
        let mut room = Room::new(&self.requests);
        room.grow(bytes + events * EVENT_BYTES).await;
        Reservation(room)
    }

    /// Returns what requests may take, from their bodies on.
    pub fn requests(&self) -> &Arc<MemoryBudget> {
        &self.requests
    }

    /// Returns what answers of the database may take until they are handled.
    pub fn answers(&self) -> &Arc<MemoryBudget> {
        &self.answers
    }

    /// Puts a request's events in, next to each other.
    pub fn push_request(&self, room: Reservation, events: Vec<Event>) {
        self.push(Queued::Request(events, room.0));
    }

    /// Puts in what the stream brought, and wakes nobody. Returns whether the engine is so far behind that the stream has
    /// to be given up.
    pub fn push_stream(&self, events: impl IntoIterator<Item = Event>) -> Pushed {
        let mut guard = self.lock();
        let state = &mut *guard;
        for mut event in events {
            state.backlog.add(&mut event);
            state.queued.push_back(Queued::Event(event));
        }
        let waiting = state.queued.iter_mut().filter_map(|queued| match queued {
            Queued::Event(event) => Some(event),
            _ => None,
        });
        let pushed = state.backlog.collapse_if_needed(self.confirmed(), waiting);
        drop(guard);
        // There, too, rows have given way by now.
        match self.waiting.load(Ordering::Relaxed) > self.waiting_max {
            true => Pushed::Overrun,
            false => pushed,
        }
    }

    /// Puts in that the stream is lost: what of it still waits is worth nothing.
    pub fn push_lost(&self) {
        let mut state = self.lock();
        state.queued.retain(|queued| {
            !matches!(queued, Queued::Event(Event::Committed(_) | Event::Progress(_)))
        });
        state.backlog.clear();
        state.queued.push_back(Queued::Event(Event::ReplicationLost));
        drop(state);
        self.arrived.notify_one();
    }

    /// Asks the engine something; none where its thread is gone.
    pub async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&LiveEngine) -> T + Send + 'static,
    ) -> Option<T> {
        let (answer, answered) = tokio::sync::oneshot::channel();
        self.push(Queued::Ask(Box::new(move |engine| {
            // Who asked may have gone.
            let _ = answer.send(question(engine));
        })));
        answered.await.ok()
    }

    /// Lets the engine's thread end. What still waits is dropped, and so is what comes later.
    pub fn stop(&self) {
        let mut state = self.lock();
        state.is_stopped = true;
        state.queued.clear();
        state.backlog.clear();
        drop(state);
        self.wake();
    }

    /// Waits until there is something, or until the deadline. Returns false once the queue is stopped.
    pub(super) fn wait(&self) -> bool {
        let mut state = self.lock();
        while state.queued.is_empty() && !state.is_stopped {
            // Asked anew each time: somebody else's turn may have changed it.
            match state.deadline {
                None => state = self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        break;
                    }
                    let waited = self.arrived.wait_timeout(state, left);
                    state = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
        !state.is_stopped
    }

    /// Takes out at most `max`, in the order in which they came; fewer where their rows take much, since nothing of them
    /// can give way any more.
    pub(super) fn take(&self, max: usize) -> Vec<Queued> {
        let State { queued, backlog, .. } = &mut *self.lock();
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while taken.len() < max
            && bytes < TURN_BYTES
            && let Some(next) = queued.pop_front()
        {
            if let Queued::Event(event) = &next {
                bytes += backlog.discount(event);
            }
            taken.push(next);
        }
        if queued.is_empty() {
            queued.shrink_to(KEPT_EVENTS);
        }
        taken
    }

    /// Returns whether so little waits that handling it keeps nobody.
    pub(super) fn is_short(&self) -> bool {
        let state = self.lock();
        state.queued.len() <= INLINE_EVENTS_MAX && state.backlog.bytes() <= INLINE_BYTES_MAX
    }

    /// Sets when the engine wants a turn though nothing comes.
    pub(super) fn set_deadline(&self, deadline: Option<Instant>) {
        let mut state = self.lock();
        let is_sooner = match (state.deadline, deadline) {
            (Some(before), Some(now)) => now < before,
            (None, now) => now.is_some(),
            (Some(_), None) => false,
        };
        state.deadline = deadline;
        drop(state);
        if is_sooner {
            self.wake();
        }
    }

    /// Returns how many events wait, and what the transactions among them take, in bytes.
    pub fn backlog(&self) -> (usize, usize) {
        let state = self.lock();
        (state.queued.len(), state.backlog.bytes())
    }

    /// Returns how many transactions' rows have given way so far.
    pub fn collapsed(&self) -> u64 {
        self.lock().backlog.collapsed()
    }

    /// Returns up to where the engine has applied everything.
    pub fn confirmed(&self) -> Lsn {
        Lsn(self.confirmed.load(Ordering::Acquire))
    }

    /// Notes how far the engine is, and what waits there for a snapshot, in bytes.
    pub(super) fn set_progress(&self, confirmed: Lsn, waiting: usize) {
        self.confirmed.store(confirmed.0, Ordering::Release);
        self.waiting.store(waiting, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::MemoryLimits;
    use convoy_engine::SessionId;

    fn queue() -> Arc<EventQueue> {
        EventQueue::new(1 << 20, &MemoryLimits::default().parts().expect("shares"))
    }

    #[test]
    fn events_come_in_order_and_a_deadline_ends_the_wait() {
        let queue = queue();
        queue.push_control(Event::SessionClosed(SessionId(1)));
        queue.push_control(Event::SessionClosed(SessionId(2)));
        assert!(queue.wait());
        let first = queue.take(1);
        let ids: Vec<_> = first
            .iter()
            .chain(&queue.take(1))
            .map(|queued| match queued {
                Queued::Event(Event::SessionClosed(id)) => id.0,
                _ => panic!("another event"),
            })
            .collect();
        assert_eq!(ids, [1, 2]);
        queue.set_deadline(Some(Instant::now()));
        assert!(queue.wait());
        queue.stop();
        assert!(!queue.wait());
    }

    #[test]
    fn a_lost_stream_takes_its_events_along() {
        let queue = queue();
        queue.push_stream([Event::ReplicationStarted, Event::Progress(Lsn(1))]);
        queue.push_control(Event::SessionClosed(SessionId(1)));
        queue.push_lost();
        assert!(matches!(
            queue.take(10)[..],
            [
                Queued::Event(Event::ReplicationStarted),
                Queued::Event(Event::SessionClosed(_)),
                Queued::Event(Event::ReplicationLost)
            ]
        ));
    }
}
