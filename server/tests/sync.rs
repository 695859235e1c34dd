//! Streams of many subscriptions.

use crate::client::{EventStream, StreamEvent, get, post};
use crate::support::Fixture;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Reads transitions until each of these has an update; returns the last update of each.
async fn updates_of(stream: &mut EventStream, subs: &[&str]) -> BTreeMap<String, Value> {
    let mut seen = BTreeMap::new();
    while !subs.iter().all(|sub| seen.contains_key(*sub)) {
        let StreamEvent { data, .. } = stream.transition().await;
        for update in data["updates"].as_array().expect("updates") {
            seen.insert(update["sub"].as_str().expect("a sub").to_owned(), update.clone());
        }
    }
    seen
}

#[tokio::test]
async fn a_session_subscribes_and_unsubscribes() {
    let fixture = Fixture::start("sync_session", &["--allow-sql"]).await;
    let at = fixture.address;
    let body = json!({"subscribe": [
        {"sub": "a", "query": "all"},
        {"sub": "bad", "query": "al"},
        {"sub": "worse", "sql": "select nope from orders"},
    ]});
    let mut stream = EventStream::open(at, "POST", "/api/sync", &[], &body.to_string()).await;
    let hello = stream.expect("hello").await.data;
    let path = format!("/api/sync/{}", hello["session"].as_str().expect("a session"));
    let seen = updates_of(&mut stream, &["a", "bad", "worse"]).await;
    assert_eq!(seen["a"]["type"], "snapshot");
    for sub in ["bad", "worse"] {
        assert_eq!(
            (&seen[sub]["type"], &seen[sub]["final"]),
            (&json!("error"), &json!(true)),
            "{seen:?}"
        );
    }
    assert_eq!(seen["bad"]["error"]["code"], "NOT_FOUND");
    assert_eq!(seen["worse"]["error"]["code"], "INVALID_ARGS");

    // What is malformed is refused whole.
    for envelope in [
        r#"{"subscribe":[{"sub":"b","query":"all"},{"sub":"a","query":"all"}]}"#,
        r#"{"subscribe":[{"sub":"b","query":"all"},{"query":"all"}]}"#,
        r#"{"subscribe":[{"sub":"b","query":"all"}],"await":"nowhere"}"#,
        r#"{"subscribe":[{"sub":"b","query":"all"}],"unsubscribe":7}"#,
        "[]",
    ] {
        let answer = post(at, &path, envelope).await;
        assert_eq!(
            (answer.status.as_u16(), answer.code().as_str()),
            (400, "INVALID_ARGS"),
            "{envelope}"
        );
    }
    // So `b` is still free, and a digest spares the rest.
    let digest = &seen["a"]["digest"];
    let request = json!({"subscribe": [{"sub": "b", "query": "all"}], "have": {"b": digest}});
    assert_eq!(post(at, &path, &request.to_string()).await.status, 202);
    assert_eq!(
        updates_of(&mut stream, &["b"]).await["b"],
        json!({"sub": "b", "type": "unchanged"})
    );

    // After the 202 nothing names it.
    assert_eq!(post(at, &path, r#"{"unsubscribe":["a","never"]}"#).await.status, 202);
    let lsn = fixture.write("insert into orders values (9, 9, 'open', 9)").await;
    assert_eq!(post(at, &path, &json!({"await": lsn}).to_string()).await.status, 202);
    let seen = updates_of(&mut stream, &["b"]).await;
    assert_eq!(seen.keys().collect::<Vec<_>>(), ["b"]);
    let answer = post(at, &path, r#"{"subscribe":[{"sub":"a","query":"all"}]}"#).await;
    assert_eq!(answer.code(), "INVALID_ARGS", "a name is used once");
    fixture.server.stop().await;
}

#[tokio::test]
async fn an_awaited_position_comes_by_itself() {
    let fixture = Fixture::start("sync_await", &[]).await;
    let at = fixture.address;
    let mut stream = EventStream::open(at, "GET", "/api/sync", &[], "").await;
    let hello = stream.expect("hello").await.data;
    let path = format!("/api/sync/{}", hello["session"].as_str().expect("a session"));
    let lsn = fixture.write("create table unseen (id int4); insert into unseen values (1)").await;
    assert_eq!(post(at, &path, &json!({"await": lsn}).to_string()).await.status, 202);
    let number = |lsn: &str| lsn.parse::<convoy_types::Lsn>().expect("an LSN");
    loop {
        let transition = stream.expect("transition").await.data;
        assert_eq!(transition["updates"], json!([]));
        if number(transition["lsn"].as_str().expect("an LSN")) >= number(&lsn) {
            break;
        }
    }
    fixture.server.stop().await;
}

#[tokio::test]
async fn the_newest_stream_wins() {
    let fixture = Fixture::start("sync_newest", &[]).await;
    let at = fixture.address;
    let body = r#"{"subscribe":[{"sub":"a","query":"all"},{"sub":"bad","query":"nothing"}]}"#;
    let mut older = EventStream::open(at, "POST", "/api/sync", &[], body).await;
    older.expect("hello").await;
    let mut token = None;
    let mut missing = vec!["a", "bad"];
    while !missing.is_empty() {
        let event = older.transition().await;
        // The token of the first of them: what came after it may be lost.
        token = token.or(event.id);
        for update in event.data["updates"].as_array().expect("updates") {
            missing.retain(|sub| update["sub"] != *sub);
        }
    }
    let resume =
        json!({"resume": token.expect("a token"), "subscribe": [{"sub": "a", "query": "all"}]});
    let mut newer = EventStream::open(at, "POST", "/api/sync", &[], &resume.to_string()).await;
    assert_eq!(newer.expect("hello").await.data["resumed"], json!(true));
    let goodbye = older.next().await.expect("a goodbye");
    assert_eq!((goodbye.name.as_str(), &goodbye.data["code"]), ("goodbye", &json!("SUPERSEDED")));
    assert_eq!(goodbye.data["retry_ms"], json!(null));
    assert_eq!(older.next().await, None);
    let seen = updates_of(&mut newer, &["a"]).await;
    assert!(matches!(seen["a"]["type"].as_str(), Some("snapshot" | "unchanged")), "{seen:?}");

    // A token that nobody knows is no fault: a new session.
    let mut fresh = EventStream::open(at, "POST", "/api/sync", &[], r#"{"resume":"0-1"}"#).await;
    assert_eq!(fresh.expect("hello").await.data["resumed"], json!(false));
    fixture.server.stop().await;
}

#[tokio::test]
async fn limits_hold() {
    let flags = ["--subscriptions-max", "2", "--sessions-max", "1"];
    let fixture = Fixture::start("sync_limits", &flags).await;
    let at = fixture.address;
    let mut stream = EventStream::open(at, "GET", "/api/sync", &[], "").await;
    let hello = stream.expect("hello").await.data;
    let path = format!("/api/sync/{}", hello["session"].as_str().expect("a session"));
    let subscribe = |subs: &[&str]| {
        let entries: Vec<_> = subs.iter().map(|sub| json!({"sub": sub, "query": "all"})).collect();
        json!({ "subscribe": entries }).to_string()
    };
    let answer = post(at, &path, &subscribe(&["a", "b", "c"])).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (429, "LIMIT_EXCEEDED"));
    // A repeat would be as many.
    assert!(!answer.headers.contains_key("retry-after"));
    assert_eq!(post(at, &path, &subscribe(&["a", "b"])).await.status, 202);
    // Somebody else's session may end.
    let answer = post(at, "/api/sync", "{}").await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (429, "LIMIT_EXCEEDED"));
    assert_eq!(answer.headers["retry-after"], "1");
    // An event source gives up for good on a 429.
    let mut second = EventStream::open(at, "GET", "/api/sync", &[], "").await;
    assert_eq!(second.status, 200);
    let goodbye = second.expect("goodbye").await.data;
    assert_eq!(goodbye["code"], "LIMIT_EXCEEDED");
    assert!(goodbye["retry_ms"].is_u64());
    fixture.server.stop().await;
}

#[tokio::test]
async fn what_was_had_before_is_known_after_a_resume() {
    let fixture = Fixture::start("sync_had", &[]).await;
    let at = fixture.address;
    let body = r#"{"subscribe":[{"sub":"a","query":"all"}]}"#;
    let mut first = EventStream::open(at, "POST", "/api/sync", &[], body).await;
    first.expect("hello").await;
    let digest = updates_of(&mut first, &["a"]).await["a"]["digest"].clone();

    let body = json!({"subscribe": [{"sub": "a", "query": "all"}, {"sub": "b", "query": "all"}],
                      "have": {"a": digest}});
    let mut stream = EventStream::open(at, "POST", "/api/sync", &[], &body.to_string()).await;
    let hello = stream.expect("hello").await.data;
    let path = format!("/api/sync/{}", hello["session"].as_str().expect("a session"));
    let (mut token, mut missing) = (None, vec!["a", "b"]);
    while !missing.is_empty() {
        let event = stream.transition().await;
        token = event.id;
        for update in event.data["updates"].as_array().expect("updates") {
            missing.retain(|sub| update["sub"] != *sub);
            if update["sub"] == "a" {
                assert_eq!(update["type"], "unchanged");
            }
        }
    }
    assert_eq!(post(at, &path, r#"{"unsubscribe":["b"]}"#).await.status, 202);
    drop(stream);
    // `a` is as it was; `b` is gone, and whoever asks for it is told so.
    let resume = json!({"resume": token.expect("a token"),
                        "subscribe": [{"sub": "a", "query": "all"}, {"sub": "b", "query": "all"}]});
    let mut stream = EventStream::open(at, "POST", "/api/sync", &[], &resume.to_string()).await;
    assert_eq!(stream.expect("hello").await.data["resumed"], json!(true));
    let seen = updates_of(&mut stream, &["a", "b"]).await;
    assert_eq!(seen["a"], json!({"sub": "a", "type": "unchanged"}));
    assert_eq!((&seen["b"]["type"], &seen["b"]["final"]), (&json!("error"), &json!(true)));
    assert_eq!(seen["b"]["error"]["code"], "INVALID_ARGS");
    fixture.server.stop().await;
}

#[tokio::test]
async fn a_final_error_after_a_resume_promises_no_position_that_the_client_lacks() {
    let fixture = Fixture::start("sync_behind", &[]).await;
    let at = fixture.address;
    let body = r#"{"subscribe":[{"sub":"a","query":"all"}]}"#;
    let mut stream = EventStream::open(at, "POST", "/api/sync", &[], body).await;
    let hello = stream.expect("hello").await.data;
    let path = format!("/api/sync/{}", hello["session"].as_str().expect("a session"));
    let token = stream.transition().await.id.expect("a token");
    // This is sent, and the client says later that it has not got it.
    fixture.write("update orders set status = 'gone'").await;
    assert_eq!(updates_of(&mut stream, &["a"]).await["a"]["type"], "diff");
    drop(stream);
    // Nobody listens when this one is refused.
    let body = r#"{"subscribe":[{"sub":"b","query":"nope"}]}"#;
    assert_eq!(post(at, &path, body).await.status, 202);

    let resume = json!({ "resume": token }).to_string();
    let mut stream = EventStream::open(at, "POST", "/api/sync", &[], &resume).await;
    assert_eq!(stream.expect("hello").await.data["resumed"], json!(true));
    let updates = stream.transition().await.data["updates"].clone();
    let told: Vec<_> = updates.as_array().expect("updates").iter().map(|u| &u["type"]).collect();
    assert_eq!(told, [&json!("snapshot"), &json!("error")], "{updates}");
    fixture.server.stop().await;
}

#[tokio::test]
async fn live_queries_are_bounded_by_their_memory() {
    let flags = ["--allow-sql", "--memory-results", "20000"];
    let fixture = Fixture::start("sync_memory", &flags).await;
    let at = fixture.address;
    let mut stream = EventStream::open(at, "GET", "/api/sync", &[], "").await;
    let hello = stream.expect("hello").await.data;
    let path = format!("/api/sync/{}", hello["session"].as_str().expect("a session"));
    let of_tenant = |sub: &str, tenant: i32| {
        let args = json!({ "tenant": tenant });
        json!({"sub": sub, "query": "orders.byTenant", "args": args})
    };
    let refusal = |update: &Value| {
        assert_eq!(
            (&update["type"], &update["final"]),
            (&json!("error"), &json!(true)),
            "{update}"
        );
        assert_eq!(update["error"]["code"], "LIMIT_EXCEEDED", "{update}");
        let message = update["error"]["message"].as_str().expect("a message");
        assert!(message.contains("--memory-results"), "{message}");
    };

    // Some fit; one too many does not, and one that is there already takes no more.
    let mut fitting = Vec::new();
    let refused = loop {
        let sub = format!("t{}", fitting.len());
        let tenant = 7 + i32::try_from(fitting.len()).expect("few");
        let body = json!({"subscribe": [of_tenant(&sub, tenant)]});
        assert_eq!(post(at, &path, &body.to_string()).await.status, 202);
        let update = updates_of(&mut stream, &[&sub]).await.remove(&sub).expect("it");
        if update["type"] == "error" {
            break update;
        }
        fitting.push(sub);
        assert!(fitting.len() < 20, "more than 20 live queries in 20,000 bytes");
    };
    refusal(&refused);
    assert!(fitting.len() > 1, "{fitting:?}");
    let body = json!({"subscribe": [of_tenant("again", 7)]});
    assert_eq!(post(at, &path, &body.to_string()).await.status, 202);
    assert_eq!(updates_of(&mut stream, &["again"]).await["again"]["type"], "snapshot");
    let status = get(at, "/api/status").await.json();
    assert_eq!(status["live_query_limit_bytes"], 20_000);
    let bytes = status["live_query_bytes"].as_u64().expect("a number");
    assert!((1..=20_000).contains(&bytes), "{status}");
    let metrics = get(at, "/metrics").await.body;
    assert!(metrics.contains(&format!("convoy_live_query_memory_bytes {bytes}.0")), "{metrics}");

    // Who is there goes on, and may grow.
    fixture
        .write("insert into orders select n, 7, 'open', n from generate_series(100, 400) as n")
        .await;
    let seen = updates_of(&mut stream, &["t0", "again"]).await;
    assert!(seen["t0"]["type"] != "error" && seen["again"]["type"] != "error", "{seen:?}");

    // Room is made; a result that is too large for it is refused when it is known.
    let gone: Vec<_> = fitting.iter().cloned().chain(["again".to_owned()]).collect();
    let body = json!({ "unsubscribe": gone });
    assert_eq!(post(at, &path, &body.to_string()).await.status, 202);
    let body = json!({"subscribe": [
        {"sub": "large", "query": "all"},
        {"sub": "small", "sql": "select count(*) as n from orders"},
    ]});
    assert_eq!(post(at, &path, &body.to_string()).await.status, 202);
    let seen = updates_of(&mut stream, &["large", "small"]).await;
    refusal(&seen["large"]);
    assert_eq!(seen["small"]["value"], json!([{"n": 304}]));
    assert_eq!(get(at, "/api/status").await.json()["live_queries"], 1);
    fixture.server.stop().await;
}
