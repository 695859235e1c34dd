//! A project's files that change while its subscriptions run.

use super::project::{SCHEMA, Served, functions};
use super::viewer::{Viewer, to};
use convoy_server::loading::ProjectLoader;
use convoy_server::reload::reload_on;
use convoy_server::shutdown;
use serde_json::json;
use std::process::Command;
use tokio::task::JoinHandle;

const FUNCTIONS: &str = "
export const list = query((ctx) => ctx.db.query('messages').collect());
export const count = query(async (ctx) => (await ctx.db.query('messages').collect()).length);
export const send = mutation({
  args: { text: z.string() },
  handler: (ctx, { text }) => ctx.db.insert('messages', { channel: 'a', text, rank: 1 }),
});
";

/// Reads the project again whenever it is asked to.
fn reloading(served: &mut Served) -> JoinHandle<()> {
    let hang_ups = shutdown::hang_ups().expect("signals");
    let loader: ProjectLoader = served.loader.take().expect("one that nobody has");
    tokio::spawn(reload_on(hang_ups, served.server.app().clone(), loader))
}

/// Has the server read its project again, as an operator would.
fn hang_up() {
    let pid = std::process::id().to_string();
    let sent = Command::new("kill").args(["-HUP", &pid]).status();
    assert!(sent.expect("kill runs").success());
}

#[tokio::test(flavor = "multi_thread")]
async fn subscribers_go_over_to_what_their_function_became() {
    let mut served = Served::start("fn_reload", &[], FUNCTIONS).await;
    let reload = reloading(&mut served);
    served.message("a", "x", 1).await;
    let subscribe = json!([to("l", "t.list", json!({})), to("c", "t.count", json!({}))]);
    let mut viewer = Viewer::open(served.address, subscribe).await;
    viewer.has("l", "text", json!(["x"])).await;
    viewer.shows("c", json!(1)).await;

    // Another result; mutations change with it.
    let changed = FUNCTIONS
        .replace("collect()).length", "collect()).length * 10")
        .replace("{ channel: 'a', text, rank: 1 }", "{ channel: 'a', text: text + '!', rank: 1 }");
    served.folder.write("functions/t.ts", &functions(&changed));
    hang_up();
    viewer.shows("c", json!(10)).await;
    served.mutate("t.send", json!({"text": "y"})).await;
    viewer.has("l", "text", json!(["x", "y!"])).await;
    viewer.shows("c", json!(20)).await;

    // One that can't be read: said, with its place, and the version before serves.
    served.folder.write(
        "functions/t.ts",
        &functions("\nexport const list = query((ctx) => {\n  return ((;\n});"),
    );
    hang_up();
    for sub in ["l", "c"] {
        let seen = viewer.until("an error", |view| view.of(sub).error.is_some()).await.of(sub);
        assert!(!seen.is_final);
        let error = seen.error.expect("an error").to_string();
        assert!(
            error.contains("functions/t.ts")
                && error.contains("the version before is still served"),
            "{error}"
        );
        assert!(!error.contains(served.folder.path().to_str().expect("UTF-8")), "{error}");
    }
    assert_eq!(served.query("t.count", json!({})).await.json()["value"], 20);
    served.mutate("t.send", json!({"text": "z"})).await;
    viewer.has("l", "text", json!(["x", "y!", "z!"])).await;
    let seen = viewer.shows("c", json!(30)).await;
    assert_eq!(seen.kinds.last().map(String::as_str), Some("snapshot"));

    // Mended: also where it is what it was.
    served.folder.write("functions/t.ts", &functions("export const"));
    hang_up();
    viewer.until("an error", |view| view.of("c").error.is_some()).await;
    served.folder.write("functions/t.ts", &functions(&changed));
    hang_up();
    let seen = viewer.shows("c", json!(30)).await;
    assert_eq!(seen.kinds.last().map(String::as_str), Some("snapshot"));
    viewer.has("l", "text", json!(["x", "y!", "z!"])).await;

    // One is gone, and comes back.
    let without = changed.replace("export const count", "const count");
    served.folder.write("functions/t.ts", &functions(&without));
    hang_up();
    viewer.fails("c", "NOT_FOUND").await;
    assert_eq!(served.query("t.count", json!({})).await.code(), "NOT_FOUND");
    served.mutate("t.send", json!({"text": "0"})).await;
    viewer.has("l", "text", json!(["x", "y!", "z!", "0!"])).await;
    served.folder.write("functions/t.ts", &functions(&changed));
    hang_up();
    viewer.shows("c", json!(40)).await;
    reload.abort();
    viewer.close().await;
    served.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_goes_from_a_file_to_a_function_and_back() {
    const FILE: &str =
        "-- @param least int4\nselect id, body from notes where id >= $1 order by id";
    const BEFORE: &str = "export const one = query(() => 1);";
    let file = "queries/t/notes.sql";
    let as_function = format!(
        "{BEFORE}
export const notes = query({{
  args: {{ least: z.number() }},
  handler: async (ctx, {{ least }}) =>
    (await ctx.db.raw(sql`select body from notes where id >= ${{least}} order by id`)).map((note) => note.body),
}});"
    );
    let mut served = Served::start("fn_or_file", &[], BEFORE).await;
    served.folder.write(file, FILE);
    let reload = reloading(&mut served);
    hang_up();
    crate::support::until("the file is served", async || {
        served.query("t.notes", json!({"least": 2})).await.status == 200
    })
    .await;
    served.write("insert into notes values (1, 'a'), (2, 'b')").await;
    let subscribe = json!([
        to("n", "t.notes", json!({"least": 2})),
        to("wrong", "t.notes", json!({"least": "2"})),
    ]);
    let mut viewer = Viewer::open(served.address, subscribe).await;
    viewer.shows("n", json!([{"id": 2, "body": "b"}])).await;
    viewer.shows("wrong", json!([{"id": 2, "body": "b"}])).await;

    for round in 0..2 {
        // Both at a time is nobody's: what served goes on.
        served.folder.write("functions/t.ts", &functions(&as_function));
        hang_up();
        let seen = viewer.until("an error", |view| view.of("n").error.is_some()).await.of("n");
        assert!(!seen.is_final, "{seen:?}");
        let error = seen.error.expect("an error").to_string();
        let said = "functions/t.ts: queries/t/notes.sql defines the query t.notes too";
        assert!(error.contains(said), "{error}");

        std::fs::remove_file(served.folder.path().join("convoy").join(file)).expect("it is there");
        hang_up();
        let bodies = if round == 0 { json!(["b"]) } else { json!(["b", "c0", "d0"]) };
        viewer.shows("n", bodies).await;
        // SQL takes a text for a number; the function says that it does not.
        let seen = viewer.fails("wrong", "INVALID_ARGS").await;
        assert!(!seen.is_final, "{seen:?}");
        served.write(&format!("insert into notes values ({}, 'c{round}')", 3 + 2 * round)).await;
        viewer
            .until("it is live", |view| {
                view.of("n").value().to_string().contains(&format!("c{round}"))
            })
            .await;

        served.folder.write("functions/t.ts", &functions(BEFORE));
        served.folder.write(file, FILE);
        hang_up();
        served.write(&format!("insert into notes values ({}, 'd{round}')", 4 + 2 * round)).await;
        let ids: Vec<i32> = (2..5 + 2 * round).collect();
        viewer.has("n", "id", json!(ids)).await;
        viewer.has("wrong", "id", json!(ids)).await;
    }
    reload.abort();
    viewer.close().await;
    served.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_the_schema_gets_is_created() {
    let mut served = Served::start("fn_schema", &[], FUNCTIONS).await;
    let reload = reloading(&mut served);
    let mut viewer = Viewer::open(served.address, json!([to("c", "t.count", json!({}))])).await;
    viewer.shows("c", json!(0)).await;
    let schema = SCHEMA.replace(
        "notes:",
        "tasks: defineTable({ what: z.string() }).index('by_what', ['what']),\n  notes:",
    );
    served.folder.write("schema.ts", &schema);
    let more = "
export const tasks = query((ctx) => ctx.db.query('tasks').collect());
export const add = mutation({ args: { what: z.string() }, handler: (ctx, { what }) => ctx.db.insert('tasks', { what }) });
";
    served.folder.write("functions/tasks.ts", &functions(more));
    hang_up();
    crate::support::until("the new query is there", async || {
        served.query("tasks.tasks", json!({})).await.status == 200
    })
    .await;
    viewer.say(&json!({"subscribe": [to("t", "tasks.tasks", json!({}))]})).await;
    viewer.shows("t", json!([])).await;
    served.mutate("tasks.add", json!({"what": "this"})).await;
    viewer.has("t", "what", json!(["this"])).await;
    assert_eq!(served.count("select count(*) from pg_indexes where tablename = 'tasks'").await, 3);
    // A schema that is wrong stops nothing.
    served.folder.write("schema.ts", &schema.replace("['what']", "['whta']"));
    hang_up();
    let seen = viewer.until("an error", |view| view.of("t").error.is_some()).await.of("t");
    assert!(!seen.is_final);
    assert!(seen.error.expect("an error").to_string().contains("whta"));
    served.mutate("tasks.add", json!({"what": "that"})).await;
    viewer.has("t", "what", json!(["this", "that"])).await;
    served.folder.write("schema.ts", &schema);
    hang_up();
    served.message("a", "x", 1).await;
    viewer.shows("c", json!(1)).await;
    reload.abort();
    viewer.close().await;
    served.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whose_file_did_not_change_notices_nothing() {
    let mut served = Served::start("fn_untouched", &[], FUNCTIONS).await;
    let reload = reloading(&mut served);
    let mut viewer = Viewer::open(served.address, json!([to("c", "t.count", json!({}))])).await;
    viewer.shows("c", json!(0)).await;
    // Nor are a table's documents looked at while the schema stays as it is.
    served.write("begin; lock table channels in access exclusive mode").await;
    for n in 1..4 {
        served.folder.write(
            "functions/other.ts",
            &functions(&format!("export const n = query(() => {n});")),
        );
        hang_up();
        crate::support::until("the other one is there", async || {
            let answer = served.query("other.n", json!({})).await;
            answer.status == 200 && answer.json()["value"] == n
        })
        .await;
    }
    served.write("commit").await;
    let lsn = served.write("insert into notes values (1, 'x')").await;
    let view = viewer.passes(&lsn).await;
    assert_eq!(view.of("c").kinds, ["snapshot"], "nothing was said of it again");
    reload.abort();
    viewer.close().await;
    served.server.stop().await;
}
