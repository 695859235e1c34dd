//! The writer: one row a transaction, in an open loop, over several connections that take turns.
//!
//! Transactions are due at fixed times, whatever the ones before them take. On a quiet machine a commit has returned
//! before the next is due, and there is never more than one open; where the disk is slower, several are, and the rate
//! holds. One that is late all the same begins as soon as its connection is free, and when it was due is kept too: what
//! a stalled writer did not send is not left out (coordinated omission).

use super::{Orders, WriteJob, Written, WrittenCommit, answer, expect_order};
use crate::clock::Stamp;
use crate::target::session;
use anyhow::Context;
use convoy_postgres::connect;
use convoy_types::DatabaseUrl;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime;
use tokio::sync::oneshot;

/// How long after `go` the first transaction is due: all threads have woken up by then.
const START_AFTER: Duration = Duration::from_millis(10);

pub(super) async fn run(
    job: &WriteJob,
    orders: &mut Orders<impl AsyncRead + Unpin>,
    answers: &mut (impl AsyncWrite + Unpin),
) -> anyhow::Result<()> {
    let shared = Arc::new(job.clone());
    let mut lanes = Vec::new();
    for turn in 0..job.connections {
        lanes.push(Lane::start(Arc::clone(&shared), turn)?);
    }
    for lane in &mut lanes {
        // Its error is told at the end.
        let _ = (&mut lane.ready).await;
    }
    answer(answers, "ready").await?;
    expect_order(orders, "go").await?;
    let start = Stamp::now().plus(START_AFTER);
    for lane in &lanes {
        let _ = lane.start.send(start);
    }
    let mut commits = Vec::with_capacity(job.commits.count);
    for lane in lanes {
        commits.extend(lane.done.await.context("a connection's thread is gone")??);
    }
    commits.sort_unstable_by_key(|(index, _)| *index);
    let written = Written { commits: commits.into_iter().map(|(_, commit)| commit).collect() };
    answer(answers, &serde_json::to_string(&written)?).await
}

type Indexed = Vec<(usize, WrittenCommit)>;

/// A connection on a thread of its own, because it waits by sleeping: tokio's timers have a resolution of 1 ms.
struct Lane {
    /// Told, or dropped, once the connection stands or has failed.
    ready: oneshot::Receiver<()>,
    start: mpsc::Sender<Stamp>,
    done: oneshot::Receiver<anyhow::Result<Indexed>>,
}

impl Lane {
    fn start(job: Arc<WriteJob>, turn: usize) -> anyhow::Result<Self> {
        let (ready_tx, ready) = oneshot::channel();
        let (start, start_rx) = mpsc::channel();
        let (done_tx, done) = oneshot::channel();
        let work = move || {
            let written = runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .context("could not start a runtime")
                .and_then(|runtime| runtime.block_on(write(&job, turn, ready_tx, &start_rx)));
            // Nobody listens if the benchmark has ended.
            let _ = done_tx.send(written);
        };
        std::thread::Builder::new().name(format!("writer-{turn}")).spawn(work)?;
        Ok(Lane { ready, start, done })
    }
}

async fn write(
    job: &WriteJob,
    turn: usize,
    ready: oneshot::Sender<()>,
    start: &mpsc::Receiver<Stamp>,
) -> anyhow::Result<Indexed> {
    let url: DatabaseUrl = job.database_url.parse()?;
    let connection = connect(&url, &session()).await?;
    let client = connection.client();
    client.batch_execute("SET synchronous_commit = on").await?;
    let _ = ready.send(());
    // Blocks the runtime, here and below, which has nothing else to do: the last answer has come.
    let Ok(start) = start.recv() else { return Ok(Vec::new()) };

    let mut written = Vec::with_capacity(job.commits.count / job.connections + 1);
    for (index, seq) in (job.commits.first..)
        .enumerate()
        .take(job.commits.count)
        .skip(turn)
        .step_by(job.connections)
    {
        let due = start.plus(Duration::from_nanos(job.interval_ns.saturating_mul(index as u64)));
        let statement = job
            .statement
            .replace("{seq}", &seq.to_string())
            .replace("{id}", &job.row_id(seq).to_string());
        due.block_until();
        let begun = Stamp::now();
        let opened = client.batch_execute(&format!("BEGIN; {statement}")).await;
        opened.with_context(|| format!("could not run {statement}"))?;
        let sent = Stamp::now();
        client.batch_execute("COMMIT").await.context("COMMIT failed")?;
        written.push((index, WrittenCommit { due, begun, sent, returned: Stamp::now() }));
    }
    Ok(written)
}
