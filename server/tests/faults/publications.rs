//! Publications that somebody changes by hand.

use super::{FLAGS, Mirrors, replication};
use crate::client::EventStream;
use crate::mirror::Mirror;
use crate::support::{Fixture, connect, text, until};

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
    for (table, write) in [
        ("orders", "update orders set status = 'unheard of' where id = 1"),
        ("parts_1", "insert into parts values (1, 'unheard of')"),
    ] {
        let sql = format!("alter publication convoy_full drop table {table}; {write}");
        client.batch_execute(&sql).await.expect("a change by hand");
        let is_member = format!(
            "select tablename::text from pg_publication_tables where tablename = '{table}'"
        );
        until("it is put back", async || text(&client, &is_member).await.is_some()).await;
        mirrors.agree(&client).await;
        of_parts.shows_what(&client, parts).await;
    }
    let live = "update orders set status = 'heard of' where id = 1; insert into parts values (2, 'heard of')";
    client.batch_execute(live).await.expect("writes");
    mirrors.agree(&client).await;
    of_parts.shows_what(&client, parts).await;
    assert_eq!(replication(&fixture).await["reconnects"], 0);
    fixture.server.stop().await;
}
