//! What a caller's task and a worker tell each other.

use super::pool::Pool;
use crate::call::{Call, CallError, HostError};
use crate::project::{FunctionInfo, Project};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Instant;
use tokio::sync::mpsc::UnboundedSender;

/// A call for a worker.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) call: Call,
    pub(super) function: FunctionInfo,
    pub(super) project: Arc<Project>,
    pub(super) deadline: Instant,
    pub(super) ticket: Arc<Ticket>,
    /// Bounded by the limits on host calls and on log bytes.
    pub(super) out: UnboundedSender<FromWorker>,
    /// Bounded by what was asked.
    pub(super) replies: mpsc::Receiver<Reply>,
}

/// What a worker tells the caller's task.
#[derive(Debug)]
pub(super) enum FromWorker {
    /// An operation for the host.
    Ask { id: u32, op: String, args: String },
    /// A line for the host's log.
    Log { args: String },
    /// The call has ended.
    Done(Result<String, CallError>),
}

/// What the host answered.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) id: u32,
    pub(super) result: Result<String, HostError>,
}

/// How far a call is, which both sides know.
#[derive(Debug, Default)]
pub(super) struct Ticket {
    is_cancelled: AtomicBool,
    phase: Mutex<Phase>,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Phase {
    #[default]
    Waiting,
    Running,
    /// Another worker has taken the place of the one that runs it.
    Replaced,
    Ended,
}

impl Ticket {
    /// Returns whether nobody waits for the call any more.
    pub(super) fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::Relaxed)
    }

    /// Notes that a worker begins.
    pub(super) fn begin(&self) {
        *self.phase() = Phase::Running;
    }

    /// Notes that the worker has come to an end, and returns whether another has its place.
    pub(super) fn end(&self) -> bool {
        std::mem::replace(&mut *self.phase(), Phase::Ended) == Phase::Replaced
    }

    /// Returns whether no worker has begun.
    pub(super) fn is_waiting(&self) -> bool {
        *self.phase() == Phase::Waiting
    }

    /// Returns whether a worker runs the call.
    pub(super) fn is_running(&self) -> bool {
        *self.phase() == Phase::Running
    }

    /// Gives up on the worker, and returns whether one runs the call.
    pub(super) fn replace(&self) -> bool {
        let mut phase = self.phase();
        let is_running = *phase == Phase::Running;
        if is_running {
            *phase = Phase::Replaced;
        }
        is_running
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The caller's side: cancels the call when it is dropped, and gives up on a worker that still runs it.
#[derive(Debug)]
pub(super) struct Caller {
    ticket: Arc<Ticket>,
    pool: Arc<Pool>,
}

impl Caller {
    pub(super) fn new(pool: Arc<Pool>) -> Self {
        Self { ticket: Arc::default(), pool }
    }

    pub(super) fn ticket(&self) -> &Arc<Ticket> {
        &self.ticket
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.ticket.is_cancelled.store(true, Ordering::Relaxed);
        // Nearly always it has ended, and nobody has to wait for the pool.
        if self.ticket.is_running() {
            self.pool.give_up(&self.ticket);
        }
    }
}
