// Functions, mutations and optimistic updates against a real server and a real Postgres. What has to be steered to the frame
// is in optimistic.test.mjs.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { anyApi as api, createConvoyClient } from "convoy/client";
import { Convoy } from "./_convoy.mjs";
import { Postgres } from "./_postgres.mjs";
import { shows, until } from "./_wait.mjs";

const FILES = {
  "schema.ts": `
    import { defineSchema, defineTable } from 'convoy';
    import { z } from 'zod';
    export default defineSchema({
      messages: defineTable({ channel: z.string(), text: z.string(), rank: z.number() }).index('by_rank', ['channel', 'rank']),
    });`,
  "functions/messages.ts": `
    import { convoyError, paginationOptsValidator } from 'convoy';
    import { z } from 'zod';
    import { mutation, query } from '../_generated/server';
    const of = (ctx, channel) => ctx.db.query('messages').withIndex('by_rank', (q) => q.eq('channel', channel));
    export const list = query({ args: { channel: z.string() }, handler: (ctx, { channel }) => of(ctx, channel).collect() });
    export const count = query({
      args: { channel: z.string() },
      handler: async (ctx, { channel }) => (await of(ctx, channel).collect()).length,
    });
    export const page = query({
      args: { channel: z.string(), paginationOpts: paginationOptsValidator },
      handler: (ctx, { channel, paginationOpts }) => of(ctx, channel).paginate(paginationOpts),
    });
    export const send = mutation({
      args: { channel: z.string(), text: z.string(), rank: z.number() },
      handler: (ctx, message) => {
        if (message.text === '') throw convoyError('EMPTY', 'a message says something', { field: 'text' });
        return ctx.db.insert('messages', message);
      },
    });`,
};

let postgres;
let convoy;

before(async () => {
  postgres = await Postgres.start();
  convoy = await Convoy.start({ databaseUrl: postgres.url, files: FILES });
});

after(async () => {
  await convoy?.stop();
  await postgres?.stop();
});

function clientFor(t) {
  const client = createConvoyClient({ url: convoy.url, lingerMs: 20 });
  t.after(() => client.close());
  return client;
}

async function watched(t, client, reference, args, check = () => true) {
  const watch = client.watchQuery(reference, args);
  t.after(watch.onUpdate(() => {}));
  await shows(watch, check);
  return watch;
}

const insert = (channel, text, rank) =>
  postgres.sql(`insert into messages (doc) values ('{"channel":"${channel}","text":"${text}","rank":${rank}}')`);
const add = (localStore, { channel, ...message }) => {
  const list = localStore.getQuery(api.messages.list, { channel });
  if (list) localStore.setQuery(api.messages.list, { channel }, [...list, { _id: "temp", ...message }]);
};
const texts = (watch) => watch.getCurrent().data.map(({ _id, text }) => (_id === "temp" ? `(${text})` : text));

test("a layer shows at once and gives way to the real row: never both, never neither", async (t) => {
  const client = clientFor(t);
  const watch = await watched(t, client, api.messages.list, { channel: "layer" });
  const seen = [];
  t.after(watch.onUpdate(() => seen.push(texts(watch).join(" "))));
  const sent = client.mutation(api.messages.send, { channel: "layer", text: "hi", rank: 1 }, { optimisticUpdate: add });
  assert.deepEqual(texts(watch), ["(hi)"], "before anything was awaited");
  const id = await sent;
  await shows(watch, (rows) => rows[0]?._id === id);
  assert.deepEqual(seen, ["(hi)", "hi"]);
});

test("twenty layers and twenty rows of others: each shows once in every state", async (t) => {
  const client = clientFor(t);
  const watch = await watched(t, client, api.messages.list, { channel: "busy" });
  const count = await watched(t, client, api.messages.count, { channel: "busy" });
  const states = [];
  t.after(watch.onUpdate(() => states.push(watch.getCurrent().data.map(({ text }) => text))));
  const sent = [];
  for (let i = 0; i < 20; i++) {
    sent.push(client.mutation(api.messages.send, { channel: "busy", text: `mine ${i}`, rank: i }, { optimisticUpdate: add }));
    await insert("busy", `theirs ${i}`, 100 + i);
  }
  await Promise.all(sent);
  await shows(watch, (rows) => rows.length === 40 && rows.every(({ _id }) => _id !== "temp"));
  await shows(count, (n) => n === 40);
  for (const state of states) {
    assert.equal(new Set(state).size, state.length, `one shows twice: ${state}`);
  }
  // Once shown, mine stays.
  for (let i = 0; i < 20; i++) {
    const first = states.findIndex((state) => state.includes(`mine ${i}`));
    assert.ok(first >= 0 && states.slice(first).every((state) => state.includes(`mine ${i}`)), `mine ${i} went`);
  }
});

test("a mutation that fails takes its layer away, and says why", async (t) => {
  const client = clientFor(t);
  await insert("fails", "there", 1);
  const watch = await watched(t, client, api.messages.list, { channel: "fails" });
  const sent = client.mutation(api.messages.send, { channel: "fails", text: "", rank: 2 }, { optimisticUpdate: add });
  assert.deepEqual(texts(watch), ["there", "()"]);
  await assert.rejects(sent, { name: "ConvoyError", code: "EMPTY", message: "a message says something", data: { field: "text" } });
  assert.deepEqual(texts(watch), ["there"]);
  await assert.rejects(client.mutation(api.messages.send, { channel: "fails", text: 7, rank: 2 }), { code: "INVALID_ARGS" });
});

test("mutations that are on their way when the server is killed are done once each", async (t) => {
  const client = clientFor(t);
  const watch = await watched(t, client, api.messages.list, { channel: "killed" });
  const sent = [];
  for (let i = 0; i < 30; i++) {
    sent.push(client.mutation(api.messages.send, { channel: "killed", text: `${i}`, rank: i }, { optimisticUpdate: add }));
  }
  await Promise.race(sent);
  await convoy.kill();
  await convoy.run();
  await Promise.all(sent);
  await shows(watch, (rows) => rows.length === 30 && rows.every(({ _id }) => _id !== "temp"));
  assert.deepEqual(texts(watch), Array.from({ length: 30 }, (_, i) => `${i}`));
  assert.equal(await postgres.sql("select count(*) from messages where doc->>'channel' = 'killed'"), "30");
});

test("a paginated list grows, and shows what psql puts between its rows", async (t) => {
  const client = clientFor(t);
  for (let rank = 10; rank <= 50; rank += 10) await insert("pages", `r${rank}`, rank);
  const list = client.paginate(api.messages.page, { channel: "pages" }, { initialNumItems: 2 });
  t.after(list.onUpdate(() => {}));
  const ranks = () => list.getCurrent().results.map(({ rank }) => rank);
  const are = (expected) => until(list, () => ranks().join() === expected.join());
  await are([10, 20]);
  await until(list, () => list.getCurrent().status === "CanLoadMore");
  list.loadMore(2);
  await are([10, 20, 30, 40]);
  await insert("pages", "between", 25);
  await are([10, 20, 25, 30, 40]);
  await postgres.sql("delete from messages where doc->>'channel' = 'pages' and doc->>'rank' = '20'");
  await are([10, 25, 30, 40]);
  await until(list, () => list.getCurrent().status === "CanLoadMore");
  list.loadMore(2);
  await are([10, 25, 30, 40, 50]);
  await until(list, () => list.getCurrent().status === "Exhausted");
});
