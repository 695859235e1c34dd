// The hooks, in a document, with a server that speaks the protocol.

import assert from "node:assert/strict";
import { test } from "node:test";
import { render, screen } from "./_dom.mjs";
import { StrictMode, createElement as h, useState } from "react";
import { flushSync } from "react-dom";
import { anyApi as api, createConvoyClient } from "convoy/client";
import { ConvoyError, ConvoyProvider, useConnectionState, useConvoy, useMutation, useMutationState, usePaginatedQuery, useQuery } from "convoy/react";
import { Peer } from "./_peer.mjs";

function page(db, { paginationOpts: { numItems, cursor, endCursor } }) {
  const after = db.rows.filter(({ at }) => cursor === null || at > Number(cursor));
  const rows = endCursor === undefined ? after.slice(0, numItems) : after.filter(({ at }) => at <= Number(endCursor));
  const isDone = endCursor === undefined && rows.length === after.length && rows.length < numItems;
  return { page: rows, isDone, continueCursor: endCursor ?? String(rows.at(-1)?.at ?? cursor ?? "0") };
}

async function start(t, db = {}) {
  const peer = await Peer.start({
    db: { messages: [{ _id: "m1", channel: "a", text: "first" }], rows: [], ...db },
    queries: {
      "messages.list": ({ messages }, { channel = "a" }) => messages.filter((message) => message.channel === channel),
      "rows.page": page,
    },
    mutations: {
      "messages.send": (db, { channel = "a", text }) => {
        if (!text) throw Object.assign(new Error("a message says something"), { code: "EMPTY" });
        db.messages = [...db.messages, { _id: `m${db.messages.length + 1}`, channel, text }];
        return db.messages.length;
      },
    },
  });
  const client = createConvoyClient({ url: peer.url, lingerMs: 50 });
  t.after(async () => {
    client.close();
    await peer.stop();
  });
  const within = (element) => h(StrictMode, null, h(ConvoyProvider, { client }, element));
  return { peer, client, within };
}

const texts = (data) => data.map(({ text }) => text).join(",");

test("useQuery loads, shows, follows, and in StrictMode subscribes once", async (t) => {
  const { peer, client, within } = await start(t);
  const states = [];
  function List({ channel }) {
    const query = useQuery(api.messages.list, { channel });
    assert.equal(useConvoy(), client);
    states.push(query);
    return query.isLoading ? "loading" : texts(query.data);
  }
  const { container, show, unmount } = await render(t, within(h(List, { channel: "a" })));
  assert.equal(container.textContent, "loading");
  await screen(container, "first");
  const before = states.at(-1);
  assert.deepEqual(
    { ...before, data: null, refetch: null },
    { data: null, error: null, isLoading: false, isStale: false, isReconnecting: false, connectionState: "live", refetch: null },
  );
  peer.write((db) => (db.messages = [...db.messages, { _id: "m2", channel: "a", text: "second" }]));
  await screen(container, "first,second");
  assert.equal(states.at(-1).data[0], before.data[0], "a row that stays is the same object");
  assert.equal(states.at(-1).refetch, before.refetch);
  show(within(h(List, { channel: "a" })));
  assert.equal(states.at(-1), states.at(-2), "another render, the same result");
  show(within(h(List, { channel: "b" })));
  assert.equal(container.textContent, "loading");
  await screen(container, "");
  const subscribed = peer.requests.flatMap(({ body }) => body.subscribe ?? []).map(({ args }) => args.channel);
  assert.deepEqual(subscribed, ["a", "b"]);
  assert.equal(peer.streams.length, 1);
  unmount();
  for (const end = Date.now() + 3_000; [...peer.sessions.values()][0].response !== null; ) {
    assert.ok(Date.now() < end, "the stream has not ended with its last subscription");
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
});

test("skip asks for nothing, enabled: false leaves it to refetch, arguments may be left out", async (t) => {
  const { peer, within } = await start(t);
  let latest;
  function View({ args, options }) {
    latest = useQuery(api.messages.list, args, options);
    return `${latest.isLoading} ${latest.data === undefined ? "none" : texts(latest.data)}`;
  }
  const { container, show } = await render(t, within(h(View, { args: "skip" })));
  assert.equal(container.textContent, "false none");
  await assert.rejects(latest.refetch(), ConvoyError);
  show(within(h(View, { args: { channel: "a" }, options: { enabled: false } })));
  assert.equal(container.textContent, "false none");
  assert.equal(peer.requests.length, 0);
  assert.equal(texts(await latest.refetch()), "first");
  await screen(container, "false first");
  assert.equal(peer.streams.length, 0);
  show(within(h(View, {})));
  await screen(container, "false first");
  assert.equal(peer.streams.length, 1);
});

test("keepPreviousData shows what was there until the next is", async (t) => {
  const { peer, within } = await start(t, { messages: [{ _id: "1", channel: "a", text: "A" }, { _id: "2", channel: "b", text: "B" }] });
  const seen = [];
  function View({ channel }) {
    const { data, isStale, isLoading } = useQuery(api.messages.list, { channel }, { keepPreviousData: true });
    const text = data === undefined ? "none" : `${texts(data)} ${isStale} ${isLoading}`;
    if (seen.at(-1) !== text) seen.push(text);
    return text;
  }
  const { container, show } = await render(t, within(h(View, { channel: "a" })));
  await screen(container, "A false false");
  show(within(h(View, { channel: "b" })));
  await screen(container, "B false false");
  assert.deepEqual(seen, ["none", "A false false", "A true false", "B false false"]);
  assert.equal(peer.streams.length, 1);
});

test("an error is shown, a lost connection is, and what was there stays", async (t) => {
  const { peer, within } = await start(t);
  function View({ reference }) {
    const { data, error, isReconnecting, isStale } = useQuery(reference, {});
    const word = useConnectionState();
    return error ? `${error.code}` : `${data ? texts(data) : ""} ${isReconnecting} ${isStale} ${word}`;
  }
  const { container, show } = await render(t, within(h(View, { key: 1, reference: api.no.such })));
  await screen(container, "NOT_FOUND");
  show(within(h(View, { key: 2, reference: api.messages.list })));
  await screen(container, "first false false live");
  peer.intercept = () => "drop";
  peer.cut();
  await screen(container, "first true true reconnecting");
  peer.intercept = null;
  await screen(container, "first false false live");
});

test("mutations in every form that users know", async (t) => {
  const { peer, within } = await start(t);
  let call;
  let chained;
  let renders = 0;
  const mutates = new Set();
  function View() {
    renders += 1;
    const { data } = useQuery(api.messages.list, { channel: "a" });
    call = useMutation(api.messages.send);
    mutates.add(call);
    const { mutate: sendMessage } = useMutation(api.messages.send).withOptimisticUpdate((localStore, args) => {
      const list = localStore.getQuery(api.messages.list, { channel: args.channel });
      if (!list) return;
      localStore.setQuery(api.messages.list, { channel: args.channel }, [...list, { _id: "temp", text: `(${args.text})` }]);
    });
    chained = sendMessage;
    return data ? texts(data) : "";
  }
  const { container } = await render(t, within(h(View)));
  await screen(container, "first");
  assert.equal(await call({ channel: "a", text: "x" }), 2);
  await screen(container, "first,x");
  assert.equal(await call.mutate({ channel: "a", text: "y" }), 3);
  await screen(container, "first,x,y");
  peer.isHeld = true;
  let sent;
  flushSync(() => {
    sent = chained({ channel: "a", text: "z" });
  });
  await screen(container, "first,x,y,(z)");
  await sent;
  peer.release();
  await screen(container, "first,x,y,z");
  assert.ok(renders > 3);
  assert.ok(mutates.size <= 2, "the same function on every render (StrictMode makes one more at first)");
});

test("useMutationState says how the call fares, and throws too", async (t) => {
  const { within } = await start(t);
  let latest;
  function View() {
    latest = useMutationState(api.messages.send);
    return `${latest.isLoading} ${latest.error?.code ?? "-"} ${latest.data ?? "-"}`;
  }
  const { container } = await render(t, within(h(View)));
  assert.equal(container.textContent, "false - -");
  const sent = latest.mutate({ text: "x" });
  await screen(container, "true - -");
  await sent;
  await screen(container, "false - 2");
  await assert.rejects(latest.mutate({ text: "" }), (error) => error instanceof ConvoyError && error.code === "EMPTY");
  await screen(container, "false EMPTY -");
  latest.reset();
  await screen(container, "false - -");
});

test("a paginated list grows, and has no gap and no double while rows come and go", async (t) => {
  const rows = Array.from({ length: 25 }, (_, index) => ({ _id: `r${(index + 1) * 10}`, at: (index + 1) * 10 }));
  const { peer, within } = await start(t, { rows });
  let latest;
  const seen = [];
  function View({ tag = 1 }) {
    latest = usePaginatedQuery(api.rows.page, { tag }, { initialNumItems: 10 });
    seen.push(latest.results.map(({ at }) => at));
    return `${latest.status} ${latest.results.length} ${latest.isLoading}`;
  }
  const { container, show } = await render(t, within(h(View)));
  assert.equal(container.textContent, "LoadingFirstPage 0 true");
  await screen(container, "CanLoadMore 10 false");
  flushSync(() => latest.loadMore(10));
  await screen(container, "CanLoadMore 20 false");
  // One row into the first page: it grows, and the second goes on where it did.
  peer.write((db) => (db.rows = [...db.rows, { _id: "r55", at: 55 }].sort((a, b) => a.at - b.at)));
  await screen(container, "CanLoadMore 21 false");
  // And from each page one is gone.
  peer.write((db) => (db.rows = db.rows.filter(({ at }) => at !== 20 && at !== 150)));
  await screen(container, "CanLoadMore 19 false");
  flushSync(() => latest.loadMore(10));
  await screen(container, "Exhausted 24 false");
  assert.deepEqual(latest.results.map(({ at }) => at), peer.db.rows.map(({ at }) => at));
  // The page at the end stays open: what comes after it is shown.
  peer.write((db) => (db.rows = [...db.rows, { _id: "r999", at: 999 }]));
  await screen(container, "Exhausted 25 false");
  for (const list of seen) {
    assert.deepEqual(list, [...list].sort((a, b) => a - b));
    assert.equal(new Set(list).size, list.length);
  }
  flushSync(() => latest.loadMore(10));
  assert.equal(container.textContent, "Exhausted 25 false", "there is nothing more to load");
  show(within(h(View, { tag: 2 })));
  assert.equal(container.textContent, "LoadingFirstPage 0 true", "other arguments are another list");
  await screen(container, "CanLoadMore 10 false");
});

test("rows that push others off a page before it is pinned leave no gap", async (t) => {
  const rows = Array.from({ length: 6 }, (_, index) => ({ _id: `r${(index + 1) * 10}`, at: (index + 1) * 10 }));
  const { peer, client } = await start(t, { rows });
  const list = client.paginate(api.rows.page, {}, { initialNumItems: 2 });
  const shown = [];
  const look = () => shown.push(list.getCurrent().results.map(({ at }) => at));
  let written = false;
  // As soon as the first page is there, and before its pinned twin can be: two rows at its front, and the next page.
  t.after(list.onUpdate(() => {
    look();
    if (!written && list.getCurrent().status === "CanLoadMore") {
      written = true;
      list.loadMore(2);
      peer.write((db) => (db.rows = [{ _id: "r1", at: 1 }, { _id: "r2", at: 2 }, ...db.rows]));
    }
  }));
  for (const end = Date.now() + 5_000; list.getCurrent().results.length < 6; ) {
    assert.ok(Date.now() < end, JSON.stringify(shown));
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  assert.deepEqual(list.getCurrent().results.map(({ at }) => at), [1, 2, 10, 20, 30, 40]);
  for (const results of shown) {
    const from = results.length === 0 ? 0 : peer.db.rows.findIndex(({ at }) => at === results[0]);
    assert.deepEqual(results, peer.db.rows.slice(from, from + results.length).map(({ at }) => at), "a range without a gap");
  }
});

test("when somebody else logs in, no hook shows anything of who was there before", async (t) => {
  const { peer, client, within } = await start(t);
  let latest;
  function View({ channel }) {
    const kept = useQuery(api.messages.list, { channel }, { keepPreviousData: true });
    const asked = useQuery(api.messages.list, { channel: "a" }, { enabled: false });
    const call = useMutationState(api.messages.send);
    latest = { asked, call };
    return [kept.data, asked.data].map((data) => (data ? texts(data) : "-")).concat(call.data ?? call.error?.code ?? "-", call.isLoading).join(" ");
  }
  const { container, show } = await render(t, within(h(View, { channel: "a" })));
  await latest.call.mutate({ channel: "b", text: "x" });
  await latest.asked.refetch();
  await screen(container, "first first 2 false");
  peer.slow.add("messages.list");
  flushSync(() => client.identityChanged());
  assert.equal(container.textContent, "- - - false");
  show(within(h(View, { channel: "b" })));
  assert.equal(container.textContent, "- - - false");
  // Nor how a call of theirs ends.
  peer.intercept = ({ path }) => (path.startsWith("/api/mutation/") ? "drop" : null);
  const sent = latest.call.mutate({ text: "x" });
  await screen(container, "- - - true");
  flushSync(() => client.identityChanged());
  await assert.rejects(sent, { code: "UNAVAILABLE" });
  peer.intercept = null;
  peer.slow.clear();
  peer.release();
  await screen(container, "x - - false");
});

test("where somebody else logs in while listeners are told, they see nothing of it any more", async (t) => {
  const { peer, client } = await start(t);
  const watch = client.watchQuery(api.messages.list, {});
  const other = client.watchQuery(api.messages.list, { channel: "b" });
  t.after(other.onUpdate(() => {}));
  const seen = [];
  t.after(watch.onUpdate(() => {
    if (client.identityVersion > 0 || watch.getCurrent().data === undefined) return;
    client.identityChanged();
    seen.push(watch.getCurrent().data, other.getCurrent().data);
  }));
  for (const end = Date.now() + 5_000; peer.streams.length < 2 || watch.getCurrent().data === undefined; ) {
    assert.ok(Date.now() < end);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  assert.deepEqual(seen, [undefined, undefined]);
});

test("when somebody else logs in, a paginated list begins anew", async (t) => {
  const rows = Array.from({ length: 6 }, (_, index) => ({ _id: `r${(index + 1) * 10}`, at: (index + 1) * 10 }));
  const { peer, client, within } = await start(t, { rows });
  let latest;
  function View() {
    latest = usePaginatedQuery(api.rows.page, {}, { initialNumItems: 2 });
    return `${latest.status} ${latest.results.map(({ at }) => at).join(" ")}`;
  }
  const { container } = await render(t, within(h(View)));
  const quiet = client.paginate(api.rows.page, {}, { initialNumItems: 2 });
  await screen(container, "CanLoadMore 10 20");
  flushSync(() => latest.loadMore(2));
  await screen(container, "CanLoadMore 10 20 30 40");
  quiet.onUpdate(() => {})();
  assert.equal(quiet.getCurrent().results.length, 2);
  peer.db.rows = [{ _id: "x5", at: 5 }, { _id: "x15", at: 15 }, { _id: "x25", at: 25 }, { _id: "x35", at: 35 }];
  flushSync(() => client.identityChanged());
  assert.equal(container.textContent, "LoadingFirstPage ");
  assert.deepEqual(quiet.getCurrent().results, []);
  await screen(container, "CanLoadMore 5 15");
});
