//! Plans: what is created, once; what is kept and said.

use crate::support::{Db, connect, read, schema, table};
use convoy_schema::{apply, plan};

fn users(fields: &[&str], indexes: &[&str]) -> serde_json::Value {
    schema(vec![table("users", "document", fields, indexes)])
}

#[tokio::test]
async fn a_plan_is_done_once() {
    let mut db = Db::new("plan_once").await;
    for layout in ["document", "relational"] {
        let name = format!("t {layout}");
        let fields = ["s: string", "n: number?", "b: boolean|null", "j: json?|null"];
        let schema = schema(vec![table(&name, layout, &fields, &["by_all(s, n, b)", "by_j(j)"])]);
        let first = db.migrate(&schema).await;
        assert!(first.contains("create") && first.contains("by_all"), "{first}");
        let again = plan(&db.client, &read(&schema)).await.expect("a plan");
        assert!(again.is_empty() && again.warnings.is_empty(), "{}", again.render());
        db.run(&format!("drop table \"{name}\"")).await;
    }
}

#[tokio::test]
async fn a_table_of_ours_has_its_old_rows_in_the_log() {
    let mut db = Db::new("plan_identity").await;
    db.migrate(&users(&["name: string"], &[])).await;
    let identity = "select relreplident::text from pg_class where oid = 'users'::regclass";
    assert_eq!(db.text(identity).await, "f");
    let comment = "select obj_description('users'::regclass, 'pg_class')";
    assert_eq!(db.text(comment).await, "convoy: document table");
}

#[tokio::test]
async fn what_is_declared_no_longer_is_kept_and_said() {
    let mut db = Db::new("plan_drift").await;
    let both = schema(vec![
        table("users", "document", &["name: string"], &["by_name(name)"]),
        table("cols", "relational", &["a: string", "b: number?"], &[]),
    ]);
    db.migrate(&both).await;
    db.run("create index users_own on users ((doc->>'x')); create table theirs (a int)").await;
    let less = schema(vec![table("cols", "relational", &["a: string"], &[])]);
    let said = db.migrate(&less).await;
    assert!(said.contains("drop table \"users\";"), "{said}");
    assert!(said.contains("alter table \"cols\" drop column \"b\";"), "{said}");
    assert!(!said.contains("theirs") && said.contains("nothing to create"), "{said}");
    let said = db.migrate(&users(&["name: string"], &[])).await;
    assert!(said.contains("drop index \"users_by_name\";"), "{said}");
    assert!(!said.contains("users_own"), "{said}");
    assert_eq!(db.text("select count(*)::text from users").await, "0");
}

#[tokio::test]
async fn an_index_on_other_fields_is_said() {
    let mut db = Db::new("plan_index").await;
    db.migrate(&users(&["a: string", "b: number"], &["by(a)"])).await;
    let said = db.migrate(&users(&["a: string", "b: number"], &["by(b)"])).await;
    assert!(said.contains("differs") && said.contains("drop index \"users_by\";"), "{said}");
    db.run("drop index users_by").await;
    let said = db.migrate(&users(&["a: string", "b: number"], &["by(b)"])).await;
    assert!(said.contains("create  users_by"), "{said}");
}

#[tokio::test]
async fn documents_that_can_not_be_counted_in_time_are_said() {
    let mut db = Db::new("plan_uncounted").await;
    let declared = users(&["n: number"], &["by_n(n)"]);
    db.migrate(&declared).await;
    let mut other = connect(&db.url).await;
    let lock = other.transaction().await.expect("a transaction");
    lock.batch_execute("lock table users in access exclusive mode").await.expect("a lock");
    db.run("set statement_timeout = '500ms'").await;
    let said = plan(&db.client, &read(&declared)).await.expect("a plan").render();
    assert!(said.contains("users  its documents were not looked at"), "{said}");
    assert!(said.contains("statement_timeout"), "{said}");
}

#[tokio::test]
async fn documents_that_hold_something_else_are_counted() {
    let mut db = Db::new("plan_documents").await;
    db.migrate(&users(&["n: number"], &[])).await;
    db.run(
        "insert into users (doc) values ('{\"n\": 1}'), ('{\"n\": \"x\"}'), ('{\"n\": [1]}'), ('{}'), ('{\"n\": null}')",
    )
    .await;
    let said = db.migrate(&users(&["n: number", "it's: string?"], &["by_n(n)"])).await;
    assert!(said.contains("declared number, and 2 of 5 documents hold something else"), "{said}");
    assert!(said.contains("2 of 5 documents are without it"), "{said}");
    assert!(said.contains("users_by_n") && said.contains("not created while"), "{said}");
    db.run("delete from users where jsonb_typeof(doc->'n') <> 'number' or not doc ? 'n'").await;
    let said = db.migrate(&users(&["n: number"], &["by_n(n)"])).await;
    assert!(said.contains("create  users_by_n"), "{said}");
}

#[tokio::test]
async fn columns_are_added_as_they_can_be() {
    let mut db = Db::new("plan_columns").await;
    db.migrate(&schema(vec![table("t", "relational", &["a: string"], &[])])).await;
    db.run("insert into t (a) values ('x')").await;
    let more = schema(vec![table("t", "relational", &["a: string", "b: number"], &["by_b(b)"])]);
    let said = db.migrate(&more).await;
    assert!(said.contains("add      t.b"), "{said}");
    assert!(said.contains("alter column \"b\" set not null;"), "{said}");
    db.run("update t set b = 1; alter table t alter column b set not null").await;
    let again = plan(&db.client, &read(&more)).await.expect("a plan");
    assert!(again.is_empty() && again.warnings.is_empty(), "{}", again.render());
    let other = schema(vec![table("t", "relational", &["a: number?", "b: number?"], &[])]);
    let said = db.migrate(&other).await;
    assert!(said.contains("declared number, and the column is text"), "{said}");
    assert!(said.contains("alter column \"b\" drop not null;"), "{said}");
}

#[tokio::test]
async fn somebody_elses_table_is_left_alone() {
    let mut db = Db::new("plan_foreign").await;
    db.run("create table users (id int primary key, name text); create view v as select 1").await;
    let said = db.migrate(&users(&["name: string"], &["by_name(name)"])).await;
    assert!(
        said.contains("that Convoy did not make") && said.contains("nothing to create"),
        "{said}"
    );
    let said = db.migrate(&schema(vec![table("v", "document", &[], &[])])).await;
    assert!(said.contains("no table"), "{said}");
    let said = db.migrate(&schema(vec![table("gone", "unmanaged", &[], &[])])).await;
    assert!(said.contains("absent") && said.contains("nothing to create"), "{said}");
}

#[tokio::test]
async fn two_at_once_do_not_collide() {
    let mut db = Db::new("plan_race").await;
    let schema = read(&users(&["name: string"], &["by_name(name)"]));
    let mut other = connect(&db.url).await;
    let (a, b) = (plan(&db.client, &schema).await, plan(&other, &schema).await);
    let (a, b) = (a.expect("a plan"), b.expect("a plan"));
    assert_eq!(a, b);
    let (first, second) = tokio::join!(apply(&mut db.client, &a), apply(&mut other, &b));
    first.expect("one creates");
    second.expect("the other finds it created");
    assert!(plan(&db.client, &schema).await.expect("a plan").is_empty());
}

/// An index takes as long as its table is large, whatever a session allows its statements.
#[tokio::test]
async fn a_step_may_take_longer_than_a_statement() {
    let mut db = Db::new("plan_slow").await;
    let schema = read(&users(&["n: number"], &[]));
    let mut planned = plan(&db.client, &schema).await.expect("a plan");
    planned.steps[0].statements.push("select pg_sleep(0.4)".to_owned());
    db.run("set statement_timeout = '200ms'; set lock_timeout = '100ms'").await;
    apply(&mut db.client, &planned).await.expect("it is done");
    assert_eq!(db.text("select current_setting('statement_timeout')").await, "200ms");
}

#[tokio::test]
async fn a_step_that_fails_leaves_nothing() {
    let mut db = Db::new("plan_atomic").await;
    let schema = read(&users(&["n: number"], &["by_n(n)"]));
    let mut planned = plan(&db.client, &schema).await.expect("a plan");
    planned.steps[1].statements.push("select 1/0".to_owned());
    let error = apply(&mut db.client, &planned).await.expect_err("the step fails").to_string();
    assert!(error.contains("select 1/0") && error.contains("nothing was changed"), "{error}");
    assert_eq!(db.text("select to_regclass('users')::text").await, "null");
}

#[tokio::test]
async fn a_big_table_is_said_to_be_one() {
    let mut db = Db::new("plan_big").await;
    db.migrate(&users(&["n: number"], &[])).await;
    db.run("update pg_class set reltuples = 5000000 where relname = 'users'").await;
    let said = db.migrate(&users(&["n: number"], &["by_n(n)"])).await;
    assert!(
        said.contains("some 5000000 rows")
            && said.contains("create index concurrently if not exists \"users_by_n\""),
        "{said}"
    );
}

#[tokio::test]
async fn a_name_that_is_taken_is_left() {
    let mut db = Db::new("plan_taken").await;
    db.run("create table other (a int); create index users_by_name on other (a)").await;
    let said = db.migrate(&users(&["name: string"], &["by_name(name)"])).await;
    assert!(
        said.contains("users_by_name") && said.contains("something else is called so"),
        "{said}"
    );
    assert_eq!(db.text("select obj_description('users_by_name'::regclass)").await, "null");
    assert_eq!(db.text("select count(*)::text from users").await, "0");
}
