//! Connections for reads that hang, or that are not to be had: the stream goes on, and so do the results in the end.

use super::network::Behind;
use super::proxy::Whose;
use super::quiet::{CHANGE, Cost};
use super::{ALL, Mirrors, Writers};
use crate::client::EventStream;
use crate::mirror::Mirror;
use crate::support::connect;
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_hang_are_given_up_and_the_catalogue_is_watched_again() {
    let behind = Behind::start(&["--statement-timeout", "1"]).await;
    let mut mirrors = Mirrors::open(&behind.fixture).await;
    let writers = Writers::start(&behind.url);
    let before = mirrors.changes();
    mirrors.1.until("reads", |shown| shown.changes > before[1] + 10).await;
    // Those that are idle, those that are reading, and the watch's.
    behind.proxy.stall(Whose::Pools);
    let since = Instant::now();
    writers.end().await;
    let write = "update orders set total = 77 where id = 1";
    behind.client.batch_execute(write).await.expect("a write");
    mirrors.agree(&behind.client).await;
    // The statement's time and ten seconds, twice where a connection is taken that hangs too; more on a machine that is busy. It
    // is not the 15 minutes of the system's own.
    assert!(since.elapsed() < Duration::from_secs(90), "{:?}", since.elapsed());
    assert_eq!(behind.losses().await, 0);
    // P7: only the watch tells of this.
    let by_hand =
        "alter publication convoy_full drop table orders; update orders set status = 'seen'";
    let before = mirrors.before(&behind.fixture, &behind.client).await;
    behind.client.batch_execute(by_hand).await.expect("a change by hand");
    // Only the status has changed.
    let cost = Cost { changes: [1, 0], ..Cost::STREAMING };
    before.cost(&mut mirrors, &behind.fixture, &behind.client, cost).await;
    let late = "select id, tenant from orders order by id";
    Mirror::of_sql(behind.fixture.address, late).await.shows_what(&behind.client, late).await;
    behind.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_without_a_free_connection_is_waited_for() {
    let behind = Behind::with(&[("max_connections", "30"), ("max_wal_senders", "5")], &[]).await;
    let mut mirrors = Mirrors::open(&behind.fixture).await;
    let before = mirrors.before(&behind.fixture, &behind.client).await;
    // Others take what there is, and Convoy loses what it had.
    let mut others = Vec::new();
    behind.proxy.refuse(Whose::Pools, true);
    behind.proxy.cut(Whose::Pools);
    loop {
        match tokio_postgres::connect(&behind.url, tokio_postgres::NoTls).await {
            Ok((client, connection)) => {
                tokio::spawn(connection);
                others.push(client);
            }
            Err(error) => {
                let full = error.as_db_error().is_some_and(|error| error.code().code() == "53300");
                assert!(full, "{error}");
                // Those that Convoy has lost may yet be on their way out.
                if others.len() >= 26 {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    behind.proxy.refuse(Whose::Pools, false);
    behind.client.batch_execute(CHANGE).await.expect("a write");
    // What is kept from the WAL needs no connection.
    mirrors.0.shows_what(&behind.client, ALL).await;
    let path = "/api/sql?sql=select%20id%20from%20orders";
    let mut refused = EventStream::open(behind.fixture.address, "GET", path, &[], "").await;
    refused.expect("hello").await;
    let error = refused.transition().await.data["updates"][0]["error"].clone();
    assert_eq!(error["code"], "UNAVAILABLE");
    assert!(
        error["message"].as_str().is_some_and(|text| text.contains("too many clients")),
        "{error}"
    );
    drop(others);
    before.cost(&mut mirrors, &behind.fixture, &behind.client, Cost::STREAMING).await;
    assert_eq!(behind.losses().await, 0);
    behind.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_serves_many_slow_reads_one_after_another() {
    let behind = Behind::start(&["--connections", "1"]).await;
    let client = connect(&behind.url).await;
    let slow = |number: u32| {
        format!(
            "select o.id, count(*) as n from orders o cross join generate_series(1, {}) g \
             where md5(g::text) <> '' group by o.id order by o.id",
            20_000 + number
        )
    };
    let mut mirrors = Vec::new();
    for number in 0..6 {
        mirrors.push(Mirror::of_sql(behind.fixture.address, &slow(number)).await);
    }
    for change in ["insert into orders values (4, 7, 'new', 1)", "delete from orders where id < 3"]
    {
        client.batch_execute(change).await.expect("a write");
        for (number, mirror) in (0..).zip(&mut mirrors) {
            mirror.shows_what(&client, &slow(number)).await;
        }
    }
    behind.stop().await;
}
