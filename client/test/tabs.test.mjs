// Tabs of a real browser that share one stream of a real server.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { after, before, describe, test } from "node:test";
import { Browser, until } from "../../server/tests/browser/_chromium.mjs";
import { Convoy } from "./_convoy.mjs";
import { Peer } from "./_peer.mjs";
import { servePages } from "./_pages.mjs";
import { Postgres } from "./_postgres.mjs";

const chromium = ["chromium", "chromium-browser", "google-chrome-stable", "google-chrome", process.env.CONVOY_TEST_CHROMIUM]
  .filter((name) => {
    try {
      return name && execFileSync("sh", ["-c", `command -v "${name}"`]);
    } catch {
      return false;
    }
  })
  .at(-1);

describe("tabs", { skip: chromium === undefined && "chromium is missing (apt-get install chromium)" }, () => {
  let postgres;
  let convoy;
  let pages;
  let browser;

  before(async () => {
    [postgres, pages, browser] = await Promise.all([Postgres.start(), servePages(), Browser.start(chromium)]);
    await postgres.sql("create table notes (id int4 primary key, room int4 not null, text text not null); alter table notes replica identity full");
    const queries = { "notes.inRoom": "-- @param room int4\nselect id, text from notes where room = $1 order by id" };
    convoy = await Convoy.start({ databaseUrl: postgres.url, queries, flags: ["--allow-origin", pages.url, "--heartbeat", "2"] });
  });

  after(async () => {
    await browser?.close();
    await convoy?.stop();
    await postgres?.stop();
    await pages?.stop();
  });

  async function tab(t, options, room) {
    const { targetId } = await browser.send("Target.createTarget", { url: "about:blank" });
    const page = await browser.open(pages.url);
    await browser.send("Target.closeTarget", { targetId });
    await page.until("the page has loaded", "window.isReady === true");
    await page.evaluate(`start(${JSON.stringify({ url: convoy.url, ...options })})`);
    page.key = await page.evaluate(`watch("notes.inRoom", { room: ${room} })`);
    page.shows = (count, what = `${count} notes`) =>
      page.until(what, `shown[${JSON.stringify(page.key)}]?.data?.length === ${count} && client.connectionState === "live"`);
    let isOpen = true;
    page.close = async () => {
      if (!isOpen) return;
      isOpen = false;
      await page.send("Page.close");
    };
    t.after(page.close);
    return page;
  }

  const streams = async () => (await (await fetch(`${convoy.url}/api/status`)).json()).streams;
  const quiet = () => until("no stream is left", async () => (await streams()) === 0);
  let id = 0;
  const write = (room) => postgres.sql(`insert into notes values (${++id}, ${room}, 'n${id}')`);

  test("three tabs have one stream, a write reaches all, and the leader's end hands it over", async (t) => {
    await quiet();
    const tabs = [];
    for (let index = 0; index < 3; index += 1) tabs.push(await tab(t, { identity: "ann" }, 1));
    for (const page of tabs) await page.shows(0);
    // Another query, which only a tab that does not lead wants.
    const other = await tabs[2].evaluate(`watch("notes.inRoom", { room: 2 })`);
    await tabs[2].until("the other query", `shown[${JSON.stringify(other)}]?.data?.length === 0`);
    assert.equal(await streams(), 1);
    await write(1);
    await write(2);
    for (const page of tabs) await page.shows(1);
    await tabs[2].until("the other query", `shown[${JSON.stringify(other)}].data.length === 1`);
    // Who comes later is given what is there.
    const late = await tab(t, { identity: "ann" }, 1);
    await late.shows(1);
    assert.equal(await streams(), 1);
    await tabs[0].close();
    await write(1);
    await write(2);
    for (const page of [tabs[1], tabs[2], late]) await page.shows(2, "the write after the leader's end");
    await tabs[2].until("the other query", `shown[${JSON.stringify(other)}].data.length === 2`);
    await until("one stream again", async () => (await streams()) === 1);
    await tabs[1].close();
    await write(1);
    for (const page of [tabs[2], late]) await page.shows(3, "the write after the second leader's end");
    assert.deepEqual([tabs[2].complaints, late.complaints], [[], []]);
  });

  test("a tab's subscriptions end with it, also where it does not lead", async (t) => {
    await quiet();
    const leader = await tab(t, { identity: "eve" }, 11);
    await leader.shows(0);
    const other = await tab(t, { identity: "eve" }, 12);
    await other.shows(0);
    const live = async () => JSON.stringify(await (await fetch(`${convoy.url}/api/queries`)).json());
    assert.match(await live(), /"params":\["12"\]/);
    await other.close();
    await until("the subscription has ended", async () => !/"params":\["12"\]/.test(await live()));
    assert.match(await live(), /"params":\["11"\]/);
  });

  test("two users in two tabs never share", async (t) => {
    await quiet();
    const jwt = (claims) => ["{}", JSON.stringify(claims), ""].map((part) => Buffer.from(part).toString("base64url")).join(".");
    const ann = await tab(t, { identity: "ann" }, 1);
    const bob = await tab(t, { identity: "bob" }, 1);
    await Promise.all([ann, bob].map((page) => page.until("it is live", `client.connectionState === "live"`)));
    assert.equal(await streams(), 2);
    await ann.close();
    await bob.close();
    await quiet();
    // By token: what is the same user's shares, whenever it was issued; another role does not.
    const start = async (claims) => {
      const page = await tab(t, {}, 1);
      await page.evaluate(`client.close()`);
      await page.evaluate(`start({ url: ${JSON.stringify(convoy.url)}, auth: () => ${JSON.stringify(jwt(claims))} })`);
      await page.evaluate(`shown = {}; watch("notes.inRoom", { room: 1 })`);
      await page.until("it is live", `client.connectionState === "live"`);
      return page;
    };
    await start({ sub: "1", role: "user", exp: 1 });
    await start({ sub: "1", role: "user", exp: 2 });
    await until("one stream", async () => (await streams()) === 1);
    await start({ sub: "1", role: "admin", exp: 2 });
    await until("two streams", async () => (await streams()) === 2);
  });

  test("who logs in as somebody else leaves the stream that was shared, and shows nothing of it", async (t) => {
    await quiet();
    await write(21);
    const first = await tab(t, { identity: "ann" }, 21);
    await first.shows(1);
    const second = await tab(t, { identity: "ann" }, 21);
    await second.evaluate(`client.close()`);
    await second.evaluate(`who = "ann"; const key = null; start({ url: ${JSON.stringify(convoy.url)}, identity: () => who })`.replace("const key = null; ", ""));
    await second.evaluate(`shown = {}; watch("notes.inRoom", { room: 21 })`);
    await second.shows(1);
    assert.equal(await streams(), 1);
    await second.evaluate(`who = "bob"; log = []; client.watchQuery("notes.inRoom", { room: 21 }).onUpdate(() => log.push(shown[${JSON.stringify(second.key)}].data?.length ?? null)); client.identityChanged()`);
    await until("two streams", async () => (await streams()) === 2);
    await second.shows(1);
    assert.equal((await second.evaluate("log"))[0], null, "first of all it forgets");
    await first.shows(1);
    // Nobody says that it is another, but the next request shows it.
    await second.evaluate(`who = "ann"; client.query("notes.inRoom", { room: 21 })`);
    await until("one stream", async () => (await streams()) === 1);
    await second.shows(1);
  });

  test("a leader that the browser has frozen is replaced, and follows when it wakes", async (t) => {
    await quiet();
    const leader = await tab(t, { identity: "zoe" }, 31);
    await leader.shows(0);
    const other = await tab(t, { identity: "zoe" }, 31);
    await other.shows(0);
    assert.equal(await streams(), 1);
    await leader.send("Page.setWebLifecycleState", { state: "frozen" });
    await write(31);
    await other.shows(1, "the write, although the leader is frozen");
    await leader.send("Page.setWebLifecycleState", { state: "active" });
    await write(31);
    await Promise.all([leader.shows(2), other.shows(2)]);
    await until("one stream again", async () => (await streams()) === 1);
    await other.close();
    await write(31);
    await leader.shows(3, "and may lead again");
  });

  test("a leader whose lead was taken over does not say any more that it leads", async (t) => {
    await quiet();
    const page = await tab(t, { identity: "kim" }, 35);
    await page.shows(0);
    await page.evaluate(`(async () => {
      const { held } = await navigator.locks.query();
      const name = held.map(({ name }) => name).find((name) => /^convoy:1:[0-9a-f]+$/.test(name));
      window.heard = [];
      new BroadcastChannel(name).onmessage = ({ data }) => heard.push(data.type);
      navigator.locks.request(name, { steal: true }, () => new Promise(() => {}));
    })()`);
    await page.until("it has stepped down, and says what it wants", `heard.includes("wants")`);
    assert.deepEqual(await page.evaluate("heard"), ["wants"]);
  });

  test("who takes over while the server is away says so, and is right when it is back", async (t) => {
    await quiet();
    const tabs = [];
    for (let index = 0; index < 3; index += 1) tabs.push(await tab(t, { identity: "leo" }, 41));
    for (const page of tabs) await page.shows(0);
    await convoy.kill();
    await tabs[0].close();
    await Promise.all(tabs.slice(1).map((page) => page.until("it is reconnecting", `client.connectionState === "reconnecting"`)));
    await write(41);
    await convoy.run();
    await Promise.all(tabs.slice(1).map((page) => page.shows(1)));
    await until("one stream again", async () => (await streams()) === 1);
  });

  test("a mutation of a tab that follows is reflected over the leader's stream, and its layer gives way there", async (t) => {
    const peer = await Peer.start({
      db: { notes: [{ id: 1, _id: "1", text: "first" }] },
      queries: { "notes.inRoom": (db) => db.notes },
      mutations: { "notes.add": (db, { text }) => void (db.notes = [...db.notes, { id: 2, _id: "2", text }]) },
    });
    t.after(() => peer.stop());
    const leader = await tab(t, { identity: "mia", url: peer.url }, 1);
    await leader.shows(1);
    const other = await tab(t, { identity: "mia", url: peer.url }, 1);
    await other.shows(1);
    assert.equal(peer.streams.length, 1);
    peer.isHeld = true;
    await other.evaluate(`log = []; client.watchQuery("notes.inRoom", { room: 1 }).onUpdate(() => log.push(shown[${JSON.stringify(other.key)}].data.map(({ _id }) => _id).join(" ")));
      mutate("notes.add", { text: "mine" }, (store) => store.setQuery("notes.inRoom", { room: 1 }, [...store.getQuery("notes.inRoom", { room: 1 }), { _id: "temp" }]))`);
    const sent = peer.requests.find(({ path }) => path.startsWith("/api/mutation/"));
    assert.equal(sent.headers["x-convoy-session"], [...peer.sessions.keys()][0], "the leader's session");
    assert.deepEqual(await other.evaluate("log"), ["1 temp"], "answered, and not yet reflected");
    await leader.shows(1);
    peer.release();
    await Promise.all([leader.shows(2), other.shows(2)]);
    await other.until("the layer is gone", `log.at(-1) === "1 2"`);
    assert.deepEqual(await other.evaluate("log"), ["1 temp", "1 2"]);
  });

  test("a frame of no origin, which may share nothing, has a stream of its own", async (t) => {
    await quiet();
    const page = await tab(t, { identity: "sue" }, 1);
    await page.until("it is live", `client.connectionState === "live"`);
    const refused = await page.evaluate(`new Promise((resolve) => {
      addEventListener("message", ({ data }) => resolve(data));
      const frame = document.createElement("iframe");
      frame.sandbox = "allow-scripts";
      frame.srcdoc = \`<script type=module>
        import { createConvoyClient } from "${pages.url}/dist/client/index.js";
        let said = "";
        try { await navigator.locks.request("x", () => {}); } catch (error) { said = error.name; }
        const client = createConvoyClient({ url: "${convoy.url}", identity: "sue", fetch: () => new Promise(() => parent.postMessage(said, "*")) });
        client.watchQuery("notes.inRoom", { room: 1 }).onUpdate(() => {});
      </\` + "script>";
      document.body.append(frame);
    })`);
    assert.equal(refused, "SecurityError", "locks are refused, and the client has asked the server all the same");
  });

  test("tabs that share nothing have a stream each", async (t) => {
    await quiet();
    const one = await tab(t, { identity: "ann", tabs: false }, 1);
    const two = await tab(t, {}, 1);
    await Promise.all([one, two].map((page) => page.until("it is live", `client.connectionState === "live"`)));
    assert.equal(await streams(), 2);
    const message = await two.evaluate(`(() => { try { start({ tabs: true }) } catch (error) { return error.message } })()`);
    assert.match(message, /identity/);
  });
});
