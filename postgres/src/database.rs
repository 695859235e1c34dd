//! [`PostgresDatabase`]: the engine's [`Database`], whose calls return at once and whose answers are events.
//!
//! Each call becomes a task on the runtime that the caller names. How much runs at a time is bounded by the pools;
//! what waits for a connection waits for a limited time and then fails.

use crate::batch::{Batches, ReadCounters};
use crate::budget::MemoryBudget;
use crate::cast::cast;
use crate::catalog;
use crate::collation::Collations;
use crate::connect::ServerStart;
use crate::describe::{self, Description};
use crate::error::PostgresError;
use crate::function_runs::Functions;
use crate::kept_out::KeptOut;
use crate::lock_script::LockScripts;
use crate::pool::Pool;
use crate::publication::{PublishMode, Publisher};
use crate::read::{self, Read, ReadContext};
use crate::session::SessionOptions;
use crate::watch::{self, Look, Watched};
use convoy_engine::{
    CastId, CastRequest, Database, DescribeId, Described, ErrorCode, Event, FunctionRead, ProbeId,
    ProbeKind, Probed, QueryError, QueryRead, ReadId, Statement, StatementFacts, TableKind,
};
use convoy_types::{DatabaseUrl, RelationId};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Connections for what must never wait behind reads: flushes, probes, the watch.
const CONTROL_CONNECTIONS: usize = 3;
/// Connections for publishing tables, which may wait long for others' transactions.
const PUBLISH_CONNECTIONS: usize = 3;

/// How many live queries one statement reads, unless options say otherwise. Twice as many gain little; and what one
/// statement reads can't be spread over connections.
pub const BATCH_MAX: usize = 256;

/// Where events go. Must not block for long: it is called on the runtime's threads.
pub type Sink = Arc<dyn Fn(Event) + Send + Sync>;

/// How a database is used.
#[derive(Clone, Debug)]
pub struct DatabaseOptions {
    /// Where it is, and who reads named queries.
    pub url: DatabaseUrl,
    /// Who reads ad hoc SQL, where that is somebody else (`--sql-role`).
    pub ad_hoc_url: Option<DatabaseUrl>,
    /// What sessions have set.
    pub session: SessionOptions,
    /// At most so many connections for reads; as many again for ad hoc SQL where it has its own role.
    pub connections_max: usize,
    /// At most so long is waited for one of them.
    pub connection_wait_max: Duration,
    /// Connections that one read may take beside its own.
    pub helpers_max: usize,
    /// A read whose queries still wait after this long takes a helper.
    pub helper_after: Duration,
    /// At most so many live queries of one template are read by one statement; 1 reads each by its own.
    pub batch_max: usize,
    /// Who runs functions, where there are any.
    pub functions: Option<Arc<dyn Functions>>,
    /// What answers may take that are being read, or that nobody has taken in yet: past it rows wait in the server. Who
    /// takes an answer in gives its bytes back.
    pub answers: Arc<MemoryBudget>,
    /// How often the catalog is looked at.
    pub watch_interval: Duration,
    /// How long a newly published table waits for transactions that were writing to it.
    pub publish_wait_max: Duration,
    /// Whether tables are published.
    pub publish: PublishMode,
    /// Whether every snapshot is exported and named, for tests that compare.
    pub export_snapshots: bool,
}

impl DatabaseOptions {
    /// Returns the usual options for a database.
    pub fn new(url: DatabaseUrl) -> DatabaseOptions {
        DatabaseOptions {
            url,
            ad_hoc_url: None,
            session: SessionOptions::default(),
            connections_max: 12,
            connection_wait_max: Duration::from_secs(30),
            helpers_max: 4,
            helper_after: Duration::from_millis(5),
            batch_max: BATCH_MAX,
            functions: None,
            answers: MemoryBudget::new(usize::MAX),
            watch_interval: Duration::from_secs(1),
            publish_wait_max: Duration::from_secs(30),
            publish: PublishMode::Add,
            export_snapshots: false,
        }
    }
}

/// The database of the engine.
pub struct PostgresDatabase {
    shared: Arc<Shared>,
    runtime: Handle,
    /// The open reads. The engine's thread alone adds; a read's own task takes it out when it is over.
    reads: Arc<Mutex<HashMap<ReadId, mpsc::UnboundedSender<ReadCommand>>>>,
    watcher: JoinHandle<()>,
}

/// A [`PostgresDatabase`] for questions that are not the engine's. What they find out, it knows too.
#[derive(Clone)]
pub struct DatabaseHandle(Arc<Shared>);

impl DatabaseHandle {
    /// Makes our publications where they are missing, with the tables that were published before: they must be there
    /// before the replication slot is (P1).
    ///
    /// # Errors
    /// When the role may not make them: with the SQL for somebody who may.
    pub async fn create_publications(&self) -> Result<(), QueryError> {
        self.0.publisher.create().await
    }

    /// Lets all that is asked be asked of this server alone, from which the stream comes, or of any while there is no
    /// stream. A URL with several hosts, or a name that moves, may lead to another: then snapshots of one server would be
    /// compared with transactions of the other.
    pub fn bind_to(&self, server: Option<ServerStart>) {
        let context = &self.0.context;
        let pools = [&self.0.control, &context.main].into_iter().chain(&context.ad_hoc);
        pools.for_each(|pool| pool.bind_to(server));
        self.0.publisher.bind_to(server);
    }

    /// Returns what reads count.
    pub fn read_counters(&self) -> Arc<ReadCounters> {
        self.0.context.counters.clone()
    }

    /// Asks what a statement reads, takes and gives.
    ///
    /// # Errors
    /// What Postgres says of the statement, and why a table of it can't be published.
    pub async fn facts(&self, statement: &Statement) -> Described {
        self.0.describe(statement).await
    }
}

/// What all tasks share.
struct Shared {
    context: Arc<ReadContext>,
    control: Pool,
    publisher: Publisher,
    collations: Collations,
    sink: Sink,
    flushing: AtomicU8,
    watch_interval: Duration,
}

/// What the engine says to an open read.
enum ReadCommand {
    TakeSnapshot,
    Run(Vec<QueryRead>, Vec<FunctionRead>),
}

impl PostgresDatabase {
    /// Returns the database, whose tasks run on this runtime and whose answers go to this sink. Connects when first
    /// asked.
    pub fn new(options: DatabaseOptions, runtime: Handle, sink: Sink) -> PostgresDatabase {
        let pool = |url: DatabaseUrl, connections_max| {
            let session = options.session.clone();
            Pool::new(url, session, connections_max, options.connection_wait_max)
        };
        let control = pool(options.url.clone(), CONTROL_CONNECTIONS);
        let publisher = Publisher::new(
            pool(options.url.clone(), PUBLISH_CONNECTIONS),
            options.publish,
            options.publish_wait_max,
        );
        let connections_max = options.connections_max.max(1);
        let context = ReadContext {
            main: pool(options.url.clone(), connections_max),
            ad_hoc: options.ad_hoc_url.clone().map(|url| pool(url, connections_max)),
            watched: Watched::default(),
            lock_scripts: LockScripts::default(),
            ad_hoc_lock_scripts: LockScripts::default(),
            kept_out: KeptOut::default(),
            batches: Batches::new(options.batch_max),
            functions: options.functions.clone(),
            counters: Arc::default(),
            answers: options.answers.clone(),
            helpers_max: options.helpers_max,
            helper_after: options.helper_after,
            export_snapshots: options.export_snapshots,
        };
        let shared = Arc::new(Shared {
            context: Arc::new(context),
            control,
            publisher,
            collations: Collations::default(),
            sink,
            flushing: AtomicU8::new(IDLE),
            watch_interval: options.watch_interval,
        });
        let watcher = runtime.spawn(keep_watching(shared.clone()));
        PostgresDatabase { shared, runtime, reads: Arc::default(), watcher }
    }

    /// Returns a handle on it, which outlives its being given to the engine.
    pub fn handle(&self) -> DatabaseHandle {
        DatabaseHandle(self.shared.clone())
    }

    fn send(&self, id: ReadId, command: ReadCommand) {
        let reads = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = match reads.get(&id) {
            Some(read) => match read.send(command) {
                Ok(()) => return,
                Err(mpsc::error::SendError(command)) => command,
            },
            None => command,
        };
        drop(reads);
        let message = "the read is over";
        let error = || QueryError::new(ErrorCode::Unavailable, message);
        match gone {
            ReadCommand::TakeSnapshot => {
                (self.shared.sink)(Event::SnapshotTaken(id, Err(error())));
            }
            ReadCommand::Run(queries, functions) => {
                let queries = queries.iter().map(|query| query.query);
                for query in queries.chain(functions.iter().map(|function| function.query)) {
                    (self.shared.sink)(Event::QueryRead(id, query, Err(error())));
                }
                (self.shared.sink)(Event::ReadFinished(id));
            }
        }
    }
}

impl Drop for PostgresDatabase {
    fn drop(&mut self) {
        self.watcher.abort();
        // Reads that wait for a word of the engine's would wait for ever, with their connections in a transaction.
        self.reads.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Database for PostgresDatabase {
    fn describe(&mut self, id: DescribeId, statement: &Arc<Statement>) {
        let (shared, statement) = (self.shared.clone(), statement.clone());
        self.runtime.spawn(async move {
            let described = shared.describe(&statement).await;
            (shared.sink)(Event::Described(id, Box::new(described)));
        });
    }

    fn cast(&mut self, id: CastId, values: Vec<CastRequest>) {
        let shared = self.shared.clone();
        self.runtime.spawn(async move {
            let outcomes = cast(&shared.context.main, &values).await;
            (shared.sink)(Event::Cast(id, outcomes));
        });
    }

    fn open_read(&mut self, id: ReadId, tables: Vec<RelationId>) {
        // Unbounded in type only: the engine says two or three things to a read.
        let (commands, inbox) = mpsc::unbounded_channel();
        self.reads.lock().unwrap_or_else(PoisonError::into_inner).insert(id, commands);
        let (shared, reads) = (self.shared.clone(), self.reads.clone());
        self.runtime.spawn(async move {
            shared.read(id, tables, inbox).await;
            reads.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        });
    }

    fn take_snapshot(&mut self, id: ReadId) {
        self.send(id, ReadCommand::TakeSnapshot);
    }

    fn run(&mut self, id: ReadId, queries: Vec<QueryRead>, functions: Vec<FunctionRead>) {
        self.send(id, ReadCommand::Run(queries, functions));
    }

    fn close_read(&mut self, id: ReadId) {
        // The read's task sees its inbox close.
        self.reads.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    fn flush_wal(&mut self) {
        // One for all who wait; whoever asks while one is under way may need what was written since, so one more.
        let before = self.shared.flushing.swap(AGAIN, Ordering::AcqRel);
        if before != IDLE {
            return;
        }
        let shared = self.shared.clone();
        self.runtime.spawn(async move {
            loop {
                shared.flushing.store(UNDER_WAY, Ordering::Release);
                if let Err(error) = shared.flush().await {
                    tracing::warn!(error = %error.chain(), "could not make the server flush its WAL");
                }
                let done = shared.flushing.compare_exchange(
                    UNDER_WAY,
                    IDLE,
                    Ordering::AcqRel,
                    Ordering::Acquire,
                );
                if done.is_ok() {
                    return;
                }
            }
        });
    }

    fn probe_snapshot(&mut self, id: ProbeId, kind: ProbeKind) {
        let shared = self.shared.clone();
        self.runtime.spawn(async move {
            let probed = shared.probe(kind).await;
            (shared.sink)(Event::SnapshotProbed(id, probed));
        });
    }

    fn watch(&mut self, tables: Vec<RelationId>) {
        self.shared.context.watched.set(tables);
    }
}

// The states of `Shared::flushing`.
const IDLE: u8 = 0;
const UNDER_WAY: u8 = 1;
const AGAIN: u8 = 2;

impl Shared {
    async fn describe(&self, statement: &Statement) -> Described {
        let pool = match (statement.is_ad_hoc(), &self.context.ad_hoc) {
            (true, Some(ad_hoc)) => ad_hoc,
            _ => &self.context.main,
        };
        let watched = &self.context.watched;
        let (description, look, shown) = match self.look_up(pool, statement).await {
            // A connection that died while it was idle: the next one is fresh or tells the reason.
            Err(LookUpError { error, is_closed: true }) => {
                tracing::debug!(%error, "asking for a statement again");
                pool.close_idle();
                self.look_up(pool, statement).await
            }
            outcome => outcome,
        }
        .map_err(|failed| failed.error)?;
        let is_view = |id: &RelationId| {
            description.trees.get(id).is_some_and(|tree| tree.root.kind == TableKind::View)
        };
        let (views, tables): (Vec<RelationId>, Vec<RelationId>) =
            description.trees.keys().copied().partition(is_view);
        watched.link(&views, &tables);
        self.tell_changed(watched.observe(look, &shown));
        let publications = match self.publisher.publish(&description.trees).await {
            Ok(publications) => publications,
            // It is read on an interval, or when others change: no need of the stream.
            Err(error) if error.code == ErrorCode::InvalidArgs && has_way_out(statement) => {
                tracing::debug!(%error, "a table is not published");
                HashMap::new()
            }
            Err(error) => return Err(error),
        };
        let (facts, tables) = description.take();
        Ok(StatementFacts { tables: catalog::published(tables, &publications), ..facts })
    }

    /// Asks what a statement reads, and how its tables stand in the catalog at that time.
    async fn look_up(
        &self,
        pool: &Pool,
        statement: &Statement,
    ) -> Result<(Description, Look, Vec<(RelationId, watch::Fingerprint)>), LookUpError> {
        let no_connection =
            |error| LookUpError { error: QueryError::from(error), is_closed: false };
        let mut lease = pool.get_briefly(Duration::ZERO).await.map_err(no_connection)?;
        let look = self.context.watched.look();
        let looked_up = async {
            let description = describe::describe(&mut lease, statement, &self.collations).await?;
            let ids: Vec<RelationId> = description.trees.keys().copied().collect();
            // As the server's own role, since the watch will compare with what that sees; in this transaction where
            // the two are one.
            let shown = match pool.user() == self.control.user() {
                true => watch::fingerprints(&mut lease, &ids).await?,
                false => self.fingerprints(&ids).await?,
            };
            Ok((description, look, shown))
        };
        let looked_up = looked_up.await;
        looked_up.map_err(|error| LookUpError { error, is_closed: lease.is_closed() })
    }

    async fn fingerprints(
        &self,
        ids: &[RelationId],
    ) -> Result<Vec<(RelationId, watch::Fingerprint)>, PostgresError> {
        let mut lease = self.control.get_briefly(Duration::ZERO).await?;
        watch::fingerprints(&mut lease, ids).await
    }

    async fn read(
        &self,
        id: ReadId,
        tables: Vec<RelationId>,
        mut inbox: mpsc::UnboundedReceiver<ReadCommand>,
    ) {
        let asked = Instant::now();
        let opened = tokio::select! {
            opened = Read::open(self.context.clone(), tables) => opened,
            () = closed(&mut inbox) => return self.context.suspect_idle(asked),
        };
        let mut read = match opened {
            Ok((read, kept_out)) => {
                (self.sink)(Event::ReadOpened(id, Ok(kept_out)));
                read
            }
            Err(error) => return (self.sink)(Event::ReadOpened(id, Err(error))),
        };
        while let Some(command) = inbox.recv().await {
            let asked = Instant::now();
            match command {
                ReadCommand::TakeSnapshot => {
                    let taken = tokio::select! {
                        taken = read.take_snapshot() => taken,
                        () = closed(&mut inbox) => return read.abandon(asked),
                    };
                    (self.sink)(Event::SnapshotTaken(id, taken));
                }
                ReadCommand::Run(queries, functions) => {
                    let answer = |(query, result)| (self.sink)(Event::QueryRead(id, query, result));
                    let answer_function = |function: &FunctionRead, outcome| {
                        (self.sink)(match outcome {
                            Ok(answer) => Event::FunctionRead(id, function.query, answer),
                            Err(error) => Event::QueryRead(id, function.query, Err(error)),
                        });
                    };
                    let changed = tokio::select! {
                        changed = read.run(queries, functions, &answer, &answer_function) => changed,
                        () = closed(&mut inbox) => return read.abandon(asked),
                    };
                    self.tell_changed(changed);
                    return (self.sink)(Event::ReadFinished(id));
                }
            }
        }
    }

    /// Says that tables are no longer what they were.
    fn tell_changed(&self, changed: Vec<RelationId>) {
        if !changed.is_empty() {
            self.publisher.forget(&changed);
            self.context.lock_scripts.forget();
            self.context.ad_hoc_lock_scripts.forget();
            self.context.main.prepare_anew();
            self.context.ad_hoc.iter().for_each(Pool::prepare_anew);
            tracing::info!(?changed, "tables have changed in the catalog");
            (self.sink)(Event::CatalogChanged(changed));
        }
    }

    async fn flush(&self) -> Result<(), PostgresError> {
        let lease = self.control.get_briefly(Duration::ZERO).await?;
        // A local commit: a synchronous standby that hangs must not hold it up.
        let script = "BEGIN; SET LOCAL synchronous_commit = local; \
                      SELECT pg_catalog.pg_logical_emit_message(true, 'convoy', ''); COMMIT";
        Ok(lease.client().batch_execute(script).await?)
    }

    async fn probe(&self, kind: ProbeKind) -> Result<Probed, QueryError> {
        let mut lease = self.control.get_briefly(Duration::ZERO).await.map_err(QueryError::from)?;
        // Before the snapshot: what it does not show was open by then.
        let open = match kind {
            ProbeKind::Beginning => read::open_transactions(&lease).await?,
            ProbeKind::Newest => Vec::new(),
        };
        Ok(Probed { snapshot: read::snapshot(&mut lease).await?, open })
    }

    async fn look_at_catalog(&self) -> Result<(), PostgresError> {
        let watched = &self.context.watched;
        let tables = watched.to_look_at();
        if tables.is_empty() {
            return Ok(());
        }
        let mut lease = self.control.get_briefly(Duration::ZERO).await?;
        let look = watched.look();
        let shown = watch::fingerprints(&mut lease, &tables).await?;
        let mut changed = watched.observe(look, &shown);
        changed.extend(self.publisher.taken_out(lease.client()).await?);
        if !changed.is_empty() {
            drop(lease);
            if let Err(error) = self.publisher.adjust(&changed).await {
                tracing::warn!(%error, "could not bring the publications up to date");
            }
            self.tell_changed(changed);
        }
        Ok(())
    }
}

/// Why a statement could not be looked up.
struct LookUpError {
    error: QueryError,
    /// Whether the connection is what failed.
    is_closed: bool,
}

fn has_way_out(statement: &Statement) -> bool {
    statement.directives.refresh.is_some() || !statement.directives.depends.is_empty()
}

/// Waits until the engine has closed the read. Commands that come meanwhile come too early and are dropped.
async fn closed(inbox: &mut mpsc::UnboundedReceiver<ReadCommand>) {
    while inbox.recv().await.is_some() {}
}

async fn keep_watching(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(shared.watch_interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = shared.look_at_catalog().await {
            tracing::debug!(error = %error.chain(), "could not look at the catalog");
        }
    }
}
