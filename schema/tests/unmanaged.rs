//! Tables of somebody else's, as they stand.

use crate::support::{Db, execute, schema, table};
use serde_json::json;

#[tokio::test]
async fn real_columns_are_read_and_written() {
    let mut db = Db::new("unmanaged").await;
    db.run(
        "create type mood as enum ('sad', 'happy');
         create table log (nr bigserial primary key, event text not null unique, big int8, price numeric(20, 2), at timestamptz,
                           tags text[], mood mood default 'sad', small int2, secret text default 'hidden');
         insert into log (event, big, price, at, tags) values
           ('a', 9007199254740993, 12.50, '2026-01-02 03:04:05+00', '{x,y}'), ('b', 12, 'NaN', null, null)",
    )
    .await;
    let fields = [
        "event: string",
        "big: number?|null",
        "price: number?|null",
        "at: string?|null",
        "tags: json?|null",
        "mood: string?",
        "small: number?",
    ];
    let schema =
        schema(vec![table("log", "unmanaged", &fields, &["by_at(at, big)", "by_mood(mood)"])]);
    assert!(db.migrate(&schema).await.contains("nothing to create"));
    let store = db.load(&schema).await;
    let first = db.get(&store, json!({ "table": "log", "id": 1 })).await.expect("read");
    assert_eq!(
        first,
        json!({ "_id": "1", "event": "a", "big": "9007199254740993", "price": 12.5, "at": "2026-01-02T03:04:05+00:00",
                "tags": ["x", "y"], "mood": "sad" })
    );
    let second = db.get(&store, json!({ "table": "log", "id": "2" })).await.expect("read");
    assert_eq!((&second["big"], &second["price"]), (&json!(12), &json!("NaN")));
    assert_eq!(
        db.get(&store, json!({ "table": "log", "id": "x" })).await.expect("read"),
        json!(null)
    );
    let doc = json!({ "event": "c", "big": "9007199254740995", "at": "2026-05-05T00:00:00Z", "mood": "happy" });
    let id = db.insert(&store, "log", doc).await.expect("inserted");
    assert_eq!(id, "3");
    assert_eq!(
        db.text("select secret || big from log where nr = 3").await,
        "hidden9007199254740995"
    );
    let patch = json!({ "table": "log", "id": id, "set": { "big": 1, "price": 0.1 } }).to_string();
    store.patch(&db.client, &patch).await.expect("patched");
    let (found, reads) = db
        .scan_recorded(&store, json!({ "table": "log", "index": "by_at", "limit": 1 }))
        .await
        .expect("a scan");
    assert_eq!(found["docs"][0]["_id"], "1");
    assert!(
        reads[0].sql.starts_with("select \"nr\", \"event\"")
            && reads[0].sql.ends_with("where \"at\" <= $1"),
        "{reads:?}"
    );
    let next = json!({ "table": "log", "index": "by_at", "after": found["cursor"] });
    let found = db.scan(&store, next).await.expect("a page");
    let ids = found["docs"]
        .as_array()
        .expect("docs")
        .iter()
        .map(|doc| doc["_id"].as_str().expect("an id"));
    assert_eq!(ids.collect::<Vec<_>>(), ["3", "2"]);
    let happy = json!([{ "op": "eq", "field": "mood", "value": "happy" }]);
    let args = json!({ "table": "log", "index": "by_mood", "range": happy });
    let (found, reads) = db.scan_recorded(&store, args).await.expect("a scan");
    assert_eq!(found["docs"].as_array().expect("docs").len(), 1);
    assert!(reads[0].sql.ends_with("where \"mood\" = $1"), "{reads:?}");
    let text = reads[0].sql.replacen("\"nr\"", "\"nr\"::text", 1);
    assert_eq!(execute(&db.client, &text, &reads[0].args).await, ["3"]);
    let error = db
        .insert(&store, "log", json!({ "event": "d", "tags": ["x"] }))
        .await
        .expect_err("an array");
    assert!(error.to_string().contains("text[]"), "{error}");
    let error =
        db.insert(&store, "log", json!({ "event": "d", "small": 1.5 })).await.expect_err("no int2");
    assert!(error.to_string().contains("smallint"), "{error}");
}

#[tokio::test]
async fn documents_of_somebody_elses_are_documents() {
    let mut db = Db::new("unmanaged_docs").await;
    db.run("create table notes (_id uuid primary key, doc jsonb not null)").await;
    let schema = schema(vec![table("notes", "unmanaged", &["text: string"], &["by_text(text)"])]);
    let store = db.with(&schema).await;
    let id = db.insert(&store, "notes", json!({ "text": "a" })).await.expect("inserted");
    assert_eq!(id.len(), 36);
    db.run("insert into notes values (gen_random_uuid(), '{\"text\": \"b\", \"_id\": \"mine\", \"other\": 1}')").await;
    let found =
        db.scan(&store, json!({ "table": "notes", "index": "by_text" })).await.expect("a scan");
    assert_eq!(found["docs"][0], json!({ "_id": id, "text": "a" }));
    assert_ne!(found["docs"][1]["_id"], "mine");
    assert_eq!(found["docs"][1]["other"], 1);
}

#[tokio::test]
async fn what_can_not_be_used_says_so() {
    let mut db = Db::new("unmanaged_not").await;
    db.run("create table pair (a int, b int, primary key (a, b)); create table none (a int)").await;
    let tables = ["pair", "none", "gone"].map(|name| table(name, "unmanaged", &["a: number"], &[]));
    let more = table("pair2", "document", &[], &[]);
    let schema = schema(tables.into_iter().chain([more]).collect());
    let store = db.load(&schema).await;
    for (name, expect) in [
        ("pair", "several columns"),
        ("none", "none"),
        ("gone", "not in the database"),
        ("pair2", "convoy migrate"),
    ] {
        let error = db.scan(&store, json!({ "table": name })).await.expect_err(expect);
        assert!(error.to_string().contains(expect), "{error}");
        assert!(error.is_outdated());
    }
    let store = db.with(&schema).await;
    db.scan(&store, json!({ "table": "pair2" })).await.expect("it is there now");
    db.run("drop table pair2").await;
    let error = db.scan(&store, json!({ "table": "pair2" })).await.expect_err("it went");
    assert!(error.is_outdated() && !error.is_retryable(), "{error}");
}
