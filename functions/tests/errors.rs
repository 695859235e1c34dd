//! What a client hears of an error, and what the log does.

use crate::support::{Folder, Memory, Zod, call, mutation, query, run};
use convoy_functions::{CallKind, Caller, HostError};
use serde_json::{Value, json};
use std::sync::Arc;

const FAILING: &str = "import { query, mutation, internalQuery } from '../_generated/server';
import { convoyError, ConvoyError } from 'convoy';
import { z } from 'zod';

interface Unused { a: string; b: number }

export const thrown = query({
  handler: async (ctx) => {
    const secret: string = 'swordfish';
    await ctx.db.get('t:1' as any);
    deeper(secret);
  },
});

function deeper(secret: string): never {
  throw new TypeError(`the secret ${secret}`);
}

export const coded = query({ handler: () => { throw convoyError('FORBIDDEN', 'only members', { room: 7 }); } });
export const own = query({ handler: () => { throw new ConvoyError('OUT_OF_STOCK', 'none left'); } });
export const odd = query({ handler: () => { throw { a: 1 }; } });
export const args = query({
  input: { name: z.string().min(2), count: z.number().optional(), size: z.enum(['s', 'm']).default('m') },
  handler: (ctx, input) => input,
});
export const object = query({ args: z.object({ name: z.string() }), handler: (ctx, { name }) => name });
export const loose = query({ args: z.object({ name: z.string() }).passthrough(), handler: (ctx, input) => input });
export const nothing = query(async () => undefined);
export const returns = query({ returns: z.object({ a: z.number() }), handler: () => ({ a: 'x' }) as any });
export const bigint = query({ handler: () => ({ total: 1n }) });
export const hidden = internalQuery({ handler: () => 1 });
export const writes = query({ handler: async (ctx) => { await (ctx.db as any).insert('t', {}); } });
export const whole = mutation({ handler: async (ctx) => { (ctx.db as any).delete('t:1'); return 1; } });
export const early = mutation({ handler: async (ctx) => {
  (ctx.db as any).delete('t:1');
  try { await ctx.db.get('t:2' as any); } catch {}
  return 1;
}});
export const refused = mutation({ handler: async (ctx) => { (ctx.db as any).insert('t', { wrong: 1 }); return 1; } });
export const late = mutation({ handler: async (ctx) => {
  const deleting = (ctx.db as any).delete('t:1');
  try { await ctx.db.get('t:2' as any); } catch {}
  try { await deleting; return 'deleted'; }
  catch (error) { return (error as ConvoyError).code; }
}});
export const catches = query({ handler: async (ctx) => {
  try { await ctx.db.get('t:1' as any); return 'none'; }
  catch (error) { return error instanceof ConvoyError ? [error.code, error.message, error.data] : String(error); }
}});
";

async fn error_of(name: &str, args: Value) -> convoy_functions::CallError {
    let folder =
        Folder::new(Zod::Four, &[("functions/failing.ts", FAILING), ("schema.ts", SCHEMA)]);
    let (runtime, host) = (folder.runtime(), Arc::new(Memory::default()));
    query(&runtime, &host, name, args).await.expect_err("an error")
}

const SCHEMA: &str = "
import { defineSchema, defineTable } from 'convoy';
export default defineSchema({ t: defineTable({}) });
";

#[tokio::test]
async fn an_unexpected_throw_tells_the_client_nothing_and_the_log_all() {
    let error = error_of("failing.thrown", json!({})).await;
    assert_eq!(
        (error.code.as_str(), error.message.as_str()),
        ("INTERNAL", "failing.thrown failed; the server's log says why")
    );
    assert_eq!(error.data, None);
    let detail = error.detail.expect("a detail");
    assert!(detail.contains("TypeError: the secret swordfish"), "{detail}");
    // The lines of the source: types and blank lines are gone in what runs.
    assert!(detail.contains("deeper (functions/failing.ts:16:"), "{detail}");
    assert!(detail.contains("functions/failing.ts:11:"), "{detail}");
    assert!(!detail.contains("convoy:engine"), "{detail}");
}

#[tokio::test]
async fn own_errors_keep_code_message_and_data() {
    let error = error_of("failing.coded", json!({})).await;
    assert_eq!(
        (error.code.as_str(), error.message.as_str(), error.data.as_deref()),
        ("FORBIDDEN", "only members", Some("{\"room\":7}"))
    );
    let error = error_of("failing.own", json!({})).await;
    assert_eq!((error.code.as_str(), error.data), ("OUT_OF_STOCK", None));
    let error = error_of("failing.odd", json!({})).await;
    assert_eq!(error.code, "INTERNAL");
    assert!(error.detail.expect("a detail").contains("{\"a\":1}"));
}

#[tokio::test]
async fn arguments_are_checked_in_either_zod() {
    for zod in [Zod::Three, Zod::Four] {
        let folder = Folder::new(zod, &[("functions/failing.ts", FAILING), ("schema.ts", SCHEMA)]);
        let (runtime, host) = (folder.runtime(), Arc::new(Memory::default()));
        let good =
            query(&runtime, &host, "failing.args", json!({ "name": "ab" })).await.expect("a value");
        assert_eq!(good, json!({ "name": "ab", "size": "m" }), "{zod:?}");
        for (name, args, parts) in [
            ("args", json!({ "name": "a" }), vec!["name: "]),
            ("args", json!({ "size": "xl" }), vec!["name: ", "size: "]),
            (
                "args",
                json!({ "name": "ab", "cuont": 1 }),
                vec!["cuont: there is no such argument; did you mean count?"],
            ),
            ("args", json!([1]), vec!["the arguments have to be an object"]),
            (
                "object",
                json!({ "nam": "a" }),
                vec!["nam: there is no such argument; did you mean name?", "name: "],
            ),
            ("nothing", json!({ "a": 1 }), vec!["a: there is no such argument; there are none"]),
        ] {
            let error = query(&runtime, &host, &format!("failing.{name}"), args)
                .await
                .expect_err("wrong arguments");
            assert_eq!(error.code, "INVALID_ARGS", "{zod:?} {name}: {error}");
            for part in parts {
                assert!(error.message.contains(part), "{zod:?} {name}: {error}");
            }
            assert!(error.data.expect("issues").contains("path"));
        }
        let mut broken = call(CallKind::Query, "failing.args", json!({}));
        broken.args = "{".to_owned();
        assert_eq!(run(&runtime, &host, broken).await.expect_err("no JSON").code, "INVALID_ARGS");
        let loose = query(&runtime, &host, "failing.loose", json!({ "name": "a", "more": 1 }))
            .await
            .expect("a value");
        assert_eq!(loose, json!({ "name": "a", "more": 1 }), "{zod:?}");
        assert_eq!(
            query(&runtime, &host, "failing.nothing", json!({})).await.expect("a value"),
            Value::Null
        );
    }
}

#[tokio::test]
async fn results_that_are_not_what_was_said_are_the_functions_fault() {
    let error = error_of("failing.returns", json!({})).await;
    assert_eq!(error.code, "INTERNAL");
    assert!(error.detail.expect("a detail").contains("a: "));
    let error = error_of("failing.bigint", json!({})).await;
    assert!(error.detail.expect("a detail").contains("total is a bigint"));
}

#[tokio::test]
async fn unknown_and_hidden_functions_are_not_found() {
    let folder =
        Folder::new(Zod::Four, &[("functions/failing.ts", FAILING), ("schema.ts", SCHEMA)]);
    let (runtime, host) = (folder.runtime(), Arc::new(Memory::default()));
    let error = query(&runtime, &host, "failing.coted", json!({})).await.expect_err("unknown");
    assert_eq!(
        (error.code.as_str(), error.message.as_str()),
        ("NOT_FOUND", "there is no function failing.coted: did you mean failing.coded?")
    );
    let error = query(&runtime, &host, "failing.hiden", json!({})).await.expect_err("unknown");
    assert!(!error.message.contains("hidden"), "{error}");
    let error = query(&runtime, &host, "failing.hidden", json!({})).await.expect_err("hidden");
    assert_eq!(error.code, "NOT_FOUND");
    let mut internal = call(CallKind::Query, "failing.hidden", json!({}));
    internal.caller = Caller::Internal;
    assert_eq!(run(&runtime, &host, internal).await.expect("a value"), json!(1));
    let error = mutation(&runtime, &host, "failing.coded", json!({})).await.expect_err("a query");
    assert!(error.message.contains("is a query, not a mutation"), "{error}");
}

#[tokio::test]
async fn a_query_can_not_write() {
    let folder =
        Folder::new(Zod::Four, &[("functions/failing.ts", FAILING), ("schema.ts", SCHEMA)]);
    let (runtime, host) = (folder.runtime(), Arc::new(Memory::default()));
    let error = query(&runtime, &host, "failing.writes", json!({})).await.expect_err("a write");
    assert_eq!(error.code, "FORBIDDEN");
    assert!(error.message.contains("ctx.db.insert in a query: queries only read"), "{error}");
    assert!(host.asked().is_empty(), "the host is not even asked");
}

#[tokio::test]
async fn the_hosts_errors_can_be_caught_and_reach_the_client_otherwise() {
    let folder =
        Folder::new(Zod::Four, &[("functions/failing.ts", FAILING), ("schema.ts", SCHEMA)]);
    let (runtime, host) = (folder.runtime(), Arc::new(Memory::default()));
    let conflict = HostError {
        code: "CONFLICT".into(),
        message: "try again".into(),
        data: Some("{\"n\":1}".into()),
    };
    *host.fails.lock().expect("not poisoned") = Some(conflict);
    let caught = query(&runtime, &host, "failing.catches", json!({})).await.expect("a value");
    assert_eq!(caught, json!(["CONFLICT", "try again", { "n": 1 }]));
    let error = query(&runtime, &host, "failing.thrown", json!({})).await.expect_err("not caught");
    assert_eq!((error.code.as_str(), error.data.as_deref()), ("CONFLICT", Some("{\"n\":1}")));
    // Nobody awaited it: all the same nothing may be taken for done.
    let error =
        mutation(&runtime, &host, "failing.whole", json!({})).await.expect_err("not awaited");
    assert_eq!(error.code, "CONFLICT");
    // However soon its answer came.
    let error = mutation(&runtime, &host, "failing.early", json!({})).await.expect_err("early");
    assert_eq!(error.code, "CONFLICT");
    assert!(error.detail.expect("words").contains("nobody awaited"));
    let value = mutation(&runtime, &host, "failing.late", json!({})).await.expect("awaited late");
    assert_eq!(value, json!("CONFLICT"));
    // And where the host was never asked.
    *host.fails.lock().expect("not poisoned") = None;
    let error = mutation(&runtime, &host, "failing.refused", json!({})).await.expect_err("refused");
    assert_eq!(error.code, "INVALID_ARGS");
}
