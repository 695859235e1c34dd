// The demo's dashboard in a real browser: rows change on the page, whoever changes them, and nothing goes wrong.
//
//   CONVOY_TEST_CHROMIUM=chromium CONVOY_TEST_BINARY=target/debug/convoy node --test server/tests/browser/demo.mjs
//
// CONVOY_TEST_PICTURES names a folder to put pictures of the page into.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Browser } from "./_chromium.mjs";
import { Demo } from "./_demo.mjs";

const program = process.env.CONVOY_TEST_BINARY ?? "target/debug/convoy";
const chromium = process.env.CONVOY_TEST_CHROMIUM ?? "chromium";
const pictures = process.env.CONVOY_TEST_PICTURES;

let demo; // With a writer.
let quiet; // Without: only what the test does changes anything.
let browser;

before(async () => {
  [browser, demo, quiet] = await Promise.all([Browser.start(chromium), Demo.start(program), Demo.start(program, ["--rate", "0"])]);
});

after(async () => {
  await browser?.close();
  const statuses = [await demo?.stop(), await quiet?.stop()];
  assert.deepEqual(statuses, [0, 0]);
});

// The panels of the page as it is written, once it is there.
const ready = `document.querySelectorAll('[data-live][data-state="ready"]').length >= 5 && !document.querySelector('[data-live]:not([data-state="ready"])')`;
const firstRow = `document.querySelector('[data-panel="latest"] tbody tr').textContent`;

/** Nothing went wrong in the page, and it asked nobody but the demo. */
function assertWell(page, { url }) {
  assert.deepEqual(page.complaints, []);
  assert.deepEqual([...page.hosts], [new URL(url).host]);
}

async function keepPicture(page, name) {
  if (!pictures) return;
  await mkdir(pictures, { recursive: true });
  await writeFile(join(pictures, `${name}.png`), await page.picture());
}

test("orders come in, and the numbers agree", async () => {
  const page = await browser.open(demo.url);
  await page.until("all panels have results", ready);
  await page.until("it is live", `document.querySelector("#connection").dataset.state === "live"`);
  const before = await page.evaluate(firstRow);
  await page.until("another order is the newest", `${firstRow} !== ${JSON.stringify(before)}`);
  await page.until("the sums agree", `document.querySelector(".agree")?.dataset.state === "ready"`);
  await page.until("latencies are shown", `/^[0-9.]+\\s*(ms|s)$/u.test(document.querySelector("#p99").textContent)`);
  assertWell(page, demo);
});

test("a row that another program changes changes on the page", async () => {
  const page = await browser.open(quiet.url);
  await page.until("all panels have results", ready);
  const before = await page.evaluate(firstRow);
  const change = quiet.lines.change;
  if (change.startsWith("curl")) await fetch(new URL("/demo/change", quiet.url), { method: "POST" });
  else execFileSync("sh", ["-c", change]);
  await page.until("the newest order has another total", `${firstRow} !== ${JSON.stringify(before)}`);
  const after = await page.evaluate(firstRow);
  // The same order: its number begins the row.
  assert.equal(after.slice(0, 5), before.slice(0, 5));
  assertWell(page, quiet);
});

test("the button changes a row and says when it was on the screen", async () => {
  const page = await browser.open(quiet.url);
  await page.until("all panels have results", ready);
  const before = await page.evaluate(firstRow);
  await page.click("#change");
  await page.until("the outcome", `document.querySelector("#outcome").textContent.includes("on this screen")`);
  await page.until("the change", `/after the click/u.test(document.querySelector("#outcome").textContent)`);
  assert.notEqual(await page.evaluate(firstRow), before);
  assert.match(await page.evaluate(`document.querySelector("#outcome code").textContent`), /^update orders set total/u);
  assertWell(page, quiet);
});

test("the lines to paste are those of the terminal", async () => {
  const page = await browser.open(quiet.url);
  await page.until("all panels have results", ready);
  const shown = `Object.fromEntries([...document.querySelectorAll("[data-recipe]")].map((recipe) => [recipe.dataset.recipe, recipe.querySelector("pre").textContent]))`;
  const { watch: curl, change, "now your own": own } = quiet.lines;
  assert.deepEqual(await page.evaluate(shown), { curl, change, own });
  assertWell(page, quiet);
});

for (const [width, dark] of [[390, false], [390, true], [1_600, false], [1_600, true]]) {
  test(`nothing scrolls sideways at ${width} px${dark ? ", dark" : ""}`, async () => {
    const page = await browser.open(demo.url, { width, height: width < 600 ? 844 : 1_000, dark });
    await page.until("all panels have results", ready);
    await page.until("latencies are shown", `document.querySelector('[data-panel="latency"]').dataset.state === "ready"`);
    const [inside, outside] = await page.evaluate(`[document.documentElement.scrollWidth, document.documentElement.clientWidth]`);
    assert.ok(inside <= outside, `${inside} px are wider than ${outside} px`);
    assert.equal(await page.evaluate(`document.documentElement.dataset.theme`), dark ? "dark" : "light");
    if (pictures) await new Promise((resolve) => setTimeout(resolve, 6_000)); // For a histogram with a shape.
    await keepPicture(page, `${width}${dark ? "-dark" : ""}`);
    assertWell(page, demo);
  });
}
