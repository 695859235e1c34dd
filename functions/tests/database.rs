//! `ctx.db`: what the host is asked, and what the function gets.

use crate::support::{Folder, Memory, Zod, call, mutation, query, run};
use convoy_functions::{CallKind, Runtime};
use serde_json::{Value, json};
use std::sync::Arc;

const SCHEMA: &str = "
import { defineSchema, defineTable, defineRef } from 'convoy';
import { z } from 'zod';
export default defineSchema({
  tasks: defineTable({
    title: z.string().min(1),
    rank: z.number(),
    done: z.boolean().default(false),
    owner: defineRef('users').optional(),
    tags: z.array(z.string()).optional(),
  }).index('by_done_rank', ['done', 'rank']),
  users: defineTable({ name: z.string() }),
});
";

const TASKS: &str = r#"
import { mutation, query } from '../_generated/server';
import { paginationOptsValidator, sql } from 'convoy';
import { z } from 'zod';
const any = z.any();
export const add = mutation({ input: { doc: any }, handler: (ctx, { doc }) => ctx.db.insert('tasks', doc) });
export const patch = mutation({ input: { id: any, fields: any }, handler: (ctx, { id, fields }) => ctx.db.patch(id, {
  ...fields, ...(fields.unset ? { [fields.unset]: undefined, unset: undefined } : {}) } as any) });
export const unset = mutation({ input: { id: any }, handler: async (ctx, { id }) => {
  await ctx.db.patch(id, { owner: undefined, rank: 3 } as any);
  return ctx.db.get(id);
}});
export const replace = mutation({ input: { id: any, doc: any }, handler: async (ctx, { id, doc }) => {
  const before = await ctx.db.get('tasks', id);
  await ctx.db.replace('tasks', id, { ...before, ...doc });
  return ctx.db.get('tasks', id);
}});
export const remove = mutation({ input: { id: any }, handler: (ctx, { id }) => ctx.db.delete(id) });
export const range = query({ handler: (ctx) =>
  ctx.db.query('tasks').withIndex('by_done_rank', (q) => q.eq('done', false).gt('rank', 2).lte('rank', 4)).collect() });
export const builder = query({ handler: (ctx) => ctx.db.query('tasks')
  .filter((q) => q.and(q.gt(q.field('rank'), 1), q.or(q.eq(q.field('title'), 'b'), q.not(q.lt(q.field('rank'), 4))))).collect() });
export const predicate = query({ handler: (ctx) => ctx.db.query('tasks').filter((task) => task.title.startsWith('b')).collect() });
export const filtered = query({ input: { n: z.number() }, handler: (ctx, { n }) =>
  ctx.db.query('tasks').order('desc').filter((q) => q.eq(q.field('done'), false)).take(n) });
export const first = query({ handler: async (ctx) => [
  await ctx.db.query('tasks').order('desc', 'rank').first(),
  await ctx.db.query('users').first(),
]});
export const unique = query({ input: { title: z.string() }, handler: (ctx, { title }) =>
  ctx.db.query('tasks').filter((task) => task.title === title).unique() });
export const page = query({ input: { opts: paginationOptsValidator }, handler: (ctx, { opts }) => ctx.db.query('tasks').paginate(opts) });
export const oddPage = query({ input: { opts: any }, handler: (ctx, { opts }) =>
  ctx.db.query('tasks').filter((task) => task.rank % 2 === 1).paginate(opts) });
export const rarePage = query({ input: { opts: any }, handler: (ctx, { opts }) =>
  ctx.db.query('tasks').filter((task) => task.title === 'rare').paginate(opts) });
export const walk = query({ handler: async (ctx) => {
  const titles: string[] = [];
  for await (const task of ctx.db.query('tasks')) titles.push(task.title);
  return titles;
}});
export const raw = query({ input: { done: z.boolean() }, handler: (ctx, { done }) => {
  const only = sql`and done = ${done}`;
  return ctx.db.raw(sql`select * from tasks where rank > ${1} ${only} limit ${2}`);
}});
class StringChunk { constructor(public value: string[]) {} static [Symbol.for('drizzle:entityKind')] = 'StringChunk'; }
class Drizzle { constructor(public queryChunks: unknown[]) {} static [Symbol.for('drizzle:entityKind')] = 'SQL'; }
export const drizzle = query({ handler: (ctx) => ctx.db.raw(new Drizzle([
  new StringChunk(['select ']), 5, new StringChunk([' + ']), new Drizzle([new StringChunk(['abs(']), 'x', new StringChunk([')'])])])) });
export const inject = query({ handler: (ctx) => ctx.db.raw('select 1' as any) });
export const wrongTable = query({ handler: (ctx) => ctx.db.query('task' as any).collect() });
export const wrongIndex = query({ handler: (ctx) => ctx.db.query('tasks').withIndex('by_rank_done' as any).collect() });
export const wrongField = query({ handler: (ctx) => ctx.db.query('tasks').withIndex('by_done_rank', (q: any) => q.eq('rank', 1)).collect() });
export const wrongOrder = query({ handler: (ctx) => ctx.db.query('tasks').order('asc', 'ranc' as any).collect() });
export const wrongId = query({ handler: (ctx) => ctx.db.get(undefined as any) });
export const together = query({ handler: async (ctx) => {
  const order: number[] = [];
  await Promise.all([1, 2, 3].map(async (n) => { await ctx.db.get(`tasks:${n}` as any); order.push(n); }));
  return order;
}});
export const who = query({ handler: async (ctx: any) => ({ auth: ctx.auth, identity: await ctx.auth?.getUserIdentity() }) });
"#;

async fn five_tasks(zod: Zod) -> (Runtime, Arc<Memory>) {
    let folder = Folder::new(zod, &[("schema.ts", SCHEMA), ("functions/tasks.ts", TASKS)]);
    let (runtime, host) = (folder.runtime(), Arc::new(Memory::default()));
    for (rank, title) in ["a", "b", "c", "d", "e"].into_iter().enumerate() {
        let doc = json!({ "title": title, "rank": rank + 1, "done": title == "e" });
        mutation(&runtime, &host, "tasks.add", json!({ "doc": doc })).await.expect("an id");
    }
    host.asked.lock().expect("not poisoned").clear();
    (runtime, host)
}

fn titles(docs: &Value) -> String {
    docs.as_array().expect("an array").iter().filter_map(|doc| doc["title"].as_str()).collect()
}

#[tokio::test]
async fn documents_are_checked_before_they_are_written() {
    for zod in [Zod::Three, Zod::Four] {
        let (runtime, host) = five_tasks(zod).await;
        mutation(&runtime, &host, "tasks.add", json!({ "doc": { "title": "f", "rank": 6 } }))
            .await
            .expect("an id");
        let (op, args) = host.asked().pop().expect("asked");
        assert_eq!(
            (op.as_str(), args),
            (
                "db.insert",
                json!({ "table": "tasks", "doc": { "title": "f", "rank": 6, "done": false } })
            )
        );
        let before = host.asked().len();
        for (doc, part) in [
            (json!({ "title": "", "rank": 1 }), "insert into tasks: title: "),
            (json!({ "title": "x", "rank": "1" }), "insert into tasks: rank: "),
            (
                json!({ "title": "x", "rank": 1, "onwer": "users:1" }),
                "onwer: there is no such field; did you mean owner?",
            ),
            (json!({ "title": "x", "rank": 1, "owner": 5 }), "owner: "),
            (json!({ "title": "x", "rank": 1, "_id": "tasks:9" }), "_id is given by the database"),
            (json!(1), "takes an object of fields, not 1"),
        ] {
            let error = mutation(&runtime, &host, "tasks.add", json!({ "doc": doc }))
                .await
                .expect_err("a wrong document");
            assert_eq!(error.code, "INVALID_ARGS", "{zod:?} {error} {:?}", error.detail);
            assert!(error.message.contains(part), "{zod:?} {error}");
        }
        for (fields, part) in [
            (json!({ "rank": "high" }), "rank: "),
            (json!({ "unset": "title" }), "title: "),
            (json!({ "tittle": "x" }), "did you mean title?"),
            (json!({ "_id": "tasks:2" }), "an id can't be changed"),
        ] {
            let error = mutation(
                &runtime,
                &host,
                "tasks.patch",
                json!({ "id": "tasks:1", "fields": fields }),
            )
            .await;
            let error = error.expect_err("wrong fields");
            assert!(
                error.code == "INVALID_ARGS" && error.message.contains(part),
                "{zod:?} {error} {:?}",
                error.detail
            );
        }
        assert_eq!(host.asked().len(), before, "the host was not asked for what is wrong");
    }
}

#[tokio::test]
async fn documents_are_changed() {
    let (runtime, host) = five_tasks(Zod::Four).await;
    let doc = mutation(&runtime, &host, "tasks.unset", json!({ "id": "tasks:1" }))
        .await
        .expect("a document");
    assert_eq!(doc["rank"], 3);
    assert_eq!(
        host.asked()[0].1,
        json!({ "table": null, "id": "tasks:1", "set": { "rank": 3 }, "unset": ["owner"] })
    );
    let replaced = mutation(
        &runtime,
        &host,
        "tasks.replace",
        json!({ "id": "tasks:2", "doc": { "title": "z" } }),
    )
    .await;
    assert_eq!(
        replaced.expect("a document"),
        json!({ "_id": "tasks:2", "_creationTime": 2, "title": "z", "rank": 2, "done": false })
    );
    mutation(&runtime, &host, "tasks.remove", json!({ "id": "tasks:3" })).await.expect("nothing");
    assert_eq!(host.asked().last().expect("asked").1, json!({ "table": null, "id": "tasks:3" }));
    assert_eq!(
        titles(
            &query(&runtime, &host, "tasks.walk", json!({}))
                .await
                .map(|titles| {
                    json!(
                        titles
                            .as_array()
                            .expect("titles")
                            .iter()
                            .map(|title| json!({ "title": title }))
                            .collect::<Vec<_>>()
                    )
                })
                .expect("titles")
        ),
        "azde"
    );
}

#[tokio::test]
async fn ranges_and_filters_select() {
    let (runtime, host) = five_tasks(Zod::Four).await;
    assert_eq!(
        titles(&query(&runtime, &host, "tasks.range", json!({})).await.expect("tasks")),
        "cd"
    );
    let range = json!([
        { "op": "eq", "field": "done", "value": false }, { "op": "gt", "field": "rank", "value": 2 }, { "op": "lte", "field": "rank", "value": 4 }
    ]);
    assert_eq!(host.asked()[0].1["range"], range);
    assert_eq!(
        titles(&query(&runtime, &host, "tasks.builder", json!({})).await.expect("tasks")),
        "bde"
    );
    assert_eq!(
        titles(&query(&runtime, &host, "tasks.predicate", json!({})).await.expect("tasks")),
        "b"
    );
    let first = query(&runtime, &host, "tasks.first", json!({})).await.expect("tasks");
    assert_eq!((&first[0]["title"], &first[1]), (&json!("e"), &Value::Null));
    assert_eq!(
        query(&runtime, &host, "tasks.unique", json!({ "title": "c" })).await.expect("a task")["title"],
        "c"
    );
    assert_eq!(
        query(&runtime, &host, "tasks.unique", json!({ "title": "x" })).await.expect("none"),
        Value::Null
    );
    mutation(&runtime, &host, "tasks.add", json!({ "doc": { "title": "c", "rank": 9 } }))
        .await
        .expect("an id");
    let error =
        query(&runtime, &host, "tasks.unique", json!({ "title": "c" })).await.expect_err("two");
    assert_eq!(error.code, "CONFLICT");
}

/// From the end: e does not pass, d and c do. What lies before c is not read.
#[tokio::test]
async fn take_reads_no_further_than_it_has_to() {
    let (runtime, host) = five_tasks(Zod::Four).await;
    assert_eq!(
        titles(&query(&runtime, &host, "tasks.filtered", json!({ "n": 2 })).await.expect("tasks")),
        "dc"
    );
    let limits: Vec<Value> =
        host.asked().iter().map(|(_, args)| json!([args["after"], args["limit"]])).collect();
    assert_eq!(limits, [json!([null, 2]), json!(["tasks:4", 1])]);
    assert_eq!(
        titles(&query(&runtime, &host, "tasks.filtered", json!({ "n": 9 })).await.expect("tasks")),
        "dcba"
    );
    assert_eq!(
        titles(&query(&runtime, &host, "tasks.filtered", json!({ "n": 0 })).await.expect("tasks")),
        ""
    );
}

/// What passes seldom is found in few reads, each twice as long as those before together, and the page ends where it should.
#[tokio::test]
async fn what_passes_seldom_is_found_in_few_reads() {
    let (runtime, host) = five_tasks(Zod::Four).await;
    {
        let mut tables = host.tables.lock().expect("not poisoned");
        let rows = tables.get_mut("tasks").expect("tasks");
        for n in 6..=5000 {
            let title = if n == 4000 { "rare" } else { "x" };
            rows.push(json!({ "_id": format!("tasks:{n}"), "_creationTime": n, "title": title, "rank": 2, "done": false }));
        }
    }
    let rare = query(&runtime, &host, "tasks.unique", json!({ "title": "rare" })).await;
    assert_eq!(rare.expect("one")["_id"], "tasks:4000");
    assert!(host.asked().len() < 20, "{}", host.asked().len());
    let opts = json!({ "numItems": 1, "cursor": "tasks:5" });
    let page = query(&runtime, &host, "tasks.rarePage", json!({ "opts": opts })).await.expect("it");
    assert_eq!((&page["continueCursor"], &page["isDone"]), (&json!("tasks:4000"), &json!(false)));
}

#[tokio::test]
async fn pages_follow_one_another_without_gaps() {
    let (runtime, host) = five_tasks(Zod::Four).await;
    for (name, pages) in [("tasks.page", vec!["ab", "cd", "e"]), ("tasks.oddPage", vec!["ac", "e"])]
    {
        let mut cursor = Value::Null;
        for (i, expected) in pages.iter().enumerate() {
            let opts = json!({ "numItems": 2, "cursor": cursor });
            let page = query(&runtime, &host, name, json!({ "opts": opts })).await.expect("a page");
            assert_eq!(titles(&page["page"]), *expected, "{name} {page}");
            assert_eq!(page["isDone"], i + 1 == pages.len(), "{name} {page}");
            cursor = page["continueCursor"].clone();
            assert!(cursor.is_string());
        }
    }
    for opts in [json!({ "numItems": 0, "cursor": null }), json!({ "numItems": 2 })] {
        let error = query(&runtime, &host, "tasks.page", json!({ "opts": opts }))
            .await
            .expect_err("no page");
        assert_eq!(error.code, "INVALID_ARGS");
    }
    // Read again between its borders.
    let opts = json!({ "numItems": 2, "cursor": "tasks:1", "endCursor": "tasks:4" });
    let page = query(&runtime, &host, "tasks.page", json!({ "opts": opts })).await.expect("a page");
    assert_eq!(
        (titles(&page["page"]).as_str(), &page["continueCursor"]),
        ("bcd", &json!("tasks:4"))
    );
    assert_eq!(host.asked().last().expect("asked").1["limit"], Value::Null);
}

#[tokio::test]
async fn raw_statements_keep_values_apart_from_the_text() {
    let (runtime, host) = five_tasks(Zod::Four).await;
    let rows = query(&runtime, &host, "tasks.raw", json!({ "done": true })).await.expect("rows");
    assert_eq!(
        rows,
        json!([{ "text": "select * from tasks where rank > $1 and done = $2 limit $3", "params": [1, true, 2] }])
    );
    let rows = query(&runtime, &host, "tasks.drizzle", json!({})).await.expect("rows");
    assert_eq!(rows, json!([{ "text": "select $1 + abs($2)", "params": [5, "x"] }]));
    let error = query(&runtime, &host, "tasks.inject", json!({})).await.expect_err("no statement");
    assert!(error.message.contains("takes a statement made by sql`…`"), "{error}");
}

#[tokio::test]
async fn what_is_not_there_is_told_with_the_nearest_name() {
    let (runtime, host) = five_tasks(Zod::Four).await;
    for (name, part) in [
        ("wrongTable", "there is no table task: did you mean tasks?"),
        ("wrongIndex", "the table tasks has no index by_rank_done: it has by_done_rank"),
        ("wrongField", "is on (done, rank): .eq('rank', …) can't stand here, next comes done"),
        ("wrongOrder", "did you mean rank?"),
        ("wrongId", "ctx.db.get takes the id of a document, a string, not undefined"),
    ] {
        let error =
            query(&runtime, &host, &format!("tasks.{name}"), json!({})).await.expect_err(name);
        assert_eq!(error.code, "INVALID_ARGS", "{name}: {error} {:?}", error.detail);
        assert!(error.message.contains(part), "{name}: {error}");
    }
}

#[tokio::test]
async fn answers_come_in_the_order_of_the_questions() {
    let (runtime, host) = five_tasks(Zod::Four).await;
    assert_eq!(
        query(&runtime, &host, "tasks.together", json!({})).await.expect("an order"),
        json!([1, 2, 3])
    );
}

#[tokio::test]
async fn auth_is_what_the_caller_says() {
    let (runtime, host) = five_tasks(Zod::Four).await;
    for (auth, expected) in [
        (None, json!({ "auth": {}, "identity": null })),
        (Some("null"), json!({ "auth": null })),
        (
            Some("{\"userId\":\"users:1\"}"),
            json!({ "auth": { "userId": "users:1" }, "identity": { "userId": "users:1" } }),
        ),
    ] {
        let mut who = call(CallKind::Query, "tasks.who", json!({}));
        who.auth = auth.map(str::to_owned);
        assert_eq!(run(&runtime, &host, who).await.expect("a value"), expected);
    }
}
