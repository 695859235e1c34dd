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

  const minted = `(claims) => ["{}", JSON.stringify(claims), ""].map((part) => btoa(part).replaceAll("=", "").replaceAll("+", "-").replaceAll("/", "_")).join(".")`;

  test("another token of one user is no other user: nothing is forgotten, and no mutation is given up", async (t) => {
    const peer = await Peer.start({ db: { n: 7 }, queries: { n: (db) => db.n }, mutations: { add: (db) => ++db.n } });
    t.after(() => peer.stop());
    const page = await tab(t, {}, 1);
    // Its answer takes a while to arrive; meanwhile a request is made with a token whose claims differ.
    await page.evaluate(`client.close(); start({
      url: ${JSON.stringify(peer.url)},
      auth: () => (${minted})({ sub: "ann", fva: window.fva ?? 0 }),
      fetch: async (input, init) => {
        const response = await fetch(input, init);
        if (!input.includes("mutation")) return response;
        await new Promise((resolve, reject) => {
          setTimeout(resolve, 500);
          init.signal.addEventListener("abort", () => reject(init.signal.reason));
        });
        return response;
      },
    })`);
    await page.evaluate(`log = []; w = client.watchQuery("n", {}); w.onUpdate(() => log.push(w.getCurrent().data ?? null)); 0`);
    await page.until("it is live", `client.connectionState === "live" && w.getCurrent().data === 7`);
    await page.evaluate(`log = []; sent = mutate("add", {}); 0`);
    await until("it is committed", () => peer.runs === 1);
    const before = peer.streams.length;
    await page.evaluate(`fva = 1; client.query("n", {})`);
    assert.equal(await page.evaluate("sent"), 8);
    await page.until("it has joined others", `client.connectionState === "live" && w.getCurrent().data === 8 && !w.getCurrent().isStale`);
    assert.equal(peer.streams.length, before + 1);
    assert.equal((await page.evaluate("log")).includes(null), false, "nothing was forgotten");
  });

  test("tokens that differ each time share with nobody, and are asked for no more often", async (t) => {
    const peer = await Peer.start({ db: { n: 7 }, queries: { n: (db) => db.n }, mutations: { add: (db) => ++db.n } });
    t.after(() => peer.stop());
    const page = await tab(t, {}, 1);
    await page.evaluate(`client.close(); asked = 0; start({
      url: ${JSON.stringify(peer.url)},
      auth: () => (asked += 1, (${minted})({ sub: "ann", aio: Math.random() })),
    })`);
    await page.evaluate(`w = client.watchQuery("n", {}); w.onUpdate(() => {}); 0`);
    await page.until("it is live", `client.connectionState === "live" && w.getCurrent().data === 7`);
    for (let count = 8; count < 14; count += 1) assert.equal(await page.evaluate(`mutate("add", {})`), count);
    await page.until("it is live", `client.connectionState === "live" && w.getCurrent().data === 13 && !w.getCurrent().isStale`);
    assert.ok((await page.evaluate("asked")) < 20);
    assert.ok(peer.streams.length <= 3, `${peer.streams.length} streams`);
  });

  test("a leader whose credentials are refused leaves the lead to a tab with better ones, and follows it", async (t) => {
    const peer = await Peer.start({ db: { n: 7 }, queries: { n: (db) => db.n } });
    t.after(() => peer.stop());
    const start = async (token) => {
      const page = await tab(t, { url: peer.url, tabs: false }, 1);
      await page.evaluate(`client.close(); start({ url: ${JSON.stringify(peer.url)}, identity: "pat", auth: () => ${JSON.stringify(token)} })`);
      await page.evaluate(`log = []; w = client.watchQuery("n", {}); w.onUpdate(() => log.push(w.getCurrent().error?.code ?? w.getCurrent().data ?? null)); 0`);
      page.isLive = (n) => page.until(`it shows ${n}`, `client.connectionState === "live" && w.getCurrent().data === ${n} && w.getCurrent().error === null`);
      await page.isLive(7);
      return page;
    };
    const [one, two, three] = [await start("one"), await start("two"), await start("three")];
    const bad = new Set(["Bearer one", "Bearer two"]);
    peer.intercept = ({ headers }) =>
      bad.has(headers.authorization) ? { status: 401, body: { error: { code: "UNAUTHORIZED", message: "expired" } } } : null;
    const before = peer.streams.length;
    peer.goodbye({ code: "UNAUTHORIZED", message: "expired", retry_ms: null, resume: true });
    await three.isLive(7);
    peer.write((db) => (db.n = 8));
    for (const page of [one, two, three]) await page.isLive(8);
    assert.equal((await three.evaluate("log")).includes("UNAUTHORIZED"), false);
    assert.ok(peer.streams.length - before <= 5, "each was tried once");
    // Nobody is left whose credentials are good: that is the end, until somebody's are again.
    bad.add("Bearer three");
    peer.goodbye({ code: "UNAUTHORIZED", message: "expired", retry_ms: null, resume: true });
    await three.until("it is closed", `client.connectionState === "closed"`);
    bad.delete("Bearer two");
    await two.evaluate("client.identityChanged()");
    for (const page of [one, two, three]) await page.isLive(8);
  });

  test("a layer stays where the lead changes hands before its mutation is reflected", async (t) => {
    const peer = await Peer.start({
      db: { list: ["a"], n: 0 },
      queries: { list: (db) => db.list, n: (db) => db.n, "notes.inRoom": () => [] },
      mutations: { add: (db, { x }) => void (db.list = [...db.list, x]) },
    });
    t.after(() => peer.stop());
    const pages = [];
    for (let index = 0; index < 3; index += 1) {
      pages.push(await tab(t, { identity: "lou", url: peer.url }, 1));
      await pages[index].shows(0);
    }
    const last = pages[2];
    await last.evaluate(`log = []; w = client.watchQuery("list", {}); w.onUpdate(() => log.push((w.getCurrent().data ?? []).join())); 0`);
    await last.until("the list", `log.at(-1) === "a"`);
    peer.isHeld = true;
    await last.evaluate(`mutate("add", { x: "b" }, (store) => store.setQuery("list", {}, [...store.getQuery("list", {}), "b"]))`);
    peer.slow.add("list");
    await pages[0].close();
    await until("another leads", () => peer.streams.length === 2);
    peer.release();
    await pages[1].until("it is live", `client.connectionState === "live"`);
    peer.slow.clear();
    peer.write(() => {});
    await last.until("the list is here", `!w.getCurrent().isStale && log.at(-1) === "a,b"`);
    const log = await last.evaluate("log");
    assert.equal(log.slice(log.indexOf("a,b")).includes("a"), false, log.join(" | "));
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
    const two = await tab(t, { headers: {} }, 1);
    await Promise.all([one, two].map((page) => page.until("it is live", `client.connectionState === "live"`)));
    assert.equal(await streams(), 2);
    const message = await two.evaluate(`(() => { try { start({ tabs: true, headers: {} }) } catch (error) { return error.message } })()`);
    assert.match(message, /identity/);
  });

  describe("of a page's own server, whose cookies are the same in all", () => {
    let peer;
    let own;

    before(async () => {
      peer = await Peer.start({
        db: { n: 7 },
        queries: { n: (db) => db.n, mine: (_, args, owner) => `${owner}'s` },
        mutations: { add: (db) => ++db.n },
      });
      peer.owner = ({ cookie = "" }) => /who=(\w+)/.exec(cookie)?.[1] ?? "nobody";
      own = await servePages({ api: peer.url });
    });

    after(async () => {
      await own?.stop();
      await peer?.stop();
    });

    async function mine(t) {
      const page = await browser.open(own.url);
      await page.until("the page has loaded", "window.isReady === true");
      await page.evaluate(`log = []; start({}); n = client.watchQuery("n", {}); mine = client.watchQuery("mine", {}); n.onUpdate(() => {}); mine.onUpdate(() => log.push(mine.getCurrent().data ?? null)); 0`);
      page.shows = (n, whose) =>
        page.until(`${n} and ${whose}'s`, `client.connectionState === "live" && !mine.getCurrent().isStale && n.getCurrent().data === ${n} && mine.getCurrent().data === "${whose}'s"`);
      page.close = () => page.send("Page.close");
      return page;
    }

    const open = () => [...peer.sessions.values()].filter(({ response }) => response).length;

    test("seven tabs have one stream, and a mutation of the last reaches all", async () => {
      const pages = [];
      for (let index = 0; index < 7; index += 1) {
        pages.push(await mine());
        await pages[index].shows(7, "nobody");
      }
      assert.equal(open(), 1);
      assert.equal(await pages[6].evaluate(`mutate("add", {})`), 8);
      for (const page of pages) await page.shows(8, "nobody");
      for (const page of pages) await page.close();
      await until("no stream is left", () => open() === 0);
      peer.write((db) => (db.n = 7));
    });

    test("a login that one tab tells of is all tabs'", async () => {
      const pages = [await mine(), await mine(), await mine()];
      await pages[0].evaluate(`document.cookie = "who=ann"; client.identityChanged(); 0`);
      for (const page of pages) await page.shows(7, "ann");
      assert.equal(open(), 1);
      // From a tab that does not lead.
      await pages[2].evaluate(`log.length = 0; document.cookie = "who=bob"; client.identityChanged(); 0`);
      for (const page of pages) await page.shows(7, "bob");
      assert.equal(open(), 1);
      assert.equal((await pages[2].evaluate("log"))[0], null, "first of all it forgets");
      for (const page of pages) await page.close();
      await until("no stream is left", () => open() === 0);
    });

    test("where nobody tells of it, who comes is never shown what was another's, and all are who the cookies say", async () => {
      const pages = [await mine(), await mine()];
      await pages[0].evaluate(`document.cookie = "who=ann"; client.identityChanged(); 0`);
      for (const page of pages) await page.shows(7, "ann");
      await pages[1].evaluate(`document.cookie = "who=bob"; 0`);
      const late = await mine();
      await late.shows(7, "bob");
      for (const page of pages) await page.shows(7, "bob");
      assert.deepEqual((await late.evaluate("log")).filter((data) => data !== null), ["bob's"]);
      assert.equal(open(), 1);
      // Also where the stream is away just then.
      peer.intercept = () => "drop";
      peer.cut();
      await pages[0].until("it has noticed", `client.connectionState === "reconnecting"`);
      await pages[0].evaluate(`document.cookie = "who=cat"; 0`);
      const later = await mine();
      peer.intercept = null;
      await later.shows(7, "cat");
      assert.deepEqual((await later.evaluate("log")).filter((data) => data !== null), ["cat's"]);
      for (const page of [...pages, late]) await page.shows(7, "cat");
      for (const page of [...pages, late, later]) await page.close();
    });
  });
});
