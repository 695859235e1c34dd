//! While there is no stream: what a server says of whom its slot waits for, and what becomes of a slot that nobody reads.

use crate::client::get;
use crate::mirror::Mirror;
use crate::process::Process;
use crate::support::{Fixture, ORDERS, connect, text, until, write_project};
use convoy_postgres::launcher::{PrivatePostgres, Shutdown};
use convoy_postgres::testing;
use serde_json::Value;
use std::net::SocketAddr;

const ALL: &str = "select id, status from orders order by id";
const OURS: &str = "select string_agg(slot_name, ' ') from pg_replication_slots";

/// A Postgres of its own: an open transaction keeps every slot of a server from being made.
async fn postgres() -> (PrivatePostgres, tokio_postgres::Client) {
    let server = PrivatePostgres::start(testing::options()).await.expect("a server");
    let client = connect(&server.url("postgres")).await;
    client.batch_execute(ORDERS).await.expect("a table");
    (server, client)
}

async fn replication(at: SocketAddr) -> Value {
    get(at, "/api/status").await.json()["replication"].clone()
}

/// Returns a metric's value.
async fn metric(at: SocketAddr, name: &str) -> Option<f64> {
    let text = get(at, "/metrics").await.body;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    Some(line.parse().expect("a number"))
}

#[tokio::test]
async fn p10_a_start_that_waits_says_for_whom() {
    let (server, client) = postgres().await;
    let url = server.url("postgres");
    let project = tempfile::tempdir().expect("a folder");
    write_project(project.path());
    // What was prepared has no process that could be asked who it is.
    client
        .batch_execute(
            "begin; insert into orders values (4, 7, 'prepared', 1); prepare transaction 'it''s open'",
        )
        .await
        .expect("prepared");
    let mut process = Process::start(&url, project.path(), &[]).await;
    let at = process.address;
    let ready = get(at, "/readyz").await;
    let named = "prepared transaction 'it''s open' (";
    assert_eq!(ready.status, 503);
    assert!(ready.body.contains(named), "{}", ready.body);
    assert_eq!(metric(at, "convoy_replication_slot_blockers").await, Some(1.0));

    // Another that it did not know of: it is named too, with its statement in the log.
    let open = connect(&url).await;
    open.batch_execute("set application_name = 'left open'").await.expect("a name");
    open.batch_execute("begin; insert into orders values (5, 7, 'open', 1)").await.expect("open");
    let pid = text(&open, "select pg_backend_pid()::text").await.expect("a pid");
    client.batch_execute("commit prepared 'it''s open'").await.expect("it ends");
    // Whether the slot waits for the second depends on when it began to look: if it does not, it is made.
    until("it streams, or waits for the other", async || {
        let now = replication(at).await;
        let waits = now["waiting_for"].as_str().is_some_and(|text| text.contains(&pid));
        waits || now["state"] == "streaming"
    })
    .await;
    open.batch_execute("commit").await.expect("it ends");
    until("it streams", async || replication(at).await["state"] == "streaming").await;
    assert_eq!(replication(at).await["waiting_for"], Value::Null);
    assert_eq!(metric(at, "convoy_replication_slot_blockers").await, Some(0.0));
    Mirror::of_sql(at, ALL).await.shows_what(&client, ALL).await;

    // A slot that is made again waits as the first did, and says so as well.
    open.batch_execute("begin; insert into orders values (6, 7, 'open again', 1)")
        .await
        .expect("open");
    let lost =
        "select pg_terminate_backend(pid) from pg_stat_activity where backend_type = 'walsender'";
    client.batch_execute(lost).await.expect("it is lost");
    let said = process.says("insert into orders values (6").await;
    let whose = format!("pid {pid} (postgres, \\\"left open\\\", open for ");
    assert!(
        said.contains("waits for transactions that are open") && said.contains(&whose),
        "{said}"
    );
    let ready = get(at, "/readyz").await;
    let whose = format!("pid {pid} (");
    assert!(ready.status == 503 && ready.body.contains(&whose), "{}", ready.body);
    assert!(!ready.body.contains("insert"), "what a statement says is for the log alone");
    open.batch_execute("commit").await.expect("it ends");
    until("it streams", async || replication(at).await["state"] == "streaming").await;
    Mirror::of_sql(at, ALL).await.shows_what(&client, ALL).await;
    process.signal("TERM").await;
    assert_eq!(process.ended().await, Some(0));
    server.stop().await.expect("it is gone");
}

/// The WAL that a slot keeps fills the disk whether or not anybody streams.
#[tokio::test(flavor = "multi_thread")]
async fn p10_past_max_lag_a_slot_that_nobody_can_read_goes() {
    let (server, client) = postgres().await;
    let flags = ["--slot", "convoy_unread", "--max-lag", "1000000", "--allow-sql"];
    let fixture = Fixture::on(&server.url("postgres"), &flags).await;
    let at = fixture.address;
    let mut mirror = Mirror::of_sql(at, ALL).await;
    mirror.shows_what(&client, ALL).await;
    // The server is there, and nobody gets a stream from it.
    client.batch_execute("alter system set max_wal_senders = 0").await.expect("a setting");
    server.restart().await.expect("a restart");
    let client = connect(&server.url("postgres")).await;
    assert_eq!(text(&client, OURS).await.as_deref(), Some("convoy_unread"));
    until("the loss is known", async || replication(at).await["state"] == "reconnecting").await;
    let much =
        "insert into orders select n, 7, repeat('x', 100), n from generate_series(10, 9000) n";
    client.batch_execute(much).await.expect("a write");
    until("the slot is gone", async || text(&client, OURS).await.is_none()).await;
    let seen = get(at, "/api/status").await.json();
    assert!(seen["lag_bytes"].as_u64() > Some(1_000_000), "{seen}");
    assert!(seen["lag_seconds"].as_f64() > Some(0.0), "{seen}");
    assert_eq!(get(at, "/readyz").await.status, 503);
    client.batch_execute("alter system reset max_wal_senders").await.expect("a setting");
    server.down(Shutdown::Fast).await.expect("it stops");
    server.up().await.expect("it is back");
    let client = connect(&server.url("postgres")).await;
    until("a stream", async || replication(at).await["state"] == "streaming").await;
    assert_eq!(text(&client, OURS).await.as_deref(), Some("convoy_unread"));
    mirror.shows_what(&client, ALL).await;
    client.batch_execute("delete from orders where id > 5").await.expect("a write");
    mirror.shows_what(&client, ALL).await;
    fixture.server.stop().await;
    server.stop().await.expect("it is gone");
}
