//! `ctx.db`, operation by operation.

use crate::support::{Db, schema, table};
use serde_json::{Value, json};

const FIELDS: [&str; 5] = ["s: string", "n: number", "b: boolean?", "x: string?|null", "j: json?"];

fn both() -> Value {
    let indexes = ["by_s(s)", "by_n(n, b)", "by_x(x)"];
    schema(vec![
        table("docs", "document", &FIELDS, &indexes),
        table("cols", "relational", &FIELDS, &indexes),
    ])
}

#[tokio::test]
async fn a_row_is_written_read_changed_and_deleted() {
    let mut db = Db::new("operations").await;
    let store = db.with(&both()).await;
    for name in ["docs", "cols"] {
        let doc = json!({ "s": "it's \"ä\"", "n": 1.5, "j": { "a": [1, null] } });
        let id = db.insert(&store, name, doc).await.expect("inserted");
        assert!(id.starts_with(&format!("{name}:")), "{id}");
        let found = db.get(&store, json!({ "id": id })).await.expect("read");
        assert_eq!(found["_id"], id);
        assert_eq!(found["_creationTime"], 1000);
        assert_eq!(found["s"], "it's \"ä\"");
        assert_eq!(found["j"], json!({ "a": [1, null] }));
        let patch = json!({ "id": id, "set": { "n": 2, "b": true }, "unset": ["j"] }).to_string();
        assert_eq!(store.patch(&db.client, &patch).await.expect("patched"), "null");
        let found = db.get(&store, json!({ "table": name, "id": id })).await.expect("read");
        assert_eq!((&found["n"], &found["b"], found.get("j")), (&json!(2), &json!(true), None));
        let mut doc = found.clone();
        doc["s"] = json!("other");
        let replace = json!({ "id": id, "doc": doc }).to_string();
        store.replace(&db.client, &replace).await.expect("what was read can be put back");
        let found = db.get(&store, json!({ "id": id })).await.expect("read");
        assert_eq!((&found["s"], &found["_creationTime"]), (&json!("other"), &json!(1000)));
        let delete = json!({ "id": id }).to_string();
        store.delete(&db.client, &delete).await.expect("deleted");
        assert_eq!(db.get(&store, json!({ "id": id })).await.expect("read"), Value::Null);
        for error in [
            store.delete(&db.client, &delete).await.expect_err("gone"),
            store.patch(&db.client, &patch).await.expect_err("gone"),
            store.replace(&db.client, &replace).await.expect_err("gone"),
        ] {
            assert_eq!(error.code(), "NOT_FOUND", "{error}");
            assert_eq!(error.data().expect("data")["id"], id);
        }
    }
}

#[tokio::test]
async fn a_scan_is_in_the_order_of_its_index() {
    let mut db = Db::new("scans").await;
    let store = db.with(&both()).await;
    for name in ["docs", "cols"] {
        for (s, n) in [("b", 2), ("a", 1), ("B", 3), ("ä", 10)] {
            db.insert(&store, name, json!({ "s": s, "n": n })).await.expect("inserted");
        }
        let names = async |args: Value| {
            let answer = db.scan(&store, args).await.expect("a scan");
            let docs = answer["docs"].as_array().expect("docs").clone();
            docs.iter().map(|doc| doc["s"].as_str().expect("s").to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names(json!({ "table": name, "index": "by_s" })).await, ["B", "a", "b", "ä"]);
        let range = json!([{ "op": "gte", "field": "s", "value": "a" }, { "op": "lt", "field": "s", "value": "b" }]);
        assert_eq!(names(json!({ "table": name, "index": "by_s", "range": range })).await, ["a"]);
        let desc = json!({ "table": name, "index": "by_n", "order": "desc", "limit": 2 });
        assert_eq!(names(desc).await, ["ä", "B"]);
        let by = json!({ "table": name, "order": "asc", "orderBy": "n" });
        assert_eq!(names(by).await, ["a", "b", "B", "ä"]);
    }
}

#[tokio::test]
async fn what_makes_no_sense_is_said() {
    let mut db = Db::new("misuse").await;
    let store = db.with(&both()).await;
    let check = async |args: Value, expect: &str| {
        let error = db.scan(&store, args).await.expect_err(expect);
        assert_eq!(error.code(), "INVALID_ARGS");
        assert!(error.to_string().contains(expect), "{error} does not say {expect}");
    };
    let range =
        |op: &str, field: &str, value: Value| json!({ "op": op, "field": field, "value": value });
    check(json!({ "table": "doc" }), "did you mean \"docs\"?").await;
    check(json!({ "table": "docs", "index": "by_t" }), "did you mean \"by_s\"?").await;
    check(json!({ "table": "docs", "order": "up" }), "asc").await;
    check(json!({ "table": "docs", "orderBy": "t" }), "no field \"t\"").await;
    check(json!({ "table": "docs", "limit": -1 }), "limit").await;
    let with = |range: Value| json!({ "table": "docs", "index": "by_n", "range": range });
    check(with(json!([range("eq", "b", json!(true))])), "(n, b, _creationTime)").await;
    check(with(json!([range("gt", "n", json!(1)), range("eq", "b", json!(true))])), "can't go on")
        .await;
    check(with(json!([range("gt", "n", json!(1)), range("gte", "n", json!(1))])), "two bounds")
        .await;
    check(with(json!([range("gt", "n", json!(null))])), "null").await;
    check(with(json!([range("eq", "n", json!("1"))])), "is a number").await;
    check(json!({ "table": "docs", "after": "x" }), "cursor").await;
    check(json!({ "table": "docs", "after": "eyJzIjoiIn0" }), "cursor").await;
    let answer = db.insert(&store, "docs", json!({ "s": "a", "n": 1 })).await;
    answer.expect("inserted");
    let scan = db.scan(&store, json!({ "table": "docs", "limit": 1 })).await.expect("a scan");
    check(json!({ "table": "cols", "after": scan["cursor"] }), "another query's").await;
}

#[tokio::test]
async fn documents_are_held_against_the_schema() {
    let mut db = Db::new("misfits").await;
    let store = db.with(&both()).await;
    for name in ["docs", "cols"] {
        let check = async |doc: Value, expect: &str| {
            let error = db.insert(&store, name, doc).await.expect_err(expect);
            assert_eq!(error.code(), "INVALID_ARGS");
            assert!(error.to_string().contains(expect), "{error} does not say {expect}");
        };
        check(json!({ "n": 1 }), "\"s\" of table").await;
        check(json!({ "s": 1, "n": 1 }), "is a string, not a number").await;
        check(json!({ "s": "a", "n": null }), "is a number, not null").await;
        check(json!({ "s": "a", "n": 1, "m": 1 }), "no field \"m\"").await;
        check(json!({ "s": "a", "n": 1, "_id": "x" }), "Convoy's own").await;
        check(json!({ "s": "a\u{0}", "n": 1 }), "").await;
        let id = db.insert(&store, name, json!({ "s": "a", "n": 1, "x": null })).await;
        let id = id.expect("inserted");
        let patch = json!({ "id": id, "set": {}, "unset": ["s"] }).to_string();
        let error = store.patch(&db.client, &patch).await.expect_err("needed");
        assert!(error.to_string().contains("not optional"), "{error}");
        let other = json!({ "id": id, "set": { "_id": "y" } }).to_string();
        let error = store.patch(&db.client, &other).await.expect_err("another's");
        assert!(error.to_string().contains("_id"), "{error}");
    }
}

#[tokio::test]
async fn a_read_is_recorded_as_far_as_it_went() {
    let mut db = Db::new("recorded").await;
    let store = db.with(&both()).await;
    for (name, columns, s, n, b, ordered) in [
        (
            "docs",
            "_id, _creation_time, doc",
            "doc->>'s'",
            "(doc->>'n')::numeric",
            "(doc->>'b')::boolean",
            "(doc->>'s') collate \"C\"",
        ),
        (
            "cols",
            "\"_id\", \"_creation_time\", \"s\", \"n\", \"b\", \"x\", \"j\"",
            "\"s\"",
            "\"n\"",
            "\"b\"",
            "\"s\"",
        ),
    ] {
        // Both name them the same.
        let columns = columns.replace("_id, _creation_time", "\"_id\", \"_creation_time\"");
        for number in 1..=4 {
            let doc = json!({ "s": format!("s{number}"), "n": number, "b": number % 2 == 0 });
            db.insert(&store, name, doc).await.expect("inserted");
        }
        let check = async |args: Value, expect: String, values: &[&str]| {
            let mut args = args;
            args["table"] = json!(name);
            let (_, reads) = db.scan_recorded(&store, args).await.expect("a scan");
            assert_eq!(reads.len(), 1, "{reads:?}");
            assert_eq!(reads[0].sql, format!("select {columns} from \"{name}\"{expect}"));
            let args: Vec<&str> = reads[0].args.iter().flatten().map(String::as_str).collect();
            assert_eq!(args, values);
        };
        let range = |op: &str, field: &str, value: Value| json!({ "op": op, "field": field, "value": value });
        check(json!({}), String::new(), &[]).await;
        let one = json!([range("eq", "s", json!("s1"))]);
        check(json!({ "index": "by_s", "range": one }), format!(" where {s} = $1"), &["s1"]).await;
        // There is no second row, so that all of it was read.
        let two = json!({ "index": "by_s", "range": one, "limit": 2 });
        check(two, format!(" where {s} = $1"), &["s1"]).await;
        let first = json!({ "index": "by_s", "range": one, "limit": 1 });
        check(first, format!(" where {s} = $1 and \"_creation_time\" <= $2"), &["s1", "1000"])
            .await;
        let bounds = json!([range("gte", "n", json!(1)), range("lt", "n", json!(35))]);
        let all = json!({ "index": "by_n", "range": bounds });
        check(all, format!(" where {n} >= $1 and {n} < $2"), &["1", "35"]).await;
        // The bound that was asked for gives way to the one that was reached.
        let some = json!({ "index": "by_n", "range": bounds, "limit": 2 });
        check(some, format!(" where {n} >= $1 and {n} <= $2"), &["1", "2"]).await;
        let first = json!({ "index": "by_s", "limit": 1 });
        check(first, format!(" where {ordered} <= $1"), &["s1"]).await;
        let eq_null = json!([range("eq", "n", json!(2)), range("eq", "b", Value::Null)]);
        let null = json!({ "index": "by_n", "range": eq_null });
        check(null, format!(" where {n} = $1 and {b} is null"), &["2"]).await;
        let last = json!({ "order": "desc", "limit": 1 });
        check(last, " where \"_creation_time\" >= $1".to_owned(), &["1000"]).await;
        let mut reads = Vec::new();
        let get = json!({ "id": format!("{name}:x") }).to_string();
        assert_eq!(store.get(&db.client, &get, &mut reads).await.expect("read"), "null");
        assert_eq!(reads[0].sql, format!("select {columns} from \"{name}\" where \"_id\" = $1"));
        assert_eq!(reads[0].args, [Some(format!("{name}:x"))]);
    }
}
