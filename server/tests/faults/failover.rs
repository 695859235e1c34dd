//! The primary goes, a standby takes its place, and the URL names both.

use super::quiet::{CHANGE, Cost, is_down};
use super::{ALL, FLAGS, Mirrors, Writers, replication};
use crate::client::post;
use crate::frozen::Frozen;
use crate::support::{Fixture, ORDERS, connect, text, until};
use convoy_postgres::launcher::{PrivatePostgres, Shutdown};
use convoy_postgres::testing;
use tokio_postgres::Client;

/// A primary with the orders in it, and a standby that follows it.
struct Pair {
    primary: PrivatePostgres,
    standby: PrivatePostgres,
    client: Client,
    /// Both, the primary first.
    url: String,
}

impl Pair {
    async fn start() -> Pair {
        let mut options = testing::options();
        options.settings.push(("wal_keep_size".into(), "256MB".into()));
        let primary = PrivatePostgres::start(options.clone()).await.expect("a primary");
        primary.create_database("shop", Default::default()).await.expect("a database");
        let client = connect(&primary.url("shop")).await;
        client.batch_execute(ORDERS).await.expect("a table");
        let standby = primary.standby(options).await.expect("a standby");
        let hosts = [&primary, &standby]
            .map(|server| server.socket_dir().to_string_lossy().replace('/', "%2F"));
        let url = format!(
            "postgres://postgres@/shop?host={}&port={}&connect_timeout=1",
            hosts.join(","),
            primary.port()
        );
        Pair { primary, standby, client, url }
    }

    /// Waits until the standby has all that the primary has, and lets it have nothing more.
    async fn part(&self) {
        let end = text(&self.client, "select pg_current_wal_flush_lsn()::text")
            .await
            .expect("a position");
        let standby = connect(&self.standby.url("shop")).await;
        let has = format!("select (pg_last_wal_replay_lsn() >= '{end}')::text");
        until("the standby is there", async || {
            text(&standby, &has).await.as_deref() == Some("true")
        })
        .await;
        standby.batch_execute("alter system set primary_conninfo = ''").await.expect("a setting");
        standby.batch_execute("select pg_reload_conf()").await.expect("a reload");
        let follows =
            "select count(*)::text from pg_stat_replication where application_name = 'standby'";
        until("nobody follows", async || text(&self.client, follows).await.as_deref() == Some("0"))
            .await;
    }

    /// Makes the standby the primary, and returns a connection to it.
    async fn promote(&self) -> Client {
        let client = connect(&self.standby.url("shop")).await;
        let promoted = "select pg_promote()::text";
        assert_eq!(text(&client, promoted).await.as_deref(), Some("true"));
        client
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p4_after_a_failover_subscribers_have_what_the_promoted_server_has() {
    fail_over(&[]).await;
}

/// A slot that is kept does not follow to the standby, and has no need to: all is read again, and one is made.
#[tokio::test(flavor = "multi_thread")]
async fn p4_after_a_failover_there_is_a_slot_of_the_same_name() {
    let (pair, client) = fail_over(&["--slot", "kept"]).await;
    let slots = "select string_agg(slot_name || ' ' || temporary, ', ') from pg_replication_slots";
    assert_eq!(text(&client, slots).await.as_deref(), Some("kept false"));
    drop(pair);
}

/// Lets a server with these flags besides live through a failover and the return of the old primary; it ends stopped.
async fn fail_over(flags: &[&str]) -> (Pair, Client) {
    let pair = Pair::start().await;
    // Who asks while there is no primary is told so soon.
    let flags = [&FLAGS[..], &["--first-answer-max", "2"], flags].concat();
    let fixture = Fixture::between(&pair.url, &pair.primary.url("shop"), &flags).await;
    let mut mirrors = Mirrors::open(&fixture).await;
    let writers = Writers::start(&pair.primary.url("shop"));
    mirrors.0.until("writers", |shown| shown.rows.len() > 20).await;
    writers.end().await;
    pair.part().await;
    // Seen by everybody, and gone with the primary.
    let lost = "insert into orders values (777, 7, 'lost', 1); update orders set status = 'lost' where id = 1";
    pair.client.batch_execute(lost).await.expect("writes");
    mirrors.agree(&pair.client).await;
    assert!(mirrors.0.shown().keys.contains(&"777".to_owned()));
    let before = mirrors.before(&fixture, &pair.client).await;
    pair.primary.down(Shutdown::Kill).await.expect("it is down");
    // P3: a standby's snapshots don't say what they show, so nothing is read from it.
    until("the standby is found", async || {
        let error = replication(&fixture).await["error"].to_string();
        error.contains(" is a standby, and target_session_attrs=primary asks for another")
    })
    .await;
    let refused = post(fixture.address, "/api/query/orders.byTenant", r#"{"tenant":7}"#).await;
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (503, "UNAVAILABLE"));
    assert!(refused.body.contains("is a standby"), "{}", refused.body);
    is_down(&fixture).await;
    let client = pair.promote().await;
    // What the others have not is taken back in one change.
    let reason = &["closed the replication connection", "terminating connection"];
    before.cost(&mut mirrors, &fixture, &client, Cost::of(reason)).await;
    assert!(!mirrors.0.shown().keys.contains(&"777".to_owned()));
    let writers = Writers::start(&pair.standby.url("shop"));
    let before = mirrors.changes();
    mirrors.0.until("changes", |shown| shown.changes > before[0] + 10).await;
    writers.end().await;

    // The old one comes back to follow, and stands first in the URL.
    std::fs::write(pair.primary.folder().join("data/standby.signal"), "").expect("a file");
    pair.primary.up().await.expect("it is up");
    let end_all = "select pg_terminate_backend(pid) from pg_stat_activity \
                   where pid <> pg_backend_pid() and application_name = 'convoy'";
    let before = mirrors.before(&fixture, &client).await;
    client.batch_execute(end_all).await.expect("nobody is left");
    client.batch_execute(CHANGE).await.expect("a write");
    before.cost(&mut mirrors, &fixture, &client, Cost::of(&["terminating connection"])).await;
    let second = Fixture::between(&pair.url, &pair.standby.url("shop"), &FLAGS).await;
    crate::mirror::Mirror::of_sql(second.address, ALL).await.shows_what(&client, ALL).await;
    second.server.stop().await;
    fixture.server.stop().await;
    (pair, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn p4_a_primary_that_freezes_is_left_for_its_successor_and_not_mixed_up_with_it() {
    let pair = Pair::start().await;
    let flags = [&FLAGS[..], &["--replication-timeout", "2", "--statement-timeout", "1"]].concat();
    let fixture = Fixture::between(&pair.url, &pair.primary.url("shop"), &flags).await;
    let mut mirrors = Mirrors::open(&fixture).await;
    let writers = Writers::start(&pair.primary.url("shop"));
    mirrors.0.until("writers", |shown| shown.rows.len() > 20).await;
    writers.end().await;
    pair.part().await;
    // Nobody hangs up, and what waits for an answer waits for ever.
    let before = mirrors.before(&fixture, &pair.client).await;
    let frozen = Frozen::new(&pair.primary);
    let client = pair.promote().await;
    client.batch_execute(CHANGE).await.expect("a write");
    before.cost(&mut mirrors, &fixture, &client, Cost::of(&["has been silent"])).await;
    // It comes to itself and is a primary as before, the first in the URL. The stream is the other's, and so are the reads,
    // over new connections as well.
    drop(frozen);
    let end_reads = "select pg_terminate_backend(pid) from pg_stat_activity \
                     where application_name = 'convoy' and backend_type = 'client backend'";
    for round in 0..5 {
        let elsewhere = format!("update orders set status = 'elsewhere', total = -{round}");
        pair.client.batch_execute(&elsewhere).await.expect("a write");
        let before = mirrors.before(&fixture, &client).await;
        client.batch_execute(end_reads).await.expect("no connections for reads");
        client.batch_execute(CHANGE).await.expect("a write");
        before.cost(&mut mirrors, &fixture, &client, Cost::STREAMING).await;
    }
    assert_eq!(replication(&fixture).await["reconnects"], 1);
    fixture.server.stop().await;
}
