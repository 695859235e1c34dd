//! Runs queries of one read on one connection, several at a time on the wire; an error in one does not spoil the
//! others, and each has its own limits of time, rows and bytes.
//!
//! A failed statement spoils the transaction, and with it the snapshot that others may still have to import. So the
//! queries run under one savepoint; after an error, the statements that were already on their way are told of a
//! failed transaction (25P02), go back into the queue, and the savepoint is returned to. A run without errors pays
//! nothing for that.

use crate::connect::Canceller;
use crate::error::{Sent, query_error};
use crate::pool::Lease;
use crate::read::Answer;
use crate::text_param::TextParam;
use convoy_engine::{ErrorCode, QueryError, QueryRead, TextRow};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::collections::VecDeque;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Statement};

/// At most so many statements are on their way on one connection: those behind a slow one can't be taken by others.
const WINDOW_MAX: usize = 8;
/// A query that is answered so soon lets the next ones follow without waiting for it.
const QUICK: Duration = Duration::from_millis(2);
/// A query that is spoilt by others' errors or cancellations this often is told so.
const RETRIES_MAX: u32 = 8;

/// The queries of a read that wait to be run, and where their answers go.
pub(crate) struct Jobs<'a> {
    state: Mutex<State>,
    answer: &'a (dyn Fn(Answer) + Send + Sync),
}

struct State {
    waiting: VecDeque<Job>,
    running: usize,
    failure: Option<QueryError>,
}

struct Job {
    read: QueryRead,
    retries: u32,
}

impl<'a> Jobs<'a> {
    pub(crate) fn new(
        queries: Vec<QueryRead>,
        answer: &'a (dyn Fn(Answer) + Send + Sync),
    ) -> Jobs<'a> {
        let waiting = queries.into_iter().map(|read| Job { read, retries: 0 }).collect();
        Jobs { state: Mutex::new(State { waiting, running: 0, failure: None }), answer }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn has_waiting(&self) -> bool {
        !self.state().waiting.is_empty()
    }

    fn take(&self) -> Option<Job> {
        let mut state = self.state();
        let job = state.waiting.pop_front()?;
        state.running += 1;
        Some(job)
    }

    /// Returns the limit of time of the next query.
    fn next_timeout(&self) -> Option<Duration> {
        self.state().waiting.front().map(|job| job.read.timeout)
    }

    fn put_first(&self, job: Job) {
        let mut state = self.state();
        state.running -= 1;
        state.waiting.push_front(job);
    }

    fn put_back(&self, job: Job, error: QueryError) {
        if job.retries >= RETRIES_MAX {
            return self.finish(job, Err(error));
        }
        let mut state = self.state();
        state.running -= 1;
        state.waiting.push_back(Job { retries: job.retries + 1, ..job });
    }

    fn finish(&self, job: Job, result: Result<Vec<TextRow>, QueryError>) {
        (self.answer)((job.read.query, result));
        self.state().running -= 1;
    }

    /// Answers all that still waits with this error.
    pub(crate) fn fail(&self, error: &QueryError) {
        while let Some(job) = self.take() {
            self.finish(job, Err(error.clone()));
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

/// One connection at the read's snapshot.
pub(crate) struct Worker<'a> {
    lease: &'a mut Lease,
    /// How many statements are put on their way at a time; grows while they are quick.
    window: usize,
    /// Whether a cancellation is on its way, which may meet another statement than the one that it was meant for.
    cancelled: bool,
}

/// How one statement ended.
enum Ended {
    /// With its rows.
    Answered(Result<Vec<TextRow>, QueryError>),
    /// With more than it may have.
    TooLarge { error: QueryError, cancelled: bool, spoilt: bool },
    /// With an error, which has spoilt the transaction.
    Failed(tokio_postgres::Error),
}

impl<'a> Worker<'a> {
    pub(crate) fn new(lease: &'a mut Lease) -> Worker<'a> {
        let cancelled = lease.is_broken();
        Worker { lease, window: 1, cancelled }
    }

    /// Runs queries until none waits.
    pub(crate) async fn work(&mut self, jobs: &Jobs<'_>) {
        let Some(limit) = jobs.next_timeout() else { return };
        // The limit before the savepoint, so that it outlives the return to it. Sent, but not waited for: what
        // follows on the same wire comes after it.
        let begin = format!("{}; SAVEPOINT convoy", set_timeout(limit));
        let client = self.lease.client().clone();
        let mut begun = Some(Box::pin(async move { client.batch_execute(&begin).await }));
        let mut in_force = limit;
        while jobs.has_waiting() {
            let batch = self.batch(jobs, &mut in_force);
            let ended = match begun.take() {
                // Both at once: what comes for the one has to be taken before anything comes for the other. The one
                // that is asked first sends first.
                Some(begun) => match futures_util::future::join(begun, batch).await {
                    (Ok(()), ended) => ended,
                    (Err(error), _) => return self.broken(jobs, &error),
                },
                None => batch.await,
            };
            match ended {
                Batch::Done => {}
                Batch::Spoilt => {
                    if !self.execute(jobs, "ROLLBACK TO SAVEPOINT convoy").await {
                        return;
                    }
                    in_force = limit;
                }
                Batch::Lost => {
                    self.lease.mark_broken();
                    return;
                }
            }
        }
    }

    /// Runs a statement of our own, whose failure means that the connection is of no more use.
    async fn execute(&mut self, jobs: &Jobs<'_>, sql: &str) -> bool {
        let mut result = self.lease.client().batch_execute(sql).await;
        for _ in 0..RETRIES_MAX {
            match &result {
                // Our own cancellation met this one.
                Err(error) if self.cancelled && error.code() == Some(&SqlState::QUERY_CANCELED) => {
                    result = self.lease.client().batch_execute(sql).await;
                }
                _ => break,
            }
        }
        if let Err(error) = &result {
            self.broken(jobs, error);
        }
        result.is_ok()
    }

    fn broken(&mut self, jobs: &Jobs<'_>, error: &tokio_postgres::Error) {
        self.lease.mark_broken();
        jobs.state().failure = Some(query_error(error, None));
    }

    /// Runs queries with one limit of time until none waits or something failed.
    async fn batch(&mut self, jobs: &Jobs<'_>, in_force: &mut Duration) -> Batch {
        let mut running = FuturesUnordered::new();
        let mut outcome = Batch::Done;
        let mut last = Instant::now();
        loop {
            while outcome == Batch::Done && running.len() < self.window {
                let Some(job) = jobs.take() else { break };
                if *in_force != job.read.timeout {
                    if !running.is_empty() {
                        // Those on their way were sent under the old limit; this one waits for them.
                        jobs.put_first(job);
                        break;
                    }
                    let set = set_timeout(job.read.timeout);
                    *in_force = job.read.timeout;
                    if let Err(error) = self.lease.client().batch_execute(&set).await {
                        outcome = self.failed(jobs, job, &error);
                        continue;
                    }
                }
                let (sql, param_types) = (&job.read.sql, &job.read.param_types);
                if !running.is_empty() && !self.lease.is_prepared(sql, param_types) {
                    // The connection takes nothing more in while rows of a statement on its way wait to be taken,
                    // which nobody does here: the answer would never come.
                    jobs.put_first(job);
                    break;
                }
                match self.lease.prepared(&job.read.sql, &job.read.param_types).await {
                    Ok(statement) => {
                        let client = self.lease.client().clone();
                        running.push(run(client, self.lease.canceller(), statement, job));
                    }
                    Err(error) => outcome = self.failed(jobs, job, &error),
                }
            }
            let Some((job, ended)) = running.next().await else { return outcome };
            let quick = last.elapsed() < QUICK;
            last = Instant::now();
            self.window = if quick { (self.window * 2).min(WINDOW_MAX) } else { 1 };
            match ended {
                Ended::Answered(result) => jobs.finish(job, result),
                Ended::TooLarge { error, cancelled, spoilt } => {
                    self.cancelled |= cancelled;
                    if cancelled {
                        // It may still be on its way when somebody else has the connection.
                        self.lease.mark_broken();
                    }
                    if spoilt {
                        outcome = outcome.worse(Batch::Spoilt);
                    }
                    jobs.finish(job, Err(error));
                }
                Ended::Failed(error) => outcome = outcome.worse(self.failed(jobs, job, &error)),
            }
        }
    }

    /// Does what a failed statement asks for: an answer, or another turn.
    fn failed(&mut self, jobs: &Jobs<'_>, job: Job, error: &tokio_postgres::Error) -> Batch {
        let sent = Sent { text: &job.read.sql, prefix_chars: 0 };
        let told = query_error(error, Some(sent));
        let Some(db) = error.as_db_error() else {
            if error.is_closed() || self.lease.is_closed() {
                jobs.state().failure = Some(told.clone());
                jobs.finish(job, Err(told));
                return Batch::Lost;
            }
            jobs.finish(job, Err(told));
            return Batch::Spoilt;
        };
        let innocent = match *db.code() {
            // Others' errors came first.
            SqlState::IN_FAILED_SQL_TRANSACTION => true,
            // Our own cancellation met the one behind the one that it was meant for.
            SqlState::QUERY_CANCELED => self.cancelled,
            // `cached plan must not change result type`: prepare once more (P7).
            SqlState::FEATURE_NOT_SUPPORTED => {
                let known = self.lease.forget(&job.read.sql, &job.read.param_types);
                known && job.retries == 0
            }
            _ => false,
        };
        match innocent {
            true => jobs.put_back(job, told),
            false => jobs.finish(job, Err(told)),
        }
        Batch::Spoilt
    }
}

fn set_timeout(limit: Duration) -> String {
    format!("SET LOCAL statement_timeout = {}", limit.as_millis().max(1))
}

/// How a batch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Batch {
    Done,
    /// The savepoint must be returned to.
    Spoilt,
    /// The connection is gone.
    Lost,
}

impl Batch {
    fn worse(self, other: Batch) -> Batch {
        if self == Batch::Lost { self } else { other }
    }
}

/// Runs one statement and takes its rows, as many as it may have.
async fn run(
    client: Arc<Client>,
    canceller: Canceller,
    statement: Statement,
    job: Job,
) -> (Job, Ended) {
    let params = job.read.params.iter().map(|param| TextParam(param.as_deref()));
    let rows = client.query_raw(&statement, params.collect::<Vec<_>>()).await;
    let mut rows = match rows {
        Ok(rows) => pin!(rows),
        Err(error) => return (job, Ended::Failed(error)),
    };
    let mut taken: Vec<TextRow> = Vec::new();
    let mut bytes = 0;
    let mut too_large = None;
    let mut canceller = Some(canceller);
    loop {
        let row = match rows.next().await {
            Some(Ok(row)) => row,
            Some(Err(error)) => {
                let ended = match too_large {
                    Some(error) => Ended::TooLarge { error, cancelled: true, spoilt: true },
                    None => Ended::Failed(error),
                };
                return (job, ended);
            }
            None => break,
        };
        if too_large.is_some() {
            // On its way before the cancellation came.
            continue;
        }
        match text_row(&row, &mut bytes) {
            Ok(row) => taken.push(row),
            Err(error) => return (job, Ended::Failed(error)),
        }
        if let Some(error) = job.excess(taken.len(), bytes) {
            taken = Vec::new();
            too_large = Some(error);
            if let Some(canceller) = canceller.take() {
                canceller.cancel();
            }
        }
    }
    let ended = match too_large {
        Some(error) => Ended::TooLarge { error, cancelled: true, spoilt: false },
        None => Ended::Answered(Ok(taken)),
    };
    (job, ended)
}

fn text_row(
    row: &tokio_postgres::Row,
    bytes: &mut usize,
) -> Result<TextRow, tokio_postgres::Error> {
    let column = |index| {
        let text: Option<&str> = row.try_get(index)?;
        *bytes += text.map_or(0, str::len);
        Ok(text.map(Box::from))
    };
    (0..row.len()).map(column).collect()
}

impl Job {
    /// Returns the error for a result of this size, if it is too large.
    fn excess(&self, rows: usize, bytes: usize) -> Option<QueryError> {
        let message = if rows > self.read.rows_max {
            format!("the result has more than {} rows", self.read.rows_max)
        } else if bytes > self.read.bytes_max {
            format!("the result has more than {} bytes", self.read.bytes_max)
        } else {
            return None;
        };
        let message = format!("{message}; give the query a narrower WHERE or a LIMIT");
        Some(QueryError::new(ErrorCode::LimitExceeded, message))
    }
}
