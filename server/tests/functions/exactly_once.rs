//! A mutation with an id is done once, however often it is asked for, and whatever happens on the way.

use super::project::{Folder, NOTES, Served, functions, mutate, uuid};
use crate::client::Answer;
use crate::support::{connect, until};
use convoy_postgres::launcher::{PrivatePostgres, Shutdown};
use convoy_postgres::testing;
use serde_json::json;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;

const FUNCTIONS: &str = "
export const send = mutation({
  args: { text: z.string(), more: z.any().optional() },
  handler: async (ctx, { text }) => {
    const id = await ctx.db.insert('messages', { channel: 'a', text, rank: 1 });
    const counter = await ctx.db.query('counters').withIndex('by_name', (q) => q.eq('name', text)).unique();
    await (counter ? ctx.db.patch(counter._id, { n: counter.n + 1 }) : ctx.db.insert('counters', { name: text, n: 1 }));
    return id;
  },
});
export const join = mutation({ args: { email: z.string() }, handler: (ctx, { email }) => ctx.db.insert('people', { email }) });
export const other = mutation({ args: { text: z.string() }, handler: () => null });
export const fails = mutation({
  args: {},
  handler: async (ctx) => {
    const note = await ctx.db.query('notes').first();
    if (note === null) throw convoyError('NOT_FOUND', 'no note');
    return note.body;
  },
});
export const pair = mutation({
  args: { text: z.string() },
  handler: async (ctx, { text }) => {
    await ctx.db.insert('messages', { channel: 'a', text, rank: 1 });
    await ctx.db.insert('channels', { name: text, topic: 't' });
  },
});
";

async fn many_at_once(
    address: SocketAddr,
    name: &'static str,
    args: serde_json::Value,
    id: String,
) -> Vec<Answer> {
    let mut asked = JoinSet::new();
    for _ in 0..20 {
        let (args, id) = (args.clone(), id.clone());
        asked.spawn(
            async move { mutate(address, name, &args, &[("x-convoy-mutation", &id)]).await },
        );
    }
    asked.join_all().await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_id_twenty_times_at_once_is_done_once() {
    let served = Served::start("fn_once", &[], FUNCTIONS).await;
    served.write("create unique index on people (email)").await;
    for n in 0..3 {
        let (text, id) = (n.to_string(), uuid(n));
        let answers = many_at_once(served.address, "t.send", json!({ "text": text }), id).await;
        // Each is told the same, to the last letter.
        let bodies: BTreeSet<&str> = answers.iter().map(|answer| &*answer.body).collect();
        assert_eq!(bodies.len(), 1, "{bodies:?}");
        assert!(answers.iter().all(|answer| answer.status == 200), "{bodies:?}");
        assert_eq!(
            served
                .count(&format!("select count(*) from messages where doc->>'text' = '{n}'"))
                .await,
            1
        );
        // What has to be unique is not said to be taken by the same mutation.
        let email = format!("{n}@x");
        let answers =
            many_at_once(served.address, "t.join", json!({ "email": email }), uuid(100 + n)).await;
        for answer in &answers {
            assert_eq!(answer.status, 200, "{}", answer.body);
            assert_eq!(answer.body, answers[0].body);
        }
    }
    assert_eq!(served.count("select count(*) from people").await, 3);
    assert_eq!(served.count("select count(*) from convoy.mutations").await, 6);
    // Upper case is the same id, also later.
    let id = uuid(0).to_uppercase();
    let again = served.ask("t.send", &json!({"text": "0"}), &[("x-convoy-mutation", &id)]).await;
    assert_eq!(again.status, 200, "{}", again.body);
    assert_eq!(served.count("select count(*) from messages").await, 3);
    // Another one is told that it is taken.
    let answer =
        served.ask("t.join", &json!({"email": "0@x"}), &[("x-convoy-mutation", &uuid(200))]).await;
    assert_eq!(answer.code(), "CONFLICT");
    served.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_of_another_mutation_is_refused() {
    let served = Served::start("fn_other", &[], FUNCTIONS).await;
    let headers = [("x-convoy-mutation", &*uuid(1))];
    let args = json!({"text": "x", "more": {"a": 1, "b": [2, 3]}});
    let first = served.ask("t.send", &args, &headers).await;
    assert_eq!(first.status, 200, "{}", first.body);
    for (name, args) in [
        ("t.other", args.clone()),
        ("t.other", json!({"text": "x"})),
        ("t.send", json!({"text": "y", "more": {"a": 1, "b": [2, 3]}})),
        ("t.send", json!({"text": "x"})),
    ] {
        let answer = served.ask(name, &args, &headers).await;
        assert_eq!(answer.code(), "CONFLICT", "{name} {args}: {}", answer.body);
        assert!(answer.body.contains("x-convoy-mutation"), "{}", answer.body);
    }
    // In another order they are the same.
    let text = "{\"more\": {\"b\": [2, 3], \"a\": 1}, \"text\": \"x\"}";
    let all = [("content-type", "application/json"), headers[0]];
    let again =
        crate::client::ask(served.address, "POST", "/api/mutation/t.send", &all, text).await;
    assert_eq!(again.status, 200, "{}", again.body);
    assert_eq!(again.body, first.body);
    assert_eq!(served.count("select count(*) from messages").await, 1);
    served.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_is_told_what_the_first_was_also_by_another_server() {
    let url = testing::shared().await.database("fn_repeat").await;
    connect(&url).await.batch_execute(NOTES).await.expect("a table");
    let served = Served::on(&url, &[], FUNCTIONS).await;
    // An older server's table knows no positions.
    served.write("alter table convoy.mutations drop column lsn").await;
    served.server.stop().await;
    let served = Served::on(&url, &[], FUNCTIONS).await;
    let (args, id) = (json!({"text": "x"}), uuid(1));
    let headers = [("x-convoy-mutation", &*id)];
    let first = served.ask("t.send", &args, &headers).await;
    assert_eq!(first.status, 200, "{}", first.body);
    for n in 0..3 {
        // Others go on meanwhile, and the log with them.
        served.message("b", &n.to_string(), 1).await;
        assert_eq!(served.ask("t.send", &args, &headers).await.body, first.body);
    }
    // Whoever stops writes down what it knows.
    served.server.stop().await;
    let served = Served::on(&url, &[], FUNCTIONS).await;
    served.message("b", "later", 1).await;
    assert_eq!(served.ask("t.send", &args, &headers).await.body, first.body);
    // One that died before it could: the first word after it counts.
    served.server.stop().await;
    served.writer.batch_execute("update convoy.mutations set lsn = null").await.expect("a write");
    let served = Served::on(&url, &[], FUNCTIONS).await;
    let again = served.ask("t.send", &args, &headers).await;
    assert_eq!(again.json()["value"], first.json()["value"]);
    served.message("b", "last", 1).await;
    assert_eq!(served.ask("t.send", &args, &headers).await.body, again.body);
    assert_eq!(served.count("select count(*) from messages where doc->>'channel' = 'a'").await, 1);
    served.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_failed_may_be_tried_again_under_its_id() {
    let served = Served::start("fn_again", &[], FUNCTIONS).await;
    let headers = [("x-convoy-mutation", &*uuid(1))];
    assert_eq!(served.ask("t.fails", &json!({}), &headers).await.code(), "NOT_FOUND");
    served.write("insert into notes values (1, 'now')").await;
    for _ in 0..2 {
        let answer = served.ask("t.fails", &json!({}), &headers).await;
        assert_eq!(answer.json()["value"], "now", "{}", answer.body);
        served.write("update notes set body = 'later'").await;
    }
    served.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_go_away_in_the_middle_leave_whole_mutations_or_none() {
    let served = Served::start("fn_gone", &[], FUNCTIONS).await;
    let address = served.address;
    let mut done = 0;
    for n in 0..60_u32 {
        let asked = async move {
            let args = json!({ "text": format!("t{n}") });
            mutate(address, "t.pair", &args, &[("x-convoy-mutation", &uuid(n))]).await
        };
        // Some are given up before they begin, some after they end.
        let limit = Duration::from_micros(u64::from(n) * 700);
        done += u32::from(tokio::time::timeout(limit, asked).await.is_ok());
    }
    assert!(done > 0, "all were given up");
    let halves = "select count(*) from (select doc->>'text' as t from messages) m \
                  full join (select doc->>'name' as t from channels) c using (t) where m.t is null or c.t is null";
    assert_eq!(served.count(halves).await, 0);
    // None is left open: what would wait for it does not.
    for n in 0..60_u32 {
        let args = json!({ "text": format!("t{n}") });
        let answer = mutate(address, "t.pair", &args, &[("x-convoy-mutation", &uuid(n))]).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
    assert_eq!(served.count(halves).await, 0);
    assert_eq!(served.count("select count(*) from messages").await, 60);
    let open = "select count(*) from pg_stat_activity where datname = current_database() and state like 'idle in transaction%'";
    until("no transaction is open", async || served.count(open).await == 0).await;
    served.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn restarts_of_postgres_halve_and_double_no_mutation() {
    let postgres = PrivatePostgres::start(testing::options()).await.expect("a server");
    postgres.create_database("app", Default::default()).await.expect("a database");
    let url = postgres.url("app");
    connect(&url).await.batch_execute(NOTES).await.expect("a table");
    let folder = Folder::new(&[("functions/t.ts", &functions(FUNCTIONS))]);
    let served = Served::of(&url, &[], folder).await;
    let (address, stop) = (served.address, Arc::new(AtomicBool::new(false)));
    let mut clients = JoinSet::new();
    for client in 0..4_u32 {
        let stop = stop.clone();
        clients.spawn(async move {
            let mut n = 0;
            while !stop.load(Ordering::Relaxed) {
                let id = uuid(client * 1_000_000 + n);
                let args = json!({ "text": format!("{client}.{n}") });
                // Until it is done, as a client that does not give up.
                loop {
                    let answer =
                        mutate(address, "t.pair", &args, &[("x-convoy-mutation", &id)]).await;
                    if answer.status == 200 {
                        break;
                    }
                    assert!(
                        ["UNAVAILABLE", "CONFLICT", "TIMEOUT"].contains(&&*answer.code()),
                        "{}",
                        answer.body
                    );
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                n += 1;
            }
            n
        });
    }
    for how in [Shutdown::Fast, Shutdown::Immediate] {
        tokio::time::sleep(Duration::from_millis(400)).await;
        postgres.down(how).await.expect("it is down");
        postgres.up().await.expect("it is up");
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let done: u32 = clients.join_all().await.into_iter().sum();
    assert!(done > 20, "{done}");
    let client = connect(&url).await;
    let count =
        async |sql: &str| client.query_one(sql, &[]).await.expect("a count").get::<_, i64>(0);
    assert_eq!(count("select count(*) from messages").await, i64::from(done));
    assert_eq!(count("select count(distinct doc->>'text') from messages").await, i64::from(done));
    assert_eq!(count("select count(distinct doc->>'name') from channels").await, i64::from(done));
    assert_eq!(count("select count(*) from channels").await, i64::from(done));
    served.server.stop().await;
    postgres.stop().await.expect("it is gone");
}
