// One session against a server played by the test: what is asked, and what is made of the answers.
// Nothing here waits for a clock: pauses between attempts are given out by the test.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Sync, compareLsn, retryDelay } from "../sync.js";

/** Plays the server of test `t`: `next` gives each POST in turn, for the test to answer. */
function play(t, options = {}) {
  const waiting = [];
  const arrived = [];
  const pauses = [];
  const words = [];
  const transitions = [];
  const fetch = (url, { body, signal }) =>
    new Promise((resolve, reject) => {
      const request = {
        url,
        body: JSON.parse(body),
        status: (status, answer = {}) => resolve(new Response(status === 204 ? null : JSON.stringify(answer), { status })),
        accept: () => resolve(new Response(null, { status: 202 })),
        fail: (message) => reject(new TypeError(message)),
        stream() {
          let controller;
          const stream = new ReadableStream({ start: (given) => (controller = given) });
          signal.addEventListener("abort", () => {
            try {
              controller.error(signal.reason);
            } catch {
              // Closed already.
            }
          });
          resolve(new Response(stream, { status: 200 }));
          const send = (type, data, id) => controller.enqueue(new TextEncoder().encode(`event: ${type}\n${id ? `id: ${id}\n` : ""}data: ${JSON.stringify(data)}\n\n`));
          return { send, close: () => controller.close() };
        },
      };
      signal.addEventListener("abort", () => reject(signal.reason));
      const taker = waiting.shift();
      if (taker) taker(request);
      else arrived.push(request);
    });
  const sync = new Sync({
    url: "api/sync",
    fetch,
    random: () => 0.5,
    pause: async (ms) => pauses.push(ms),
    onConnection: ({ word }) => words.push(word),
    onTransition: (given) => transitions.push(given),
    ...options,
  });
  t.after(() => sync.stop()); // Also where the test failed: a session that lives on would keep the process.
  const next = () => (arrived.length > 0 ? Promise.resolve(arrived.shift()) : new Promise((resolve) => waiting.push(resolve)));
  return { sync, next, pauses, words, transitions };
}

const hello = (session, resumed = false) => ({ session, resumed, protocol: 1, heartbeat_ms: 15_000, server: "test" });
const snapshot = (sub, n, digest = `d${n}`) => ({ sub, type: "snapshot", digest, columns: [], keys: ["k"], value: [{ n }] });
const diff = (sub, n, key = "k") => ({ sub, type: "diff", digest: `d${n}`, ops: [{ op: "update", key, set: { n } }] });
const transition = (lsn, ...updates) => ({ lsn, committed_at: null, reflects: [], updates });
const shows = (sync, sub) => sync.results.get(sub).value?.[0].n;

test("subscribes in the opening call and applies what comes", { timeout: 10_000 }, async (t) => {
  const { sync, next, words } = play(t);
  sync.subscribe("a", { sql: "select 1" });
  sync.subscribe("b", { query: "orders.open", args: { tenant: 7 } });
  const running = sync.start();
  const opening = await next();
  assert.equal(opening.url, "api/sync?numbers=string");
  assert.deepEqual(opening.body, { subscribe: [{ sub: "a", sql: "select 1" }, { sub: "b", query: "orders.open", args: { tenant: 7 } }], have: {} });
  const stream = opening.stream();
  stream.send("hello", hello("s1"));
  stream.send("transition", transition("0/1", snapshot("a", 1), snapshot("b", 2)), "t1");
  stream.send("transition", transition("0/2", diff("a", 3), diff("unknown", 1)), "t2");
  stream.send("goodbye", { code: "SHUTDOWN", message: "bye", retry_ms: null, resume: false });
  await running;
  assert.equal(shows(sync, "a"), 3);
  assert.equal(shows(sync, "b"), 2);
  assert.deepEqual(words, ["live", "closed"]);
});

test("resumes with the last token, and asks for nothing that stands", { timeout: 10_000 }, async (t) => {
  const { sync, next, words, pauses } = play(t);
  sync.subscribe("a", { sql: "select 1" });
  sync.start();
  const first = (await next()).stream();
  first.send("hello", hello("s1"));
  first.send("transition", transition("0/1", snapshot("a", 1)), "t1");
  first.close();
  const again = await next();
  assert.deepEqual(again.body, { resume: "t1" });
  const second = again.stream();
  second.send("hello", hello("s1", true));
  second.send("transition", transition("0/2", diff("a", 2)), "t2");
  second.close();
  assert.deepEqual((await next()).body, { resume: "t2" });
  assert.equal(shows(sync, "a"), 2);
  assert.deepEqual(words, ["live", "reconnecting", "live", "reconnecting"]);
  assert.equal(pauses.length, 2);
  sync.stop();
});

test("where the session is gone, subscribes again with what it has", { timeout: 10_000 }, async (t) => {
  const { sync, next } = play(t);
  sync.subscribe("a", { sql: "select 1" });
  sync.start();
  const first = (await next()).stream();
  first.send("hello", hello("s1"));
  first.send("transition", transition("0/1", snapshot("a", 1)), "t1");
  first.close();
  const second = (await next()).stream();
  second.send("hello", hello("s2", false));
  const post = await next();
  assert.equal(post.url, "api/sync/s2?numbers=string");
  assert.deepEqual(post.body, { subscribe: [{ sub: "a", sql: "select 1" }], have: { a: "d1" } });
  post.accept();
  second.send("transition", transition("0/9", { sub: "a", type: "unchanged" }), "u1");
  second.close();
  assert.deepEqual((await next()).body, { resume: "u1" });
  assert.equal(sync.results.get("a").status, "ready");
  sync.stop();
});

test("a refused resume opens a new session at once", { timeout: 10_000 }, async (t) => {
  const { sync, next, pauses } = play(t);
  sync.subscribe("a", { sql: "select 1" });
  sync.start();
  const first = (await next()).stream();
  first.send("hello", hello("s1"));
  first.send("transition", transition("0/1", snapshot("a", 1)), "t1");
  first.close();
  (await next()).status(404, { error: { code: "NOT_FOUND", message: "no such session" } });
  assert.deepEqual((await next()).body, { subscribe: [{ sub: "a", sql: "select 1" }], have: { a: "d1" } });
  assert.equal(pauses.length, 1);
  sync.stop();
});

test("a diff that does not fit throws the whole transition away and starts over", { timeout: 10_000 }, async (t) => {
  const { sync, next } = play(t);
  sync.subscribe("a", { sql: "select 1" });
  sync.subscribe("b", { sql: "select 2" });
  sync.start();
  const first = (await next()).stream();
  first.send("hello", hello("s1"));
  first.send("transition", transition("0/1", snapshot("a", 1), snapshot("b", 1)), "t1");
  first.send("transition", transition("0/2", diff("a", 2), diff("b", 2, "nobody")), "t2");
  const again = await next();
  assert.deepEqual(again.body.have, {});
  assert.equal(again.body.subscribe.length, 2);
  assert.equal(again.body.resume, undefined);
  assert.equal(shows(sync, "a"), 1, "no part of the transition is shown");
  sync.stop();
});

test("a subscription made later is told to the session, and a final error is not asked for again", { timeout: 10_000 }, async (t) => {
  const { sync, next } = play(t);
  sync.subscribe("a", { sql: "nonsense" });
  sync.start();
  const first = (await next()).stream();
  first.send("hello", hello("s1"));
  first.send("transition", transition("0/1", { sub: "a", type: "error", final: true, error: { code: "INVALID_ARGS", message: "no" } }), "t1");
  while (sync.results.get("a").status === "loading") await new Promise((resolve) => setImmediate(resolve));
  sync.subscribe("b", { sql: "select 2" });
  const post = await next();
  assert.deepEqual(post.body, { subscribe: [{ sub: "b", sql: "select 2" }], have: {} });
  post.accept();
  first.send("goodbye", { code: "SHUTDOWN", message: "restart", retry_ms: 400, resume: false });
  const again = await next();
  assert.deepEqual(again.body.subscribe, [{ sub: "b", sql: "select 2" }]);
  sync.stop();
});

test("goodbye's wait is kept to, and grows with jitter while nobody answers", { timeout: 10_000 }, async (t) => {
  const { sync, next, pauses } = play(t);
  sync.start();
  const first = (await next()).stream();
  first.send("hello", hello("s1"));
  first.send("goodbye", { code: "UNAVAILABLE", message: "restart", retry_ms: 400, resume: false });
  for (let i = 0; i < 3; i += 1) (await next()).fail("connection refused");
  await next();
  assert.deepEqual(pauses, [400 + 175, 300, 550, 1_050]);
  sync.stop();
});

test("faults of the request are final, temporary ones are not", { timeout: 10_000 }, async (t) => {
  for (const [status, closed] of [[400, true], [401, true], [403, true], [204, true], [429, false], [503, false]]) {
    const { sync, next } = play(t);
    const running = sync.start();
    const request = await next();
    if (closed) {
      request.status(status, { error: { code: "X", message: "because" } });
      await running;
      assert.equal(sync.connection.word, "closed", String(status));
      if (status !== 204) assert.equal(sync.connection.message, "because");
    } else {
      request.status(status, {});
      await next();
      assert.equal(sync.connection.word, "reconnecting", String(status));
      sync.stop();
    }
  }
});

test("delays stay between a floor and ten seconds", () => {
  for (let failures = 1; failures < 60; failures += 1) {
    assert.equal(retryDelay(failures, () => 0), 50);
    assert.ok(retryDelay(failures, () => 1) <= 10_050);
  }
});

test("LSNs are ordered by value, not as text", () => {
  assert.ok(compareLsn("0/9", "0/10") < 0);
  assert.ok(compareLsn("A/0", "9/FFFFFFFF") > 0);
  assert.equal(compareLsn("16/B374D848", "16/b374d848"), 0);
});
