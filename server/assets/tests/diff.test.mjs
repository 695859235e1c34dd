// Updates against results: each kind, each misfit, and the law that diffs lead where the snapshot says.
import assert from "node:assert/strict";
import { test } from "node:test";
import { LOADING, MisfitError, applyOperations, applyPatch, applyUpdate } from "../diff.js";

const snapshot = (pairs, digest = "d0") => ({
  type: "snapshot",
  digest,
  columns: [{ name: "n", type: "int4" }],
  keys: pairs.map(([key]) => key),
  value: pairs.map(([, n]) => ({ n })),
});
const rows = (pairs) => applyUpdate(LOADING, snapshot(pairs));

test("a snapshot fills a result, and a diff leaves the one before as it was", () => {
  const before = rows([["a", 1], ["b", 2], ["c", 3]]);
  const after = applyUpdate(before, {
    type: "diff",
    digest: "d1",
    ops: [
      { op: "remove", key: "a" },
      { op: "insert", key: "z", at: 0, row: { n: 9 } },
      { op: "update", key: "c", set: { n: 4 } },
      { op: "move", key: "c", at: 0 },
    ],
  });
  assert.deepEqual(after.keys, ["c", "z", "b"]);
  assert.deepEqual(after.value, [{ n: 4 }, { n: 9 }, { n: 2 }]);
  assert.equal(after.digest, "d1");
  assert.deepEqual(before.keys, ["a", "b", "c"]);
  assert.deepEqual(before.value, [{ n: 1 }, { n: 2 }, { n: 3 }]);
});

test("a move's place is counted after the row was taken out", () => {
  const { keys } = applyOperations(["a", "b", "c"], [1, 2, 3], [{ op: "move", key: "a", at: 2 }]);
  assert.deepEqual(keys, ["b", "c", "a"]);
});

test("what does not fit is refused", () => {
  const before = rows([["a", 1]]);
  const misfits = [
    [{ op: "remove", key: "x" }],
    [{ op: "update", key: "x", set: {} }],
    [{ op: "update", key: "a", set: { other: 1 } }],
    [{ op: "move", key: "a", at: 1 }],
    [{ op: "insert", key: "a", at: 0, row: {} }],
    [{ op: "insert", key: "b", at: 2, row: {} }],
    [{ op: "insert", key: "b", at: -1, row: {} }],
    [{ op: "swap", key: "a" }],
  ];
  for (const ops of misfits) assert.throws(() => applyUpdate(before, { type: "diff", digest: "x", ops }), MisfitError, JSON.stringify(ops));
  assert.throws(() => applyUpdate(LOADING, { type: "diff", digest: "x", ops: [] }), MisfitError);
  assert.throws(() => applyUpdate(LOADING, { type: "patch", digest: "x", patch: [] }), MisfitError);
  assert.throws(() => applyUpdate(LOADING, { type: "unchanged" }), MisfitError);
});

test("stale keeps the rows, and the next update makes it ready again", () => {
  const stale = applyUpdate(rows([["a", 1]]), { type: "stale", lsn: "0/10" });
  assert.equal(stale.status, "stale");
  assert.equal(stale.staleSince, "0/10");
  assert.deepEqual(stale.keys, ["a"]);
  assert.equal(applyUpdate(stale, { type: "unchanged" }).status, "ready");
  assert.equal(applyUpdate(stale, { type: "diff", digest: "d1", ops: [] }).staleSince, null);
});

test("after an error only a snapshot fits", () => {
  const failed = applyUpdate(rows([["a", 1]]), { type: "error", final: false, error: { code: "TIMEOUT", message: "too slow" } });
  assert.equal(failed.status, "error");
  assert.equal(failed.error.final, false);
  assert.throws(() => applyUpdate(failed, { type: "diff", digest: "d1", ops: [] }), MisfitError);
  assert.equal(applyUpdate(failed, snapshot([])).status, "ready");
});

test("an update of a later protocol changes nothing", () => {
  const before = rows([["a", 1]]);
  assert.equal(applyUpdate(before, { type: "hologram" }), before);
});

test("patches follow RFC 6902", () => {
  // From the RFC's appendix A.
  const cases = [
    [{ foo: "bar" }, [{ op: "add", path: "/baz", value: "qux" }], { foo: "bar", baz: "qux" }],
    [{ foo: ["bar", "baz"] }, [{ op: "add", path: "/foo/1", value: "qux" }], { foo: ["bar", "qux", "baz"] }],
    [{ foo: ["bar"] }, [{ op: "add", path: "/foo/-", value: ["abc"] }], { foo: ["bar", ["abc"]] }],
    [{ foo: ["bar", "qux", "baz"] }, [{ op: "remove", path: "/foo/1" }], { foo: ["bar", "baz"] }],
    [{ baz: 1 }, [{ op: "replace", path: "/baz", value: 2 }], { baz: 2 }],
    [{ a: { b: 1 }, c: {} }, [{ op: "move", from: "/a/b", path: "/c/b" }], { a: {}, c: { b: 1 } }],
    [{ foo: [1, 2, 3, 4] }, [{ op: "move", from: "/foo/1", path: "/foo/3" }], { foo: [1, 3, 4, 2] }],
    [{ "/": 9, "~1": 10 }, [{ op: "test", path: "/~01", value: 10 }, { op: "remove", path: "/~1" }], { "~1": 10 }],
    [{ a: 1 }, [{ op: "replace", path: "", value: { b: 2 } }], { b: 2 }],
    [{ a: [1] }, [{ op: "copy", from: "/a", path: "/b" }, { op: "add", path: "/b/0", value: 0 }], { a: [1], b: [0, 1] }],
  ];
  for (const [document, patch, expected] of cases) {
    const kept = structuredClone(document);
    assert.deepEqual(applyPatch(document, patch), expected, JSON.stringify(patch));
    assert.deepEqual(document, kept);
  }
});

test("patches that do not fit are refused", () => {
  const misfits = [
    { op: "remove", path: "/nope" },
    { op: "replace", path: "/nope", value: 1 },
    { op: "add", path: "/list/9", value: 1 },
    { op: "add", path: "/list/01", value: 1 },
    { op: "add", path: "/no/where", value: 1 },
    { op: "add", path: "/__proto__", value: {} },
    { op: "add", path: "/__proto__/polluted", value: 1 },
    { op: "test", path: "/list", value: [1, 2] },
    { op: "move", from: "/list", path: "/list/0" },
  ];
  for (const step of misfits) assert.throws(() => applyPatch({ list: [1] }, [step]), MisfitError, JSON.stringify(step));
  assert.equal({}.polluted, undefined);
});

/** mulberry32: small, seeded, and good enough to pick test cases with. */
function seeded(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

test("operations_equal_a_list_model", () => {
  const seed = Number(process.env.CONVOY_TEST_SEED ?? Date.now() % 1e9);
  console.log(`CONVOY_TEST_SEED=${seed}`);
  const random = seeded(seed);
  const pick = (n) => Math.floor(random() * n);
  let result = rows([]);
  let model = []; // [key, n], kept by rebuilding the list instead of splicing it.
  for (let step = 0; step < 2_000; step += 1) {
    const ops = [];
    for (let i = pick(4); i >= 0; i -= 1) {
      const kind = model.length === 0 ? "insert" : ["insert", "remove", "update", "move"][pick(model.length > 30 ? 4 : 3)];
      const chosen = model[pick(model.length)];
      const others = model.filter((entry) => entry !== chosen);
      const insertAt = (list, at, entry) => [...list.slice(0, at), entry, ...list.slice(at)];
      if (kind === "insert") {
        const at = pick(model.length + 1);
        const entry = [`k${step}-${i}`, pick(100)];
        ops.push({ op: "insert", key: entry[0], at, row: { n: entry[1] } });
        model = insertAt(model, at, entry);
      } else if (kind === "remove") {
        ops.push({ op: "remove", key: chosen[0] });
        model = others;
      } else if (kind === "update") {
        const n = pick(100);
        ops.push({ op: "update", key: chosen[0], set: { n } });
        model = model.map((entry) => (entry === chosen ? [entry[0], n] : entry));
      } else {
        const at = pick(model.length);
        ops.push({ op: "move", key: chosen[0], at });
        model = insertAt(others, at, chosen);
      }
    }
    result = applyUpdate(result, { type: "diff", digest: `d${step}`, ops });
    assert.deepEqual(result.keys, model.map(([key]) => key));
    assert.deepEqual(result.value, model.map(([, n]) => ({ n })));
  }
});
