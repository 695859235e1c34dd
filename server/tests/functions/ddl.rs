//! Tables that change under functions: they go on, or say what is wrong until it is mended.

use super::project::{NOTES, Served};
use super::viewer::{Viewer, to};
use serde_json::{Value, json};

const FUNCTIONS: &str = "
export const people = query((ctx) => ctx.db.query('people').withIndex('by_email', (q) => q.gt('email', '')).collect());
export const notes = query((ctx) => ctx.db.query('notes').collect());
export const note = query({ args: { id: z.string() }, handler: (ctx, { id }) => ctx.db.get('notes', id) });
export const list = query((ctx) => ctx.db.query('messages').collect());
export const raw = query((ctx) => ctx.db.raw(sql`select * from people order by email`));
export const later = query((ctx) => ctx.db.raw(sql`select n from later order by n`));
export const join = mutation({ args: { email: z.string() }, handler: (ctx, { email }) => ctx.db.insert('people', { email }) });
export const write = mutation({ args: { body: z.string() }, handler: (ctx, { body }) => ctx.db.raw(sql`insert into notes select coalesce(max(id), 0) + 1, ${body} from notes`) });
";

#[tokio::test(flavor = "multi_thread")]
async fn columns_and_indexes_that_come_disturb_nobody() {
    let served = Served::start("fn_columns", &[], FUNCTIONS).await;
    let subscribe = json!([
        to("people", "t.people", json!({})),
        to("raw", "t.raw", json!({})),
        to("list", "t.list", json!({})),
    ]);
    let mut viewer = Viewer::open(served.address, subscribe).await;
    viewer.shows("people", json!([])).await;
    viewer.shows("raw", json!([])).await;
    served.mutate("t.join", json!({"email": "a@x"})).await;
    viewer.has("people", "email", json!(["a@x"])).await;
    served
        .write(
            "alter table people add column nick text default 'none'; create index on people (nick)",
        )
        .await;
    viewer.has("raw", "nick", json!(["none"])).await;
    served.mutate("t.join", json!({"email": "b@x"})).await;
    viewer.has("people", "email", json!(["a@x", "b@x"])).await;
    viewer.has("raw", "nick", json!(["none", "none"])).await;
    served.write("update people set nick = 'bee' where email = 'b@x'").await;
    viewer.has("raw", "nick", json!(["none", "bee"])).await;
    served
        .write("alter table people drop column nick; alter table messages add column more int4")
        .await;
    viewer
        .until("no nick", |view| {
            view.of("raw").is_in_cut() && view.of("raw").field("nick") == [Value::Null, Value::Null]
        })
        .await;
    served.message("a", "x", 1).await;
    viewer.has("list", "text", json!(["x"])).await;
    served.mutate("t.join", json!({"email": "c@x"})).await;
    viewer.has("people", "email", json!(["a@x", "b@x", "c@x"])).await;
    viewer.has("raw", "email", json!(["a@x", "b@x", "c@x"])).await;
    // Rewritten as a whole.
    served.write("alter table people alter column email type varchar").await;
    served.write("vacuum full people").await;
    served.mutate("t.join", json!({"email": "d@x"})).await;
    viewer.has("people", "email", json!(["a@x", "b@x", "c@x", "d@x"])).await;
    viewer.close().await;
    served.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_dropped_and_made_again_is_heard_again() {
    let served = Served::start("fn_dropped", &[], FUNCTIONS).await;
    served.write("insert into notes values (1, 'one')").await;
    let subscribe = json!([
        to("notes", "t.notes", json!({})),
        to("note", "t.note", json!({"id": "1"})),
        to("list", "t.list", json!({})),
    ]);
    let mut viewer = Viewer::open(served.address, subscribe).await;
    viewer.has("notes", "body", json!(["one"])).await;
    served.write("drop table notes").await;
    let seen = viewer.until("an error", |view| view.of("notes").error.is_some()).await.of("notes");
    assert!(!seen.is_final);
    let error = seen.error.expect("an error").to_string();
    assert!(error.contains("notes"), "{error}");
    assert_ne!(served.ask("t.write", &json!({"body": "x"}), &[]).await.status, 200);
    // Who does not read it notices nothing.
    served.message("a", "x", 1).await;
    viewer.has("list", "text", json!(["x"])).await;
    served.write(&format!("{NOTES}; insert into notes values (1, 'new')")).await;
    viewer.has("notes", "body", json!(["new"])).await;
    viewer.until("it by its id", |view| view.of("note").value()["body"] == "new").await;
    served.mutate("t.write", json!({"body": "two"})).await;
    viewer.has("notes", "body", json!(["new", "two"])).await;
    // In one transaction, with another type of key.
    served
        .write("begin; drop table notes; create table notes (id text primary key, body text not null); insert into notes values ('x', 'text'); commit")
        .await;
    viewer.has("notes", "body", json!(["text"])).await;
    served.write("insert into notes values ('y', 'more')").await;
    viewer.has("notes", "body", json!(["text", "more"])).await;
    viewer.close().await;
    served.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_somebody_elses_that_comes_after_the_server_is_found() {
    let url = convoy_postgres::testing::shared().await.database("fn_late").await;
    let served = Served::on(&url, &[], FUNCTIONS).await;
    let mut viewer = Viewer::open(served.address, json!([to("notes", "t.notes", json!({}))])).await;
    let seen = viewer.until("an error", |view| view.of("notes").error.is_some()).await.of("notes");
    let error = seen.error.expect("an error").to_string();
    assert!(!seen.is_final && error.contains("notes"), "{error}");
    served.write(NOTES).await;
    served.mutate("t.write", json!({"body": "x"})).await;
    viewer.has("notes", "body", json!(["x"])).await;
    served.mutate("t.write", json!({"body": "y"})).await;
    viewer.has("notes", "body", json!(["x", "y"])).await;
    viewer.close().await;
    served.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publication_that_is_dropped_loses_no_write() {
    let served = Served::start("fn_publication", &[], FUNCTIONS).await;
    let mut viewer = Viewer::open(served.address, json!([to("list", "t.list", json!({}))])).await;
    viewer.shows("list", json!([])).await;
    served.message("a", "1", 1).await;
    viewer.has("list", "text", json!(["1"])).await;
    let drop = "do $$ declare p text; begin for p in select pubname from pg_publication loop execute format('drop publication %I', p); end loop; end $$";
    served.write(drop).await;
    served.message("a", "2", 1).await;
    viewer.has("list", "text", json!(["1", "2"])).await;
    served.message("a", "3", 1).await;
    viewer.has("list", "text", json!(["1", "2", "3"])).await;
    viewer.close().await;
    served.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_raw_sql_names_is_heard_of_when_it_comes() {
    let served = Served::start("fn_raw_later", &[], FUNCTIONS).await;
    let mut viewer = Viewer::open(served.address, json!([to("later", "t.later", json!({}))])).await;
    let seen = viewer.fails("later", "INVALID_ARGS").await;
    assert!(seen.error.expect("an error").to_string().contains("later"));
    served.write("create table later (n int4 primary key); insert into later values (1)").await;
    viewer.shows("later", json!([{ "n": 1 }])).await;
    served.write("insert into later values (2)").await;
    viewer.shows("later", json!([{ "n": 1 }, { "n": 2 }])).await;
    viewer.close().await;
    served.server.stop().await;
}
