//! A server of a test's own, on a database of its own.

use axum::Router;
use clap::Parser;
use convoy_postgres::testing;
use convoy_server::app::FrontPage;
use convoy_server::config::{Cli, Command, ServeArgs};
use convoy_server::mutations::Backend;
use convoy_server::project::NamedQueries;
use convoy_server::serve::{ServeOptions, Server, bind};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// A server, its database, and a connection to write with.
pub struct Fixture {
    pub server: Server,
    pub address: SocketAddr,
    pub url: String,
    pub writer: tokio_postgres::Client,
    pub project: tempfile::TempDir,
}

/// The table of the tests' project.
pub const ORDERS: &str = "create table orders (id int8 primary key, tenant int4 not null, status text not null, total numeric);
     insert into orders values (1, 7, 'open', 1.50), (2, 7, 'paid', 2), (3, 8, 'open', null)";

/// What the tests' project has.
const FILES: [(&str, &str); 2] = [
    (
        "queries/orders/byTenant.sql",
        "-- @param tenant int4\n-- @param status text = 'open'\n\
         select id, status, total from orders where tenant = $1 and status = $2 order by id",
    ),
    ("queries/all.sql", "select id, status from orders order by id"),
];

/// No audit, which would mend what was lost before anybody sees it.
pub const UNAUDITED: [&str; 2] = ["--audit-interval", "0"];

/// Reads flags as `convoy serve` does; without an audit, unless they say how often.
pub fn serve_args(flags: &[&str]) -> ServeArgs {
    let program = ["convoy", "serve", "--listen", "127.0.0.1:0"].into_iter();
    let is_audited = flags.contains(&UNAUDITED[0]);
    let unaudited = UNAUDITED.into_iter().filter(|_| !is_audited);
    let all = program.chain(unaudited).chain(flags.iter().copied());
    match Cli::parse_from(all).command {
        Command::Serve(args) => *args,
        other => panic!("serve was asked for, not {other:?}"),
    }
}

/// Writes the tests' project into a folder.
pub fn write_project(folder: &Path) {
    for (path, text) in FILES {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
        std::fs::write(path, text).expect("a file");
    }
}

impl Fixture {
    /// Starts a server with three orders in its database.
    pub async fn start(name: &str, flags: &[&str]) -> Fixture {
        let url = testing::shared().await.database(name).await;
        connect(&url).await.batch_execute(ORDERS).await.expect("a table");
        Fixture::on(&url, flags).await
    }

    /// Starts a server on a database that is there.
    pub async fn on(url: &str, flags: &[&str]) -> Fixture {
        Fixture::between(url, url, flags).await
    }

    /// Starts a server that has one way to its database; what the test writes goes another.
    pub async fn between(url: &str, writer_url: &str, flags: &[&str]) -> Fixture {
        let project = tempfile::tempdir().expect("a folder");
        write_project(project.path());
        Fixture::with(url, writer_url, flags, project, None).await
    }

    /// Starts a server with a project of the test's own, and perhaps somebody who runs its functions.
    pub async fn with(
        url: &str,
        writer_url: &str,
        flags: &[&str],
        project: tempfile::TempDir,
        backend: Option<Backend>,
    ) -> Fixture {
        let writer = connect(writer_url).await;
        let args = serve_args(flags);
        let listener = bind(args.listen).await.expect("a port");
        let options = ServeOptions {
            front_page: FrontPage::of(args.public.as_deref()).expect("a folder"),
            args,
            url: url.parse().expect("a URL"),
            ad_hoc_url: None,
            queries: NamedQueries::load(project.path()).expect("a project"),
            backend,
            loopback_origins: false,
            is_own_postgres: false,
            extra: Router::new(),
        };
        let server = Server::start(listener, options).await.expect("a server");
        Fixture { address: server.address(), url: url.to_owned(), server, writer, project }
    }

    /// Writes, and returns a position that includes it.
    pub async fn write(&self, sql: &str) -> String {
        self.writer.batch_execute(sql).await.expect("a write");
        let row = self
            .writer
            .query_one("select pg_current_wal_insert_lsn()::text", &[])
            .await
            .expect("a position");
        row.get(0)
    }
}

pub async fn connect(url: &str) -> tokio_postgres::Client {
    let (client, connection) =
        tokio_postgres::connect(url, tokio_postgres::NoTls).await.expect("a connection");
    tokio::spawn(async move {
        // The test's end is the connection's end.
        let _ = connection.await;
    });
    client
}

/// Asks until it is so; the test's own time is the limit.
pub async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let waits = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waits)
        .await
        .unwrap_or_else(|_| panic!("never: {what}"));
}

/// Returns the first column of the first row.
pub async fn text(client: &tokio_postgres::Client, sql: &str) -> Option<String> {
    let row = client.query_opt(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    row.and_then(|row| row.get(0))
}
