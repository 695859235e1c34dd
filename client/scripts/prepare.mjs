// Builds dist/. Runs when the package is installed by path, also from a checkout in which nothing was installed before.
//
// What it takes to build is then installed into a temporary folder, and not next to the package: there, a package that
// is linked into a project would find a React of its own, and two Reacts are one too many.

import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const dist = join(root, "dist");

function run(cwd, program, flags) {
  // The settings of the npm that runs this are for the project that it installs into.
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^npm_(config|package|lifecycle|command)/i.test(name)));
  const { status, error } = spawnSync(program, flags, { cwd, stdio: "inherit", env });
  if (error) throw error;
  if (status !== 0) throw new Error(`${program} ${flags.join(" ")} ended with status ${status}`);
}

function compile(folder) {
  rmSync(dist, { recursive: true, force: true });
  run(folder, process.execPath, [join(folder, "node_modules/typescript/bin/tsc"), "-p", "tsconfig.json", "--outDir", dist]);
}

if (existsSync(join(root, "node_modules/typescript"))) {
  compile(root);
} else {
  const folder = mkdtempSync(join(tmpdir(), "convoy-client-build-"));
  try {
    for (const name of ["package.json", "package-lock.json", "tsconfig.json", "src"]) cpSync(join(root, name), join(folder, name), { recursive: true });
    const npm = process.env.npm_execpath;
    const flags = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"];
    if (npm?.endsWith(".js")) run(folder, process.execPath, [npm, ...flags]);
    else run(folder, "npm", flags);
    compile(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
