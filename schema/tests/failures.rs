//! What Postgres refuses, as the protocol's codes; and what may be tried again.

use crate::support::{Db, connect, schema, table};
use convoy_postgres::testing::Dice;
use convoy_schema::CreationClock;
use serde_json::json;

#[tokio::test]
async fn constraints_are_named() {
    let mut db = Db::new("constraints").await;
    let schema = schema(vec![
        table("users", "document", &["email: string"], &["by_email(email)"]),
        table("pets", "relational", &["owner: string", "age: number"], &[]),
    ]);
    let store = db.with(&schema).await;
    db.run(
        "create unique index one_email on users ((doc->>'email'));
         alter table pets add constraint old_enough check (age >= 1), add constraint of_user foreign key (owner) references users",
    )
    .await;
    let id = db.insert(&store, "users", json!({ "email": "a@x" })).await.expect("inserted");
    let error = db.insert(&store, "users", json!({ "email": "a@x" })).await.expect_err("twice");
    assert_eq!((error.code(), error.is_retryable()), ("CONFLICT", false));
    assert_eq!(error.data().expect("data")["constraint"], "one_email");
    let told = error.to_string();
    assert!(told.contains("one_email") && told.contains("email'"), "what has to be unique: {told}");
    assert!(!told.contains("a@x"), "the key may be somebody else's: {told}");
    db.insert(&store, "pets", json!({ "owner": id, "age": 1 })).await.expect("inserted");
    for (doc, constraint) in [
        (json!({ "owner": id, "age": 0 }), "old_enough"),
        (json!({ "owner": "users:none", "age": 1 }), "of_user"),
    ] {
        let error = db.insert(&store, "pets", doc).await.expect_err(constraint);
        assert_eq!(error.code(), "INVALID_ARGS");
        assert_eq!(error.data().expect("data")["constraint"], constraint);
    }
    let error = store.delete(&db.client, &json!({ "id": id }).to_string()).await;
    let error = error.expect_err("somebody refers to it");
    assert_eq!(error.data().expect("data")["constraint"], "of_user");
    let long = "x".repeat(100_000);
    // Compressed it would fit.
    let mut dice = Dice::of(7);
    let noise: String = (0..100_000).map(|_| (33 + dice.below(90)) as u8 as char).collect();
    assert!(db.insert(&store, "users", json!({ "email": long })).await.is_ok());
    let error = db.insert(&store, "users", json!({ "email": noise })).await.expect_err("too long");
    assert_eq!(error.code(), "INVALID_ARGS", "{error}");
    assert!(error.to_string().contains("too long to be indexed"), "{error}");
}

#[tokio::test]
async fn a_lost_race_may_be_tried_again() {
    let mut db = Db::new("races").await;
    let store = db.with(&schema(vec![table("t", "document", &["n: number"], &[])])).await;
    let id = db.insert(&store, "t", json!({ "n": 0 })).await.expect("inserted");
    let other = connect(&db.url).await;
    for client in [&db.client, &other] {
        client.batch_execute("begin isolation level serializable").await.expect("begun");
        let get = json!({ "id": id }).to_string();
        store.get(client, &get, &mut Vec::new()).await.expect("read");
    }
    let patch = json!({ "id": id, "set": { "n": 1 } }).to_string();
    store.patch(&other, &patch).await.expect("patched");
    other.batch_execute("commit").await.expect("the first one wins");
    let error = store.patch(&db.client, &patch).await.expect_err("the second one lost");
    assert!(error.is_retryable() && error.code() == "CONFLICT", "{error}");
    db.run("rollback").await;
    store.patch(&db.client, &patch).await.expect("tried again");
}

#[tokio::test]
async fn values_that_are_no_more_as_declared_are_said() {
    let mut db = Db::new("miscast").await;
    let store = db.with(&schema(vec![table("t", "document", &["n: number"], &[])])).await;
    db.run("insert into t (doc) values ('{\"n\": \"x\"}')").await;
    let error =
        db.scan(&store, json!({ "table": "t", "orderBy": "n" })).await.expect_err("no number");
    let told = error.to_string();
    assert!(told.contains("convoy migrate") && !told.contains('x'), "{told}");
    let found = db.scan(&store, json!({ "table": "t" })).await.expect("a scan");
    assert_eq!(found["docs"][0]["n"], "x");
}

#[tokio::test]
async fn a_mutations_rows_are_in_the_order_of_their_insertion() {
    let mut db = Db::new("clock").await;
    let store = db.with(&schema(vec![table("t", "document", &["n: number"], &[])])).await;
    let mut clock = CreationClock::new(1_795_981_302_291.0);
    for n in 0..5 {
        db.insert_at(&store, "t", json!({ "n": n }), &mut clock).await.expect("inserted");
    }
    let found = db.scan(&store, json!({ "table": "t" })).await.expect("a scan");
    let docs = found["docs"].as_array().expect("docs");
    assert_eq!(
        docs.iter().map(|doc| doc["n"].as_i64().expect("n")).collect::<Vec<_>>(),
        [0, 1, 2, 3, 4]
    );
    assert!(
        docs.windows(2)
            .all(|pair| pair[0]["_creationTime"].as_f64() < pair[1]["_creationTime"].as_f64())
    );
}

#[tokio::test]
async fn what_is_too_much_is_refused() {
    let mut db = Db::new("too_much").await;
    let store = db.with(&schema(vec![table("t", "document", &["s: string"], &[])])).await;
    db.run("insert into t (doc) select '{\"s\": \"\"}' from generate_series(1, 100001)").await;
    let error = db.scan(&store, json!({ "table": "t" })).await.expect_err("too many rows");
    assert_eq!(error.code(), "LIMIT_EXCEEDED");
    assert!(error.to_string().contains("more than 100000 rows"), "{error}");
    let found = db.scan(&store, json!({ "table": "t", "limit": 3 })).await.expect("a part of them");
    assert_eq!(found["docs"].as_array().expect("docs").len(), 3);
    db.run("delete from t; insert into t (doc) select jsonb_build_object('s', repeat('x', 10000000)) from generate_series(1, 7)")
        .await;
    for limit in [json!(null), json!(7)] {
        let error = db.scan(&store, json!({ "table": "t", "limit": limit })).await;
        let error = error.expect_err("too many bytes");
        assert!(error.to_string().contains("more than 64 MiB"), "{error}");
    }
    let error = db.raw(&store, "select doc from t", json!([])).await.expect_err("too many bytes");
    assert_eq!(error.code(), "LIMIT_EXCEEDED");
    let found = db.scan(&store, json!({ "table": "t", "limit": 6 })).await.expect("a part of them");
    assert_eq!(found["docs"].as_array().expect("docs").len(), 6);
}
