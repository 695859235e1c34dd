//! `GET /api/queries/{id}/why`: the last changes that touched a live query, and what was done about each.

use crate::client::get;
use crate::mirror::Mirror;
use crate::support::Fixture;
use serde_json::{Value, json};
use std::net::SocketAddr;

async fn changes(address: SocketAddr, sql_part: &str) -> Vec<Value> {
    let queries = get(address, "/api/queries").await.json()["queries"].clone();
    let is_it = |query: &&Value| query["sql"].as_str().is_some_and(|sql| sql.contains(sql_part));
    let query = queries.as_array().and_then(|queries| queries.iter().find(is_it)).expect("a query");
    let path = format!("/api/queries/{}/why", query["id"].as_str().expect("an id"));
    get(address, &path).await.json()["changes"].as_array().expect("changes").clone()
}

fn is_time(value: &Value) -> bool {
    value.as_f64().is_some_and(|millis| (0.0..60_000.0).contains(&millis))
}

#[tokio::test]
async fn a_change_that_is_taken_in_names_its_row_and_the_predicate() {
    let fixture = Fixture::start("why_diff", &[]).await;
    let path = "/api/query/orders.byTenant?args=%7B%22tenant%22%3A7%7D";
    let mut shown = Mirror::open(fixture.address, path).await;
    assert_eq!(changes(fixture.address, "tenant = $1").await, [] as [Value; 0]);
    fixture.write("update orders set total = 3 where id = 1").await;
    shown.until("the change", |shown| shown.rows[0]["total"] == json!(3)).await;
    let changes = changes(fixture.address, "tenant = $1").await;
    let [change] = &changes[..] else { panic!("{changes:?}") };
    assert_eq!(
        (&change["table"], &change["key"], &change["action"], &change["reason"]),
        (&json!("\"public\".\"orders\""), &json!("1"), &json!("diff"), &Value::Null)
    );
    assert_eq!(change["predicate"], "tenant = $1 AND status = $2");
    assert!(change["lsn"].is_string() && change["committed_at"].is_string());
    for stage in ["received_ms", "waited_ms", "maintained_ms", "told_ms"] {
        assert!(is_time(&change[stage]), "{stage}: {change}");
    }
}

#[tokio::test]
async fn a_change_that_makes_a_result_be_read_again_says_why() {
    let fixture = Fixture::start("why_refresh", &["--allow-sql"]).await;
    let sql = "select o.status from orders o join orders p on p.id = o.id + 1 where o.tenant = 7 and p.tenant = 8";
    let mut joined = Mirror::of_sql(fixture.address, sql).await;
    let mut all = Mirror::open(fixture.address, "/api/query/all").await;
    fixture.write("update orders set status = 'late' where id = 2").await;
    joined.until("the change", |shown| shown.rows == [json!({"status": "late"})]).await;
    let seen = changes(fixture.address, "join").await;
    let last = seen.last().expect("a change");
    assert_eq!((&last["action"], &last["predicate"]), (&json!("refresh"), &json!("tenant = …")));
    assert!(last["reason"].as_str().is_some_and(|reason| reason.contains("plan")), "{last}");
    assert!(is_time(&last["maintained_ms"]) && is_time(&last["told_ms"]), "{last}");

    // What is known by its table alone has no row.
    fixture.write("truncate orders").await;
    all.until("nothing", |shown| shown.rows.is_empty()).await;
    let seen = changes(fixture.address, "order by id").await;
    let last = seen.last().expect("a change");
    assert_eq!((&last["action"], &last["key"]), (&json!("refresh"), &Value::Null));
    assert!(last["reason"].as_str().is_some_and(|reason| reason.contains("TRUNCATE")), "{last}");
}
