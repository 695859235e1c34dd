//! The prober: commits of one row, small and steady, and one subscriber to it. A thread of its own, so that what the rest
//! of the benchmark does is not in its times.

use crate::clock::Stamp;
use crate::http::{open_stream, percent_encoded};
use crate::samples::Samples;
use crate::sse::{EventReader, Transition, Update};
use crate::target::session;
use anyhow::{Context, bail};
use convoy_postgres::connect;
use convoy_types::DatabaseUrl;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::runtime;
use tokio::sync::oneshot;

/// How often it commits.
const INTERVAL: Duration = Duration::from_millis(20);
/// How long the last commit may take to arrive.
const PATIENCE: Duration = Duration::from_secs(180);

/// A commit: when COMMIT had returned, and when a subscriber was shown it, or a later one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Probe {
    pub(super) committed: Stamp,
    pub(super) seen: Stamp,
}

/// The running prober.
pub(super) struct Prober {
    stop: Arc<AtomicBool>,
    done: oneshot::Receiver<anyhow::Result<Vec<Probe>>>,
}

impl Prober {
    /// Starts it, and waits for its first answer.
    pub(super) async fn start(database_url: &str, address: SocketAddr) -> anyhow::Result<Self> {
        let (stop, database_url) = (Arc::new(AtomicBool::new(false)), database_url.to_owned());
        let (done_tx, done) = oneshot::channel();
        let (ready_tx, ready) = oneshot::channel();
        let of_thread = stop.clone();
        let work = move || {
            let probed = runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .context("could not start a runtime")
                .and_then(|runtime| {
                    runtime.block_on(probe(&database_url, address, ready_tx, &of_thread))
                });
            // Nobody listens if the case has failed.
            let _ = done_tx.send(probed);
        };
        std::thread::Builder::new().name("prober".into()).spawn(work)?;
        let prober = Prober { stop, done };
        match ready.await {
            Ok(()) => Ok(prober),
            Err(_) => {
                prober.finish().await?;
                bail!("the prober ended before it began")
            }
        }
    }

    /// Lets it commit no more; returns its commits once the last has been seen.
    pub(super) async fn finish(self) -> anyhow::Result<Vec<Probe>> {
        self.stop.store(true, Ordering::Relaxed);
        self.done.await.context("the prober's thread is gone")?
    }
}

async fn probe(
    database_url: &str,
    address: SocketAddr,
    ready: oneshot::Sender<()>,
    stop: &AtomicBool,
) -> anyhow::Result<Vec<Probe>> {
    let url: DatabaseUrl = database_url.parse()?;
    let connection = connect(&url, &session()).await?;
    let client = connection.client();
    client.batch_execute("SET synchronous_commit = on").await?;
    let sql = percent_encoded("select id, seq from convoy_bench.probe");
    let mut reader =
        EventReader::new(open_stream(address, &format!("/api/sql?sql={sql}"), None).await?);
    next(&mut reader).await?;
    let _ = ready.send(());
    let mut committed: Vec<Stamp> = Vec::new();
    let mut probes = Vec::new();
    let write = async {
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut times = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            ticks.tick().await;
            let seq = times.len() + 1;
            let sql = format!("UPDATE convoy_bench.probe SET seq = {seq}");
            client.batch_execute(&sql).await.context("the prober could not commit")?;
            times.push(Stamp::now());
        }
        anyhow::Ok(times)
    };
    let mut seen: Vec<(usize, Stamp)> = Vec::new();
    let mut write = std::pin::pin!(write);
    let mut is_writing = true;
    let deadline = tokio::time::sleep(PATIENCE);
    let mut deadline = std::pin::pin!(deadline);
    while is_writing || seen.last().is_none_or(|(seq, _)| *seq < committed.len()) {
        tokio::select! {
            shown = next(&mut reader) => {
                let (seqs, at) = shown?;
                let newest = seqs.into_iter().max().unwrap_or(0);
                seen.push((usize::try_from(newest)?, at));
            }
            times = &mut write, if is_writing => {
                committed = times?;
                is_writing = false;
                deadline.as_mut().reset(tokio::time::Instant::now() + PATIENCE);
                if committed.is_empty() {
                    break;
                }
            }
            () = &mut deadline, if !is_writing => {
                bail!("the prober's last commit was not seen within {} s", PATIENCE.as_secs())
            }
        }
    }
    let mut shown = seen.into_iter().peekable();
    for (index, committed) in committed.into_iter().enumerate() {
        while shown.peek().is_some_and(|(seq, _)| *seq < index + 1) {
            shown.next();
        }
        let Some((_, at)) = shown.peek() else { bail!("commit {} was never seen", index + 1) };
        probes.push(Probe { committed, seen: *at });
    }
    Ok(probes)
}

/// Returns the numbers that the next transition with news shows.
async fn next(reader: &mut EventReader) -> anyhow::Result<(Vec<i64>, Stamp)> {
    loop {
        let event = reader.next().await?.context("the prober's stream ended")?;
        match event.name.as_str() {
            "transition" => {
                let updates = Transition::read(&event.data)?.updates;
                if let Some(Update::Error { error }) =
                    updates.iter().find(|update| matches!(update, Update::Error { .. }))
                {
                    bail!("the prober's subscription failed: {error}");
                }
                let seqs: Vec<i64> = updates.iter().flat_map(Update::sequences).collect();
                if !seqs.is_empty() {
                    return Ok((seqs, event.at));
                }
            }
            "goodbye" => bail!("the prober is told goodbye: {}", event.data),
            _ => {}
        }
    }
}

/// Returns the latencies of the commits between two times, or outside of them.
pub(super) fn latencies(probes: &[Probe], from: Stamp, to: Stamp) -> (Samples, Samples) {
    let is_inside = |probe: &&Probe| probe.committed >= from && probe.committed <= to;
    let latency = |probe: &Probe| probe.seen.since(probe.committed);
    let outside = probes.iter().filter(|probe| !is_inside(probe)).map(latency).collect();
    (outside, probes.iter().filter(is_inside).map(latency).collect())
}
