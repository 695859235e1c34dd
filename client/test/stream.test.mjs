// What the stream does on what a server or a network may do, with a server that the test steers.

import assert from "node:assert/strict";
import { test } from "node:test";
import { anyApi as api, createConvoyClient } from "convoy/client";
import { Peer } from "./_peer.mjs";
import { shows, until } from "./_wait.mjs";

async function start(t, options = {}, peerOptions = {}) {
  const peer = await Peer.start({
    db: { n: 1, list: [{ _id: "a" }] },
    queries: { n: (db) => db.n, list: (db) => db.list, echo: (_, args) => args },
    ...peerOptions,
  });
  const client = createConvoyClient({ url: peer.url, lingerMs: 20, ...options });
  t.after(async () => {
    client.close();
    await peer.stop();
  });
  const watch = client.watchQuery(api.n, {});
  const words = [];
  client.onConnectionChange(() => words.push(client.connectionState));
  return { peer, client, watch, words };
}

const watched = (t, watch) => t.after(watch.onUpdate(() => {}));

test("a goodbye that says to come back is followed by a resume", async (t) => {
  const { peer, watch, words } = await start(t);
  watched(t, watch);
  await shows(watch, (n) => n === 1);
  peer.goodbye({ code: "UNAVAILABLE", message: "restarting", retry_ms: 10, resume: true });
  await until(watch, () => watch.getCurrent().isReconnecting);
  peer.write((db) => (db.n = 2));
  await shows(watch, (n) => n === 2);
  assert.equal(peer.streams.length, 2);
  assert.equal(typeof peer.streams[1].body.resume, "string");
  assert.deepEqual(words, ["live", "reconnecting", "live"]);
});

test("a goodbye that says to stay away closes, and says so to everybody", async (t) => {
  const { peer, client, watch } = await start(t);
  watched(t, watch);
  await shows(watch, (n) => n === 1);
  peer.goodbye({ code: "SUPERSEDED", message: "a newer stream has taken over", retry_ms: null, resume: false });
  const state = await until(watch, () => (watch.getCurrent().error ? watch.getCurrent() : null));
  assert.deepEqual([state.error.code, state.connectionState, state.data], ["SUPERSEDED", "closed", 1]);
  assert.equal(client.connectionError.code, "SUPERSEDED");
  const late = client.watchQuery(api.list, {});
  watched(t, late);
  await until(late, () => late.getCurrent().error?.code === "SUPERSEDED");
  assert.equal(peer.streams.length, 1);
});

test("a token that has run out is fetched anew, once", async (t) => {
  const asked = [];
  const { peer, watch } = await start(t, {
    auth: async ({ fresh }) => {
      asked.push(fresh);
      return fresh ? "new" : "old";
    },
    tabs: false,
  });
  peer.intercept = ({ headers }) => (headers.authorization === "Bearer new" ? null : { status: 401, body: { error: { code: "UNAUTHORIZED", message: "expired" } } });
  watched(t, watch);
  await shows(watch, (n) => n === 1);
  assert.deepEqual(asked, [false, true]);
});

test("credentials that the server never takes end it with its error", async (t) => {
  const { peer, client, watch } = await start(t, { auth: () => "wrong", tabs: false });
  peer.intercept = () => ({ status: 401, body: { error: { code: "UNAUTHORIZED", message: "who are you?" } } });
  watched(t, watch);
  await until(watch, () => watch.getCurrent().error?.message === "who are you?");
  assert.equal(client.connectionState, "closed");
  await assert.rejects(client.query(api.n, {}), { code: "UNAUTHORIZED" });
});

test("silence for two heartbeats is the end of a stream", async (t) => {
  const { peer, watch } = await start(t);
  peer.heartbeatMs = 150;
  watched(t, watch);
  await shows(watch, (n) => n === 1);
  await until(watch, () => watch.getCurrent().isReconnecting);
  await until(watch, () => watch.getCurrent().connectionState === "live");
  assert.ok(peer.streams.length >= 2);
});

test("a server that is full is asked again", async (t) => {
  const { peer, watch } = await start(t);
  let refusals = 2;
  peer.intercept = ({ path }) => (path.startsWith("/api/sync?") && refusals-- > 0 ? { status: 503, body: { error: { code: "UNAVAILABLE", message: "later" } } } : null);
  watched(t, watch);
  await shows(watch, (n) => n === 1);
  assert.equal(peer.streams.length, 3);
});

test("a transition that does not fit starts over, and nothing of it shows", async (t) => {
  const { peer, client, watch } = await start(t);
  const list = client.watchQuery(api.list, {});
  watched(t, watch);
  watched(t, list);
  await shows(list, () => true);
  await shows(watch, (n) => n === 1);
  const seen = [];
  t.after(watch.onUpdate(() => seen.push(watch.getCurrent().data)));
  const [session] = peer.sessions.values();
  const [[n], [rows]] = [...session.subs];
  peer.inject(session, { lsn: "0/1000", updates: [
    { sub: n, type: "snapshot", digest: "x", value: 99 },
    { sub: rows, type: "diff", digest: "y", ops: [{ op: "remove", key: "nobody" }] },
  ] });
  await until(watch, () => watch.getCurrent().isReconnecting);
  await until(watch, () => watch.getCurrent().connectionState === "live");
  assert.equal(seen.includes(99), false);
  assert.deepEqual(peer.streams[1].body.have, {});
  assert.equal(peer.streams[1].body.resume, undefined);
});

test("in a new session, what is here is stale until it is answered", async (t) => {
  const { peer, client, watch } = await start(t);
  const list = client.watchQuery(api.list, {});
  watched(t, watch);
  watched(t, list);
  await shows(list, () => true);
  await shows(watch, (n) => n === 1);
  const seen = [];
  t.after(list.onUpdate(() => seen.push(`${list.getCurrent().connectionState} ${list.getCurrent().isStale}`)));
  peer.slow.add("list");
  peer.forgetSessions();
  await until(watch, () => watch.getCurrent().isReconnecting);
  peer.write((db) => ((db.n = 2), (db.list = [])));
  await shows(watch, (n) => n === 2);
  assert.deepEqual([watch.getCurrent().isStale, list.getCurrent().isStale, list.getCurrent().data.length], [false, true, 1]);
  peer.slow.clear();
  peer.release();
  await shows(list, (rows) => rows.length === 0);
  assert.equal(list.getCurrent().isStale, false);
  assert.equal(seen.includes("live true"), true);
  assert.equal(seen.slice(0, -1).includes("live false"), false, "not for a moment");
});

test("bytes that are no JSON start over too", async (t) => {
  const { peer, watch } = await start(t);
  watched(t, watch);
  await shows(watch, (n) => n === 1);
  [...peer.sessions.values()][0].response.write("event: transition\nid: z\ndata: {\n\n");
  await until(watch, () => watch.getCurrent().isReconnecting);
  await shows(watch, (n) => n === 1);
  assert.equal(peer.streams.at(-1).body.resume, undefined);
});

test("a change of the session that gets lost ends in a new session that has everything", async (t) => {
  const { peer, client, watch } = await start(t);
  watched(t, watch);
  await shows(watch, (n) => n === 1);
  let drops = 1;
  peer.intercept = ({ path }) => (/^\/api\/sync\/./.test(path) && drops-- > 0 ? "drop" : null);
  const list = client.watchQuery(api.list, {});
  watched(t, list);
  await shows(list, () => true);
  assert.equal(peer.streams.length, 2);
  assert.equal(Object.keys(peer.streams[1].body.have).length, 1, "what is here is not sent again");
});

test("two hundred queries in one turn are one request, and gone in one", async (t) => {
  const { peer, client } = await start(t);
  const ends = Array.from({ length: 200 }, (_, index) => client.watchQuery(api.echo, { index })).map((watch) => [watch, watch.onUpdate(() => {})]);
  await Promise.all(ends.map(([watch]) => shows(watch, () => true)));
  assert.equal(peer.requests.length, 1);
  const keep = client.watchQuery(api.n, {});
  watched(t, keep);
  await shows(keep, () => true);
  for (const [, end] of ends) end();
  const posts = () => peer.requests.filter(({ body }) => body.unsubscribe?.length > 0);
  for (const until = Date.now() + 5_000; posts().flatMap(({ body }) => body.unsubscribe).length < 200; ) {
    assert.ok(Date.now() < until);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  assert.ok(posts().length <= 3, `${posts().length} requests`);
});

test("a listener that throws disturbs nobody", async (t) => {
  const errors = [];
  globalThis.reportError = (error) => errors.push(error.message); // As browsers have it.
  t.after(() => delete globalThis.reportError);
  const { peer, watch } = await start(t);
  t.after(watch.onUpdate(() => {
    if (watch.getCurrent().data === 2) throw new Error("a listener's own");
  }));
  await shows(watch, (n) => n === 1);
  peer.write((db) => (db.n = 2));
  await shows(watch, (n) => n === 2);
  peer.write((db) => (db.n = 3));
  await shows(watch, (n) => n === 3);
  assert.equal(peer.streams.length, 1, "and is no reason to start over");
  assert.deepEqual(errors, ["a listener's own"]);
});

test("subscribe calls back with data and errors, and stops", async (t) => {
  const { peer, client } = await start(t);
  const data = [];
  const errors = [];
  const end = client.subscribe(api.n, {}, (n) => data.push(n));
  t.after(client.subscribe(api.nothing, {}, () => {}, (error) => errors.push(error.code)));
  const watch = client.watchQuery(api.n, {});
  await shows(watch, (n) => n === 1);
  peer.write((db) => (db.n = 2));
  await shows(watch, (n) => n === 2);
  end();
  peer.write((db) => (db.n = 3));
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.deepEqual([data, errors], [[1, 2], ["NOT_FOUND"]]);
  // Who comes to what is there already hears of it too.
  watched(t, watch);
  await shows(watch, (n) => n === 3);
  const late = [];
  t.after(client.subscribe(api.n, {}, (n) => late.push(n)));
  await new Promise((resolve) => setTimeout(resolve, 10));
  assert.deepEqual(late, [3]);
});

test("a closed client asks for nothing, and what waits fails", async (t) => {
  const { peer, client, watch } = await start(t);
  watched(t, watch);
  await shows(watch, (n) => n === 1);
  peer.intercept = ({ path }) => (path.startsWith("/api/mutation") ? "drop" : null);
  const mutation = client.mutation(api.x, {});
  client.close();
  await assert.rejects(mutation, { code: "UNAVAILABLE" });
  assert.equal(client.connectionState, "closed");
  const { length } = peer.requests;
  watched(t, client.watchQuery(api.list, {}));
  client.identityChanged();
  await assert.rejects(client.query(api.n, {}), { code: "UNAVAILABLE" });
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.equal(peer.requests.length, length);
});

test("options that can't be meant are refused with what would be right", () => {
  assert.throws(() => createConvoyClient({ url: "localhost:4500" }), /http:\/\//);
  assert.throws(() => createConvoyClient({ tabs: true, headers: {} }), /identity/);
});

test("credentials that never come are waited for as long as the server is, and no longer", { timeout: 20_000 }, async (t) => {
  let isHanging = false;
  let asked = () => {};
  const headers = () => (isHanging ? (asked(), new Promise(() => {})) : {});
  const { peer, client, watch } = await start(t, { headers, mutationTimeoutMs: 100 }, { mutations: { set: (db, { n }) => (db.n = n) } });
  watched(t, watch);
  await shows(watch, (n) => n === 1);
  isHanging = true;
  const first = client.mutation(api.set, { n: 2 });
  await assert.rejects(first, { code: "UNAVAILABLE", message: /credentials/ });
  isHanging = false;
  assert.equal(await client.mutation(api.set, { n: 3 }), 3, "and the next goes its way");
  await shows(watch, (n) => n === 3);
  // A change of the session.
  isHanging = true;
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const hasAsked = new Promise((resolve) => (asked = resolve));
  const list = client.watchQuery(api.list, {});
  watched(t, list);
  await hasAsked;
  t.mock.timers.tick(20_000);
  await new Promise((resolve) => setImmediate(resolve));
  isHanging = false;
  t.mock.timers.tick(1_000);
  t.mock.timers.reset();
  await shows(list, () => true, 3_000);
  assert.equal(peer.streams.length, 2);
});

test("subscribe tells of an error that stands already, and nothing once it is over", async (t) => {
  const { client, watch } = await start(t);
  const nothing = client.watchQuery(api.nothing, {});
  watched(t, nothing);
  watched(t, watch);
  await until(nothing, () => nothing.getCurrent().error !== null);
  await shows(watch, (n) => n === 1);
  const told = [];
  t.after(client.subscribe(api.nothing, {}, () => {}, (error) => told.push(error.code)));
  client.subscribe(api.n, {}, (n) => told.push(n))();
  client.subscribe(api.nothing, {}, () => {}, (error) => told.push(error.code))();
  await new Promise((resolve) => setTimeout(resolve, 10));
  assert.deepEqual(told, ["NOT_FOUND"]);
});

test("a client that was closed before its first use opens nothing, and says so", async (t) => {
  const { peer, client, watch } = await start(t);
  client.close();
  const errors = [];
  t.after(client.subscribe(api.n, {}, () => {}, (error) => errors.push(error.message)));
  watched(t, watch);
  await assert.rejects(watch.refetch(), { code: "UNAVAILABLE" });
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.deepEqual(errors, ["the client was closed"]);
  assert.deepEqual([watch.getCurrent().isLoading, client.connectionState], [false, "closed"]);
  assert.equal(peer.requests.length, 0);
});

test("arguments are those of the call, whatever becomes of the object, and a bigint is one", async (t) => {
  const written = [];
  const { peer, client } = await start(t, {}, { mutations: { set: (_, args) => void written.push(args.n) } });
  const args = { n: 9007199254740993n, tags: ["a"] };
  const watch = client.watchQuery(api.echo, args);
  args.tags.push("b");
  args.n = 0n;
  watched(t, watch);
  assert.deepEqual(await shows(watch, () => true), { n: "9007199254740993", tags: ["a"] });
  assert.deepEqual(await watch.refetch(), { n: "9007199254740993", tags: ["a"] });
  const list = client.watchQuery(api.echo, { n: "9007199254740993", tags: ["a"] });
  assert.equal(list.key, watch.key);
  let layers = 0;
  const shown = [];
  peer.isHeld = true;
  const optimisticUpdate = (store, { n }) => {
    layers += 1;
    shown.push(n);
    store.setQuery(api.echo, { n: 9007199254740993n, tags: ["a"] }, n);
  };
  const first = client.mutation(api.set, { n: 1 });
  const given = { n: 2 };
  const second = client.mutation(api.set, given, { optimisticUpdate });
  given.n = 3;
  await Promise.all([first, second]);
  peer.release();
  await shows(watch, (value) => value !== 2);
  assert.deepEqual(written, [1, 2]);
  assert.ok(layers >= 1 && shown.every((n) => n === 2), shown.join());
});

test("a query that nobody may see before the login is there after it", async (t) => {
  let user = null;
  const { peer, client } = await start(t, { headers: () => (user === null ? {} : { "x-user": user }) });
  const mine = client.watchQuery("mine", {});
  watched(t, mine);
  await until(mine, () => mine.getCurrent().error?.code === "NOT_FOUND");
  peer.queries.mine = () => "Ann's";
  user = "ann";
  client.identityChanged();
  assert.equal(await shows(mine, () => true), "Ann's");
});

test("one subscription that no request is taken with costs the others nothing", async (t) => {
  const { peer, client, watch } = await start(t);
  const isBad = ({ args }) => args?.text === "bad";
  peer.intercept = ({ body }) =>
    body.subscribe?.some(isBad) ? { status: 400, body: { error: { code: "INVALID_ARGS", message: "not JSON" } } } : null;
  const others = ["a", "b", "c"].map((text) => client.watchQuery(api.echo, { text }));
  const bad = client.watchQuery(api.echo, { text: "bad" });
  for (const each of [others[0], bad, others[1], watch]) watched(t, each);
  await Promise.all([watch, others[0], others[1]].map((each) => shows(each, () => true)));
  await until(bad, () => bad.getCurrent().error?.message === "not JSON");
  // Later, in one request with another.
  const again = client.watchQuery(api.echo, { text: "bad", n: 2 });
  watched(t, again);
  watched(t, others[2]);
  await shows(others[2], () => true);
  await until(again, () => again.getCurrent().error !== null);
  assert.equal(client.connectionState, "live");
});

test("half an emoji is sent as text", async (t) => {
  const { client } = await start(t);
  const half = client.watchQuery(api.echo, { text: "a \ud83d", "\udf89": 1 });
  watched(t, half);
  assert.deepEqual(await shows(half, () => true), { text: "a \ufffd", "\ufffd": 1 });
});

test("to ask anew without a server is given up", { timeout: 30_000 }, async (t) => {
  const { peer, watch } = await start(t);
  watched(t, watch);
  await shows(watch, () => true);
  peer.intercept = () => "drop";
  peer.cut();
  await assert.rejects(watch.refetch(), { code: "UNAVAILABLE" });
  peer.intercept = null;
  assert.equal(await watch.refetch(), 1);
});

test("a clock that is set back does not keep a dead stream alive", async (t) => {
  const { peer, watch } = await start(t);
  peer.heartbeatMs = 100;
  watched(t, watch);
  await shows(watch, () => true);
  const { now } = Date;
  t.after(() => (Date.now = now));
  Date.now = () => now() - 3_600_000;
  await until(watch, () => watch.getCurrent().isReconnecting);
  assert.equal(peer.streams.length, 1);
});

test("a listener is not called once it has ended, and each ends for itself", async (t) => {
  const { peer, client, watch } = await start(t);
  let hasEnded = false;
  let late = 0;
  let end = () => {};
  watched(t, watch);
  await shows(watch, () => true);
  t.after(watch.onUpdate(() => {
    end();
    hasEnded = true;
  }));
  end = watch.onUpdate(() => (late += hasEnded ? 1 : 0));
  peer.write((db) => (db.n = 2));
  await shows(watch, (n) => n === 2);
  assert.deepEqual([hasEnded, late], [true, 0]);
  for (const [listen, cause] of [["onIdentityChange", "identityChanged"], ["onConnectionChange", "close"]]) {
    let calls = 0;
    const callback = () => (calls += 1);
    const [one] = [client[listen](callback), client[listen](callback)];
    one();
    client[cause]();
    assert.equal(calls, 1, listen);
  }
});

test("a subscription may linger for ever", async (t) => {
  const { client, watch } = await start(t, { lingerMs: Infinity });
  const end = watch.onUpdate(() => {});
  await shows(watch, () => true);
  end();
  await new Promise((resolve) => setTimeout(resolve, 30));
  assert.equal(watch.getCurrent().data, 1);
  assert.equal(client.connectionState, "live");
});
