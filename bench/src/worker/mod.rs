//! The processes that a benchmark consists of besides the server: `convoy bench worker`.
//!
//! A worker is told its job in one line of JSON on standard input, says `ready`, and answers with one line of JSON at
//! the end. The writer begins when it is told `go`; the others watch from `ready` on, and end when they have seen
//! every commit of their job, or some seconds after `stop`. The end of standard input ends every worker.

mod bare;
mod handle;
mod subscribers;
mod writer;

pub(crate) use handle::Worker;

use crate::clock::Stamp;
use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, Lines};

/// How long after the writer's end a commit may still arrive.
pub(crate) const GRACE: Duration = Duration::from_secs(10);

/// What a worker is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Job {
    /// Commits on a schedule.
    Write(WriteJob),
    /// Reads the replication stream and does nothing with it.
    Receive { database_url: String, publication: String, commits: Commits },
    /// Subscribes, each subscriber with a connection and a query of its own.
    Subscribe { address: SocketAddr, paths: Vec<String>, commits: Commits },
}

/// Which commits a phase consists of: the numbers that its writer writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Commits {
    pub(crate) first: i64,
    pub(crate) count: usize,
}

impl Commits {
    /// Returns where a number stands among them, if it is one of them.
    pub(crate) fn index(self, seq: i64) -> Option<usize> {
        usize::try_from(seq.checked_sub(self.first)?).ok().filter(|index| *index < self.count)
    }
}

/// What the writer writes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct WriteJob {
    pub(crate) database_url: String,
    /// One statement with `{seq}`, `{id}` for the commit's number and the row that it writes.
    pub(crate) statement: String,
    pub(crate) commits: Commits,
    /// Nanoseconds from one commit to the next, whatever the last one took.
    pub(crate) interval_ns: u64,
    /// Connections that take turns; at least one.
    pub(crate) connections: usize,
    /// Tenants that are written in turn.
    pub(crate) tenants: i64,
    /// Rows a tenant; their ids follow one another.
    pub(crate) rows_per_tenant: i64,
}

impl WriteJob {
    /// Returns the row that a commit writes: tenants in turn, and within a tenant its rows in turn, so that no
    /// commit's number is overwritten before 100 × 100 others.
    pub(crate) fn row_id(&self, seq: i64) -> i64 {
        let tenant = seq.rem_euclid(self.tenants);
        let row = (seq / self.tenants).rem_euclid(self.rows_per_tenant);
        tenant * self.rows_per_tenant + row
    }
}

/// What the writer saw of each commit, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Written {
    pub(crate) commits: Vec<WrittenCommit>,
}

/// What the writer saw of one commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WrittenCommit {
    /// When its transaction was due.
    pub(crate) due: Stamp,
    /// When its transaction began.
    pub(crate) begun: Stamp,
    /// When COMMIT was sent.
    pub(crate) sent: Stamp,
    /// When COMMIT had returned.
    pub(crate) returned: Stamp,
}

/// When each commit arrived, in the order of their numbers; `None` where it did not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Received {
    pub(crate) at: Vec<Option<Stamp>>,
    pub(crate) tally: Tally,
}

/// What kinds of updates came, after the first answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tally {
    pub(crate) diffs: usize,
    pub(crate) snapshots: usize,
    pub(crate) stale: usize,
}

impl Received {
    /// Returns a record of which nothing has arrived yet.
    pub(crate) fn nothing_of(commits: Commits) -> Self {
        Received { at: vec![None; commits.count], tally: Tally::default() }
    }

    /// Takes down a commit's first arrival; returns whether it was that.
    pub(crate) fn note(&mut self, commits: Commits, seq: i64, at: Stamp) -> bool {
        let slot = commits.index(seq).and_then(|index| self.at.get_mut(index));
        slot.is_some_and(|slot| slot.replace(slot.unwrap_or(at)).is_none())
    }
}

/// Does what standard input says.
pub(crate) async fn run() -> anyhow::Result<()> {
    let mut orders = BufReader::new(tokio::io::stdin()).lines();
    let mut answers = tokio::io::stdout();
    let job = orders.next_line().await?.context("a worker's job is expected on standard input")?;
    let job = serde_json::from_str(&job).context("a worker's job is expected on standard input")?;
    dispatch(job, &mut orders, &mut answers).await
}

async fn dispatch(
    job: Job,
    orders: &mut Orders<impl AsyncRead + Unpin>,
    answers: &mut (impl AsyncWrite + Unpin),
) -> anyhow::Result<()> {
    match job {
        Job::Write(job) => writer::run(&job, orders, answers).await,
        Job::Receive { database_url, publication, commits } => {
            bare::run(&database_url, publication, commits, orders, answers).await
        }
        Job::Subscribe { address, paths, commits } => {
            subscribers::run(address, paths, commits, orders, answers).await
        }
    }
}

type Orders<Input> = Lines<BufReader<Input>>;

/// Waits for this word.
async fn expect_order(
    orders: &mut Orders<impl AsyncRead + Unpin>,
    word: &str,
) -> anyhow::Result<()> {
    match orders.next_line().await?.as_deref() {
        Some(line) if line == word => Ok(()),
        Some(line) => bail!("{word:?} was expected, not {line:?}"),
        None => bail!("the benchmark has ended"),
    }
}

/// Answers with one line.
async fn answer(answers: &mut (impl AsyncWrite + Unpin), line: &str) -> anyhow::Result<()> {
    answers.write_all(format!("{line}\n").as_bytes()).await?;
    Ok(answers.flush().await?)
}

#[cfg(test)]
mod tests;
