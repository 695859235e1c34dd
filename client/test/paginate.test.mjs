// Lists that grow page by page, with a server that the test steers.

import assert from "node:assert/strict";
import { test } from "node:test";
import { anyApi as api, createConvoyClient } from "convoy/client";
import { Peer } from "./_peer.mjs";
import { until } from "./_wait.mjs";

/** Rows by `at`, as a paginated function gives them. */
function page(db, { paginationOpts: { numItems, cursor, endCursor } }) {
  const after = [...db.rows].sort((a, b) => a.at - b.at).filter(({ at }) => cursor === null || at > Number(cursor));
  const rows = endCursor === undefined ? after.slice(0, numItems) : after.filter(({ at }) => at <= Number(endCursor));
  const isDone = endCursor === undefined && rows.length === after.length;
  return { page: rows, isDone, continueCursor: endCursor ?? String(rows.at(-1)?.at ?? cursor ?? "0") };
}

async function start(t, { rows = 9, numItems = 3 } = {}) {
  const db = { rows: Array.from({ length: rows }, (_, index) => ({ _id: `r${index + 1}`, at: index + 1 })) };
  const peer = await Peer.start({ db, queries: { page }, mutations: { add: (db, row) => void (db.rows = [...db.rows, row]) } });
  const client = createConvoyClient({ url: peer.url, lingerMs: 20 });
  t.after(async () => {
    client.close();
    await peer.stop();
  });
  const list = client.paginate(api.page, {}, { initialNumItems: numItems });
  const ids = () => list.getCurrent().results.map(({ _id }) => _id).join();
  const shows = (text) => until(list, () => ids() === text);
  const subscribed = () =>
    [...peer.sessions.values()].filter(({ response }) => response).flatMap(({ subs }) => [...subs.values()].map(({ args }) => args.paginationOpts));
  return { peer, client, list, ids, shows, subscribed };
}

const settled = () => new Promise((resolve) => setTimeout(resolve, 150));

test("pages that have parted are not shown together", async (t) => {
  const { peer, client, list, ids, shows } = await start(t, { rows: 4, numItems: 2 });
  const seen = [];
  t.after(list.onUpdate(() => seen.push([ids(), list.getCurrent().isStale].join(" "))));
  await shows("r1,r2");
  list.loadMore(5);
  await shows("r1,r2,r3,r4");
  await settled();
  assert.equal(list.getCurrent().isStale, false);
  seen.length = 0;
  // The server is restarted, and a row has moved from the second page to the first.
  peer.isHeld = true;
  peer.write((db) => (db.rows = db.rows.map((row) => (row._id === "r4" ? { ...row, at: 1.5 } : row))));
  peer.forgetSessions();
  peer.isHeld = false;
  // The first page is answered; the second takes longer.
  let asked = 0;
  peer.slow = { has: () => asked++ > 0 };
  while (client.connectionState !== "live" || asked === 0) await settled();
  await settled();
  assert.deepEqual([ids(), list.getCurrent().isStale], ["r1,r2,r3,r4", true]);
  peer.slow = new Set();
  peer.write(() => {});
  await shows("r1,r4,r2,r3");
  assert.equal(list.getCurrent().isStale, false);
  assert.deepEqual([...new Set(seen)], ["r1,r2,r3,r4 true", "r1,r4,r2,r3 false"]);
});

test("what is optimistic is shown while all pages are behind", async (t) => {
  const { peer, client, list, shows } = await start(t, { rows: 2 });
  t.after(list.onUpdate(() => {}));
  await shows("r1,r2");
  peer.intercept = () => "drop";
  peer.cut();
  await until(list, () => list.getCurrent().isStale);
  const sent = client.mutation(api.add, { _id: "r3", at: 3 }, {
    optimisticUpdate: (localStore, row) => {
      for (const { args, value } of localStore.getAllQueries(api.page)) {
        if (value?.isDone) localStore.setQuery(api.page, args, { ...value, page: [...value.page, row] });
      }
    },
  });
  await shows("r1,r2,r3");
  peer.intercept = null;
  await sent;
  await until(list, () => !list.getCurrent().isStale);
  await shows("r1,r2,r3");
});

test("a list that has ended subscribes to nothing", async (t) => {
  const { client, list, shows, subscribed } = await start(t);
  const end = list.onUpdate(() => {});
  await shows("r1,r2,r3");
  end();
  await settled();
  list.loadMore(3);
  await settled();
  assert.deepEqual(subscribed(), []);
  // Ended by another listener of the same query, which hears of it first.
  const other = client.paginate(api.page, {}, { initialNumItems: 2 });
  let endOther = () => {};
  const first = client.watchQuery(api.page, { paginationOpts: { numItems: 2, cursor: null } });
  t.after(first.onUpdate(() => first.getCurrent().data && endOther()));
  endOther = other.onUpdate(() => {});
  await settled();
  assert.deepEqual(subscribed(), [{ cursor: null, numItems: 2 }]);
});

test("one listener's error is not the others'", async (t) => {
  const { list } = await start(t);
  const thrown = [];
  globalThis.reportError = (error) => thrown.push(error.message);
  t.after(() => delete globalThis.reportError);
  t.after(list.onUpdate(() => {
    throw new Error("the first listener's");
  }));
  let calls = 0;
  t.after(list.onUpdate(() => (calls += 1)));
  await until(list, () => list.getCurrent().results.length === 3);
  assert.ok(calls > 0);
  assert.equal(thrown[0], "the first listener's");
});

for (const numItems of [3, 2]) {
  test(`a page that was refused is asked for again by loadMore(${numItems})`, async (t) => {
    const { peer, list, shows } = await start(t);
    t.after(list.onUpdate(() => {}));
    await shows("r1,r2,r3");
    await settled();
    peer.intercept = ({ body }) =>
      body.subscribe?.length ? { status: 429, body: { error: { code: "LIMIT_EXCEEDED", message: "busy" } } } : null;
    list.loadMore(3);
    await until(list, () => list.getCurrent().error?.code === "LIMIT_EXCEEDED");
    assert.deepEqual([list.getCurrent().status, list.getCurrent().isLoading], ["CanLoadMore", false]);
    peer.intercept = null;
    list.loadMore(numItems);
    await shows(["r1,r2,r3", "r4", "r5", "r6"].slice(0, 1 + numItems).join());
    assert.equal(list.getCurrent().error, null);
  });
}
