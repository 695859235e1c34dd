//! `ctx.db.raw`.

use crate::support::{Db, schema, table};
use serde_json::{Value, json};

#[tokio::test]
async fn rows_are_objects() {
    let mut db = Db::new("raw").await;
    let schema = schema(vec![table("t", "relational", &["a: string", "n: number"], &[])]);
    let store = db.with(&schema).await;
    let check = async |text: &str, params: Value, expect: Value| {
        assert_eq!(db.raw(&store, text, params).await.expect(text), expect, "{text}");
    };
    check("select count(*) as total from t", json!([]), json!([{ "total": 0 }])).await;
    let insert = "insert into t (a, n) values ($1, $2)";
    check(insert, json!(["x", 1.5]), json!([])).await;
    check(&format!("{insert} returning a, n;"), json!(["y", 2]), json!([{ "a": "y", "n": 2 }]))
        .await;
    check(
        "select a from t order by a desc -- the last\n",
        json!([]),
        json!([{ "a": "y" }, { "a": "x" }]),
    )
    .await;
    check("select a from t where a = any($1)", json!([["x", "z"]]), json!([{ "a": "x" }])).await;
    check(
        "select $1::jsonb as j, $2::int8 as i, $3::boolean as b",
        json!(["s", "9007199254740993", true]),
        json!([{ "j": "s", "i": "9007199254740993", "b": true }]),
    )
    .await;
    check(
        "select $1::jsonb as j, $2::text as n, $3::int[] as a",
        json!([{ "k": [1] }, null, [1, 2]]),
        json!([{ "j": { "k": [1] }, "n": null, "a": [1, 2] }]),
    )
    .await;
    check(
        "with big as (select a from t where n > $1) select * from big",
        json!([1.7]),
        json!([{ "a": "y" }]),
    )
    .await;
    check("values (1), (2)", json!([]), json!([{ "column1": 1 }, { "column1": 2 }])).await;
    check("update t set n = n + 1 where a = $1", json!(["x"]), json!([])).await;
    check("delete from t where n > 2.1 returning a", json!([]), json!([{ "a": "x" }])).await;
}

#[tokio::test]
async fn a_raw_read_is_its_own_record() {
    let mut db = Db::new("raw_recorded").await;
    let store = db.with(&schema(vec![table("t", "relational", &["n: number"], &[])])).await;
    let mut reads = Vec::new();
    let text = "select n from t where n > $1;";
    let args = json!({ "text": text, "params": [1.5] }).to_string();
    store.raw(&db.client, &args, &mut reads).await.expect("rows");
    assert_eq!((reads[0].sql.as_str(), &reads[0].args), (text, &vec![Some("1.5".to_owned())]));
    let args = json!({ "text": "delete from t", "params": [] }).to_string();
    store.raw(&db.client, &args, &mut reads).await.expect("no rows");
    assert_eq!(reads.len(), 1);
}

#[tokio::test]
async fn what_is_wrong_is_said() {
    let mut db = Db::new("raw_wrong").await;
    let store = db.with(&schema(vec![table("t", "relational", &["n: number"], &[])])).await;
    let check = async |text: &str, params: Value, expect: &str| {
        let error = db.raw(&store, text, params).await.expect_err(text);
        assert_eq!(error.code(), "INVALID_ARGS", "{error}");
        assert!(error.to_string().contains(expect), "{error} does not say {expect}");
    };
    check("drop table t", json!([]), "insert, update, delete").await;
    check("select 1; select 2", json!([]), "multiple commands").await;
    check("select 1) as q; delete from t; --", json!([]), "syntax error").await;
    check("select $1::int", json!([]), "1 parameters").await;
    check("select 1 as a, 2 as a", json!([]), "\"a\"").await;
    check("select $1::int as i", json!(["x"]), "a value is no integer").await;
    check("select m from t", json!([]), "does not exist").await;
    check("with w as (delete from t returning n) select n from w", json!([]), "begins with insert")
        .await;
}

/// What it names may come: it is heard of then, and the store is none the worse for it.
#[tokio::test]
async fn what_is_not_there_is_recorded_too() {
    let mut db = Db::new("raw_missing").await;
    let store = db.with(&schema(vec![table("t", "relational", &["n: number"], &[])])).await;
    for text in ["select m from later where m = $1", "select m from t where m = $1"] {
        let mut reads = Vec::new();
        let args = json!({ "text": text, "params": [7] }).to_string();
        let error = store.raw(&db.client, &args, &mut reads).await.expect_err(text);
        assert_eq!((error.code(), error.is_outdated()), ("INVALID_ARGS", false), "{error}");
        assert_eq!((&*reads[0].sql, &reads[0].args[..]), (text, &[Some("7".to_owned())][..]));
    }
    let args = json!({ "text": "insert into later values (1)", "params": [] }).to_string();
    let error = store.raw(&db.client, &args, &mut Vec::new()).await.expect_err("no table");
    assert!(!error.is_outdated(), "{error}");
}

/// It would take the transaction with it, which other functions share.
#[tokio::test]
async fn what_no_text_of_postgres_holds_never_gets_there() {
    let mut db = Db::new("raw_zero").await;
    let store =
        db.with(&schema(vec![table("t", "relational", &["s: string"], &["by_s(s)"])])).await;
    db.run("begin").await;
    for (text, params) in
        [("select s from t where s = $1", json!(["\0"])), ("select '\0'", json!([]))]
    {
        let error = db.raw(&store, text, params).await.expect_err("a zero byte");
        assert_eq!((error.code(), error.ends_transaction()), ("INVALID_ARGS", false), "{error}");
    }
    let range = json!([{ "op": "eq", "field": "s", "value": "\0" }]);
    let error = db.scan(&store, json!({ "table": "t", "index": "by_s", "range": range })).await;
    assert!(!error.expect_err("a zero byte").ends_transaction());
    assert_eq!(db.text("select count(*)::text from t").await, "0");
    db.run("rollback").await;
}
