//! A context that calls have had is as one that none has had: whatever a call does, the next finds nothing of it.

use crate::support::{Folder, Memory, Zod, call, query};
use convoy_functions::{CallKind, Limits, ModuleCache, Project, Runtime};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// What modules hold when a call begins: one of each kind that a call can change.
const STATE: &str = "
export const state = {
  map: new Map<any, any>([[1, 'one'], ['two', { deep: [1, 2] }]]),
  set: new Set<any>([1, 2, 3]),
  weak: new WeakMap<any, any>(),
  weakSet: new WeakSet<any>(),
  list: Array.from({ length: 3000 }, (_, i) => i) as any[],
  holes: [1, , 3] as any[],
  large: new Uint8Array(70_000).fill(7),
  buffer: new ArrayBuffer(600, { maxByteLength: 9000 }) as any,
  small: new ArrayBuffer(16, { maxByteLength: 64 }) as any,
  view: new Float64Array([1.5, -0, NaN]),
  sticky: /(\\p{Lu})(?<rest>[^]*?)\\1/guy,
  date: new Date(86400000),
  big: 12345678901234567890n ** 40n,
  rope: '',
  symbol: Symbol('mine'),
  registered: Symbol.for('registered'),
  error: new Error('made once'),
  frozen: Object.freeze({ a: 1 }),
  dictionary: Object.fromEntries(Array.from({ length: 400 }, (_, i) => [`key${i}`, i])) as any,
  proxied: {} as any,
  counter: 0,
  suspended: (function* () { let n = 0; for (;;) n += (yield n) ?? 1; })() as any,
  iterator: new Map([[1, 2], [3, 4], [5, 6]]).entries() as any,
  settle: undefined as any,
  pending: undefined as any,
  asynchronous: (async function* () { yield 1; yield 2; })() as any,
  count: 0,
};
for (let i = 0; i < 500; i++) state.rope = (i % 2 ? state.rope + 'right' : 'left' + state.rope);
state.weak.set(state.list, 'of list');
state.weakSet.add(state.map);
state.pending = new Promise((resolve) => { state.settle = resolve; });
state.pending.then(() => { state.count += 1; });
state.suspended.next();
state.iterator.next();
export class Private { #mine = 1; static made = 0; bump() { return ++this.#mine; } constructor() { Private.made++; } }
export const instance = new Private();
export const tagged = (strings: any) => strings;
export const template = () => (tagged as any)`a${1}b`;
state.proxied = new Proxy({ target: 1 }, { get: (target: any, key) => (state.counter++, target[key]) });
// These are of a module, so that calls that break the language don't break them.
const { ownKeys, getOwnPropertyDescriptor, getPrototypeOf, isExtensible, apply, defineProperty, setPrototypeOf, deleteProperty, preventExtensions } = Reflect;
const Seen = Map;
const text = String;
/** Visits all that can be reached. */
export function reach(roots: any[], visit: (value: any, keys: any[]) => void): void {
  const seen = new Seen<any, number>();
  const waiting = [...roots];
  while (waiting.length > 0) {
    const value = waiting.pop();
    if ((typeof value !== 'object' && typeof value !== 'function') || value === null || seen.has(value)) continue;
    seen.set(value, seen.size);
    const keys = ownKeys(value);
    visit(value, keys);
    for (const key of keys) {
      const property = getOwnPropertyDescriptor(value, key)!;
      waiting.push(property.value, property.get, property.set);
    }
    waiting.push(getPrototypeOf(value));
  }
}
/** Says all there is of what can be reached, each by the order in which it was found. */
export function described(roots: any[]): string {
  const order = new Seen<any, number>();
  const lines: string[] = [];
  const name = (value: any): string => {
    if ((typeof value === 'object' && value !== null) || typeof value === 'function') {
      if (!order.has(value)) order.set(value, order.size);
      return '#' + order.get(value);
    }
    return typeof value + ':' + (Object.is(value, -0) ? '-0' : text(value));
  };
  reach(roots, (value, keys) => {
    let line = name(value) + (isExtensible(value) ? '' : ' fixed') + ' of ' + name(getPrototypeOf(value));
    for (const key of keys.length > 500 ? [...keys.slice(0, 20), ...keys.slice(-20)] : keys) {
      const { value: of, get, set, writable, enumerable, configurable } = getOwnPropertyDescriptor(value, key)!;
      line += ' ' + text(key) + '=' + (get || set ? name(get) + '/' + name(set) : name(of)) + Number(writable) + Number(enumerable) + Number(configurable);
    }
    lines.push(line);
  });
  return lines.join('\\n');
}
";

/// Says what its context is like, in all that is known to tell contexts apart.
const CHECK: &str = r#"
import { query } from '../_generated/server';
import { z } from 'zod';
import * as own from '../state';
const { state, instance, Private, template, described } = own;
const first = template();
let calls = 0;
const depth = () => { let n = 0; const down = () => { n++; down(); }; try { down(); } catch (error) { return `${n} ${error}`; } };
export const look = query({ handler: async (ctx) => {
  const seen: string[] = [];
  seen.push(`calls ${calls++}`);
  seen.push(described([globalThis, z, own, function* () {}, async () => {}, async function* () {}, [][Symbol.iterator](), new Map().keys(), new Set().keys(), ''.matchAll(/a/g), Iterator.from([]).map(String)]));
  seen.push(JSON.stringify([...state.map]), JSON.stringify([...state.set]), String(state.weak.get(state.list)), String(state.weakSet.has(state.map)));
  seen.push(state.list.join(), JSON.stringify(state.holes), state.large.join().length + ' ' + state.large.reduce((x, y) => x + y, 0), String(state.view));
  seen.push(`${state.buffer.byteLength} ${state.buffer.maxByteLength} ${state.buffer.detached} ${new Uint8Array(state.buffer)}`);
  seen.push(`${state.small.byteLength} ${state.small.maxByteLength} ${state.small.detached} ${new Uint8Array(state.small)}`);
  state.buffer.resize(8000);
  seen.push(`${new Uint8Array(state.buffer).reduce((x, y) => x + y, 0)}`);
  seen.push(`${state.sticky.lastIndex} ${JSON.stringify(state.sticky.exec('ÀbÀ'))} ${state.sticky.lastIndex}`);
  seen.push(`${state.date.toISOString()} ${state.big} ${state.rope} ${state.error.stack} ${state.symbol.description}`);
  seen.push(`${Symbol.keyFor(state.registered)} ${Symbol.for('registered') === state.registered} ${Symbol.for('left') === Symbol.for('left')}`);
  seen.push(JSON.stringify(state.frozen), JSON.stringify(state.dictionary), `${state.counter} ${state.proxied.target} ${state.counter}`);
  seen.push(JSON.stringify([state.suspended.next(5), state.suspended.next(), [...state.iterator], await state.asynchronous.next(), await state.asynchronous.next(), await state.asynchronous.next()]));
  state.settle(1);
  await state.pending;
  await null;
  seen.push(`${state.count} ${instance.bump()} ${Private.made} ${new Private().bump()} ${Private.made} ${template() === first} ${template().raw}`);
  seen.push(`${Math.random()} ${Math.random()} ${crypto.randomUUID()} ${Date.now()} ${new Date()} ${new Date(2020, 1, 2, 3).toISOString()}`);
  const lazy = await import('../lazy');
  seen.push(`${lazy.next()} ${lazy.next()} ${(await import('../lazy')).next()}`);
  seen.push(new Error('here').stack!, `${(() => { try { (null as any).x; } catch (error: any) { return error.stack; } })()}`);
  seen.push(['ǆ'.toUpperCase(), 'İ'.toLowerCase(), 'ß'.localeCompare('ss'), 'e\u0301'.normalize('NFC').length, /\p{Script=Greek}/u.test('λ'), /(?<=a)b/i.exec('xAB')?.index, 'aXbX'.replaceAll('X', '$&$`')].join());
  seen.push([0.1 + 0.2, 5e-324, 1.7976931348623157e308, (255.5).toString(36), (1e21).toFixed(2), (0.000001234).toPrecision(3), parseFloat('1e-7'), 123456789.125.toExponential(5)].join());
  seen.push(`${(2n ** 200n).toString(36)} ${BigInt.asIntN(70, -(3n ** 100n))} ${(10n ** 60n) / 7n ** 20n}`);
  seen.push(JSON.stringify(z.object({ a: z.string().min(2), b: z.number().optional() }).safeParse({ a: 'x' })));
  seen.push(JSON.stringify(await ctx.db.get('t:1' as any)), `${structuredClone(new Map([[1, { a: [1] }]])).get(1)!.a}`);
  seen.push(`${[3, 1, 2].toSorted()} ${Object.keys({ b: 1, a: 2, 1: 3 })} ${JSON.stringify({ a: [1, { b: undefined }] })}`);
  seen.push(`${new TextDecoder().decode(new TextEncoder().encode('añ€😀'))} ${new URL('http://a.b/c?d=e#f').searchParams.get('d')}`);
  seen.push(`depth ${depth()}`);
  return seen.join('\n');
}});
"#;

/// Does what harms, by a seed.
const WRECK: &str = r#"
import { query } from '../_generated/server';
import { z } from 'zod';
import * as own from '../state';
const { state, instance, Private, reach } = own as any;
const { ownKeys, deleteProperty, defineProperty, setPrototypeOf, preventExtensions, getOwnPropertyDescriptor } = Reflect;
const g = globalThis as any;
const Real = { Promise, Error, Array, Map, Proxy, Object, ArrayBuffer, Uint8Array, RegExp, BigInt, Symbol, String, Function, JSON };
let word = 1;
const random = (below: number) => { word = (word * 1103515245 + 12345) % 2147483648; return (word >>> 8) % below; };
const quietly = (act: () => any) => { try { return act(); } catch { return undefined; } };
const everything = () => { const all: any[] = []; reach([g, z, own], (value: any) => all.push(value)); return all; };
const attacks: (() => any)[] = [
  () => { for (const value of everything()) if (random(3) === 0) for (const key of ownKeys(value)) quietly(() => deleteProperty(value, key)); },
  () => { for (const value of everything()) for (const key of ownKeys(value)) if (random(2)) quietly(() => defineProperty(value, key, { value: key, writable: true, configurable: true })); },
  () => { for (const value of everything()) for (const key of ownKeys(value)) if (random(4) === 0) quietly(() => defineProperty(value, key, { get() { throw new Real.Error('got'); }, configurable: true })); },
  () => { for (const value of everything()) if (random(5) === 0) quietly(() => setPrototypeOf(value, null)); },
  () => { for (const value of everything()) if (random(3) === 0) quietly(() => preventExtensions(value)); },
  () => { for (const value of everything()) quietly(() => { value.left = { value, at: random(100) }; value[Symbol.for('left' + random(50))] = 1; }); },
  () => { for (const key of ownKeys(g)) quietly(() => { delete g[key]; }); },
  () => quietly(() => setPrototypeOf(g, new Real.Proxy({}, { get() { throw 1; }, has() { return true; }, set() { return false; } }))),
  () => quietly(() => setPrototypeOf(Real.Object.prototype, new Real.Proxy({}, {}))),
  () => { Real.Promise.prototype.then = function () { throw new Real.Error('then'); } as any; },
  () => { defineProperty(Real.Object.prototype, 'then', { get() { random(2); return undefined; }, configurable: true }); },
  () => { (Real.Array.prototype as any)[Symbol.iterator] = function* () { yield 1; throw 2; }; },
  () => { (Real.Array as any).from = () => new Real.Proxy([1, 2, 3], { get(_, key) { console.log('in'); if (key === '1') throw 3; return key === 'length' ? 3 : 65; } }); new TextDecoder().decode(new Real.Uint8Array(3)); },
  () => { let deep = 0; (Real.Array as any).from = () => { const list: any[] = [1]; defineProperty(list, '0', { get: () => (deep++ < 3000 ? new TextDecoder().decode(new Real.Uint8Array(1)).length : 65) }); return list; }; new TextDecoder().decode(new Real.Uint8Array(3)); },
  () => { (Real.Error as any).prepareStackTrace = (error: any, sites: any[]) => { g.sites = sites.map((site) => site.getFunction()); return sites; }; new Real.Error('x').stack; quietly(() => new URL('nothing')); for (const site of g.sites ?? []) quietly(() => site?.(1, 2, 3)); },
  () => { (Real.Error as any).prepareStackTrace = () => { throw new Real.Error('again'); }; quietly(() => new Real.Error('x').stack); },
  () => { (Real.Error as any).stackTraceLimit = random(2) ? 0 : 1e9; },
  () => { const down = (): any => { try { return down(); } finally { quietly(down2); } }; const down2 = (): any => [1].map(() => JSON.stringify({ toJSON: down2 })); quietly(down2); },
  () => { state.map.clear(); state.set.clear(); state.weak.delete(state.list); state.weakSet.delete(state.map); for (let i = 0; i < 2000; i++) { const key = {}; state.weak.set(key, { key }); state.map.set(key, i); } },
  () => { state.list.length = 0; for (let i = 0; i < 20_000; i++) state.list.push({ i }); state.holes[9999] = 1; },
  () => { state.large.fill(random(255)); state.view.fill(3); quietly(() => state.large.buffer.transfer(random(100_000))); },
  () => { for (let i = 0; i < 20; i++) quietly(() => { state.buffer.resize(random(9000)); new Real.Uint8Array(state.buffer).fill(255); state.small.resize(random(64)); }); g.moved = state.buffer.transfer(random(9000)); quietly(() => state.small.transferToFixedLength(9)); },
  () => { for (let i = 0; i < 50; i++) { const moved = new (Real.ArrayBuffer as any)(random(3000), { maxByteLength: 3000 }); const views = [new Real.Uint8Array(moved), new Float64Array(moved, 0), new DataView(moved)]; quietly(() => moved.resize(random(3000))); quietly(() => (views[0] as any).fill(9)); quietly(() => moved.transfer(random(3000))); g.views = views; } },
  () => { state.sticky.lastIndex = 77; quietly(() => state.sticky.compile('x')); for (let i = 0; i < 50; i++) quietly(() => new Real.RegExp('(a+' + i + ')*\\p{L}(?<n' + i + '>x|y)', 'giu').exec('aaaa' + i)); },
  () => quietly(() => /^(a|aa)+$/.test('a'.repeat(24) + 'b')),
  () => { state.date.setTime(1); state.rope = state.rope + state.rope; state.rope.charCodeAt(5); state.dictionary.key3 = 9; for (let i = 0; i < 400; i += 2) delete state.dictionary['key' + i]; },
  () => { let n = 3n; for (let i = 0; i < 12; i++) n = n * n + 1n; g.n = n.toString(7).length; quietly(() => 2n ** 100000000n); },
  () => { for (let i = 0; i < 300; i++) Real.Symbol.for('many' + i); for (let i = 0; i < 3000; i++) g['atom' + random(1e6)] = i; },
  () => { quietly(() => state.suspended.return()); quietly(() => state.iterator.next()); quietly(() => state.asynchronous.throw(new Real.Error('thrown'))); },
  () => { g.generators = Real.Array.from({ length: 200 }, (_, i) => { const made = (function* () { try { yield i; } finally { state.count += 1; yield made; } })(); made.next(); return made; }); },
  () => { state.settle(state); state.pending.then(() => { throw new Real.Error('late'); }); },
  () => { for (let i = 0; i < 100; i++) Real.Promise.reject(new Real.Error('unawaited' + i)); },
  () => { const rejected = Real.Promise.reject(1); g.queueMicrotask?.(() => rejected.catch(() => undefined)); g.queueMicrotask?.(() => { throw 1; }); },
  () => { instance.bump(); new Private(); Private.made = NaN; },
  () => { outer: for (const x of [1, 2, 3]) { for (const y of state.set) { if (y > x) continue outer; if (x === 3) break outer; state.set.add(y + 10); if (state.set.size > 100) break; } } },
  () => { (z as any).ZodType && ((z as any).ZodType.prototype.parse = () => 'patched'); quietly(() => { (z as any).string().constructor.prototype.min = null; }); quietly(() => (z as any).config?.({ customError: () => 'mine' })); },
  () => import('../lazy').then((lazy) => { lazy.next(); lazy.next(); lazy.list.push(1); }),
  () => import(`../la${'zy'}x`).catch(() => undefined),
  () => { for (let i = 0; i < 5; i++) import('../throws').catch(() => undefined); },
  () => { g.import = import('../waits'); },
  () => { let all: any = []; quietly(() => { for (;;) all.push(new Real.Array(50).fill(random(9))); }); all = null; },
  () => { const all: any[] = []; quietly(() => { for (;;) all.push(new Real.Uint8Array(1 << 16)); }); quietly(() => import('../lazy')); quietly(() => { throw new Real.Error('full'); }); },
  () => { let rope = 'x'; quietly(() => { for (;;) rope += rope; }); quietly(() => rope.codePointAt(5)); },
  () => { const map = new Real.Map(); quietly(() => { for (;;) map.set({}, {}); }); state.map = map; },
  () => { const cycles: any[] = []; for (let i = 0; i < 30_000; i++) { const x: any = { i }; x.x = x; x.list = [x, cycles.at(-1)]; cycles.push(x); if (i % 1000 === 0) cycles.length = 0; } },
  () => { (Real.JSON as any).stringify = () => ({ toString() { throw 1; } }); },
  () => { defineProperty(g, '__convoyNatives', { get() { throw 1; } }); quietly(() => g.__convoy.reply(1, true, 1)); quietly(() => g.__convoy.invoke('x', 'y', '{}', undefined, 5, 6, 7)); },
  () => { quietly(() => g.__convoy.unawaited()); quietly(() => g.__convoy.describe()); quietly(() => g.__convoy.rejected({}, 1, false)); },
  () => { const wait = { then(resolve: any) { quietly(() => resolve(wait)); } }; return Real.Promise.race([wait, 1]); },
  () => { console.log(new Real.Proxy({}, { ownKeys() { throw 1; } })); console.log('x'.repeat(300)); },
];
const ends: ((ctx: any) => any)[] = [
  () => 'done',
  () => 'done',
  () => { throw new Real.Error('thrown'); },
  () => { throw null; },
  () => { throw Real.Symbol('thrown'); },
  () => { throw new Real.Proxy({}, { get() { throw 1; }, getPrototypeOf() { throw 2; } }); },
  () => ({ toJSON() { throw new Real.Error('json'); } }),
  () => ({ get big() { return 5n; } }),
  () => new Real.Promise(() => undefined),
  (ctx) => { ctx.db.get('t:1'); ctx.db.get('t:2').then(() => { throw new Real.Error('unawaited'); }); return 1; },
  (ctx) => { ctx.db.get('t:1'); throw new Real.Error('while it asks'); },
  async (ctx) => { for (let i = 0; i < 20; i++) await ctx.db.get('t:1'); return 1; },
  async (ctx) => { await import('../waits'); return 1; },
  async (ctx) => { await import('../throws'); return 1; },
  async (ctx) => { await import('../loops'); return 1; },
  () => { for (;;) {} },
  async () => { for (;;) await null; },
  () => { for (;;) { try { for (;;) {} } finally { for (;;) {} } } },
  () => { const all: any[] = []; for (;;) all.push({ all }); },
  () => { const all: any[] = []; for (;;) all.push(new Real.Uint8Array(99_999)); },
  () => { const down = (): number => 1 + down(); return down(); },
  () => 'x'.repeat(5000),
  async (ctx) => { let all: any = []; try { for (;;) all.push([all]); } catch { ctx.db.get('t:1'); await ctx.db.get('t:1'); return all.length; } },
];
export const wreck = query({ input: z.object({ seed: z.number(), end: z.number() }), handler: async (ctx: any, { seed, end }: any) => {
  word = seed;
  random(2);
  for (let i = random(4); i >= 0; i--) quietly(attacks[random(attacks.length)]);
  return ends[end](ctx);
}});
/** One attack alone. */
export const one = query({ input: z.object({ nth: z.number() }), handler: (ctx: any, { nth }: any) => { word = nth + 1; return attacks[nth]?.() && 1; } });
/** Nobody can stop it. */
export const native = query({ input: z.object({ seed: z.number(), end: z.number() }), handler: () => { quietly(attacks[6]); return 'a'.repeat(120000).includes('a'.repeat(60000) + 'b'); } });
export const size = query({ handler: () => [attacks.length, ends.length] });
"#;

const LAZY: &str = "let n = 0; export const next = () => ++n; export const list: number[] = [];";

fn folder(zod: Zod) -> Folder {
    let files = [
        ("functions/check.ts", CHECK),
        ("functions/wreck.ts", WRECK),
        ("state.ts", STATE),
        ("lazy.ts", LAZY),
        ("throws.ts", "export const x = 1; throw new Error('as it is evaluated');"),
        ("waits.ts", "await new Promise(() => undefined); export const x = 1;"),
        ("loops.ts", "export const x = 1; for (;;) {}"),
    ];
    Folder::new(zod, &files)
}

/// One context, which is made by the first call and then had by all.
fn reusing(folder: &Folder) -> Runtime {
    folder.runtime_with(limits())
}

fn limits() -> Limits {
    Limits {
        preparing_max: 0,
        cpu_max: Duration::from_millis(500),
        memory_bytes_max: 24 << 20,
        log_bytes_max: 2000,
        result_bytes_max: 4 << 20,
        ..Limits::default()
    }
}

/// Waits until the last call's context is there again.
async fn is_back(runtime: &Runtime) {
    while runtime.ready_contexts() == 0 {
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
}

async fn answer(runtime: &Runtime, name: &str) -> String {
    let value = query(runtime, &Arc::new(Memory::default()), name, json!({})).await;
    is_back(runtime).await;
    value
        .unwrap_or_else(|error| panic!("{name}: {error} {:?}", error.detail))
        .as_str()
        .expect("text")
        .to_owned()
}

#[track_caller]
fn assert_same(seen: &str, untouched: &str, after: &str) {
    if seen != untouched {
        let differs = seen.lines().zip(untouched.lines()).find(|(x, y)| x != y);
        panic!("after {after}: {differs:?}, {} and {} bytes", seen.len(), untouched.len());
    }
}

async fn wreck_and_look(zod: Zod, rounds: u64, from: u64) {
    let folder = folder(zod);
    let fresh = reusing(&folder);
    let untouched = answer(&fresh, "check.look").await;
    let runtime = reusing(&folder);
    let sizes = query(&runtime, &Arc::new(Memory::default()), "wreck.size", json!({}))
        .await
        .expect("sizes");
    is_back(&runtime).await;
    let (attacks, ends) =
        (sizes[0].as_u64().expect("a number"), sizes[1].as_u64().expect("a number"));
    assert_same(&answer(&runtime, "check.look").await, &untouched, "one call");
    let host = Arc::new(Memory::default());
    for nth in 0..attacks {
        let ended = query(&runtime, &host, "wreck.one", json!({ "nth": nth })).await;
        is_back(&runtime).await;
        assert_same(
            &answer(&runtime, "check.look").await,
            &untouched,
            &format!("attack {nth}: {ended:?}"),
        );
    }
    for end in 0..ends {
        let ended = query(&runtime, &host, "wreck.wreck", json!({ "seed": 12, "end": end })).await;
        is_back(&runtime).await;
        assert_same(
            &answer(&runtime, "check.look").await,
            &untouched,
            &format!("end {end}: {ended:?}"),
        );
    }
    let mut state = from;
    for round in from..from + rounds {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (seed, end) = (state >> 34, (state >> 16) % ends);
        let args = json!({ "seed": seed, "end": end });
        let wreck = call(CallKind::Query, "wreck.wreck", args.clone());
        let after = if round % 7 == 3 {
            // Its caller goes.
            let early = Duration::from_millis(seed % 20);
            format!("{:?}", tokio::time::timeout(early, runtime.call(wreck, host.clone())).await)
        } else {
            format!("{:?}", runtime.call(wreck, host.clone()).await)
        };
        is_back(&runtime).await;
        let after = format!("{args}: {}", after.chars().take(300).collect::<String>());
        assert_same(&answer(&runtime, "check.look").await, &untouched, &after);
    }
}

#[tokio::test]
async fn whatever_a_call_does_the_next_finds_its_context_as_none_had_it() {
    wreck_and_look(Zod::Four, rounds(6), 1).await;
}

#[tokio::test]
async fn so_it_is_with_the_older_zod() {
    wreck_and_look(Zod::Three, rounds(24), 1_000_000).await;
}

/// How many at random; `ROUNDS` says otherwise.
fn rounds(usual: u64) -> u64 {
    std::env::var("ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(usual)
}

/// Contexts go from worker to worker, also those of calls that were given up and came to an end later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn contexts_that_many_workers_had_are_as_none_had_them() {
    let folder = folder(Zod::Three);
    let limits = Limits {
        workers: 3,
        ready_contexts: 6,
        preparing_max: 1,
        wall_max: Duration::from_secs(20),
        ..limits()
    };
    let project = Arc::new(folder.load().expect("a project"));
    let runtime = Arc::new(Runtime::new(project, limits));
    let look =
        async |runtime: &Runtime| query(runtime, &Arc::default(), "check.look", json!({})).await;
    let untouched = look(&runtime).await.expect("an answer");
    let callers = (0..6_u64).map(|caller| {
        let (runtime, untouched) = (runtime.clone(), untouched.clone());
        tokio::spawn(async move {
            for nth in 0..6 {
                let name = if nth == 3 { "wreck.native" } else { "wreck.wreck" };
                let args =
                    json!({ "seed": caller * 1000 + nth * 77, "end": (caller * 5 + nth * 3) % 19 });
                let wreck = runtime
                    .call(call(CallKind::Query, name, args.clone()), Arc::new(Memory::default()));
                // Some of them are given up.
                let ended =
                    tokio::time::timeout(Duration::from_millis(100 + 40 * caller), wreck).await;
                let seen = look(&runtime)
                    .await
                    .unwrap_or_else(|error| panic!("{args}: {ended:?}: {error:?}"));
                assert_same(
                    seen.as_str().expect("text"),
                    untouched.as_str().expect("text"),
                    &args.to_string(),
                );
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.expect("no panic");
    }
    // What was given up comes to an end too.
    tokio::time::sleep(Duration::from_secs(2)).await;
    for _ in 0..12 {
        let seen = look(&runtime).await.expect("an answer");
        assert_same(seen.as_str().expect("text"), untouched.as_str().expect("text"), "all");
    }
}

const GLUTTONS: [&str; 12] = [
    "const all: any[] = []; for (;;) all.push({ all });",
    "const all: any[] = []; for (;;) all.push(new Uint8Array(9999));",
    "let all: any = () => 1; for (;;) { const of = all; all = () => of; }",
    "const all: any = new Map(); for (;;) all.set({}, all);",
    "let rope = 'x'; for (;;) rope += rope + 'y';",
    "const all: any[] = []; for (;;) { const p = new Promise((r) => all.push(r)); all.push(p.then(() => all)); }",
    "const all: any[] = []; for (;;) { const g = (function* () { yield all; })(); g.next(); all.push(g); }",
    "const all: any[] = []; for (;;) all.push(class { #x = all; static y = all; m() { return this.#x; } });",
    "const all: any[] = []; for (;;) all.push(/a(?<x>b)+/gu, new RegExp('x' + all.length), new Proxy({}, { get() { return all; } }));",
    "const all: any = {}; for (let i = 0; ; i++) all['key' + i] = Symbol.for('key' + i);",
    "const all: any[] = []; try { for (;;) all.push([all]); } catch { for (;;) { try { all.push(...all.slice(0, 100), import('../lazy')); } catch (error) { throw error; } } }",
    "const all: any[] = []; for (;;) { try { for (;;) all.push(new Error('x'), [].values(), new Date(), 2n ** 90n); } catch (error) { all.push(error); } await null; }",
];

/// A module that takes all memory as it is evaluated is a project that can't be used, and no end of the process.
#[tokio::test]
async fn modules_that_take_all_memory_are_an_error() {
    for (nth, glutton) in GLUTTONS.iter().enumerate() {
        let text = format!(
            "import {{ query }} from '../_generated/server';\nexport const x = query({{ handler: () => 1 }});\n{glutton}\n"
        );
        let folder = Folder::new(Zod::Three, &[("functions/glutton.ts", &text), ("lazy.ts", LAZY)]);
        let limits = Limits {
            prepare_cpu_max: Duration::from_secs(3),
            memory_bytes_max: (8 << 20) + nth * 4321,
            ..Limits::default()
        };
        Project::load(folder.path(), &limits, &ModuleCache::default()).expect_err(glutton);
    }
}

/// A function that is bound where memory ends: the engine's finalizer of such functions takes for granted that there was some.
#[tokio::test]
async fn functions_that_are_bound_at_the_end_of_memory_end_their_call_alone() {
    let bind = "
        import { query } from '../_generated/server';
        export const all = query({ handler: () => {
          const made: unknown[] = [];
          const many = new Array(500).fill(0);
          const act = () => undefined;
          for (;;) made.push((act.bind as any)(null, ...many));
        }});
    ";
    let folder = Folder::new(Zod::Three, &[("functions/bind.ts", bind)]);
    let (runtime, host) = (folder.runtime_with(limits()), Arc::new(Memory::default()));
    let error = query(&runtime, &host, "bind.all", json!({})).await.expect_err("no memory");
    assert_eq!(error.code, "LIMIT_EXCEEDED", "{error}");
}
