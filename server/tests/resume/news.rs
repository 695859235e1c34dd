//! What a client is told when it comes back in time: the difference, and without a question to the database.

use super::client::{Client, End, Ledger, Wire};
use crate::client::{EventStream, get, post};
use crate::support::{Fixture, connect, until};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;

/// Reads until this holds of the client.
pub async fn read_until(
    client: &mut Client,
    wire: &mut Wire,
    what: &str,
    wanted: impl Fn(&Client) -> bool,
) {
    let mut ledger = Ledger::new();
    until(what, async || {
        if !wanted(client) {
            let end = client.read(wire, usize::MAX, Duration::from_millis(5), &mut ledger).await;
            assert_eq!(end, End::Cut);
        }
        wanted(client)
    })
    .await;
}

/// Returns a counter of the server's.
pub async fn counted(address: SocketAddr, name: &str) -> u64 {
    let text = get(address, "/metrics").await.body;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no {name}: {text}"))
}

/// Returns how many results were read, and by how many statements.
pub async fn reads(address: SocketAddr) -> (u64, u64) {
    let statements = counted(address, "convoy_read_statements_total").await;
    (counted(address, "convoy_reads_total").await, statements)
}

/// What is subscribed to: rows and sums kept from the WAL, a join that is read again, an error.
fn subscribe() -> Value {
    json!([
        {"sub": "rows", "sql": "select id, status, total from orders order by id"},
        {"sub": "sums", "sql": "select tenant, count(*) as n, sum(total) as t from orders group by tenant order by tenant"},
        {"sub": "join", "sql": "select a.id, b.status from orders a join orders b on b.id = a.id order by a.id"},
        {"sub": "fails", "sql": "select 1 / (id - 1) as q from orders where id = 1"},
    ])
}

/// The table is locked against any reader before the client comes back: a question about it could not be answered, so what
/// is answered was answered without one.
#[tokio::test(flavor = "multi_thread")]
async fn who_resumes_in_time_costs_no_query() {
    const MANY: i32 = 2000;
    let fixture = Fixture::start("resume_no_query", &["--allow-sql"]).await;
    let at = fixture.address;
    fixture
        .write(&format!(
            "alter table orders replica identity full;
             insert into orders select n, n % 5, 'row ' || n, n from generate_series(10, {MANY}) n"
        ))
        .await;
    let mut client = Client::default();
    let mut wire = client.connect(at, &subscribe(), 0).await;
    let is_answered = |client: &Client| client.subs.len() == 4;
    read_until(&mut client, &mut wire, "first answers", is_answered).await;
    // Another client tells when the server knows of a write.
    let mut other = Client::default();
    let mut other_wire = other.connect(at, &subscribe(), 0).await;
    read_until(&mut other, &mut other_wire, "first answers", is_answered).await;
    drop(wire);
    for round in 0..3 {
        until("its stream is gone", async || get(at, "/api/status").await.json()["streams"] == 1)
            .await;
        // The first time nothing happens meanwhile, then one thing, then many.
        for write in 0..[0, 1, 5][round] {
            fixture
                .write(&format!(
                    "update orders set status = 'changed {round} {write}', total = total + 1 where id = {}; \
                     delete from orders where id = {}",
                    20 + write,
                    100 + 10 * round + write
                ))
                .await;
        }
        let sql = "select a.id::text from orders a order by a.id";
        let ids: Vec<String> =
            fixture.writer.query(sql, &[]).await.expect("rows").iter().map(|r| r.get(0)).collect();
        let status = json!(format!("changed {round} {}", [0, 0, 4][round]));
        let is_there = |client: &Client| {
            ["rows", "join"].iter().all(|sub| {
                let shown = &client.subs[*sub].shown;
                shown.keys.len() == ids.len()
                    && (round == 0 || shown.rows.iter().any(|row| row["status"] == status))
            })
        };
        read_until(&mut other, &mut other_wire, "what was written", is_there).await;
        let before = reads(at).await;
        let locker = connect(&fixture.url).await;
        locker
            .batch_execute("begin; lock table orders in access exclusive mode")
            .await
            .expect("a lock");

        let token = client.token.clone();
        let mut wire = client.connect(at, &subscribe(), 0).await;
        let transitions = client.transitions;
        let told = |client: &Client| {
            client.transitions > transitions
                && client.subs.iter().all(|(sub, held)| held.digest == other.subs[sub].digest)
        };
        read_until(&mut client, &mut wire, "what the other has", told).await;
        assert_ne!(client.token, token);
        drop(wire);
        let came = ["rows", "join", "fails"].map(|sub| client.subs[sub].last.as_str());
        let news = if round == 0 { "unchanged" } else { "diff" };
        // Of changes a snapshot may come instead: where the diffs are longer, or are not all there any more. What counts is
        // that neither asks the database.
        let is_news = |came: &str| came == news || (round > 0 && came == "snapshot");
        assert!(is_news(came[0]) && is_news(came[1]), "round {round}: {came:?}");
        assert_eq!(came[2], "error", "round {round}");
        let sums = client.subs["sums"].last.as_str();
        assert!(is_news(sums), "round {round}: {sums}");
        assert_eq!(reads(at).await, before, "round {round}");
        locker.batch_execute("rollback").await.expect("an end");
    }
    fixture.server.stop().await;
}

/// A stream of one query that was refused for now says when to come back; who does is not met with silence.
#[tokio::test]
async fn a_query_that_was_refused_for_now_is_asked_again() {
    let fixture = Fixture::start("resume_refused", &["--memory-results", "1"]).await;
    let at = fixture.address;
    let mut token = None;
    for _ in 0..3 {
        let headers: Vec<_> =
            token.iter().map(|token: &String| ("last-event-id", token.as_str())).collect();
        let mut stream = EventStream::open(at, "GET", "/api/query/all", &headers, "").await;
        assert_eq!(stream.expect("hello").await.data["resumed"], json!(false));
        let event = stream.transition().await;
        let update = &event.data["updates"][0];
        assert_eq!((&update["type"], &update["final"]), (&json!("error"), &json!(true)));
        assert_eq!(update["error"]["code"], "LIMIT_EXCEEDED");
        let goodbye = stream.next().await.expect("a goodbye");
        assert_eq!(goodbye.name, "goodbye");
        assert!(goodbye.data["retry_ms"].is_u64(), "{:?}", goodbye.data);
        assert_eq!(stream.next().await, None);
        token = event.id;
    }
    fixture.server.stop().await;
}

/// The transition that was awaited may have gone into a connection that nobody reads.
#[tokio::test]
async fn who_comes_back_hears_at_once_where_it_is() {
    let fixture = Fixture::start("resume_await", &["--heartbeat", "600"]).await;
    let at = fixture.address;
    let mut stream = EventStream::open(at, "GET", "/api/sync", &[], "").await;
    let session = stream.expect("hello").await.data["session"].as_str().expect("it").to_owned();
    let path = format!("/api/sync/{session}");
    let mut token = None;
    for _ in 0..2 {
        let lsn = fixture.write("update orders set total = 1").await;
        assert_eq!(post(at, &path, &json!({"await": lsn}).to_string()).await.status, 202);
        let number = |lsn: &str| lsn.parse::<convoy_types::Lsn>().expect("an LSN");
        loop {
            let event = stream.expect("transition").await;
            if token.is_none() {
                token = event.id;
            }
            if number(event.data["lsn"].as_str().expect("an LSN")) >= number(&lsn) {
                break;
            }
        }
        drop(stream);
        // As one that has not read what it awaited.
        let headers = [("last-event-id", token.as_deref().expect("a token"))];
        stream = EventStream::open(at, "GET", "/api/sync", &headers, "").await;
        assert_eq!(stream.expect("hello").await.data["resumed"], json!(true));
        let event = stream.expect("transition").await;
        assert_eq!(event.data["updates"], json!([]));
        assert!(number(event.data["lsn"].as_str().expect("an LSN")) >= number(&lsn));
    }
    fixture.server.stop().await;
}
