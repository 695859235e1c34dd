// Random writes, breaks, lost requests, restarts, subscriptions that come and go. What is shown never disagrees with
// itself, and in the end it is what the database says. CONVOY_CHAOS_SEED repeats a run.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { anyApi as api, createConvoyClient } from "convoy/client";
import { Convoy } from "./_convoy.mjs";
import { Postgres } from "./_postgres.mjs";
import { shows, until } from "./_wait.mjs";

const ROUNDS = 150;
const GROUPS = 6;

let postgres;
let convoy;

before(async () => {
  postgres = await Postgres.start();
  await postgres.sql(`
    create table parts (id int4 primary key, part int4 not null, amount int4 not null);
    alter table parts replica identity full;
    insert into parts select i, i % ${GROUPS}, 10 from generate_series(1, 60) i;
  `);
  const queries = {
    "parts.inGroup": "-- @param part int4\nselect id, amount from parts where part = $1 order by id",
    "parts.sums": "select part, sum(amount)::int4 as total, count(*)::int4 as n from parts group by part order by part",
    "parts.top": "select id, amount from parts order by amount desc, id limit 5",
  };
  convoy = await Convoy.start({ databaseUrl: postgres.url, queries });
});

after(async () => {
  await convoy?.stop();
  await postgres?.stop();
});

test("whatever breaks", { timeout: 180_000 }, async (t) => {
  let seed = Number(process.env.CONVOY_CHAOS_SEED ?? Math.floor(Math.random() * 2_147_483_646) + 1);
  t.diagnostic(`CONVOY_CHAOS_SEED=${seed}`);
  const random = (below) => (seed = (seed * 48_271) % 2_147_483_647) % below;

  const streams = new Set();
  let loses = 0;
  const client = createConvoyClient({
    url: convoy.url,
    lingerMs: 5,
    fetch: async (input, init) => {
      if (loses > 0 && /\/api\/sync\/./.test(input)) {
        loses -= 1;
        // Half of them are lost on the way there, half on the way back.
        if (random(2) === 0) await fetch(input, init).catch(() => {});
        throw new TypeError("lost");
      }
      const response = await fetch(input, init);
      if (!/\/api\/sync\?/.test(input) || response.body === null) return response;
      const { readable, writable } = new TransformStream();
      const abort = new AbortController();
      const cut = () => abort.abort(new Error("cut"));
      streams.add(cut);
      response.body.pipeTo(writable, { signal: abort.signal }).catch(() => {}).finally(() => streams.delete(cut));
      return new Response(readable, { status: response.status, headers: response.headers });
    },
  });
  t.after(() => client.close());

  const groups = Array.from({ length: GROUPS }, (_, part) => client.watchQuery(api.parts.inGroup, { part }));
  const sums = client.watchQuery(api.parts.sums, {});
  const top = client.watchQuery(api.parts.top, {});
  let agreed = 0;
  const failures = [];
  const look = () => {
    const totals = sums.getCurrent();
    if (totals.data === undefined || totals.isStale || totals.error) return;
    groups.forEach((watch, part) => {
      const { data, isStale, error } = watch.getCurrent();
      if (data === undefined || isStale || error) return;
      const row = totals.data.find((sum) => sum.part === part) ?? { total: 0, n: 0 };
      const total = data.reduce((all, { amount }) => all + amount, 0);
      if (total !== row.total || data.length !== row.n) failures.push({ part, total, n: data.length, row });
      agreed += 1;
    });
  };
  // Not while a transition is being told, but whenever it is: what one listener sees, all see.
  const ends = new Map();
  const listen = (watch) => ends.set(watch, watch.onUpdate(look));
  for (const watch of [...groups, sums, top]) listen(watch);
  await shows(sums, () => true);

  let id = 60;
  for (let round = 0; round < ROUNDS; round += 1) {
    const n = 1 + random(4);
    const writes = Array.from({ length: n }, () => {
      const some = 1 + random(id);
      switch (random(4)) {
        case 0:
          return `insert into parts values (${(id += 1)}, ${random(GROUPS)}, ${random(50)})`;
        case 1:
          return `delete from parts where id = ${some}`;
        case 2:
          return `update parts set part = ${random(GROUPS)} where id = ${some}`;
        default:
          return `update parts set amount = amount + ${random(9) - 4} where id = ${some}`;
      }
    });
    await postgres.sql(`begin; ${writes.join("; ")}; commit`);
    const dice = random(20);
    if (dice === 0) for (const cut of streams) cut();
    if (dice === 1) loses += 1;
    if (dice <= 4) {
      const watch = groups[random(GROUPS)];
      if (ends.has(watch)) {
        ends.get(watch)();
        ends.delete(watch);
      } else listen(watch);
    }
    if (round === 50 || round === 100) {
      await convoy.kill();
      await postgres.sql(`update parts set amount = amount + 1 where id % 7 = ${round % 7}`);
      await convoy.run();
    }
    if (random(3) === 0) await new Promise((resolve) => setTimeout(resolve, random(30)));
  }
  for (const watch of groups) if (!ends.has(watch)) listen(watch);

  const ask = async (sql) => JSON.parse((await postgres.sql(`select coalesce(json_agg(r), '[]') from (${sql}) r`)) || "[]");
  const agrees = async (watch, sql) => {
    const rows = JSON.stringify(await ask(sql));
    await until(watch, () => JSON.stringify(watch.getCurrent().data) === rows && !watch.getCurrent().isStale, 40_000).catch(() => {
      assert.equal(JSON.stringify(watch.getCurrent().data), rows);
    });
  };
  for (const [part, watch] of groups.entries()) await agrees(watch, `select id, amount from parts where part = ${part} order by id`);
  await agrees(sums, "select part, sum(amount)::int4 as total, count(*)::int4 as n from parts group by part order by part");
  await agrees(top, "select id, amount from parts order by amount desc, id limit 5");
  assert.deepEqual(failures.slice(0, 3), []);
  assert.ok(agreed > 20, `${agreed} comparisons`);
  t.diagnostic(`${agreed} comparisons`);
});
