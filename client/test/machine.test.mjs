// The machine: its table in SPEC.md cell by cell, and what the table does not say.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { INITIAL, NAMES_MAX, POLL_MS, POLL_SPELL_MS, REFERENCE_BYTES_MAX, REQUEST_BYTES_MAX, RETRY_FIRST_MS, RETRY_MAX_MS, STEADY_MS, connectionState, step } from "../dist/client/machine.js";
import { EVENTS, STATES, cell } from "./_table.mjs";

function table() {
  const lines = readFileSync(new URL("../SPEC.md", import.meta.url), "utf8").split("\n");
  const from = lines.findIndex((line) => line === "## The table");
  const rows = lines.slice(from).filter((line) => line.startsWith("|")).map((line) => line.slice(1, -1).split("|").map((text) => text.trim()));
  const [[, ...states], , ...events] = rows;
  return { states, events };
}

test("SPEC.md has every state and every event of the machine, and no other", () => {
  const { states, events } = table();
  assert.deepEqual(states, Object.keys(STATES));
  assert.deepEqual(events.map(([event]) => event), Object.keys(EVENTS));
  const kinds = new Set(Object.values(EVENTS).map(([{ type }]) => type));
  const source = readFileSync(new URL("../src/client/machine.ts", import.meta.url), "utf8");
  const union = source.slice(source.indexOf("export type Event ="), source.indexOf("export type Subscribe"));
  assert.deepEqual(kinds, new Set([...union.matchAll(/readonly type: "(\w+)"/g)].map(([, type]) => type)));
});

{
  const { states, events } = table();
  for (const [event, ...cells] of events) {
    test(`SPEC.md agrees with the code: ${event.replaceAll("`", "")}`, () => {
      cells.forEach((text, index) => assert.equal(cell(states[index], event), text, `in ${states[index]}`));
    });
  }
}

// A machine that is driven by hand.
class Driven {
  state = INITIAL;
  at = 0;

  send(event) {
    const { state, effects } = step(this.state, { attempt: this.state.attempt, at: this.at, ...event });
    this.state = state;
    return Object.fromEntries(effects.map((effect) => [effect.type, effect]));
  }

  want(add, drop = []) {
    return this.send({ type: "want", add: add.map((sub) => ({ sub, reference: { query: sub, args: {} } })), drop });
  }

  hello(fields = {}) {
    return this.send({ type: "hello", hello: { session: "s", resumed: false, heartbeat_ms: 15_000, ...fields } });
  }

  transition(id, updates = []) {
    return this.send({ type: "transition", id, transition: { lsn: "0/1", updates } });
  }
}

const names = (entries) => entries.map(({ sub }) => sub);

test("the opening request subscribes, and what comes later is one change at a time", () => {
  const machine = new Driven();
  const { open } = machine.want(["a", "b"]);
  assert.equal(open.resume, null);
  assert.equal(open.poll, null);
  assert.deepEqual(open.subscribe, [{ sub: "a", query: "a", args: {} }, { sub: "b", query: "b", args: {} }]);
  machine.want(["c"]);
  const { post } = machine.hello();
  assert.deepEqual([post.session, names(post.subscribe), post.unsubscribe], ["s", ["c"], []]);
  assert.equal(machine.want(["d"], ["a"]).post, undefined, "the one before is not answered");
  const next = machine.send({ type: "posted", id: post.id, status: 202, error: null }).post;
  assert.deepEqual([names(next.subscribe), next.unsubscribe], [["d"], ["a"]]);
  assert.deepEqual(machine.send({ type: "posted", id: next.id, status: 202, error: null }), {});
});

test("a resumed session is told only what it does not know, one that is gone everything", () => {
  const machine = new Driven();
  machine.want(["a", "b"]);
  machine.hello();
  machine.transition("t1");
  machine.send({ type: "ended", message: "x" });
  machine.want(["c"], ["a"]);
  let { open } = machine.send({ type: "woke" });
  assert.deepEqual([open.resume, names(open.subscribe)], ["t1", ["c"]]);
  const { post } = machine.hello({ resumed: true });
  assert.deepEqual([names(post.subscribe), post.unsubscribe], [[], ["a"]]);
  machine.send({ type: "ended", message: "x" });
  ({ open } = machine.send({ type: "woke" }));
  assert.equal(open.resume, "t1");
  const again = machine.hello({ session: "other" }).post;
  assert.deepEqual([again.session, names(again.subscribe).sort(), again.unsubscribe], ["other", ["b", "c"], []]);
});

test("the token is that of the last transition, and a misfit gives it up", () => {
  const machine = new Driven();
  machine.want(["a"]);
  machine.hello();
  machine.transition("t1");
  machine.transition("t2");
  assert.equal(machine.state.token, "t2");
  machine.send({ type: "misfit", message: "x" });
  const { open } = machine.send({ type: "woke" });
  assert.deepEqual([open.resume, names(open.subscribe)], [null, ["a"]]);
});

test("the wait doubles up to a limit, and starts over after a steady stream", () => {
  const machine = new Driven();
  machine.want(["a"]);
  const ceilings = [];
  for (let failures = 0; failures < 12; failures += 1) {
    const { sleep } = machine.send({ type: "ended", message: "x" });
    ceilings.push(sleep.ceilingMs);
    machine.send({ type: "woke" });
  }
  assert.deepEqual(ceilings.slice(0, 3), [RETRY_FIRST_MS, 2 * RETRY_FIRST_MS, 4 * RETRY_FIRST_MS]);
  assert.equal(ceilings.at(-1), RETRY_MAX_MS);
  machine.hello();
  machine.at += STEADY_MS - 1;
  assert.equal(machine.send({ type: "ended", message: "x" }).sleep.ceilingMs, RETRY_MAX_MS, "not steady");
  machine.send({ type: "woke" });
  machine.hello();
  machine.at += STEADY_MS + 1;
  assert.equal(machine.send({ type: "ended", message: "x" }).sleep.ceilingMs, RETRY_FIRST_MS);
});

test("the server's wait is the least", () => {
  const machine = new Driven();
  machine.want(["a"]);
  machine.send({ type: "retry", ms: 700 });
  assert.equal(machine.send({ type: "goodbye", goodbye: { code: "UNAVAILABLE", message: "", retry_ms: 2_000, resume: false } }).sleep.leastMs, 2_000);
  machine.send({ type: "woke" });
  assert.equal(machine.send({ type: "ended", message: "x" }).sleep.leastMs, 700);
});

test("a goodbye without resume is not resumed", () => {
  const machine = new Driven();
  machine.want(["a"]);
  machine.hello();
  machine.transition("t1");
  machine.send({ type: "goodbye", goodbye: { code: "UNAVAILABLE", message: "", retry_ms: 0, resume: false } });
  assert.deepEqual([machine.state.token, machine.state.session], [null, null]);
});

test("credentials are asked for anew once, and again after they have worked", () => {
  const machine = new Driven();
  machine.want(["a"]);
  const refused = { type: "refused", status: 401, error: { code: "UNAUTHORIZED", message: "x" } };
  assert.equal(machine.send(refused).open.fresh, true);
  machine.hello();
  machine.transition("t1");
  machine.at += STEADY_MS + 1;
  const { open } = machine.send({ type: "goodbye", goodbye: { code: "UNAUTHORIZED", message: "expired", retry_ms: null, resume: true } });
  assert.deepEqual([open.fresh, open.resume], [true, "t1"]);
  const { fail } = machine.send(refused);
  assert.deepEqual([machine.state.phase, fail.subs, fail.error.code], ["closed", ["a"], "UNAUTHORIZED"]);
});

test("a subscription that a session refused is not asked for again in it, and is in the next", () => {
  const machine = new Driven();
  const error = { code: "UNAUTHORIZED", message: "x" };
  machine.want(["a", "b"]);
  machine.hello();
  machine.transition("t1", [{ sub: "a", type: "error", final: true, error }]);
  machine.send({ type: "ended", message: "x" });
  assert.deepEqual(machine.send({ type: "woke" }).open.subscribe, [], "resumed");
  // The session is gone by then.
  assert.deepEqual(names(machine.hello({ session: "s2" }).post.subscribe), ["a", "b"]);
  machine.transition("t2", [{ sub: "a", type: "error", final: true, error }]);
  machine.send({ type: "misfit", message: "x" });
  assert.deepEqual(names(machine.send({ type: "woke" }).open.subscribe), ["a", "b"]);
  machine.hello({ session: "s3" });
  machine.transition("t3", [{ sub: "a", type: "error", final: true, error }]);
  assert.deepEqual(names(machine.send({ type: "renew" }).open.subscribe), ["a", "b"], "somebody else may");
});

test("the one subscription that a request is refused for is found, and the others go on without it", () => {
  const machine = new Driven();
  const subs = Array.from({ length: 40 }, (_, index) => `s${index}`);
  const bad = new Set(["s0", "s17", "s39"]);
  const failed = [];
  let requests = 0;
  let { open } = machine.want(subs);
  for (;;) {
    requests += 1;
    if (!open.subscribe.some(({ sub }) => bad.has(sub))) break;
    const effects = machine.send({ type: "refused", status: 400, error: { code: "INVALID_ARGS", message: "x" } });
    if (effects.fail) failed.push(...effects.fail.subs);
    ({ open } = effects);
  }
  let { post } = machine.hello();
  while (post) {
    requests += 1;
    const isBad = post.subscribe.some(({ sub }) => bad.has(sub));
    const effects = machine.send({ type: "posted", id: post.id, status: isBad ? 413 : 202, error: null });
    if (effects.fail) failed.push(...effects.fail.subs);
    ({ post } = effects);
  }
  assert.deepEqual(new Set(failed), bad);
  assert.deepEqual([...machine.state.told].sort(), subs.filter((sub) => !bad.has(sub)).sort());
  assert.ok(requests < 40, `${requests} requests`);
  // A new session would be refused with them as this one was.
  machine.send({ type: "misfit", message: "x" });
  assert.ok(machine.send({ type: "woke" }).open.subscribe.every(({ sub }) => !bad.has(sub)));
  assert.equal(machine.send({ type: "renew" }).open.subscribe.length, 40);
});

test("a server that refuses every request is asked a few times, and no more", () => {
  const machine = new Driven();
  let effects = machine.want(Array.from({ length: 1_000 }, (_, index) => `s${index}`));
  let requests = 0;
  for (; effects.open; requests += 1) effects = machine.send({ type: "refused", status: 400, error: { code: "X", message: "x" } });
  assert.ok(requests < 15, `${requests} requests`);
  assert.equal(machine.state.phase, "closed");
});

test("arguments that no server takes are not sent", () => {
  const machine = new Driven();
  const reference = { query: "q", args: { text: "x".repeat(REFERENCE_BYTES_MAX) } };
  const { fail, open } = machine.send({ type: "want", add: [{ sub: "a", reference }, { sub: "b", reference: { query: "q", args: {} } }], drop: [] });
  assert.deepEqual([fail.subs, fail.error.code, names(open.subscribe)], [["a"], "PAYLOAD_TOO_LARGE", ["b"]]);
  assert.equal(machine.hello().post, undefined);
});

test("without hello it polls, in one session, and tries to stream again after a while", () => {
  const machine = new Driven();
  machine.want(["a"]);
  machine.send({ type: "opened" });
  assert.equal(machine.send({ type: "timeout" }).open.poll, POLL_MS);
  machine.hello();
  assert.equal(connectionState(machine.state), "live");
  machine.transition("t1");
  let { open } = machine.send({ type: "ended", message: "" });
  assert.deepEqual([open.poll, open.resume, open.subscribe], [POLL_MS, "t1", []]);
  assert.equal(connectionState(machine.state), "live");
  // The session can be told while a poll is out, and what is told is not in the next poll too.
  assert.deepEqual(names(machine.want(["b"]).post.subscribe), ["b"]);
  machine.hello({ resumed: true });
  machine.at = POLL_SPELL_MS + 1;
  ({ open } = machine.send({ type: "ended", message: "" }));
  assert.deepEqual([open.poll, open.subscribe], [null, []]);
});

test("a poll that fails is a failure", () => {
  const machine = new Driven();
  machine.want(["a"]);
  machine.send({ type: "opened" });
  machine.send({ type: "timeout" });
  machine.hello();
  machine.transition("t1");
  machine.send({ type: "ended", message: "" });
  assert.ok(machine.send({ type: "ended", message: "x" }).sleep, "it ended before it said hello");
});

test("requests stay below the server's limit", () => {
  const machine = new Driven();
  const reference = { query: "q", args: { text: "x".repeat(20_000) } };
  const add = Array.from({ length: 50 }, (_, index) => ({ sub: `s${index}`, reference }));
  const { open } = machine.send({ type: "want", add, drop: [] });
  const seen = names(open.subscribe);
  let { post } = machine.hello();
  for (; post !== undefined; { post } = machine.send({ type: "posted", id: post.id, status: 202, error: null })) {
    assert.ok(JSON.stringify(post).length < REQUEST_BYTES_MAX);
    seen.push(...names(post.subscribe));
  }
  assert.ok(JSON.stringify(open).length < REQUEST_BYTES_MAX);
  assert.deepEqual(seen, names(add));
});

test("a session that has used many names gives way to a new one", () => {
  const machine = new Driven();
  machine.want(["a"]);
  machine.hello();
  machine.transition("t1");
  let opened;
  for (let name = 0; name <= NAMES_MAX && !opened; name += 1_000) {
    const add = Array.from({ length: 1_000 }, (_, index) => `n${name + index}`);
    let done = machine.want(add, [...machine.state.wants.keys()]);
    while (done.post) done = machine.send({ type: "posted", id: done.post.id, status: 202, error: null });
    opened = done.open;
  }
  assert.equal(opened.resume, null);
  assert.equal(machine.state.named, 0);
});

test("changes that the server refuses fail their subscriptions and nothing else", () => {
  const machine = new Driven();
  machine.want(["a"]);
  machine.hello();
  const { post } = machine.want(["b"]);
  machine.want(["c"]);
  const done = machine.send({ type: "posted", id: post.id, status: 429, error: { code: "LIMIT_EXCEEDED", message: "x" } });
  assert.deepEqual([done.fail.subs, done.fail.error.code], [["b"], "LIMIT_EXCEEDED"]);
  assert.deepEqual(names(done.post.subscribe), ["c"]);
  assert.equal(machine.state.phase, "live");
});

test("polls that go on with no session, or bring nothing at once, are waited between", () => {
  const machine = new Driven();
  machine.want(["a"]);
  machine.send({ type: "opened" });
  machine.send({ type: "timeout" });
  machine.hello();
  machine.transition("t0");
  assert.ok(machine.send({ type: "ended", message: "" }).open, "the first begins a session");
  const waits = [];
  for (let poll = 1; poll <= 8; poll += 1) {
    machine.hello({ session: `s${poll}` });
    machine.transition(`t${poll}`);
    waits.push(machine.send({ type: "ended", message: "" }).sleep.ceilingMs);
    machine.send({ type: "woke" });
  }
  assert.deepEqual(waits, [250, 500, 1_000, 2_000, 4_000, 8_000, RETRY_MAX_MS, RETRY_MAX_MS]);
  machine.hello({ session: "s8", resumed: true });
  assert.ok(machine.send({ type: "ended", message: "" }).sleep, "nothing came");
  machine.send({ type: "woke" });
  machine.hello({ session: "s8", resumed: true });
  machine.at += STEADY_MS + 1;
  assert.ok(machine.send({ type: "ended", message: "" }).open, "nothing came for a while");
});

test("streams that end for want of credentials as soon as they have begun are waited between", () => {
  const machine = new Driven();
  machine.want(["a"]);
  const waits = [];
  for (let stream = 1; stream <= 8; stream += 1) {
    machine.hello({ resumed: stream > 1 });
    machine.transition(`t${stream}`);
    const goodbye = { code: "UNAUTHORIZED", message: "x", retry_ms: null, resume: true };
    waits.push(machine.send({ type: "goodbye", goodbye }).sleep.ceilingMs);
    assert.equal(machine.send({ type: "woke" }).open.fresh, true);
  }
  assert.deepEqual(waits, [250, 500, 1_000, 2_000, 4_000, 8_000, RETRY_MAX_MS, RETRY_MAX_MS]);
});

test("a misfit after a steady stream is the first failure", () => {
  const machine = new Driven();
  machine.want(["a"]);
  for (let stream = 1; stream <= 4; stream += 1) {
    machine.hello({ session: `s${stream}` });
    machine.at += STEADY_MS + 1;
    assert.equal(machine.send({ type: "misfit", message: "x" }).sleep.ceilingMs, RETRY_FIRST_MS);
    machine.send({ type: "woke" });
  }
});

test("what was no longer wanted is said again where the change with it was refused, and not for ever", () => {
  const machine = new Driven();
  const refuse = (id) => machine.send({ type: "posted", id, status: 429, error: { code: "LIMIT_EXCEEDED", message: "x" } });
  machine.want(["a", "b"]);
  machine.hello();
  const { post } = machine.want(["c"], ["a"]);
  assert.deepEqual([names(post.subscribe), post.unsubscribe], [["c"], ["a"]]);
  const done = refuse(post.id);
  assert.deepEqual([done.fail.subs, names(done.post.subscribe), done.post.unsubscribe], [["c"], [], ["a"]]);
  const last = refuse(done.post.id);
  assert.deepEqual(Object.keys(last), ["abort", "sleep"]);
  const { open } = machine.send({ type: "woke" });
  assert.deepEqual([open.resume, names(open.subscribe)], [null, ["b"]], "a new session, of what is wanted");
});

test("states are not changed in place", () => {
  for (const [name, state] of Object.entries(STATES)) {
    const before = structuredClone(state);
    for (const event of Object.keys(EVENTS)) cell(name, event);
    assert.deepEqual(structuredClone(state), before, name);
  }
});
