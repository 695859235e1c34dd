//! What goes wrong below a running server, and what its subscribers see of it: in the end exactly what Postgres says.

use crate::client::{EventStream, get};
use crate::mirror::Mirror;
use crate::support::{Fixture, ORDERS, connect, text, until};
use convoy_postgres::launcher::{PrivatePostgres, Shutdown};
use convoy_postgres::testing;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_postgres::Client;

const ALL: &str = "select id, status from orders order by id";
const COUNT: &str = "select count(*) as n, coalesce(sum(total), 0) as total from orders";

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

/// A result that is kept from the WAL, and one that is read again at every change.
async fn mirrors(fixture: &Fixture) -> (Mirror, Mirror) {
    let all = Mirror::open(fixture.address, "/api/query/all").await;
    (all, Mirror::of_sql(fixture.address, COUNT).await)
}

async fn agree(mirrors: &mut (Mirror, Mirror), client: &Client) {
    mirrors.0.shows_what(client, ALL).await;
    mirrors.1.shows_what(client, COUNT).await;
}

async fn status(fixture: &Fixture) -> Value {
    get(fixture.address, "/api/status").await.json()
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

#[tokio::test(flavor = "multi_thread")]
async fn p4_restarts_and_crashes_of_postgres_lose_and_double_nothing() {
    // Nobody flushes what is committed asynchronously, so that a crash takes commits back that were visible.
    let (server, url) = postgres(&[("wal_writer_delay", "10s")]).await;
    let fixture = Fixture::on(&url, &["--allow-sql"]).await;
    let mut mirrors = mirrors(&fixture).await;
    for (round, how) in
        [Shutdown::Fast, Shutdown::Immediate, Shutdown::Kill].into_iter().enumerate()
    {
        let writers = Writers::start(&url);
        let moved = format!("writers of round {round}");
        mirrors.0.until(&moved, |shown| shown.rows.len() > 20).await;
        server.down(how).await.expect("it is down");
        // What is written before the server has found its way back counts too.
        server.up().await.expect("it is up");
        let client = connect(&url).await;
        let early = format!("insert into orders values ({round} - 100, 1, 'early', 1)");
        client.batch_execute(&early).await.expect("a write");
        assert!(writers.end().await > 20);
        agree(&mut mirrors, &client).await;
        until("it streams again", async || {
            let status = status(&fixture).await;
            status["replication"]["state"] == "streaming"
                && status["replication"]["reconnects"].as_u64() > Some(round as u64)
        })
        .await;
        // It is live again, and not merely read again.
        client
            .batch_execute(
                "delete from orders where id > 3; insert into orders values (500, 1, 'late', 1)",
            )
            .await
            .expect("writes");
        agree(&mut mirrors, &client).await;
    }
    let client = connect(&url).await;
    let slots = "select count(*)::text from pg_replication_slots";
    assert_eq!(text(&client, slots).await.as_deref(), Some("1"));
    fixture.server.stop().await;
    assert_eq!(text(&client, slots).await.as_deref(), Some("0"));
    server.stop().await.expect("it is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn p10_a_walsender_that_is_killed_costs_nothing() {
    let fixture = Fixture::start("walsender", &["--allow-sql"]).await;
    let mut mirrors = mirrors(&fixture).await;
    let client = connect(&fixture.url).await;
    let writers = Writers::start(&fixture.url);
    for round in 1..=3_u64 {
        let slot = status(&fixture).await["replication"]["slot"].clone();
        let slot = slot.as_str().expect("a slot");
        let kill = format!(
            "select pg_terminate_backend(active_pid)::text from pg_replication_slots where slot_name = '{slot}'"
        );
        assert_eq!(text(&client, &kill).await.as_deref(), Some("true"));
        until("another stream", async || {
            let replication = status(&fixture).await["replication"].clone();
            replication["reconnects"] == json!(round) && replication["state"] == "streaming"
        })
        .await;
        let gone =
            format!("select slot_name::text from pg_replication_slots where slot_name = '{slot}'");
        assert_eq!(text(&client, &gone).await, None);
    }
    assert!(writers.end().await > 50);
    agree(&mut mirrors, &client).await;
    fixture.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_on_one_database_do_not_meet() {
    let one = Fixture::start("two", &["--allow-sql"]).await;
    let other = Fixture::on(&one.url, &["--allow-sql"]).await;
    let (mut first, mut second) = (mirrors(&one).await, mirrors(&other).await);
    let writers = Writers::start(&one.url);
    // Tables that both publish, at the same time.
    let client = connect(&one.url).await;
    client
        .batch_execute("create table late (id int primary key); insert into late values (1)")
        .await
        .expect("a table");
    let late = "select id from late order by id";
    let (mut here, mut there) =
        tokio::join!(Mirror::of_sql(one.address, late), Mirror::of_sql(other.address, late));
    client.batch_execute("insert into late values (2)").await.expect("a write");
    here.shows_what(&client, late).await;
    there.shows_what(&client, late).await;
    writers.end().await;
    agree(&mut first, &client).await;
    agree(&mut second, &client).await;
    // One goes, and the other goes on.
    let slots =
        "select count(*)::text from pg_replication_slots where database = current_database()";
    assert_eq!(text(&client, slots).await.as_deref(), Some("2"));
    one.server.stop().await;
    assert_eq!(text(&client, slots).await.as_deref(), Some("1"));
    client
        .batch_execute("insert into late values (3); delete from orders where id > 2")
        .await
        .expect("writes");
    there.shows_what(&client, late).await;
    agree(&mut second, &client).await;
    other.server.stop().await;
    assert_eq!(text(&client, slots).await.as_deref(), Some("0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn p6_what_a_synchronous_standby_holds_up_is_not_shown() {
    let (server, url) = postgres(&[]).await;
    let fixture = Fixture::on(&url, &["--allow-sql"]).await;
    let mut mirrors = mirrors(&fixture).await;
    let client = connect(&url).await;
    let set = |sql: &'static str| {
        let client = &client;
        async move {
            client.batch_execute(sql).await.expect("a setting");
            client.batch_execute("select pg_reload_conf()").await.expect("a reload");
        }
    };
    set("alter system set synchronous_standby_names = 'nobody'").await;
    until("new sessions know it", async || {
        let names = "select current_setting('synchronous_standby_names')";
        text(&connect(&url).await, names).await.as_deref() == Some("nobody")
    })
    .await;
    // The next snapshot tells the engine, too.
    let known = "set synchronous_commit = local; insert into orders values (9, 1, 'known', 1)";
    client.batch_execute(known).await.expect("a write");
    agree(&mut mirrors, &client).await;
    let hanging = connect(&url).await;
    let hanging = tokio::spawn(async move {
        hanging.batch_execute("insert into orders values (10, 1, 'hangs', 1)").await
    });
    until("it waits for the standby", async || {
        let waits = "select pid::text from pg_stat_activity where wait_event = 'SyncRep'";
        text(&client, waits).await.is_some()
    })
    .await;
    let later = "insert into orders values (11, 1, 'later', 1)";
    client.batch_execute(later).await.expect("a write");
    // What Postgres shows, which is the later one alone.
    agree(&mut mirrors, &client).await;
    assert_eq!(mirrors.0.shown().keys, ["1", "2", "3", "9", "11"]);
    set("alter system reset synchronous_standby_names").await;
    hanging.await.expect("a task").expect("it is through");
    agree(&mut mirrors, &client).await;
    assert_eq!(mirrors.0.shown().keys, ["1", "2", "3", "9", "10", "11"]);
    fixture.server.stop().await;
    server.stop().await.expect("it is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn p6_a_transaction_is_applied_as_its_net_effect() {
    let fixture = Fixture::start("net_effect", &["--allow-sql"]).await;
    let client = connect(&fixture.url).await;
    client
        .batch_execute(
            "create table seats (place int primary key deferrable initially immediate, guest text); \
             alter table seats replica identity full; \
             insert into seats select n, 'guest ' || n from generate_series(1, 5) n",
        )
        .await
        .expect("a table");
    let sql = "select place, guest from seats order by place, guest limit 4";
    let mut seats = Mirror::of_sql(fixture.address, sql).await;
    for change in [
        // Half way through, each place is taken twice.
        "begin; set constraints all deferred; update seats set place = place + 1 where place < 5; \
         update seats set place = 1 where guest = 'guest 5'; commit",
        "begin; set constraints all deferred; update seats set place = 3 - place where place < 3; commit",
        "begin; delete from seats where place = 2; insert into seats values (2, 'new'); \
         update seats set guest = 'newer' where place = 2; commit",
        "begin; insert into seats values (0, 'nobody'); delete from seats where place = 0; \
         update seats set guest = guest || '!'; commit",
    ] {
        client.batch_execute(change).await.unwrap_or_else(|error| panic!("{change}: {error:?}"));
        seats.shows_what(&client, sql).await;
    }
    fixture.server.stop().await;
}

#[tokio::test]
async fn p1_publications_that_are_dropped_are_made_again() {
    let fixture = Fixture::start("faults_dropped", &[]).await;
    let mut stream = EventStream::open(fixture.address, "GET", "/api/query/all", &[], "").await;
    stream.expect("hello").await;
    stream.transition().await;
    fixture
        .write(
            "drop publication convoy_full; drop publication convoy_ins; \
             update orders set status = 'missed' where id = 1",
        )
        .await;
    let shows = async |stream: &mut EventStream, status: &str| loop {
        let updates = stream.transition().await.data["updates"].to_string();
        if updates.contains(status) {
            return;
        }
    };
    shows(&mut stream, "missed").await;
    // And from here on changes come again.
    fixture.write("update orders set status = 'seen' where id = 2").await;
    shows(&mut stream, "seen").await;
    fixture.server.stop().await;
}
