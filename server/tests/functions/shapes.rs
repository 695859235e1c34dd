//! What functions take and give: arguments and values of every shape, errors, and the bounds of a result.

use super::project::Served;
use super::viewer::{Viewer, to};
use crate::client::EventStream;
use serde_json::{Value, json};

const FUNCTIONS: &str = "
export const needs = query({
  args: { name: z.string() },
  handler: async (ctx, { name }) => {
    const channel = await ctx.db.query('channels').withIndex('by_name', (q) => q.eq('name', name)).first();
    if (channel === null) throw convoyError('NOT_FOUND', `there is no channel ${name}`, { name });
    if (channel.topic === 'own') throw convoyError('TOO_LOUD', 'be quiet', [1, 2]);
    if (channel.topic === 'bug') throw new TypeError('a secret');
    return channel.topic;
  },
});
export const nothing = query(() => 42);
export const count = query(async (ctx) => (await ctx.db.query('messages').collect()).length);
export const summary = query(async (ctx) => {
  const messages = await ctx.db.query('messages').collect();
  return { total: messages.length, texts: messages.map(({ text }) => text) };
});
export const page = query(async (ctx) => ctx.db.query('messages').order('asc', 'rank').paginate({ numItems: 50, cursor: null }));
export const extras = query(async (ctx) => {
  const messages = await ctx.db.query('messages').order('asc', 'rank').collect();
  return messages.map(({ _id, extra }) => (extra === undefined ? { _id } : { _id, ...extra }));
});
export const shape = query(async (ctx) => {
  const [first] = await ctx.db.query('messages').take(1);
  return first?.extra ?? null;
});
export const echo = query({ args: { value: z.any() }, handler: (_, { value }) => ({ value }) });
export const echoed = query({
  args: { a: z.number(), b: z.object({ x: z.number(), y: z.string().nullable() }), c: z.array(z.any()) },
  handler: (_, args) => args,
});
export const many = query({
  args: { n: z.number(), bytes: z.number() },
  handler: async (ctx, { n, bytes }) => {
    const more = (await ctx.db.query('messages').collect()).length;
    return Array.from({ length: n + more }, (_, i) => ({ _id: `r${i}`, text: 'x'.repeat(bytes) }));
  },
});
export const fails = query({
  args: {},
  handler: async (ctx) => {
    const notes = await ctx.db.raw(sql`select body::int4 as n from notes order by id`);
    return notes.map(({ n }) => n);
  },
});
export const caught = query({
  args: {},
  handler: async (ctx) => {
    try {
      return await ctx.db.raw(sql`select body::int4 as n from notes order by id`);
    } catch {
      return 'caught';
    }
  },
});
export const looping = query(() => { for (;;) {} });
export const timed = query((ctx) => ctx.db.raw(sql`select 1 as n\n-- @refresh 1s\n`));
";

#[tokio::test(flavor = "multi_thread")]
async fn an_error_of_its_own_lasts_until_what_it_read_changes() {
    let served = Served::start("fn_errors", &[], FUNCTIONS).await;
    let mut viewer =
        Viewer::open(served.address, json!([to("n", "t.needs", json!({"name": "a"}))])).await;
    let seen = viewer.fails("n", "NOT_FOUND").await;
    let error =
        json!({"code": "NOT_FOUND", "message": "there is no channel a", "data": {"name": "a"}});
    assert_eq!(seen.error, Some(error));
    assert!(!seen.is_final);
    let answer = served.query("t.needs", json!({"name": "a"})).await;
    assert_eq!((answer.status.as_u16(), &*answer.code()), (404, "NOT_FOUND"));
    served.write("insert into channels (doc) values ('{\"name\":\"a\",\"topic\":\"t\"}')").await;
    viewer.shows("n", json!("t")).await;
    served.write("update channels set doc = doc || '{\"topic\":\"own\"}'").await;
    let seen = viewer.fails("n", "TOO_LOUD").await;
    assert_eq!(seen.error.expect("an error")["data"], json!([1, 2]));
    assert_eq!(served.query("t.needs", json!({"name": "a"})).await.status, 400);
    served.write("update channels set doc = doc || '{\"topic\":\"bug\"}'").await;
    let seen = viewer.fails("n", "INTERNAL").await;
    assert!(!seen.error.expect("an error").to_string().contains("secret"));
    served.write("update channels set doc = doc || '{\"topic\":\"u\"}'").await;
    viewer.shows("n", json!("u")).await;
    served.write("delete from channels").await;
    viewer.fails("n", "NOT_FOUND").await;
    viewer.close().await;
    served.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interval_in_what_it_reads_is_refused() {
    let served = Served::start("fn_interval", &[], FUNCTIONS).await;
    let mut viewer = Viewer::open(served.address, json!([to("timed", "t.timed", json!({}))])).await;
    let seen = viewer.fails("timed", "INVALID_ARGS").await;
    let error = seen.error.expect("an error").to_string();
    assert!(
        error.contains("line 2, column 4: @refresh is not for what a function reads"),
        "{error}"
    );
    viewer.close().await;
    served.server.stop().await;
}

/// What is sent of a page is the documents that came, went and changed.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_changes_by_its_documents() {
    let served = Served::start("fn_page", &[], FUNCTIONS).await;
    for rank in 1..=20 {
        served.message("a", &format!("message {rank}"), rank).await;
    }
    let mut stream = EventStream::open(served.address, "GET", "/api/query/t.page", &[], "").await;
    stream.expect("hello").await;
    let first = stream.transition().await.data["updates"][0].clone();
    let mut page = first["value"].clone();
    assert_eq!(page["page"].as_array().map(Vec::len), Some(20), "{first}");
    for (sql, path) in [
        (
            "update messages set doc = doc || '{\"text\":\"changed\"}' where doc->>'rank' = '7'",
            "/page/6/text",
        ),
        ("delete from messages where doc->>'rank' = '3'", "/page/2"),
        ("update messages set doc = doc || '{\"rank\":0}' where doc->>'rank' = '20'", "/page/0"),
    ] {
        served.write(sql).await;
        let update = stream.transition().await.data["updates"][0].clone();
        let steps = update["patch"].as_array().expect("a patch");
        // The last document says where the next page begins.
        assert!(steps.len() <= 3, "{update}");
        assert_eq!(steps[0]["path"], path, "{update}");
        let patch: json_patch::Patch =
            serde_json::from_value(update["patch"].clone()).expect("a patch");
        json_patch::patch(&mut page, &patch).expect("it fits");
        let asked = served.query("t.page", json!({})).await;
        assert_eq!(asked.json()["value"], page, "{sql}");
    }
    served.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn values_that_are_no_rows_change_by_patch() {
    let served = Served::start("fn_values", &[], FUNCTIONS).await;
    let mut stream = EventStream::open(served.address, "GET", "/api/query/t.count", &[], "").await;
    stream.expect("hello").await;
    let update = stream.transition().await.data["updates"][0].clone();
    assert_eq!((&update["type"], &update["value"]), (&json!("snapshot"), &json!(0)), "{update}");
    assert!(update.get("keys").is_none() && update.get("columns").is_none(), "{update}");
    served.message("a", "x", 1).await;
    let update = stream.transition().await.data["updates"][0].clone();
    assert_eq!(update["type"], "patch", "{update}");
    assert_eq!(update["patch"], json!([{"op": "replace", "path": "", "value": 1}]));
    let subscribe = json!([
        to("nothing", "t.nothing", json!({})),
        to("summary", "t.summary", json!({})),
        to("shape", "t.shape", json!({})),
    ]);
    let mut viewer = Viewer::open(served.address, subscribe).await;
    viewer.shows("nothing", json!(42)).await;
    viewer.shows("summary", json!({"total": 1, "texts": ["x"]})).await;
    viewer.shows("shape", Value::Null).await;
    served.message("a", "y", 2).await;
    let seen = viewer.shows("summary", json!({"total": 2, "texts": ["x", "y"]})).await;
    assert_eq!(seen.kinds, ["snapshot", "patch"]);
    // Another kind is a snapshot, whatever it was before.
    for extra in [
        json!("text"),
        json!([{"_id": "a", "n": 1}]),
        json!([{"_id": "a"}, {"_id": "a"}]),
        json!([]),
        json!([{"_id": 1}]),
        json!({"_id": "a"}),
        json!([[]]),
        json!([{"_id": "a", "n": {"deep": [null, 1.5, "ü\u{2028}\n\0"]}}]),
        json!(1e300),
        json!(false),
    ] {
        // Postgres' jsonb has no NUL.
        let text = extra.to_string().replace("\\u0000", "");
        let expected: Value = serde_json::from_str(&text).expect("JSON");
        let sql = format!(
            "update messages set doc = jsonb_set(doc, '{{extra}}', '{}') where doc->>'text' = 'x'",
            text.replace('\'', "''")
        );
        served.write(&sql).await;
        viewer.shows("shape", expected).await;
    }
    viewer.close().await;
    served.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_whose_fields_come_and_go_arrive_as_they_are() {
    let served = Served::start("fn_fields", &[], FUNCTIONS).await;
    let mut viewer = Viewer::open(served.address, json!([to("e", "t.extras", json!({}))])).await;
    viewer.shows("e", json!([])).await;
    let set = async |id: &str, extra: Option<Value>| {
        let doc = match &extra {
            Some(extra) => json!({"channel": "a", "text": "x", "rank": 1, "extra": extra}),
            None => json!({"channel": "a", "text": "x", "rank": 1}),
        };
        served.write(&format!("insert into messages (_id, doc) values ('{id}', '{doc}') on conflict (_id) do update set doc = excluded.doc")).await;
    };
    set("a", None).await;
    viewer.shows("e", json!([{"_id": "a"}])).await;
    set("b", Some(json!({"n": 1}))).await;
    viewer.shows("e", json!([{"_id": "a"}, {"_id": "b", "n": 1}])).await;
    set("a", Some(json!({"n": 2, "m": null}))).await;
    viewer.shows("e", json!([{"_id": "a", "n": 2, "m": null}, {"_id": "b", "n": 1}])).await;
    set("a", Some(json!({"m": 1}))).await;
    viewer.shows("e", json!([{"_id": "a", "m": 1}, {"_id": "b", "n": 1}])).await;
    // Only one of several that have it loses it.
    set("b", Some(json!({"m": 2, "n": 1}))).await;
    viewer.shows("e", json!([{"_id": "a", "m": 1}, {"_id": "b", "m": 2, "n": 1}])).await;
    set("a", Some(json!({"n": 1}))).await;
    viewer.shows("e", json!([{"_id": "a", "n": 1}, {"_id": "b", "m": 2, "n": 1}])).await;
    set("a", Some(json!({"": 1}))).await;
    viewer.shows("e", json!([{"_id": "a", "": 1}, {"_id": "b", "m": 2, "n": 1}])).await;
    set("a", Some(json!({"_id": "c"}))).await;
    viewer.shows("e", json!([{"_id": "c"}, {"_id": "b", "m": 2, "n": 1}])).await;
    served.write("delete from messages").await;
    viewer.shows("e", json!([])).await;
    viewer.close().await;
    served.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_arrive_as_they_were_sent() {
    let served = Served::start("fn_args", &[], FUNCTIONS).await;
    for value in [
        json!(null),
        json!("ü😀\u{2028}\u{0}\"\\"),
        json!(9_007_199_254_740_991_i64),
        json!(-1.5e-300),
        json!([null, [], {}, {"__proto__": 1, "constructor": 2}]),
        json!(true),
    ] {
        let answer = served.query("t.echo", json!({"value": value})).await;
        assert_eq!(answer.json()["value"], json!({"value": value}), "{}", answer.body);
    }
    // JavaScript's numbers are doubles.
    let answer = crate::client::post(
        served.address,
        "/api/query/t.echo",
        "{\"value\": 123456789012345678901234567890}",
    );
    assert_eq!(answer.await.json()["value"]["value"].as_f64(), Some(1.234_567_890_123_456_8e29));
    for wrong in [json!({}), json!({"vale": 1}), json!({"value": 1, "more": 2})] {
        let answer = served.query("t.echo", wrong.clone()).await;
        if wrong != json!({}) {
            assert_eq!(answer.code(), "INVALID_ARGS", "{wrong}: {}", answer.body);
        }
    }
    let answer = served.query("t.needs", json!({"name": 1})).await;
    assert_eq!(answer.code(), "INVALID_ARGS");
    assert!(answer.body.contains("name"), "{}", answer.body);
    served.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_arguments_share_a_live_query() {
    let served = Served::start("fn_share", &[], FUNCTIONS).await;
    let one = r#"{"a":1,"b":{"x":1,"y":null},"c":[{"p":1,"q":2}]}"#;
    let other = r#" {"c" : [{"q":2, "p":1}], "b":{"y":null,"x":1}, "a":1 }"#;
    let mut streams = Vec::new();
    for args in [one, other] {
        let headers = [("content-type", "application/json")];
        let path = "/api/query/t.echoed";
        let mut stream = EventStream::open(served.address, "POST", path, &headers, args).await;
        stream.expect("hello").await;
        let update = stream.transition().await.data["updates"][0].clone();
        assert_eq!(update["value"], serde_json::from_str::<Value>(one).expect("JSON"), "{update}");
        streams.push(stream);
    }
    assert_eq!(served.live_queries().await, 1);
    served.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_past_the_limit_is_an_error_that_names_it() {
    let flags = ["--result-rows-max", "100", "--result-bytes-max", "100000"];
    let served = Served::start("fn_limit", &flags, FUNCTIONS).await;
    let subscribe = json!([
        to("rows", "t.many", json!({"n": 100, "bytes": 1})),
        to("bytes", "t.many", json!({"n": 9, "bytes": 10_000})),
    ]);
    let mut viewer = Viewer::open(served.address, subscribe).await;
    viewer.until("all rows", |view| view.of("rows").keys().len() == 100).await;
    viewer.until("all bytes", |view| view.of("bytes").keys().len() == 9).await;
    served.message("a", "x", 1).await;
    for sub in ["rows", "bytes"] {
        let seen = viewer.fails(sub, "LIMIT_EXCEEDED").await;
        assert!(!seen.is_final);
    }
    served.write("delete from messages").await;
    viewer.until("all rows again", |view| view.of("rows").keys().len() == 100).await;
    viewer.until("all bytes again", |view| view.of("bytes").keys().len() == 9).await;
    let answer = served.query("t.many", json!({"n": 101, "bytes": 1})).await;
    assert_eq!(answer.code(), "LIMIT_EXCEEDED", "{}", answer.body);
    viewer.close().await;
    served.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_postgres_refuses_harms_no_neighbour_and_mends_itself() {
    let served = Served::start("fn_refused", &[], FUNCTIONS).await;
    served.write("insert into notes values (1, '1'), (2, '2')").await;
    let mut subscribe = vec![
        to("fails", "t.fails", json!({})),
        to("caught", "t.caught", json!({})),
        to("loops", "t.looping", json!({})),
    ];
    let neighbours: Vec<String> = (0..20).map(|n| format!("n{n}")).collect();
    subscribe.extend(
        neighbours.iter().map(|sub| to(sub, "t.many", json!({"n": 1, "bytes": sub.len()}))),
    );
    let mut viewer = Viewer::open(served.address, json!(subscribe)).await;
    viewer.shows("fails", json!([1, 2])).await;
    viewer.fails("loops", "LIMIT_EXCEEDED").await;
    served
        .write("begin; update notes set body = 'two' where id = 2; insert into messages (doc) values ('{\"channel\":\"a\",\"text\":\"x\",\"rank\":1}'); commit")
        .await;
    let seen = viewer.fails("fails", "INVALID_ARGS").await;
    let error = seen.error.expect("an error").to_string();
    assert!(error.contains("integer") && !error.contains("two"), "{error}");
    viewer
        .until("all neighbours", |view| neighbours.iter().all(|sub| view.of(sub).keys().len() == 2))
        .await;
    let before = tokio::time::Instant::now();
    served.write("update notes set body = '3' where id = 2").await;
    viewer.shows("fails", json!([1, 3])).await;
    assert!(before.elapsed().as_secs() < 5, "it heard the write, and was not merely tried again");
    viewer.until("what it catches", |view| view.of("caught").is_in_cut()).await;
    // One that has never had another answer hears it too.
    served.write("update notes set body = 'three' where id = 2").await;
    let mut late = Viewer::open(served.address, json!([to("f", "t.fails", json!({}))])).await;
    late.fails("f", "INVALID_ARGS").await;
    drop(viewer);
    let mut viewer = late;
    let before = tokio::time::Instant::now();
    served.write("update notes set body = '4' where id = 2").await;
    viewer.shows("f", json!([1, 4])).await;
    assert!(before.elapsed().as_secs() < 5, "it heard the write, and was not merely tried again");
    viewer.close().await;
    served.server.stop().await;
}
