//! `convoy query` and `convoy explain` of a function, as processes: no server runs, and nothing is written.

use super::commands::{command, convoy, inventory};
use super::project::{Folder, NOTES, functions};
use crate::support::connect;
use convoy_postgres::testing;
use serde_json::{Value, json};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::timeout;

const FUNCTIONS: &str = "
export const inChannel = query({
  args: { channel: z.string() },
  handler: async (ctx, { channel }) =>
    (await ctx.db.query('messages').withIndex('by_channel', (q) => q.eq('channel', channel)).collect()).map((m) => m.text),
});
export const me = query((ctx) => ctx.auth);
export const fails = query(async (ctx) => {
  await ctx.db.query('channels').collect();
  throw convoyError('TEAPOT', 'no tea here');
});
export const send = mutation((ctx) => ctx.db.insert('channels', { name: 'x', topic: 'y' }));";

#[tokio::test(flavor = "multi_thread")]
async fn a_function_is_asked_and_explained_from_the_shell() {
    let folder = Folder::new(&[
        ("functions/t.ts", &functions(FUNCTIONS)),
        ("queries/notes.sql", "select id from notes order by id"),
    ]);
    let url = testing::shared().await.database("fn_shell").await;
    let client = connect(&url).await;
    client.batch_execute(NOTES).await.expect("a table");
    let done = convoy(&["migrate"], &folder, Some(&url)).await;
    assert_eq!(done.status, Some(0), "{}", done.said);
    let insert = "insert into messages (_id, _creation_time, doc) select 'messages:' || n, n, \
                  jsonb_build_object('channel', 'c' || n % 2, 'text', 't' || n, 'rank', n) from generate_series(1, 4) n";
    client.batch_execute(insert).await.expect("documents");
    let before = inventory(&client).await;
    let ask = async |arguments: &[&str]| convoy(arguments, &folder, Some(&url)).await;

    let answer = ask(&["query", "t.inChannel", r#"{"channel": "c1"}"#, "--json"]).await;
    assert_eq!((answer.status, answer.said.trim()), (Some(0), r#"["t1","t3"]"#));
    let answer = ask(&["query", "t.inChannel", r#"{"channel": 7}"#]).await;
    assert_eq!(answer.status, Some(1), "{}", answer.said);
    assert!(answer.said.contains("channel"), "{}", answer.said);
    let answer = ask(&["query", "t.me", "--claims", r#"{"sub": "ann"}"#, "--json"]).await;
    assert_eq!((answer.status, answer.said.trim()), (Some(0), r#"{"sub":"ann"}"#));
    let answer = ask(&["query", "t.me", "--json"]).await;
    assert_eq!((answer.status, answer.said.trim()), (Some(0), "{}"));
    let answer = ask(&["query", "t.fails"]).await;
    assert_eq!(answer.status, Some(1), "{}", answer.said);
    assert!(answer.said.contains("no tea here"), "{}", answer.said);
    // A file beside the functions is what it was, and a name that is neither is said.
    let answer = ask(&["query", "notes"]).await;
    assert_eq!(answer.status, Some(0), "{}", answer.said);
    let answer = ask(&["query", "t.inChanel"]).await;
    assert_eq!(answer.status, Some(2), "{}", answer.said);
    assert!(answer.said.contains("did you mean t.inChannel?"), "{}", answer.said);

    let answer = ask(&["explain", "t.inChannel", r#"{"channel": "c1"}"#]).await;
    assert_eq!(answer.status, Some(0), "{}", answer.said);
    for said in [
        "run again, as a function",
        "\"public\".\"messages\" where doc->>'channel' = $1",
        "; $1 = c1",
    ] {
        assert!(answer.said.contains(said), "{said:?}: {}", answer.said);
    }
    let answer = ask(&["explain", "t.fails", "--json"]).await;
    let said: Value = serde_json::from_str(&answer.printed).expect("JSON");
    assert_eq!((&said["plan"], &said["threw"]), (&json!("function"), &json!("no tea here")));
    assert_eq!(said["reads"][0]["predicates"][0]["table"], "\"public\".\"channels\"", "{said}");
    assert_eq!(inventory(&client).await, before, "nothing was written");

    // Live: what it gives, and again when that changes.
    let mut child = command(&["query", "t.inChannel", r#"{"channel": "c0"}"#, "--live"], &folder)
        .env("CONVOY_DATABASE_URL", &url)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("it runs");
    let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    let mut says = async |words: &str| {
        let found = async {
            while let Some(line) = lines.next_line().await.expect("text") {
                if line.contains(words) {
                    return;
                }
            }
            panic!("it ended before it said {words:?}");
        };
        timeout(Duration::from_secs(60), found).await.expect("it says so");
    };
    says("\"t4\"").await;
    client
        .batch_execute("delete from messages where doc ->> 'text' = 't4'")
        .await
        .expect("a write");
    says("[\"t2\"]").await;
    child.kill().await.expect("it ends");
}
