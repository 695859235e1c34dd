//! Each limit stops its call with a clear error, and no other.

use crate::support::{Folder, Memory, Zod, call, mutation, query};
use convoy_functions::{CallKind, Limits, Runtime};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

const GREEDY: &str = "
import { mutation, query } from '../_generated/server';
import { z } from 'zod';
export const loop = query({ handler: () => { for (;;) {} } });
export const stubborn = query({ handler: () => { for (;;) { try { for (;;) {} } catch {} finally { for (;;) {} } } } });
export const microtasks = query({ handler: async () => { for (;;) await null; } });
export const regex = query({ handler: () => /^(a+)+$/.test('a'.repeat(64) + 'b') });
export const allocate = query({ handler: () => { const all: unknown[] = []; for (;;) all.push(new Array(100).fill('x')); } });
export const text = query({ handler: () => { let text = 'x'; for (;;) text += text + 'y'; } });
export const caught = query({ handler: () => {
  const all: unknown[] = [];
  try { for (;;) all.push(new Uint8Array(1 << 20)); } catch { return all.length > 0; }
}});
export const recurse = query({ handler: () => { const down = (): number => 1 + down(); return down(); } });
export const large = query({ handler: () => 'x'.repeat(2000) });
export const forever = query({ handler: () => new Promise(() => undefined) });
export const chatty = query({ handler: async (ctx) => { for (let i = 0; i < 30; i++) await ctx.db.get('t:1' as any); } });
export const logs = query({ handler: () => { for (let i = 0; i < 1000; i++) console.log('x'.repeat(100)); } });
export const fine = query({ input: { n: z.number() }, handler: (ctx, { n }) => n });
export const loggedLoop = query({ handler: () => { console.log('before'); for (;;) {} } });
";

fn limits() -> Limits {
    Limits {
        cpu_max: Duration::from_millis(150),
        memory_bytes_max: 16 << 20,
        result_bytes_max: 1000,
        host_calls_max: 20,
        log_bytes_max: 1000,
        ..Limits::default()
    }
}

#[tokio::test]
async fn each_limit_has_its_error() {
    let folder = Folder::new(Zod::Three, &[("functions/greedy.ts", GREEDY)]);
    let (runtime, host) = (folder.runtime_with(limits()), Arc::new(Memory::default()));
    for (name, code, part) in [
        ("loop", "LIMIT_EXCEEDED", "processor time"),
        ("stubborn", "LIMIT_EXCEEDED", "processor time"),
        ("microtasks", "LIMIT_EXCEEDED", "processor time"),
        ("regex", "LIMIT_EXCEEDED", "processor time"),
        ("allocate", "LIMIT_EXCEEDED", "16 MiB of memory"),
        ("text", "LIMIT_EXCEEDED", "16 MiB of memory"),
        ("recurse", "INTERNAL", "greedy.recurse failed"),
        ("large", "LIMIT_EXCEEDED", "2002 bytes, more than 1000"),
        ("forever", "TIMEOUT", "never settles"),
        ("chatty", "LIMIT_EXCEEDED", "more than 20 ctx.db calls"),
    ] {
        let error =
            query(&runtime, &host, &format!("greedy.{name}"), json!({})).await.expect_err(name);
        assert_eq!(error.code, code, "{name}: {error} {:?}", error.detail);
        assert!(error.message.contains(part), "{name}: {error}");
        // The worker is none the worse for it.
        assert_eq!(
            query(&runtime, &host, "greedy.fine", json!({ "n": 1 })).await.expect("a value"),
            json!(1),
            "{name}"
        );
    }
    assert_eq!(
        query(&runtime, &host, "greedy.caught", json!({})).await.expect("a value"),
        json!(true)
    );
}

#[tokio::test]
async fn logs_are_bounded_and_survive_a_stopped_call() {
    let folder = Folder::new(Zod::Three, &[("functions/greedy.ts", GREEDY)]);
    let (runtime, host) = (folder.runtime_with(limits()), Arc::new(Memory::default()));
    query(&runtime, &host, "greedy.logs", json!({})).await.expect("a value");
    let lines = host.logged();
    assert_eq!(lines.len(), 10, "{lines:?}");
    assert!(lines[9].contains("left out"), "{lines:?}");

    let host = Arc::new(Memory::default());
    query(&runtime, &host, "greedy.loggedLoop", json!({})).await.expect_err("it loops");
    assert_eq!(host.logged(), ["info: before"]);
}

/// While some calls loop and others use up their memory, the rest answer as ever.
#[tokio::test]
async fn neighbours_of_greedy_calls_are_not_harmed() {
    let folder = Folder::new(Zod::Three, &[("functions/greedy.ts", GREEDY)]);
    let runtime =
        Arc::new(folder.runtime_with(Limits { cpu_max: Duration::from_millis(400), ..limits() }));
    let greedy = ["loop", "allocate", "stubborn"].map(|name| {
        let runtime = runtime.clone();
        let call = call(CallKind::Query, &format!("greedy.{name}"), json!({}));
        tokio::spawn(async move { runtime.call(call, Arc::new(Memory::default())).await })
    });
    tokio::task::yield_now().await;
    let host = Arc::new(Memory::default());
    for n in 0..30 {
        assert_eq!(
            query(&runtime, &host, "greedy.fine", json!({ "n": n })).await.expect("a value"),
            json!(n)
        );
    }
    for call in greedy {
        assert_eq!(call.await.expect("no panic").expect_err("greedy").code, "LIMIT_EXCEEDED");
    }
}

/// A host that does not answer.
struct Silent;

impl convoy_functions::Host for Silent {
    fn call<'a>(&'a self, _: &'a str, _: String) -> convoy_functions::HostFuture<'a> {
        Box::pin(std::future::pending())
    }
}

#[tokio::test]
async fn a_call_ends_in_time_also_when_the_host_does_not_answer() {
    let folder = Folder::new(Zod::Three, &[("functions/greedy.ts", GREEDY)]);
    let runtime = folder.runtime_with(Limits { wall_max: Duration::from_millis(200), ..limits() });
    let error = runtime
        .call(call(CallKind::Query, "greedy.chatty", json!({})), Arc::new(Silent))
        .await
        .expect_err("late");
    assert_eq!(error.code, "TIMEOUT", "{error}");
}

const NATIVE: &str = "
    import { query } from '../_generated/server';
    export const native = query({
      handler: () => {
        console.log('begun');
        return 'a'.repeat(180000).includes('a'.repeat(90000) + 'b');
      },
    });
    export const fine = query({ handler: () => 1 });
";

/// A native loop asks nobody whether to go on: its thread is lost until it ends, but not the call, and not the worker.
#[tokio::test]
async fn a_call_that_can_not_be_stopped_is_left_behind() {
    let folder = Folder::new(Zod::Three, &[("functions/n.ts", NATIVE)]);
    let limits = Limits { wall_max: Duration::from_millis(500), ..limits() };
    let (runtime, host) = (Arc::new(folder.runtime_with(limits)), Arc::new(Memory::default()));
    let stuck = (0..4).map(|_| {
        let (runtime, host) = (runtime.clone(), host.clone());
        tokio::spawn(async move { query(&runtime, &host, "n.native", json!({})).await })
    });
    for call in stuck.collect::<Vec<_>>() {
        assert_eq!(call.await.expect("no panic").expect_err("late").code, "TIMEOUT");
    }
    // All four workers are still at it.
    assert_eq!(query(&runtime, &host, "n.fine", json!({})).await.expect("a value"), json!(1));
}

/// Each keeps a worker, until there are too many of them; who waits for one hears that none was free.
#[tokio::test]
async fn workers_whose_callers_are_gone_are_replaced_up_to_a_bound() {
    let folder = Folder::new(Zod::Three, &[("functions/n.ts", NATIVE)]);
    let wall_max = Duration::from_secs(3);
    let limits = Limits { workers: 1, given_up_max: 1, wall_max, ..limits() };
    let project = Arc::new(folder.load().expect("a project"));
    let (runtime, host) = (Runtime::new(project, limits), Arc::new(Memory::default()));
    let leave_one = async |nth: usize| {
        let has_begun = async {
            while host.logged().len() < nth {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            ended = query(&runtime, &host, "n.native", json!({})) => panic!("{ended:?}"),
            () = has_begun => {}
        }
    };
    leave_one(1).await;
    assert_eq!(query(&runtime, &host, "n.fine", json!({})).await.expect("a value"), json!(1));
    leave_one(2).await;
    let error = query(&runtime, &host, "n.fine", json!({})).await.expect_err("no worker is left");
    assert_eq!(error.code, "UNAVAILABLE", "{error}");
}

/// It says that it is too much, and not that something was forgotten.
#[tokio::test]
async fn an_answer_that_the_heap_does_not_hold_is_one_too_large() {
    let all = "
        import { query } from '../_generated/server';
        export const all = query({ handler: async (ctx) => (await ctx.db.query('t').collect()).length });
    ";
    let schema = "
        import { defineSchema, defineTable } from 'convoy';
        export default defineSchema({ t: defineTable({}) });
    ";
    let folder = Folder::new(Zod::Three, &[("functions/all.ts", all), ("schema.ts", schema)]);
    let (runtime, host) = (folder.runtime_with(limits()), Arc::new(Memory::default()));
    let row = |n, text| json!({ "_id": format!("t:{n}"), "_creationTime": 1, "text": text });
    // One value alone, and too many small ones.
    let large = vec![row(1, "x".repeat(30 << 20))];
    let many = (0..200_000).map(|n| row(n, String::new())).collect();
    for rows in [large, many] {
        host.tables.lock().expect("not poisoned").insert("t".to_owned(), rows);
        let error = query(&runtime, &host, "all.all", json!({})).await.expect_err("too large");
        assert_eq!(error.code, "LIMIT_EXCEEDED", "{error}");
    }
}

#[tokio::test]
async fn a_call_whose_caller_is_gone_is_stopped() {
    let folder = Folder::new(Zod::Three, &[("functions/greedy.ts", GREEDY)]);
    let runtime = folder.runtime_with(Limits { cpu_max: Duration::from_secs(60), ..limits() });
    let host = Arc::new(Memory::default());
    for _ in 0..8 {
        let looping = query(&runtime, &host, "greedy.loop", json!({}));
        assert!(tokio::time::timeout(Duration::from_millis(50), looping).await.is_err());
    }
    // All four workers would still loop.
    assert_eq!(
        query(&runtime, &host, "greedy.fine", json!({ "n": 1 })).await.expect("a value"),
        json!(1)
    );
    mutation(&runtime, &host, "greedy.fine", json!({})).await.expect_err("it is a query");
}

#[tokio::test]
async fn a_full_queue_refuses_at_once() {
    let folder = Folder::new(Zod::Three, &[("functions/greedy.ts", GREEDY)]);
    let runtime = folder.runtime_with(Limits { queue_len_max: 0, ..limits() });
    let error = query(&runtime, &Arc::default(), "greedy.fine", json!({ "n": 1 }))
        .await
        .expect_err("no place");
    assert_eq!(error.code, "UNAVAILABLE");
}
