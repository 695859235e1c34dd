//! Connections that break, hang or crawl between a server and its Postgres, which notices nothing of it.

use super::proxy::{Proxy, Whose};
use super::quiet::{CHANGE, Cost, is_down};
use super::{FLAGS, Mirrors, Writers, postgres, replication};
use crate::client::EventStream;
use crate::mirror::Mirror;
use crate::support::{Fixture, connect, text, until};
use convoy_postgres::launcher::PrivatePostgres;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::time::{Duration, Instant};
use tokio_postgres::Client;

/// A seed of the test's choices; printed, and repeated by `CONVOY_FAULTS_SEED`.
fn dice() -> SmallRng {
    let seed = std::env::var("CONVOY_FAULTS_SEED").ok().map(|seed| seed.parse().expect("a number"));
    let seed = seed.unwrap_or_else(rand::random);
    println!("CONVOY_FAULTS_SEED={seed}");
    SmallRng::seed_from_u64(seed)
}

/// A Postgres behind a proxy, and a server that knows no other way to it.
pub struct Behind {
    pub postgres: PrivatePostgres,
    /// Around the proxy.
    pub url: String,
    pub client: Client,
    pub proxy: Proxy,
    pub fixture: Fixture,
}

impl Behind {
    pub async fn start(flags: &[&str]) -> Behind {
        Behind::with(&[], flags).await
    }

    pub async fn with(settings: &[(&str, &str)], flags: &[&str]) -> Behind {
        let (postgres, url) = postgres(settings).await;
        let proxy = Proxy::start(postgres.socket_dir(), postgres.port()).await;
        let flags = [&FLAGS[..], flags].concat();
        let fixture = Fixture::on(&proxy.url("shop"), &flags).await;
        Behind { client: connect(&url).await, postgres, url, proxy, fixture }
    }

    /// Waits until the stream has been lost so often and runs again.
    pub async fn streams_after(&self, losses: u64) {
        until(&format!("a stream after {losses} losses"), async || {
            let replication = replication(&self.fixture).await;
            replication["state"] == "streaming"
                && replication["reconnects"].as_u64() >= Some(losses)
        })
        .await;
    }

    pub async fn losses(&self) -> u64 {
        replication(&self.fixture).await["reconnects"].as_u64().expect("a number")
    }

    pub async fn stop(self) {
        self.fixture.server.stop().await;
        let slots = "select count(*)::text from pg_replication_slots";
        assert_eq!(text(&self.client, slots).await.as_deref(), Some("0"));
        self.postgres.stop().await.expect("it is gone");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p4_a_stream_that_is_cut_mid_message_loses_and_doubles_nothing() {
    let mut dice = dice();
    let behind = Behind::start(&[]).await;
    let mut mirrors = Mirrors::open(&behind.fixture).await;
    let writers = Writers::start(&behind.url);
    for _ in 0..12 {
        let losses = behind.losses().await;
        behind.proxy.cut_after(Whose::Replication, dice.random_range(1..20_000));
        until("it is cut", async || behind.proxy.has_cut(Whose::Replication)).await;
        behind.streams_after(losses + 1).await;
    }
    let written = writers.end().await;
    assert!(written > 100, "{written}");
    mirrors.agree(&behind.client).await;
    let replication = replication(&behind.fixture).await;
    assert!(replication["error"].is_null(), "{replication}");
    let reason = replication["last_loss"]["reason"].as_str().expect("a reason");
    assert!(reason.contains("closed the replication connection"), "{reason}");
    behind.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_loss_nothing_is_sent_that_did_not_change() {
    let behind = Behind::start(&[]).await;
    let mut mirrors = Mirrors::open(&behind.fixture).await;
    let (fixture, client) = (&behind.fixture, &behind.client);
    let before = mirrors.before(fixture, client).await;
    for round in 1..=4 {
        behind.proxy.cut(if round % 2 == 0 { Whose::All } else { Whose::Replication });
        behind.streams_after(round).await;
    }
    let cost =
        Cost { changes: [0, 0], losses: 4..=4, ..Cost::of(&["closed the replication connection"]) };
    before.cost(&mut mirrors, fixture, client, cost.clone()).await;
    // While there is no stream, and of one row alone: that is what the subscribers are sent, once.
    let before = mirrors.before(fixture, client).await;
    behind.proxy.refuse(Whose::Replication, true);
    behind.proxy.cut(Whose::Replication);
    is_down(fixture).await;
    client.batch_execute(CHANGE).await.expect("a write");
    behind.proxy.refuse(Whose::Replication, false);
    before
        .cost(&mut mirrors, fixture, client, Cost { changes: [1, 1], losses: 1..=1, ..cost })
        .await;
    behind.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_line_makes_results_late_and_not_wrong() {
    let behind = Behind::start(&[]).await;
    let mut mirrors = Mirrors::open(&behind.fixture).await;
    for (whose, rate, latency) in [
        (Whose::Replication, Some(600_000), Duration::ZERO),
        (Whose::Replication, None, Duration::from_millis(30)),
        (Whose::Pools, None, Duration::from_millis(40)),
        (Whose::All, Some(1_000_000), Duration::from_millis(5)),
    ] {
        behind.proxy.throttle(whose, rate);
        behind.proxy.delay(whose, latency);
        let writers = Writers::start(&behind.url);
        let before = mirrors.changes();
        mirrors.0.until("ten changes", |shown| shown.changes > before[0] + 10).await;
        writers.end().await;
        // The line is still slow.
        mirrors.agree(&behind.client).await;
        behind.proxy.throttle(Whose::All, None);
        behind.proxy.delay(Whose::All, Duration::ZERO);
    }
    assert_eq!(behind.losses().await, 0);
    behind.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p10_a_stream_that_hangs_is_noticed_by_our_own_timeout() {
    let behind = Behind::start(&["--replication-timeout", "2"]).await;
    hangs_and_is_noticed(&behind).await;
    behind.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p10_a_named_slot_whose_stream_hangs_is_taken_over() {
    let behind = Behind::start(&["--replication-timeout", "2", "--slot", "kept"]).await;
    hangs_and_is_noticed(&behind).await;
    behind.fixture.server.stop().await;
    behind.postgres.stop().await.expect("it is gone");
}

async fn hangs_and_is_noticed(behind: &Behind) {
    let mut mirrors = Mirrors::open(&behind.fixture).await;
    let writers = Writers::start(&behind.url);
    mirrors.0.until("writers", |shown| shown.rows.len() > 20).await;
    let since = Instant::now();
    behind.proxy.stall(Whose::Replication);
    until("it is noticed", async || behind.losses().await == 1).await;
    // What is asked for and two ticks of half a second, more on a machine that is busy; not the minute of Postgres' own.
    assert!(since.elapsed() < Duration::from_secs(30), "{:?}", since.elapsed());
    behind.streams_after(1).await;
    writers.end().await;
    mirrors.agree(&behind.client).await;
    let reason = replication(&behind.fixture).await["last_loss"]["reason"].to_string();
    assert!(reason.contains("the server has been silent for "), "{reason}");
    // The server gives the dead connection up as well, and its slot with it.
    let slots = "select count(*)::text from pg_replication_slots";
    until("one slot", async || text(&behind.client, slots).await.as_deref() == Some("1")).await;
    // Once more while it is quiet.
    let before = mirrors.before(&behind.fixture, &behind.client).await;
    behind.proxy.refuse(Whose::Replication, true);
    behind.proxy.stall(Whose::Replication);
    behind.client.batch_execute(CHANGE).await.expect("a write");
    is_down(&behind.fixture).await;
    behind.proxy.refuse(Whose::Replication, false);
    let cost = Cost::of(&["the server has been silent for "]);
    before.cost(&mut mirrors, &behind.fixture, &behind.client, cost).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_break_all_at_once_lose_and_double_nothing() {
    let mut dice = dice();
    let behind = Behind::start(&[]).await;
    let mut mirrors = Mirrors::open(&behind.fixture).await;
    let writers = Writers::start(&behind.url);
    for round in 0..10 {
        match round % 3 {
            0 => behind.proxy.cut(Whose::All),
            1 => behind.proxy.cut(Whose::Pools),
            // In the middle of an answer.
            _ => {
                behind.proxy.cut_after(Whose::Pools, dice.random_range(1..5_000));
                until("it is cut", async || behind.proxy.has_cut(Whose::Pools)).await;
            }
        }
        let before = mirrors.changes();
        let both = "something new";
        mirrors.0.until(both, |shown| shown.changes > before[0] + 2).await;
        mirrors.1.until(both, |shown| shown.changes > before[1] + 2).await;
    }
    assert!(writers.end().await > 100);
    // Down for a while; who subscribes just then is told so, and is served when it comes back.
    let before = mirrors.before(&behind.fixture, &behind.client).await;
    behind.proxy.refuse(Whose::All, true);
    behind.proxy.cut(Whose::All);
    is_down(&behind.fixture).await;
    let late = "select id from orders order by id desc";
    let path = format!("/api/sql?sql={}", late.replace(' ', "%20"));
    let mut refused = EventStream::open(behind.fixture.address, "GET", &path, &[], "").await;
    refused.expect("hello").await;
    let update = refused.transition().await.data["updates"][0].clone();
    assert_eq!(update["error"]["code"], "UNAVAILABLE", "{update}");
    assert_eq!(refused.expect("goodbye").await.data["retry_ms"], 1000);
    behind.client.batch_execute(CHANGE).await.expect("a write");
    behind.proxy.refuse(Whose::All, false);
    let cost = Cost::of(&["closed the replication connection"]);
    before.cost(&mut mirrors, &behind.fixture, &behind.client, cost).await;
    Mirror::of_sql(behind.fixture.address, late).await.shows_what(&behind.client, late).await;
    behind.stop().await;
}
