//! Who sees what: identities, their sessions and their queries.

use crate::client::{Answer, EventStream, ask};
use crate::support::{Fixture, ORDERS, connect, write_project};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use convoy_engine::{FunctionRead, QueryError};
use convoy_postgres::{FunctionRun, Functions, testing};
use convoy_server::mutations::{Backend, MutationAnswer, MutationRequest, Mutations};
use convoy_server::pipeline::EventQueue;
use convoy_server::project::NamedQueries;
use convoy_server::protocol::ApiError;
use futures_util::future::BoxFuture;
use ring::hmac;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub const SECRET: &str = "what only the server and who logs people in have ever seen";
const FLAGS: [&str; 2] = ["--jwt-secret", SECRET];

/// What the project has beside the usual.
const FILES: [(&str, &str); 2] = [
    (
        "queries/mine.sql",
        "-- @param status text = 'open'\n-- @claim tenant int4\n\
         select id, status from orders where status = $1 and tenant = $2 order by id",
    ),
    (
        "queries/ours.sql",
        "-- @claim tenant int4 null\n-- @public\n\
         select id from orders where tenant = coalesce($1, 8) order by id",
    ),
];

/// Seconds since 1970, in so many seconds.
pub fn soon(seconds: i64) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    now.checked_add_signed(seconds).expect("a time")
}

/// What a caller sends that has such a token.
pub fn token(claims: &Value) -> String {
    let header = json!({"alg": "HS256", "typ": "JWT"});
    let message =
        [header, claims.clone()].map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    format!("Bearer {message}.{}", URL_SAFE_NO_PAD.encode(hmac::sign(&key, message.as_bytes())))
}

/// The token of somebody of a tenant.
fn of(tenant: i32) -> String {
    token(&json!({"sub": format!("user of {tenant}"), "tenant": tenant, "exp": soon(300)}))
}

async fn start(name: &str, flags: &[&str], backend: Option<Backend>) -> Fixture {
    let url = testing::shared().await.database(name).await;
    connect(&url).await.batch_execute(ORDERS).await.expect("a table");
    let project = tempfile::tempdir().expect("a folder");
    write_project(project.path());
    for (path, text) in FILES {
        std::fs::write(project.path().join(path), text).expect("a file");
    }
    Fixture::with(&url, &url, flags, project, backend).await
}

async fn post(at: SocketAddr, path: &str, token: &str, body: &Value) -> Answer {
    ask(at, "POST", path, &[("authorization", token)], &body.to_string()).await
}

async fn stream(at: SocketAddr, path: &str, token: &str, body: &Value) -> EventStream {
    let headers = [("authorization", token)];
    EventStream::open(at, "POST", path, &headers, &body.to_string()).await
}

/// Reads up to the first answer; returns the session's path and the token to go on with.
async fn answered(stream: &mut EventStream) -> (String, String) {
    let hello = stream.expect("hello").await.data;
    let resume = stream.transition().await.id.expect("a token");
    (format!("/api/sync/{}", hello["session"].as_str().expect("a session")), resume)
}

#[tokio::test]
async fn sessions_belong_to_who_opened_them() {
    let (mutations, backend) = Recorder::backend();
    let fixture = start("auth_sessions", &FLAGS, Some(backend)).await;
    let at = fixture.address;
    let (ann, bob) = (of(7), of(8));
    let subscribe = json!({"subscribe": [{"sub": "a", "query": "mine"}]});
    let mut anns = stream(at, "/api/sync", &ann, &subscribe).await;
    let (path, resume) = answered(&mut anns).await;

    // By its id: whoever else asks hears what who invents one hears.
    let wish = json!({"subscribe": [{"sub": "b", "query": "all"}], "unsubscribe": ["a"]});
    let unknown = post(at, "/api/sync/00000000000000000000000000000000", &bob, &wish).await;
    assert_eq!((unknown.status.as_u16(), unknown.code().as_str()), (404, "NOT_FOUND"));
    let others = post(at, &path, &bob, &wish).await;
    assert_eq!((others.status, &others.body), (unknown.status, &unknown.body));
    let nobodys = ask(at, "POST", &path, &[], &wish.to_string()).await;
    assert_eq!((nobodys.status, &nobodys.body), (unknown.status, &unknown.body));

    // By its resume token, in each of the three ways: a session of their own, as for a token that is none.
    let bobs = [("authorization", bob.as_str())];
    let body = json!({"resume": resume, "subscribe": [{"sub": "a", "query": "mine"}]});
    let url = format!("/api/sync?resume={resume}");
    for (method, path, body) in [("POST", "/api/sync", body), ("GET", url.as_str(), Value::Null)] {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut taken = EventStream::open(at, method, path, &bobs, &body).await;
        assert_eq!(taken.expect("hello").await.data["resumed"], false);
    }
    let header = [("authorization", bob.as_str()), ("last-event-id", resume.as_str())];
    let mut taken = EventStream::open(at, "GET", "/api/sync", &header, "").await;
    assert_eq!(taken.expect("hello").await.data["resumed"], false);

    // By its id, for a mutation that it is to be told of.
    let id = path.rsplit('/').next().expect("an id");
    let mutate = async |token: &str, session: &str| {
        let headers = [("authorization", token), ("x-convoy-session", session)];
        ask(at, "POST", "/api/mutation/any", &headers, "{}").await
    };
    assert_eq!(mutate(&bob, id).await.body, unknown.body);
    assert_eq!(mutations.seen().len(), 0, "nothing was done");
    assert_eq!(mutate(&ann, id).await.status, 200);
    let seen = mutations.seen();
    assert!(seen[0].session.is_some());
    let auth = seen[0].identity.as_deref().expect("somebody");
    assert_eq!(
        auth, r#"{"sub":"user of 7","tenant":7}"#,
        "who asks, without what is the token's own"
    );

    // Nothing of all that has harmed her stream, and a newer token is hers as well.
    assert_eq!(post(at, &path, &ann, &json!({})).await.status, 202);
    let newer = token(
        &json!({"tenant": 7, "sub": "user of 7", "exp": soon(900), "iat": soon(0), "jti": "x"}),
    );
    fixture.write("insert into orders values (9, 7, 'open', 1)").await;
    let update = anns.transition().await;
    assert_eq!(update.data["updates"][0]["sub"], "a");
    let mut again = stream(at, "/api/sync", &newer, &json!({"resume": update.id})).await;
    assert_eq!(again.expect("hello").await.data["resumed"], true);
    assert_eq!(anns.expect("goodbye").await.data["code"], "SUPERSEDED");
    fixture.server.stop().await;
}

#[tokio::test]
async fn a_stream_of_one_query_is_resumed_by_its_owner_alone() {
    let fixture = start("auth_one_query", &FLAGS, None).await;
    let at = fixture.address;
    let open = async |token: &str, resume: &str| {
        let headers = [("authorization", token), ("last-event-id", resume)];
        let mut stream = EventStream::open(at, "GET", "/api/query/mine", &headers, "").await;
        let hello = stream.expect("hello").await.data;
        (hello["resumed"].as_bool().expect("a word"), stream.transition().await)
    };
    let (resumed, first) = open(&of(7), "").await;
    assert_eq!((resumed, &first.data["updates"][0]["keys"]), (false, &json!(["1"])));
    let resume = first.id.expect("a token");
    let (resumed, others) = open(&of(8), &resume).await;
    assert_eq!((resumed, &others.data["updates"][0]["keys"]), (false, &json!(["3"])));
    let (resumed, _) = open(&of(7), &resume).await;
    assert!(resumed);
    fixture.server.stop().await;
}

#[tokio::test]
async fn a_stream_ends_when_its_token_expires() {
    let fixture = start("auth_expiry", &FLAGS, None).await;
    let at = fixture.address;
    let ann = |exp: u64| token(&json!({"sub": "ann", "tenant": 7, "exp": exp}));
    // It counts for half a minute longer than it says.
    let short = ann(soon(-26));
    let subscribe = json!({"subscribe": [{"sub": "a", "query": "mine"}]});
    let mut first = stream(at, "/api/sync", &short, &subscribe).await;
    let (path, _) = answered(&mut first).await;
    // One that is busy ends as well: each write is news.
    let (mut last, since) = (None, Instant::now());
    let goodbye = loop {
        assert!(since.elapsed() < Duration::from_secs(30), "it goes on");
        let _ = fixture.write("update orders set id = id + 10 where tenant = 7").await;
        let event = first.next().await.expect("a goodbye");
        match event.name.as_str() {
            "goodbye" => break event.data,
            _ => last = event.id.or(last),
        }
    };
    assert_eq!((&goodbye["code"], &goodbye["resume"]), (&json!("UNAUTHORIZED"), &json!(true)));
    assert!(goodbye["retry_ms"].is_number(), "{goodbye}");
    assert!(first.next().await.is_none(), "nothing comes after it");
    let refused = post(at, &path, &short, &json!({})).await;
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (401, "UNAUTHORIZED"));

    // With a new token it goes on where it was.
    let resume = json!({"resume": last.expect("a token")});
    assert_eq!(stream(at, "/api/sync", &short, &resume).await.status, 401);
    let mut second = stream(at, "/api/sync", &ann(soon(300)), &resume).await;
    assert_eq!(second.expect("hello").await.data["resumed"], true);
    fixture.server.stop().await;
}

#[tokio::test]
async fn one_query_is_each_callers_own() {
    let fixture = start("auth_claims", &FLAGS, None).await;
    let at = fixture.address;
    let ids = |answer: &Answer| -> Vec<i64> {
        let json = answer.json();
        let rows = json["value"].as_array().unwrap_or_else(|| panic!("{json}"));
        rows.iter().map(|row| row["id"].as_i64().expect("an id")).collect()
    };
    let mine = "/api/query/mine";
    assert_eq!(ids(&post(at, mine, &of(7), &json!({})).await), [1]);
    assert_eq!(ids(&post(at, mine, &of(7), &json!({"status": "paid"})).await), [2]);
    assert_eq!(ids(&post(at, mine, &of(8), &json!({})).await), [3]);

    // Whose it is comes from the token alone.
    let check = async |token: &str, path: &str, body: Value, status: u16, code: &str| {
        let answer = post(at, path, token, &body).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (status, code), "{answer:?}");
        answer
    };
    let told = check(&of(7), mine, json!({"tenant": 8}), 400, "INVALID_ARGS").await;
    assert!(told.body.contains("claim"), "{}", told.body);
    let lacking = token(&json!({"sub": "ann", "exp": soon(300)}));
    let told = check(&lacking, mine, json!({}), 403, "FORBIDDEN").await;
    assert!(told.body.contains("tenant"), "{}", told.body);
    let null = token(&json!({"tenant": null, "exp": soon(300)}));
    check(&null, mine, json!({}), 403, "FORBIDDEN").await;
    let odd = token(&json!({"tenant": {"x": 1}, "exp": soon(300)}));
    check(&odd, mine, json!({}), 400, "INVALID_ARGS").await;
    let nobody = ask(at, "POST", mine, &[], "{}").await;
    assert_eq!((nobody.status.as_u16(), nobody.code().as_str()), (401, "UNAUTHORIZED"));
    assert_eq!(nobody.headers["www-authenticate"], "Bearer");
    // `@public` does without; what needs no claim needs nobody.
    assert_eq!(ids(&ask(at, "POST", "/api/query/ours", &[], "{}").await), [3]);
    assert_eq!(ids(&post(at, "/api/query/ours", &of(7), &json!({})).await), [1, 2]);
    assert_eq!(ask(at, "POST", "/api/query/all", &[], "{}").await.status, 200);

    // Live, at the same time, with equal arguments.
    let subscribe = json!({"subscribe": [{"sub": "a", "query": "mine"}]});
    let (mut anns, mut bobs) = (
        stream(at, "/api/sync", &of(7), &subscribe).await,
        stream(at, "/api/sync", &of(8), &subscribe).await,
    );
    for (stream, key) in [(&mut anns, "1"), (&mut bobs, "3")] {
        stream.expect("hello").await;
        assert_eq!(stream.transition().await.data["updates"][0]["keys"], json!([key]));
    }
    fixture.write("insert into orders values (10, 7, 'open', 1)").await;
    fixture.write("insert into orders values (11, 8, 'open', 1)").await;
    for (stream, key) in [(&mut anns, "10"), (&mut bobs, "11")] {
        let ops = stream.transition().await.data["updates"][0]["ops"].clone();
        let keys: Vec<_> = ops.as_array().expect("ops").iter().map(|op| &op["key"]).collect();
        assert_eq!(keys, [key]);
    }
    // The list of what is live is nobody's way to learn of others.
    let listed = ask(at, "GET", "/api/queries", &[], "").await;
    let queries = listed.json()["queries"].as_array().expect("queries").clone();
    assert_eq!(queries.len(), 2, "{}", listed.body);
    for query in queries {
        assert_eq!(query["params"], Value::Null);
        let why = format!("/api/queries/{}/why", query["id"].as_str().expect("an id"));
        let why = ask(at, "GET", &why, &[], "").await;
        let entries = why.json();
        let entries =
            entries.as_object().and_then(|entries| entries.values().find_map(Value::as_array));
        let entries = entries.expect("entries");
        assert!(
            !entries.is_empty() && entries.iter().all(|entry| entry["key"].is_null()),
            "{}",
            why.body
        );
    }

    // In a session's own words.
    let mut nobodys = EventStream::open(at, "POST", "/api/sync", &[], &subscribe.to_string()).await;
    nobodys.expect("hello").await;
    let update = nobodys.transition().await.data["updates"][0].clone();
    assert_eq!(
        (&update["error"]["code"], &update["final"]),
        (&json!("UNAUTHORIZED"), &json!(true))
    );
    fixture.server.stop().await;
}

#[tokio::test]
async fn a_token_that_does_not_count_is_refused_everywhere() {
    let fixture = start("auth_refused", &FLAGS, None).await;
    let at = fixture.address;
    let good = of(7);
    let (head, signature) = good.rsplit_once('.').expect("a signature");
    let turned: String = signature.chars().rev().collect();
    let forged = format!("{head}.{turned}");
    let expired = token(&json!({"tenant": 7, "exp": soon(-60)}));
    let eternal = token(&json!({"tenant": 7}));
    for wrong in [forged.as_str(), &expired, &eternal, "Bearer x", "Basic YTpi"] {
        for (method, path) in [
            ("POST", "/api/query/all"),
            ("GET", "/api/query/all"),
            ("POST", "/api/sync"),
            ("GET", "/api/sync"),
            ("POST", "/api/sync/0"),
            ("POST", "/api/sql"),
            ("POST", "/api/mutation/a"),
        ] {
            for accept in ["application/json", "text/event-stream"] {
                let headers = [("authorization", wrong), ("accept", accept)];
                let answer = ask(at, method, path, &headers, "{}").await;
                let said = (answer.status.as_u16(), answer.code());
                assert_eq!(said, (401, "UNAUTHORIZED".to_owned()), "{method} {path}: {wrong}");
                assert!(!answer.body.contains(head), "{}", answer.body);
            }
        }
    }
    fixture.server.stop().await;
}

/// What goes by who asks is refused where nobody is told from anybody else.
#[tokio::test]
async fn claims_need_an_identity() {
    let project = tempfile::tempdir().expect("a folder");
    std::fs::create_dir_all(project.path().join("queries")).expect("folders");
    std::fs::write(project.path().join(FILES[0].0), FILES[0].1).expect("a file");
    let mut queries = NamedQueries::load(project.path()).expect("well written");
    let refused = queries.check_without_identity().expect_err("refused").to_string();
    assert!(refused.contains("mine.sql") && refused.contains("line 2, column 4"), "{refused}");
    assert!(refused.contains("--jwt-"), "{refused}");
    assert_eq!(queries.take_without_identity().len(), 1);
    assert!(queries.is_empty());

    let convoy = env!("CARGO_BIN_EXE_convoy");
    let url = testing::shared().await.database("auth_none").await;
    let mut command = std::process::Command::new(convoy);
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--database-url", &url])
        .arg("--project")
        .arg(project.path());
    let output = command.output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("mine.sql"), "{said}");

    // From the shell, straight from the database, the claims are given.
    connect(&url).await.batch_execute(ORDERS).await.expect("a table");
    let query = |claims: &[&str]| {
        let mut command = std::process::Command::new(convoy);
        command.args(["query", "mine", "--json", "--database-url", &url]).args(claims);
        command.arg("--project").arg(project.path()).output().expect("it runs")
    };
    let given = query(&["--claims", r#"{"tenant": 7}"#]);
    assert_eq!(String::from_utf8_lossy(&given.stdout).trim(), r#"[{"id":1,"status":"open"}]"#);
    let lacking = query(&[]);
    assert_eq!(lacking.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&lacking.stderr).contains("--claims"));
}

/// Remembers what it was asked to do.
#[derive(Default)]
struct Recorder(Mutex<Vec<MutationRequest>>);

impl Recorder {
    fn backend() -> (Arc<Recorder>, Backend) {
        let mutations = Arc::new(Recorder::default());
        let backend = Backend {
            functions: Arc::new(NoFunctions),
            mutations: mutations.clone(),
            identify: None,
        };
        (mutations, backend)
    }

    fn seen(&self) -> Vec<MutationRequest> {
        self.0.lock().expect("no panic").clone()
    }
}

impl Mutations for Recorder {
    fn keep_up(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }

    fn finish(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    fn attach(&self, _: Arc<EventQueue>) {}

    fn is_mutation(&self, _: &str) -> bool {
        false
    }

    fn check_arguments<'a>(
        &'a self,
        _: &'a str,
        _: &'a str,
    ) -> BoxFuture<'a, Result<(), ApiError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn mutate(&self, request: MutationRequest) -> BoxFuture<'_, Result<MutationAnswer, ApiError>> {
        self.0.lock().expect("no panic").push(request);
        Box::pin(std::future::ready(Ok(MutationAnswer {
            value: "null".into(),
            lsn: Default::default(),
        })))
    }
}

/// A project with no queries written as functions.
#[derive(Debug)]
struct NoFunctions;

impl Functions for NoFunctions {
    fn run<'a>(
        &'a self,
        function: &'a FunctionRead,
        _: Arc<tokio_postgres::Client>,
    ) -> BoxFuture<'a, FunctionRun> {
        let message = format!("nobody asked for {function:?}");
        let outcome = Err(QueryError::new(convoy_engine::ErrorCode::Internal, message));
        Box::pin(std::future::ready(FunctionRun { outcome, spoilt: false }))
    }
}
