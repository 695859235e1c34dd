//! Measures the time and the memory that JavaScript takes, and stops it.

use super::heap::Heap;
use super::messages::Ticket;
use rustix::time::{ClockId, clock_gettime};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Why JavaScript was stopped.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Tripped {
    /// It used its processor time.
    Cpu,
    /// It used its memory.
    Memory,
    /// It took too long.
    Wall,
    /// Nobody waits for it any more.
    Cancelled,
}

/// The time and the memory that one context may take.
pub(super) struct Meter {
    state: Mutex<State>,
    heap: Heap,
    heap_bytes_max: usize,
}

#[derive(Debug)]
struct State {
    cpu_max: Duration,
    /// What earlier slices took.
    used: Duration,
    /// The thread's clock when the slice began; none between slices.
    began: Option<Duration>,
    deadline: Option<Instant>,
    ticket: Option<Arc<Ticket>>,
    tripped: Option<Tripped>,
}

impl Meter {
    /// Makes a meter that allows so much processor time, and the heap so many bytes.
    pub(super) fn new(cpu_max: Duration, heap: Heap, heap_bytes_max: usize) -> Self {
        let state = State {
            cpu_max,
            used: Duration::ZERO,
            began: None,
            deadline: None,
            ticket: None,
            tripped: None,
        };
        Self { state: Mutex::new(state), heap, heap_bytes_max }
    }

    /// Begins anew, for a call.
    pub(super) fn begin(&self, cpu_max: Duration, deadline: Instant, ticket: Arc<Ticket>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state = State {
            cpu_max,
            used: Duration::ZERO,
            began: None,
            deadline: Some(deadline),
            ticket: Some(ticket),
            tripped: None,
        };
    }

    /// Ends the call, and lets go of what belongs to it.
    pub(super) fn forget_call(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).ticket = None;
    }

    /// Measures what this thread does in `slice`.
    pub(super) fn slice<T>(&self, slice: impl FnOnce() -> T) -> T {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).began = Some(thread_time());
        let value = slice();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(began) = state.began.take() {
            state.used += thread_time().saturating_sub(began);
        }
        value
    }

    /// Returns whether to stop. The engine asks every ten thousand or so steps, and throws what no script can catch.
    pub(super) fn stop(&self) -> bool {
        self.look();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.tripped.is_none() {
            state.tripped = state.reached();
        }
        state.tripped.is_some()
    }

    /// Notes where there is more in the heap than may be.
    pub(super) fn look(&self) {
        if self.heap.bytes() > self.heap_bytes_max {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.tripped.get_or_insert(Tripped::Memory);
        }
    }

    /// Returns the processor time that the slices took which have ended.
    pub(super) fn used(&self) -> Duration {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).used
    }

    /// Returns why JavaScript was stopped, if it was.
    pub(super) fn tripped(&self) -> Option<Tripped> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).tripped
    }
}

impl State {
    fn reached(&self) -> Option<Tripped> {
        let running =
            self.began.map_or(Duration::ZERO, |began| thread_time().saturating_sub(began));
        if self.used + running > self.cpu_max {
            return Some(Tripped::Cpu);
        }
        if self.ticket.as_ref().is_some_and(|ticket| ticket.is_cancelled()) {
            return Some(Tripped::Cancelled);
        }
        self.deadline.is_some_and(|deadline| Instant::now() > deadline).then_some(Tripped::Wall)
    }
}

/// Processor time of this thread: a busy machine is no fault of the script.
fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}
