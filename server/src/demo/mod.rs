//! `convoy demo`: a private Postgres, a shop in it that is open for business, and this server in front of it.
//!
//! Brings the parts together and takes them apart again. Never looks at a database that it did not start. Leaves the
//! command line and what is said in the terminal to `commands/demo.rs`.

mod change;
pub(crate) mod panels;
pub(crate) mod shop;
mod subscriber;
pub(crate) mod terminal;
pub(crate) mod verify;
pub(crate) mod writer;

use crate::app::FrontPage;
use crate::auth::JwtArgs;
use crate::config::{DatabaseArgs, ResultLimits, ServeArgs, postgres_search};
use crate::error::{ServerError, chain};
use crate::limits::{MemoryLimits, RequestLimits};
use crate::listener::bind_next;
use crate::project::NamedQueries;
use crate::serve::{ServeOptions, Server};
use convoy_postgres::launcher::{Fsync, LaunchOptions, PrivatePostgres, Progress, Reporter};
use convoy_postgres::{SessionOptions, connect};
use convoy_types::DatabaseUrl;
use panels::Recipes;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use terminal::StatusLine;
use tracing::warn;

/// What the demo is to be like.
#[derive(Clone, Debug)]
pub(crate) struct DemoOptions {
    /// Where to listen, or at the next free port.
    pub listen: SocketAddr,
    /// Commits a second.
    pub rate: u32,
    /// The folder of the Postgres programs, where they are not to be searched for.
    pub pg_bin: Option<PathBuf>,
    /// How its user calls this program.
    pub program: String,
}

/// A running demo, but for its writer.
pub(crate) struct Demo {
    /// The server.
    pub server: Server,
    /// Where the shop is, and who owns it.
    pub url: DatabaseUrl,
    /// Lines to paste.
    pub recipes: Recipes,
    /// What Postgres that is.
    pub version: String,
    /// How many rows the shop has.
    pub rows: u64,
    /// Last, so that it outlives its clients.
    postgres: PrivatePostgres,
}

impl Demo {
    /// Starts everything but the writer. Giving up half way leaves nothing behind.
    ///
    /// # Errors
    /// Where there is no Postgres, no port, or no replication.
    pub(crate) async fn start(
        options: DemoOptions,
        status: Arc<StatusLine>,
    ) -> Result<Self, ServerError> {
        if !options.listen.ip().is_loopback() {
            return Err(ServerError::Misused(format!(
                "--listen {}: the demo takes any SELECT from whoever reaches it, so it listens on loopback alone; \
                 for another machine's browser, ssh -L 4500:127.0.0.1:4500",
                options.listen
            )));
        }
        let listener = bind_next(options.listen).await?;
        let system = |source| ServerError::System { doing: "asking for the address", source };
        let address = listener.local_addr().map_err(system)?;
        let told = status.clone();
        let launch = LaunchOptions {
            search: postgres_search(options.pg_bin),
            temp_dir: std::env::temp_dir(),
            // What the demo shows is what a commit costs that is safe on disk.
            fsync: Fsync::On,
            settings: settings(),
            progress: Reporter::new(move |step| {
                // A line that can't be rewritten is not repeated every second.
                let is_repeat = matches!(step, Progress::Downloading { elapsed, .. } if elapsed.as_secs() % 10 != 0);
                if told.is_terminal() || !is_repeat {
                    told.step(&step.to_string());
                }
            }),
            ..LaunchOptions::default()
        };
        let postgres = PrivatePostgres::start(launch).await?;
        status.step("filling the shop");
        let url = shop::open(&postgres, options.rate).await?;
        let rows = shop::rows(&connect(&url, &shop::session("convoy demo")).await?).await?;
        let origin = format!("http://{address}");
        let psql = postgres.psql_line_as(shop::OWNER, shop::DATABASE);
        let recipes = panels::recipes(&origin, psql, &options.program);
        status.step("starting to follow the log");
        let server = Server::start(
            listener,
            ServeOptions {
                args: serve_args(address),
                url: url.clone(),
                ad_hoc_url: None,
                queries: NamedQueries::default(),
                backend: None,
                front_page: FrontPage::Demo,
                loopback_origins: true,
                is_own_postgres: true,
                extra: panels::route(&recipes).merge(change::route(url.clone())),
            },
        )
        .await?;
        let version = postgres.version().to_string();
        Ok(Demo { server, url, recipes, version, rows: rows.try_into().unwrap_or(0), postgres })
    }

    /// Ends the server, then Postgres, and removes what they left.
    pub(crate) async fn stop(self) {
        self.server.stop().await;
        if let Err(error) = self.postgres.stop().await {
            warn!(error = %chain(&error), "the private Postgres");
        }
    }
}

/// A small server: what some megabytes need, in memory and on disk.
pub(crate) fn settings() -> Vec<(String, String)> {
    [
        ("shared_buffers", "64MB"),
        ("max_wal_size", "256MB"),
        ("max_slot_wal_keep_size", "1GB"),
        ("synchronous_commit", "on"),
        ("log_min_messages", "fatal"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

/// Returns the flags that the demo's server runs with; none are read from the environment.
fn serve_args(listen: SocketAddr) -> ServeArgs {
    let session = SessionOptions::default();
    ServeArgs {
        database: DatabaseArgs {
            database_url: None,
            timezone: session.timezone,
            sql_role: None,
            statement_timeout: session.statement_timeout,
            connections: 12,
        },
        listen,
        project: PathBuf::from("."),
        public: None,
        // On loopback, about a database that is nobody's.
        allow_sql: true,
        allow_host: Vec::new(),
        allow_origin: Vec::new(),
        slot: None,
        max_lag: 1 << 30,
        refresh_lag: 64 << 20,
        replication_timeout: Duration::from_secs(15),
        ready_lag: Duration::from_secs(10),
        jwt: JwtArgs::default(),
        results: ResultLimits::default(),
        memory: MemoryLimits::default(),
        limits: RequestLimits::default(),
    }
}
