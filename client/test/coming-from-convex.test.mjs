// What docs/coming-from-convex.md says works, and its other ways to write what differs: a project as a guide to Convex has it,
// translated by that page, with a real server and a real Postgres. The project is coming-from/convex.

import assert from "node:assert/strict";
import { createHmac, randomBytes } from "node:crypto";
import { after, before, test } from "node:test";
import { createConvoyClient } from "convoy/client";
import { Convoy } from "./_convoy.mjs";
import { Postgres } from "./_postgres.mjs";
import { filesOf, importFrom, typeCheck } from "./_project.mjs";

const FILES = filesOf("coming-from/convex");
const SECRET = randomBytes(32).toString("base64url");
const ISSUER = "https://login.example";
const ANN = { sub: "ann", name: "Ann", email: "ann@example.org" };

let postgres;
let convoy;
let page;
let api;
let internal;

before(async () => {
  postgres = await Postgres.start();
  process.env.CONVOY_JWT_SECRET = SECRET;
  convoy = await Convoy.start({ databaseUrl: postgres.url, files: FILES, flags: ["--jwt-issuer", ISSUER, "--jwt-audience", "library"] });
  page = await importFrom(convoy.project, "src/page.tsx");
  ({ api, internal } = await importFrom(convoy.project, "convoy/_generated/api.ts"));
});

after(async () => {
  await convoy?.stop();
  await postgres?.stop();
});

function tokenFor(claims) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const head = `${part({ alg: "HS256" })}.${part({ iss: ISSUER, aud: "library", exp: Math.floor(Date.now() / 1000) + 600, ...claims })}`;
  return `${head}.${createHmac("sha256", SECRET).update(head).digest("base64url")}`;
}

/** A client of somebody with these claims, or of nobody. */
function clientFor(t, claims = ANN) {
  const client = createConvoyClient({ url: convoy.url, auth: () => claims && tokenFor(claims), lingerMs: 20 });
  t.after(() => client.close());
  return client;
}

/** A shelf with these books, in the order of their coming. */
async function shelf(client, name, ...titles) {
  const shelfId = await client.mutation(api.shelves.build, { name });
  const ids = [];
  for (const [i, title] of titles.entries()) ids.push(await client.mutation(api.books.give, { shelfId, title, addedAt: i + 1 }));
  return { shelfId, ids };
}

/** Waits until the server's log has these words. */
async function logged(words) {
  for (const end = Date.now() + 10_000; !convoy.log.includes(words); ) {
    assert.ok(Date.now() < end, `${words} is not logged: ${convoy.log}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

const titles = (books) => books.map(({ title }) => title);
/** What a client hears of an error that is not meant for it. */
const internally = { name: "ConvoyError", code: "INTERNAL" };

test("the project and its page compile, and what Convex alone has is refused", () => typeCheck(convoy.project));

test("an index, the newest first, so many, and documents of another table beside them", async (t) => {
  const client = clientFor(t);
  const { shelfId } = await shelf(client, "novels", "Emma", "Ulysses", "Dracula", "Orlando");
  const books = await client.query(api.books.list, { shelfId });
  assert.deepEqual(titles(books), ["Orlando", "Dracula", "Ulysses"]);
  assert.deepEqual(books.map(({ giver }) => [giver.name, giver.role]), Array(3).fill(["Ann", "reader"]));
  const { _id, _creationTime, ...rest } = await client.query(api.books.get, { id: books[0]._id });
  assert.equal(_id, books[0]._id);
  assert.ok(Math.abs(Date.now() - _creationTime) < 60_000);
  assert.deepEqual(rest, { title: "Orlando", shelfId, giverId: books[0].giver._id, addedAt: 4 });
  assert.equal(await client.query(api.books.get, { id: "books:none" }), null);
});

test("a live query wakes for the documents that it read beside the list", async (t) => {
  const client = clientFor(t, { ...ANN, sub: "renamed" });
  const { shelfId } = await shelf(client, "live", "Emma");
  const givers = [];
  await new Promise((resolve) => {
    t.after(
      client.subscribe(api.books.list, { shelfId }, async ([{ giver }]) => {
        givers.push(giver.name);
        if (giver.name === "Anna") resolve();
        else await postgres.sql(`update members set doc = doc || '{"name": "Anna"}' where _id = '${giver._id}'`);
      }),
    );
  });
  assert.deepEqual(givers, ["Ann", "Anna"]);
});

test("ranges of an index, and what comes after a document of the same moment", async (t) => {
  const client = clientFor(t);
  const { shelfId, ids } = await shelf(client, "ranges", "one", "two", "three", "four");
  assert.deepEqual(titles(await client.query(api.books.between, { shelfId, from: 1, to: 3 })), ["two", "three"]);
  await postgres.sql(`update books set doc = doc || '{"addedAt": 7}' where doc->>'shelfId' = '${shelfId}' and _id <> '${ids[0]}'`);
  assert.deepEqual(titles(await client.query(api.books.later, { id: ids[1] })), ["three", "four"]);
});

test("a search in JavaScript, with `returns`", async (t) => {
  const client = clientFor(t);
  const { shelfId } = await shelf(client, "search", "Middlemarch", "March", "Emma");
  assert.deepEqual(await client.query(api.books.search, { shelfId, term: "MARCH" }), ["Middlemarch", "March"]);
});

test("pages, by our validator and by one of one's own", async (t) => {
  const client = clientFor(t);
  const { shelfId } = await shelf(client, "pages", "a", "b", "c");
  const first = await client.query(api.books.paginated, { shelfId, paginationOpts: { numItems: 2, cursor: null } });
  assert.deepEqual([titles(first.page), first.isDone], [["c", "b"], false]);
  const second = await client.query(api.books.paginated, { shelfId, paginationOpts: { numItems: 2, cursor: first.continueCursor } });
  assert.deepEqual([titles(second.page), second.isDone], [["a"], true]);
  const own = await client.query(api.books.everything, { paginationOpts: { numItems: 3, cursor: null } });
  assert.deepEqual(titles(own.page), ["c", "b", "a"]);
});

test("filters as Convex builds them, and as a predicate", async (t) => {
  const client = clientFor(t);
  await client.mutation(api.errands.forget);
  assert.equal(await client.query(api.errands.first), null);
  const errands = [
    { title: "dust", status: "open", dueAt: 1, tags: [] },
    { title: "stamp", status: "begun", dueAt: 2, tags: ["upstairs"] },
    { title: "bind", status: "open", dueAt: 3, tags: [] },
    { title: "sort", status: "done", tags: ["upstairs", "alone"] },
  ];
  for (const errand of errands) await client.mutation(api.errands.add, errand);
  const expected = {
    eq: ["dust", "bind"],
    neq: ["stamp", "sort"],
    lt: ["dust"],
    lte: ["dust", "stamp"],
    gt: ["bind"],
    gte: ["stamp", "bind"],
    and: ["bind"],
    or: ["dust", "sort"],
    not: ["stamp", "bind", "sort"],
    doc: ["stamp", "sort"],
  };
  for (const [by, names] of Object.entries(expected)) assert.deepEqual(await client.query(api.errands.filtered, { by }), names, by);
  assert.deepEqual(await client.query(api.errands.due, { before: 3 }), ["dust", "stamp"]);
  const first = await client.query(api.errands.first);
  assert.deepEqual([first.title, first.anything, first.nothing], ["dust", { of: ["any", 1] }, null]);
});

test("unique is the only one, or null, or an error", async (t) => {
  const client = clientFor(t);
  assert.equal(await client.query(api.shelves.byName, { name: "twin" }), null);
  const { shelfId } = await shelf(client, "twin");
  assert.equal((await client.query(api.shelves.byName, { name: "twin" }))._id, shelfId);
  await shelf(client, "twin");
  await assert.rejects(client.query(api.shelves.byName, { name: "twin" }), { code: "CONFLICT" });
});

test("insert, patch, replace, delete; a document that was read may be changed before it is written", async (t) => {
  const client = clientFor(t);
  const { ids: [id] } = await shelf(client, "writes", "Emma");
  await client.mutation(api.books.rename, { id, title: "Persuasion" });
  for (const sign of ["★", "☂"]) await client.mutation(api.books.mark, { id, sign });
  const book = await client.query(api.books.get, { id });
  assert.deepEqual([book.title, book.marks.map(({ sign }) => sign)], ["Persuasion", ["★", "☂"]]);
  await client.mutation(api.books.exchange, { id, title: "Sanditon" });
  const { title, marks, addedAt } = await client.query(api.books.get, { id });
  assert.deepEqual([title, marks, addedAt], ["Sanditon", undefined, 1]);
  await client.mutation(api.books.remove, { id });
  assert.equal(await client.query(api.books.get, { id }), null);
});

test("who calls: the claims of a token, and null for nobody", async (t) => {
  const me = { subject: "ann", issuer: ISSUER, name: "Ann", email: "ann@example.org" };
  assert.deepEqual(await clientFor(t).query(api.errands.whoAmI), me);
  const nobody = clientFor(t, null);
  assert.equal(await nobody.query(api.errands.whoAmI), null);
  const { shelfId, ids: [id] } = await shelf(clientFor(t), "owned", "Emma");
  await assert.rejects(nobody.mutation(api.books.give, { shelfId, title: "Sula" }), internally);
  await assert.rejects(clientFor(t, { ...ANN, sub: "ben" }).mutation(api.books.rename, { id, title: "Sula" }), internally);
  const { title } = await clientFor(t).query(api.books.get, { id });
  assert.equal(title, "Emma");
  await assert.rejects(clientFor(t, { ...ANN, aud: "a shop" }).query(api.errands.whoAmI), { code: "UNAUTHORIZED" });
});

test("what a mutation wrote goes with what it throws, whose words stay here", async (t) => {
  const client = clientFor(t, { ...ANN, sub: "short" });
  const { shelfId } = await shelf(client, "thrown");
  await assert.rejects(client.mutation(api.books.give, { shelfId, title: "x".repeat(61) }), (error) => {
    assert.equal(error.code, "INTERNAL");
    return !error.message.includes("spine");
  });
  // The giver was written down before the title was looked at.
  assert.equal(await postgres.sql(`select count(*) from members where doc->>'tokenIdentifier' = '${ISSUER}|short'`), "0");
});

test("fetch fails in a mutation, whose console is the log; internal functions are none for clients", async (t) => {
  const client = clientFor(t);
  await assert.rejects(client.mutation(api.books.ask), internally);
  await logged("asking the world");
  await logged("fetch");
  await assert.rejects(client.query(internal.books.hidden), { code: "NOT_FOUND" });
  await assert.rejects(client.mutation(internal.books.hiddenToo), { code: "NOT_FOUND" });
});

test("the page: a provider in StrictMode, queries, mutations, skip, pages, the connection", async (t) => {
  const { render, screen } = await import("./_dom.mjs");
  const { createElement: h } = await import("react");
  const { flushSync } = await import("react-dom");
  const fire = (target, type = "click") => flushSync(() => target.dispatchEvent(new window.Event(type, { bubbles: true, cancelable: true })));
  const { shelfId, ids } = await shelf(clientFor(t), "page", "a", "b", "c");
  const client = page.clientOf(convoy.url, async () => tokenFor(ANN));
  t.after(() => client.close());
  const show = async (component, props = {}) => render(t, h(page.App, { client }, h(component, props)));
  const container = async (component, props) => (await show(component, props)).container;

  const books = await container(page.Books, { shelfId });
  assert.equal(books.textContent, "loading");
  await screen(books, "c from Ann;b from Ann;a from Ann;");
  const sign = await container(page.Sign);
  await screen(sign, "live, ?");
  fire(sign.querySelector("button"));
  await screen(sign, "live, Ann");

  const paged = await container(page.PagedBooks, { shelfId });
  assert.equal(paged.textContent, "first");
  await screen(paged, "c b more");
  const seen = [];
  new window.MutationObserver(() => seen.push(paged.textContent)).observe(paged, { childList: true, subtree: true, characterData: true });
  fire(paged.querySelector("button"));
  await screen(paged, "c b a that is all");
  assert.equal(seen[0], "c b loading");

  const give = await container(page.Give, { shelfId, title: "d" });
  fire(give.querySelector("form"), "submit");
  await screen(give, "books");
  await screen(books, "d from Ann;c from Ann;b from Ann;");
  await screen(paged, "d c b a that is all");

  const remove = await container(page.Remove, { shelfId, id: ids[2] });
  fire(remove.querySelector("button"));
  assert.equal(books.textContent, "d from Ann;b from Ann;", "at once");
  await screen(books, "d from Ann;b from Ann;a from Ann;");

  const skipped = await show(page.Skipped, { shelfId: null });
  assert.equal(skipped.container.textContent, "nothing");
  skipped.show(h(page.App, { client }, h(page.Skipped, { shelfId })));
  await screen(skipped.container, "3");

  await client.mutation(api.errands.add, { title: "dust", status: "open", tags: [] });
  await client.mutation(api.errands.forget);
  const forget = await container(page.Forget);
  await screen(forget, "0 errands");
  await client.mutation(api.errands.add, { title: "dust", status: "open", tags: [] });
  await screen(forget, "1 errands");
  fire(forget.querySelector("button"));
  await screen(forget, "0 errands");
});
