// Mutations and optimistic updates, frame by frame.

import assert from "node:assert/strict";
import { test } from "node:test";
import { anyApi as api, createConvoyClient } from "convoy/client";
import { Peer } from "./_peer.mjs";
import { shows, until } from "./_wait.mjs";

const FUNCTIONS = {
  queries: {
    "messages.list": (db) => db.messages,
    "messages.count": (db) => db.messages.length,
  },
  mutations: {
    "messages.send": (db, { text }) => {
      if (text === "") throw Object.assign(new Error("a message says something"), { code: "EMPTY", data: { field: "text" } });
      db.messages = [...db.messages, { _id: `m${db.messages.length + 1}`, text }];
      return db.messages.length;
    },
  },
};

const add = (localStore, { text }) => {
  const list = localStore.getQuery(api.messages.list, {});
  if (list) localStore.setQuery(api.messages.list, {}, [...list, { _id: "temp", text }]);
};

async function start(t, options = {}) {
  const peer = await Peer.start({ db: { messages: [{ _id: "m1", text: "first" }] }, ...FUNCTIONS });
  const client = createConvoyClient({ url: peer.url, lingerMs: 20, ...options });
  t.after(async () => {
    client.close();
    await peer.stop();
  });
  const watch = client.watchQuery(api.messages.list, {});
  t.after(watch.onUpdate(() => {}));
  await shows(watch, () => true);
  const texts = () => watch.getCurrent().data.map(({ _id, text }) => `${_id} ${text}`);
  return { peer, client, watch, texts };
}

test("a layer shows at once and gives way on exactly the frame that names its mutation", async (t) => {
  const { peer, client, watch, texts } = await start(t);
  peer.isHeld = true;
  const [kept] = watch.getCurrent().data;
  const seen = [];
  t.after(watch.onUpdate(() => seen.push(texts().join(", "))));
  const sent = client.mutation(api.messages.send, { text: "hi" }, { optimisticUpdate: add });
  assert.deepEqual(texts(), ["m1 first", "temp hi"], "before anything was awaited");
  assert.equal(await sent, 2);
  assert.deepEqual(texts(), ["m1 first", "temp hi"], "the answer is not yet the frame");
  peer.release();
  await shows(watch, (rows) => rows[1]._id === "m2");
  assert.deepEqual(seen, ["m1 first, temp hi", "m1 first, m2 hi"], "never both, never neither");
  assert.equal(watch.getCurrent().data[0], kept);
});

test("a layer is replayed over what others write meanwhile", async (t) => {
  const { peer, client, watch, texts } = await start(t);
  let gate;
  peer.intercept = ({ path }) => {
    if (!path.startsWith("/api/mutation/") || gate === "open") return null;
    return { status: 503, body: { error: { code: "UNAVAILABLE", message: "later" } }, headers: { "retry-after": "0" } };
  };
  const sent = client.mutation(api.messages.send, { text: "mine" }, { optimisticUpdate: add });
  peer.write((db) => (db.messages = [...db.messages, { _id: "x1", text: "theirs" }]));
  await shows(watch, (rows) => rows.length === 3);
  assert.deepEqual(texts(), ["m1 first", "x1 theirs", "temp mine"]);
  gate = "open";
  await sent;
  await shows(watch, (rows) => rows.every(({ _id }) => _id !== "temp"));
  assert.deepEqual(texts(), ["m1 first", "x1 theirs", "m3 mine"]);
});

test("a mutation that fails takes its layer away, and only its own", async (t) => {
  const { peer, client, texts, watch } = await start(t);
  peer.isHeld = true;
  const good = client.mutation(api.messages.send, { text: "good" }, { optimisticUpdate: add });
  const bad = client.mutation(api.messages.send, { text: "" }, { optimisticUpdate: add });
  assert.deepEqual(texts(), ["m1 first", "temp good", "temp "]);
  await assert.rejects(bad, { name: "ConvoyError", code: "EMPTY", message: "a message says something", data: { field: "text" } });
  await good;
  assert.deepEqual(texts(), ["m1 first", "temp good"]);
  peer.release();
  await shows(watch, (rows) => rows[1]._id === "m2");
  assert.deepEqual(texts(), ["m1 first", "m2 good"]);
});

test("an update that throws sends nothing and shows nothing", async (t) => {
  const { peer, client, texts } = await start(t);
  const update = (localStore, args) => {
    add(localStore, args);
    throw new RangeError("a bug");
  };
  await assert.rejects(client.mutation(api.messages.send, { text: "x" }, { optimisticUpdate: update }), RangeError);
  assert.deepEqual(texts(), ["m1 first"]);
  assert.equal(peer.runs, 0);
});

test("getAllQueries finds what is subscribed to, and setQuery reaches every query", async (t) => {
  const { peer, client, watch } = await start(t);
  const count = client.watchQuery(api.messages.count, {});
  t.after(count.onUpdate(() => {}));
  await shows(count, (n) => n === 1);
  peer.isHeld = true;
  let all;
  const sent = client.mutation(api.messages.send, { text: "y" }, {
    optimisticUpdate: (localStore, args) => {
      all = localStore.getAllQueries(api.messages.list);
      add(localStore, args);
      localStore.setQuery(api.messages.count, {}, localStore.getQuery(api.messages.list, {}).length);
    },
  });
  assert.deepEqual(all, [{ args: {}, value: [{ _id: "m1", text: "first" }] }]);
  assert.equal(count.getCurrent().data, 2);
  assert.equal(watch.getCurrent().data.length, 2);
  await sent;
  peer.release();
  await shows(watch, (rows) => rows[1]?._id === "m2");
  assert.equal(count.getCurrent().data, 2);
});

test("an answer that gets lost is asked for again under the same id, and the mutation ran once", async (t) => {
  const { peer, client } = await start(t);
  peer.loseAnswers = 2;
  assert.equal(await client.mutation(api.messages.send, { text: "once" }), 2);
  const sent = peer.requests.filter(({ path }) => path.startsWith("/api/mutation/"));
  assert.equal(sent.length, 3);
  assert.equal(new Set(sent.map(({ headers }) => headers["x-convoy-mutation"])).size, 1);
  assert.match(sent[0].headers["x-convoy-mutation"], /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  assert.equal(sent[0].headers["x-convoy-session"], [...peer.sessions.keys()][0]);
  assert.equal(peer.runs, 1);
});

test("mutations run in the order of their calls", async (t) => {
  const { peer, client, watch } = await start(t);
  peer.loseAnswers = 1;
  await Promise.all(["a", "b", "c"].map((text) => client.mutation(api.messages.send, { text })));
  await shows(watch, (rows) => rows.length === 4);
  assert.deepEqual(watch.getCurrent().data.map(({ text }) => text), ["first", "a", "b", "c"]);
});

test("a layer of a session that is gone gives way where the answer's position is passed", async (t) => {
  const { peer, client, watch, texts } = await start(t);
  peer.isHeld = true;
  await client.mutation(api.messages.send, { text: "hi" }, { optimisticUpdate: add });
  assert.deepEqual(texts(), ["m1 first", "temp hi"]);
  peer.isHeld = false;
  peer.forgetSessions(); // With them goes what they were to reflect.
  await shows(watch, (rows) => rows[1]._id === "m2");
  assert.deepEqual(texts(), ["m1 first", "m2 hi"]);
});

test("a mutation is not lost because its session has just ended", async (t) => {
  const { peer, client } = await start(t);
  const stale = [...peer.sessions.keys()][0];
  peer.sessions.delete(stale);
  assert.equal(await client.mutation(api.messages.send, { text: "z" }), 2);
  const sent = peer.requests.filter(({ path }) => path.startsWith("/api/mutation/"));
  assert.deepEqual(sent.map(({ headers }) => headers["x-convoy-session"]), [stale, undefined]);
});

test("without a subscription a mutation needs no stream, and its layer goes with the answer", async (t) => {
  const peer = await Peer.start({ db: { messages: [] }, ...FUNCTIONS });
  const client = createConvoyClient({ url: peer.url });
  t.after(() => peer.stop());
  t.after(() => client.close());
  assert.equal(await client.mutation(api.messages.send, { text: "a" }, { optimisticUpdate: add }), 1);
  assert.equal(peer.streams.length, 0);
});

test("a server that can't be reached is given up after the time that was set", async (t) => {
  const { peer, client, texts } = await start(t, { mutationTimeoutMs: 300 });
  peer.intercept = ({ path }) => (path.startsWith("/api/mutation/") ? "drop" : null);
  const sent = client.mutation(api.messages.send, { text: "lost" }, { optimisticUpdate: add });
  assert.deepEqual(texts(), ["m1 first", "temp lost"]);
  await assert.rejects(sent, { name: "ConvoyError", code: "UNAVAILABLE" });
  assert.deepEqual(texts(), ["m1 first"]);
});

test("another identity forgets the results and the layers of the one before", async (t) => {
  const { peer, client, watch, texts } = await start(t);
  peer.isHeld = true;
  await client.mutation(api.messages.send, { text: "secret" }, { optimisticUpdate: add });
  const [session] = peer.sessions.keys();
  client.identityChanged();
  assert.equal(watch.getCurrent().data, undefined);
  peer.release();
  await until(watch, () => watch.getCurrent().data !== undefined);
  assert.deepEqual(texts(), ["m1 first", "m2 secret"]);
  const last = peer.streams.at(-1);
  assert.equal(last.body.resume, undefined);
  assert.deepEqual(last.body.have, {});
  assert.notEqual([...peer.sessions.keys()].at(-1), session);
});

test("a mutation is never sent as somebody else's", async (t) => {
  let who = "ann";
  const { peer, client, texts } = await start(t, { headers: () => ({ "x-who": who }), tabs: false });
  const mutations = () => peer.requests.filter(({ path }) => path.startsWith("/api/mutation/"));
  peer.intercept = ({ path, headers }) => (path.startsWith("/api/mutation/") && headers["x-who"] === "ann" ? "drop" : null);
  const tried = client.mutation(api.messages.send, { text: "tried" }, { optimisticUpdate: add });
  const waits = client.mutation(api.messages.send, { text: "waits" });
  const refused = Promise.all([tried, waits].map((sent) => assert.rejects(sent, { name: "ConvoyError", code: "UNAVAILABLE", message: /logged in/ })));
  for (const end = Date.now() + 5_000; mutations().length === 0; ) {
    assert.ok(Date.now() < end);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  who = "bob";
  client.identityChanged();
  const own = client.mutation(api.messages.send, { text: "bob's" });
  await refused;
  await own;
  assert.deepEqual(mutations().filter(({ headers }) => headers["x-who"] === "bob").map(({ body }) => body.text), ["bob's"]);
  assert.equal(peer.db.messages.length, 2);
  await until(client.watchQuery(api.messages.list, {}), () => texts().length === 2);
});

test("a mutation that waits for its credentials is not sent with another's", async (t) => {
  let give;
  const { peer, client } = await start(t, { headers: () => new Promise((resolve) => (give === undefined ? resolve({}) : give(resolve))), tabs: false });
  const asked = new Promise((resolve) => (give = resolve));
  const sent = client.mutation(api.messages.send, { text: "ann's" });
  const answer = await asked;
  give = undefined;
  client.identityChanged();
  answer({ "x-who": "bob" });
  await assert.rejects(sent, { code: "UNAVAILABLE" });
  assert.equal(peer.runs, 0);
});

test("a query that is asked once is asked anew as whoever is logged in now", async (t) => {
  let who = "ann";
  const { peer, client } = await start(t, { headers: () => ({ "x-who": who }), tabs: false });
  let wait;
  const came = new Promise((resolve) => (wait = resolve));
  peer.intercept = ({ path, headers }) => (path.startsWith("/api/query/") && headers["x-who"] === "ann" ? (wait(), "drop") : null);
  const asked = client.query(api.messages.count, {});
  await came;
  who = "bob";
  client.identityChanged();
  assert.equal(await asked, 1);
  assert.equal(peer.requests.filter(({ path }) => path.startsWith("/api/query/")).at(-1).headers["x-who"], "bob");
});

/** Notes what a watch shows from here on. */
function noted(t, watch) {
  const seen = [];
  t.after(watch.onUpdate(() => seen.push(watch.getCurrent().data?.map(({ text }) => text).join())));
  return seen;
}

test("a layer stays while its query is asked anew, also after the transition that contains its mutation", async (t) => {
  const { peer, client, watch } = await start(t);
  const count = client.watchQuery(api.messages.count, {});
  t.after(count.onUpdate(() => {}));
  await shows(count, (n) => n === 1);
  const seen = noted(t, watch);
  peer.slow.add("messages.list");
  void watch.refetch();
  await until(watch, () => watch.getCurrent().isStale);
  await client.mutation(api.messages.send, { text: "second" }, { optimisticUpdate: add });
  await shows(count, (n) => n === 2);
  assert.equal(watch.getCurrent().data.at(-1)._id, "temp");
  peer.slow.clear();
  peer.write(() => {});
  await shows(watch, (list) => list.at(-1)._id === "m2");
  assert.ok(seen.every((texts) => texts === "first" || texts === "first,second"), seen.join(" | "));
  assert.equal(seen.slice(seen.indexOf("first,second")).includes("first"), false, seen.join(" | "));
});

test("a layer stays until its query is answered in a new session", async (t) => {
  const { peer, client, watch } = await start(t);
  const count = client.watchQuery(api.messages.count, {});
  t.after(count.onUpdate(() => {}));
  await shows(count, (n) => n === 1);
  const seen = noted(t, watch);
  peer.isHeld = true;
  await client.mutation(api.messages.send, { text: "second" }, { optimisticUpdate: add });
  peer.slow.add("messages.list");
  peer.forgetSessions();
  peer.isHeld = false;
  await shows(count, (n) => n === 2);
  assert.equal(watch.getCurrent().data.at(-1)._id, "temp");
  peer.slow.clear();
  peer.write(() => {});
  await shows(watch, (list) => list.at(-1)._id === "m2");
  assert.equal(seen.slice(seen.indexOf("first,second")).includes("first"), false, seen.join(" | "));
});

test("what an update sets after it has returned is not shown", async (t) => {
  const { client, watch, texts } = await start(t);
  const said = t.mock.method(console, "error", () => {});
  let end;
  const ended = new Promise((resolve) => (end = resolve));
  await client.mutation(api.messages.send, { text: "second" }, {
    optimisticUpdate: async (localStore) => {
      await new Promise((resolve) => setTimeout(resolve, 20));
      localStore.setQuery(api.messages.list, {}, [{ _id: "x", text: "for ever" }]);
      end();
    },
  });
  await ended;
  await shows(watch, (list) => list.length === 2);
  assert.deepEqual(texts(), ["m1 first", "m2 second"]);
  assert.match(said.mock.calls[0].arguments[0], /can't be async/);
});

test("an update may change the arguments that it is given", async (t) => {
  const { peer, client } = await start(t);
  peer.queries.echo = (_, args) => args;
  const echo = client.watchQuery(api.echo, { k: "a" });
  t.after(echo.onUpdate(() => {}));
  await shows(echo, () => true);
  await client.mutation(api.messages.send, { text: "x" }, {
    optimisticUpdate: (localStore) => localStore.getAllQueries(api.echo).forEach(({ args }) => (args.k = "b")),
  });
  peer.forgetSessions();
  await until(echo, () => echo.getCurrent().isReconnecting);
  await until(echo, () => !echo.getCurrent().isStale);
  assert.deepEqual(echo.getCurrent().data, { k: "a" });
});

test("results can't be changed where they are, by whoever shows them or by an update", async (t) => {
  const { peer, client, watch, texts } = await start(t);
  assert.throws(() => watch.getCurrent().data.push(1), TypeError);
  assert.throws(() => (watch.getCurrent().data[0].text = "x"), TypeError);
  const update = (localStore) => {
    const list = localStore.getQuery(api.messages.list, {});
    list.push({ _id: "temp", text: "ghost" });
    localStore.setQuery(api.messages.list, {}, list);
  };
  await assert.rejects(client.mutation(api.messages.send, { text: "x" }, { optimisticUpdate: update }), TypeError);
  peer.write((db) => (db.messages = [...db.messages, { _id: "m2", text: "second" }]));
  await shows(watch, (list) => list.length === 2);
  assert.throws(() => watch.getCurrent().data.reverse(), TypeError);
  assert.deepEqual(texts(), ["m1 first", "m2 second"]);
});

test("a layer over what nobody looks at any more is gone when somebody is back", async (t) => {
  const { peer, client } = await start(t);
  peer.queries.other = (db) => db.messages;
  const other = client.watchQuery(api.other, {});
  const end = other.onUpdate(() => {});
  await shows(other, () => true);
  peer.isHeld = true;
  const update = (localStore) => localStore.setQuery(api.other, {}, [{ _id: "temp", text: "ghost" }]);
  await client.mutation(api.messages.send, { text: "x" }, { optimisticUpdate: update });
  end();
  await new Promise((resolve) => setTimeout(resolve, 60)); // Its subscription lingers for 20 ms.
  t.after(other.onUpdate(() => {}));
  assert.equal(other.getCurrent().data, undefined);
});

test("what the server says a repeat can help with is repeated, and what a function threw is not", async (t) => {
  const { peer, client } = await start(t);
  let refusals = 2;
  peer.intercept = ({ path }) =>
    path.startsWith("/api/mutation/") && refusals-- > 0
      ? { status: 429, body: { error: { code: "LIMIT_EXCEEDED", message: "too many calls wait" } }, headers: { "retry-after": "0" } }
      : null;
  assert.equal(await client.mutation(api.messages.send, { text: "second" }), 2);
  peer.intercept = null;
  // Once more where the next token, or no session, may be what it lacked: nothing of the first try is left.
  for (const [code, status, expected] of [["UNAVAILABLE", 503, 1], ["LIMIT_EXCEEDED", 429, 1], ["UNAUTHORIZED", 401, 2], ["NOT_FOUND", 404, 2]]) {
    peer.mutations.fails = () => {
      throw Object.assign(new Error("by itself"), { code, status });
    };
    const runs = peer.runs;
    await assert.rejects(client.mutation(api.fails, {}), { code, message: "by itself" });
    assert.equal(peer.runs - runs, expected, code);
  }
  // Stopped at a limit of its own: the server's word, and no `Retry-After`.
  let asked = 0;
  peer.intercept = ({ path }) =>
    path.startsWith("/api/mutation/") ? (asked++, { status: 429, body: { error: { code: "LIMIT_EXCEEDED", message: "more than 8,192 rows" } } }) : null;
  await assert.rejects(client.mutation(api.messages.send, { text: "x" }), { code: "LIMIT_EXCEEDED" });
  assert.equal(asked, 1);
});

test("mutations that a server takes and never answers are given up together, each from its call on", async (t) => {
  const { peer, client } = await start(t, { mutationTimeoutMs: 300 });
  peer.intercept = ({ path }) => (path.startsWith("/api/mutation/") ? "keep" : null);
  const since = performance.now();
  const all = await Promise.allSettled(Array.from({ length: 8 }, () => client.mutation(api.messages.send, { text: "x" })));
  assert.ok(all.every(({ reason }) => reason?.code === "UNAVAILABLE"));
  assert.ok(performance.now() - since < 1_500, `${performance.now() - since} ms`);
});

test("mutations that wait for others that are answered have not lost their patience", async (t) => {
  const { peer, client } = await start(t, { mutationTimeoutMs: 400, fetch: slowly });
  async function slowly(input, init) {
    if (input.includes("/mutation/")) await new Promise((resolve) => setTimeout(resolve, 150));
    return fetch(input, init);
  }
  await Promise.all(Array.from({ length: 5 }, () => client.mutation(api.messages.send, { text: "x" })));
  assert.equal(peer.runs, 5);
});
