//! Publications that somebody changes by hand.

use super::quiet::{CHANGE, Cost};
use super::{FLAGS, Mirrors, replication};
use crate::mirror::Mirror;
use crate::support::{Fixture, connect, text, until};

#[tokio::test(flavor = "multi_thread")]
async fn p1_publications_that_are_dropped_are_made_again() {
    let fixture = Fixture::start("faults_dropped", &FLAGS).await;
    let client = connect(&fixture.url).await;
    let mut mirrors = Mirrors::open(&fixture).await;
    let before = mirrors.before(&fixture, &client).await;
    let by_hand = format!("drop publication convoy_full; drop publication convoy_ins; {CHANGE}");
    client.batch_execute(&by_hand).await.expect("a change by hand");
    before.cost(&mut mirrors, &fixture, &client, Cost::of(&["publication"])).await;
    fixture.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p7_a_table_that_is_taken_out_of_the_publication_is_put_back() {
    let fixture = Fixture::start("taken_out", &FLAGS).await;
    let client = connect(&fixture.url).await;
    client
        .batch_execute(
            "create table parts (id int, v text) partition by range (id); \
             create table parts_1 partition of parts for values from (0) to (10); \
             alter table parts_1 add primary key (id)",
        )
        .await
        .expect("tables");
    let parts = "select id, v from parts order by id, v";
    let mut mirrors = Mirrors::open(&fixture).await;
    let mut of_parts = Mirror::of_sql(fixture.address, parts).await;
    // Members one by one, because the whole has no key of its own.
    for (table, write, changes) in [
        ("orders", "update orders set status = 'unheard of' where id = 1", [1, 0]),
        ("parts_1", "insert into parts values (1, 'unheard of')", [0, 0]),
    ] {
        let before = mirrors.before(&fixture, &client).await;
        let sql = format!("alter publication convoy_full drop table {table}; {write}");
        client.batch_execute(&sql).await.expect("a change by hand");
        let is_member = format!(
            "select tablename::text from pg_publication_tables where tablename = '{table}'"
        );
        until("it is put back", async || text(&client, &is_member).await.is_some()).await;
        before.cost(&mut mirrors, &fixture, &client, Cost { changes, ..Cost::STREAMING }).await;
        of_parts.shows_what(&client, parts).await;
    }
    let live = "update orders set status = 'heard of' where id = 1; insert into parts values (2, 'heard of')";
    client.batch_execute(live).await.expect("writes");
    mirrors.agree(&client).await;
    of_parts.shows_what(&client, parts).await;
    assert_eq!(replication(&fixture).await["reconnects"], 0);
    fixture.server.stop().await;
}
