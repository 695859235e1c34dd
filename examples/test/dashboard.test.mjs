// The dashboard: what psql does is in all panels, in the same moment, and the parts add up to the total at every change of
// the page.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Example, PATIENCE_MS } from "./_example.mjs";

let dashboard, page;

before(async () => {
  dashboard = await Example.start("dashboard", { command: ["./start"] });
  page = await dashboard.open();
  await live(page);
  await page.evaluate(watchSums);
});

after(() => dashboard?.stop());

const live = (page) => page.locator("#connection[data-state=live]").waitFor();
const figure = (id, text) => page.locator(`#${id}`, { hasText: new RegExp(`^${text.replace(/[.$^]/g, "\\$&")}$`) }).waitFor();
const owner = (name) => page.locator("#accounts tr:not(.going)", { hasText: name });

/** Runs in the page: writes down what it shows at every change of it, and whether that agrees with itself. */
function watchSums() {
  const cents = (element) => Number(element.textContent.replace(/\D/g, ""));
  const sum = (selector) => [...document.querySelectorAll(selector)].reduce((sum, element) => sum + cents(element), 0);
  const shown = () => ({
    balance: cents(document.getElementById("balance")),
    branches: sum("#branches li:not(.going) [data-field=balance]"),
    owners: sum("#accounts tr:not(.going) [data-field=balance]"),
    accounts: cents(document.getElementById("count")),
    branchAccounts: sum("#branches li:not(.going) [data-field=accounts]"),
    rows: document.querySelectorAll("#accounts tr:not(.going)").length,
    moved: cents(document.getElementById("moved")),
    moves: cents(document.getElementById("moves")),
    latest: [...document.querySelectorAll("#transfers tr:not(.going)")].map((row) => row.dataset.key),
  });
  window.seen = [];
  const look = () => window.seen.push(shown());
  look();
  new MutationObserver(look).observe(document.querySelector("main"), { childList: true, subtree: true, characterData: true });
}

/** Holds all that was seen until now against itself, and returns it. */
async function seen() {
  const seen = await page.evaluate(() => window.seen);
  for (const now of seen) {
    const words = JSON.stringify(now);
    assert.equal(now.branches, now.balance, `the branches add up to the total: ${words}`);
    assert.equal(now.owners, now.balance, `so do the owners: ${words}`);
    assert.equal(now.rows, now.accounts, `all accounts are there: ${words}`);
    assert.equal(now.branchAccounts, now.accounts, `in their branches, too: ${words}`);
    // The newest is read by a join, the count is kept from the log.
    assert.equal(now.latest.length, Math.min(now.moves, 8), `the latest are as many as are counted: ${words}`);
  }
  return seen;
}

test("the page begins with what schema.sql put there", async () => {
  assert.equal(await page.locator("#balance").textContent(), "€14,000.00");
  assert.equal(await page.locator("#accounts tr").count(), 10);
  assert.equal(await page.locator("#branches li").count(), 4);
  await page.getByText("No transfer yet").waitFor();
  await page.getByText("The branches add up to the total.").waitFor();
});

test("what psql does is in all panels, by one change of the page", async () => {
  const from = (await seen()).length;
  dashboard.psql("call transfer('Ada', 'Grace', 250)");
  await figure("moved", "€250.00");
  await figure("moves", "1");
  await owner("Ada").filter({ hasText: "€2,150.00" }).waitFor();
  await owner("Grace").filter({ hasText: "€2,235.00" }).waitFor();
  await page.locator("#branches li", { hasText: "London" }).filter({ hasText: "€4,320.75" }).waitFor();
  const row = await page.locator("#transfers tr").first().locator("td").allTextContents();
  assert.deepEqual(row.slice(1), ["Ada", "Grace", "€250.00"]);
  // The order of the list follows, too: Grace has more than Ada now.
  const owners = await page.locator("#accounts tr [data-field=owner]").allTextContents();
  assert.deepEqual(owners.slice(0, 3), ["Grace", "Ada", "Emmy"]);
  const steps = new Set((await seen()).slice(from).map((now) => JSON.stringify(now)));
  assert.equal(steps.size, 1, `one step from before to after: ${[...steps].join("\n")}`);
});

test("rows that are removed disappear, and come back", async () => {
  dashboard.psql("insert into accounts (owner, branch, balance) values ('Alan', 'Bletchley', 500)");
  await owner("Alan").waitFor();
  await figure("balance", "€14,500.00");
  await page.locator("#branches li", { hasText: "Bletchley" }).waitFor();
  dashboard.psql("call transfer('Alan', 'Ada', 20)");
  await page.locator("#transfers tr", { hasText: "Alan" }).waitFor();
  dashboard.psql("call transfer('Ada', 'Alan', 20)");
  await figure("moves", "3");
  dashboard.psql("delete from accounts where owner = 'Alan'");
  for (const place of ["#accounts tr", "#transfers tr"]) await page.locator(place, { hasText: "Alan" }).first().waitFor({ state: "detached" });
  await page.locator("#branches li", { hasText: "Bletchley" }).waitFor({ state: "detached" });
  await figure("balance", "€14,000.00");
  await figure("moves", "1");
  await seen();
});

test("the total is the sum of its parts at every change, whatever is written", async (t) => {
  const from = (await seen()).length;
  // Each a transaction of its own, as fast as psql goes; accounts come and go among the transfers.
  const statements = [];
  for (let n = 0; n < 600; n += 1) {
    statements.push("call any_transfer();");
    if (n % 20 === 5) statements.push(`insert into accounts (owner, branch, balance) values ('Guest ${n}', 'London', ${n}.50);`);
    if (n % 20 === 15) statements.push(`delete from accounts where owner = 'Guest ${n - 10}';`);
    if (n % 3 === 0) statements.push("select pg_sleep(0.01);");
  }
  dashboard.psql(statements.join("\n"));
  const [moves, moved] = dashboard.psql("select count(*), to_char(sum(amount), 'FM999,990.00') from transfers").split("|");
  await figure("moved", `€${moved}`);
  await figure("moves", moves);
  await page.waitForFunction(() => document.querySelector(".going") === null);
  const steps = (await seen()).slice(from);
  const different = new Set(steps.map((now) => JSON.stringify(now))).size;
  t.diagnostic(`${statements.length} statements, ${steps.length} changes of the page, ${different} different`);
  assert.ok(different >= 30, `the page has shown ${different} states in between`);
  assert.equal(steps.at(-1).accounts, 10);
  const balances = dashboard.psql("select owner, to_char(balance, 'FM999,990.00') from accounts order by balance desc, id");
  const rows = await page.locator("#accounts tr").evaluateAll((rows) =>
    rows.map((row) => ["owner", "balance"].map((field) => row.querySelector(`[data-field=${field}]`).textContent.replace("€", "")).join("|")),
  );
  assert.deepEqual(rows, balances.split("\n"), "and is as the database in the end");
});

test("it says that it reconnects when the server goes, and goes on when it is back", { timeout: 3 * PATIENCE_MS }, async () => {
  await dashboard.interrupt();
  await page.locator("#connection[data-state=stale]", { hasText: /Reconnecting, showing data as of \d/ }).waitFor();
  assert.equal(await page.locator("#accounts tr").count(), 10, "what is known stays on the page");
  await dashboard.startAgain();
  await live(page);
  const balance = dashboard.psql("select to_char(balance + 1, 'FM999,990.00') from accounts where owner = 'Emmy'");
  dashboard.psql("call transfer('Grace', 'Emmy', 1)");
  await owner("Emmy").filter({ hasText: `€${balance}` }).waitFor();
  await page.waitForFunction(() => document.querySelector(".going") === null);
  await seen();
});

test("it fits a phone and a wide screen", async () => {
  for (const width of [390, 900, 1600]) {
    await page.setViewportSize({ width, height: 844 });
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `nothing scrolls sideways at ${width}`);
  }
});

test("without any row it says what would fill it", async () => {
  dashboard.psql("delete from accounts");
  await page.locator("#by-owner").getByText("No account yet").waitFor();
  await page.locator("#latest").getByText("No transfer yet").waitFor();
  await figure("balance", "€0.00");
});

test("nothing was complained of", () => {
  // While the server was away, the browser said so.
  const complaints = page.complaints.filter((text) => !/ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED_ENCODING/.test(text));
  assert.deepEqual(complaints, []);
});
