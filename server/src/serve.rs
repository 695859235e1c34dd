//! A running server: everything wired together, from the replication stream to the sockets, and taken apart again.

use crate::app::{AdHocSql, App, AppState, FrontPage};
use crate::auth::{Identify, OptionsError, Peer};
use crate::config::ServeArgs;
use crate::error::{ServerError, chain};
use crate::guard::Guard;
use crate::listener::BoundedListener;
pub use crate::listener::bind;
use crate::metrics::Metrics;
use crate::mutations::Backend;
use crate::open_files;
use crate::pipeline::{EngineThread, EventQueue, Lag, Replication, ReplicationOptions, Started};
use crate::project::NamedQueries;
use crate::sessions::{Sessions, expiry_interval};
use crate::shutdown;
use axum::Router;
use convoy_postgres::doctor::{PreflightError, preflight};
use convoy_postgres::{DatabaseOptions, Pool, PostgresDatabase};
use convoy_replication::{ReplicationConfig, SlotChoice};
use convoy_types::{DatabaseUrl, TargetSessionAttrs};
use std::net::SocketAddr;
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout, timeout_at};
use tracing::{info, warn};

/// How long a start may go without the database before it counts as failed.
const START_MAX: Duration = Duration::from_secs(8);
/// How long requests may take to end once the server stops.
const DRAIN_MAX: Duration = Duration::from_secs(5);
/// How long what is left of mutations may take then.
const FINISH_MAX: Duration = Duration::from_secs(2);
/// Connections for questions of our own: the slot, roles.
const OWN_CONNECTIONS: usize = 2;

/// What to serve.
pub struct ServeOptions {
    /// The flags.
    pub args: ServeArgs,
    /// The database, with its password.
    pub url: DatabaseUrl,
    /// Who reads ad hoc SQL, where that is somebody else.
    pub ad_hoc_url: Option<DatabaseUrl>,
    /// The project's queries.
    pub queries: NamedQueries,
    /// Who runs the project's functions, where it has any.
    pub backend: Option<Backend>,
    /// What stands at `/`.
    pub front_page: FrontPage,
    /// Whether pages of any loopback origin may call.
    pub loopback_origins: bool,
    /// Whether the database is a private Postgres that was started for this.
    pub is_own_postgres: bool,
    /// Routes beside the usual ones.
    pub extra: Router<App>,
}

/// A running server.
pub struct Server {
    app: App,
    address: SocketAddr,
    tasks: JoinSet<()>,
    stop_http: watch::Sender<bool>,
    stop_replication: watch::Sender<bool>,
    http: tokio::task::JoinHandle<std::io::Result<()>>,
    replication: tokio::task::JoinHandle<()>,
    engine: EngineThread,
}

impl Server {
    /// Listens, and waits until results can be live.
    ///
    /// # Errors
    /// One clear reason within ten seconds, where the address or the database can't be used.
    pub async fn start(listener: TcpListener, options: ServeOptions) -> Result<Self, ServerError> {
        let ServeOptions { args, url, ad_hoc_url, queries, backend, front_page, .. } = options;
        let (loopback_origins, extra) = (options.loopback_origins, options.extra);
        let is_own_postgres = options.is_own_postgres;
        let (url, ad_hoc_url) = (of_primaries(url), ad_hoc_url.map(of_primaries));
        let system = |doing: &'static str| move |source| ServerError::System { doing, source };
        let address = listener.local_addr().map_err(system("asking for the address"))?;

        let memory = args.memory.parts()?;
        let identify = identify(&args, backend.as_ref()).await?;
        if identify.is_none() {
            queries.check_without_identity()?;
        }
        let deadline = tokio::time::Instant::now() + START_MAX;
        let session = args.database.session();
        match timeout_at(deadline, preflight(&url, &session)).await {
            Ok(checked) => checked?,
            Err(_) => return Err(PreflightError::Timeout { limit: START_MAX }.into()),
        }

        let queue = EventQueue::new(args.refresh_lag, &memory);
        let database_options = DatabaseOptions {
            ad_hoc_url,
            session: session.clone(),
            connections_max: args.database.connections,
            batch_max: args.results.batch_max,
            functions: backend.as_ref().map(|backend| backend.functions.clone()),
            answers: queue.answers().clone(),
            // Who is waited for is the better answer than that it takes too long.
            publish_wait_max: args.results.first_answer_max.mul_f64(0.8),
            ..DatabaseOptions::new(url.clone())
        };
        let answers = queue.clone();
        let database = PostgresDatabase::new(
            database_options,
            Handle::current(),
            Arc::new(move |event| answers.push_answer(event)),
        );
        let handle = database.handle();
        let engine = EngineThread::start(queue.clone(), args.engine_limits(&memory), database)
            .map_err(system("starting the engine's thread"))?;

        let metrics = Metrics::default();
        let sessions = Arc::new(Sessions::new(
            queue.clone(),
            args.limits.clone(),
            &memory,
            metrics.counters(),
        ));
        let lag = Arc::new(Lag::new(args.ready_lag));
        let mutations = backend.map(|backend| backend.mutations);
        if let Some(mutations) = &mutations {
            mutations.attach(queue.clone());
        }
        let app = App::new(AppState {
            guard: Guard {
                hosts: args.allow_host.clone(),
                origins: args.allow_origin.clone(),
                loopback_origins,
            },
            identify,
            limits: args.limits.clone(),
            memory,
            ad_hoc_sql: if args.allow_sql { AdHocSql::Allowed } else { AdHocSql::Refused },
            front_page,
            queries: RwLock::new(Arc::new(queries)),
            mutations,
            sessions: sessions.clone(),
            database: handle.clone(),
            queue: queue.clone(),
            lag: lag.clone(),
            metrics,
            answer_timeout: args.results.first_answer_max + args.database.statement_timeout,
            started_at: Instant::now(),
        });

        let (stop_http, http_stopping) = watch::channel(false);
        let (stop_replication, replication_stopping) = watch::channel(false);
        let connections_max = args.limits.connections_max.min(open_files::connections_max());
        info!(connections_max, "clients wait to be accepted once there are so many (ulimit -Hn)");
        let listener = BoundedListener::new(listener, connections_max, args.limits.send_timeout);
        let router = app.router(extra).into_make_service_with_connect_info::<Peer>();
        let http = tokio::spawn(async move {
            axum::serve(listener, router)
                .with_graceful_shutdown(shutdown::begun(http_stopping))
                .await
        });

        let pool = Pool::new(url.clone(), session, OWN_CONNECTIONS, Duration::from_secs(5));
        let mut config = ReplicationConfig::new(url);
        config.transaction_bytes_max = memory.transaction();
        config.time_zone = args.database.timezone.clone();
        config.wal_sender_timeout = args.replication_timeout;
        config.slot = args.slot.clone().map_or(SlotChoice::Temporary, SlotChoice::Named);
        let options = ReplicationOptions { config, max_lag_bytes: args.max_lag };
        let (replication, started) = Replication::new(
            options,
            handle,
            pool.clone(),
            (queue, engine.turns()),
            lag,
            replication_stopping,
        );
        let mut tasks = JoinSet::new();
        tasks.spawn(expire_sessions(sessions, args.limits.session_ttl));
        tasks.spawn(sample_rates(app.clone()));
        if let Some(mutations) = app.mutations.clone() {
            tasks.spawn(async move { mutations.keep_up().await });
        }
        let replication = tokio::spawn(replication.run());
        let server =
            Server { app, address, tasks, stop_http, stop_replication, http, replication, engine };
        if let Err(error) = wait_for_start(started, deadline).await {
            server.stop().await;
            return Err(error);
        }
        if !is_own_postgres {
            warn_of_superuser(&pool).await;
        }
        Ok(server)
    }

    /// Returns where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns what its requests share.
    pub fn app(&self) -> &App {
        &self.app
    }

    /// Waits until something ends that should not.
    pub async fn failed(&mut self) -> ServerError {
        let mut tick = interval(Duration::from_millis(500));
        loop {
            tick.tick().await;
            if !self.engine.is_running()
                || self.http.is_finished()
                || self.replication.is_finished()
            {
                return ServerError::EngineStopped;
            }
        }
    }

    /// Says goodbye to every stream, lets requests end, drops a temporary slot.
    pub async fn stop(mut self) {
        self.app.sessions.shut_down();
        let _ = self.stop_http.send(true);
        if timeout(DRAIN_MAX, &mut self.http).await.is_err() {
            warn!("some requests did not end in time");
            self.http.abort();
        }
        let _ = self.stop_replication.send(true);
        // Ending a stream takes at most two seconds of its own.
        if timeout(DRAIN_MAX, &mut self.replication).await.is_err() {
            self.replication.abort();
        }
        self.tasks.shutdown().await;
        if let Some(mutations) = &self.app.mutations
            && timeout(FINISH_MAX, mutations.finish()).await.is_err()
        {
            warn!("repeats of the last mutations may be told another position");
        }
        // The engine's thread is joined, which takes as long as one event does.
        let engine = self.engine;
        let _ = tokio::task::spawn_blocking(move || drop(engine)).await;
    }
}

/// Returns who finds out who calls; none where nobody is told from anybody else.
async fn identify(
    args: &ServeArgs,
    backend: Option<&Backend>,
) -> Result<Option<Arc<dyn Identify>>, ServerError> {
    let of_project = backend.and_then(|backend| backend.identify.clone());
    match (args.jwt.identify().await?, of_project) {
        (Some(_), Some(_)) => Err(OptionsError::Twice.into()),
        (Some(bearer), None) => Ok(Some(Arc::new(bearer))),
        (None, of_project) => Ok(of_project),
    }
}

/// Of several hosts only a primary will do, whichever it is at the time: a standby has no stream for us, and its snapshots
/// don't say what they show (P3). Where there is one, its own words are the better reason.
fn of_primaries(url: DatabaseUrl) -> DatabaseUrl {
    let is_any = url.target_session_attrs == TargetSessionAttrs::Any;
    let target_session_attrs = match is_any && url.hosts.len() > 1 {
        true => TargetSessionAttrs::Primary,
        false => url.target_session_attrs,
    };
    DatabaseUrl { target_session_attrs, ..url }
}

/// Waits until the stream runs or waits for others, or until it is clear that it won't.
async fn wait_for_start(
    mut started: watch::Receiver<Started>,
    deadline: tokio::time::Instant,
) -> Result<(), ServerError> {
    let is_decided = |state: &Started| match state {
        Started::Streaming | Started::Waiting(_) | Started::Failed(_) => true,
        Started::NotYet | Started::Retrying(_) => false,
    };
    // Where the time runs out, what it was then is the word.
    let _ = timeout_at(deadline, started.wait_for(is_decided)).await;
    let state = started.borrow().clone();
    match state {
        Started::Streaming => Ok(()),
        Started::Waiting(blockers) => {
            warn!(
                blockers,
                "serving already, but nothing is live before these transactions have ended"
            );
            Ok(())
        }
        Started::Failed(reason) | Started::Retrying(reason) => {
            Err(ServerError::Replication { reason })
        }
        Started::NotYet => Err(ServerError::Replication {
            reason: format!(
                "the database did not answer within {START_MAX:?}: is the host right, and reachable?"
            ),
        }),
    }
}

/// A superuser's SELECT can read files of the server: a role with less will do (P12).
async fn warn_of_superuser(pool: &Pool) {
    let asked = async {
        let lease = pool.get().await?;
        let sql = "SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user";
        let row = lease.client().query_typed_one(sql, &[]).await?;
        Ok::<bool, ServerError>(row.try_get(0)?)
    };
    match asked.await {
        Ok(true) => warn!(
            role = pool.user(),
            "connected as a superuser: a role with LOGIN, REPLICATION and SELECT will do"
        ),
        Ok(false) => {}
        Err(error) => warn!(error = %chain(&error), "can't say whether the role is a superuser"),
    }
}

async fn expire_sessions(sessions: Arc<Sessions>, ttl: Duration) {
    let mut tick = interval(expiry_interval(ttl));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        sessions.expire();
        sessions.relieve();
    }
}

async fn sample_rates(app: App) {
    let mut tick = interval(Duration::from_secs(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let Some(status) = app.queue.ask(|engine| engine.status()).await else { return };
        app.metrics.sample(Instant::now(), status.counters);
    }
}
