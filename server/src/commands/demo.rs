//! `convoy demo`: everything with nothing set up, on a private Postgres that goes with the process.

use crate::app::FrontPage;
use crate::config::{Cli, Command, LISTEN_DEFAULT, ServeArgs, postgres_search};
use crate::error::ServerError;
use crate::project::NamedQueries;
use crate::serve::{ServeOptions, Server, bind};
use crate::shutdown;
use axum::Router;
use clap::{Args, Parser};
use convoy_postgres::launcher::{LaunchOptions, Listen, Locale, PrivatePostgres, Progress, Reporter};
use std::net::SocketAddr;
use std::path::PathBuf;
use tokio::net::TcpListener;
use tracing::{debug, info};

/// The database of the demo.
const DATABASE: &str = "shop";
/// How many ports are tried where one is taken.
const PORTS_MAX: u16 = 100;

/// The options of `demo`.
#[derive(Args, Clone, Debug)]
pub struct DemoArgs {
    /// The address to listen on; the next free port is taken where this one is not free
    #[arg(long, value_name = "ADDR", default_value = LISTEN_DEFAULT, env = "CONVOY_LISTEN")]
    pub listen: SocketAddr,
    /// The folder of the Postgres programs; found or fetched by default
    #[arg(long, value_name = "DIR", env = "CONVOY_PG_BIN")]
    pub pg_bin: Option<PathBuf>,
}

/// Runs the demo until a signal comes.
///
/// # Errors
/// Whatever keeps it from running.
pub async fn run(args: DemoArgs) -> Result<(), ServerError> {
    let system = |source| ServerError::System { doing: "listening for signals", source };
    let stopping = shutdown::listen().map_err(system)?;
    if !args.listen.ip().is_loopback() {
        // Ad hoc SQL is on, and nobody is asked who they are.
        let message = "the demo serves loopback alone: give --listen 127.0.0.1 and a port";
        return Err(ServerError::Misused(message.to_owned()));
    }
    let listener = bind_next_free(args.listen).await?;
    let options = LaunchOptions {
        search: postgres_search(args.pg_bin.clone()),
        temp_dir: std::env::temp_dir(),
        listen: Listen::Loopback,
        progress: Reporter::new(|step: &Progress| debug!(?step, "private Postgres")),
        ..LaunchOptions::default()
    };
    let postgres = tokio::select! {
        postgres = PrivatePostgres::start(options) => postgres?,
        () = shutdown::begun(stopping.clone()) => return Ok(()),
    };
    let outcome = serve(&postgres, listener, stopping).await;
    postgres.stop().await?;
    outcome
}

async fn serve(
    postgres: &PrivatePostgres,
    listener: TcpListener,
    stopping: tokio::sync::watch::Receiver<bool>,
) -> Result<(), ServerError> {
    postgres.create_database(DATABASE, Locale::C).await?;
    let url = postgres.url(DATABASE).parse().map_err(|error| ServerError::Misused(format!("{error}")))?;
    let options = ServeOptions {
        args: serve_args(),
        url,
        ad_hoc_url: None,
        queries: NamedQueries::default(),
        front_page: FrontPage::Demo,
        loopback_origins: true,
        extra: Router::new(),
    };
    let mut server = tokio::select! {
        server = Server::start(listener, options) => server?,
        () = shutdown::begun(stopping.clone()) => return Ok(()),
    };
    info!("listening on http://{}", server.address());
    let outcome = tokio::select! {
        () = shutdown::begun(stopping) => Ok(()),
        failure = server.failed() => Err(failure),
    };
    server.stop().await;
    outcome
}

fn serve_args() -> ServeArgs {
    match Cli::parse_from(["convoy", "serve", "--allow-sql"]).command {
        Command::Serve(args) => *args,
        _ => unreachable!("serve is what was parsed"),
    }
}

async fn bind_next_free(wanted: SocketAddr) -> Result<TcpListener, ServerError> {
    let mut address = wanted;
    loop {
        match bind(address).await {
            Ok(listener) => return Ok(listener),
            Err(error) => {
                let next = address.port().checked_add(1).filter(|port| port - wanted.port() < PORTS_MAX);
                let is_taken = matches!(&error, ServerError::Listen { source, .. } if source.kind() == std::io::ErrorKind::AddrInUse);
                match next {
                    Some(port) if is_taken => address.set_port(port),
                    _ => return Err(error),
                }
            }
        }
    }
}
