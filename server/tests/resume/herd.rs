//! Very many clients whose streams break at once and that come back at once (`convoy bench reconnect`, in small).

use super::client::{Client, End, Ledger};
use super::news::reads;
use crate::client::get;
use crate::support::{Fixture, until};
use convoy_server::open_files;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

const SESSIONS: usize = 500;
const QUERIES: usize = 20;

/// What a client subscribes to: half of the queries are kept from the WAL, half are read again.
fn subscribe(number: usize) -> Value {
    let query = number % QUERIES;
    let sql = match query % 2 {
        0 => "select id, n from notes where owner = $1 order by id",
        _ => {
            "select a.id, b.n from notes a join notes b on b.id = a.id where a.owner = $1 order by a.id"
        }
    };
    json!([{"sub": "a", "sql": sql, "params": [query]}])
}

/// Lets all clients come at once; returns them, and by what kinds of updates they were served, by query.
async fn come(
    at: SocketAddr,
    clients: Vec<Client>,
    body: impl Fn(usize, &Client) -> Value,
) -> (Vec<Client>, BTreeMap<usize, Vec<String>>) {
    let mut coming = JoinSet::new();
    for (number, mut client) in clients.into_iter().enumerate() {
        let body = body(number, &client).to_string();
        coming.spawn(async move {
            let mut wire = super::client::Wire::send(at, "POST", "/api/sync", "", &body).await;
            let (mut ledger, kinds) = (Ledger::new(), client.kinds.clone());
            let deadline = Instant::now() + Duration::from_secs(30);
            while client.kinds == kinds {
                assert!(Instant::now() < deadline, "session {number} is never served");
                let time = Duration::from_millis(50);
                let end = client.read(&mut wire, usize::MAX, time, &mut ledger).await;
                assert_eq!(end, End::Cut, "nobody is refused");
            }
            let last = client.subs["a"].last.clone();
            (number, client, last, wire)
        });
    }
    let mut served: Vec<_> = coming.join_all().await;
    served.sort_by_key(|(number, ..)| *number);
    let mut kinds: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    let mut wires = Vec::new();
    let clients = served
        .into_iter()
        .map(|(number, client, last, wire)| {
            let of_query = kinds.entry(number % QUERIES).or_default();
            if !of_query.contains(&last) {
                of_query.push(last);
            }
            wires.push(wire);
            client
        })
        .collect();
    // All of them at once, until here.
    drop(wires);
    (clients, kinds)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_herd_that_comes_back_is_served_and_each_query_runs_at_most_once() {
    open_files::raise_limit();
    let fixture = Fixture::start("resume_herd", &["--allow-sql"]).await;
    fixture
        .write(
            "create table notes (id int4 primary key, owner int4 not null, n int4 not null);
             insert into notes select n, n / 5, 0 from generate_series(0, 99) n",
        )
        .await;
    let at = fixture.address;
    let new = |number, _: &Client| json!({ "subscribe": subscribe(number) });
    let (clients, kinds) = come(at, vec![Client::default(); SESSIONS], new).await;
    assert!(kinds.values().all(|kinds| kinds == &["snapshot"]), "{kinds:?}");
    let (read, statements) = reads(at).await;
    assert_eq!(read, QUERIES as u64);
    assert!(statements <= read, "{statements} statements");
    let no_stream = async |at: SocketAddr| {
        until("no stream is left", async || get(at, "/api/status").await.json()["streams"] == 0)
            .await;
    };
    no_stream(at).await;

    // To the living server, with tokens; two queries changed meanwhile, of which one is read again for it.
    fixture.write("update notes set n = 1 where id in (0, 5)").await;
    until("the change is in", async || {
        let metrics = get(at, "/metrics").await.body;
        let is_quiet = ["convoy_dirty_queries 0.0\n", "convoy_reads_running 0.0\n"]
            .map(|quiet| metrics.contains(quiet));
        is_quiet == [true, true] && reads(at).await.0 > read
    })
    .await;
    let before = reads(at).await.0;
    let resume = |_, client: &Client| json!({ "resume": client.token });
    let (mut clients, kinds) = come(at, clients, resume).await;
    for (query, kinds) in kinds {
        let expected = if query < 2 { "diff" } else { "unchanged" };
        assert_eq!(kinds, [expected], "query {query}");
    }
    assert_eq!(reads(at).await.0, before, "who resumes in time costs no query");

    // To a server that has just begun, with digests.
    let Fixture { server, url, .. } = fixture;
    server.stop().await;
    let fixture = Fixture::on(&url, &["--allow-sql"]).await;
    fixture.write("update notes set n = 2 where id in (0, 5)").await;
    let at = fixture.address;
    let restarted = |number, client: &Client| {
        let (token, digest) = (&client.token, &client.subs["a"].digest);
        json!({"resume": token, "subscribe": subscribe(number), "have": {"a": digest}})
    };
    let bodies: Vec<_> =
        clients.iter().enumerate().map(|(number, client)| restarted(number, client)).collect();
    clients.iter_mut().for_each(Client::is_another);
    let (_, kinds) = come(at, clients, |number, _| bodies[number].clone()).await;
    for (query, kinds) in kinds {
        let expected = if query < 2 { "snapshot" } else { "unchanged" };
        assert_eq!(kinds, [expected], "query {query}");
    }
    assert_eq!(reads(at).await.0, QUERIES as u64);
    no_stream(at).await;
    fixture.server.stop().await;
}
