// Builds dist/. Runs when the package is installed by path, also from a checkout in which nothing was installed before.

import { spawnSync } from "node:child_process";
import { existsSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const compiler = join(root, "node_modules/typescript/bin/tsc");

function run(program, flags) {
  // Of the npm that runs this, its settings are for the project that it installs into.
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^npm_(config|package|lifecycle|command)/i.test(name)));
  const { status, error } = spawnSync(program, flags, { cwd: root, stdio: "inherit", env });
  if (error) throw error;
  if (status !== 0) process.exit(status ?? 1);
}

if (!existsSync(compiler)) {
  const npm = process.env.npm_execpath;
  const flags = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"];
  if (npm?.endsWith(".js")) run(process.execPath, [npm, ...flags]);
  else run("npm", flags);
}
rmSync(join(root, "dist"), { recursive: true, force: true });
run(process.execPath, [compiler, "-p", join(root, "tsconfig.json")]);
