//! Runs calls.
//!
//! A call is carried out by a worker, a thread that blocks while it waits for the host; the host itself is asked by the caller's
//! own task (`Runtime::call`), so what the host does runs where the caller runs, and ends when the caller goes. Between both go
//! the messages of `messages.rs`.
//!
//! A context is prepared ahead by threads of low priority (`pool.rs`): the project's modules are evaluated in it, once. Each call
//! has one to itself; after it the context's memory is put back as it was (`heap.rs`), and it is ready for another.

mod bridge;
mod heap;
mod isolate;
mod messages;
mod meter;
mod pool;
mod stack;
mod worker;

pub(crate) use isolate::Isolate;

use crate::call::{Call, CallError, Host};
use crate::limits::Limits;
use crate::project::Project;
use futures_util::StreamExt;
use futures_util::future::{Either, ready};
use futures_util::stream::FuturesOrdered;
use messages::{Caller, FromWorker, Job, Reply};
use pool::Pool;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::mpsc;
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::unbounded_channel;

/// What a worker that does not end in time gets on top, so that it can say why itself.
const GRACE: Duration = Duration::from_millis(250);

/// Runs calls of one project, of which versions follow one another.
#[derive(Debug)]
pub struct Runtime {
    pool: Arc<Pool>,
    limits: Arc<Limits>,
}

impl Runtime {
    /// Starts the workers.
    pub fn new(project: Arc<Project>, limits: Limits) -> Self {
        let limits = Arc::new(limits);
        Self { pool: Pool::start(project, limits.clone()), limits }
    }

    /// Returns the version that calls run on.
    pub fn project(&self) -> Arc<Project> {
        self.pool.project()
    }

    /// Has calls that begin from now on run on another version. Those under way end on theirs.
    pub fn swap(&self, project: Arc<Project>) {
        self.pool.swap(project);
    }

    /// Returns how many contexts are ready.
    pub fn ready_contexts(&self) -> usize {
        self.pool.ready_len()
    }

    /// Runs a function. Dropping the future stops it.
    ///
    /// # Errors
    /// What the function threw, or which limit it reached; see [`CallError`].
    pub async fn call(&self, call: Call, host: Arc<dyn Host>) -> Result<String, CallError> {
        let project = self.pool.project();
        let function = project.function(&call)?.clone();
        let deadline = Instant::now() + self.limits.wall_max;
        let caller = Caller::new(self.pool.clone());
        let (from_worker, mut messages) = unbounded_channel();
        let (replies, for_worker) = mpsc::channel();
        let name = call.name.clone();
        let job = Job {
            call,
            function,
            project,
            deadline,
            ticket: caller.ticket().clone(),
            out: from_worker,
            replies: for_worker,
        };
        self.pool.submit(job)?;

        let mut asked = FuturesOrdered::new();
        let served = async {
            loop {
                tokio::select! {
                    biased;
                    Some(reply) = asked.next(), if !asked.is_empty() => {
                        // A worker that is gone has said so.
                        let _ = replies.send(reply);
                    }
                    message = messages.recv() => match message {
                        Some(FromWorker::Ask { id, op, args }) => {
                            let mut asking = Box::pin(ask(host.clone(), id, op, args));
                            // Begun at once, so that operations begin in their order.
                            asked.push_back(match poll_fn(|cx| Poll::Ready(asking.as_mut().poll(cx))).await {
                                Poll::Ready(reply) => Either::Left(ready(reply)),
                                Poll::Pending => Either::Right(asking),
                            });
                        }
                        // A line that can't be logged is no reason for the call to fail.
                        Some(FromWorker::Log { args }) => drop(host.call("log", args).await),
                        Some(FromWorker::Done(outcome)) => return outcome,
                        None => return Err(CallError::new("INTERNAL", format!("{name} failed")).with_detail("its worker is gone")),
                    },
                }
            }
        };
        match tokio::time::timeout_at((deadline + GRACE).into(), served).await {
            Ok(outcome) => outcome,
            Err(_) if caller.ticket().is_waiting() => {
                let limit = self.limits.wall_max.as_secs_f64();
                let message = format!(
                    "no worker was free for {name} within {limit} s: try again in a moment"
                );
                Err(CallError::new("UNAVAILABLE", message))
            }
            Err(_) => Err(worker::timed_out(&name, self.limits.wall_max)),
        }
    }
}

async fn ask(host: Arc<dyn Host>, id: u32, op: String, args: String) -> Reply {
    Reply { id, result: host.call(&op, args).await }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.pool.close();
    }
}
