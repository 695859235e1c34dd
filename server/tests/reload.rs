//! The project, read again on SIGHUP while subscriptions run.

use crate::client::{EventStream, get, post};
use crate::support::Fixture;
use convoy_server::loading::ProjectLoader;
use convoy_server::reload::reload_on;
use convoy_server::shutdown;
use serde_json::{Value, json};

/// A project's folder that changes under a running server.
struct Project<'a>(&'a Fixture);

impl Project<'_> {
    /// Changes files (none: it goes) and lets the server know, as an operator would.
    fn change(&self, files: &[(&str, Option<&str>)]) {
        for (file, text) in files {
            let path = self.0.project.path().join("queries").join(file);
            match text {
                Some(text) => std::fs::write(path, text).expect("a file"),
                None => std::fs::remove_file(path).expect("a file that was there"),
            }
        }
        let pid = std::process::id().to_string();
        let sent = std::process::Command::new("kill").args(["-HUP", &pid]).status();
        assert!(sent.expect("kill runs").success());
    }
}

async fn next_update(stream: &mut EventStream, sub: &str) -> Value {
    loop {
        let data = stream.transition().await.data;
        let updates = data["updates"].as_array().expect("updates").clone();
        if let Some(update) = updates.into_iter().find(|update| update["sub"] == *sub) {
            return update;
        }
    }
}

/// The message of an error that does not end the subscription.
fn message(update: &Value) -> &str {
    assert_eq!((&update["type"], &update["final"]), (&json!("error"), &json!(false)), "{update}");
    update["error"]["message"].as_str().expect("a message")
}

#[tokio::test]
async fn running_subscriptions_go_over_to_what_their_query_became() {
    let fixture = Fixture::start("reload", &[]).await;
    let at = fixture.address;
    let project = Project(&fixture);
    let hang_ups = shutdown::hang_ups().expect("signals");
    let folder = ProjectLoader::of_files(fixture.project.path());
    let reload = tokio::spawn(reload_on(hang_ups, fixture.server.app().clone(), folder));

    let body = json!({"subscribe": [
        {"sub": "a", "query": "all"},
        {"sub": "t", "query": "orders.byTenant", "args": {"tenant": 7}},
    ]});
    let mut stream = EventStream::open(at, "POST", "/api/sync", &[], &body.to_string()).await;
    let hello = stream.expect("hello").await.data;
    let path = format!("/api/sync/{}", hello["session"].as_str().expect("a session"));
    let mut missing = vec!["a", "t"];
    while !missing.is_empty() {
        let data = stream.transition().await.data;
        for update in data["updates"].as_array().expect("updates") {
            assert_eq!(update["type"], "snapshot", "{update}");
            missing.retain(|sub| update["sub"] != *sub);
        }
    }

    // Another statement: a snapshot; whose file did not change notices nothing.
    project.change(&[("all.sql", Some("select id from orders where id <> 2 order by id desc"))]);
    let updates = stream.transition().await.data["updates"].clone();
    assert_eq!(updates.as_array().expect("updates").len(), 1, "{updates}");
    assert_eq!(updates[0]["value"], json!([{"id": 3}, {"id": 1}]), "{updates}");
    fixture.write("delete from orders where id = 3").await;
    assert_eq!(next_update(&mut stream, "a").await["ops"], json!([{"op": "remove", "key": "3"}]));

    // One that Postgres does not take: said once, with its place; the version before serves, old and new.
    project.change(&[("all.sql", Some("-- counts\nselect id,\n  nonsense from orders"))]);
    let update = next_update(&mut stream, "a").await;
    let told = message(&update);
    assert!(told.starts_with("queries/all.sql: "), "{told}");
    assert!(told.contains("line 3, column 3"), "{told}");
    let answer = post(at, "/api/query/all", "").await.json();
    assert_eq!(answer["value"], json!([{"id": 1}]));
    fixture.write("insert into orders values (4, 9, 'open', 4)").await;
    let update = next_update(&mut stream, "a").await;
    assert_eq!(update["type"], "snapshot", "after an error: {update}");
    assert_eq!(update["value"], json!([{"id": 4}, {"id": 1}]));

    // One whose header can't be read; and back to what serves.
    project.change(&[("all.sql", Some("\n-- @nothing\nselect 1 as a"))]);
    let update = next_update(&mut stream, "a").await;
    let told = message(&update);
    assert!(told.contains("queries/all.sql: line 2, column 4: unknown directive"), "{told}");
    project.change(&[("all.sql", Some("select id from orders where id <> 2 order by id desc"))]);
    assert_eq!(next_update(&mut stream, "a").await["type"], "snapshot");

    // Arguments go by name; what does not fit waits for what does.
    project.change(&[(
        "orders/byTenant.sql",
        Some(
            "-- @param least int8 = 2\n-- @param tenant int4\n\
             select id from orders where id >= $1 and tenant = $2",
        ),
    )]);
    assert_eq!(next_update(&mut stream, "t").await["value"], json!([{"id": 2}]));
    project.change(&[(
        "orders/byTenant.sql",
        Some("-- @param firm int4\nselect id from orders where tenant = $1"),
    )]);
    let update = next_update(&mut stream, "t").await;
    assert!(message(&update).contains("unknown argument \"tenant\""), "{update}");
    project.change(&[(
        "orders/byTenant.sql",
        Some("-- @param tenant int4\nselect id, status from orders where tenant = $1"),
    )]);
    let update = next_update(&mut stream, "t").await;
    assert_eq!(update["value"], json!([{"id": 1, "status": "open"}, {"id": 2, "status": "paid"}]));

    // A file that is gone, and comes back.
    project.change(&[("all.sql", None)]);
    let update = next_update(&mut stream, "a").await;
    assert_eq!(update["error"]["code"], "NOT_FOUND");
    assert_eq!(message(&update), "the query all is no more: queries/all.sql is gone");
    assert_eq!(post(at, "/api/query/all", "").await.code(), "NOT_FOUND");
    let lsn = fixture.write("insert into orders values (5, 7, 'open', 5)").await;
    let update = next_update(&mut stream, "t").await;
    assert_eq!(update["type"], "diff", "{update}");
    project.change(&[("all.sql", Some("select count(*) as n from orders"))]);
    assert_eq!(next_update(&mut stream, "a").await["value"], json!([{"n": 4}]));
    assert_eq!(post(at, &path, &json!({"await": lsn}).to_string()).await.status, 202);
    assert_eq!(get(at, "/api/status").await.json()["live_queries"], json!(2));
    reload.abort();
    fixture.server.stop().await;
}

#[tokio::test]
async fn a_version_that_waits_for_its_table_serves_once_that_is_there() {
    let fixture = Fixture::start("reload_retry", &[]).await;
    let at = fixture.address;
    let project = Project(&fixture);
    let hang_ups = shutdown::hang_ups().expect("signals");
    let folder = ProjectLoader::of_files(fixture.project.path());
    let reload = tokio::spawn(reload_on(hang_ups, fixture.server.app().clone(), folder));
    let mut stream = EventStream::open(at, "GET", "/api/query/all", &[], "").await;
    stream.expect("hello").await;
    assert_eq!(next_update(&mut stream, "0").await["type"], "snapshot");
    project.change(&[("all.sql", Some("select name from customers order by name"))]);
    let update = next_update(&mut stream, "0").await;
    assert!(message(&update).contains("customers"), "{update}");
    fixture
        .write("create table customers (name text primary key); insert into customers values ('a')")
        .await;
    assert_eq!(next_update(&mut stream, "0").await["value"], json!([{"name": "a"}]));
    reload.abort();
    fixture.server.stop().await;
}
