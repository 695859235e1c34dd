//! The bare replication client: takes down when each commit has been received, and does nothing else.
//!
//! It reads the stream with Convoy's own client, in a process and on a thread of its own, and gives each transaction
//! its time when its Commit message has been decoded.

use super::{Commits, GRACE, Orders, Received, answer};
use crate::clock::Stamp;
use anyhow::{Context, bail};
use convoy_replication::{ReplicationConfig, ReplicationStream, StreamEvent};
use convoy_types::{ChangeKind, Changes, Datum, RowChange, Transaction};
use tokio::io::{AsyncRead, AsyncWrite};

pub(super) async fn run(
    database_url: &str,
    publication: String,
    commits: Commits,
    orders: &mut Orders<impl AsyncRead + Unpin>,
    answers: &mut (impl AsyncWrite + Unpin),
) -> anyhow::Result<()> {
    let config = ReplicationConfig {
        publications: vec![publication],
        ..ReplicationConfig::new(database_url.parse()?)
    };
    let mut stream =
        ReplicationStream::connect(config).await.context("the bare client can't stream")?;
    answer(answers, "ready").await?;

    let mut received = Received::nothing_of(commits);
    let mut missing = commits.count;
    let deadline = tokio::time::sleep(GRACE);
    tokio::pin!(deadline);
    let mut is_stopping = false;
    while missing > 0 {
        tokio::select! {
            biased;
            event = stream.next() => {
                let StreamEvent::Committed(transaction) = event? else { continue };
                let at = Stamp::now();
                stream.confirm(transaction.end_lsn);
                missing -= sequences(&transaction).filter(|seq| received.note(commits, *seq, at)).count();
            }
            order = orders.next_line(), if !is_stopping => match order?.as_deref() {
                Some("stop") => {
                    is_stopping = true;
                    deadline.as_mut().reset(tokio::time::Instant::now() + GRACE);
                }
                Some(other) => bail!("\"stop\" was expected, not {other:?}"),
                None => bail!("the benchmark has ended"),
            },
            () = &mut deadline, if is_stopping => break,
        }
    }
    stream.shutdown().await;
    answer(answers, &serde_json::to_string(&received)?).await
}

/// Returns the numbers in the column `seq` of the new rows.
fn sequences(transaction: &Transaction) -> impl Iterator<Item = i64> + '_ {
    let rows = match &transaction.changes {
        Changes::Rows(rows) => rows.as_slice(),
        Changes::Touched(_) => &[],
    };
    rows.iter().filter_map(sequence)
}

fn sequence(change: &RowChange) -> Option<i64> {
    let (ChangeKind::Insert { new } | ChangeKind::Update { new, .. }) = &change.kind else {
        return None;
    };
    let position = change.relation.column_position("seq")?;
    let Datum::Text(text) = new.0.get(position)? else { return None };
    str::from_utf8(text).ok()?.parse().ok()
}
