//! Postgres, or its part of the stream, ends and comes back.

use super::quiet::{CHANGE, Cost, is_down};
use super::{FLAGS, Mirrors, Writers, postgres, replication};
use crate::frozen::Frozen;
use crate::support::{Fixture, connect, text, until};
use convoy_postgres::launcher::Shutdown;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn p4_restarts_and_crashes_of_postgres_lose_and_double_nothing() {
    // Nobody flushes what is committed asynchronously, so that a crash takes commits back that were visible.
    let (server, url) = postgres(&[("wal_writer_delay", "10s")]).await;
    let fixture = Fixture::on(&url, &FLAGS).await;
    let mut mirrors = Mirrors::open(&fixture).await;
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
        mirrors.agree(&client).await;
        until("it streams again", async || {
            let replication = replication(&fixture).await;
            replication["state"] == "streaming"
                && replication["reconnects"].as_u64() > Some(round as u64)
        })
        .await;
        // It is live again, and not merely read again.
        client
            .batch_execute(
                "delete from orders where id > 3; insert into orders values (500, 1, 'late', 1)",
            )
            .await
            .expect("writes");
        // The same once more while it is quiet.
        let before = mirrors.before(&fixture, &client).await;
        server.down(how).await.expect("it is down");
        is_down(&fixture).await;
        server.up().await.expect("it is up");
        let client = connect(&url).await;
        client.batch_execute(CHANGE).await.expect("a write");
        let reason = &["terminating connection", "closed the replication connection"];
        before.cost(&mut mirrors, &fixture, &client, Cost::of(reason)).await;
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
    let fixture = Fixture::start("walsender", &FLAGS).await;
    let mut mirrors = Mirrors::open(&fixture).await;
    let client = connect(&fixture.url).await;
    let kill = async || {
        let slot = replication(&fixture).await["slot"].as_str().expect("a slot").to_owned();
        let kill = format!(
            "select pg_terminate_backend(active_pid)::text from pg_replication_slots where slot_name = '{slot}'"
        );
        assert_eq!(text(&client, &kill).await.as_deref(), Some("true"));
        slot
    };
    let writers = Writers::start(&fixture.url);
    for round in 1..=3_u64 {
        let slot = kill().await;
        until("another stream", async || {
            let replication = replication(&fixture).await;
            replication["reconnects"] == json!(round) && replication["state"] == "streaming"
        })
        .await;
        let gone =
            format!("select slot_name::text from pg_replication_slots where slot_name = '{slot}'");
        assert_eq!(text(&client, &gone).await, None);
    }
    assert!(writers.end().await > 50);
    let before = mirrors.before(&fixture, &client).await;
    kill().await;
    client.batch_execute(CHANGE).await.expect("a write");
    before.cost(&mut mirrors, &fixture, &client, Cost::of(&["terminating connection"])).await;
    fixture.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p4_a_postgres_that_stands_still_for_a_while_costs_nothing() {
    let (server, url) = postgres(&[]).await;
    let flags = [&FLAGS[..], &["--replication-timeout", "2"]].concat();
    let fixture = Fixture::on(&url, &flags).await;
    let mut mirrors = Mirrors::open(&fixture).await;
    let client = connect(&url).await;
    let writers = Writers::start(&url);
    mirrors.0.until("writers", |shown| shown.rows.len() > 20).await;
    // Too short to be noticed.
    drop(Frozen::new(&server));
    let before = mirrors.changes();
    mirrors.1.until("reads", |shown| shown.changes > before[1] + 3).await;
    assert_eq!(replication(&fixture).await["reconnects"], 0);
    // Long enough to be given up: that is what is waited for.
    let frozen = Frozen::new(&server);
    until("it is given up", async || replication(&fixture).await["reconnects"] == 1).await;
    let silent = replication(&fixture).await["error"].to_string();
    assert!(silent.contains("has been silent"), "{silent}");
    drop(frozen);
    until("it streams again", async || replication(&fixture).await["state"] == "streaming").await;
    let before = mirrors.changes();
    mirrors.0.until("changes", |shown| shown.changes > before[0] + 10).await;
    assert!(writers.end().await > 20);
    // Both once more while it is quiet.
    let before = mirrors.before(&fixture, &client).await;
    drop(Frozen::new(&server));
    client.batch_execute(CHANGE).await.expect("a write");
    before.cost(&mut mirrors, &fixture, &client, Cost::STREAMING).await;
    let before = mirrors.before(&fixture, &client).await;
    let frozen = Frozen::new(&server);
    // It arrives, and is done with what comes after the wake.
    let write = client.batch_execute(CHANGE);
    let wake = async {
        is_down(&fixture).await;
        drop(frozen);
    };
    tokio::join!(write, wake).0.expect("a write");
    before.cost(&mut mirrors, &fixture, &client, Cost::of(&["has been silent"])).await;
    fixture.server.stop().await;
    server.stop().await.expect("it is gone");
}
