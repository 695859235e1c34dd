// What a page knows of its network and its visibility, and what the client makes of it.

import assert from "node:assert/strict";
import { test } from "node:test";
import "./_dom.mjs";
import { anyApi as api, createConvoyClient } from "convoy/client";
import { Peer } from "./_peer.mjs";
import { shows, until } from "./_wait.mjs";

async function start(t, url) {
  const peer = await Peer.start({ db: { n: 1 }, queries: { n: (db) => db.n } });
  let isCut = false;
  const client = createConvoyClient({
    url: url ?? peer.url,
    // The name that the page has for the server leads to it.
    fetch: (input, init) => (isCut ? Promise.reject(new TypeError("no network")) : fetch(input.replace(/^https?:\/\/[^/]+/, peer.url), init)),
  });
  t.after(async () => {
    client.close();
    await peer.stop();
  });
  const watch = client.watchQuery(api.n, {});
  t.after(watch.onUpdate(() => {}));
  await shows(watch, (n) => n === 1);
  const fire = (target, type) => target.dispatchEvent(new window.Event(type));
  return { peer, client, watch, fire, cut: (is) => (isCut = is) };
}

const states = (client, word) => until({ onUpdate: (callback) => client.onConnectionChange(callback) }, () => client.connectionState === word);

test("without a network nothing is tried, and with one at once", async (t) => {
  const { peer, client, watch, fire } = await start(t, "https://convoy.example");
  fire(window, "offline");
  assert.equal(client.connectionState, "offline");
  assert.deepEqual([watch.getCurrent().isStale, watch.getCurrent().data], [true, 1]);
  peer.write((db) => (db.n = 2));
  fire(window, "online");
  await shows(watch, (n) => n === 2);
  assert.equal(client.connectionState, "live");
  assert.equal(typeof peer.streams[1].body.resume, "string");
});

test("a server on this machine needs no network", async (t) => {
  const { client, fire } = await start(t);
  fire(window, "offline");
  assert.equal(client.connectionState, "live");
  fire(window, "online");
});

test("who comes back to the page does not wait for the next attempt", async (t) => {
  const { peer, client, fire, cut } = await start(t, "https://convoy.example");
  const { random } = Math;
  t.after(() => (Math.random = random));
  Math.random = () => 1_000; // A wait that nobody sees the end of.
  cut(true);
  peer.cut();
  await states(client, "reconnecting");
  cut(false);
  await new Promise((resolve) => setTimeout(resolve, 100));
  assert.equal(client.connectionState, "reconnecting");
  fire(document, "visibilitychange");
  await states(client, "live");
});

test("a closed client no longer listens to the page", async (t) => {
  const { client, fire, peer } = await start(t, "https://convoy.example");
  client.close();
  fire(window, "online");
  fire(document, "visibilitychange");
  await new Promise((resolve) => setTimeout(resolve, 30));
  assert.equal(peer.streams.length, 1);
  assert.equal(client.connectionState, "closed");
});
