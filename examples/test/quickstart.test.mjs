// The quickstart of README.md, to the letter: its commands in an empty folder, as one shell would run them. Only what
// `cargo build` would make is there already: the binary that the tests have.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const BINARY = process.env.CONVOY_TEST_BINARY ?? join(ROOT, "target/debug/convoy");
const BUILD = "cargo build --release --features functions";
/** How long npm and all the rest may take on a busy machine, in ms. */
const PATIENCE_MS = 240_000;

test("the quickstart works as README.md says", { timeout: PATIENCE_MS + 30_000 }, async (t) => {
  const readme = readFileSync(join(ROOT, "README.md"), "utf8");
  const block = /<!-- quickstart -->\n```sh\n([\s\S]*?)```/.exec(readme)?.[1];
  assert.ok(block, "README.md has a block of sh behind <!-- quickstart -->");
  assert.ok(block.startsWith(`${BUILD}\n`), `it begins with: ${BUILD}`);

  const folder = mkdtempSync(join(tmpdir(), "convoy-quickstart-"));
  // A Postgres that root starts runs as somebody else.
  chmodSync(folder, 0o711);
  mkdirSync(join(folder, "target/release"), { recursive: true });
  symlinkSync(BINARY, join(folder, "target/release/convoy"));
  symlinkSync(join(ROOT, "client"), join(folder, "client"));
  // Stands for cargo, and takes nothing but that one command.
  mkdirSync(join(folder, "bin"));
  writeFileSync(join(folder, "bin/cargo"), `#!/bin/sh\n[ "cargo $*" = "${BUILD}" ]\n`, { mode: 0o755 });

  const env = { ...process.env, PATH: `${join(folder, "bin")}:${process.env.PATH}`, CONVOY_LISTEN: "127.0.0.1:0" };
  // `init` finds the package beside the source that its program was built from; a binary from elsewhere is told.
  if (!BINARY.startsWith(ROOT)) env.CONVOY_CLIENT = join(ROOT, "client");
  for (const name of ["DATABASE_URL", "CONVOY_DATABASE_URL", "CONVOY_DATA"]) delete env[name];
  const child = spawn("/bin/sh", ["-e"], { cwd: folder, env, detached: true });
  const ended = new Promise((resolve) => child.on("exit", resolve));
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (text) => (output += text));
  t.after(async () => {
    if (child.exitCode === null) process.kill(-child.pid, "SIGTERM");
    await ended;
    rmSync(folder, { recursive: true, force: true });
  });
  child.stdin.end(block);

  const url = await said(() => output, /serving (http:\/\/\S+)/, child);
  const call = async (path, args) => {
    const headers = { "content-type": "application/json" };
    const response = await fetch(`${url}/api/${path}`, { method: "POST", headers, body: JSON.stringify(args) });
    const answer = await response.json();
    assert.ok(response.ok, JSON.stringify(answer));
    return answer.value;
  };
  assert.match(await (await fetch(url)).text(), /<title>/, "there is a page");
  const id = await call("mutation/messages.send", { channel: "general", author: "Ada", text: "hello" });
  const [message] = await call("query/messages.list", { channel: "general" });
  assert.deepEqual({ id: message._id, text: message.text }, { id, text: "hello" });
  assert.match(readFileSync(join(folder, "my-app/convoy/_generated/api.ts"), "utf8"), /messages/);
});

async function said(output, pattern, child) {
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    const found = output().match(pattern);
    if (found) return found[1];
    if (child.exitCode !== null || Date.now() > deadline) throw new Error(`it never said ${pattern}:\n${output()}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
