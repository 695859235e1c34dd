//! Queries that run once, and what is wrong with some.

use crate::client::{ask, get, post};
use crate::support::Fixture;
use serde_json::json;

#[tokio::test]
async fn named_queries_run_once() {
    let fixture = Fixture::start("one_shot_named", &[]).await;
    let at = fixture.address;
    let answer = post(at, "/api/query/orders.byTenant", r#"{"tenant":7}"#).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let value: serde_json::Value =
        serde_json::from_str(r#"[{"id":1,"status":"open","total":1.50}]"#).expect("JSON");
    assert_eq!(answer.json()["value"], value);
    assert!(answer.body.contains("\"total\":1.50"), "every digit is kept: {}", answer.body);
    assert!(answer.json()["lsn"].as_str().is_some_and(|lsn| lsn.contains('/')));
    let answer =
        post(at, "/api/query/orders.byTenant?numbers=string", r#"{"tenant":"7","status":"paid"}"#)
            .await;
    assert_eq!(answer.json()["value"], json!([{"id": "2", "status": "paid", "total": "2"}]));
    // An empty body is no arguments.
    let answer = post(at, "/api/query/all", "").await;
    assert_eq!(answer.json()["value"].as_array().map(Vec::len), Some(3), "{}", answer.body);
    fixture.server.stop().await;
}

#[tokio::test]
async fn what_is_wrong_is_said() {
    let fixture = Fixture::start("one_shot_wrong", &[]).await;
    let at = fixture.address;
    let check =
        async |method: &str, path: &str, body: &str, status: u16, code: &str, hint: &str| {
            let answer = ask(at, method, path, &[], body).await;
            assert_eq!(answer.status, status, "{method} {path} {body}: {}", answer.body);
            assert_eq!(answer.code(), code, "{path} {body}");
            assert!(answer.body.contains(hint), "{path} {body}: {}", answer.body);
        };
    check("POST", "/api/query/orders.byTenant", "{}", 400, "INVALID_ARGS", "tenant").await;
    check(
        "POST",
        "/api/query/orders.byTenant",
        r#"{"tennant":1}"#,
        400,
        "INVALID_ARGS",
        "\\\"tenant\\\"",
    )
    .await;
    check("POST", "/api/query/orders.byTenant", r#"{"tenant":"x"}"#, 400, "INVALID_ARGS", "").await;
    check("POST", "/api/query/orders.byTenant", "[", 400, "INVALID_ARGS", "JSON").await;
    check("POST", "/api/query/orders.bytenant", "{}", 404, "NOT_FOUND", "orders.byTenant").await;
    check("GET", "/api/query/nothing", "", 404, "NOT_FOUND", "").await;
    check("POST", "/api/sql", r#"{"sql":"select 1 as a"}"#, 403, "FORBIDDEN", "--allow-sql").await;
    check("GET", "/nothing/here", "", 404, "NOT_FOUND", "").await;
    check("POST", "/api/mutation/orders.pay", "{}", 404, "NOT_FOUND", "").await;
    check("DELETE", "/api/sql", "", 405, "METHOD_NOT_ALLOWED", "").await;
    check("POST", "/api/sync/0123", "{}", 404, "NOT_FOUND", "").await;
    let long = format!("{{\"tenant\":\"{}\"}}", "7".repeat(70_000));
    check(
        "POST",
        "/api/query/orders.byTenant",
        &long,
        413,
        "PAYLOAD_TOO_LARGE",
        "--args-bytes-max",
    )
    .await;
    let longer = " ".repeat((1 << 20) + 1);
    check("POST", "/api/sync", &longer, 413, "PAYLOAD_TOO_LARGE", "--body-bytes-max").await;
    // More than the sockets' buffers hold: the answer comes once all is sent.
    let longest = " ".repeat(24 << 20);
    check("POST", "/api/sync", &longest, 413, "PAYLOAD_TOO_LARGE", "--body-bytes-max").await;
    for (method, path) in
        [("POST", "/api/query/%FF"), ("POST", "/api/sync/%FF"), ("GET", "/api/queries/%FF/why")]
    {
        check(method, path, "{}", 400, "INVALID_ARGS", "UTF-8").await;
    }
    fixture.server.stop().await;
}

#[tokio::test]
async fn ad_hoc_sql_runs_where_it_is_allowed() {
    let fixture = Fixture::start("one_shot_sql", &["--allow-sql"]).await;
    let at = fixture.address;
    let ok = post(
        at,
        "/api/sql",
        r#"{"sql":"select id from orders where tenant = $1 order by id","params":[8]}"#,
    )
    .await;
    assert_eq!(ok.json()["value"], json!([{"id": 3}]), "{}", ok.body);
    for (sql, hint) in [
        ("delete from orders", "delete"),
        ("select pg_sleep(1) as a from orders", "pg_sleep"),
        ("select nope from orders", "nope"),
        ("select id, id from orders", "id"),
        ("select 1 as a; select 2 as b", "several"),
        ("select 'a\0' as a", "zero byte"),
        ("select U&\"!0070g_sleep\" uescape '!' (1) as a", "pg_sleep"),
    ] {
        let answer = post(at, "/api/sql", &json!({ "sql": sql }).to_string()).await;
        assert_eq!(
            (answer.status.as_u16(), answer.code().as_str()),
            (400, "INVALID_ARGS"),
            "{sql}: {}",
            answer.body
        );
        assert!(answer.body.contains(hint), "{sql}: {}", answer.body);
    }
    fixture.server.stop().await;
}

#[tokio::test]
async fn p12_ad_hoc_sql_calls_listed_functions_only() {
    let fixture = Fixture::start("one_shot_functions", &["--allow-sql"]).await;
    fixture
        .write(
            "create function own() returns int language sql as 'select 1';
             create view through as select own() as one",
        )
        .await;
    let ask = async |sql: &str| {
        post(fixture.address, "/api/sql", &json!({ "sql": sql }).to_string()).await
    };
    // Immutable and stable ones of Postgres' own.
    let answer =
        ask("select upper(status) as s, length(status) as n from orders where id = 1").await;
    assert_eq!(answer.json()["value"], json!([{"s": "OPEN", "n": 4}]), "{}", answer.body);
    for (sql, function) in [
        ("select query_to_xml('select 1', true, true, '')::text as x", "query_to_xml"),
        ("select pg_read_file('postmaster.pid') as x", "pg_read_file"),
        ("select pg_catalog.\"pg_read_file\"('postmaster.pid') as x", "pg_read_file"),
        ("select lo_get(1)::text as x", "lo_get"),
        ("select set_config('role', 'none', true) as x", "set_config"),
        ("select pg_terminate_backend(1) as x", "pg_terminate_backend"),
        ("select own() as x", "own"),
        ("select one from through", "own"),
    ] {
        let answer = ask(sql).await;
        assert_eq!(answer.status, 400, "{sql}: {}", answer.body);
        assert!(answer.body.contains(function), "{sql}: {}", answer.body);
    }
    fixture.server.stop().await;
}

#[tokio::test]
async fn the_server_tells_of_itself() {
    let fixture = Fixture::start("one_shot_status", &[]).await;
    let at = fixture.address;
    assert_eq!(get(at, "/healthz").await.status, 200);
    let status = get(at, "/api/status").await.json();
    assert_eq!(status["replication"]["state"], "streaming", "{status}");
    assert!(status["lag_bytes"].is_u64() && status["lag_seconds"].is_number(), "{status}");
    assert_eq!(get(at, "/api/queries").await.json()["queries"], json!([]));
    assert_eq!(get(at, "/api/queries/77/why").await.status, 404);
    let newer = [("accept", "application/openmetrics-text;version=1.0.0,text/plain;q=0.5")];
    let newer = ask(at, "GET", "/metrics", &newer, "").await;
    assert!(newer.headers["content-type"].to_str().is_ok_and(|kind| kind.contains("openmetrics")));
    let metrics = get(at, "/metrics").await;
    assert_eq!(metrics.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let metrics = metrics.body;
    assert!(
        metrics.contains("convoy_replication_lag_bytes") && metrics.ends_with("# EOF\n"),
        "{metrics}"
    );
    let page = get(at, "/").await;
    assert!(
        page.headers["content-security-policy"]
            .to_str()
            .is_ok_and(|policy| policy.contains("default-src 'none'"))
    );
    assert_eq!(
        get(at, "/assets/status.js").await.headers["content-type"],
        "text/javascript; charset=utf-8"
    );
    fixture.server.stop().await;
}
