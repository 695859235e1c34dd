//! The engine over a real database: the loop that feeds it, and the log of what its line did.

use convoy_engine::{
    Engine, EngineStatus, Event, Limits, LiveQueryInfo, Observer, Position, Snapshot,
};
use convoy_postgres::{DatabaseOptions, PostgresDatabase, ReadCounters};
use convoy_replication::{ReplicationConfig, ReplicationStream, StreamEvent};
use convoy_types::{DatabaseUrl, FullXid, Lsn, SnapshotMark, Transaction};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::watch;

/// Events that are handled before the engine flushes.
const BATCH_MAX: usize = 256;

/// What the line did, in order.
#[derive(Clone, Debug)]
pub enum LineEntry {
    /// A stream began: positions go on, from a point that the next closed snapshot tells.
    Started,
    Applied {
        position: u64,
        xid: u64,
        end_lsn: Lsn,
    },
    Closed {
        mark: SnapshotMark,
    },
}

/// How many streams have begun.
pub type Epoch = Arc<AtomicU64>;

/// The log of the line.
pub type LineLog = Arc<Mutex<Vec<LineEntry>>>;

/// What is told of a snapshot that closed, while it can still be imported.
pub type OnClosed = Box<dyn FnMut(Moment, &str) + Send>;

/// A point of the line: which stream it is in, and its position.
pub type Moment = (u64, u64);

/// What somebody wants to know of the engine.
type Question = Box<dyn FnOnce(&Engine<PostgresDatabase>) + Send>;

enum Message {
    Event(Event),
    Ask(Question),
    Stop,
}

/// A running engine.
pub struct Live {
    messages: Sender<Message>,
    thread: Option<JoinHandle<()>>,
    replication: tokio::task::JoinHandle<()>,
    stop: watch::Sender<bool>,
    pub line: LineLog,
    /// How many statements read how many results.
    pub read: Arc<ReadCounters>,
}

struct Ear {
    line: LineLog,
    epoch: Epoch,
    on_closed: OnClosed,
}

impl Observer for Ear {
    fn applied(&mut self, position: Position, xid: FullXid, transaction: &Transaction) {
        let entry =
            LineEntry::Applied { position: position.0, xid: xid.0, end_lsn: transaction.end_lsn };
        push(&self.line, entry);
    }

    fn closed(&mut self, position: Position, snapshot: &Snapshot) {
        push(&self.line, LineEntry::Closed { mark: snapshot.mark.clone() });
        if let Some(name) = &snapshot.exported {
            (self.on_closed)((self.epoch.load(Ordering::Relaxed), position.0), name);
        }
    }
}

fn push(line: &LineLog, entry: LineEntry) {
    line.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
}

impl Live {
    /// Starts an engine and waits until it streams.
    pub async fn start(url: &str, limits: Limits, epoch: &Epoch, on_closed: OnClosed) -> Live {
        let url: DatabaseUrl = url.parse().expect("a URL");
        let (messages, inbox) = channel();
        let to_engine = messages.clone();
        let sink = Arc::new(move |event| drop(to_engine.send(Message::Event(event))));
        let options =
            DatabaseOptions { export_snapshots: true, ..DatabaseOptions::new(url.clone()) };
        let database = PostgresDatabase::new(options, Handle::current(), sink);
        database.handle().create_publications().await.expect("publications");
        let read = database.handle().read_counters();
        let line = LineLog::default();
        let ear = Ear { line: line.clone(), epoch: epoch.clone(), on_closed };
        let epoch = epoch.clone();
        let confirmed = Arc::new(AtomicU64::new(0));
        let (confirm, log) = (confirmed.clone(), line.clone());
        let thread = std::thread::spawn(move || {
            let mut engine = Engine::new(limits, database, Instant::now());
            engine.observe(Box::new(ear));
            run(&mut engine, &inbox, &confirm, &log, &epoch);
        });
        let (stop, stopping) = watch::channel(false);
        let (started, mut is_started) = watch::channel(false);
        let replication =
            tokio::spawn(replicate(url, messages.clone(), confirmed, started, stopping));
        is_started.wait_for(|started| *started).await.expect("a stream");
        Live { messages, thread: Some(thread), replication, stop, line, read }
    }

    /// Hands the engine an event.
    pub fn send(&self, event: Event) {
        self.messages.send(Message::Event(event)).expect("the engine's thread has ended");
    }

    /// Returns the way to hand the engine events from elsewhere.
    pub fn sender(&self) -> impl Fn(Event) + Clone + Send + 'static {
        let messages = self.messages.clone();
        move |event| drop(messages.send(Message::Event(event)))
    }

    /// Returns the engine's state.
    pub async fn status(&self) -> (EngineStatus, Vec<LiveQueryInfo>) {
        let (answer, answered) = tokio::sync::oneshot::channel();
        let ask = Message::Ask(Box::new(move |engine| {
            drop(answer.send((engine.status(), engine.live_queries())))
        }));
        self.messages.send(ask).expect("the engine's thread has ended");
        answered.await.expect("the engine's thread has ended")
    }

    /// Returns what the line has done so far.
    pub fn log(&self) -> Vec<LineEntry> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends it.
    pub async fn stop(mut self) {
        let _ = self.stop.send(true);
        let _ = (&mut self.replication).await;
        let _ = self.messages.send(Message::Stop);
        if let Some(thread) = self.thread.take() {
            let ended = tokio::task::spawn_blocking(move || thread.join()).await;
            ended.expect("a task").expect("the engine's thread panicked");
        }
    }
}

fn run(
    engine: &mut Engine<PostgresDatabase>,
    inbox: &Receiver<Message>,
    confirmed: &AtomicU64,
    line: &LineLog,
    epoch: &Epoch,
) {
    loop {
        let now = Instant::now();
        let wait = engine
            .next_deadline()
            .map_or(Duration::from_secs(1), |deadline| deadline.saturating_duration_since(now));
        let mut next = match inbox.recv_timeout(wait) {
            Ok(message) => Some(message),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        for _ in 0..BATCH_MAX {
            match next.take().or_else(|| inbox.try_recv().ok()) {
                Some(Message::Event(event)) => {
                    if matches!(event, Event::ReplicationStarted) {
                        push(line, LineEntry::Started);
                        epoch.fetch_add(1, Ordering::Relaxed);
                    }
                    engine.handle(Instant::now(), event);
                }
                Some(Message::Ask(ask)) => ask(engine),
                Some(Message::Stop) => return,
                None => break,
            }
        }
        let now = Instant::now();
        if engine.next_deadline().is_some_and(|deadline| deadline <= now) {
            engine.handle(now, Event::Tick);
        }
        engine.flush(Instant::now());
        confirmed.store(engine.confirmed().0, Ordering::Release);
    }
}

/// Streams, and begins anew when the stream is lost.
async fn replicate(
    url: DatabaseUrl,
    messages: Sender<Message>,
    confirmed: Arc<AtomicU64>,
    started: watch::Sender<bool>,
    mut stopping: watch::Receiver<bool>,
) {
    let send = |event| drop(messages.send(Message::Event(event)));
    loop {
        let connecting = ReplicationStream::connect(ReplicationConfig::new(url.clone()));
        let connected = tokio::select! {
            connected = connecting => connected,
            _ = stopping.wait_for(|stopping| *stopping) => return,
        };
        let mut stream = match connected {
            Ok(stream) => stream,
            Err(error) if error.is_retryable() => {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
            Err(error) => panic!("no stream: {error:?}"),
        };
        send(Event::ReplicationStarted);
        let _ = started.send(true);
        loop {
            let event = tokio::select! {
                event = stream.next() => Some(event),
                _ = stopping.wait_for(|stopping| *stopping) => None,
            };
            match event {
                Some(Ok(StreamEvent::Committed(transaction))) => {
                    send(Event::Committed(transaction))
                }
                Some(Ok(StreamEvent::Progress { wal_end })) => send(Event::Progress(wal_end)),
                Some(Err(_)) => break send(Event::ReplicationLost),
                None => return stream.shutdown().await,
            }
            stream.confirm(Lsn(confirmed.load(Ordering::Acquire)));
        }
    }
}
