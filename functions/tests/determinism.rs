//! The same call gives the same, whenever and wherever it runs.

use crate::support::{Folder, Memory, Zod, call, query, run};
use convoy_functions::CallKind;
use serde_json::json;
use std::sync::Arc;

const CHANCE: &str = "
import { query } from '../_generated/server';
const atLoad = [Math.random(), Date.now()];
export const all = query({ handler: async (ctx) => {
  const before = Date.now();
  await ctx.db.get('t:1' as any);
  return {
    random: [Math.random(), Math.random(), Math.random()],
    uuid: crypto.randomUUID(),
    bytes: Array.from(crypto.getRandomValues(new Uint8Array(8))),
    now: [before, Date.now(), new Date().getTime(), +new Date()],
    atLoad,
  };
}});
";

#[tokio::test]
async fn chance_and_time_are_the_calls() {
    let folder = Folder::new(Zod::Three, &[("functions/chance.ts", CHANCE)]);
    let (runtime, host) = (folder.runtime(), Arc::new(Memory::default()));
    let first = query(&runtime, &host, "chance.all", json!({})).await.expect("a value");
    let again = query(&runtime, &host, "chance.all", json!({})).await.expect("a value");
    assert_eq!(first, again);
    assert_eq!(
        first["now"],
        json!([
            1_700_000_000_000_i64,
            1_700_000_000_000_i64,
            1_700_000_000_000_i64,
            1_700_000_000_000_i64
        ])
    );
    let random: Vec<f64> =
        first["random"].as_array().expect("numbers").iter().filter_map(|n| n.as_f64()).collect();
    assert!(
        random.iter().all(|n| (0.0..1.0).contains(n))
            && random[0] != random[1]
            && random[1] != random[2]
    );
    let uuid = first["uuid"].as_str().expect("text");
    assert!(uuid.len() == 36 && uuid.as_bytes()[14] == b'4', "{uuid}");

    let mut other = call(CallKind::Query, "chance.all", json!({}));
    other.seed = 8;
    other.now_ms += 1.0;
    let other = run(&runtime, &host, other).await.expect("a value");
    assert_ne!(first["random"], other["random"]);
    assert_ne!(first["uuid"], other["uuid"]);
    assert_eq!(other["now"][0], 1_700_000_000_001_i64);
    assert_eq!(first["atLoad"], other["atLoad"]);
}

const WORLD: &str = r#"
import { query } from '../_generated/server';
const tries = (run: () => unknown) => { try { return run(); } catch (error) { return String(error); } };
export const absent = query({ handler: () => ({
  timeout: tries(() => setTimeout(() => undefined, 1)),
  fetch: tries(() => (globalThis as any).fetch('http://x')),
  performance: typeof (globalThis as any).performance,
  process: typeof (globalThis as any).process,
  natives: typeof (globalThis as any).__convoyNatives,
  code: [tries(() => eval('1')), tries(() => new Function('return 1')()), tries(() => (async () => 1).constructor('return 1')),
    (() => 1) instanceof Function],
}) });
export const dates = query({ handler: () => ({
  local: new Date(2024, 0, 31, 12).toISOString(),
  parsed: new Date('2024-06-01T00:00:00').toISOString(),
  zoned: new Date('2024-06-01T00:00:00+02:00').toISOString(),
  date: new Date('2024-06-01').toISOString(),
  copy: new Date(new Date(5)).getTime(),
  hours: new Date(0).getHours(),
  offset: new Date(0).getTimezoneOffset(),
  text: new Date(0).toString(),
  call: typeof Date(),
  is: new Date() instanceof Date,
  invalid: String(new Date(NaN)),
  sub: new (class Day extends Date { get day() { return this.getDate(); } })(0).day,
}) });
export const web = query({ handler: () => {
  const url = new URL('../b?q=1#h', 'https://User@Example.com:443/a/c/d');
  url.searchParams.append('z', 'ä b');
  const cyclic: any = { a: [1, new Date(0)], m: new Map([[1, new Set([2])]]) };
  cyclic.self = cyclic;
  const copy = structuredClone(cyclic);
  return {
    href: url.href, host: url.host, origin: url.origin, bad: URL.canParse('nonsense'), mail: new URL('mailto:a@b.c').pathname,
    dots: new URL('http://x/a/./b/../c').pathname, ipv6: new URL('http://[::1]:8080/').host,
    params: [...new URLSearchParams('a=1&b=%C3%A4+c&a=2')],
    utf8: Array.from(new TextEncoder().encode('ä€😀')),
    text: new TextDecoder().decode(new Uint8Array([0xc3, 0xa4, 0xe2, 0x82, 0xac])),
    base64: [btoa('hello'), atob('aGVsbG8=')],
    clone: [copy !== cyclic, copy.self === copy, copy.a[1] instanceof Date, copy.m.get(1).has(2)],
  };
}});
export const logs = query({ handler: () => {
  console.log('a', 1, { b: [true, null], c: 'd' }, new Date(0));
  console.warn(new Map([['k', undefined]]));
  const cyclic: any = {}; cyclic.self = cyclic;
  console.error(cyclic);
}});
"#;

#[tokio::test]
async fn what_is_not_there_says_why() {
    let folder = Folder::new(Zod::Three, &[("functions/world.ts", WORLD)]);
    let (runtime, host) = (folder.runtime(), Arc::new(Memory::default()));
    let absent = query(&runtime, &host, "world.absent", json!({})).await.expect("a value");
    assert!(
        absent["timeout"]
            .as_str()
            .expect("text")
            .contains("setTimeout is not there in queries and mutations")
    );
    assert!(absent["fetch"].as_str().expect("text").contains("they have no network"));
    for way in 0..3 {
        assert_eq!(absent["code"][way], "EvalError: code can't be made of text in functions");
    }
    assert_eq!(absent["code"][3], true);
    assert_eq!(
        (&absent["performance"], &absent["process"], &absent["natives"]),
        (&json!("undefined"), &json!("undefined"), &json!("undefined"))
    );
}

#[tokio::test]
async fn dates_are_in_utc() {
    let folder = Folder::new(Zod::Three, &[("functions/world.ts", WORLD)]);
    let (runtime, host) = (folder.runtime(), Arc::new(Memory::default()));
    let dates = query(&runtime, &host, "world.dates", json!({})).await.expect("a value");
    let expected = json!({
        "local": "2024-01-31T12:00:00.000Z", "parsed": "2024-06-01T00:00:00.000Z", "zoned": "2024-05-31T22:00:00.000Z",
        "date": "2024-06-01T00:00:00.000Z", "copy": 5, "hours": 0, "offset": 0,
        "text": "Thu Jan 01 1970 00:00:00 GMT+0000 (Coordinated Universal Time)", "call": "string", "is": true,
        "invalid": "Invalid Date", "sub": 1
    });
    assert_eq!(dates, expected);
}

#[tokio::test]
async fn what_libraries_expect_of_the_web_is_there() {
    let folder = Folder::new(Zod::Three, &[("functions/world.ts", WORLD)]);
    let (runtime, host) = (folder.runtime(), Arc::new(Memory::default()));
    let web = query(&runtime, &host, "world.web", json!({})).await.expect("a value");
    let expected = json!({
        "href": "https://User@example.com/a/b?q=1&z=%C3%A4+b#h", "host": "example.com", "origin": "https://example.com",
        "bad": false, "mail": "a@b.c", "dots": "/a/c", "ipv6": "[::1]:8080",
        "params": [["a", "1"], ["b", "ä c"], ["a", "2"]],
        "utf8": [0xc3, 0xa4, 0xe2, 0x82, 0xac, 0xf0, 0x9f, 0x98, 0x80], "text": "ä€",
        "base64": ["aGVsbG8=", "hello"], "clone": [true, true, true, true]
    });
    assert_eq!(web, expected);
}

#[tokio::test]
async fn console_goes_to_the_host() {
    let folder = Folder::new(Zod::Three, &[("functions/world.ts", WORLD)]);
    let (runtime, host) = (folder.runtime(), Arc::new(Memory::default()));
    query(&runtime, &host, "world.logs", json!({})).await.expect("a value");
    assert_eq!(
        host.logged(),
        [
            "info: a 1 { b: [true, null], c: \"d\" } 1970-01-01T00:00:00.000Z",
            "warn: Map { \"k\" => undefined }",
            "error: { self: [circular] }",
        ]
    );
}
