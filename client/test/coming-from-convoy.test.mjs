// What docs/coming-from-convoy.md says works, as the first Convoys and Convex-Lite had it: a project in their words, with a
// real server and a real Postgres. The project is coming-from/convoy.

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { createHmac, randomBytes } from "node:crypto";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { createElement as h } from "react";
import { ConvoyError, createConvoyClient } from "convoy/client";
import { Convoy, binary } from "./_convoy.mjs";
import { freePort } from "./_port.mjs";
import { Postgres } from "./_postgres.mjs";
import { filesOf, importFrom, typeCheck } from "./_project.mjs";

const FILES = filesOf("coming-from/convoy");
const SECRET = randomBytes(32).toString("base64url");
const GENERATED = ["api.ts", "functions.ts", "http.ts", "server.ts"];

let postgres;
let convoy;
let page;
let api;
let http;
/** A reader, with the card that says so. */
let ann;

before(async () => {
  postgres = await Postgres.start();
  await postgres.sql("create table visitors (id bigint generated always as identity primary key, door text not null)");
  convoy = await Convoy.start({ databaseUrl: postgres.url, files: { ...FILES, ".secret": SECRET } });
  page = await importFrom(convoy.project, "src/page.tsx");
  ({ api } = await importFrom(convoy.project, "convoy/_generated/api.ts"));
  http = await importFrom(convoy.project, "convoy/_generated/http.ts");
  ann = await reader("Ann");
});

after(async () => {
  await convoy?.stop();
  await postgres?.stop();
});

/** Makes a reader and a card, from outside. */
async function reader(name) {
  const id = await postgres.sql(`insert into readers (doc) values ('{"name": "${name}", "joinedAt": 1}') returning _id`);
  await postgres.sql(`insert into cards (doc) values ('{"number": "no-${name}", "readerId": "${id}"}')`);
  return { id, cookie: `lang=en; card=no-${name}; theme=dark` };
}

function tokenFor(sub, claims = {}) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const head = `${part({ alg: "HS256" })}.${part({ sub, iss: "the desk", exp: Math.floor(Date.now() / 1000) + 600, ...claims })}`;
  return `${head}.${createHmac("sha256", SECRET).update(head).digest("base64url")}`;
}

function clientFor(t, { cookie } = ann) {
  const client = createConvoyClient({ url: convoy.url, headers: { cookie }, lingerMs: 20 });
  t.after(() => client.close());
  return client;
}

/** Leads requests to the page's own server, or to the one that scripts have, to ours; with the cookie that a browser would send. */
function serveOwn(t, { cookie } = ann) {
  const { fetch } = globalThis;
  const asked = [];
  globalThis.fetch = (input, init) => {
    const url = new URL(input, "http://own.example");
    if (url.origin === convoy.url) return fetch(input, init);
    asked.push(url.origin);
    return fetch(convoy.url + url.pathname + url.search, { ...init, headers: { ...init?.headers, cookie } });
  };
  t.after(() => (globalThis.fetch = fetch));
  return asked;
}

const post = (path, args, headers = { cookie: ann.cookie }) =>
  fetch(`${convoy.url}${path}`, { method: "POST", headers: { "content-type": "application/json", ...headers }, body: JSON.stringify(args) });

function run(flags, env = {}) {
  const { status, stdout, stderr } = spawnSync(binary(), flags, { encoding: "utf8", env: { ...process.env, CONVOY_DATABASE_URL: undefined, ...env } });
  return { status, output: stdout + stderr };
}

/** Copies the project as its writer has it, without what was generated. */
function copy(t, folder = "") {
  const project = mkdtempSync(join(tmpdir(), "convoy-client-copy-"));
  t.after(() => rmSync(project, { recursive: true, force: true }));
  mkdirSync(join(project, folder), { recursive: true });
  cpSync(join(convoy.project, "convoy"), join(project, folder, "convoy"), { recursive: true });
  rmSync(join(project, folder, "convoy/_generated"), { recursive: true });
  cpSync(join(convoy.project, "node_modules"), join(project, "node_modules"), { recursive: true, verbatimSymlinks: true });
  return project;
}

test("the project and its page compile as they were written", () => {
  for (const name of GENERATED) assert.ok(existsSync(join(convoy.project, "convoy/_generated", name)), name);
  typeCheck(convoy.project);
});

test("tables and JSONB indexes are created, and a table of others is left alone", async () => {
  const [definition] = (await postgres.sql("select indexdef from pg_indexes where indexname = 'loans_by_readerId'")).split("\n");
  assert.match(definition, /doc ->> 'readerId'/);
  assert.equal(await postgres.sql("select string_agg(attname, ',' order by attnum) from pg_attribute where attrelid = 'visitors'::regclass and attnum > 0"), "id,door");
});

test("dev --once, with the database in DATABASE_URL, and the project in src/convoy", (t) => {
  const project = copy(t, "src");
  const { status, output } = run(["dev", "--once", "--no-serve", "--project", project], { DATABASE_URL: postgres.url });
  assert.equal(status, 0, output);
  for (const name of GENERATED) {
    const text = readFileSync(join(project, "src/convoy/_generated", name), "utf8");
    assert.equal(text, readFileSync(join(convoy.project, "convoy/_generated", name), "utf8"), name);
  }
});

test("dev --no-serve generates with each save, and serves nothing", async (t) => {
  const project = copy(t);
  const listen = `127.0.0.1:${await freePort()}`;
  const child = spawn(binary(), ["dev", "--no-serve", "--database-url", postgres.url, "--project", project, "--listen", listen], { stdio: "ignore" });
  const ended = new Promise((resolve) => child.on("exit", resolve));
  t.after(() => child.kill("SIGKILL"));
  const generated = join(project, "convoy/_generated/functions.ts");
  const says = async (word) => {
    for (const end = Date.now() + 30_000; !(existsSync(generated) && readFileSync(generated, "utf8").includes(word)); ) {
      assert.ok(Date.now() < end, `${word} is not generated within 30 s`);
      assert.equal(child.exitCode, null, "dev has ended");
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  };
  await says("'loans.list'");
  writeFileSync(join(project, "convoy/functions/late.ts"), "import { query } from '../_generated/server';\nexport const comer = query(async () => 1);\n");
  await says("'late.comer'");
  await assert.rejects(fetch(`http://${listen}/`), "something is served");
  child.kill("SIGTERM");
  assert.equal(await ended, 0);
});

test("migrate and deploy are explicit: they warn, and drop nothing", async (t) => {
  const project = copy(t);
  cpSync(join(convoy.project, "convoy/_generated"), join(project, "convoy/_generated"), { recursive: true });
  const flags = ["--database-url", postgres.url, "--project", project];
  const schema = join(project, "convoy/schema.ts");
  writeFileSync(schema, FILES["convoy/schema.ts"].replace(".index('by_book', ['book'])", ""));
  for (const command of ["migrate", "deploy"]) {
    const { status, output } = run([command, ...flags]);
    assert.equal(status, 0, output);
    assert.match(output, /kept +reviews_by_book/);
    assert.match(output, /nothing to create/);
  }
  assert.equal(await postgres.sql("select count(*) from pg_indexes where indexname = 'reviews_by_book'"), "1");
  writeFileSync(schema, FILES["convoy/schema.ts"].replace("book: z.string(),", "book: z.string(), stars: z.number().optional(),").replace("['book']", "['book'])\n.index('by_stars', ['stars']"));
  const planned = run(["migrate", "--dry-run", ...flags]);
  assert.equal(planned.status, 1, planned.output);
  assert.match(planned.output, /create +reviews_by_stars/);
  assert.equal(await postgres.sql("select count(*) from pg_indexes where indexname = 'reviews_by_stars'"), "0");
});

test("functions: input, args, z.object, an index, an order by a field", async (t) => {
  const client = clientFor(t);
  const readerId = await client.mutation(api.readers.join, { name: "Ben" });
  assert.match(readerId, /^readers:/);
  for (const title of ["Emma", "Ulysses", "Middlemarch"]) {
    assert.match(await client.mutation(api.loans.lend, { readerId, title }), /^loans:/);
  }
  await postgres.sql(`update loans set doc = doc || '{"lentAt": 5}' where doc->>'title' = 'Ulysses'`);
  const loans = await client.query(api.loans.list, { readerId });
  assert.deepEqual(loans.map(({ title }) => title), ["Middlemarch", "Emma", "Ulysses"]);
  assert.deepEqual(Object.keys(loans[0]).sort(), ["_creationTime", "_id", "lentAt", "readerId", "title"]);
  assert.equal(await client.mutation(api.front.reviews.add, { book: "Emma", words: "clueless" }), null);
  assert.deepEqual((await client.query(api.front.reviews.listByBook, { book: "Emma" })).map(({ words }) => words), ["clueless"]);
  await assert.rejects(client.query(api.front.reviews.listByBook, { book: 1 }), { code: "INVALID_ARGS" });
  const { before, after } = await client.mutation(api.readers.stopTheClock);
  assert.equal(after, before);
  assert.ok(Math.abs(Date.now() - before) < 60_000);
});

test("SQL by drizzle's sql: counts are numbers, values are parameters", async (t) => {
  const client = clientFor(t);
  await postgres.sql(`insert into readers (doc) values ('{"name": "Bobby '' or true", "joinedAt": 1}')`);
  const total = await client.query(api.readers.total);
  assert.equal(total, Number(await postgres.sql("select count(*) from readers")));
  assert.equal((await client.query(api.readers.named, { name: "Bobby ' or true" })).length, 1);
  assert.deepEqual(await client.query(api.readers.named, { name: "Ann" }), [{ id: ann.id }]);
});

test("a table of others is read and written", async (t) => {
  await postgres.sql("insert into visitors (door) values ('back')");
  const count = await clientFor(t).mutation(api.readers.visit, { door: "front" });
  assert.equal(await postgres.sql("select string_agg(door, ',' order by id) from visitors"), "back,front");
  assert.equal(count, 2);
});

test("createContext says who calls, by a cookie or by a token, and refuses nobody", async (t) => {
  const loanId = await clientFor(t).mutation(api.loans.lend, { readerId: ann.id, title: "Orlando" });
  const mine = async (headers) => {
    const answer = await post("/api/query/loans.mine", {}, headers);
    return [answer.status, await answer.json()];
  };
  for (const headers of [{ cookie: ann.cookie }, { authorization: `Bearer ${tokenFor(ann.id)}` }]) {
    const [status, { value }] = await mine(headers);
    assert.deepEqual([status, value.map(({ title }) => title)], [200, ["Orlando"]]);
  }
  const [status, { error }] = await mine({});
  assert.deepEqual([status, error.code, error.message], [401, "UNAUTHORIZED", "show your card"]);
  for (const headers of [{ cookie: "card=forged" }, { authorization: `Bearer ${tokenFor(ann.id, { iss: "a stranger" })}` }]) {
    const [status, { error }] = await mine(headers);
    assert.deepEqual([status, error.code], [401, "UNAUTHORIZED"]);
  }
  const other = clientFor(t, await reader("Cem"));
  await assert.rejects(other.mutation(api.loans.bringBack, { loanId }), { code: "FORBIDDEN", message: "this loan is somebody else's" });
  await clientFor(t).mutation(api.loans.bringBack, { loanId });
  assert.equal(await postgres.sql(`select count(*) from loans where _id = '${loanId}'`), "0");
});

test("errors are structured, for a client and over HTTP", async (t) => {
  const client = clientFor(t);
  const failed = await client.mutation(api.loans.lend, { readerId: ann.id, title: "" }).catch((error) => error);
  assert.ok(failed instanceof ConvoyError);
  assert.deepEqual([failed.code, failed.message, failed.data], ["NO_TITLE", "a book has a title", { field: "title" }]);
  await assert.rejects(client.mutation(api.front.reviews.add, { book: "Emma", words: "unprintable" }), (error) => {
    assert.equal(error.code, "INTERNAL");
    return !error.message.includes("for the log");
  });
  const answer = await post("/api/mutation/loans.lend", { readerId: ann.id });
  assert.deepEqual([answer.status, (await answer.json()).error.code], [400, "INVALID_ARGS"]);
});

test("over HTTP alone: /api/mutation/:name, /api/query/:name, and its stream", async (t) => {
  const { id, cookie } = await reader("Dee");
  const lent = await (await post("/api/mutation/loans.lend", { readerId: id, title: "Dracula" }, { cookie })).json();
  const asked = await (await post("/api/query/loans.list", { readerId: id }, { cookie })).json();
  assert.deepEqual(asked.value.map(({ _id }) => _id), [lent.value]);
  const stop = new AbortController();
  t.after(() => stop.abort());
  const args = encodeURIComponent(JSON.stringify({ readerId: id }));
  const stream = await fetch(`${convoy.url}/api/query/loans.list?args=${args}`, { headers: { cookie, accept: "text/event-stream" }, signal: stop.signal });
  assert.equal(stream.headers.get("content-type"), "text/event-stream");
  const pieces = stream.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  const seen = async (word) => {
    while (!text.includes(word)) {
      const { value, done } = await pieces.read();
      assert.ok(!done, `the stream ended without ${word}: ${text}`);
      text += value;
    }
  };
  await seen("Dracula");
  await postgres.sql(`update loans set doc = doc || '{"title": "Carmilla"}' where _id = '${lent.value}'`);
  await seen("Carmilla");
});

test("_generated/http.ts calls by fetch alone, and has the default createContext", async () => {
  const headers = { cookie: ann.cookie };
  const id = await http.callMutation(api.loans.lend, { readerId: ann.id, title: "Walden" }, { url: convoy.url, headers });
  const loans = await http.callQuery(api.loans.list, { readerId: ann.id }, { url: convoy.url, headers });
  assert.ok(loans.some(({ _id }) => _id === id));
  const base = {};
  assert.equal(await http.createContext({}, base), base);
});

test("a script's createConvoyClient() finds the server of this machine", async (t) => {
  assert.equal(typeof document, "undefined");
  const asked = serveOwn(t);
  const id = await page.lendFromScript({ readerId: ann.id }, "Nostromo");
  assert.deepEqual([...new Set(asked)], ["http://127.0.0.1:4500"]);
  assert.equal(await postgres.sql(`select doc->>'title' from loans where _id = '${id}'`), "Nostromo");
});

test("the page: hooks without a provider, in a document", async (t) => {
  const { render, screen } = await import("./_dom.mjs");
  globalThis.location = window.location;
  const { flushSync } = await import("react-dom");
  const fire = (button, type = "click") => flushSync(() => button.dispatchEvent(new window.MouseEvent(type, { bubbles: true })));
  const eve = await reader("Eve");
  const readerId = eve.id;
  const asked = serveOwn(t, eve);
  const show = async (component, props, wrap = (element) => element) => (await render(t, wrap(h(component, props)))).container;

  const loans = await show(page.Loans, { readerId });
  await screen(loans, "live: ");
  fire(loans.firstChild);
  await screen(loans, "live: Emma");
  await postgres.sql(`insert into loans (doc) values ('{"title": "Sula", "readerId": "${readerId}", "lentAt": 9}')`);
  await screen(loans, "live: Emma,Sula"); // Sula was lent long before.
  assert.deepEqual([...new Set(asked)], ["http://own.example"]);

  const onDemand = await show(page.OnDemand, { readerId });
  assert.equal(onDemand.textContent, "not asked");
  fire(onDemand.firstChild);
  await screen(onDemand, "2 loans");
  await postgres.sql(`insert into loans (doc) values ('{"title": "Beloved", "readerId": "${readerId}", "lentAt": 8}')`);
  await screen(loans, "live: Emma,Sula,Beloved");
  assert.equal(onDemand.textContent, "2 loans");
  fire(onDemand.firstChild);
  await screen(onDemand, "3 loans");

  const failing = await show(page.Failing, { readerId: ann.id });
  await screen(failing, "FORBIDDEN: these loans are somebody else's");

  const reviews = await show(page.Reviews, { book: "Sula" });
  assert.equal(reviews.textContent, "loading");
  await screen(reviews, "");
  const shown = [];
  new window.MutationObserver(() => shown.push(reviews.textContent)).observe(reviews, { childList: true, subtree: true, characterData: true });
  const fine = await show(page.ReviewForm, { book: "Sula", words: "strong" });
  fire(fine.firstChild);
  assert.equal(reviews.textContent, "(strong)");
  await screen(fine, "printed");
  await screen(reviews, "strong");
  const bad = await show(page.ReviewForm, { book: "Sula", words: "unprintable" });
  fire(bad.firstChild);
  assert.equal(reviews.textContent, "strong,(unprintable)");
  await screen(bad, "INTERNAL");
  await screen(reviews, "strong");
  assert.deepEqual(shown, ["(strong)", "strong", "strong,(unprintable)", "strong"]);

  const desk = await show(page.Desk, { readerId, title: "" });
  assert.equal(desk.textContent, "fine; nothing; ");
  fire(desk.firstChild);
  assert.equal(desk.textContent, "busy");
  await screen(desk, 'NO_TITLE; nothing; NO_TITLE, a book has a title, {"field":"title"}');
  fire(desk.firstChild, "dblclick");
  await screen(desk, /^fine; nothing;/);
  const again = await show(page.Desk, { readerId, title: "Jazz" });
  fire(again.firstChild);
  await screen(again, "fine; loans; ");

  const queryClient = new QueryClient();
  t.after(() => queryClient.clear());
  const within = (element) => h(QueryClientProvider, { client: queryClient }, element);
  const cached = await show(page.CachedLoans, { readerId: eve.id, client: clientFor(t, eve) }, within);
  await screen(cached, "Jazz,Emma,Sula,Beloved");
  fire(cached.firstChild);
  await screen(cached, "Persuasion,Jazz,Emma,Sula,Beloved");

  // The card is taken away: createContext knows nobody by it, and nothing more is shown.
  const own = await show(page.Failing, { readerId });
  await screen(own, "5 loans");
  await postgres.sql("delete from cards where doc->>'number' = 'no-Eve'");
  await screen(own, "UNAUTHORIZED: this card is not known");
});
