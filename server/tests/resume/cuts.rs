//! A client whose connection breaks at any byte and that comes back with what it read last: whatever is written
//! meanwhile, it never gets a change twice, never waits in vain, and ends with the truth.

use super::client::{Client, End, Ledger, bytes_to_read, dice};
use crate::client::post;
use crate::support::{Fixture, connect, until};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;

const TABLES: &str = "
    create table items (id int4 primary key, box int4 not null, n int8 not null, note text);
    create table boxes (id int4 primary key, name text not null);
    create table divisor (by int4 not null);
    insert into boxes select b, 'box ' || b from generate_series(0, 4) b;
    insert into items select i, i % 5, i, 'note ' || i from generate_series(1, 40) i;
    insert into divisor values (1);
    alter table divisor replica identity full;
    alter table items replica identity full";

/// What is subscribed to from the start, each kept in another way; the last fails whenever the divisor is 0.
const QUERIES: [(&str, &str); 5] = [
    ("rows", "select id, box, n, note from items where box < 3 order by n desc, id"),
    ("top", "select id, n from items order by n desc, id limit 5"),
    ("sums", "select box, count(*) as c, sum(n) as s from items group by box order by box"),
    (
        "join",
        "select i.id, b.name, i.n from items i join boxes b on b.id = i.box where i.n % 3 = 0 order by i.id",
    ),
    ("fails", "select 1000 / by as q from divisor"),
];

fn subscribe() -> Value {
    QUERIES.iter().map(|(sub, sql)| json!({"sub": sub, "sql": sql})).collect()
}

/// Writes at random until it is told to stop; returns how many transactions that were.
fn write_at_random(url: &str, seed: u64, stop: &Arc<AtomicBool>, writers: &mut JoinSet<usize>) {
    let (url, stop) = (url.to_owned(), stop.clone());
    writers.spawn(async move {
        let (client, mut dice) = (connect(&url).await, StdRng::seed_from_u64(seed));
        let mut written = 0;
        while !stop.load(Ordering::Relaxed) {
            let (id, other) = (dice.random_range(1..60), dice.random_range(1..60));
            let (bin, n) = (dice.random_range(0..5), dice.random_range(0..100));
            let sql = match dice.random_range(0..10) {
                0..=3 => format!("update items set n = {n} where id in ({id}, {other})"),
                4 => format!("update items set box = {bin}, note = repeat('x', {n}) where id = {id}"),
                5 | 6 => format!(
                    "insert into items values ({id}, {bin}, {n}, 'new') on conflict (id) do update set box = excluded.box"
                ),
                7 => format!("delete from items where id = {id}"),
                8 => format!("update boxes set name = 'box {n}' where id = {bin}"),
                _ => format!("update divisor set by = {}", dice.random_range(0..3)),
            };
            client.batch_execute(&sql).await.expect("a write");
            written += 1;
            // So that there is something to read between two writes, and the machine is not all theirs.
            tokio::time::sleep(Duration::from_millis(dice.random_range(0..8))).await;
        }
        written
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_breaks_anywhere_loses_and_doubles_nothing() {
    const ROUNDS: u32 = 150;
    // On a machine so busy that most streams are cut before anything has come, it takes more rounds, and longer ones.
    const ROUNDS_AT_MOST: u32 = 10 * ROUNDS;
    let fixture = Fixture::start("resume_cuts", &["--allow-sql"]).await;
    let at = fixture.address;
    fixture.write(TABLES).await;
    let mut dice = dice("a_stream_that_breaks_anywhere");
    let (stop, mut writers) = (Arc::new(AtomicBool::new(false)), JoinSet::new());
    for _ in 0..3 {
        write_at_random(&fixture.url, dice.random(), &stop, &mut writers);
    }

    let (mut client, mut ledger) = (Client::default(), Ledger::new());
    // One whose stream never breaks: what a digest stands for is also known from there.
    let mut whole = Client::default();
    let mut whole_wire = whole.connect(at, &subscribe(), 0).await;
    let mut half_open = Vec::new();
    let (mut changes, mut superseded) = (0, 0);
    for round in 0..ROUNDS_AT_MOST {
        if round >= ROUNDS && client.kinds.contains_key("diff") {
            break;
        }
        let mut wire = client.connect(at, &subscribe(), dice.random()).await;
        let (bytes, time) =
            (bytes_to_read(&mut dice), dice.random_range(1..60) * (1 + u64::from(round / ROUNDS)));
        let rival = client.token.is_some() && dice.random_range(0..6) == 0;
        if rival {
            // Another stream of the same session, at the same moment. Only one of them goes on.
            drop(client.connect(at, &subscribe(), dice.random()).await);
        }
        let end = client.read(&mut wire, bytes, Duration::from_millis(time), &mut ledger).await;
        match end {
            End::Cut => {}
            End::Goodbye(goodbye) => {
                assert!(rival && goodbye["code"] == "SUPERSEDED", "{goodbye}");
                superseded += 1;
            }
            End::Closed => panic!("a stream ended without a goodbye"),
        }
        match dice.random_range(0..3) {
            // The server is not told.
            0 => half_open.push(wire),
            _ => drop(wire),
        }
        if dice.random_range(0..5) == 0
            && let Some(session) = &client.session
            && client.token.is_some()
        {
            // Whether a stream is there or not.
            let sub = format!("late {round}");
            let limit = dice.random_range(1..9);
            let sql = format!(
                "select id, note from items where id > {round} % 30 order by id limit {limit}"
            );
            let mut body = json!({"subscribe": [{"sub": sub, "sql": sql}]});
            if let Some(gone) = client.subs.keys().find(|sub| sub.starts_with("late")).cloned() {
                body["unsubscribe"] = json!([gone]);
                client.subs.remove(&gone);
            }
            let answer = post(at, &format!("/api/sync/{session}"), &body.to_string()).await;
            assert_eq!(answer.status, 202, "{}", answer.body);
            client.wanted.insert(sub, sql);
            if let Some(gone) = body["unsubscribe"][0].as_str() {
                client.wanted.remove(gone);
            }
            changes += 1;
        }
        let end =
            whole.read(&mut whole_wire, usize::MAX, Duration::from_millis(1), &mut ledger).await;
        assert_eq!(end, End::Cut);
    }
    stop.store(true, Ordering::Relaxed);
    let written: usize = writers.join_all().await.into_iter().sum();
    fixture.write("update divisor set by = 8").await;

    let mut wire = client.connect(at, &subscribe(), 0).await;
    for (sub, sql) in QUERIES {
        client.wanted.insert(sub.to_owned(), sql.to_owned());
        whole.wanted.insert(sub.to_owned(), sql.to_owned());
    }
    for (client, wire) in [(&mut client, &mut wire), (&mut whole, &mut whole_wire)] {
        for (sub, sql) in client.wanted.clone() {
            let sql = format!("select coalesce(json_agg(to_json(r)), '[]')::text from ({sql}) r");
            let row = fixture.writer.query_one(&sql, &[]).await.expect("the rows");
            let rows: Vec<Value> = serde_json::from_str(row.get(0)).expect("JSON");
            until(&format!("{sub} is as Postgres says"), async || {
                let time = Duration::from_millis(5);
                client.read(wire, usize::MAX, time, &mut ledger).await;
                client.subs.get(&sub).is_some_and(|held| {
                    held.error.is_none() && held.shown.rows == rows && !held.shown.is_stale
                })
            })
            .await;
        }
    }
    println!(
        "{written} transactions, {changes} changes of subscriptions, {superseded} streams superseded, {} transitions taken in, {} results by digest; {:?}",
        client.transitions,
        ledger.len(),
        client.kinds
    );
    assert!(client.kinds.contains_key("snapshot") && client.kinds.contains_key("diff"));
    // Nothing changes any more: each is told so, in words that are new.
    client.subs.values_mut().for_each(|held| held.last.clear());
    let mut again = client.connect(at, &subscribe(), 0).await;
    until("everything is unchanged", async || {
        client.read(&mut again, usize::MAX, Duration::from_millis(5), &mut ledger).await;
        client.wanted.keys().all(|sub| client.subs[sub].last == "unchanged")
    })
    .await;
    drop((half_open, wire, whole_wire, again));
    fixture.server.stop().await;
}
