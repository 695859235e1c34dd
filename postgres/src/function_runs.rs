//! Functions of a project, run at a read's snapshot on the read's own connection.
//!
//! What a function does is the business of whoever implements [`Functions`]; here they are let to the connection, several
//! at a time, and kept apart: an error in a statement of one spoils the transaction for all that are under way, so after
//! one they go back to the savepoint, and those that were spoilt without a fault of theirs are run again, alone.

use crate::error::query_error;
use crate::pool::Lease;
use convoy_engine::{ErrorCode, FunctionAnswer, FunctionRead, QueryError};
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::Client;

/// At most so many functions of one read run at a time: what they ask goes one behind the other on one connection.
const RUNNING_MAX: usize = 8;

/// How a run ended.
#[derive(Debug)]
pub struct FunctionRun {
    /// What the function gave.
    pub outcome: Result<FunctionAnswer, QueryError>,
    /// Whether a statement of it failed: then so do all others in the transaction.
    pub spoilt: bool,
}

/// Runs functions of a project.
pub trait Functions: Send + Sync + fmt::Debug {
    /// Runs one on a connection that is in a transaction, which it only reads in.
    fn run<'a>(
        &'a self,
        function: &'a FunctionRead,
        client: Arc<Client>,
    ) -> BoxFuture<'a, FunctionRun>;
}

/// Where answers go.
pub(crate) type FunctionSink<'a> =
    &'a (dyn Fn(&FunctionRead, Result<FunctionAnswer, QueryError>) + Send + Sync);

/// Runs functions until all are answered.
pub(crate) async fn run_all(
    runner: &dyn Functions,
    lease: &mut Lease,
    functions: Vec<FunctionRead>,
    answer: FunctionSink<'_>,
) {
    let mut waiting: VecDeque<FunctionRead> = functions.into();
    let timeout = waiting.iter().map(|function| function.timeout).max().unwrap_or_default();
    let mut at_a_time = RUNNING_MAX;
    if let Err(error) = begin(lease, timeout).await {
        return fail_all(lease, &waiting, &error, answer);
    }
    while !waiting.is_empty() {
        let (spoilt, again) = round(runner, lease, &mut waiting, at_a_time, answer).await;
        if spoilt {
            let sql = "ROLLBACK TO SAVEPOINT convoy_functions";
            if let Err(error) = lease.client().batch_execute(sql).await {
                waiting.extend(again);
                return fail_all(lease, &waiting, &error, answer);
            }
        }
        at_a_time = if again.is_empty() { RUNNING_MAX } else { 1 };
        for function in again {
            waiting.push_front(function);
        }
    }
}

async fn begin(lease: &mut Lease, timeout: Duration) -> Result<(), tokio_postgres::Error> {
    lease.mark_used();
    let sql = format!(
        "SET LOCAL statement_timeout = {}; SAVEPOINT convoy_functions",
        timeout.as_millis().max(1)
    );
    lease.client().batch_execute(&sql).await
}

/// Runs functions until none waits or one has spoilt the transaction. Returns whether one has, and those that have to be
/// run again.
async fn round(
    runner: &dyn Functions,
    lease: &Lease,
    waiting: &mut VecDeque<FunctionRead>,
    at_a_time: usize,
    answer: FunctionSink<'_>,
) -> (bool, Vec<FunctionRead>) {
    let client = lease.client();
    let run = |function: FunctionRead| async move {
        let run = runner.run(&function, client.clone()).await;
        (function, run)
    };
    let mut running = FuturesUnordered::new();
    let (mut spoilt, mut again) = (false, Vec::new());
    loop {
        while !spoilt && running.len() < at_a_time {
            let Some(function) = waiting.pop_front() else { break };
            running.push(run(function));
        }
        let Some((function, run)) = running.next().await else { break };
        match run.spoilt {
            false => answer(&function, run.outcome),
            // Nobody knows whose fault it was.
            true if at_a_time > 1 => {
                spoilt = true;
                again.push(function);
            }
            true => {
                spoilt = true;
                answer(&function, run.outcome);
            }
        }
    }
    (spoilt, again)
}

fn fail_all(
    lease: &mut Lease,
    waiting: &VecDeque<FunctionRead>,
    error: &tokio_postgres::Error,
    answer: FunctionSink<'_>,
) {
    lease.mark_broken();
    let error = query_error(error, None);
    for function in waiting {
        answer(function, Err(error.clone()));
    }
}

/// Answers functions where there is nobody to run them.
pub(crate) fn refuse_all(functions: &[FunctionRead], answer: FunctionSink<'_>) {
    let message = "this server runs no functions: build it with --features functions";
    for function in functions {
        answer(function, Err(QueryError::new(ErrorCode::Unavailable, message)));
    }
}
