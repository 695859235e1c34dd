// What is packed, installed into an empty folder, and imported.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, symlinkSync, mkdirSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const { exports } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));

/** What an entry needs that is not in the package. */
const NEEDS = { ".": ["zod"], "./react": ["react"], "./tanstack": [] };

function run(cwd, program, flags) {
  const { status, stdout, stderr } = spawnSync(program, flags, { cwd, encoding: "utf8" });
  assert.equal(status, 0, `${program} ${flags.join(" ")}\n${stdout}${stderr}`);
  return stdout;
}

test("the package, installed into an empty folder, has every entry, each with only what it needs", (t) => {
  const folder = mkdtempSync(join(tmpdir(), "convoy-client-pack-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  // The scripts would build anew what is tested here.
  const [{ filename }] = JSON.parse(run(root, "npm", ["pack", "--json", "--ignore-scripts", "--pack-destination", folder]));
  const quiet = ["--no-audit", "--no-fund", "--ignore-scripts", "--legacy-peer-deps", "--offline"];
  for (const [entry, { default: file } = {}] of Object.entries(exports)) {
    if (file === undefined) continue;
    const app = join(folder, entry.replace(/\W/g, "_"));
    mkdirSync(app);
    writeFileSync(join(app, "package.json"), '{"private": true, "type": "module"}');
    run(app, "npm", ["install", ...quiet, join(folder, filename)]);
    for (const name of NEEDS[entry] ?? []) symlinkSync(join(root, "node_modules", name), join(app, "node_modules", name));
    const program = `const all = await import("convoy${entry.slice(1)}"); console.log(Object.keys(all).length)`;
    assert.ok(Number(run(app, process.execPath, ["--input-type=module", "-e", program])) > 0, entry);
  }
});
