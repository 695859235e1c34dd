//! What a caller's task and a worker tell each other.

use crate::call::{Call, CallError, HostError};
use crate::project::{FunctionInfo, Project};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Instant;
use tokio::sync::mpsc::UnboundedSender;

/// A call for a worker.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) call: Call,
    pub(super) function: FunctionInfo,
    pub(super) project: Arc<Project>,
    pub(super) deadline: Instant,
    pub(super) cancelled: Arc<AtomicBool>,
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

/// Tells a worker that nobody waits any more, when it is dropped.
#[derive(Debug, Default)]
pub(super) struct Cancel(Arc<AtomicBool>);

impl Cancel {
    pub(super) fn flag(&self) -> Arc<AtomicBool> {
        self.0.clone()
    }
}

impl Drop for Cancel {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
