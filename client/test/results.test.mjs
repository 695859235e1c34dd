// What one change does to one result; patches, sharing, canonical arguments, and the parser of events.

import assert from "node:assert/strict";
import { test } from "node:test";
import { canonicalJson, queryKey } from "../dist/client/canonical.js";
import { identityOfToken } from "../dist/client/identity.js";
import { MisfitError, applyPatch } from "../dist/client/patch.js";
import { LOADING, applyChange, applyOperations } from "../dist/client/results.js";
import { share } from "../dist/client/share.js";
import { SseParser } from "../dist/client/sse.js";
import { Results } from "../dist/client/source.js";
import { compareLsn } from "../dist/client/wire.js";

const snapshot = (rows, digest = "d") => ({ type: "snapshot", digest, columns: [], keys: rows.map(({ id }) => String(id)), value: rows });
const rows = (...ids) => ids.map((id) => ({ id }));

test("each kind of change", () => {
  const ready = applyChange(LOADING, snapshot(rows(1, 2)));
  assert.deepEqual([ready.status, ready.keys, ready.digest], ["ready", ["1", "2"], "d"]);
  const diffed = applyChange(ready, { type: "diff", digest: "e", ops: [{ op: "insert", key: "3", at: 0, row: { id: 3 } }] });
  assert.deepEqual([diffed.value, diffed.digest], [rows(3, 1, 2), "e"]);
  assert.equal(diffed.value[1], ready.value[0]);
  const stale = applyChange(diffed, { type: "stale", lsn: "0/5" });
  assert.deepEqual([stale.status, stale.staleSince, stale.value], ["stale", "0/5", diffed.value]);
  assert.equal(applyChange(stale, { type: "unchanged" }).status, "ready");
  const error = applyChange(stale, { type: "error", error: { code: "X", message: "x" } });
  assert.deepEqual([error.status, error.digest, error.error.final, error.value], ["error", null, false, diffed.value]);
  assert.throws(() => applyChange(error, { type: "diff", digest: "f", ops: [] }), MisfitError);
  assert.equal(applyChange(error, snapshot(rows(3, 1, 2))).value, diffed.value, "equal, and so the same");
  assert.equal(applyChange(ready, { type: "of a later protocol" }), ready);
});

test("a snapshot keeps the rows that stay, wherever they stand", () => {
  const before = applyChange(LOADING, snapshot([{ id: 1, a: [1, 2] }, { id: 2 }, { id: 3 }]));
  const after = applyChange(before, snapshot([{ id: 3 }, { id: 1, a: [1, 2] }, { id: 2, b: 1 }], "e"));
  assert.equal(after.value[0], before.value[2]);
  assert.equal(after.value[1], before.value[0]);
  assert.notEqual(after.value[2], before.value[1]);
});

test("what was never here is not built upon", () => {
  for (const change of [{ type: "diff", digest: "e", ops: [] }, { type: "patch", digest: "e", patch: [] }, { type: "unchanged" }]) {
    assert.throws(() => applyChange(LOADING, change), MisfitError);
  }
});

test("row operations, each index right after its own operation; against a model, at random", () => {
  let seed = 7;
  const random = (below) => (seed = (seed * 48_271) % 2_147_483_647) % below;
  for (let round = 0; round < 300; round += 1) {
    let keys = ["a", "b", "c", "d"].slice(0, random(5));
    let values = keys.map((key) => ({ key, n: 0, m: 0 }));
    const [keysBefore, rowsBefore] = [keys, values];
    const operations = [];
    let next = 0;
    for (let step = 0; step < random(6); step += 1) {
      const list = values.map((row, index) => [keys[index], row]);
      const kind = list.length === 0 ? 0 : random(4);
      if (kind === 0) {
        const key = `n${(next += 1)}`;
        const at = random(list.length + 1);
        operations.push({ op: "insert", key, at, row: { key, n: 0, m: 0 } });
        list.splice(at, 0, [key, { key, n: 0, m: 0 }]);
      } else {
        const index = random(list.length);
        const [key, row] = list[index];
        if (kind === 1) {
          operations.push({ op: "remove", key });
          list.splice(index, 1);
        } else if (kind === 2) {
          operations.push({ op: "update", key, set: { n: step + 1 } });
          list[index] = [key, { ...row, n: step + 1 }];
        } else {
          list.splice(index, 1);
          const at = random(list.length + 1);
          operations.push({ op: "move", key, at });
          list.splice(at, 0, [key, row]);
        }
      }
      keys = list.map(([key]) => key);
      values = list.map(([, row]) => row);
    }
    const after = applyOperations(keysBefore, rowsBefore, operations);
    assert.deepEqual(after, { keys, rows: values });
    const updated = new Set(operations.filter(({ op }) => op !== "move").map(({ key }) => key));
    keysBefore.forEach((key, index) => {
      if (updated.has(key)) return;
      assert.equal(after.rows[after.keys.indexOf(key)], rowsBefore[index], "the same object");
    });
  }
});

test("operations that fit nothing are misfits", () => {
  for (const operation of [
    { op: "remove", key: "x" },
    { op: "update", key: "x", set: {} },
    { op: "move", key: "x", at: 0 },
    { op: "move", key: "1", at: 5 },
    { op: "insert", key: "1", at: 0, row: {} },
    { op: "insert", key: "2", at: 3, row: {} },
    { op: "insert", key: "2", at: -1, row: {} },
    { op: "turn", key: "1" },
  ]) {
    assert.throws(() => applyOperations(["1"], [{}], [operation]), MisfitError, JSON.stringify(operation));
  }
});

test("all changes of a transition or none", () => {
  const results = new Results();
  results.map.set("a", LOADING).set("b", LOADING);
  assert.throws(() => results.apply([{ key: "a", ...snapshot(rows(1)) }, { key: "b", type: "unchanged" }]), MisfitError);
  assert.equal(results.map.get("a"), LOADING);
  const keys = results.apply([{ key: "a", ...snapshot(rows(1)) }, { key: "nobody's", ...snapshot(rows(1)) }]);
  assert.deepEqual([...keys], ["a"]);
  assert.equal(results.map.size, 2);
});

test("patches (RFC 6902) copy only what lies on their way", () => {
  const document = Object.freeze({ a: Object.freeze({ b: Object.freeze([1, 2, 3]) }), c: Object.freeze({ d: 1 }) });
  const patched = applyPatch(document, [
    { op: "replace", path: "/a/b/1", value: 9 },
    { op: "add", path: "/a/b/-", value: 4 },
    { op: "add", path: "/a/b/0", value: 0 },
    { op: "remove", path: "/a/b/1" },
    { op: "add", path: "/a/x~1y~0z", value: null },
    { op: "copy", from: "/a/b", path: "/e" },
    { op: "move", from: "/e/0", path: "/f" },
    { op: "test", path: "/f", value: 0 },
  ]);
  assert.deepEqual(patched, { a: { b: [0, 9, 3, 4], "x/y~z": null }, c: { d: 1 }, e: [9, 3, 4], f: 0 });
  assert.equal(patched.c, document.c);
  assert.deepEqual(document.a.b, [1, 2, 3]);
  assert.equal(applyPatch({ a: 1 }, [{ op: "replace", path: "", value: 5 }]), 5);
  assert.equal(applyPatch({ a: 1 }, [{ op: "replace", path: "", value: null }]), null);
  assert.equal(applyPatch({ a: 1 }, [{ op: "add", path: "", value: 6 }]), 6);
  for (const step of [
    { op: "replace", path: "/x", value: 1 },
    { op: "remove", path: "/x" },
    { op: "remove", path: "" },
    { op: "add", path: "/x/y", value: 1 },
    { op: "add", path: "/l/5", value: 1 },
    { op: "add", path: "/l/01", value: 1 },
    { op: "add", path: "x", value: 1 },
    { op: "add", path: "/__proto__/x", value: 1 },
    { op: "move", from: "/o", path: "/o/p" },
    { op: "test", path: "/o", value: 2 },
    { op: "turn", path: "/o" },
  ]) {
    assert.throws(() => applyPatch({ l: [1], o: { p: 1 } }, [step]), MisfitError, JSON.stringify(step));
  }
});

test("a member called __proto__ is one like any other", () => {
  const document = JSON.parse('{"__proto__": {"n": 1}, "o": {"a": 1}}');
  const patched = applyPatch(document, [
    { op: "replace", path: "/__proto__/n", value: 2 },
    { op: "add", path: "/o/__proto__", value: [] },
  ]);
  assert.equal(JSON.stringify(patched), '{"__proto__":{"n":2},"o":{"a":1,"__proto__":[]}}');
  assert.equal(Object.getPrototypeOf(patched), Object.prototype);
  assert.equal(JSON.stringify(applyPatch(patched, [{ op: "remove", path: "/__proto__" }])), '{"o":{"a":1,"__proto__":[]}}');
  assert.equal(JSON.stringify(document), '{"__proto__":{"n":1},"o":{"a":1}}');
});

test("what is equal is shared", () => {
  const before = { a: [{ x: 1 }, { x: 2 }], b: { y: null } };
  assert.equal(share(before, structuredClone(before)), before);
  const next = share(before, { a: [{ x: 1 }, { x: 3 }], b: { y: null } });
  assert.deepEqual(next, { a: [{ x: 1 }, { x: 3 }], b: { y: null } });
  assert.equal(next.a[0], before.a[0]);
  assert.equal(next.b, before.b);
  assert.deepEqual(share({ a: 1, b: 2 }, { a: 1 }), { a: 1 });
  assert.deepEqual(share([], {}), {});
  const row = { x: 1 };
  assert.equal(share([{ x: 0 }, row], [row])[0], row, "what has its identity keeps it");
});

test("diffs and patches keep what is equal, also where it is written anew", () => {
  const before = applyChange(LOADING, snapshot([{ id: 1, tags: ["x"], n: 1 }, { id: 2 }]));
  const diff = (ops) => applyChange(before, { type: "diff", digest: "e", ops }).value;
  assert.equal(diff([{ op: "update", key: "1", set: { tags: ["x"] } }]), before.value);
  const updated = diff([{ op: "update", key: "1", set: { tags: ["x"], n: 2 } }]);
  assert.deepEqual(updated[0], { id: 1, tags: ["x"], n: 2 });
  assert.equal(updated[0].tags, before.value[0].tags);
  const again = diff([{ op: "remove", key: "1" }, { op: "insert", key: "1", at: 1, row: { id: 1, tags: ["x"], n: 1 } }]);
  assert.equal(again[1], before.value[0]);

  const page = (...ids) => ids.map((_id) => ({ _id, tags: ["x"] }));
  const list = applyChange(LOADING, { type: "snapshot", digest: "d", value: { page: page("a", "b"), isDone: false } });
  const next = applyChange(list, { type: "patch", digest: "e", patch: [{ op: "replace", path: "/page", value: page("c", "a", "b") }] });
  assert.deepEqual(next.value, { page: page("c", "a", "b"), isDone: false });
  assert.equal(next.value.page[1], list.value.page[0], "by their ids");
  assert.equal(next.value.page[2], list.value.page[1]);
  assert.equal(applyChange(list, { type: "patch", digest: "e", patch: [{ op: "replace", path: "/page", value: page("a", "b") }] }).value, list.value);
  assert.deepEqual(share([{ _id: "a", n: 1 }, { _id: "a", n: 2 }], [{ _id: "a", n: 1 }]), [{ _id: "a", n: 1 }], "whatever the ids are");
});

test("equal arguments have one spelling", () => {
  assert.equal(canonicalJson({ b: 1, a: [undefined, { d: undefined, c: null }] }), '{"a":[null,{"c":null}],"b":1}');
  assert.equal(canonicalJson([1, , 2]), "[1,null,2]");
  assert.equal(canonicalJson({ "a\udf89": ["\ud83d", "🎉", "\ud83d\ud83d\ude00"] }), '{"a\ufffd":["\ufffd","🎉","\ufffd😀"]}');
  assert.throws(() => canonicalJson({ at: [new Date(NaN)] }), /args\.at\[0\] is an invalid Date/);
  assert.equal(canonicalJson({ n: 9007199254740993n, at: new Date(0) }), '{"at":"1970-01-01T00:00:00.000Z","n":"9007199254740993"}');
  assert.equal(queryKey("a.b", undefined), queryKey("a.b", {}));
  assert.equal(JSON.stringify(JSON.parse(canonicalJson({ "é\u2028\"": -0 }))), '{"é\u2028\\"":0}');
  for (const [value, says] of [
    [{ a: { b: NaN } }, /args\.a\.b is NaN/],
    [{ f() {} }, /args\.f is a function/],
    [{ m: new Map() }, /args\.m is a Map/],
    [[Symbol("x")], /args\[0\] is a symbol/],
  ]) {
    assert.throws(() => canonicalJson(value), says);
  }
  const loop = {};
  loop.loop = loop;
  assert.throws(() => canonicalJson(loop), /contain itself/);
});

test("events, from pieces cut anywhere", () => {
  const text = '\ufeffevent: hello\r\ndata: {"é":1}\r\n\r\n: a comment\n\nid: 7\ndata: a\rdata:b\r\rretry: 30\nretry: x\nevent: e\n\ndata\nid: \0\n\n';
  const expected = [
    { type: "hello", data: '{"é":1}', id: "" },
    { type: "message", data: "a\nb", id: "7" },
    30,
    { type: "message", data: "", id: "7" },
  ];
  for (let size = 1; size <= text.length; size += 1) {
    const seen = [];
    const parser = new SseParser({ onEvent: (event) => seen.push(event), onRetry: (ms) => seen.push(ms) });
    for (let from = 0; from < text.length; from += size) parser.push(text.slice(from, from + size));
    assert.deepEqual(seen, expected, `pieces of ${size}`);
  }
});

test("positions are compared as numbers", () => {
  assert.ok(compareLsn("0/9", "0/10") < 0);
  assert.ok(compareLsn("1/0", "0/FFFFFFFF") > 0);
  assert.equal(compareLsn("A/b", "a/B"), 0);
});

test("a token's identity is all that lasts of it", () => {
  const token = (claims) => `${btoa("{}")}.${Buffer.from(JSON.stringify(claims)).toString("base64url")}.sig`;
  assert.deepEqual(identityOfToken(token({ sub: "ä", exp: 1, iat: 2, jti: "x" })), identityOfToken(token({ exp: 3, sub: "ä" })));
  const different = [{ sub: "1" }, { sub: "2" }, { sub: "1", role: "admin" }, { sub: "1", iss: "x" }, { sub: "1", tenant: 5 }];
  assert.equal(new Set(different.map((claims) => identityOfToken(token(claims)).channel)).size, different.length);
  assert.deepEqual([...new Set(different.map((claims) => identityOfToken(token(claims)).user))], ['[null,"1"]', '[null,"2"]', '["x","1"]']);
  for (const unknown of ["opaque", "a.b", "a.b.c", token({ role: "x" }), token(null), "a..c"]) assert.equal(identityOfToken(unknown), null);
});
