//! The long-poll form, whose session is resumed by each request.

use super::client::{Client, End, Ledger, dice};
use crate::client::{EventStream, get, post};
use crate::support::{Fixture, connect};
use rand::Rng;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Reads a poll to its end; returns the kinds of the updates that came, and the last token.
async fn poll(fixture: &Fixture, path: &str, token: Option<&str>) -> (Vec<String>, Option<String>) {
    let headers: Vec<_> = token.into_iter().map(|token| ("last-event-id", token)).collect();
    let mut stream = EventStream::open(fixture.address, "GET", path, &headers, "").await;
    let hello = stream.expect("hello").await.data;
    assert_eq!(hello["resumed"], json!(token.is_some()));
    let (mut kinds, mut last) = (Vec::new(), token.map(str::to_owned));
    while let Some(event) = stream.next().await {
        assert_eq!(event.name, "transition");
        let updates = event.data["updates"].as_array().expect("updates").iter();
        kinds.extend(updates.map(|update| update["type"].as_str().expect("a type").to_owned()));
        last = event.id;
    }
    (kinds, last)
}

#[tokio::test]
async fn a_poll_that_goes_on_waits_for_news() {
    let fixture = Fixture::start("resume_poll", &[]).await;
    let (kinds, token) = poll(&fixture, "/api/query/all?poll=30000", None).await;
    assert_eq!(kinds, ["snapshot"]);
    // Nothing is new: it lasts as long as it was told, and does not come back at once to be asked again.
    let begun = Instant::now();
    let (kinds, token) = poll(&fixture, "/api/query/all?poll=700", token.as_deref()).await;
    assert_eq!(kinds, ["unchanged"]);
    assert!(begun.elapsed() >= Duration::from_millis(700), "{:?}", begun.elapsed());
    // Between two polls.
    let lsn = fixture.write("insert into orders values (4, 7, 'open', 1)").await;
    crate::support::until("it is applied", async || {
        let status = get(fixture.address, "/api/status").await.json();
        let applied = status["replication"]["applied_lsn"].as_str().map(str::to_owned);
        applied.is_none_or(|applied| {
            applied.parse::<convoy_types::Lsn>().expect("an LSN") >= lsn.parse().expect("an LSN")
        })
    })
    .await;
    let (kinds, token) = poll(&fixture, "/api/query/all?poll=30000", token.as_deref()).await;
    assert_eq!(kinds.last().map(String::as_str), Some("diff"), "{kinds:?}");
    // While it waits.
    let path = "/api/query/all?poll=30000";
    let (polled, _) = tokio::join!(poll(&fixture, path, token.as_deref()), async {
        fixture.write("delete from orders where id = 4").await
    });
    assert_eq!(polled.0.last().map(String::as_str), Some("diff"), "{:?}", polled.0);
    fixture.server.stop().await;
}

/// A first answer that takes longer than a poll is waited for by the next one, and not asked for anew.
#[tokio::test]
async fn a_poll_that_ends_before_anything_is_known_can_be_gone_on_with() {
    let fixture = Fixture::start("resume_poll_early", &[]).await;
    let at = fixture.address;
    let locker = connect(&fixture.url).await;
    let lock = "begin; lock table orders in access exclusive mode";
    locker.batch_execute(lock).await.expect("a lock");
    let path = "/api/query/all?poll=150";
    let (kinds, mut token) = poll(&fixture, path, None).await;
    assert!(kinds.is_empty(), "{kinds:?}");
    for _ in 0..3 {
        let (kinds, next) = poll(&fixture, path, Some(token.as_deref().expect("a token"))).await;
        assert!(kinds.is_empty(), "{kinds:?}");
        token = next;
    }
    assert_eq!(get(at, "/api/status").await.json()["sessions"], 1);
    locker.batch_execute("rollback").await.expect("an end");
    let (kinds, _) = poll(&fixture, "/api/query/all?poll=30000", token.as_deref()).await;
    assert_eq!(kinds, ["snapshot"]);
    fixture.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn polls_in_a_row_lose_and_double_nothing() {
    let fixture = Fixture::start("resume_polls", &["--allow-sql"]).await;
    let at = fixture.address;
    let mut dice = dice("polls_in_a_row");
    let stop = Arc::new(AtomicBool::new(false));
    let (url, stopped, seed) = (fixture.url.clone(), stop.clone(), dice.random::<u32>());
    let writer = tokio::spawn(async move {
        let (client, mut written) = (connect(&url).await, 0_u32);
        while !stopped.load(Ordering::Relaxed) {
            let id = 10 + seed.wrapping_add(written) % 17;
            let sql = format!(
                "insert into orders values ({id}, 7, 'w{written}', {written}) \
                 on conflict (id) do update set status = excluded.status, total = excluded.total"
            );
            client.batch_execute(&sql).await.expect("a write");
            written += 1;
            tokio::time::sleep(Duration::from_millis(u64::from(written % 7))).await;
        }
    });
    let subscribe = json!([
        {"sub": "rows", "query": "all"},
        {"sub": "sums", "sql": "select tenant, count(*) as n, sum(total) as t from orders group by tenant order by tenant"},
        {"sub": "join", "sql": "select o.id, p.status from orders o join orders p on p.id = o.id + 1 order by o.id"},
    ]);
    let (mut client, mut ledger) = (Client::default(), Ledger::new());
    let mut polls = 0;
    let until_stop = Instant::now() + Duration::from_secs(3);
    let sql = "select coalesce(json_agg(to_json(r)), '[]')::text from (select id, status from orders order by id) r";
    loop {
        let body = match &client.token {
            Some(token) => json!({ "resume": token }),
            None => json!({ "subscribe": subscribe }),
        };
        let body = body.to_string();
        let mut wire = super::client::Wire::send(at, "POST", "/api/sync?poll=200", "", &body).await;
        let end = client.read(&mut wire, usize::MAX, Duration::from_secs(20), &mut ledger).await;
        assert_eq!(end, End::Closed, "a poll ends");
        polls += 1;
        if polls == 20 {
            // A session between two polls takes wishes.
            let session = client.session.clone().expect("a session");
            let body = json!({"subscribe": [{"sub": "late", "query": "all"}]}).to_string();
            assert_eq!(post(at, &format!("/api/sync/{session}"), &body).await.status, 202);
        }
        // Where so much changes between two polls that a snapshot is the shorter, they have shown little yet.
        let has_diff = client.kinds.contains_key("diff");
        if Instant::now() > until_stop && has_diff && !stop.swap(true, Ordering::Relaxed) {
            continue;
        }
        assert!(Instant::now() < until_stop + Duration::from_secs(40), "{:?}", client.kinds);
        if stop.load(Ordering::Relaxed) {
            if !writer.is_finished() {
                continue;
            }
            let row = fixture.writer.query_one(sql, &[]).await.expect("the rows");
            let rows: Vec<Value> = serde_json::from_str(row.get(0)).expect("JSON");
            if ["rows", "late"]
                .iter()
                .all(|sub| client.subs.get(*sub).is_some_and(|held| held.shown.rows == rows))
            {
                break;
            }
        }
    }
    println!("{polls} polls, {} transitions: {:?}", client.transitions, client.kinds);
    fixture.server.stop().await;
}
