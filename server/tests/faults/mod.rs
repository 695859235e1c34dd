//! What goes wrong below a running server, and what its subscribers see of it: in the end exactly what Postgres says.

mod commits;
mod failover;
mod neighbours;
mod network;
mod pool;
mod proxy;
mod publications;
mod quiet;
mod restarts;
mod slot;

use crate::client::get;
use crate::mirror::Mirror;
use crate::support::{Fixture, ORDERS, connect};
use convoy_postgres::launcher::PrivatePostgres;
use convoy_postgres::testing;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_postgres::Client;

const ALL: &str = "select id, status from orders order by id";
const COUNT: &str = "select count(*) as n, coalesce(sum(total), 0) as total from orders";

/// What servers run with here.
const FLAGS: [&str; 1] = ["--allow-sql"];

/// A Postgres of a test's own, with the orders in it.
async fn postgres(settings: &[(&str, &str)]) -> (PrivatePostgres, String) {
    let mut options = testing::options();
    options.settings.extend(settings.iter().map(|(name, value)| ((*name).into(), (*value).into())));
    let server = PrivatePostgres::start(options).await.expect("a server");
    server.create_database("shop", Default::default()).await.expect("a database");
    let url = server.url("shop");
    connect(&url).await.batch_execute(ORDERS).await.expect("a table");
    (server, url)
}

/// Subscribers of a result that is kept from the WAL, and of one that is read again at every change.
struct Mirrors(Mirror, Mirror);

impl Mirrors {
    async fn open(fixture: &Fixture) -> Mirrors {
        let all = Mirror::open(fixture.address, "/api/query/all").await;
        Mirrors(all, Mirror::of_sql(fixture.address, COUNT).await)
    }

    /// Waits until both show what Postgres says.
    async fn agree(&mut self, client: &Client) {
        self.0.shows_what(client, ALL).await;
        self.1.shows_what(client, COUNT).await;
    }

    /// How often each was sent something else than before.
    fn changes(&self) -> [u32; 2] {
        [self.0.shown().changes, self.1.shown().changes]
    }
}

/// What a server says of its stream.
async fn replication(fixture: &Fixture) -> Value {
    get(fixture.address, "/api/status").await.json()["replication"].clone()
}

/// What a server measures under this name.
async fn metric(fixture: &Fixture, name: &str) -> f64 {
    let metrics = get(fixture.address, "/metrics").await.body;
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name}: {metrics}")).parse().expect("a number")
}

/// Writers that never stop, whatever becomes of their connections.
struct Writers {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<u32>,
}

impl Writers {
    fn start(url: &str) -> Writers {
        let (stop, mut tasks) = (Arc::new(AtomicBool::new(false)), JoinSet::new());
        for writer in 0..3 {
            let (url, stop) = (url.to_owned(), stop.clone());
            tasks.spawn(async move {
                let mut written = 0;
                while !stop.load(Ordering::Relaxed) {
                    let Ok((client, connection)) =
                        tokio_postgres::connect(&url, tokio_postgres::NoTls).await
                    else {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        continue;
                    };
                    let driver = tokio::spawn(connection);
                    // The one that answers before its commit is safe is the one whose commits a crash takes back.
                    let commit = if writer == 0 { "off" } else { "on" };
                    let mut result = client.batch_execute(&format!("set synchronous_commit = {commit}")).await;
                    while result.is_ok() && !stop.load(Ordering::Relaxed) {
                        let id = 1000 + written * 3 + writer;
                        let sql = format!(
                            "begin; insert into orders values ({id}, {writer}, 'new', 1) on conflict do nothing; \
                             update orders set status = 'w{written}', total = {written} where id = 1 + {writer}; \
                             delete from orders where id = {id} - 60; commit"
                        );
                        result = client.batch_execute(&sql).await;
                        written += 1;
                    }
                    drop(client);
                    driver.abort();
                }
                written
            });
        }
        Writers { stop, tasks }
    }

    /// Ends them, and returns how many transactions they tried.
    async fn end(self) -> u32 {
        self.stop.store(true, Ordering::Relaxed);
        self.tasks.join_all().await.into_iter().sum()
    }
}
