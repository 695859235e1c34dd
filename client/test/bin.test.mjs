// The command: which binary it starts, and what it says where there is none.

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { chmodSync, cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

/** A package in a folder of its own, with what the test puts around it. */
function install(t, { platformPackage, checkout } = {}) {
  const folder = mkdtempSync(join(tmpdir(), "convoy-client-bin-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  cpSync(new URL("../bin", import.meta.url), join(folder, "client/bin"), { recursive: true });
  const program = (path, text) => {
    mkdirSync(join(path, ".."), { recursive: true });
    writeFileSync(path, `#!/bin/sh\n${text}\n`);
    chmodSync(path, 0o755);
    return path;
  };
  if (checkout) {
    writeFileSync(join(folder, "Cargo.toml"), "");
    if (checkout !== "not built") program(join(folder, "target/release/convoy"), checkout);
  }
  if (platformPackage) program(join(folder, `client/node_modules/@convoy-live/${process.platform}-${process.arch}/bin/convoy`), platformPackage);
  const run = (flags, env = {}) =>
    spawnSync(process.execPath, [join(folder, "client/bin/convoy.mjs"), ...flags], { encoding: "utf8", env: { PATH: process.env.PATH, ...env } });
  return { folder, program, run };
}

test("CONVOY_BIN comes first, then the platform package, then the checkout", (t) => {
  const { folder, program, run } = install(t, { platformPackage: 'echo "package $*"', checkout: 'echo "checkout $*"' });
  const named = program(join(folder, "named"), 'echo "named $*"; exit 3');
  const { stdout, status } = run(["dev", "--once"], { CONVOY_BIN: named });
  assert.deepEqual([stdout, status], ["named dev --once\n", 3]);
  assert.equal(run(["x"]).stdout, "package x\n");
  rmSync(join(folder, "client/node_modules"), { recursive: true });
  assert.equal(run(["x"]).stdout, "checkout x\n");
});

test("without a binary it says how to build one, and nothing of a registry", (t) => {
  for (const given of [{}, { checkout: "not built" }]) {
    const { run } = install(t, given);
    const { status, stderr } = run([]);
    assert.equal(status, 1);
    assert.match(stderr, /cargo build --release/);
    assert.match(stderr, /CONVOY_BIN/);
    assert.doesNotMatch(stderr, /npm|npx/);
  }
  const { run } = install(t);
  assert.match(run([], { CONVOY_BIN: "/no/such" }).stderr, /CONVOY_BIN is \/no\/such/);
});

test("signals are passed on, and the status is the binary's", async (t) => {
  const { folder, program } = install(t);
  const named = program(join(folder, "named"), 'trap "exit 7" TERM; echo ready; while true; do sleep 0.05; done');
  const child = spawn(process.execPath, [join(folder, "client/bin/convoy.mjs")], { env: { PATH: process.env.PATH, CONVOY_BIN: named } });
  await new Promise((resolve) => child.stdout.once("data", resolve));
  child.kill("SIGTERM");
  assert.equal(await new Promise((resolve) => child.on("exit", resolve)), 7);
});
