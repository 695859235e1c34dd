//! How live queries are found, chosen by those that there are.

use crate::client::{EventStream, get, post};
use crate::support::{Fixture, until};
use serde_json::{Value, json};

/// As many as are worth a look.
const QUERIES: i64 = 200;

async fn found_by(fixture: &Fixture) -> Value {
    get(fixture.address, "/api/queries").await.json()["queries"][0]["found_by"].clone()
}

#[tokio::test]
async fn live_queries_go_over_to_what_tells_them_apart() {
    let fixture = Fixture::start("choice", &["--allow-sql"]).await;
    let mut stream = EventStream::open(fixture.address, "GET", "/api/sync", &[], "").await;
    let hello = stream.expect("hello").await.data;
    let path = format!("/api/sync/{}", hello["session"].as_str().expect("a session"));
    // All of them ask for the same statuses, and each for tenants of its own.
    let sql = "select id from orders where tenant = any($1) and status = any($2)";
    let subscribe: Vec<_> = (0..QUERIES)
        .map(|tenant| {
            let tenants = [tenant, tenant + 10_000];
            json!({"sub": tenant.to_string(), "sql": sql, "params": [tenants, ["open", "paid"]]})
        })
        .collect();
    let body = json!({ "subscribe": subscribe }).to_string();
    assert_eq!(post(fixture.address, &path, &body).await.status, 202);

    // Nothing else happens: they go over between turns.
    until("it is found by what differs", async || {
        found_by(&fixture).await == json!(["in (tenant)"])
    })
    .await;
    let mut answered = 0;
    while answered < QUERIES as usize {
        answered += stream.transition().await.data["updates"].as_array().expect("updates").len();
    }
    fixture.write("insert into orders values (4, 100, 'paid', 1)").await;
    let transition = stream.transition().await.data;
    let updates = transition["updates"].as_array().expect("updates");
    assert_eq!(updates.len(), 1, "{transition}");
    assert_eq!(
        (&updates[0]["sub"], &updates[0]["ops"][0]["row"]),
        (&json!("100"), &json!({"id": 4}))
    );
    fixture.server.stop().await;
}
