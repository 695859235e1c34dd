//! Runs queries of one read on one connection, several at a time on the wire; an error in one does not spoil the
//! others, and each has its own limits of time, rows and bytes.
//!
//! What waits is in `jobs`, what the rows make in `results`. A result that is too large is told so, and the rest of its
//! batch begins anew.
//!
//! A failed statement spoils the transaction, and with it the snapshot that others may still have to import. So the
//! queries run under one savepoint; after an error, the statements that were already on their way are told of a
//! failed transaction (25P02), go back into the queue, and the savepoint is returned to. A run without errors pays
//! nothing for that.

use crate::batch::{BatchCall, Unjudged, Verdict, judge};
use crate::connect::Canceller;
use crate::error::{PostgresError, Sent, query_error};
use crate::jobs::{Job, Jobs, Parts, RETRIES_MAX, Sending};
use crate::pool::Lease;
use crate::results::{Misfit, Results};
use crate::text_param::TextParam;
use convoy_engine::{Batching, ErrorCode, QueryError};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::pin::pin;
use std::time::{Duration, Instant};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Statement};

/// At most so many statements are on their way on one connection: those behind a slow one can't be taken by others.
const WINDOW_MAX: usize = 8;
/// A query that took longer the last time is followed by none on its connection: what is behind it has its own hold, and
/// would be let go for another's slowness.
const SLOW: Duration = Duration::from_millis(50);
/// A query that is answered so soon lets the next ones follow without waiting for it.
const QUICK: Duration = Duration::from_millis(2);

/// One connection at the read's snapshot.
pub(crate) struct Worker<'a> {
    lease: &'a mut Lease,
    /// How many statements are put on their way at a time; grows while they are quick.
    window: usize,
    /// Whether a cancellation is on its way, which may meet another statement than the one that it was meant for.
    cancelled: bool,
    /// Whether it helps the read's own connection, and may have to wait for a lock where that one does not.
    is_helper: bool,
}

/// How one statement ended. What it answered is off its job by then.
enum Ended {
    /// With all rows.
    Answered,
    /// With more than one of its results may have, which is answered so; others may be left.
    TooLarge { spoilt: bool },
    /// With an error, which has spoilt the transaction.
    Failed(tokio_postgres::Error),
}

impl<'a> Worker<'a> {
    pub(crate) fn new(lease: &'a mut Lease) -> Worker<'a> {
        let cancelled = lease.is_broken();
        Worker { lease, window: 1, cancelled, is_helper: false }
    }

    /// Returns one on a connection beside the read's own.
    pub(crate) fn helper(lease: &'a mut Lease) -> Worker<'a> {
        Worker { is_helper: true, ..Worker::new(lease) }
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
            let round = self.round(jobs, &mut in_force);
            let ended = match begun.take() {
                // Both at once: what comes for the one has to be taken before anything comes for the other. The one
                // that is asked first sends first.
                Some(begun) => match futures_util::future::join(begun, round).await {
                    (Ok(()), ended) => ended,
                    (Err(error), _) => return self.broken(jobs, &error),
                },
                None => round.await,
            };
            match ended {
                Round::Done => {}
                Round::Spoilt => {
                    if !self.execute(jobs, "ROLLBACK TO SAVEPOINT convoy").await {
                        return;
                    }
                    in_force = limit;
                }
                Round::Lost => {
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
    async fn round(&mut self, jobs: &Jobs<'_>, in_force: &mut Duration) -> Round {
        let mut running = FuturesUnordered::new();
        let mut outcome = Round::Done;
        let mut last = Instant::now();
        let mut ends_in_slow = false;
        loop {
            while outcome == Round::Done
                && running.len() < self.window
                && (!ends_in_slow || running.is_empty())
            {
                let Some(job) = jobs.take() else { break };
                let Some(timeout) = job.timeout() else { continue };
                if job.is_suspect {
                    if !running.is_empty() {
                        jobs.put_first(job);
                        break;
                    }
                    self.window = 1;
                }
                if *in_force != timeout {
                    if !running.is_empty() {
                        // Those on their way were sent under the old limit; this one waits for them.
                        jobs.put_first(job);
                        break;
                    }
                    *in_force = timeout;
                    if let Err(error) =
                        self.lease.client().batch_execute(&set_timeout(timeout)).await
                    {
                        outcome = self.failed(jobs, job, &error, Instant::now());
                        continue;
                    }
                }
                let known = job.batch().map(|(batch, role)| jobs.batches.verdict(batch, role));
                let call = match known {
                    None => None,
                    Some(Some(Verdict::Use(call))) => Some(call),
                    Some(Some(Verdict::Singly)) => {
                        jobs.take_apart(job, Parts::Single);
                        continue;
                    }
                    Some(None) if !running.is_empty() => {
                        jobs.put_first(job);
                        break;
                    }
                    Some(None) => {
                        outcome = self.judge(jobs, job).await;
                        continue;
                    }
                };
                let Some((sql, types)) = job.text(call.as_ref()) else { continue };
                if !running.is_empty() && !self.lease.is_prepared(&sql, &types) {
                    // The connection takes nothing more in while rows of a statement on its way wait to be taken,
                    // which nobody does here: the answer would never come.
                    jobs.put_first(job);
                    break;
                }
                match self.lease.prepared(&sql, &types).await {
                    Ok(statement) => {
                        jobs.counters.ran_statement();
                        let (client, canceller) =
                            (self.lease.client().clone(), self.lease.canceller());
                        let sent = Sending { at: Instant::now(), asked: job.asked() };
                        ends_in_slow = job.took_longer_than(SLOW);
                        running.push(async move {
                            let (job, ended) =
                                run(&client, canceller, &statement, call, job, jobs).await;
                            (job, ended, sent)
                        });
                    }
                    Err(error) => outcome = self.failed(jobs, job, &error, Instant::now()),
                }
            }
            let Some((job, ended, sent)) = running.next().await else { return outcome };
            let quick = last.elapsed() < QUICK;
            let begun = last.max(sent.at);
            last = Instant::now();
            self.window = if quick { (self.window * 2).min(WINDOW_MAX) } else { 1 };
            match ended {
                Ended::Answered => jobs.took(&sent, begun.elapsed()),
                Ended::TooLarge { spoilt } => {
                    // The cancellation may still be on its way when somebody else has the connection.
                    self.cancelled = true;
                    self.lease.mark_broken();
                    if spoilt {
                        outcome = outcome.worse(Round::Spoilt);
                    }
                    if !job.reads.is_empty() {
                        // One is answered, so this comes to an end.
                        jobs.put_first(job);
                    }
                }
                Ended::Failed(error) => {
                    if error.code() == Some(&SqlState::QUERY_CANCELED) && !self.cancelled {
                        jobs.took(&sent, begun.elapsed());
                    }
                    outcome = outcome.worse(self.failed(jobs, job, &error, begun));
                }
            }
        }
    }

    /// Finds out whether the queries of a job are read together. They have their turn in any case.
    async fn judge(&mut self, jobs: &Jobs<'_>, mut job: Job) -> Round {
        let Some((statement, role)) =
            job.reads.front().map(|read| (read.statement.clone(), read.role))
        else {
            return Round::Done;
        };
        let Batching::Together(batch) = &statement.batching else {
            jobs.take_apart(job, Parts::Single);
            return Round::Done;
        };
        let (verdict, error) = match judge(self.lease, batch, job.reads.make_contiguous()).await {
            Ok(verdict) => {
                jobs.batches.decide(batch, role, verdict);
                jobs.put_first(job);
                return Round::Done;
            }
            Err(Unjudged::Refused(error)) => (Some(Verdict::Singly), error),
            Err(Unjudged::Failed(error)) => (None, error),
        };
        let PostgresError::Query(error) = error else {
            jobs.batches.decide(batch, role, Verdict::Singly);
            jobs.take_apart(job, Parts::Single);
            return Round::Done;
        };
        if error.as_db_error().is_none() || self.is_innocent(&error) {
            return self.failed(jobs, job, &error, Instant::now());
        }
        match verdict {
            Some(verdict) => {
                tracing::debug!(%error, sql = &*batch.sql, "Postgres does not take a batch");
                jobs.batches.decide(batch, role, verdict);
                jobs.take_apart(job, Parts::Single);
            }
            // One of the samples: the others are judged without it.
            None => jobs.take_apart(job, Parts::Halves),
        }
        Round::Spoilt
    }

    /// Returns whether an error came of others' errors and cancellations.
    fn is_innocent(&self, error: &tokio_postgres::Error) -> bool {
        match error.code() {
            // Others' errors came first.
            Some(&SqlState::IN_FAILED_SQL_TRANSACTION) => true,
            // Our own cancellation met the one behind the one that it was meant for.
            Some(&SqlState::QUERY_CANCELED) => self.cancelled,
            _ => false,
        }
    }

    /// Does what a failed statement asks for: an answer, or another turn.
    fn failed(
        &mut self,
        jobs: &Jobs<'_>,
        job: Job,
        error: &tokio_postgres::Error,
        begun: Instant,
    ) -> Round {
        let Some(first) = job.reads.front() else { return Round::Spoilt };
        let statement = first.statement.clone();
        let told = query_error(error, Some(Sent { text: &statement.sql, prefix_chars: 0 }));
        if error.as_db_error().is_none() && (error.is_closed() || self.lease.is_closed()) {
            jobs.state().failure = Some(told.clone());
            jobs.finish(job, &told);
            return Round::Lost;
        }
        if self.is_innocent(error) {
            jobs.put_back(job, told);
            return Round::Spoilt;
        }
        match error.code() {
            // Somebody waits for the tables that the read has locked. It goes on by itself; where it can't, as another
            // role, all is read again.
            Some(&SqlState::LOCK_NOT_AVAILABLE) if self.is_helper => {
                let error = QueryError::new(ErrorCode::Unavailable, told.message);
                jobs.state().failure = Some(error);
                jobs.put_first(job);
                return Round::Lost;
            }
            // `cached plan must not change result type`: prepare once more (P7).
            Some(&SqlState::FEATURE_NOT_SUPPORTED)
                if job.retries == 0 && self.forget(jobs, &job) =>
            {
                jobs.put_back(job, told);
            }
            Some(&SqlState::QUERY_CANCELED) if job.is_batch() => {
                // Bounded: this happens once to a query, which then has its own limit as if there were no batches; and
                // the next batch is so much smaller.
                jobs.take_apart(job, Parts::Single);
            }
            Some(&SqlState::QUERY_CANCELED) => {
                let limit = job.timeout().unwrap_or_default();
                let told = if begun.elapsed() >= limit { timed_out(limit) } else { told };
                jobs.finish(job, &told);
            }
            _ if job.is_batch() => jobs.take_apart(job, Parts::Halves),
            _ => jobs.finish(job, &told),
        }
        Round::Spoilt
    }

    /// Forgets how a job is prepared; returns whether it was.
    fn forget(&mut self, jobs: &Jobs<'_>, job: &Job) -> bool {
        let call = job.batch().and_then(|(batch, role)| match jobs.batches.verdict(batch, role) {
            Some(Verdict::Use(call)) => Some(call),
            _ => None,
        });
        job.text(call.as_ref()).is_some_and(|(sql, types)| self.lease.forget(&sql, &types))
    }
}

fn timed_out(limit: Duration) -> QueryError {
    let message = format!(
        "the query ran for {} s, longer than one may (--statement-timeout); a narrower WHERE or an index makes it quicker",
        limit.as_secs_f64()
    );
    QueryError::new(ErrorCode::Timeout, message)
}

fn set_timeout(limit: Duration) -> String {
    format!("SET LOCAL statement_timeout = {}", limit.as_millis().max(1))
}

/// How a round of queries ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Round {
    Done,
    /// The savepoint must be returned to.
    Spoilt,
    /// The connection is gone.
    Lost,
}

impl Round {
    fn worse(self, other: Round) -> Round {
        if self == Round::Lost { self } else { other }
    }
}

/// Runs one statement, takes the rows of each of its results, as many as that may have, and answers.
async fn run(
    client: &Client,
    canceller: Canceller,
    statement: &Statement,
    call: Option<BatchCall>,
    mut job: Job,
    jobs: &Jobs<'_>,
) -> (Job, Ended) {
    let arrays = call.as_ref().map(|call| call.arrays(job.reads.make_contiguous()));
    let rows = match (&arrays, job.reads.front()) {
        (Some(arrays), _) => {
            let params = arrays.iter().map(|array| TextParam(Some(array)));
            client.query_raw(statement, params.collect::<Vec<_>>()).await
        }
        (None, Some(read)) => {
            let params = read.params.iter().map(|param| TextParam(param.as_deref()));
            client.query_raw(statement, params.collect::<Vec<_>>()).await
        }
        (None, None) => return (job, Ended::Answered),
    };
    drop(arrays);
    let mut rows = match rows {
        Ok(rows) => pin!(rows),
        Err(error) => return (job, Ended::Failed(error)),
    };
    let mut results = Results::new(call.is_some(), jobs);
    loop {
        let row = match rows.next().await {
            Some(Ok(row)) => row,
            Some(Err(error)) => return (job, Ended::Failed(error)),
            None => break,
        };
        match results.take(&row, &mut job, jobs).await {
            Ok(()) => {}
            Err(Misfit::TooLarge) => {
                canceller.cancel();
                // What was on its way before the cancellation comes.
                loop {
                    match rows.next().await {
                        Some(Ok(_)) => {}
                        Some(Err(_)) => return (job, Ended::TooLarge { spoilt: true }),
                        None => return (job, Ended::TooLarge { spoilt: false }),
                    }
                }
            }
            Err(Misfit::Row(error)) => return (job, Ended::Failed(error)),
        }
    }
    results.finish(&mut job, jobs);
    (job, Ended::Answered)
}
