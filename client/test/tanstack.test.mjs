// The adapter for TanStack Query, in a document.

import assert from "node:assert/strict";
import { test } from "node:test";
import { render, screen } from "./_dom.mjs";
import { QueryClient, QueryClientProvider, QueryObserver, useMutation, useQuery } from "@tanstack/react-query";
import { StrictMode, createElement as h } from "react";
import { anyApi as api, createConvoyClient } from "convoy/client";
import { convoyMutation, convoyQuery } from "convoy/tanstack";
import { Peer } from "./_peer.mjs";

async function start(t, options = {}) {
  const peer = await Peer.start({
    db: { list: [{ _id: "a", text: "A" }] },
    queries: { list: (db) => db.list },
    mutations: { add: (db, { text }) => void (db.list = [...db.list, { _id: text, text }]) },
  });
  const convoy = createConvoyClient({ url: peer.url, lingerMs: 20, cacheKey: "convoy", ...options });
  const queryClient = new QueryClient({ defaultOptions: { queries: { gcTime: 60_000 } } });
  t.after(async () => {
    queryClient.clear();
    convoy.close();
    await peer.stop();
  });
  const within = (element) => h(StrictMode, null, h(QueryClientProvider, { client: queryClient }, element));
  return { peer, convoy, queryClient, within };
}

const idle = async (peer) => {
  for (const end = Date.now() + 5_000; [...peer.sessions.values()].some(({ response }) => response !== null); ) {
    assert.ok(Date.now() < end, "the stream has not ended");
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
};

test("the cache is fed live while somebody observes, and again when somebody is back", async (t) => {
  const { peer, convoy, queryClient, within } = await start(t);
  let latest;
  function View() {
    latest = useQuery(convoyQuery(convoy, api.list, {}));
    return latest.data ? latest.data.map(({ text }) => text).join(",") : latest.status;
  }
  const { container, show } = await render(t, within(h(View)));
  await screen(container, "A");
  const [row] = latest.data;
  peer.write((db) => (db.list = [...db.list, { _id: "b", text: "B" }]));
  await screen(container, "A,B");
  assert.equal(latest.data[0], row);
  assert.equal(peer.streams.length, 1);
  show(within(null));
  await idle(peer);
  peer.write((db) => (db.list = [...db.list, { _id: "c", text: "C" }]));
  show(within(h(View)));
  assert.equal(container.textContent, "A,B", "from the cache");
  await screen(container, "A,B,C");
  peer.write((db) => (db.list = db.list.slice(1)));
  await screen(container, "B,C");
  assert.deepEqual(queryClient.getQueryData(["convoy", "list", {}]).map(({ text }) => text), ["B", "C"]);
});

test("errors, skip, fetching ahead, mutations", async (t) => {
  const { peer, convoy, queryClient, within } = await start(t);
  function View({ reference, args }) {
    const query = useQuery(convoyQuery(convoy, reference, args));
    const add = useMutation(convoyMutation(convoy, api.add));
    View.add = add.mutateAsync;
    return query.error ? query.error.code : query.data ? query.data.map(({ text }) => text).join(",") : query.fetchStatus;
  }
  const { container, show } = await render(t, within(h(View, { reference: api.list, args: "skip" })));
  assert.equal(container.textContent, "idle");
  assert.equal(peer.requests.length, 0);
  show(within(h(View, { reference: api.nothing, args: {} })));
  await screen(container, "NOT_FOUND");
  assert.deepEqual(await queryClient.fetchQuery(convoyQuery(convoy, api.list, {})), [{ _id: "a", text: "A" }]);
  show(within(h(View, { reference: api.list, args: {} })));
  await screen(container, "A");
  await View.add({ text: "B" });
  await screen(container, "A,B");
});

test("a query whose key is hashed in a way of its own is fed too, and no other", async (t) => {
  const { peer, convoy, queryClient, within } = await start(t);
  function View() {
    const { data } = useQuery({ ...convoyQuery(convoy, api.list, {}), queryKeyHashFn: (key) => `own ${key.join()}` });
    return data ? data.map(({ text }) => text).join(",") : "";
  }
  const { container } = await render(t, within(h(View)));
  await screen(container, "A");
  peer.write((db) => (db.list = [...db.list, { _id: "b", text: "B" }]));
  await screen(container, "A,B", 3_000);
  assert.equal(queryClient.getQueryCache().getAll().length, 1);
});

test("what is fetched ahead does not stay subscribed", async (t) => {
  const { peer, convoy, queryClient } = await start(t);
  await queryClient.prefetchQuery(convoyQuery(convoy, api.list, {}));
  assert.deepEqual(queryClient.getQueryData(["convoy", "list", {}]), [{ _id: "a", text: "A" }]);
  await idle(peer);
});

test("when somebody else logs in, the cache has nothing left of who was there before", async (t) => {
  const { peer, convoy, queryClient, within } = await start(t);
  const seen = [];
  function View() {
    const { data, status } = useQuery(convoyQuery(convoy, api.list, {}));
    const text = data ? data.map(({ text }) => text).join(",") : status;
    seen.push(text);
    return text;
  }
  const own = { ...convoyQuery(convoy, api.list, { own: 1 }), queryKey: ["mine"] };
  await queryClient.prefetchQuery(convoyQuery(convoy, api.list, { ahead: 1 }));
  await queryClient.prefetchQuery(own);
  queryClient.setQueryData(["theirs"], 1);
  const { container } = await render(t, within(h(View)));
  await screen(container, "A");
  peer.slow.add("list");
  peer.db.list = [{ _id: "b", text: "B" }];
  seen.length = 0;
  convoy.identityChanged();
  for (const key of [["convoy", "list", {}], ["convoy", "list", { ahead: 1 }], ["mine"]]) assert.equal(queryClient.getQueryData(key), undefined);
  assert.equal(queryClient.getQueryData(["theirs"]), 1);
  await screen(container, "pending");
  peer.slow.clear();
  peer.release();
  await screen(container, "B");
  assert.equal(seen.includes("A"), false);
});

/** Observes, and waits until what is observed is so. */
function observed(t, queryClient, options) {
  const observer = new QueryObserver(queryClient, options);
  const end = observer.subscribe(() => {});
  t.after(end);
  const is = async (check) => {
    for (const until = Date.now() + 5_000; !check(observer.getCurrentResult()); ) {
      assert.ok(Date.now() < until, JSON.stringify(observer.getCurrentResult()));
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  };
  return { observer, end, is };
}

test("what was refused is asked again by a refetch, while it is observed", async (t) => {
  const { peer, convoy, queryClient } = await start(t);
  const { observer, is } = observed(t, queryClient, convoyQuery(convoy, api.mine, {}));
  await is(({ error }) => error?.code === "NOT_FOUND");
  assert.equal((await observer.refetch()).error.code, "NOT_FOUND");
  peer.queries.mine = (db) => db.list.length;
  assert.equal((await observer.refetch()).data, 1);
  peer.write((db) => (db.list = []));
  await is(({ data }) => data === 0);
});

test("what changed between the answer and the first observer is shown", async (t) => {
  const { peer, convoy, queryClient } = await start(t, { lingerMs: 10_000 });
  await queryClient.prefetchQuery(convoyQuery(convoy, api.list, {}));
  peer.write((db) => (db.list = []));
  const watch = convoy.watchQuery(api.list, {});
  while (watch.getCurrent().data?.length !== 0) await new Promise((resolve) => setTimeout(resolve, 10));
  // What useSuspenseQuery sets, so that it does not fetch twice.
  const { is } = observed(t, queryClient, { ...convoyQuery(convoy, api.list, {}), staleTime: 1_000 });
  await is(({ data }) => data.length === 0);
});

test("two clients in one cache are shown each what its own server says", async (t) => {
  const [one, two] = [await start(t, { cacheKey: undefined }), await start(t, { cacheKey: undefined })];
  const { queryClient } = one;
  two.peer.db.list = [{ _id: "z" }];
  const first = observed(t, queryClient, convoyQuery(one.convoy, api.list, {}));
  await first.is(({ data }) => data?.[0]._id === "a");
  const second = observed(t, queryClient, convoyQuery(two.convoy, api.list, {}));
  assert.equal(second.observer.getCurrentResult().data, undefined);
  await second.is(({ data }) => data?.[0]._id === "z");
  one.peer.write((db) => (db.list = [{ _id: "b" }]));
  await first.is(({ data }) => data[0]._id === "b");
  assert.equal(second.observer.getCurrentResult().data[0]._id, "z");
});

test("a client that takes the place of another under its key is live", async (t) => {
  const { peer, convoy, queryClient } = await start(t);
  const first = observed(t, queryClient, convoyQuery(convoy, api.list, {}));
  await first.is(({ data }) => data?.length === 1);
  first.end();
  convoy.close();
  const next = createConvoyClient({ url: peer.url, lingerMs: 20, cacheKey: "convoy" });
  t.after(() => next.close());
  const second = observed(t, queryClient, convoyQuery(next, api.list, {}));
  await second.is(({ data, fetchStatus }) => data?.length === 1 && fetchStatus === "idle");
  peer.write((db) => (db.list = []));
  await second.is(({ data }) => data.length === 0);
});

test("what is fetched ahead without a server is given up", { timeout: 30_000 }, async (t) => {
  const { peer, convoy, queryClient } = await start(t);
  peer.intercept = () => "drop";
  await assert.rejects(queryClient.fetchQuery(convoyQuery(convoy, api.list, {})), { code: "UNAVAILABLE" });
});
