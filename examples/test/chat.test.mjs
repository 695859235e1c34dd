// The chat, in two browsers: what one writes, or psql does, is on the other's screen.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Example, percentile } from "./_example.mjs";

let chat, ada, bob;

before(async () => {
  chat = await Example.start("chat");
  [ada, bob] = await Promise.all([chat.open(), chat.open()]);
  for (const page of [ada, bob]) await page.locator(".state[data-state=live]").waitFor();
});

after(() => chat?.stop());

const item = (page, text) => page.locator("li", { hasText: text });

async function say(page, text) {
  await page.getByLabel("Message", { exact: true }).fill(text);
  await page.keyboard.press("Enter");
}

test("what one browser sends is in the other, once", async () => {
  await say(ada, "hello from Ada");
  for (const page of [ada, bob]) await item(page, "hello from Ada").waitFor();
  // The optimistic one gave way to the real one.
  await ada.locator("li[data-pending]").waitFor({ state: "detached" });
  for (const page of [ada, bob]) assert.equal(await item(page, "hello from Ada").count(), 1);
});

test("what psql writes is in both", async () => {
  chat.psql(`insert into messages (doc) values ('{"channel":"general","author":"psql","text":"from a terminal"}')`);
  for (const page of [ada, bob]) await item(page, "from a terminal").waitFor();
  chat.psql(`update messages set doc = jsonb_set(doc, '{text}', '"changed by hand"') where doc->>'author' = 'psql'`);
  for (const page of [ada, bob]) await item(page, "changed by hand").waitFor();
  chat.psql(`delete from messages where doc->>'author' = 'psql'`);
  for (const page of [ada, bob]) await item(page, "changed by hand").waitFor({ state: "detached" });
});

test("a channel shows its own messages, and the counts are those of all", async () => {
  await bob.getByRole("button", { name: /random/ }).click();
  await bob.getByText("Nobody has said anything in random yet").waitFor();
  await say(bob, "only in random");
  await item(bob, "only in random").waitFor();
  await ada.getByRole("button", { name: "random1" }).waitFor();
  assert.equal(await item(ada, "only in random").count(), 0);
  await bob.getByRole("button", { name: /general/ }).click();
  await item(bob, "hello from Ada").waitFor();
});

test("what is refused leaves nothing behind, and says why", async () => {
  await say(ada, "   ");
  await ada.getByRole("alert").filter({ hasText: "A message needs some text." }).waitFor();
  assert.equal(await ada.locator("li[data-pending]").count(), 0);
});

test("a write is in the other browser's DOM soon", async (t) => {
  // By one clock: both pages are on this machine, and so is Date.now() of both.
  await bob.evaluate(() => {
    window.seen = new Map();
    new MutationObserver((records) => {
      for (const { addedNodes } of records) {
        for (const node of addedNodes) {
          const text = node.textContent?.match(/sample-\d+/)?.[0];
          if (text && !window.seen.has(text)) window.seen.set(text, performance.timeOrigin + performance.now());
        }
      }
    }).observe(document.body, { childList: true, subtree: true });
  });
  const samples = 100;
  const sent = await ada.evaluate(async (samples) => {
    const times = [];
    for (let n = 0; n < samples; n += 1) {
      times.push(performance.timeOrigin + performance.now());
      const body = JSON.stringify({ channel: "general", author: "Ada", text: `sample-${n}` });
      await fetch("/api/mutation/messages.send", { method: "POST", body });
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    return times;
  }, samples);
  await item(bob, `sample-${samples - 1}`).waitFor();
  const seen = await bob.evaluate(() => [...window.seen]);
  const took = seen.map(([text, at]) => at - sent[Number(text.slice("sample-".length))]);
  assert.equal(took.length, samples);
  const [p50, p99] = [0.5, 0.99].map((share) => percentile(took, share).toFixed(1));
  t.diagnostic(`write → other browser's DOM, ${samples} writes: p50 ${p50} ms, p99 ${p99} ms`);
});

test("nothing was complained of", () => {
  // A refused mutation is a 400, which the browser mentions.
  const complaints = [...ada.complaints, ...bob.complaints].filter((text) => !text.includes("400"));
  assert.deepEqual(complaints, []);
});
