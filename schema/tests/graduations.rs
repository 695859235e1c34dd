//! From documents to columns: every row stays, and every scan's answer; what would be lost stops it.

use crate::laws::{docs, insert_any};
use crate::model::{self, any_scan};
use crate::support::{Db, read, schema, table};
use convoy_postgres::testing::{Dice, seeds};
use convoy_schema::{graduation, plan};
use serde_json::{Value, json};

fn declared(layout: &str) -> Value {
    let indexes = model::index_texts();
    let indexes: Vec<&str> = indexes.iter().map(String::as_str).collect();
    schema(vec![table("docs", layout, &model::FIELDS, &indexes)])
}

fn sql_of(schema: &Value) -> String {
    graduation(&read(schema).tables[0]).expect("a graduation").sql
}

#[tokio::test]
async fn every_row_stays_and_every_scan_answers_the_same() {
    for seed in seeds(4) {
        let mut dice = Dice::of(seed);
        let mut db = Db::new("graduation").await;
        let store = db.with(&declared("document")).await;
        for _ in 0..40 {
            insert_any(&db, &store, "docs", &mut dice).await;
        }
        let scans: Vec<Value> = (0..60).map(|_| any_scan(&mut dice, "docs")).collect();
        let mut before = Vec::new();
        for args in &scans {
            before.push(db.scan(&store, args.clone()).await.expect("a scan"));
        }
        let sql = sql_of(&declared("document"));
        db.run(&sql).await;
        db.run(&sql).await;
        // Before schema.ts says so, and after.
        for layout in ["document", "relational"] {
            let store = db.load(&declared(layout)).await;
            for (args, before) in scans.iter().zip(&before) {
                let after = db.scan(&store, args.clone()).await.expect("a scan");
                assert_eq!(docs(&after), docs(before), "{args}");
            }
        }
        let after = plan(&db.client, &read(&declared("relational"))).await.expect("a plan");
        assert!(after.is_empty() && after.warnings.is_empty(), "{}", after.render());
        let store = db.load(&declared("relational")).await;
        insert_any(&db, &store, "docs", &mut dice).await;
        assert_eq!(db.text("select count(*)::text from docs").await, "41");
        let identity = "select relreplident::text from pg_class where oid = 'docs'::regclass";
        assert_eq!(db.text(identity).await, "f");
    }
}

#[tokio::test]
async fn what_would_be_lost_stops_it() {
    let mut db = Db::new("graduation_stops").await;
    let fields = ["s: string", "n: number?", "o: boolean?", "m: string|null"];
    let schema = schema(vec![table("t", "document", &fields, &["by_n(n)"])]);
    db.migrate(&schema).await;
    let sql = sql_of(&schema);
    for (doc, expect) in [
        (
            json!({ "s": 1, "m": null }),
            "t.s is declared string, and these hold something else: t:bad",
        ),
        (json!({ "m": null }), "t.s is missing or null"),
        (json!({ "s": "a" }), "t.m is missing, which is not declared (.optional())"),
        (
            json!({ "s": "a", "m": null, "o": null }),
            "t.o has null, which is not declared (.nullable())",
        ),
        (json!({ "s": "a", "m": null, "more": 1 }), "keys that are not declared"),
        (json!({ "s": "a", "m": null, "n": 1 }), ""),
    ] {
        let insert = format!("insert into t (_id, doc) values ('t:bad', '{doc}')");
        db.run(&insert).await;
        if expect.is_empty() {
            break;
        }
        let error = db.client.batch_execute(&sql).await.expect_err(expect);
        let message = error.as_db_error().expect("of Postgres'").message().to_owned();
        assert!(message.contains(expect) && message.ends_with(": t:bad"), "{message}");
        db.run("rollback; delete from t").await;
    }
    db.run("update t set doc = jsonb_set(doc, '{n}', '1.00000000000000000001')").await;
    let error = db.client.batch_execute(&sql).await.expect_err("no double");
    assert!(
        error
            .as_db_error()
            .expect("of Postgres'")
            .message()
            .contains("numbers that none is: t:bad")
    );
    db.run("rollback; update t set doc = jsonb_set(doc, '{n}', '2'); create index own on t ((doc->>'s'))").await;
    let error = db.client.batch_execute(&sql).await.expect_err("an index would go");
    assert!(error.as_db_error().expect("of Postgres'").message().ends_with("afterwards: own"));
    db.run("rollback; drop index own").await;
    assert_eq!(db.text("select obj_description('t'::regclass)").await, "convoy: document table");
    db.run(&sql).await;
    assert_eq!(db.text("select s || n || coalesce(m, '-') from t").await, "a2-");
}

#[tokio::test]
async fn odd_names_graduate() {
    let mut db = Db::new("graduation_names").await;
    for name in ["We\"ird", "it's $convoy$", "back\\slash\n", "doc"] {
        let fields = ["doc: string", "it's: number?", "\\: json?", "$convoy_$: boolean?"];
        let schema = schema(vec![table(name, "document", &fields, &["by it's(it's, doc)"])]);
        let store = db.with(&schema).await;
        let id = db.insert(&store, name, json!({ "doc": "d", "it's": 1, "\\": [] })).await;
        let id = id.expect("inserted");
        let sql = sql_of(&schema);
        db.run(&sql).await;
        db.run(&sql).await;
        let store = db.load(&schema).await;
        let found = db.get(&store, json!({ "id": id })).await.expect("read");
        assert_eq!(
            (&found["doc"], &found["it's"], &found["\\"]),
            (&json!("d"), &json!(1), &json!([]))
        );
    }
}

#[tokio::test]
async fn a_table_without_fields_graduates() {
    let mut db = Db::new("graduation_empty").await;
    let schema = schema(vec![table("t", "document", &[], &[])]);
    let store = db.with(&schema).await;
    let id = db.insert(&store, "t", json!({})).await.expect("inserted");
    db.run(&sql_of(&schema)).await;
    let store = db.load(&schema).await;
    assert_eq!(db.get(&store, json!({ "id": id })).await.expect("read")["_id"], id);
    let put = json!({ "id": id, "doc": {} }).to_string();
    store.replace(&db.client, &put).await.expect("replaced");
}
