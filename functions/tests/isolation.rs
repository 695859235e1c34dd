//! Nothing of a call is left for the next.

use crate::support::{Folder, Memory, Zod, query};
use serde_json::{Value, json};
use std::sync::Arc;

const LEAKY: &str = "
import { query } from '../_generated/server';
import { z } from 'zod';
import { shared } from '../shared';
let calls = 0;
export const look = query({ handler: () => {
  const seen = {
    calls,
    global: typeof globalThis.left,
    prototype: typeof ({} as any).left,
    array: typeof ([] as any).left,
    json: JSON.parse('7'),
    module: shared.length,
    zod: typeof (z as any).string().left,
    date: typeof (Date as any).left,
    math: typeof (Math as any).left,
    symbol: (globalThis as any)[Symbol.for('left')] ?? null,
  };
  calls += 1;
  (globalThis as any).left = 1;
  (globalThis as any)[Symbol.for('left')] = 1;
  (Object.prototype as any).left = 1;
  (Array.prototype as any).left = 1;
  (Date as any).left = 1;
  (Math as any).left = 1;
  (Object.getPrototypeOf(z.string()) as any).left = 1;
  JSON.parse = (() => 'patched') as any;
  shared.push('left');
  return seen;
}});
";

#[tokio::test]
async fn a_call_finds_nothing_of_an_earlier_one() {
    for zod in [Zod::Three, Zod::Four] {
        let files =
            [("functions/leaky.ts", LEAKY), ("shared.ts", "export const shared: string[] = [];")];
        let folder = Folder::new(zod, &files);
        let (runtime, host) = (folder.runtime(), Arc::new(Memory::default()));
        let untouched = json!({
            "calls": 0, "global": "undefined", "prototype": "undefined", "array": "undefined", "json": 7, "module": 0,
            "zod": "undefined", "date": "undefined", "math": "undefined", "symbol": null
        });
        for _ in 0..20 {
            assert_eq!(
                query(&runtime, &host, "leaky.look", json!({})).await.expect("a value"),
                untouched,
                "{zod:?}"
            );
        }
    }
}

/// What a call does to built-ins harms itself alone.
#[tokio::test]
async fn a_call_that_breaks_the_language_harms_no_other() {
    let vandal = "
        import { query } from '../_generated/server';
        export const wreck = query({ handler: () => {
          JSON.stringify = (() => { throw new Error('gone'); }) as any;
          Promise.prototype.then = (() => { throw new Error('gone'); }) as any;
          (globalThis as any).Map = undefined;
          return 1;
        }});
        export const fine = query({ handler: () => new Map([[1, JSON.stringify({ a: 1 })]]).get(1) });
    ";
    let folder = Folder::new(Zod::Four, &[("functions/vandal.ts", vandal)]);
    let (runtime, host) = (folder.runtime(), Arc::new(Memory::default()));
    for _ in 0..10 {
        query(&runtime, &host, "vandal.wreck", json!({}))
            .await
            .expect_err("it broke its own context");
        assert_eq!(
            query(&runtime, &host, "vandal.fine", json!({})).await.expect("a value"),
            json!("{\"a\":1}")
        );
    }
}

/// Many at a time, each with its own state, on few workers.
#[tokio::test]
async fn concurrent_calls_do_not_mix() {
    let counter = "
        import { query } from '../_generated/server';
        import { z } from 'zod';
        let mine: number | undefined;
        export const hold = query({ input: { n: z.number() }, handler: async (ctx, { n }) => {
          mine = n;
          for (let i = 0; i < 5; i++) await ctx.db.get(`t:${n}` as any);
          return mine;
        }});
    ";
    let folder = Folder::new(Zod::Three, &[("functions/counter.ts", counter)]);
    let (runtime, host) = (Arc::new(folder.runtime()), Arc::new(Memory::default()));
    let calls = (0..200).map(|n| {
        let (runtime, host) = (runtime.clone(), host.clone());
        tokio::spawn(async move {
            query(&runtime, &host, "counter.hold", json!({ "n": n })).await.map(|value| (n, value))
        })
    });
    for call in calls.collect::<Vec<_>>() {
        let (n, value): (i32, Value) = call.await.expect("no panic").expect("a value");
        assert_eq!(value, json!(n));
    }
    assert_eq!(host.asked().len(), 1000);
}
