//! The slot goes while it streams: dropped by hand, or by the server, which lets the WAL go that it needs.

use super::network::Behind;
use super::proxy::{Proxy, Whose};
use super::quiet::{CHANGE, Cost, is_down};
use super::{FLAGS, Mirrors, Writers, postgres, replication};
use crate::support::{Fixture, connect, text, until};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

/// Waits until there is one slot and it is in use.
async fn one_slot(client: &Client) {
    let slots = "select string_agg(active::text, ' ') from pg_replication_slots where database = current_database()";
    until("one slot in use", async || text(client, slots).await.as_deref() == Some("true")).await;
}

/// Ends a slot's walsender, and drops the slot if nobody is back at it yet; returns whether it is gone by that. A temporary
/// one goes with its walsender.
async fn drop_by_hand(client: &Client, slot: &str, is_temporary: bool) -> bool {
    let end = format!(
        "select pg_terminate_backend(active_pid, 5000)::text from pg_replication_slots where slot_name = '{slot}'"
    );
    let ended = text(client, &end).await.as_deref() == Some("true");
    if is_temporary {
        let there = format!("select '' from pg_replication_slots where slot_name = '{slot}'");
        return ended && text(client, &there).await.is_none();
    }
    match client.execute("select pg_drop_replication_slot($1)", &[&slot]).await {
        Ok(_) => true,
        Err(error) => {
            // There is none just now, or Convoy has it again.
            let known = [SqlState::UNDEFINED_OBJECT, SqlState::OBJECT_IN_USE];
            assert!(known.iter().any(|code| error.code() == Some(code)), "{error:?}");
            false
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p10_a_slot_that_is_dropped_by_hand_costs_nothing() {
    for flags in [&[][..], &["--slot", "convoy_dropped"]] {
        let is_temporary = flags.is_empty();
        let behind = Behind::start(flags).await;
        let (fixture, client) = (&behind.fixture, &behind.client);
        let slot = async || replication(fixture).await["slot"].as_str().map(str::to_owned);
        let mut mirrors = Mirrors::open(fixture).await;
        let writers = Writers::start(&behind.url);
        // While it comes back as soon as it can.
        for _ in 0..3 {
            let losses = behind.losses().await;
            until("it is dropped", async || match slot().await {
                Some(slot) => drop_by_hand(client, &slot, is_temporary).await,
                None => false,
            })
            .await;
            behind.streams_after(losses + 1).await;
        }
        assert!(writers.end().await > 50);
        // While it can't, and while it is quiet.
        let before = mirrors.before(fixture, client).await;
        let dropped = slot().await.expect("a slot");
        behind.proxy.refuse(Whose::Replication, true);
        assert!(drop_by_hand(client, &dropped, is_temporary).await, "{dropped}");
        let end = text(client, "select pg_current_wal_insert_lsn()::text").await;
        is_down(fixture).await;
        assert_eq!(text(client, "select slot_name::text from pg_replication_slots").await, None);
        client.batch_execute(CHANGE).await.expect("a write");
        behind.proxy.refuse(Whose::Replication, false);
        let reason = &["terminating connection", "closed the replication connection"];
        before.cost(&mut mirrors, fixture, client, Cost::of(reason)).await;
        one_slot(client).await;
        // Another one, which knows nothing of what was before.
        let made = slot().await.expect("a slot");
        assert_eq!(made == dropped, !is_temporary, "{made} after {dropped}");
        let is_new = format!(
            "select (restart_lsn >= '{}')::text from pg_replication_slots where slot_name = '{made}'",
            end.expect("a position")
        );
        assert_eq!(text(client, &is_new).await.as_deref(), Some("true"));
        behind.fixture.server.stop().await;
        behind.postgres.stop().await.expect("it is gone");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p10_a_slot_that_lost_its_wal_is_made_again() {
    let (server, url) =
        postgres(&[("max_slot_wal_keep_size", "1MB"), ("max_wal_size", "32MB")]).await;
    for slot in [None, Some("convoy_lost")] {
        let proxy = Proxy::start(server.socket_dir(), server.port()).await;
        let flags = slot.map_or(vec![], |slot| vec!["--slot", slot]);
        let flags = [&FLAGS[..], &flags].concat();
        let fixture = Fixture::on(&proxy.url("shop"), &flags).await;
        let client = connect(&url).await;
        let mut mirrors = Mirrors::open(&fixture).await;
        let before = mirrors.before(&fixture, &client).await;
        // Nothing is confirmed any more, while WAL is written for several times what a slot may keep.
        proxy.stall(Whose::Replication);
        let much = "create table bulk (id int, filler text); \
                    insert into bulk select n, repeat('x', 1000) from generate_series(1, 20000) n; \
                    select pg_switch_wal(); insert into bulk select n, repeat('y', 1000) from generate_series(1, 20000) n; \
                    drop table bulk; select pg_switch_wal(); insert into orders values (50, 1, 'meanwhile', 1)";
        for statement in much.split("; ") {
            client.batch_execute(statement).await.expect("a write");
        }
        client.batch_execute("checkpoint").await.expect("a checkpoint");
        let lost =
            "select coalesce(bool_and(wal_status = 'lost'), true)::text from pg_replication_slots";
        until("it is lost", async || text(&client, lost).await.as_deref() == Some("true")).await;
        // The server ends what streams from it; that this never comes is the proxy's doing.
        proxy.refuse(Whose::Replication, true);
        proxy.cut(Whose::Replication);
        is_down(&fixture).await;
        proxy.refuse(Whose::Replication, false);
        let cost = Cost::of(&["closed the replication connection"]);
        before.cost(&mut mirrors, &fixture, &client, cost).await;
        one_slot(&client).await;
        let holds = "select wal_status from pg_replication_slots";
        assert_eq!(text(&client, holds).await.as_deref(), Some("reserved"));
        client.batch_execute("delete from orders where id = 50").await.expect("a write");
        fixture.server.stop().await;
    }
    server.stop().await.expect("it is gone");
}

/// Waits until a walsender waits for this session.
async fn is_waited_for(client: &Client, session: &Client) {
    let pid = text(session, "select pg_backend_pid()::text").await.expect("a process id");
    let waits = format!(
        "select (coalesce(bool_or({pid} = any (pg_blocking_pids(pid))), false))::text from pg_stat_activity \
         where backend_type = 'walsender'"
    );
    until("the slot waits", async || text(client, &waits).await.as_deref() == Some("true")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p10_a_named_slot_that_cannot_be_read_is_made_again() {
    let (server, url) = postgres(&[]).await;
    let [client, first, second, third] =
        [connect(&url).await, connect(&url).await, connect(&url).await, connect(&url).await];
    client.batch_execute("create table u (id int)").await.expect("a table");
    let flags = [&FLAGS[..], &["--slot", "convoy_wedged"]].concat();
    // The catalog that the slot is read by comes from before the table, and the writer's changes from after it (P2).
    first.batch_execute("begin; insert into u values (1)").await.expect("a writer");
    let (fixture, ()) = tokio::join!(Fixture::on(&url, &flags), async {
        is_waited_for(&client, &first).await;
        second.batch_execute("begin; insert into u values (2)").await.expect("a writer");
        client.batch_execute("create table fresh (id int primary key)").await.expect("a table");
        first.batch_execute("commit").await.expect("a commit");
        is_waited_for(&client, &second).await;
        third.batch_execute("begin; insert into fresh values (1)").await.expect("a writer");
        second.batch_execute("commit").await.expect("a commit");
        // What commits before the slot is made is not streamed.
        let made = "select slot_name::text from pg_replication_slots where confirmed_flush_lsn is not null limit 1";
        until("it is made", async || text(&client, made).await.is_some()).await;
        third.batch_execute("commit").await.expect("a commit");
    });
    let mut mirrors = Mirrors::open(&fixture).await;
    // It may have been found out before anybody watched.
    let changes = mirrors.changes();
    until("another stream", async || {
        let replication = replication(&fixture).await;
        replication["state"] == "streaming" && replication["reconnects"].as_u64() >= Some(1)
    })
    .await;
    let loss = replication(&fixture).await["last_loss"]["reason"].to_string();
    // A "filenode" before 16, a "filenumber" since.
    assert!(loss.contains("could not map file"), "{loss}");
    let before = mirrors.before(&fixture, &client).await;
    client.batch_execute(CHANGE).await.expect("a write");
    before.cost(&mut mirrors, &fixture, &client, Cost::STREAMING).await;
    assert_eq!(mirrors.changes(), changes.map(|changes| changes + 2));
    fixture.server.stop().await;
    server.stop().await.expect("it is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn p10_past_max_lag_a_line_that_crawls_costs_the_slot_and_not_the_disk() {
    let (server, url) = postgres(&[]).await;
    let proxy = Proxy::start(server.socket_dir(), server.port()).await;
    let flags = [&FLAGS[..], &["--slot", "convoy_crawls", "--max-lag", "1000000"]].concat();
    let fixture = Fixture::on(&proxy.url("shop"), &flags).await;
    let client = connect(&url).await;
    let mut mirrors = Mirrors::open(&fixture).await;
    let before = mirrors.before(&fixture, &client).await;
    proxy.throttle(Whose::Replication, Some(20_000));
    let much = "insert into orders select n, 7, repeat('x', 1000), n from generate_series(10, 4000) n; \
                delete from orders where id > 10";
    client.batch_execute(much).await.expect("writes");
    let end = text(&client, "select pg_current_wal_insert_lsn()::text").await.expect("a position");
    // The engine is not behind: the server says what it keeps.
    until("it is given up", async || replication(&fixture).await["reconnects"].as_u64() >= Some(1))
        .await;
    proxy.throttle(Whose::Replication, None);
    // One row of all these is left. Another loss may come on the way.
    let cost = Cost { losses: 1..=9, ..Cost::of(&["more than --max-lag 1000000"]) };
    before.cost(&mut mirrors, &fixture, &client, cost).await;
    let held = format!("select bool_and(restart_lsn >= '{end}')::text from pg_replication_slots");
    assert_eq!(text(&client, &held).await.as_deref(), Some("true"));
    fixture.server.stop().await;
    server.stop().await.expect("it is gone");
}
