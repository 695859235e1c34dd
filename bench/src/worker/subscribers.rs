//! The subscribers: one process, a connection each, as so many `EventSource`s would be.

use super::{Commits, GRACE, Orders, Received, Tally, answer};
use crate::http;
use crate::sse::{Event, EventReader, Transition, Update};
use anyhow::{Context, bail};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

/// How long first answers may take.
const FIRST_ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// Events that wait to be looked into. They have their time already.
const EVENTS_MAX: usize = 65_536;

pub(super) async fn run(
    address: SocketAddr,
    paths: Vec<String>,
    commits: Commits,
    orders: &mut Orders<impl AsyncRead + Unpin>,
    answers: &mut (impl AsyncWrite + Unpin),
) -> anyhow::Result<()> {
    let (events_tx, mut events) = mpsc::channel(EVENTS_MAX);
    let opening = async {
        for path in paths {
            let mut reader = EventReader::new(http::open_stream(address, &path, None).await?);
            first_answer(&mut reader).await?;
            let events_tx = events_tx.clone();
            tokio::spawn(async move {
                loop {
                    let event = reader.next().await;
                    let is_over = !matches!(event, Ok(Some(_)));
                    if events_tx.send(event).await.is_err() || is_over {
                        break;
                    }
                }
            });
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(FIRST_ANSWER_LIMIT, opening)
        .await
        .context("first answers took too long")??;
    answer(answers, "ready").await?;

    let mut received = Received::nothing_of(commits);
    let mut missing = commits.count;
    let deadline = tokio::time::sleep(GRACE);
    tokio::pin!(deadline);
    let mut is_stopping = false;
    while missing > 0 {
        tokio::select! {
            biased;
            event = events.recv() => {
                let event = event.context("all streams have ended")??.context("a stream has ended")?;
                for update in updates(&event)? {
                    count(&mut received.tally, &update)?;
                    missing -= update.sequences().iter().filter(|seq| received.note(commits, **seq, event.at)).count();
                }
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
    answer(answers, &serde_json::to_string(&received)?).await
}

/// Waits for the snapshot that a stream begins with.
async fn first_answer(reader: &mut EventReader) -> anyhow::Result<()> {
    loop {
        let event = reader.next().await?.context("a stream ended before its first answer")?;
        match updates(&event)?.into_iter().next() {
            None => {}
            Some(Update::Snapshot { .. }) => return Ok(()),
            Some(Update::Error { error }) => bail!("the server won't answer: {error}"),
            Some(other) => bail!("a snapshot was expected first, not {other:?}"),
        }
    }
}

fn updates(event: &Event) -> anyhow::Result<Vec<Update>> {
    match event.name.as_str() {
        "transition" => Ok(Transition::read(&event.data)?.updates),
        "goodbye" => bail!("the server says goodbye: {}", event.data),
        _ => Ok(Vec::new()),
    }
}

fn count(tally: &mut Tally, update: &Update) -> anyhow::Result<()> {
    match update {
        Update::Diff { .. } => tally.diffs += 1,
        Update::Snapshot { .. } => tally.snapshots += 1,
        Update::Stale {} => tally.stale += 1,
        Update::Error { error } => bail!("a subscription failed: {error}"),
        Update::Other => {}
    }
    Ok(())
}
