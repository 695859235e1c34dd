//! The parts of memory: each has its bound, its metric, and something that happens when it is reached, which is never
//! silence.

use crate::client::{EventStream, get, post, send};
use crate::mirror::Mirror;
use crate::support::{Fixture, ORDERS, connect, serve_args, text, until};
use convoy_postgres::launcher::PrivatePostgres;
use convoy_postgres::testing;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Returns a metric's value, with its labels as they are written.
async fn metric(at: SocketAddr, name: &str) -> f64 {
    let text = get(at, "/metrics").await.body;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let value = line.unwrap_or_else(|| panic!("no {name}: {text}"));
    value.parse().expect("a number")
}

async fn used(at: SocketAddr, part: &str) -> f64 {
    metric(at, &format!("convoy_memory_bytes{{part=\"{part}\"}}")).await
}

/// Looks at a part of memory all the time, from here on.
struct Peak {
    task: tokio::task::JoinHandle<()>,
    bytes: Arc<AtomicU64>,
}

impl Peak {
    fn of(at: SocketAddr, part: &'static str) -> Peak {
        let bytes = Arc::new(AtomicU64::new(0));
        let peak = bytes.clone();
        let task = tokio::spawn(async move {
            loop {
                peak.fetch_max(used(at, part).await as u64, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        Peak { task, bytes }
    }

    /// Returns the most that was seen, and looks no more.
    async fn end(self) -> u64 {
        self.task.abort();
        let ended = self.task.await;
        assert!(ended.is_err_and(|error| error.is_cancelled()), "it looked to the end");
        self.bytes.load(Ordering::Relaxed)
    }
}

#[tokio::test]
async fn the_parts_are_told_and_add_up() {
    let flags = ["--allow-sql", "--memory-limit", "320000000", "--memory-log", "10000000"];
    let fixture = Fixture::start("memory_parts", &flags).await;
    let at = fixture.address;
    let mut mirror = Mirror::of_sql(at, "select id, status from orders order by id").await;
    mirror.shows_what(&fixture.writer, "select id, status from orders order by id").await;
    let status = get(at, "/api/status").await.json();
    let mut sum = 0;
    for part in ["results", "sessions", "streams", "backlog", "log", "reads", "requests"] {
        let limit = status["memory"][part]["limit_bytes"].as_u64().expect("a limit");
        let of_metric = format!("convoy_memory_limit_bytes{{part=\"{part}\"}}");
        assert_eq!(metric(at, &of_metric).await, limit as f64, "{part}");
        sum += limit;
    }
    assert!((320_000_000 - 7..=320_000_000).contains(&sum), "{status}");
    assert_eq!(status["memory"]["log"]["limit_bytes"], 10_000_000);
    assert!(used(at, "results").await > 1000.0);
    // What waited has been written, and what was read has been taken in.
    until("nothing waits", async || {
        used(at, "streams").await == 0.0 && used(at, "reads").await == 0.0
    })
    .await;
    assert!(metric(at, "process_resident_memory_bytes").await > 1e6);
    fixture.server.stop().await;
}

/// Subscriptions to one live query cost no result, and memory all the same; so do names, for as long as the session lives.
#[tokio::test]
async fn sessions_and_their_subscriptions_are_bounded() {
    let flags = ["--allow-sql", "--memory-sessions", "200000", "--session-ttl", "1"];
    let fixture = Fixture::start("memory_sessions", &flags).await;
    let at = fixture.address;
    let subscribe = |session: usize, round: usize| {
        let name = |n: usize| format!("s{session} r{round} n{n} {}", "x".repeat(100));
        let one = |n| json!({"sub": name(n), "sql": "select count(*) as n from orders"});
        json!({"subscribe": (0..50).map(one).collect::<Vec<_>>()}).to_string()
    };
    let mut stream = EventStream::open(at, "GET", "/api/sync", &[], "").await;
    let hello = stream.expect("hello").await.data;
    let path = format!("/api/sync/{}", hello["session"].as_str().expect("a session"));
    let one_session = used(at, "sessions").await;
    assert!(one_session > 1000.0);
    let mut taken = 0;
    let refused = loop {
        let answer = post(at, &path, &subscribe(0, taken)).await;
        if answer.status != 202 {
            break answer;
        }
        taken += 1;
        assert!(taken < 8, "more than 400 subscriptions in 200,000 bytes");
    };
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (429, "LIMIT_EXCEEDED"));
    assert!(refused.body.contains("--memory-sessions"), "{}", refused.body);
    assert!(taken >= 4, "{taken}");
    // Nothing of what was refused is left, and what there is goes on.
    let before = used(at, "sessions").await;
    assert!((100_000.0..=200_000.0).contains(&before), "{before}");
    let mut mirror = Mirror::of_sql(at, "select count(*) as n from orders").await;
    mirror.shows(&json!([{"n": 3}])).await;
    // What ends leaves its name.
    let ended: Vec<String> = (0..50).map(|n| format!("s0 r0 n{n} {}", "x".repeat(100))).collect();
    assert_eq!(post(at, &path, &json!({"unsubscribe": ended}).to_string()).await.status, 202);
    let left = used(at, "sessions").await;
    assert!(before - left > 50.0 * 200.0 && left > 100_000.0, "{before} {left}");
    drop(stream);
    until("the session is over", async || used(at, "sessions").await < 2.0 * one_session).await;
    fixture.server.stop().await;
}

/// What a client writes into a statement is kept for as long as anybody reads by it.
#[tokio::test]
async fn statements_are_bounded_with_the_results() {
    let flags = ["--allow-sql", "--memory-results", "1000000", "--session-ttl", "1"];
    let fixture = Fixture::start("memory_statements", &flags).await;
    let at = fixture.address;
    let sql = |n: usize| format!("select {n} as n from orders -- {}", "x".repeat(100_000));
    let mut mirrors = Vec::new();
    let refused = loop {
        let body = json!({"sql": sql(mirrors.len())}).to_string();
        let answer = post(at, "/api/sql", &body).await;
        if answer.status != 200 {
            break answer;
        }
        let body = json!({"subscribe": [{"sub": "a", "sql": sql(mirrors.len())}]}).to_string();
        let mut stream = EventStream::open(at, "POST", "/api/sync", &[], &body).await;
        stream.expect("hello").await;
        stream.transition().await;
        mirrors.push(stream);
        assert!(mirrors.len() < 10, "ten texts of 100,000 bytes in 1,000,000");
    };
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (429, "LIMIT_EXCEEDED"));
    assert!(refused.body.contains("--memory-results"), "{}", refused.body);
    assert!(mirrors.len() >= 3, "{}", mirrors.len());
    let full = used(at, "results").await;
    mirrors.pop();
    until("one is forgotten", async || used(at, "results").await < full - 150_000.0).await;
    fixture.server.stop().await;
}

#[test]
fn more_for_the_parts_than_for_the_whole_is_misuse() {
    let args = serve_args(&["--memory-limit", "1000", "--memory-reads", "2000"]);
    let error = args.memory.parts().expect_err("too much").to_string();
    assert!(error.contains("--memory-limit 1000") && error.contains("2000"), "{error}");
}

/// A subscriber of everything that has not read anything but what fits into its sockets.
async fn stopped_reader(at: SocketAddr) -> EventStream {
    let path = "/api/sql?sql=select%20id,status%20from%20orders%20order%20by%20id";
    EventStream::open(at, "GET", path, &[], "").await
}

#[tokio::test]
async fn streams_collapse_and_who_reads_again_has_what_is_so() {
    let flags = ["--allow-sql", "--memory-streams", "400000", "--send-timeout", "60"];
    let fixture = Fixture::start("memory_streams", &flags).await;
    let at = fixture.address;
    let sql = "select id, status from orders order by id";
    let mut reader = Mirror::of_sql(at, sql).await;
    let peak = Peak::of(at, "streams");
    let mut stopped = Vec::new();
    for _ in 0..8 {
        stopped.push(stopped_reader(at).await);
    }
    // More than sockets and queues hold: rows of 20 KB, each time other ones.
    for round in 0..150 {
        let update = format!(
            "insert into orders select n, 7, repeat(md5({round}::text || n), 600), 1 from generate_series(10, 12) as n \
             on conflict (id) do update set status = excluded.status"
        );
        fixture.write(&update).await;
        reader.shows_what(&fixture.writer, sql).await;
    }
    until("something gives way", async || metric(at, "convoy_streams_collapsed_total").await > 0.0)
        .await;
    // What sockets have not taken yet stays, which is two frames of everything each: the one that is on its way, and the
    // one that all others have collapsed to.
    let (bytes, bound) = (used(at, "streams").await, 400_000.0 + 8.0 * 2.0 * 60_000.0);
    assert!(bytes < bound, "{bytes} bytes wait");
    let peak = peak.end().await;
    assert!((400_000.0..bound).contains(&(peak as f64)), "{peak} bytes waited");
    // They read at last, and end with what is so.
    fixture.write("delete from orders where id = 11; update orders set status = 'end'").await;
    let row = fixture.writer.query_one("select count(*) from orders where status = 'end'", &[]);
    assert_eq!(row.await.expect("a count").get::<_, i64>(0), 5);
    let expected = json!([1, 2, 3, 10, 12].map(|id| json!({"id": id, "status": "end"})));
    for stream in stopped {
        let mut mirror = Mirror::of_stream(stream).await;
        mirror.shows(&expected).await;
    }
    reader.shows(&expected).await;
    until("nothing waits", async || used(at, "streams").await == 0.0).await;
    fixture.server.stop().await;
}

#[tokio::test]
async fn past_the_streams_part_new_streams_and_answers_are_refused() {
    let flags = ["--allow-sql", "--memory-streams", "1000", "--send-timeout", "60"];
    let fixture = Fixture::start("memory_refused", &flags).await;
    let at = fixture.address;
    fixture.write("insert into orders select n, 7, repeat(md5(n::text), 300), 1 from generate_series(10, 400) as n").await;
    // What a result has more than its sockets hold waits with the one who does not read.
    let stopped = stopped_reader(at).await;
    until("it waits", async || used(at, "streams").await > 1_000.0).await;
    let body = json!({"sql": "select 1 as one from orders limit 1"}).to_string();
    let answer = post(at, "/api/sql", &body).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (429, "LIMIT_EXCEEDED"));
    assert!(answer.body.contains("--memory-streams"), "{}", answer.body);
    assert_eq!(answer.headers["retry-after"], "1");
    let mut stream = EventStream::open(at, "GET", "/api/sync", &[], "").await;
    let goodbye = stream.expect("goodbye").await.data;
    assert_eq!(goodbye["code"], "LIMIT_EXCEEDED");
    assert!(goodbye["retry_ms"].is_u64(), "{goodbye}");
    // It goes, and there is room.
    drop(stopped);
    until("there is room", async || post(at, "/api/sql", &body).await.status == 200).await;
    fixture.server.stop().await;
}

#[tokio::test]
async fn answers_wait_in_the_database_and_all_of_them_come() {
    // Less than any one of the results.
    let fixture = Fixture::start("memory_reads", &["--allow-sql", "--memory-reads", "1000"]).await;
    let at = fixture.address;
    fixture.write("insert into orders select n, n % 50, repeat('x', 1000), 1 from generate_series(10, 3000) as n").await;
    let wanted: Vec<Value> = (0..50)
        .map(|tenant| {
            let sql = "select id, status from orders where tenant = $1 and id >= 10 order by id";
            json!({"sub": format!("t{tenant}"), "sql": sql, "params": [tenant]})
        })
        .collect();
    let body = json!({ "subscribe": wanted }).to_string();
    let mut stream = EventStream::open(at, "POST", "/api/sync", &[], &body).await;
    stream.expect("hello").await;
    let mut rows = 0;
    while rows < 2991 {
        for update in stream.transition().await.data["updates"].as_array().expect("updates") {
            assert_eq!(update["type"], "snapshot", "{update}");
            rows += update["value"].as_array().expect("rows").len();
        }
    }
    assert_eq!(rows, 2991);
    until("all are taken in", async || used(at, "reads").await == 0.0).await;
    fixture.server.stop().await;
}

#[tokio::test]
async fn requests_wait_for_room_and_all_are_answered() {
    let fixture =
        Fixture::start("memory_requests", &["--allow-sql", "--memory-requests", "100"]).await;
    let at = fixture.address;
    let ask = |tenant: usize| async move {
        // Longer than all requests together may be.
        let padding = " ".repeat(5_000);
        let sql = format!("select count(*) as n from orders where tenant = {tenant}{padding}");
        let body = json!({ "sql": sql }).to_string();
        let headers = [("content-type", "application/json")];
        let response = send(at, "POST", "/api/sql", &headers, &body).await;
        let status = response.status();
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        (status.as_u16(), serde_json::from_slice::<Value>(&body).expect("JSON"))
    };
    let answers = futures_util::future::join_all((0..20).map(ask)).await;
    for (tenant, (status, body)) in answers.into_iter().enumerate() {
        let expected = match tenant {
            7 => 2,
            8 => 1,
            _ => 0,
        };
        assert_eq!((status, &body["value"]), (200, &json!([{"n": expected}])), "{tenant}: {body}");
    }
    until("none is left", async || used(at, "requests").await == 0.0).await;
    fixture.server.stop().await;
}

#[tokio::test]
async fn row_changes_past_their_part_are_read_again() {
    let flags = ["--allow-sql", "--memory-backlog", "20000", "--memory-log", "100"];
    let fixture = Fixture::start("memory_backlog", &flags).await;
    let at = fixture.address;
    let sql = "select id, status from orders order by id";
    let mut mirror = Mirror::of_sql(at, sql).await;
    let mut count = Mirror::of_sql(at, "select count(*) as n from orders").await;
    let (backlog, log) = (Peak::of(at, "backlog"), Peak::of(at, "log"));
    // One that is larger than a transaction may be, and many that are smaller.
    fixture
        .write("insert into orders select n, 7, 'new', 1 from generate_series(10, 500) as n")
        .await;
    mirror.shows_what(&fixture.writer, sql).await;
    assert!(metric(at, "convoy_transactions_without_rows_total").await > 0.0);
    for round in 0..20 {
        fixture
            .write(&format!("update orders set status = 'r{round}' where id % 20 = {round}"))
            .await;
    }
    fixture.write("delete from orders where id between 100 and 110").await;
    mirror.shows_what(&fixture.writer, sql).await;
    count.shows_what(&fixture.writer, "select count(*) as n from orders").await;
    let (backlog, log) = (backlog.end().await, log.end().await);
    assert!(backlog <= 20_000 && log <= 100, "{backlog} bytes waited, {log} were remembered");
    fixture.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_changes_that_a_standby_holds_up_take_no_more_than_their_part() {
    let server = PrivatePostgres::start(testing::options()).await.expect("a server");
    server.create_database("shop", Default::default()).await.expect("a database");
    let url = server.url("shop");
    let client = connect(&url).await;
    client.batch_execute(ORDERS).await.expect("a table");
    let fixture = Fixture::on(&url, &["--allow-sql", "--memory-backlog", "20000"]).await;
    let at = fixture.address;
    let (sql, count) =
        ("select id, status from orders order by id", "select count(*) as n from orders");
    let mut mirrors = [Mirror::of_sql(at, sql).await, Mirror::of_sql(at, count).await];
    for setting in
        ["alter system set synchronous_standby_names = 'nobody'", "select pg_reload_conf()"]
    {
        client.batch_execute(setting).await.expect("a setting");
    }
    until("new sessions know it", async || {
        let names = "select current_setting('synchronous_standby_names')";
        text(&connect(&url).await, names).await.as_deref() == Some("nobody")
    })
    .await;
    // The next snapshot tells the engine, too.
    let known = "set synchronous_commit = local; insert into orders values (9, 1, 'known', 1)";
    client.batch_execute(known).await.expect("a write");
    mirrors[1].shows_what(&client, count).await;
    let peak = Peak::of(at, "backlog");
    // Each much less than the part, and all of them much more.
    const WRITERS: i64 = 60;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 1..=WRITERS {
        let writer_client = connect(&url).await;
        let rows = format!(
            "insert into orders select {writer} * 100 + n, 7, repeat('x', 200), 1 from generate_series(1, 5) n"
        );
        writers.spawn(async move { writer_client.batch_execute(&rows).await.expect("a write") });
    }
    until("all hang", async || {
        let waits = "select count(*) from pg_stat_activity where wait_event = 'SyncRep'";
        client.query_one(waits, &[]).await.expect("a count").get::<_, i64>(0) == WRITERS
    })
    .await;
    until("rows have given way", async || metric(at, "convoy_backlog_collapsed_total").await > 0.0)
        .await;
    for setting in ["alter system reset synchronous_standby_names", "select pg_reload_conf()"] {
        client.batch_execute(setting).await.expect("a setting");
    }
    writers.join_all().await;
    for (mirror, sql) in mirrors.iter_mut().zip([sql, count]) {
        mirror.shows_what(&client, sql).await;
    }
    let peak = peak.end().await;
    assert!((1..=20_000).contains(&peak), "{peak} bytes waited");
    fixture.server.stop().await;
    server.stop().await.expect("it is gone");
}
