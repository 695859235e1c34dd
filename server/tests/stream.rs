//! Streams of one query.

use crate::client::{EventStream, StreamEvent, ask, get};
use crate::support::Fixture;
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

#[tokio::test]
async fn a_stream_says_hello_then_everything_then_changes() {
    let fixture = Fixture::start("stream_one", &[]).await;
    let path = "/api/query/orders.byTenant?args=%7B%22tenant%22%3A7%7D&numbers=string";
    let mut stream = EventStream::open(fixture.address, "GET", path, &[], "").await;
    assert_eq!(stream.status, 200);
    assert_eq!(stream.headers["content-type"], "text/event-stream");
    assert_eq!(stream.headers["cache-control"], "no-store");
    assert_eq!(stream.headers["x-accel-buffering"], "no");
    assert!(!stream.headers.contains_key("content-encoding"));
    let hello = stream.expect("hello").await.data;
    assert_eq!(
        (&hello["resumed"], &hello["protocol"], &hello["heartbeat_ms"]),
        (&json!(false), &json!(1), &json!(15000))
    );
    assert_eq!(hello["session"].as_str().map(str::len), Some(32));

    let first = stream.transition().await;
    assert!(first.id.is_some());
    let update = &first.data["updates"][0];
    assert_eq!((&update["sub"], &update["type"]), (&json!("0"), &json!("snapshot")));
    assert_eq!(update["keys"], json!(["1"]));
    assert_eq!(update["value"], json!([{"id": "1", "status": "open", "total": "1.50"}]));
    assert_eq!(update["columns"][2], json!({"name": "total", "type": "numeric"}));

    fixture
        .write(
            "update orders set total = 3 where id = 1; insert into orders values (4, 7, 'open', 9)",
        )
        .await;
    let second = stream.transition().await.data;
    assert!(second["committed_at"].is_string());
    let ops = second["updates"][0]["ops"].as_array().expect("a diff").clone();
    assert!(ops.contains(&json!({"op": "update", "key": "1", "set": {"total": "3"}})), "{ops:?}");
    let insert = json!({"op": "insert", "key": "4", "at": 1, "row": {"id": "4", "status": "open", "total": "9"}});
    assert!(ops.contains(&insert), "{ops:?}");
    fixture.server.stop().await;
    // Every stream is told of the end.
    let goodbye = loop {
        let event = stream.next().await.expect("a goodbye");
        if event.name == "goodbye" {
            break event.data;
        }
    };
    assert_eq!((&goodbye["code"], &goodbye["resume"]), (&json!("UNAVAILABLE"), &json!(false)));
    assert!(goodbye["retry_ms"].is_u64());
    assert_eq!(stream.next().await, None);
}

#[tokio::test]
async fn a_poll_ends_after_its_first_news_or_its_time() {
    let fixture = Fixture::start("stream_poll", &["--allow-sql"]).await;
    let path = "/api/sql?sql=select%20id%20from%20orders%20order%20by%20id&poll=10000";
    let mut stream = EventStream::open(fixture.address, "GET", path, &[], "").await;
    stream.expect("hello").await;
    stream.transition().await;
    assert_eq!(stream.next().await, None);
    let mut stream = EventStream::open(fixture.address, "GET", "/api/sync?poll=50", &[], "").await;
    stream.expect("hello").await;
    while let Some(event) = stream.next().await {
        assert_eq!(event.data["updates"], json!([]));
    }
    fixture.server.stop().await;
}

#[tokio::test]
async fn an_event_source_goes_on_where_it_was() {
    let fixture = Fixture::start("stream_resume", &[]).await;
    let at = fixture.address;
    let mut stream = EventStream::open(at, "GET", "/api/query/all", &[], "").await;
    let session = stream.expect("hello").await.data["session"].clone();
    let token = stream.transition().await.id.expect("a token");
    drop(stream);
    let resumed = [("last-event-id", token.as_str())];
    // Nothing happened meanwhile.
    let mut stream = EventStream::open(at, "GET", "/api/query/all", &resumed, "").await;
    let hello = stream.expect("hello").await.data;
    assert_eq!((&hello["resumed"], &hello["session"]), (&json!(true), &session));
    assert_eq!(
        stream.transition().await.data["updates"],
        json!([{"sub": "0", "type": "unchanged"}])
    );
    drop(stream);
    // Something happened.
    fixture.write("delete from orders where id = 2").await;
    let mut stream = EventStream::open(at, "GET", "/api/query/all", &resumed, "").await;
    stream.expect("hello").await;
    loop {
        let updates = stream.transition().await.data["updates"].clone();
        match updates[0]["type"].as_str() {
            // The write may still be on its way.
            Some("unchanged") => continue,
            Some("snapshot") => assert_eq!(updates[0]["keys"], json!(["1", "3"])),
            _ => assert_eq!(updates[0]["ops"], json!([{"op": "remove", "key": "2"}])),
        }
        break;
    }
    // Another query's stream is no place to go on.
    let path = "/api/query/orders.byTenant?args=%7B%22tenant%22%3A7%7D";
    let mut other = EventStream::open(at, "GET", path, &resumed, "").await;
    assert_eq!(other.expect("hello").await.data["resumed"], json!(false));
    // Who was told not to come back and does is told once more, in the one way that it understands.
    let closed = ask(at, "GET", "/api/query/all", &[("last-event-id", "closed")], "").await;
    assert_eq!(closed.status, 204);
    fixture.server.stop().await;
}

#[tokio::test]
async fn who_reads_nothing_is_let_go() {
    let fixture = Fixture::start("stream_slow", &["--send-timeout", "0.3", "--allow-sql"]).await;
    let at = fixture.address;
    // More than the sockets' buffers hold.
    let wide = "create table wide (id int4 primary key, words text);
                insert into wide select n, repeat('x', 1000) from generate_series(1, 12000) n";
    fixture.write(wide).await;
    let mut peer = TcpStream::connect(at).await.expect("a connection");
    let request =
        "GET /api/sql?sql=select%20id,words%20from%20wide HTTP/1.1\r\nhost: localhost\r\n\r\n";
    peer.write_all(request.as_bytes()).await.expect("a request");
    let streams =
        async || get(at, "/api/status").await.json()["streams"].as_u64().expect("a count");
    let patience = Instant::now() + Duration::from_secs(30);
    while streams().await == 0 {
        assert!(Instant::now() < patience, "the stream never began");
    }
    while streams().await > 0 {
        assert!(Instant::now() < patience, "the stream was never given up");
    }
    drop(peer);
    fixture.server.stop().await;
}

#[tokio::test]
async fn a_quiet_stream_hears_that_it_is_up_to_date() {
    let fixture = Fixture::start("stream_heartbeat", &["--heartbeat", "0.2"]).await;
    let mut stream = EventStream::open(fixture.address, "GET", "/api/sync", &[], "").await;
    assert_eq!(stream.expect("hello").await.data["heartbeat_ms"], json!(200));
    let number = |event: &StreamEvent| -> convoy_types::Lsn {
        event.data["lsn"].as_str().expect("an LSN").parse().expect("an LSN")
    };
    let mut last = None;
    for _ in 0..3 {
        // Nobody subscribes to it; while nothing at all is written, comments take the place.
        let written =
            fixture.write("update orders set total = total + 1").await.parse().expect("an LSN");
        loop {
            let event = stream.expect("transition").await;
            assert_eq!(event.data["updates"], json!([]));
            assert_ne!(event.id, last, "tokens move on");
            last = event.id.clone();
            if number(&event) >= written {
                break;
            }
        }
    }
    fixture.server.stop().await;
}

#[tokio::test]
async fn a_session_ends_when_nobody_comes_back() {
    let fixture = Fixture::start("stream_ttl", &["--session-ttl", "0.1"]).await;
    let at = fixture.address;
    let mut stream = EventStream::open(at, "GET", "/api/query/all", &[], "").await;
    stream.expect("hello").await;
    let token = stream.transition().await.id.expect("a token");
    drop(stream);
    let patience = Instant::now() + Duration::from_secs(30);
    while get(at, "/api/status").await.json()["sessions"] != 0 {
        assert!(Instant::now() < patience, "the session was never forgotten");
    }
    let resume = [("last-event-id", token.as_str())];
    let mut stream = EventStream::open(at, "GET", "/api/query/all", &resume, "").await;
    assert_eq!(stream.expect("hello").await.data["resumed"], json!(false));
    assert_eq!(stream.transition().await.data["updates"][0]["type"], "snapshot");
    fixture.server.stop().await;
}

#[tokio::test]
async fn a_stream_whose_query_is_refused_ends() {
    let fixture = Fixture::start("stream_refused", &["--allow-sql"]).await;
    let path = "/api/sql?sql=select%20nothing%20from%20orders";
    let mut stream = EventStream::open(fixture.address, "GET", path, &[], "").await;
    stream.expect("hello").await;
    let update = stream.transition().await.data["updates"][0].clone();
    assert_eq!((&update["type"], &update["final"]), (&json!("error"), &json!(true)));
    let goodbye = stream.next().await.expect("a goodbye");
    assert_eq!(goodbye.name, "goodbye");
    assert_eq!(goodbye.data["code"], json!("INVALID_ARGS"));
    assert_eq!(goodbye.data["message"], update["error"]["message"]);
    assert_eq!(goodbye.data["retry_ms"], json!(null));
    assert_eq!(stream.next().await, None);
    // An event source comes back all the same.
    let token = goodbye.id.expect("a token");
    let headers = [("last-event-id", token.as_str()), ("accept", "text/event-stream")];
    assert_eq!(ask(fixture.address, "GET", path, &headers, "").await.status, 204);
    fixture.server.stop().await;
}
