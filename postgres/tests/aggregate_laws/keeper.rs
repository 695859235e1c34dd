//! An engine over a real database, and a client that puts results together from what it is told.

use convoy_engine::{
    Argument, Digest, Engine, Event, Limits, LiveQueryInfo, Outbox, OutboxState, QueryReference,
    ResultRow, SessionId, Statement, Transition, UpdateKind, apply_diff,
};
use convoy_postgres::{DatabaseOptions, PostgresDatabase};
use convoy_types::{DatabaseUrl, Lsn, Transaction};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_postgres::Client;

/// Nothing takes so long, unless it never comes.
const LIMIT: Duration = Duration::from_secs(20);

/// How long is waited for an event before the stream's position is told again.
const PAUSE: Duration = Duration::from_millis(2);

const SESSION: SessionId = SessionId(1);

/// What a client has of a result.
#[derive(Clone, Debug, PartialEq)]
pub enum Shown {
    Rows { rows: Vec<ResultRow>, digest: Digest },
    Error(String),
}

struct Inbox(Arc<Mutex<Vec<Transition>>>);

impl Outbox for Inbox {
    fn send(&mut self, transition: Transition) -> OutboxState {
        self.0.lock().expect("no panic under it").push(transition);
        OutboxState::Ready
    }
}

pub struct Keeper {
    engine: Engine<PostgresDatabase>,
    events: mpsc::UnboundedReceiver<Event>,
    inbox: Arc<Mutex<Vec<Transition>>>,
    subscribed: usize,
    /// By the number of the subscription.
    pub shown: BTreeMap<usize, Shown>,
    /// How many diffs the client was sent.
    pub diffs: usize,
}

impl Keeper {
    /// Opens a database that is there, with a stream that this test plays.
    pub async fn new(url: &str, groups_bytes_max: usize) -> Keeper {
        let url: DatabaseUrl = url.parse().expect("a URL");
        let (events_tx, events) = mpsc::unbounded_channel();
        let sink = Arc::new(move |event| drop(events_tx.send(event)));
        let database = PostgresDatabase::new(DatabaseOptions::new(url), Handle::current(), sink);
        database.handle().create_publications().await.expect("publications");
        let limits = Limits {
            groups_bytes_max,
            // Every result is there before anything is compared.
            max_hold: LIMIT,
            audit_interval: Duration::ZERO,
            ..Limits::default()
        };
        let inbox = Arc::<Mutex<Vec<Transition>>>::default();
        let mut engine = Engine::new(limits, database, Instant::now());
        engine.handle(Instant::now(), Event::ReplicationStarted);
        let outbox = Box::new(Inbox(inbox.clone()));
        engine.handle(Instant::now(), Event::SessionOpened(SESSION, outbox));
        Keeper { engine, events, inbox, subscribed: 0, shown: BTreeMap::new(), diffs: 0 }
    }

    pub fn subscribe(&mut self, sql: &str, args: &[Option<Argument>]) {
        let statement = Arc::new(Statement::ad_hoc(sql).expect("a statement"));
        let query = QueryReference::fixed(statement, args.to_vec());
        let sub = self.subscribed.to_string().into();
        self.subscribed += 1;
        self.handle(Event::Subscribe { session: SESSION, sub, query, have: None });
    }

    pub fn commit(&mut self, transaction: Transaction) {
        self.handle(Event::Committed(transaction));
    }

    fn handle(&mut self, event: Event) {
        self.engine.handle(Instant::now(), event);
    }

    /// Takes what came into the results, without waiting for what has to be read.
    pub fn flush(&mut self) {
        self.engine.flush(Instant::now());
        self.receive();
    }

    /// Waits until every result is known after all that was committed.
    pub async fn settle(&mut self, admin: &Client) {
        let settled = async {
            loop {
                while let Ok(event) = self.events.try_recv() {
                    self.handle(event);
                }
                self.flush();
                if self.is_settled() {
                    return;
                }
                // Nobody else writes to the tables: what is there now has been told.
                let sql = "select pg_current_wal_insert_lsn()::text";
                let row = admin.query_one(sql, &[]).await.expect("a position");
                let lsn: Lsn = row.get::<_, String>(0).parse().expect("a position");
                self.handle(Event::Progress(lsn));
                self.flush();
                if let Ok(Some(event)) = tokio::time::timeout(PAUSE, self.events.recv()).await {
                    self.handle(event);
                }
                if self.engine.next_deadline().is_some_and(|deadline| deadline <= Instant::now()) {
                    self.handle(Event::Tick);
                }
            }
        };
        if tokio::time::timeout(LIMIT, settled).await.is_err() {
            panic!("never settled: {:?}", self.engine.status());
        }
    }

    fn is_settled(&self) -> bool {
        let status = self.engine.status();
        self.shown.len() == self.subscribed
            && status.streaming
            && status.transactions_waiting == 0
            && status.dirty_queries == 0
            && status.reads == 0
    }

    fn receive(&mut self) {
        let transitions = std::mem::take(&mut *self.inbox.lock().expect("no panic under it"));
        for update in transitions.into_iter().flat_map(|transition| transition.updates) {
            let number: usize = update.sub.parse().expect("a number");
            let shown = match update.kind {
                UpdateKind::Snapshot(snapshot) => {
                    Shown::Rows { rows: snapshot.value.rows.clone(), digest: snapshot.value.digest }
                }
                UpdateKind::Diffs(diffs) => {
                    self.diffs += diffs.len();
                    let Some(Shown::Rows { mut rows, .. }) = self.shown.remove(&number) else {
                        panic!("a diff for {number}, of which there are no rows")
                    };
                    for diff in &diffs {
                        apply_diff(&mut rows, &diff.value.ops).expect("a diff that fits");
                    }
                    let digest = diffs.last().expect("a diff").value.digest;
                    Shown::Rows { rows, digest }
                }
                UpdateKind::Error { error, .. } => Shown::Error(error.message),
                UpdateKind::Unchanged | UpdateKind::Stale(_) => {
                    panic!("nobody has anything, and nobody is slow")
                }
            };
            self.shown.insert(number, shown);
        }
    }

    /// Returns how each statement is kept, by its text.
    pub fn live_queries(&self) -> Vec<LiveQueryInfo> {
        self.engine.live_queries()
    }
}
