//! Mutations as transactions: whole or not at all, alone with their data, and harmless to their neighbours.

use super::project::{Served, mutate, uuid};
use super::viewer::{Viewer, to};
use convoy_types::Lsn;
use serde_json::json;
use tokio::task::JoinSet;

const FUNCTIONS: &str = "
export const list = query((ctx) => ctx.db.query('messages').collect());
export const send = mutation({
  args: { text: z.string() },
  handler: (ctx, { text }) => ctx.db.insert('messages', { channel: 'a', text, rank: 1 }),
});
export const throwing = mutation({
  args: { how: z.string() },
  handler: async (ctx, { how }) => {
    await ctx.db.insert('messages', { channel: 'a', text: 'half', rank: 1 });
    if (how === 'own') throw convoyError('TOO_LATE', 'it is too late', { by: 1 });
    if (how === 'known') throw convoyError('FORBIDDEN');
    if (how === 'away') throw convoyError('UNAVAILABLE', 'ask later');
    if (how === 'full') throw convoyError('LIMIT_EXCEEDED', 'no seats left');
    if (how === 'bug') throw new Error('a secret');
    if (how === 'string') throw 'text';
    if (how === 'loop') for (;;) {}
    if (how === 'memory') { const all = []; for (;;) all.push('x'.repeat(1 << 20) + all.length); }
    if (how === 'stuck') await new Promise(() => {});
    if (how === 'unawaited') { ctx.db.delete('messages:none'); return 'fine'; }
    if (how === 'large') return 'x'.repeat(17 << 20);
    if (how === 'bigint') return 1n;
    return how;
  },
});
export const caught = mutation({
  args: { how: z.string() },
  handler: async (ctx, { how }) => {
    await ctx.db.insert('messages', { channel: 'a', text: 'half', rank: 1 });
    try {
      if (how === 'unique') await ctx.db.insert('people', { email: 'taken@x' });
      if (how === 'raw') await ctx.db.raw(sql`insert into people (email) values ('taken@x') returning 1 as x`);
      if (how === 'cast') await ctx.db.raw(sql`select 'x'::text::int4 as x`);
      if (how === 'bound') await ctx.db.raw(sql`select 1 as x where ${'one'} = 1`);
      if (how === 'stored') await ctx.db.query('messages').withIndex('by_channel_rank', (q) => q.eq('channel', 'odd').gt('rank', 0)).collect();
      if (how === 'long') await ctx.db.insert('channels', { name: Array.from({ length: 9000 }, () => Math.random().toString(36)).join(''), topic: 't' });
      if (how === 'trigger') await ctx.db.insert('counters', { name: 'x', n: 1 });
      if (how === 'syntax') await ctx.db.raw(sql`select id from notes where nothing = 1`);
      if (how === 'check') await ctx.db.insert('people', { email: 'taken@x', age: -1 });
    } catch (error) {
      return `caught ${error.code}`;
    }
    return 'nothing was refused';
  },
});
export const tolerant = mutation({
  args: {},
  handler: async (ctx) => {
    await ctx.db.insert('messages', { channel: 'a', text: 'kept', rank: 1 });
    for (const wrong of [
      () => ctx.db.get('messages:none').then((doc) => { if (doc === null) throw convoyError('NOT_FOUND'); }),
      () => ctx.db.patch('messages:none', { text: 'x' }),
      () => ctx.db.insert('messages', { channel: 1 }),
      () => ctx.db.insert('nothing', {}),
    ]) {
      try { await wrong(); return 'it was not refused'; } catch {}
    }
    return 'all were refused';
  },
});
export const increment = mutation({
  args: { name: z.string() },
  handler: async (ctx, { name }) => {
    const counter = await ctx.db.query('counters').withIndex('by_name', (q) => q.eq('name', name)).unique();
    if (counter === null) {
      await ctx.db.insert('counters', { name, n: 1 });
      return 1;
    }
    await ctx.db.patch(counter._id, { n: counter.n + 1 });
    return counter.n + 1;
  },
});
export const hidden = internalMutation({ args: {}, handler: (ctx) => ctx.db.insert('messages', { channel: 'a', text: 'hidden', rank: 1 }) });
export const secret = internalQuery({ args: {}, handler: () => 'secret' });
export const plain = query(() => 1);
export const times = mutation(async (ctx) => {
  const ids = [];
  for (let i = 0; i < 3; i++) ids.push(await ctx.db.insert('messages', { channel: 'a', text: String(i), rank: i }));
  return { now: Date.now(), ids };
});
export const roundabout = mutation({
  args: { text: z.string(), rank: z.number(), extra: z.any() },
  handler: async (ctx, { text, rank, extra }) => {
    const id = await ctx.db.insert('messages', { channel: 'a', text, rank, extra });
    const read = await ctx.db.get(id);
    await ctx.db.replace(id, read);
    const [{ doc }] = await ctx.db.raw(sql`select doc from messages where _id = ${id}`);
    await ctx.db.delete(id);
    return { read, doc };
  },
});
";

async fn messages(served: &Served) -> i64 {
    served.count("select count(*) from messages").await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_fails_leaves_nothing_behind() {
    let served = Served::start("fn_throws", &[], FUNCTIONS).await;
    for (how, status, code) in [
        ("own", 400, "TOO_LATE"),
        ("known", 403, "FORBIDDEN"),
        ("away", 503, "UNAVAILABLE"),
        ("full", 429, "LIMIT_EXCEEDED"),
        ("bug", 500, "INTERNAL"),
        ("string", 500, "INTERNAL"),
        ("loop", 429, "LIMIT_EXCEEDED"),
        ("memory", 429, "LIMIT_EXCEEDED"),
        ("stuck", 504, "TIMEOUT"),
        ("unawaited", 404, "NOT_FOUND"),
        ("large", 429, "LIMIT_EXCEEDED"),
        ("bigint", 500, "INTERNAL"),
    ] {
        let answer = served.ask("t.throwing", &json!({ "how": how }), &[]).await;
        assert_eq!(
            (answer.status.as_u16(), &*answer.code()),
            (status, code),
            "{how}: {}",
            answer.body
        );
        assert!(!answer.body.contains("secret"), "{}", answer.body);
        // None of it is better a little later.
        assert!(!answer.headers.contains_key("retry-after"), "{how}");
        assert_eq!(messages(&served).await, 0, "{how}");
    }
    let answer = served.ask("t.throwing", &json!({ "how": "own" }), &[]).await.json();
    assert_eq!(answer["error"]["data"], json!({"by": 1}));
    for (args, word) in
        [(json!({}), "how"), (json!({"how": 1}), "how"), (json!({"how": "x", "hwo": 1}), "hwo")]
    {
        let answer = served.ask("t.throwing", &args, &[]).await;
        assert_eq!(answer.code(), "INVALID_ARGS", "{}", answer.body);
        assert!(answer.body.contains(word), "{}", answer.body);
    }
    assert_eq!(served.mutate("t.throwing", json!({"how": "fine"})).await, "fine");
    assert_eq!(messages(&served).await, 1);
    served.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_catches_what_postgres_refused_does_not_commit_its_half() {
    let served = Served::start("fn_caught", &[], FUNCTIONS).await;
    served
        .write(
            "create unique index on people (email); alter table people add check (age > 0);
             create function refuse() returns trigger language plpgsql as
               $$ begin raise exception 'closed' using detail = 'SECRET row', hint = 'SECRET hint'; end $$;
             create trigger refuse before insert on counters for each row execute function refuse();
             insert into people (email) values ('taken@x')",
        )
        .await;
    // Somebody else's document, that is not as declared.
    served.write("drop index messages_by_channel_rank").await;
    served.write("insert into messages (doc) values ('{\"channel\":\"odd\",\"text\":\"x\",\"rank\":\"SECRET\"}')").await;
    for (how, code, word) in [
        ("unique", "CONFLICT", "unique constraint \\\"people_email_idx\\\" (email)"),
        ("raw", "CONFLICT", "people_email_idx"),
        ("cast", "INVALID_ARGS", "a value is no integer"),
        ("bound", "INVALID_ARGS", "a value is no integer"),
        ("stored", "INVALID_ARGS", "messages"),
        ("long", "INVALID_ARGS", "index"),
        ("trigger", "INVALID_ARGS", "closed"),
        // Of the statement's text all is told.
        ("syntax", "INVALID_ARGS", "column \\\"nothing\\\" does not exist"),
        ("check", "INVALID_ARGS", "people_age_check"),
    ] {
        for id in [None, Some("0198c1f0-7b1e-7c3a-9d2b-0123456789ab")] {
            let headers: Vec<_> = id.map(|id| ("x-convoy-mutation", id)).into_iter().collect();
            let answer = served.ask("t.caught", &json!({ "how": how }), &headers).await;
            assert_ne!(answer.status, 200, "{how}: {}", answer.body);
            assert_eq!(answer.code(), code, "{how}: {}", answer.body);
            assert!(answer.body.contains(word), "{how}: {}", answer.body);
            // What stands in the database is nobody's business who may not read it.
            for stored in ["taken@x", "SECRET", "Failing row"] {
                assert!(!answer.body.contains(stored), "{how}: {}", answer.body);
            }
            assert_eq!(messages(&served).await, 1, "{how}");
        }
    }
    // What Postgres never heard of may be caught.
    assert_eq!(served.mutate("t.tolerant", json!({})).await, "all were refused");
    assert_eq!(messages(&served).await, 2);
    served.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_refused_at_its_commit_leaves_nothing() {
    let served = Served::start("fn_deferred", &[], FUNCTIONS).await;
    served
        .write(
            "alter table people add constraint once unique (email) deferrable initially deferred;
             insert into people (email) values ('taken@x')",
        )
        .await;
    for id in [None, Some("0198c1f0-7b1e-7c3a-9d2b-0123456789ab")] {
        let headers: Vec<_> = id.map(|id| ("x-convoy-mutation", id)).into_iter().collect();
        let answer = served.ask("t.caught", &json!({"how": "unique"}), &headers).await;
        assert_eq!(answer.code(), "CONFLICT", "{}", answer.body);
        assert!(answer.body.contains("once"), "{}", answer.body);
        assert_eq!(messages(&served).await, 0);
    }
    served.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_concurrent_increments_none_is_lost_and_none_counts_twice() {
    let served = Served::start("fn_counter", &[], FUNCTIONS).await;
    let address = served.address;
    let mut clients = JoinSet::new();
    for _ in 0..8 {
        clients.spawn(async move {
            let mut values = Vec::new();
            for _ in 0..25 {
                let answer = mutate(address, "t.increment", &json!({"name": "one"}), &[]).await;
                match answer.status.as_u16() {
                    200 => values.push(answer.json()["value"].as_i64().expect("a number")),
                    _ => assert_eq!(answer.code(), "CONFLICT", "{}", answer.body),
                }
            }
            values
        });
    }
    let mut values: Vec<i64> = clients.join_all().await.into_iter().flatten().collect();
    values.sort_unstable();
    let n = served.count("select sum((doc->>'n')::int8) from counters").await;
    assert_eq!(values, (1..=n).collect::<Vec<_>>(), "each value once");
    assert_eq!(served.count("select count(*) from counters").await, 1, "even the first two");
    assert!(n >= 150, "most of 200 end well: {n}");
    served.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_loses_each_time_is_run_ten_times_and_leaves_nothing() {
    let served = Served::start("fn_loses", &[], FUNCTIONS).await;
    // A sequence counts whatever becomes of the transaction.
    served
        .write(
            "create sequence runs;
             create function lose() returns trigger language plpgsql as
               $$ begin perform nextval('runs'); raise 'lost' using errcode = 'serialization_failure'; end $$;
             create trigger lose before insert on messages for each row execute function lose()",
        )
        .await;
    let (args, headers) = (json!({"text": "x"}), [("x-convoy-mutation", &*uuid(1))]);
    let answer = served.ask("t.send", &args, &headers).await;
    assert_eq!((answer.status.as_u16(), &*answer.code()), (409, "CONFLICT"), "{}", answer.body);
    assert!(answer.body.contains("others changed the same data 10 times"), "{}", answer.body);
    assert_eq!(served.count("select last_value from runs").await, 10);
    assert_eq!(messages(&served).await, 0);
    assert_eq!(served.count("select count(*) from convoy.mutations").await, 0);
    // It was not done, so that its id may be.
    served.write("drop trigger lose on messages").await;
    assert_eq!(served.ask("t.send", &args, &headers).await.status, 200);
    assert_eq!(messages(&served).await, 1);
    served.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_internal_or_another_kind_is_not_there() {
    let served = Served::start("fn_internal", &[], FUNCTIONS).await;
    for name in ["t.hidden", "t.plain", "t.secret", "t.nothing", "t", "", "t.toString"] {
        let answer = served.ask(name, &json!({}), &[]).await;
        assert_eq!(answer.code(), "NOT_FOUND", "{name}: {}", answer.body);
    }
    for name in ["t.hidden", "t.secret", "t.send", "t.nothing"] {
        let answer = served.query(name, json!({})).await;
        assert_eq!(answer.code(), "NOT_FOUND", "{name}: {}", answer.body);
        assert!(!answer.body.contains("secret\""), "{}", answer.body);
    }
    // Who has the wrong door is shown the right one, but for what is none of his.
    for (body, words) in [
        (
            served.query("t.send", json!({})).await.body,
            "t.send is a mutation, not a query: POST /api/mutation/t.send",
        ),
        (
            served.ask("t.plain", &json!({}), &[]).await.body,
            "t.plain is a query, not a mutation: GET or POST /api/query/t.plain",
        ),
        (served.query("t.hidden", json!({})).await.body, "no query is named"),
    ] {
        assert!(body.contains(words), "{body}");
    }
    let mut viewer = Viewer::open(served.address, json!([to("s", "t.secret", json!({}))])).await;
    assert!(viewer.fails("s", "NOT_FOUND").await.is_final);
    assert_eq!(messages(&served).await, 0);
    for id in ["", "1", "0198c1f07b1e7c3a9d2b0123456789ab"] {
        let headers = [("x-convoy-mutation", id)];
        assert_eq!(
            served.ask("t.send", &json!({"text": "x"}), &headers).await.code(),
            "INVALID_ARGS"
        );
    }
    let headers = [("x-convoy-session", "nobody")];
    assert_eq!(served.ask("t.send", &json!({"text": "x"}), &headers).await.code(), "NOT_FOUND");
    assert_eq!(messages(&served).await, 0);
    served.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_loops_or_allocates_is_stopped_and_its_neighbours_go_on() {
    let served = Served::start("fn_loops", &[], FUNCTIONS).await;
    let address = served.address;
    let ask = move |how| async move {
        (how, mutate(address, "t.throwing", &json!({ "how": how }), &[]).await)
    };
    let mut bad = JoinSet::new();
    for how in ["loop", "memory", "loop", "memory"] {
        bad.spawn(ask(how));
    }
    // Always as many, until the neighbours are through.
    let mut sent = 0;
    while sent < 10 {
        let answer = served.ask("t.send", &json!({"text": "x"}), &[]).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_eq!(served.query("t.plain", json!({})).await.json()["value"], 1);
        sent += 1;
        while let Some(ended) = bad.try_join_next() {
            let (how, answer) = ended.expect("an answer");
            assert_eq!(answer.code(), "LIMIT_EXCEEDED", "{how}: {}", answer.body);
            bad.spawn(ask(how));
        }
    }
    while let Some(ended) = bad.join_next().await {
        let (how, answer) = ended.expect("an answer");
        assert_eq!(answer.code(), "LIMIT_EXCEEDED", "{how}: {}", answer.body);
    }
    assert_eq!(messages(&served).await, sent);
    served.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_at_the_answers_position_shows_the_write() {
    let served = Served::start("fn_lsn", &[], FUNCTIONS).await;
    let mut viewer = Viewer::open(served.address, json!([to("l", "t.list", json!({}))])).await;
    viewer.shows("l", json!([])).await;
    for n in 1..=15 {
        let answer = served.ask("t.send", &json!({"text": n.to_string()}), &[]).await.json();
        let lsn = answer["lsn"].as_str().expect("a position").to_owned();
        let past: Lsn = lsn.parse().expect("a position");
        viewer.say(&json!({ "await": lsn })).await;
        let view = viewer.until("it is there", |view| view.lsn >= past).await;
        assert!(view.of("l").keys().iter().any(|key| *key == answer["value"]), "{n}");
        assert_eq!(view.of("l").keys().len(), n);
    }
    viewer.close().await;
    served.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn values_go_round_and_time_stands_still() {
    let served = Served::start("fn_round", &[], FUNCTIONS).await;
    for (text, rank, extra) in [
        ("", 0.0, json!(null)),
        ("ü😀\u{2028}'\"\\%_$1", -0.5, json!({"a": [1, "2", {"ü": null}]})),
        ("x", 1e21, json!("ü")),
        ("x", 9_007_199_254_740_993.0, json!(1e-7)),
        ("x", 0.1, json!([0.1, 1e300, -0.0])),
    ] {
        let args = json!({"text": text, "rank": rank, "extra": extra});
        let answer = served.ask("t.roundabout", &args, &[]).await;
        assert_eq!(answer.status, 200, "{args}: {}", answer.body);
        let value = answer.json()["value"].clone();
        for of in ["read", "doc"] {
            assert_eq!(value[of]["text"], text, "{value}");
            // As SQL gives them, whole numbers that a double may not hold are strings.
            let digits = value[of]["rank"].as_str().and_then(|digits| digits.parse().ok());
            assert_eq!(value[of]["rank"].as_f64().or(digits), Some(rank), "{of} {value}");
        }
        assert_eq!(
            value["read"]["extra"].to_string().replace(".0", ""),
            extra.to_string().replace("-0.0", "0").replace(".0", ""),
            "{value}"
        );
    }
    // A character that Postgres' text has not.
    let args = json!({"text": "a\u{0}b", "rank": 1, "extra": null});
    let answer = served.ask("t.roundabout", &args, &[]).await;
    assert_eq!(answer.code(), "INVALID_ARGS", "{}", answer.body);
    let value = served.mutate("t.times", json!({})).await;
    let ids: Vec<String> = serde_json::from_value(value["ids"].clone()).expect("ids");
    let sql = "select array_agg(_id order by _creation_time) from messages";
    let in_order: Vec<String> = served.writer.query_one(sql, &[]).await.expect("ids").get(0);
    assert_eq!(in_order, ids, "in the order of their inserts");
    let now = value["now"].as_f64().expect("a time");
    let times = "select min(_creation_time), max(_creation_time) from messages";
    let row = served.writer.query_one(times, &[]).await.expect("times");
    let (first, last): (f64, f64) = (row.get(0), row.get(1));
    assert!(first >= now && last < now + 1.0, "{now} {first} {last}");
    assert_eq!(
        served.query("t.list", json!({})).await.json()["value"].as_array().map(Vec::len),
        Some(3)
    );
    served.server.stop().await;
}
