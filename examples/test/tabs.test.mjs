// Seven tabs of one browser, which opens six connections to a server at most: the chat, and what `convoy init` writes.

import assert from "node:assert/strict";
import { chmodSync, cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { Example } from "./_example.mjs";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const BINARY = process.env.CONVOY_TEST_BINARY ?? join(ROOT, "target/debug/convoy");

const streams = async ({ url }) => (await (await fetch(`${url}/api/status`)).json()).streams;

async function one(example) {
  for (const end = Date.now() + 10_000; (await streams(example)) !== 1; ) {
    assert.ok(Date.now() < end, `${await streams(example)} streams`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

test("seven tabs of the chat have one stream, and what the seventh sends is in all", async (t) => {
  const chat = await Example.start("chat");
  t.after(() => chat.stop());
  const tabs = await chat.openTabs(7);
  for (const page of tabs) await page.locator(".state[data-state=live]").waitFor();
  await one(chat);
  await tabs[6].getByLabel("Message", { exact: true }).fill("from the seventh");
  await tabs[6].keyboard.press("Enter");
  for (const page of tabs) await page.locator("li", { hasText: "from the seventh" }).waitFor();
  // The one that has the stream goes.
  await tabs[0].close();
  await tabs[1].getByLabel("Message", { exact: true }).fill("from the second");
  await tabs[1].keyboard.press("Enter");
  for (const page of tabs.slice(1)) await page.locator("li", { hasText: "from the second" }).waitFor();
  assert.deepEqual(tabs.slice(1).flatMap(({ complaints }) => complaints), []);
});

test("so have seven tabs of what convoy init writes", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "convoy-init-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  chmodSync(folder, 0o755);
  cpSync(join(ROOT, "server/templates/init"), folder, { recursive: true });
  mkdirSync(join(folder, "node_modules"));
  symlinkSync(join(ROOT, "client/node_modules/zod"), join(folder, "node_modules/zod"));
  const app = await Example.start(relative(join(ROOT, "examples"), folder), { command: [BINARY, "dev"] });
  t.after(() => app.stop());
  const tabs = await app.openTabs(7);
  for (const page of tabs) await page.locator("#connection[data-state=live]").waitFor();
  await one(app);
  await tabs[6].locator("#author").fill("Ada");
  await tabs[6].locator("#text").fill("from the seventh");
  await tabs[6].keyboard.press("Enter");
  for (const page of tabs) {
    await page.locator("#messages li", { hasText: "from the seventh" }).waitFor();
    await page.locator("#count", { hasText: /^1$/ }).waitFor();
  }
  // What no tab watches any more has no stream.
  await tabs[0].close();
  app.psql(`update messages set doc = jsonb_set(doc, '{text}', '"changed by hand"')`);
  for (const page of tabs.slice(1)) await page.locator("#messages li", { hasText: "changed by hand" }).waitFor();
  await app.interrupt();
  for (const page of tabs.slice(1)) await page.locator("#connection[data-state=stale]").waitFor();
  await app.startAgain();
  for (const page of tabs.slice(1)) await page.locator("#connection[data-state=live]").waitFor();
  app.psql(`update messages set doc = jsonb_set(doc, '{text}', '"and again"')`);
  for (const page of tabs.slice(1)) await page.locator("#messages li", { hasText: "and again" }).waitFor();
});
