//! The task that fills the queue from the replication stream: connects, streams, tells the server what the engine has
//! applied, and begins anew when the stream is lost or the engine is too far behind.
//!
//! It never waits for the engine, because the server's keepalives have to be answered (P10); a small transaction it lets
//! the engine handle on the spot.

use super::backlog::Pushed;
use super::lag::Lag;
use super::queue::EventQueue;
use super::runner::EngineTurns;
use super::slot::{self, Blocker, Whose};
use super::slot_watch::SlotWatch;
use crate::error::chain;
use convoy_engine::{ErrorCode, Event, QueryError};
use convoy_postgres::{DatabaseHandle, Pool, ServerStart};
use convoy_replication::{
    Backoff, ReplicationConfig, ReplicationError, ReplicationSession, ReplicationStream,
    SlotChoice, StreamEvent,
};
use std::sync::Arc;
use std::time::{Duration, Instant};
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tracing::{error, info, warn};

/// How often the server is told how far the engine is, and the lag is looked at.
const TICK: Duration = Duration::from_millis(250);
/// Events that go into the queue at a time.
const BATCH_MAX: usize = 256;
/// After how long a slot that is not made yet is worth a word.
const SLOT_PATIENCE: Duration = Duration::from_secs(1);

/// How to replicate.
#[derive(Clone, Debug)]
pub struct ReplicationOptions {
    /// How to connect and which slot to use.
    pub config: ReplicationConfig,
    /// WAL that the engine may be behind, in bytes; past it the slot is dropped and everything is read again.
    pub max_lag_bytes: u64,
}

/// Why there is no stream.
#[derive(Debug, Error)]
enum Loss {
    #[error(transparent)]
    Replication(#[from] ReplicationError),
    #[error("making the publications: {0}")]
    Publications(QueryError),
    #[error(
        "the engine is {lag_bytes} bytes of WAL behind, more than --max-lag {max_bytes}: everything is read again"
    )]
    Lag { lag_bytes: u64, max_bytes: u64 },
    #[error("a publication was dropped: it is made again, and everything is read again")]
    PublicationDropped,
    #[error("too many transactions wait for the engine: everything is read again")]
    Overrun,
}

impl Loss {
    /// Returns whether the slot as it is would only lead here again.
    fn needs_new_slot(&self) -> bool {
        match self {
            Loss::Lag { .. } | Loss::Overrun | Loss::PublicationDropped => true,
            Loss::Replication(error) => error.is_of_slot(),
            Loss::Publications(_) => false,
        }
    }

    fn is_passing(&self) -> bool {
        match self {
            Loss::Replication(error) => error.is_retryable() || self.needs_new_slot(),
            Loss::Publications(error) => error.code == ErrorCode::Unavailable,
            Loss::Lag { .. } | Loss::Overrun | Loss::PublicationDropped => true,
        }
    }
}

/// How the first attempt to stream went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Started {
    /// There was none yet.
    NotYet,
    /// It waits for transactions that were open, which is in order.
    Waiting(String),
    /// It streams.
    Streaming,
    /// It can't, for this reason, and nothing but a person will change that.
    Failed(String),
    /// It can't now, for this reason, and it goes on trying.
    Retrying(String),
}

/// The task.
pub struct Replication {
    options: ReplicationOptions,
    database: DatabaseHandle,
    pool: Pool,
    queue: Arc<EventQueue>,
    turns: Arc<EngineTurns>,
    lag: Arc<Lag>,
    started: watch::Sender<Started>,
    stopping: watch::Receiver<bool>,
}

impl Replication {
    /// Returns the task, and where it says how its start went.
    pub fn new(
        options: ReplicationOptions,
        database: DatabaseHandle,
        pool: Pool,
        (queue, turns): (Arc<EventQueue>, Arc<EngineTurns>),
        lag: Arc<Lag>,
        stopping: watch::Receiver<bool>,
    ) -> (Self, watch::Receiver<Started>) {
        let (started, receiver) = watch::channel(Started::NotYet);
        (Replication { options, database, pool, queue, turns, lag, started, stopping }, receiver)
    }

    /// Streams until the server stops. A temporary slot is gone when this returns.
    pub async fn run(mut self) {
        let mut backoff = Backoff::default();
        let mut watch = SlotWatch::new(self.pool.clone(), self.lag.clone());
        let max_bytes = self.options.max_lag_bytes;
        loop {
            // One that is kept may hold WAL back for as long as there is no stream; before the first it is not ours yet.
            let kept = match &self.options.config.slot {
                SlotChoice::Named(slot) if self.has_streamed() => Some(slot.as_str()),
                _ => None,
            };
            watch.look_at(kept);
            let mut stopping = self.stopping.clone();
            let connected = tokio::select! {
                connected = self.connect() => connected,
                lag_bytes = watch.abandoned_past(max_bytes) => Err(Loss::Lag { lag_bytes, max_bytes }),
                _ = stopping.wait_for(|stopping| *stopping) => return,
            };
            let loss = match connected {
                Ok(mut stream) => {
                    backoff.reset();
                    watch.look_at(Some(stream.slot_name()));
                    let ended = self.stream(&mut stream, &mut watch).await;
                    stream.shutdown().await;
                    let Err(loss) = ended else { return };
                    self.queue.push_lost();
                    self.bind_to(None);
                    loss
                }
                Err(loss) => loss,
            };
            self.report(&loss);
            if let SlotChoice::Named(slot) = &self.options.config.slot
                && loss.needs_new_slot()
                && let Err(error) = slot::drop_slot(&self.pool, slot).await
            {
                warn!(slot, error = %chain(&error), "the slot could not be dropped");
            }
            let delay = backoff.next_delay(rand::random());
            tokio::select! {
                () = sleep(delay) => {}
                _ = stopping.wait_for(|stopping| *stopping) => return,
            }
        }
    }

    fn bind_to(&self, server: Option<ServerStart>) {
        self.database.bind_to(server);
        self.pool.bind_to(server);
    }

    fn report(&mut self, loss: &Loss) {
        let reason = chain(loss);
        let is_passing = loss.is_passing();
        if is_passing {
            warn!(reason, "no replication; trying again");
        } else {
            error!(reason, "no replication; trying again all the same");
        }
        self.lag.lost(Instant::now(), reason.clone());
        if !self.has_streamed() {
            let state =
                if is_passing { Started::Retrying(reason) } else { Started::Failed(reason) };
            let _ = self.started.send(state);
        }
    }

    async fn connect(&self) -> Result<ReplicationStream, Loss> {
        self.database.create_publications().await.map_err(Loss::Publications)?;
        let session = ReplicationSession::open(self.options.config.clone()).await?;
        let pid = session.backend_pid();
        let mut starting = std::pin::pin!(session.start());
        let mut told = Vec::new();
        loop {
            // Making a slot waits for every transaction that is open (P10).
            match timeout(SLOT_PATIENCE, &mut starting).await {
                Ok(stream) => return Ok(stream?),
                Err(_) => match slot::blockers(&self.pool, pid).await {
                    Ok(blockers) => self.wait_for(&blockers, &mut told),
                    Err(error) => {
                        warn!(error = %chain(&error), "can't say what the replication slot waits for")
                    }
                },
            }
        }
    }

    /// Says whom the slot waits for; in the log, once of each set of them.
    fn wait_for(&self, blockers: &[Blocker], told: &mut Vec<Whose>) {
        let list = blockers.iter().map(Blocker::to_string).collect::<Vec<_>>().join(", ");
        self.lag.waiting(blockers.len(), &list);
        if blockers.is_empty() {
            return;
        }
        let same = |one: &Whose, other: &Whose| match (one, other) {
            (Whose::Session { pid: one, .. }, Whose::Session { pid: other, .. }) => one == other,
            _ => one == other,
        };
        let is_told = |blocker: &Blocker| told.iter().any(|whose| same(whose, &blocker.whose));
        if !blockers.iter().all(is_told) {
            let query = |blocker: &Blocker| match &blocker.whose {
                Whose::Session { pid, query, .. } => Some(format!("pid {pid}: {query}")),
                Whose::Prepared(_) => None,
            };
            let queries = blockers.iter().filter_map(query).collect::<Vec<_>>().join("; ");
            warn!(
                blockers = list,
                queries, "the replication slot waits for transactions that are open"
            );
            *told = blockers.iter().map(|blocker| blocker.whose.clone()).collect();
        }
        if !self.has_streamed() {
            let _ = self.started.send(Started::Waiting(list));
        }
    }

    fn has_streamed(&self) -> bool {
        *self.started.borrow() == Started::Streaming
    }

    /// Streams until the server stops, or until the stream is lost.
    async fn stream(
        &mut self,
        stream: &mut ReplicationStream,
        watch: &mut SlotWatch,
    ) -> Result<(), Loss> {
        let slot = stream.slot_name().to_owned();
        self.bind_to(Some(ServerStart(stream.identity().started_micros)));
        self.lag.streaming(&slot, stream.start_lsn());
        self.queue.push_stream([Event::ReplicationStarted]);
        self.turns.take_inline_or_wake();
        self.started.send_if_modified(|state| {
            let is_news = *state != Started::Streaming;
            *state = Started::Streaming;
            is_news
        });
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stopping = self.stopping.clone();
        let mut batch = Vec::with_capacity(BATCH_MAX);
        loop {
            tokio::select! {
                event = stream.next() => {
                    batch.push(engine_event(event?));
                    // What lies in the buffer already is one batch.
                    while batch.len() < BATCH_MAX
                        && let Some(event) = stream.next_buffered()?
                    {
                        batch.push(engine_event(event));
                    }
                    match self.queue.push_stream(batch.drain(..)) {
                        Pushed::Waiting => {}
                        Pushed::Collapsed => info!("the engine is behind: what waits is read again"),
                        Pushed::Overrun => return Err(Loss::Overrun),
                    }
                    self.turns.take_inline_or_wake();
                }
                _ = tick.tick() => {}
                _ = stopping.wait_for(|stopping| *stopping) => return Ok(()),
            }
            let confirmed = self.queue.confirmed();
            stream.confirm(confirmed);
            self.lag.progress(Instant::now(), stream.received(), confirmed);
            let max_bytes = self.options.max_lag_bytes;
            let lag_bytes = self.lag.lag_bytes().max(watch.unconfirmed_bytes());
            if lag_bytes > max_bytes {
                return Err(Loss::Lag { lag_bytes, max_bytes });
            }
            watch.warn_past(max_bytes);
            if watch.publications_are_gone() {
                return Err(Loss::PublicationDropped);
            }
        }
    }
}

fn engine_event(event: StreamEvent) -> Event {
    match event {
        StreamEvent::Committed(transaction) => Event::Committed(transaction),
        StreamEvent::Progress { wal_end } => Event::Progress(wal_end),
    }
}
