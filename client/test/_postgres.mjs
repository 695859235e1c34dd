// A private Postgres for the tests: started on a free port, gone with its folder at the end.

import { spawn, spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { atExit } from "./_cleanup.mjs";
import { freePort } from "./_port.mjs";

const NOBODY = 65534;

function binaries() {
  const named = process.env.CONVOY_TEST_POSTGRES_BIN;
  if (named) return named;
  const root = "/usr/lib/postgresql";
  const versions = existsSync(root) ? readdirSync(root).sort((a, b) => Number(b) - Number(a)) : [];
  const found = versions.map((version) => join(root, version, "bin")).find((bin) => existsSync(join(bin, "initdb")));
  if (!found) throw new Error("the tests need a Postgres: set CONVOY_TEST_POSTGRES_BIN to the folder of its initdb");
  return found;
}

export class Postgres {
  static async start() {
    const postgres = new Postgres();
    const bin = binaries();
    // Postgres does not run as root.
    const as = process.getuid() === 0 ? { uid: NOBODY, gid: NOBODY } : {};
    postgres.folder = mkdtempSync(join(tmpdir(), "convoy-client-test-"));
    postgres.clean = atExit(() => {
      postgres.child?.kill("SIGQUIT"); // At once, and its children with it.
      rmSync(postgres.folder, { recursive: true, force: true });
    });
    chmodSync(postgres.folder, 0o777);
    const data = join(postgres.folder, "data");
    const made = spawnSync(join(bin, "initdb"), ["-D", data, "-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C"], {
      ...as,
      cwd: "/",
      encoding: "utf8",
    });
    if (made.status !== 0) throw new Error(`initdb failed: ${made.stderr}`);
    postgres.port = await freePort();
    const settings = { listen_addresses: "127.0.0.1", port: postgres.port, unix_socket_directories: postgres.folder, wal_level: "logical", fsync: "off", max_connections: 100 };
    const flags = Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
    postgres.child = spawn(join(bin, "postgres"), ["-D", data, ...flags], { ...as, cwd: "/", stdio: ["ignore", "ignore", "pipe"] });
    let log = "";
    await new Promise((resolve, reject) => {
      postgres.child.stderr.setEncoding("utf8").on("data", (text) => {
        log = (log + text).slice(-10_000);
        if (log.includes("ready to accept connections")) resolve();
      });
      postgres.child.on("exit", (status) => reject(new Error(`postgres ended with ${status}: ${log}`)));
    });
    postgres.ended = new Promise((resolve) => postgres.child.on("exit", resolve));
    postgres.url = `postgres://postgres@127.0.0.1:${postgres.port}/postgres`;
    // One psql for all statements: to start one takes longer than to run them.
    postgres.psql = spawn("psql", ["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=0", postgres.url], { stdio: ["pipe", "pipe", "pipe"] });
    postgres.out = "";
    postgres.errors = "";
    postgres.psql.stdout.setEncoding("utf8").on("data", (text) => {
      postgres.out += text;
      postgres.check?.();
    });
    postgres.psql.stderr.setEncoding("utf8").on("data", (text) => (postgres.errors += text));
    return postgres;
  }

  /** Runs statements through psql, as anybody would; returns what they print. */
  async sql(text) {
    while (this.busy) await this.busy;
    const mark = `done-${Math.random()}`;
    this.out = "";
    this.errors = "";
    this.busy = new Promise((resolve) => {
      this.check = () => {
        if (this.out.includes(mark)) resolve();
      };
    });
    this.psql.stdin.write(`${text};\n\\echo ${mark}\n`);
    await this.busy;
    this.busy = null;
    if (/ERROR/.test(this.errors)) throw new Error(this.errors);
    return this.out.slice(0, this.out.indexOf(mark)).trim();
  }

  async stop() {
    this.psql.stdin.end();
    this.child.kill("SIGINT");
    const timer = setTimeout(() => this.child.kill("SIGKILL"), 10_000);
    await this.ended;
    clearTimeout(timer);
    this.clean();
  }
}
