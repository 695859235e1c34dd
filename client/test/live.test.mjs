// The client against a real server and a real Postgres: what others write arrives, breaks are survived, nothing is torn.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ConvoyError, anyApi as api, createConvoyClient } from "convoy/client";
import { Convoy } from "./_convoy.mjs";
import { bufferingProxy } from "./_proxy.mjs";
import { Postgres } from "./_postgres.mjs";
import { shows, until } from "./_wait.mjs";

const QUERIES = {
  "orders.byTenant": "-- @param tenant int4\nselect id, status, total from orders where tenant = $1 order by id",
  "orders.count": "-- @param tenant int4\nselect count(*) as n from orders where tenant = $1",
  "orders.one": "-- @param id int8\nselect id, status from orders where id = $1",
  "accounts.sum": "select sum(amount)::int4 as total from accounts",
  "accounts.list": "select id, amount from accounts order by id",
};

let postgres;
let convoy;

before(async () => {
  postgres = await Postgres.start();
  await postgres.sql(`
    create table orders (id int8 primary key, tenant int4 not null, status text not null, total numeric not null);
    alter table orders replica identity full;
    create table accounts (id int4 primary key, amount int4 not null);
    alter table accounts replica identity full;
    insert into accounts select i, 100 from generate_series(1, 10) i;
  `);
  convoy = await Convoy.start({ databaseUrl: postgres.url, queries: QUERIES });
});

after(async () => {
  await convoy?.stop();
  await postgres?.stop();
});

function clientFor(context, options = {}) {
  const client = createConvoyClient({ url: convoy.url, lingerMs: 20, ...options });
  context.after(() => client.close());
  return client;
}

test("what psql writes arrives, and rows that stay the same keep their identity", async (t) => {
  const client = clientFor(t);
  await postgres.sql("insert into orders values (1, 1, 'open', 9.50), (2, 1, 'open', 10), (9007199254740993, 1, 'open', 1)");
  const watch = client.watchQuery(api.orders.byTenant, { tenant: 1 });
  t.after(watch.onUpdate(() => {}));
  const first = await shows(watch, (rows) => rows.length === 3);
  assert.deepEqual(first[0], { id: "1", status: "open", total: "9.50" });
  assert.equal(first[2].id, "9007199254740993", "an int8 keeps all its digits");
  assert.equal(client.connectionState, "live");
  const next = shows(watch, (rows) => rows[1].status === "paid");
  await postgres.sql("update orders set status = 'paid' where id = 2");
  const second = await next;
  assert.equal(second[0], first[0]);
  assert.notEqual(second[1], first[1]);
  assert.notEqual(second, first);
  const third = shows(watch, (rows) => rows.length === 2);
  await postgres.sql("delete from orders where id = 1");
  assert.equal((await third)[0], second[1]);
});

test("equal queries share one subscription, which ends after its last listener", async (t) => {
  const client = clientFor(t);
  const one = client.watchQuery(api.orders.byTenant, { tenant: 5, extra: undefined });
  const two = client.watchQuery(api.orders.byTenant, { tenant: 5 });
  assert.equal(one.key, two.key);
  const endOne = one.onUpdate(() => {});
  const endTwo = two.onUpdate(() => {});
  await shows(two, () => true);
  assert.equal(one.getCurrent(), two.getCurrent());
  const live = async () => (await (await fetch(`${convoy.url}/api/queries`)).json());
  const count = (list) => JSON.stringify(list).split('"tenant').length;
  const before = count(await live());
  endOne();
  endOne();
  await shows(two, () => true);
  assert.equal(count(await live()), before);
  endTwo();
  for (const end = Date.now() + 5_000; client.watchQuery(api.orders.byTenant, { tenant: 5 }).getCurrent().data !== undefined; ) {
    assert.ok(Date.now() < end, "the subscription has not ended");
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
});

test("errors carry the server's code and message", async (t) => {
  const client = clientFor(t);
  const watch = client.watchQuery(api.orders.byTenant, { tenat: 1 });
  const { error } = await until(watch, () => (watch.getCurrent().error ? watch.getCurrent() : null));
  assert.ok(error instanceof ConvoyError);
  assert.equal(error.code, "INVALID_ARGS");
  assert.match(error.message, /tenant/);
  await assert.rejects(client.query(api.no.such, {}), (reason) => reason instanceof ConvoyError && reason.code === "NOT_FOUND");
  const end = watch.onUpdate(() => {});
  await assert.rejects(watch.refetch(), { code: "INVALID_ARGS" });
  end();
});

test("a query is asked once, and refetched whether subscribed or not", async (t) => {
  const client = clientFor(t);
  await postgres.sql("insert into orders values (50, 50, 'open', 1)");
  assert.deepEqual(await client.query(api.orders.one, { id: 50 }), [{ id: "50", status: "open" }]);
  assert.deepEqual(await client.query(api.orders.one, { id: 50n }), [{ id: "50", status: "open" }]);
  const watch = client.watchQuery(api.orders.one, { id: 50 });
  assert.equal((await watch.refetch()).length, 1);
  assert.equal(watch.getCurrent().data, undefined, "not subscribed");
  const data = await (async () => {
    const end = watch.onUpdate(() => {});
    t.after(end);
    return shows(watch, () => true);
  })();
  assert.equal(await watch.refetch(), data, "unchanged, and so the same object");
});

test("subscriptions move together: a sum and its parts never disagree", async (t) => {
  const client = clientFor(t);
  const sum = client.watchQuery(api.accounts.sum, {});
  const list = client.watchQuery(api.accounts.list, {});
  let looks = 0;
  const look = () => {
    const total = sum.getCurrent().data?.[0].total;
    const rows = list.getCurrent().data;
    if (total === undefined || rows === undefined) return;
    looks += 1;
    assert.equal(rows.reduce((all, { amount }) => all + amount, 0), total);
  };
  t.after(sum.onUpdate(look));
  t.after(list.onUpdate(look));
  await shows(list, () => true);
  await shows(sum, () => true);
  for (let round = 1; round <= 30; round += 1) {
    await postgres.sql(`update accounts set amount = amount + ${round} where id = ${1 + (round % 10)}`);
    // Some are seen one by one, others as they come.
    if (round % 2 === 0) await shows(sum, ([{ total }]) => total === 1_000 + (round * (round + 1)) / 2);
  }
  assert.ok(looks >= 15, `${looks} looks`);
});

test("the server is killed and comes back: the results are right again, and what did not change is the same object", async (t) => {
  const client = clientFor(t);
  await postgres.sql("insert into orders values (70, 70, 'open', 1), (71, 71, 'open', 1)");
  const changed = client.watchQuery(api.orders.byTenant, { tenant: 70 });
  const unchanged = client.watchQuery(api.orders.byTenant, { tenant: 71 });
  t.after(changed.onUpdate(() => {}));
  t.after(unchanged.onUpdate(() => {}));
  await shows(changed, () => true);
  const before = await shows(unchanged, () => true);
  await convoy.kill();
  await until(changed, () => changed.getCurrent().isReconnecting);
  assert.equal(changed.getCurrent().isStale, true);
  assert.equal(changed.getCurrent().data.length, 1, "what was here stays");
  await postgres.sql("update orders set status = 'paid' where id = 70");
  await convoy.run();
  await shows(changed, (rows) => rows[0].status === "paid", 30_000);
  await until(unchanged, () => !unchanged.getCurrent().isStale);
  assert.equal(unchanged.getCurrent().data, before);
  assert.equal(client.connectionState, "live");
});

test("a connection that breaks is resumed in the same session", async (t) => {
  const streams = [];
  const cut = [];
  const client = clientFor(t, {
    fetch: async (input, init) => {
      const response = await fetch(input, init);
      if (!/\/api\/sync\?/.test(input)) return response;
      streams.push(JSON.parse(init.body));
      // The bytes are the server's; only the connection is ended from outside.
      const { readable, writable } = new TransformStream();
      const abort = new AbortController();
      cut.push(() => abort.abort(new Error("cut")));
      response.body.pipeTo(writable, { signal: abort.signal }).catch(() => {});
      return new Response(readable, { status: response.status, headers: response.headers });
    },
  });
  await postgres.sql("insert into orders values (80, 80, 'open', 1)");
  const watch = client.watchQuery(api.orders.byTenant, { tenant: 80 });
  t.after(watch.onUpdate(() => {}));
  const [row] = await shows(watch, (rows) => rows.length === 1);
  cut.at(-1)();
  await until(watch, () => watch.getCurrent().isReconnecting);
  await postgres.sql("insert into orders values (81, 80, 'open', 1)");
  const rows = await shows(watch, (rows) => rows.length === 2);
  assert.equal(rows[0], row, "one diff, not everything anew");
  assert.equal(streams.length, 2);
  assert.equal(typeof streams[1].resume, "string");
  assert.deepEqual(streams[1].subscribe, []);
});

test("a thousand subscriptions over one stream, and of one write exactly one hears", async (t) => {
  let streams = 0;
  let requests = 0;
  const client = clientFor(t, {
    fetch: (input, init) => {
      requests += 1;
      if (/\/api\/sync\?/.test(input)) streams += 1;
      return fetch(input, init);
    },
  });
  const watches = Array.from({ length: 1_000 }, (_, index) => client.watchQuery(api.orders.byTenant, { tenant: 10_000 + index }));
  const heard = new Map();
  for (const watch of watches) t.after(watch.onUpdate(() => heard.set(watch.key, (heard.get(watch.key) ?? 0) + 1)));
  await Promise.all(watches.map((watch) => shows(watch, () => true, 60_000)));
  assert.equal(streams, 1);
  assert.ok(requests <= 4, `${requests} requests`);
  heard.clear();
  await postgres.sql("insert into orders values (10500, 10500, 'open', 1)");
  await shows(watches[500], (rows) => rows.length === 1);
  assert.deepEqual([...heard], [[watches[500].key, 1]]);
});

test("behind a proxy that holds streams back, it polls, and what is written arrives", async (t) => {
  const proxy = await bufferingProxy(convoy.url, { head: true });
  t.after(() => proxy.stop());
  const client = clientFor(t, { url: proxy.url });
  await postgres.sql("insert into orders values (90, 90, 'open', 1)");
  const watch = client.watchQuery(api.orders.byTenant, { tenant: 90 });
  t.after(watch.onUpdate(() => {}));
  const [row] = await shows(watch, (rows) => rows.length === 1, 30_000);
  const words = new Set();
  t.after(client.onConnectionChange(() => words.add(client.connectionState)));
  for (let id = 91; id <= 93; id += 1) {
    const next = shows(watch, (rows) => rows.length === id - 89, 30_000);
    await postgres.sql(`insert into orders values (${id}, 90, 'open', 1)`);
    assert.equal((await next)[0], row);
  }
  // Another subscription, while a poll is out.
  const other = client.watchQuery(api.orders.count, { tenant: 90 });
  t.after(other.onUpdate(() => {}));
  await shows(other, ([{ n }]) => n === "4", 30_000);
  assert.deepEqual([...words], [], "live all the time");
  const opened = proxy.requests.filter((url) => url.startsWith("/api/sync?"));
  assert.equal(opened[0].includes("poll"), false);
  assert.ok(opened.slice(1).every((url) => url.includes("poll=")));
});

test("where a proxy holds back even the head, it polls too", { timeout: 120_000 }, async (t) => {
  const proxy = await bufferingProxy(convoy.url, { head: false });
  t.after(() => proxy.stop());
  const client = clientFor(t, { url: proxy.url });
  const watch = client.watchQuery(api.orders.count, { tenant: 95 });
  t.after(watch.onUpdate(() => {}));
  await shows(watch, ([{ n }]) => n === "0", 60_000);
  const next = shows(watch, ([{ n }]) => n === "1", 30_000);
  await postgres.sql("insert into orders values (95, 95, 'open', 1)");
  await next;
});
