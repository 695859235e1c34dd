//! The task that fills the queue from the replication stream: connects, streams, tells the server what the engine has
//! applied, and begins anew when the stream is lost or the engine is too far behind.
//!
//! It never waits for the engine, because the server's keepalives have to be answered (P10); a small transaction it lets
//! the engine handle on the spot.

use super::backlog::Pushed;
use super::lag::Lag;
use super::queue::EventQueue;
use super::runner::EngineTurns;
use super::slot;
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
/// How often the server is asked what the slot holds back.
const SLOT_INTERVAL: Duration = Duration::from_secs(5);
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
        loop {
            let mut stopping = self.stopping.clone();
            let connected = tokio::select! {
                connected = self.connect() => connected,
                _ = stopping.wait_for(|stopping| *stopping) => return,
            };
            let loss = match connected {
                Ok(mut stream) => {
                    backoff.reset();
                    let ended = self.stream(&mut stream).await;
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
        if *self.started.borrow() != Started::Streaming {
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
        loop {
            // Making a slot waits for every transaction that is open (P10).
            match timeout(SLOT_PATIENCE, &mut starting).await {
                Ok(stream) => return Ok(stream?),
                Err(_) => match slot::blockers(&self.pool, pid).await {
                    Ok(blockers) if !blockers.is_empty() => {
                        let blockers = blockers.join(", ");
                        let state = Started::Waiting(blockers.clone());
                        if *self.started.borrow() != state
                            && *self.started.borrow() != Started::Streaming
                        {
                            warn!(
                                blockers,
                                "the replication slot waits for transactions that are open"
                            );
                            let _ = self.started.send(state);
                        }
                    }
                    Ok(_) => {}
                    Err(error) => {
                        warn!(error = %chain(&error), "can't say what the replication slot waits for")
                    }
                },
            }
        }
    }

    /// Streams until the server stops, or until the stream is lost.
    async fn stream(&mut self, stream: &mut ReplicationStream) -> Result<(), Loss> {
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
        let mut slot_views = SlotViews::new(self.pool.clone(), slot, self.lag.clone());
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
            let lag_bytes = self.lag.lag_bytes().max(slot_views.unconfirmed_bytes());
            if lag_bytes > max_bytes {
                return Err(Loss::Lag { lag_bytes, max_bytes });
            }
            slot_views.warn_past(max_bytes);
            if slot_views.publications_are_gone() {
                return Err(Loss::PublicationDropped);
            }
        }
    }
}

/// What the server says of the slot, asked now and then in the background.
struct SlotViews {
    latest: watch::Receiver<Option<slot::SlotView>>,
    task: tokio::task::JoinHandle<()>,
    warned: bool,
}

impl SlotViews {
    fn new(pool: Pool, slot: String, lag: Arc<Lag>) -> Self {
        let (sender, latest) = watch::channel(None);
        let task = tokio::spawn(async move {
            loop {
                sleep(SLOT_INTERVAL).await;
                match slot::view(&pool, &slot).await {
                    Ok(view) => {
                        lag.retained(view.as_ref().map(|view| view.retained_bytes));
                        let _ = sender.send(view);
                    }
                    Err(error) => {
                        warn!(error = %chain(&error), "can't say what the slot holds back")
                    }
                }
            }
        });
        SlotViews { latest, task, warned: false }
    }

    fn unconfirmed_bytes(&self) -> u64 {
        self.latest.borrow().as_ref().map_or(0, |view| view.unconfirmed_bytes)
    }

    /// Before 18 the stream ends by itself when a publication is dropped; since 18 it goes on without its changes.
    fn publications_are_gone(&self) -> bool {
        self.latest.borrow().as_ref().is_some_and(|view| !view.has_publications)
    }

    /// Dropping the slot would not help where somebody's open transaction holds the WAL back: a new slot would wait for
    /// the same one. So it is named instead.
    fn warn_past(&mut self, max_bytes: u64) {
        let view = self.latest.borrow();
        let Some(view) = view.as_ref().filter(|view| view.retained_bytes > max_bytes) else {
            self.warned = false;
            return;
        };
        if !std::mem::replace(&mut self.warned, true) {
            let (pid, age_seconds) = view.oldest_writer.unzip();
            warn!(
                retained_bytes = view.retained_bytes,
                pid,
                age_seconds,
                "an open transaction makes the server keep WAL for the slot; `SELECT pg_terminate_backend(pid);` ends \
                 it, and max_slot_wal_keep_size bounds what a slot may keep"
            );
        }
    }
}

impl Drop for SlotViews {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn engine_event(event: StreamEvent) -> Event {
    match event {
        StreamEvent::Committed(transaction) => Event::Committed(transaction),
        StreamEvent::Progress { wal_end } => Event::Progress(wal_end),
    }
}
