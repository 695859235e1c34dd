//! Commits that are not simply there: held up by a standby, or contradicting themselves on the way.

use super::{FLAGS, Mirrors, postgres};
use crate::mirror::Mirror;
use crate::support::{Fixture, connect, text, until};

#[tokio::test(flavor = "multi_thread")]
async fn p6_what_a_synchronous_standby_holds_up_is_not_shown() {
    let (server, url) = postgres(&[]).await;
    let fixture = Fixture::on(&url, &FLAGS).await;
    let mut mirrors = Mirrors::open(&fixture).await;
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
    mirrors.agree(&client).await;
    let before = mirrors.changes();
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
    mirrors.agree(&client).await;
    assert_eq!(mirrors.0.shown().keys, ["1", "2", "3", "9", "11"]);
    assert_eq!(mirrors.changes(), before.map(|changes| changes + 1));
    set("alter system reset synchronous_standby_names").await;
    hanging.await.expect("a task").expect("it is through");
    mirrors.agree(&client).await;
    assert_eq!(mirrors.0.shown().keys, ["1", "2", "3", "9", "10", "11"]);
    assert_eq!(mirrors.changes(), before.map(|changes| changes + 2));
    fixture.server.stop().await;
    server.stop().await.expect("it is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn p6_a_transaction_is_applied_as_its_net_effect() {
    let fixture = Fixture::start("net_effect", &FLAGS).await;
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
