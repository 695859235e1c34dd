//! The queries of one read that wait to be run, where their answers go, and what becomes of one that fails.
//!
//! Queries of one template come as a batch, which is one statement (`batch`). After an error nobody knows which of them it
//! was: the batch is halved, and its halves are, until the one is alone. After the limit of time each is run by itself.

use crate::batch::{BatchCall, Batches, ReadCounters};
use crate::budget::MemoryBudget;
use crate::read::Answer;
use convoy_engine::{
    BatchStatement, Batching, ErrorCode, QueryError, QueryRead, ReadRows, ReadStatement,
    ReadingRole,
};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A query that is spoilt by others' errors or cancellations this often is told so.
pub(crate) const RETRIES_MAX: u32 = 8;

/// The queries of a read that wait to be run, and where their answers go.
pub(crate) struct Jobs<'a> {
    state: Mutex<State>,
    pub(crate) batches: &'a Batches,
    pub(crate) counters: &'a ReadCounters,
    /// What answers may take until they are taken in.
    pub(crate) memory: &'a Arc<MemoryBudget>,
    answer: &'a (dyn Fn(Answer) + Send + Sync),
}

pub(crate) struct State {
    waiting: VecDeque<Job>,
    pub(crate) failure: Option<QueryError>,
}

/// What one statement reads: a query, or a batch of them.
pub(crate) struct Job {
    // Invariant: never empty while it waits.
    pub(crate) reads: VecDeque<QueryRead>,
    pub(crate) retries: u32,
    /// Whether an error is in it, maybe: then it goes by itself, to spoil nothing that is on its way behind it.
    pub(crate) is_suspect: bool,
}

/// A statement on its way.
pub(crate) struct Sending {
    pub(crate) at: Instant,
    /// Of a batch, what is asked, of whom, and for how many.
    pub(crate) asked: Option<(Arc<ReadStatement>, ReadingRole, usize)>,
}

/// Into what a batch that failed is taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parts {
    Halves,
    Single,
}

impl<'a> Jobs<'a> {
    pub(crate) fn new(
        queries: Vec<QueryRead>,
        batches: &'a Batches,
        counters: &'a ReadCounters,
        memory: &'a Arc<MemoryBudget>,
        answer: &'a (dyn Fn(Answer) + Send + Sync),
    ) -> Jobs<'a> {
        let job = |reads: Vec<QueryRead>| Job::new(reads.into());
        let waiting = batches.group(queries).into_iter().map(job).collect();
        let state = State { waiting, failure: None };
        Jobs { state: Mutex::new(state), batches, counters, memory, answer }
    }

    pub(crate) fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn has_waiting(&self) -> bool {
        !self.state().waiting.is_empty()
    }

    pub(crate) fn take(&self) -> Option<Job> {
        self.state().waiting.pop_front()
    }

    /// Returns the limit of time of the next query.
    pub(crate) fn next_timeout(&self) -> Option<Duration> {
        self.state().waiting.front().and_then(Job::timeout)
    }

    pub(crate) fn put_first(&self, job: Job) {
        self.state().waiting.push_front(job);
    }

    /// Lets a job have another turn, since it failed without its own fault; too often, and it is told so.
    pub(crate) fn put_back(&self, job: Job, error: QueryError) {
        match (job.retries >= RETRIES_MAX, job.is_batch()) {
            (true, true) => self.take_apart(job, Parts::Single),
            (true, false) => self.finish(job, &error),
            (false, _) => {
                self.state().waiting.push_back(Job { retries: job.retries + 1, ..job });
            }
        }
    }

    /// Lets what a batch has not answered have its turn in parts.
    pub(crate) fn take_apart(&self, mut job: Job, parts: Parts) {
        let mut state = self.state();
        match parts {
            Parts::Halves => {
                let second = job.reads.split_off(job.reads.len().div_ceil(2));
                for reads in [second, job.reads].into_iter().filter(|reads| !reads.is_empty()) {
                    state.waiting.push_front(Job { is_suspect: true, ..Job::new(reads) });
                }
            }
            Parts::Single => {
                let single = |read| Job::new(VecDeque::from([read]));
                state.waiting.extend(job.reads.into_iter().map(single));
            }
        }
    }

    /// Remembers how long a batch took.
    pub(crate) fn took(&self, sent: &Sending, time: Duration) {
        let Some((statement, role, queries)) = &sent.asked else { return };
        if let Batching::Together(batch) = &statement.batching {
            self.batches.took(batch, *role, *queries, time);
        }
    }

    pub(crate) fn answer(&self, read: &QueryRead, result: Result<ReadRows, QueryError>) {
        (self.answer)((read.query, result));
    }

    /// Answers all of a job with an error.
    pub(crate) fn finish(&self, job: Job, error: &QueryError) {
        for read in &job.reads {
            self.answer(read, Err(error.clone()));
        }
    }

    /// Answers all that still waits with this error.
    pub(crate) fn fail(&self, error: &QueryError) {
        while let Some(job) = self.take() {
            self.finish(job, error);
        }
    }

    /// Answers all that still waits, since nobody will run it any more.
    pub(crate) fn fail_rest(&self) {
        let error = self.state().failure.clone().unwrap_or_else(|| {
            QueryError::new(ErrorCode::Unavailable, "the connection to the database was lost")
        });
        self.fail(&error);
    }
}

impl Job {
    pub(crate) fn new(reads: VecDeque<QueryRead>) -> Job {
        Job { reads, retries: 0, is_suspect: false }
    }

    pub(crate) fn is_batch(&self) -> bool {
        self.reads.len() > 1
    }

    /// Returns whether something in it took longer than this the last time.
    pub(crate) fn took_longer_than(&self, time: Duration) -> bool {
        self.reads.iter().any(|read| read.last_took > time)
    }

    /// Returns how long it may take: all in it may take equally long.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        self.reads.front().map(|read| read.timeout)
    }

    /// Returns what is sent for it, and the types of its parameters.
    pub(crate) fn text(&self, call: Option<&BatchCall>) -> Option<(Arc<str>, Arc<[u32]>)> {
        let statement = &self.reads.front()?.statement;
        match (call, &statement.batching) {
            (Some(call), Batching::Together(batch)) => {
                Some((batch.sql.clone(), call.types.clone()))
            }
            _ => Some((statement.sql.clone(), statement.param_types.clone())),
        }
    }

    /// Returns what is asked, of whom, and for how many, if it is a batch.
    pub(crate) fn asked(&self) -> Option<(Arc<ReadStatement>, ReadingRole, usize)> {
        let first = self.reads.front().filter(|_| self.is_batch())?;
        Some((first.statement.clone(), first.role, self.reads.len()))
    }

    /// Returns what reads it as a batch, if it is one.
    pub(crate) fn batch(&self) -> Option<(&BatchStatement, ReadingRole)> {
        let first = self.reads.front().filter(|_| self.is_batch())?;
        match &first.statement.batching {
            Batching::Together(batch) => Some((batch, first.role)),
            Batching::Singly(_) => None,
        }
    }
}
