//! The writer: one connection, one row a transaction, an open loop.
//!
//! Transactions are due at fixed times. One that is late is sent as soon as the one before it has returned, and the
//! time from when it was due is kept too: what a stalled writer did not send is not left out (coordinated omission).

use super::{Orders, WriteJob, Written, WrittenCommit, answer, expect_order};
use crate::clock::Stamp;
use crate::target::session;
use anyhow::Context;
use convoy_postgres::connect;
use convoy_types::DatabaseUrl;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};

pub(super) async fn run(
    job: &WriteJob,
    orders: &mut Orders<impl AsyncRead + Unpin>,
    answers: &mut (impl AsyncWrite + Unpin),
) -> anyhow::Result<()> {
    let url: DatabaseUrl = job.database_url.parse()?;
    let connection = connect(&url, &session()).await?;
    let client = connection.client();
    client.batch_execute("SET synchronous_commit = on").await?;
    answer(answers, "ready").await?;
    expect_order(orders, "go").await?;

    let mut written = Written { commits: Vec::with_capacity(job.commits.count) };
    let start = Stamp::now().plus(Duration::from_millis(10));
    for (index, seq) in (job.commits.first..).take(job.commits.count).enumerate() {
        let due = start.plus(Duration::from_nanos(job.interval_ns.saturating_mul(index as u64)));
        let statement = job
            .statement
            .replace("{seq}", &seq.to_string())
            .replace("{id}", &job.row_id(seq).to_string());
        // Blocks the runtime, which has nothing else to do: the last answer has come.
        due.block_until();
        let begun = Stamp::now();
        client
            .batch_execute(&format!("BEGIN; {statement}"))
            .await
            .with_context(|| format!("could not run {statement}"))?;
        let sent = Stamp::now();
        client.batch_execute("COMMIT").await.context("COMMIT failed")?;
        written.commits.push(WrittenCommit { due, begun, sent, returned: Stamp::now() });
    }
    answer(answers, &serde_json::to_string(&written)?).await
}
