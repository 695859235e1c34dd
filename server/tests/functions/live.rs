//! Who wrote does not matter, and only the calls that read what was written run again.

use super::project::Served;
use super::viewer::{View, Viewer, to};
use crate::client::{EventStream, get};
use serde_json::{Value, json};

const FUNCTIONS: &str = "
export const list = query({
  args: { channel: z.string() },
  handler: (ctx, { channel }) => ctx.db.query('messages').withIndex('by_channel', (q) => q.eq('channel', channel)).collect(),
});
export const best = query({
  args: { channel: z.string(), least: z.number() },
  handler: (ctx, { channel, least }) => ctx.db.query('messages')
    .withIndex('by_channel_rank', (q) => q.eq('channel', channel).gte('rank', least)).collect(),
});
export const all = query((ctx) => ctx.db.query('messages').collect());
export const take = query({
  args: { channel: z.string(), n: z.number() },
  handler: (ctx, { channel, n }) => ctx.db.query('messages')
    .withIndex('by_channel_rank', (q) => q.eq('channel', channel)).take(n),
});
export const first = query({
  args: { channel: z.string() },
  handler: (ctx, { channel }) => ctx.db.query('messages').withIndex('by_channel', (q) => q.eq('channel', channel)).first(),
});
export const unique = query({
  args: { name: z.string() },
  handler: (ctx, { name }) => ctx.db.query('channels').withIndex('by_name', (q) => q.eq('name', name)).unique(),
});
export const get = query({ args: { id: z.string() }, handler: (ctx, { id }) => ctx.db.get(id) });
export const joined = query({
  args: { channel: z.string() },
  handler: async (ctx, { channel }) => {
    const messages = await ctx.db.query('messages').withIndex('by_channel', (q) => q.eq('channel', channel)).collect();
    return Promise.all(messages.map(async ({ _id, text, channelId }) => {
      const of = channelId === undefined ? null : await ctx.db.get(channelId);
      return { _id, text, topic: of?.topic ?? null };
    }));
  },
});
export const raw = query({
  args: { channel: z.string() },
  handler: (ctx, { channel }) => ctx.db.raw(sql`select count(*) as n from messages where doc->>'channel' = ${channel}`),
});
export const found = query({
  args: { body: z.string() },
  handler: async (ctx, { body }) => (await ctx.db.query('notes').collect()).filter((note) => note.body === body).length,
});
export const adult = query({
  args: { age: z.number() },
  handler: (ctx, { age }) => ctx.db.query('people').filter((q) => q.gte(q.field('age'), age)).collect(),
});
export const send = mutation({
  args: { channel: z.string(), text: z.string(), rank: z.number() },
  handler: (ctx, message) => ctx.db.insert('messages', message),
});
export const page = query({
  args: { cursor: z.string().nullable(), endCursor: z.string().nullable() },
  handler: (ctx, options) => ctx.db.query('messages').withIndex('by_channel_rank', (q) => q.eq('channel', 'a')).paginate({ numItems: 5, ...options }),
});
export const walk = query({
  args: { until: z.number() },
  handler: async (ctx, { until }) => {
    let sum = 0;
    for await (const message of ctx.db.query('messages').withIndex('by_channel_rank', (q) => q.eq('channel', 'a'))) {
      if (message.rank > until) break;
      sum += message.rank;
    }
    return sum;
  },
});
export const remove = mutation({ args: { id: z.string() }, handler: (ctx, { id }) => ctx.db.delete(id) });
";

#[tokio::test(flavor = "multi_thread")]
async fn a_query_hears_every_kind_of_write() {
    let served = Served::start("fn_writes", &[], FUNCTIONS).await;
    served.message("a", "one", 1).await;
    let mut viewer =
        Viewer::open(served.address, json!([to("l", "t.list", json!({"channel": "a"}))])).await;
    viewer.has("l", "text", json!(["one"])).await;
    let id = served.message("a", "psql", 2).await;
    viewer.has("l", "text", json!(["one", "psql"])).await;
    let sent = json!({"channel": "a", "text": "sent", "rank": 3});
    served.mutate("t.send", sent).await;
    viewer.has("l", "text", json!(["one", "psql", "sent"])).await;
    let edit =
        format!("update messages set doc = doc || '{{\"text\":\"edited\"}}' where _id = '{id}'");
    served.write(&edit).await;
    viewer.has("l", "text", json!(["one", "edited", "sent"])).await;
    // Out of its range, and into it.
    let away =
        format!("update messages set doc = doc || '{{\"channel\":\"b\"}}' where _id = '{id}'");
    served.write(&away).await;
    viewer.has("l", "text", json!(["one", "sent"])).await;
    served.write(&away.replace("\"b\"", "\"a\"")).await;
    viewer.has("l", "text", json!(["one", "edited", "sent"])).await;
    // Another id for the same document.
    served.write(&format!("update messages set _id = 'messages:x' where _id = '{id}'")).await;
    let seen =
        viewer.until("another id", |view| view.of("l").keys().contains(&"messages:x".to_owned()));
    assert_eq!(seen.await.of("l").keys().len(), 3);
    served.mutate("t.remove", json!({"id": "messages:x"})).await;
    viewer.has("l", "text", json!(["one", "sent"])).await;
    served.write("delete from messages where doc->>'text' = 'one'").await;
    viewer.has("l", "text", json!(["sent"])).await;
    served.write("begin; truncate messages; insert into messages (doc) values ('{\"channel\":\"a\",\"text\":\"new\",\"rank\":1}'); commit").await;
    viewer.has("l", "text", json!(["new"])).await;
    served.write("truncate messages").await;
    viewer.shows("l", json!([])).await;
    viewer.close().await;
    served.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_thousand_live_queries_one_write_runs_one() {
    let served = Served::start("fn_thousand", &[], FUNCTIONS).await;
    let subscribe: Vec<Value> = (0..1000)
        .map(|n| match n % 4 {
            0 => to(&n.to_string(), "t.list", json!({"channel": n.to_string()})),
            1 => to(&n.to_string(), "t.best", json!({"channel": n.to_string(), "least": n})),
            2 => to(&n.to_string(), "t.take", json!({"channel": n.to_string(), "n": 2})),
            _ => to(&n.to_string(), "t.first", json!({"channel": n.to_string()})),
        })
        .collect();
    // One of each first: what it reads by is known for all that follow, also where it stops at the last row.
    served.message("2", "x", 1).await;
    served.message("2", "y", 2).await;
    served.message("3", "x", 1).await;
    let mut viewer = Viewer::open(served.address, json!(&subscribe[..4])).await;
    viewer.until("four answers", |view| (0..4).all(|n| view.of(&n.to_string()).is_in_cut())).await;
    let before = served.reads().await;
    viewer.say(&json!({ "subscribe": &subscribe[4..] })).await;
    viewer
        .until("a thousand answers", |view| (0..1000).all(|n| view.of(&n.to_string()).is_in_cut()))
        .await;
    assert_eq!(served.live_queries().await, 1000);
    assert_eq!(served.reads().await - before, 996, "each was run once");
    for (channel, sub) in [("500", "500"), ("501", "501"), ("502", "502"), ("503", "503")] {
        let before = served.reads().await;
        served.message(channel, "hello", 600).await;
        let is_shown = |view: &View| view.of(sub).value().to_string().contains("hello");
        viewer.until("it shows it", is_shown).await;
        let lsn = served.write("insert into people (email) values ('nobody')").await;
        viewer.passes(&lsn).await;
        assert_eq!(served.reads().await - before, 1, "channel {channel}");
    }
    // Nobody's channel, a rank below the range, and what a page that is full can't show.
    let before = served.reads().await;
    served.message("nobody", "hello", 1).await;
    served.message("501", "low", 500).await;
    let lsn = served.message("502", "second", 601).await;
    viewer.has("502", "text", json!(["hello", "second"])).await;
    assert_eq!(served.reads().await - before, 1, "{lsn}");
    let before = served.reads().await;
    served.message("502", "third", 602).await;
    served.message("503", "later", 1).await;
    let lsn = served.write("insert into notes values (1, 'nothing')").await;
    viewer.passes(&lsn).await;
    assert_eq!(served.reads().await - before, 0);
    // Before the last row that was read.
    served.message("502", "zeroth", 1).await;
    viewer.has("502", "text", json!(["zeroth", "hello"])).await;
    assert_eq!(served.reads().await - before, 1);
    viewer.close().await;
    served.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_reads_and_why_it_ran_can_be_seen() {
    let served = Served::start("fn_why", &[], FUNCTIONS).await;
    let subscribe = json!([to("raw", "t.raw", json!({"channel": "a"}))]);
    let mut viewer = Viewer::open(served.address, subscribe).await;
    viewer.shows("raw", json!([{"n": 0}])).await;
    let id = served.message("a", "x", 1).await;
    viewer.shows("raw", json!([{"n": 1}])).await;
    served.write("truncate messages").await;
    viewer.shows("raw", json!([{"n": 0}])).await;
    let queries = get(served.address, "/api/queries").await.json()["queries"].clone();
    let [query] = &queries.as_array().expect("queries")[..] else { panic!("{queries}") };
    assert_eq!((&query["name"], &query["plan"]), (&json!("t.raw"), &json!("refresh")), "{query}");
    let sql = "select count(*) as n from messages where doc->>'channel' = $1";
    assert!(query["sql"].as_str().is_some_and(|text| text.contains(sql)), "{query}");
    assert!(query["found_by"][0].as_str().is_some_and(|by| by.contains("channel")), "{query}");
    let path = format!("/api/queries/{}/why", query["id"].as_str().expect("an id"));
    let changes = get(served.address, &path).await.json()["changes"].clone();
    let [inserted, truncated] = &changes.as_array().expect("changes")[..] else {
        panic!("{changes}")
    };
    for change in [inserted, truncated] {
        assert_eq!(change["table"], "\"public\".\"messages\"", "{change}");
        assert_eq!(change["action"], "refresh", "{change}");
    }
    assert_eq!((&inserted["key"], &truncated["key"]), (&json!(id), &Value::Null));
    assert_eq!(inserted["predicate"], "doc->>'channel' = $1");
    assert_ne!(inserted["reason"], truncated["reason"]);
    viewer.close().await;
    served.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_absent_is_heard_when_it_comes() {
    let served = Served::start("fn_absent", &[], FUNCTIONS).await;
    let subscribe = json!([
        to("take", "t.take", json!({"channel": "a", "n": 2})),
        to("first", "t.first", json!({"channel": "a"})),
        to("unique", "t.unique", json!({"name": "a"})),
        to("get", "t.get", json!({"id": "messages:later"})),
        to("raw", "t.raw", json!({"channel": "a"})),
        to("note", "t.found", json!({"body": "x"})),
        to("adult", "t.adult", json!({"age": 18})),
    ]);
    let mut viewer = Viewer::open(served.address, subscribe).await;
    for sub in ["first", "unique", "get"] {
        viewer.shows(sub, Value::Null).await;
    }
    viewer.shows("take", json!([])).await;
    viewer.shows("raw", json!([{"n": 0}])).await;
    viewer.shows("note", json!(0)).await;
    viewer.shows("adult", json!([])).await;
    served
        .write(
            "insert into messages (_id, doc) values ('messages:later', '{\"channel\":\"a\",\"text\":\"x\",\"rank\":5}');
             insert into channels (doc) values ('{\"name\":\"a\",\"topic\":\"t\"}');
             insert into notes values (1, 'x')",
        )
        .await;
    viewer.has("take", "text", json!(["x"])).await;
    let is_x = |value: &Value| value["text"] == "x";
    viewer
        .until("the first, and by its id", |view| {
            is_x(&view.of("first").value()) && is_x(&view.of("get").value())
        })
        .await;
    viewer.until("the channel", |view| view.of("unique").value()["topic"] == "t").await;
    viewer.shows("raw", json!([{"n": 1}])).await;
    viewer.shows("note", json!(1)).await;
    served.write("insert into people (email, age) values ('old@x', 40), ('young@x', 4)").await;
    viewer.has("adult", "email", json!(["old@x"])).await;
    served.write("update people set age = 20 where email = 'young@x'; update people set age = null where email = 'old@x'").await;
    viewer.has("adult", "email", json!(["young@x"])).await;
    // Two where one is to be: an error, which mends itself.
    served.write("insert into channels (doc) values ('{\"name\":\"a\",\"topic\":\"u\"}')").await;
    let seen = viewer.fails("unique", "CONFLICT").await;
    assert!(
        !seen.error.expect("an error").to_string().contains("(channels:"),
        "it names no document"
    );
    served.write("delete from channels where doc->>'topic' = 't'").await;
    viewer.until("the other", |view| view.of("unique").value()["topic"] == "u").await;
    served.write("delete from messages").await;
    viewer.shows("first", Value::Null).await;
    viewer.shows("get", Value::Null).await;
    viewer.shows("take", json!([])).await;
    viewer.close().await;
    served.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_because_of_what_was_read_is_heard_too() {
    let served = Served::start("fn_joined", &[], FUNCTIONS).await;
    let mut viewer =
        Viewer::open(served.address, json!([to("j", "t.joined", json!({"channel": "a"}))])).await;
    viewer.shows("j", json!([])).await;
    served
        .write(
            "insert into channels (_id, doc) values ('channels:1', '{\"name\":\"a\",\"topic\":\"t\"}');
             insert into messages (doc) values ('{\"channel\":\"a\",\"text\":\"x\",\"rank\":1,\"channelId\":\"channels:1\"}');
             insert into messages (doc) values ('{\"channel\":\"a\",\"text\":\"y\",\"rank\":1,\"channelId\":\"channels:2\"}')",
        )
        .await;
    viewer.has("j", "topic", json!(["t", null])).await;
    served.write("insert into channels (_id, doc) values ('channels:2', '{\"name\":\"b\",\"topic\":\"late\"}')").await;
    viewer.has("j", "topic", json!(["t", "late"])).await;
    served
        .write("update channels set doc = doc || '{\"topic\":\"u\"}' where _id = 'channels:1'")
        .await;
    viewer.has("j", "topic", json!(["u", "late"])).await;
    // What is no longer read is no longer heard.
    served.write("delete from messages where doc->>'text' = 'x'").await;
    viewer.has("j", "topic", json!(["late"])).await;
    let before = served.reads().await;
    let lsn = served
        .write("update channels set doc = doc || '{\"topic\":\"v\"}' where _id = 'channels:1'")
        .await;
    viewer.passes(&lsn).await;
    assert_eq!(served.reads().await, before);
    served.write("delete from channels").await;
    viewer.has("j", "topic", json!([null])).await;
    viewer.close().await;
    served.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_stay_without_gaps_while_rows_come_and_go() {
    let served = Served::start("fn_pages", &[], FUNCTIONS).await;
    let fill = "insert into messages (doc) select jsonb_build_object('channel', 'a', 'text', n::text, 'rank', n * 10) \
                from generate_series(1, 12) n";
    served.write(fill).await;
    let first = json!({"cursor": null, "endCursor": null});
    let mut viewer = Viewer::open(served.address, json!([to("first", "t.page", first)])).await;
    let view = viewer.until("a page", |view| view.of("first").is_in_cut()).await;
    let border = view.of("first").value()["continueCursor"].clone();
    // As a client that wants more goes on: the first page has an end from now on.
    viewer
        .say(&json!({"subscribe": [
            to("one", "t.page", json!({"cursor": null, "endCursor": border})),
            to("two", "t.page", json!({"cursor": border, "endCursor": null})),
        ]}))
        .await;
    let ranks = |view: &View, sub: &str| -> Vec<i64> {
        let page = view.of(sub).value()["page"].clone();
        page.as_array().into_iter().flatten().filter_map(|row| row["rank"].as_i64()).collect()
    };
    let both = move |view: &View| [ranks(view, "one"), ranks(view, "two")];
    viewer
        .until("both", |view| both(view) == [vec![10, 20, 30, 40, 50], vec![60, 70, 80, 90, 100]])
        .await;
    // Within the first, at its border, and behind it; the last of the first goes.
    for (text, rank) in [("x", 25), ("y", 51), ("z", 49)] {
        served.message("a", text, rank).await;
    }
    served.write("delete from messages where (doc->>'rank')::int4 in (10, 50)").await;
    viewer
        .until("what came", |view| {
            both(view) == [vec![20, 25, 30, 40, 49], vec![51, 60, 70, 80, 90]]
        })
        .await;
    served.write("delete from messages where (doc->>'rank')::int4 < 50").await;
    viewer.until("an empty one", |view| both(view) == [vec![], vec![51, 60, 70, 80, 90]]).await;
    viewer.close().await;
    served.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_walk_is_heard_as_far_as_it_went() {
    let served = Served::start("fn_walk", &[], FUNCTIONS).await;
    let fill = "insert into messages (doc) select jsonb_build_object('channel', 'a', 'text', n::text, 'rank', n) \
                from generate_series(1, 350) n";
    served.write(fill).await;
    let mut viewer =
        Viewer::open(served.address, json!([to("w", "t.walk", json!({"until": 150}))])).await;
    let sum: i64 = (1..=150).sum();
    viewer.shows("w", json!(sum)).await;
    served.write("delete from messages where (doc->>'rank')::int4 = 50").await;
    viewer.shows("w", json!(sum - 50)).await;
    // The walk reads a hundred at a time: past the batch in which it ended nothing is heard.
    let before = served.reads().await;
    let lsn = served.write("delete from messages where (doc->>'rank')::int4 > 250").await;
    viewer.passes(&lsn).await;
    assert_eq!(served.reads().await, before);
    served
        .write(
            "update messages set doc = doc || '{\"rank\": 149.5}' where (doc->>'rank')::int4 = 240",
        )
        .await;
    viewer.shows("w", json!(sum as f64 - 50.0 + 149.5)).await;
    viewer.close().await;
    served.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_of_very_many_rows_is_heard_once() {
    let served = Served::start("fn_bulk", &[], FUNCTIONS).await;
    let subscribe = json!([
        to("a", "t.list", json!({"channel": "a"})),
        to("raw", "t.raw", json!({"channel": "bulk"})),
    ]);
    let mut viewer = Viewer::open(served.address, subscribe).await;
    viewer.shows("a", json!([])).await;
    viewer.shows("raw", json!([{"n": 0}])).await;
    served
        .write(
            "insert into messages (doc) select jsonb_build_object('channel', case n when 1777 then 'a' else 'bulk' end, 'text', n::text, 'rank', n) \
             from generate_series(1, 20000) n",
        )
        .await;
    viewer.has("a", "text", json!(["1777"])).await;
    viewer.shows("raw", json!([{"n": 19_999}])).await;
    served.write("delete from messages").await;
    viewer.shows("a", json!([])).await;
    viewer.shows("raw", json!([{"n": 0}])).await;
    viewer.close().await;
    served.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_with_what_he_has_is_told_that_it_is_unchanged() {
    let served = Served::start("fn_have", &[], FUNCTIONS).await;
    served.message("a", "x", 1).await;
    let subscribe = json!([
        to("list", "t.list", json!({"channel": "a"})),
        to("first", "t.first", json!({"channel": "a"})),
        to("note", "t.found", json!({"body": "x"})),
    ]);
    let mut stream = EventStream::open(
        served.address,
        "POST",
        "/api/sync",
        &[],
        &json!({"subscribe": subscribe}).to_string(),
    )
    .await;
    stream.expect("hello").await;
    let mut have = serde_json::Map::new();
    while have.len() < 3 {
        for update in stream.transition().await.data["updates"].as_array().expect("updates") {
            have.insert(
                update["sub"].as_str().expect("a sub").to_owned(),
                update["digest"].clone(),
            );
        }
    }
    drop(stream);
    served.write("insert into notes values (1, 'x')").await;
    let body = json!({ "subscribe": subscribe, "have": have }).to_string();
    let mut stream = EventStream::open(served.address, "POST", "/api/sync", &[], &body).await;
    stream.expect("hello").await;
    // The write may be on its way yet when he comes: then his note is first what he has, and news later.
    let mut told = std::collections::BTreeMap::<String, Vec<String>>::new();
    let mut note = have["note"].clone();
    while told.len() < 3 || note == have["note"] {
        for update in stream.transition().await.data["updates"].as_array().expect("updates") {
            let sub = update["sub"].as_str().expect("a sub");
            let kind = update["type"].as_str().expect("a type");
            // What is unchanged comes without one.
            if sub == "note" && !update["digest"].is_null() {
                note = update["digest"].clone();
            }
            told.entry(sub.to_owned()).or_default().push(kind.to_owned());
        }
    }
    for sub in ["first", "list"] {
        assert_eq!(told[sub], ["unchanged"], "{sub}");
    }
    let news = told["note"].iter().filter(|kind| *kind != "unchanged");
    assert_eq!(news.count(), 1, "{told:?}");
    served.server.stop().await;
}
