// A real `convoy serve` for the tests, with a project of named queries, or of functions.

import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { atExit } from "./_cleanup.mjs";
import { freePort } from "./_port.mjs";

const here = dirname(fileURLToPath(import.meta.url));

export function binary() {
  const path = resolve(process.env.CONVOY_BIN ?? join(here, "../../target/debug/convoy"));
  if (!existsSync(path)) throw new Error(`${path} is not there: build it (cargo build -p convoy-server) or set CONVOY_BIN`);
  return path;
}

/** Lays `node_modules` into a folder: what is installed here, and this package. */
function linkPackages(folder) {
  const client = join(here, "..");
  const into = join(folder, "node_modules");
  mkdirSync(into);
  const names = readdirSync(join(client, "node_modules")).filter((name) => !name.startsWith("."));
  for (const name of names) symlinkSync(join(client, "node_modules", name), join(into, name));
  symlinkSync(client, join(into, "convoy"));
}

export class Convoy {
  /**
   * `queries` maps names like `orders.byTenant` to the text of their files, `files` names like `functions/orders.ts`.
   * Where there are such, their tables are created.
   */
  static async start({ databaseUrl, queries = {}, files = {}, flags = [] }) {
    const convoy = new Convoy();
    convoy.project = mkdtempSync(join(tmpdir(), "convoy-client-project-"));
    convoy.clean = atExit(() => {
      convoy.child?.kill("SIGKILL");
      rmSync(convoy.project, { recursive: true, force: true });
    });
    const sql = Object.entries(queries).map(([name, text]) => [`queries/${name.replaceAll(".", "/")}.sql`, text]);
    for (const [name, text] of [...sql, ...Object.entries(files)]) {
      const file = join(convoy.project, name);
      mkdirSync(dirname(file), { recursive: true });
      writeFileSync(file, text);
    }
    if (Object.keys(files).length > 0) {
      linkPackages(convoy.project);
      const made = spawnSync(binary(), ["dev", "--once", "--database-url", databaseUrl, "--project", convoy.project], { encoding: "utf8" });
      if (made.status !== 0) throw new Error(`convoy dev --once ended with ${made.status}: ${made.stderr}`);
    }
    convoy.port = await freePort();
    convoy.url = `http://127.0.0.1:${convoy.port}`;
    convoy.arguments = ["serve", "--database-url", databaseUrl, "--project", convoy.project, "--listen", `127.0.0.1:${convoy.port}`, "--log", "warn", ...flags];
    await convoy.run();
    return convoy;
  }

  /** Starts the process, again after `kill`, on the same port. */
  async run() {
    const child = spawn(binary(), this.arguments, { stdio: ["ignore", "ignore", "pipe"], env: { ...process.env, CONVOY_DATABASE_URL: undefined } });
    this.child = child;
    this.log = "";
    child.stderr.setEncoding("utf8").on("data", (text) => (this.log = (this.log + text).slice(-10_000)));
    this.ended = new Promise((resolve) => child.on("exit", resolve));
    for (const end = Date.now() + 30_000; ; ) {
      const answer = await fetch(`${this.url}/readyz`).catch(() => null);
      if (answer?.ok) return;
      if (child.exitCode !== null) throw new Error(`convoy ended with ${child.exitCode}: ${this.log}`);
      if (Date.now() > end) throw new Error(`convoy is not ready after 30 s: ${this.log}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  async kill(signal = "SIGKILL") {
    this.child.kill(signal);
    await this.ended;
  }

  async stop() {
    if (this.child.exitCode === null && this.child.signalCode === null) {
      const timer = setTimeout(() => this.child.kill("SIGKILL"), 10_000);
      await this.kill("SIGTERM");
      clearTimeout(timer);
    }
    this.clean();
  }
}
