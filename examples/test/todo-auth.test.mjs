// Todos of several people: each sees their own, whoever writes them, and nobody else's by any way.

import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { after, before, test } from "node:test";
import { secret, tokenFor } from "../todo-auth/issuer.mjs";
import { Example } from "./_example.mjs";

let todos, ada, bob;

before(async () => {
  todos = await Example.start("todo-auth");
  [ada, bob] = await Promise.all([todos.open(), todos.open()]);
  // Written down from the first moment on: what a page shows for a frame has been shown.
  for (const page of [ada, bob]) await page.evaluate(remember);
});

after(() => todos?.stop());

const item = (page, text) => page.locator("li", { hasText: text });
const live = (page) => page.locator(".state[data-state=live]").waitFor();
const alert = (page, text) => page.getByRole("alert").filter({ hasText: text }).waitFor();

async function logIn(page, name, password = name) {
  await page.getByLabel("Name").fill(name);
  await page.getByLabel("Password").fill(password);
  await page.getByRole("button", { name: "Log in" }).click();
}

async function add(page, text) {
  await page.getByLabel("New todo").fill(text);
  await page.keyboard.press("Enter");
}

/** Runs in a page: writes down each text of an item that ever stands in it, and for whom. */
function remember() {
  window.shown = new Set();
  const look = () => {
    const whose = document.querySelector("h1")?.textContent;
    for (const item of document.querySelectorAll("li")) window.shown.add(`${whose}: ${item.textContent}`);
  };
  new MutationObserver(look).observe(document.body, { childList: true, subtree: true, characterData: true });
}

const shown = (page) => page.evaluate(() => [...window.shown]);

/** Calls a function over HTTP, as a program with this token would. */
async function call(kind, name, args, token) {
  const headers = { "content-type": "application/json", ...(token === undefined ? {} : { authorization: `Bearer ${token}` }) };
  const response = await fetch(`${todos.url}/api/${kind}/${name}`, { method: "POST", headers, body: JSON.stringify(args) });
  return { status: response.status, ...(await response.json()) };
}

const insert = (owner, text) =>
  todos.psql(`insert into todos (doc) values ('${JSON.stringify({ owner, text, done: false })}') returning "_id"`);

test("without a token one is told to log in, by the page and by the server", async () => {
  await ada.getByRole("heading", { name: "Log in to see your todos" }).waitFor();
  assert.equal(await ada.locator("li").count(), 0);
  for (const [kind, name, args] of [["query", "todos.list", {}], ["mutation", "todos.add", { text: "nobody's" }]]) {
    const { status, error } = await call(kind, name, args);
    assert.deepEqual([status, error.code, error.message], [401, "UNAUTHORIZED", "Log in to see your todos."]);
  }
  assert.equal(todos.psql("select count(*) from todos"), "0");
});

test("a wrong password is refused, and says so", async () => {
  await logIn(ada, "ada", "engine");
  await alert(ada, "Name and password do not fit.");
});

test("each sees their own todos, as they are written", async () => {
  await Promise.all([logIn(ada, "ada"), logIn(bob, "bob")]);
  await ada.getByRole("heading", { name: "Ada’s todos" }).waitFor();
  await bob.getByRole("heading", { name: "Bob’s todos" }).waitFor();
  await Promise.all([live(ada), live(bob)]);
  await ada.getByText("Nothing to do.").waitFor();
  await add(ada, "write a program");
  await item(ada, "write a program").waitFor();
  await add(bob, "paint a tree");
  await item(bob, "paint a tree").waitFor();
  assert.equal(await item(bob, "write a program").count(), 0);
  assert.equal(await item(ada, "paint a tree").count(), 0);
});

test("what psql writes for Ada is at Ada's alone", async () => {
  insert("ada", "from a terminal");
  await item(ada, "from a terminal").waitFor();
  // Bob's page has moved past it once it shows what was written after it.
  insert("bob", "after that");
  await item(bob, "after that").waitFor();
  assert.equal(await item(bob, "from a terminal").count(), 0);
});

test("what is done is shown at once, and kept", async () => {
  const box = item(ada, "write a program").getByRole("checkbox");
  // The server's answer is held back, so that what is seen is the page's own.
  let letThrough;
  const held = new Promise((resolve) => (letThrough = resolve));
  await ada.route("**/api/mutation/todos.setDone*", async (route) => {
    await held;
    await route.continue();
  });
  await box.click();
  await ada.getByText("1 of 2 done").waitFor();
  assert.equal(await box.isChecked(), true);
  assert.equal(todos.psql("select count(*) from todos where (doc->>'done')::boolean"), "0");
  letThrough();
  await ada.waitForResponse("**/api/mutation/todos.setDone*");
  assert.equal(todos.psql("select doc->>'text' from todos where (doc->>'done')::boolean"), "write a program");
  assert.equal(await box.isChecked(), true);
  await ada.unroute("**/api/mutation/todos.setDone*");
  // Another program undoes it.
  todos.psql(`update todos set doc = jsonb_set(doc, '{done}', 'false') where doc->>'text' = 'write a program'`);
  await ada.getByText("0 of 2 done").waitFor();
});

test("another's todo is refused by its id, as one that is not there", async () => {
  const id = todos.psql(`select "_id" from todos where doc->>'text' = 'write a program'`);
  const nowhere = "todos:00000000-0000-4000-8000-000000000000";
  // Out of Bob's own page, with his own token.
  const answers = await bob.evaluate(
    async ([id, nowhere]) => {
      const { token } = JSON.parse(localStorage.getItem("todo-session"));
      const headers = { "content-type": "application/json", authorization: `Bearer ${token}` };
      const answers = [];
      for (const [name, args] of [["setDone", { id, done: true }], ["remove", { id }], ["remove", { id: nowhere }]]) {
        const response = await fetch(`/api/mutation/todos.${name}`, { method: "POST", headers, body: JSON.stringify(args) });
        answers.push([response.status, (await response.json()).error]);
      }
      return answers;
    },
    [id, nowhere],
  );
  for (const [status, error] of answers) {
    assert.deepEqual([status, error.code, error.message], [404, "NOT_FOUND", "You have no such todo."]);
    assert.deepEqual(error.data ?? null, null, "what is another's and what is not there are told alike");
  }
  assert.equal(todos.psql(`select doc->>'done' from todos where "_id" = '${id}'`), "false");
  // An owner is no argument: it can be given neither to ask nor to write.
  for (const [kind, name, args] of [["query", "todos.list", { owner: "ada" }], ["mutation", "todos.add", { text: "x", owner: "ada" }]]) {
    const { status, error } = await call(kind, name, args, tokenFor("bob"));
    assert.deepEqual([status, error.code], [400, "INVALID_ARGS"]);
  }
});

test("a token that expired, or was forged, is refused with the reason", async () => {
  const [header, claims] = tokenFor("ada").split(".");
  const none = Buffer.from(JSON.stringify({ alg: "none" })).toString("base64url");
  const bobs = tokenFor("bob").split(".");
  const forAnother = `${header}.${Buffer.from(JSON.stringify({ ...JSON.parse(Buffer.from(claims, "base64url")), aud: "another" })).toString("base64url")}`;
  const cases = [
    [tokenFor("ada", { lifeS: -3600 }), /expired/],
    [tokenFor("ada", { key: "a secret that somebody made up, and long enough" }), /signature/],
    [`${header}.${claims}.${bobs[2]}`, /signature/],
    [`${none}.${claims}.`, /none|alg|token/],
    [`${forAnother}.${createHmac("sha256", secret()).update(forAnother).digest("base64url")}`, /aud/],
    ["no token at all", /token/],
  ];
  for (const [token, reason] of cases) {
    for (const [kind, name, args] of [["query", "todos.list", {}], ["mutation", "todos.add", { text: "x" }]]) {
      const { status, error } = await call(kind, name, args, token);
      assert.deepEqual([status, error.code], [401, "UNAUTHORIZED"], `${name} with ${token}`);
      assert.match(error.message, reason);
    }
  }
  // The page asks to log in, and says why.
  const page = await todos.open();
  for (const [token, reason] of cases.slice(0, 2)) {
    await page.evaluate((token) => localStorage.setItem("todo-session", JSON.stringify({ token, name: "Ada" })), token);
    await page.reload();
    await alert(page, reason);
    assert.equal(await page.locator("li").count(), 0);
  }
  await logIn(page, "ada");
  await item(page, "write a program").waitFor();
  await page.context().close();
});

test("who logs in after another in the same browser sees only their own", async () => {
  await ada.evaluate(() => window.shown.clear());
  await add(ada, "half a sen");
  await item(ada, "half a sen").waitFor();
  await ada.getByLabel("New todo").fill("a draft");
  await ada.getByRole("button", { name: "Log out" }).click();
  await ada.getByRole("heading", { name: "Log in" }).waitFor();
  assert.equal(await ada.locator("li").count(), 0);
  await logIn(ada, "bob");
  await item(ada, "paint a tree").waitFor();
  assert.equal(await ada.getByLabel("New todo").inputValue(), "", "nor what was being typed");
  assert.deepEqual((await ada.locator("li label").allTextContents()).sort(), ["after that", "paint a tree"]);
  insert("ada", "for Ada, who is not here");
  insert("bob", "for Bob, who is");
  await item(ada, "for Bob, who is").waitFor();
  const foreign = (await shown(ada)).filter((text) => text.startsWith("Bob") && /write a program|terminal|half|for Ada/.test(text));
  assert.deepEqual(foreign, [], "at no moment");
  assert.deepEqual((await shown(bob)).filter((text) => /write a program|terminal|half|for Ada/.test(text)), []);
});

test("all tabs of a browser go over to who logs in in one", async () => {
  const tab = await ada.context().newPage();
  await tab.goto(todos.url);
  await item(tab, "paint a tree").waitFor();
  await ada.getByRole("button", { name: "Log out" }).click();
  await tab.getByRole("heading", { name: "Log in" }).waitFor();
  await logIn(tab, "ada");
  await item(ada, "write a program").waitFor();
  assert.equal(await item(ada, "paint a tree").count(), 0);
  await add(ada, "seen in both tabs");
  await item(tab, "seen in both tabs").waitFor();
  await tab.close();
});

test("a todo that is deleted goes, and one without text is refused", async () => {
  await item(ada, "from a terminal").getByRole("button").click();
  await item(ada, "from a terminal").waitFor({ state: "detached" });
  await add(ada, "   ");
  await alert(ada, "A todo needs some text.");
});

test("it fits a phone", async () => {
  await ada.setViewportSize({ width: 390, height: 844 });
  assert.ok(await ada.evaluate(() => document.documentElement.scrollWidth <= innerWidth));
});

test("nothing was complained of", () => {
  // What is refused is a status that the browser mentions: a wrong password, another's todo, one without text.
  const complaints = [...ada.complaints, ...bob.complaints].filter((text) => !/status of (400|401|404)/.test(text));
  assert.deepEqual(complaints, []);
});
