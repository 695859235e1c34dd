// An example as its user starts it, and browsers that look at it.
//
// Responsible for: installing what the example needs, starting it by its own command, its address and its database's,
// browsers, and the end of all of it.

import { spawn, spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const EXAMPLES = fileURLToPath(new URL("..", import.meta.url));
const BINARY = process.env.CONVOY_TEST_BINARY ?? join(EXAMPLES, "../target/debug/convoy");
const CHROMIUM = process.env.CONVOY_TEST_CHROMIUM ?? "/usr/bin/chromium";

/** How long anything may take on a busy machine, in ms. */
export const PATIENCE_MS = 60_000;

/** An example that runs. */
export class Example {
  #process;
  #output = "";
  #browser;
  #data;
  /** What starts it: a program with its arguments, where, and with which variables. */
  #command;

  /** Starts an example by its own command. */
  static async start(name, { command = ["npm", "start"], env = {} } = {}) {
    const example = new Example();
    const folder = join(EXAMPLES, name);
    if (existsSync(join(folder, "package.json")) && !existsSync(join(folder, "node_modules"))) {
      const installed = spawnSync("npm", ["install", "--no-audit", "--no-fund"], { cwd: folder, stdio: "inherit" });
      if (installed.status !== 0) throw new Error(`npm install in ${folder} failed`);
    }
    example.#data = mkdtempSync(join(tmpdir(), "convoy-example-"));
    // A Postgres that root starts runs as somebody else.
    chmodSync(example.#data, 0o711);
    const variables = { CONVOY_BIN: BINARY, CONVOY_LISTEN: "127.0.0.1:0", CONVOY_DATA: join(example.#data, "postgres"), ...env };
    example.#command = { command, folder, variables };
    try {
      await example.#run();
      example.#browser = await chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
    } catch (error) {
      await example.stop();
      throw error;
    }
    return example;
  }

  async #run() {
    const { command, folder, variables } = this.#command;
    const child = spawn(command[0], command.slice(1), {
      cwd: folder,
      env: { ...process.env, ...variables },
      stdio: ["ignore", "pipe", "pipe"],
      // A group of its own: npm does not pass signals on.
      detached: true,
    });
    this.#process = child;
    this.#output = "";
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8");
      stream.on("data", (text) => (this.#output += text));
    }
    this.url = await this.#said(/serving (http:\/\/\S+)/);
    this.psqlLine = await this.#said(/(psql +-\S.*)/).then((line) => line.trim());
  }

  /** Ends it as Ctrl-C does; the browsers stay. */
  async interrupt() {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    const ended = new Promise((resolve) => this.#process.once("exit", resolve));
    process.kill(-this.#process.pid, "SIGINT");
    await ended;
  }

  /** Starts it again, at the same address and with the same data. */
  async startAgain() {
    this.#command.variables.CONVOY_LISTEN = new URL(this.url).host;
    await this.#run();
  }

  async #said(pattern) {
    const deadline = Date.now() + PATIENCE_MS;
    for (;;) {
      const found = this.#output.match(pattern);
      if (found) return found[1];
      if (this.#process.exitCode !== null || Date.now() > deadline) throw new Error(`it never said ${pattern}:\n${this.#output}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  /** Opens a browser of its own: its storage and its connections are nobody else's. */
  async open(path = "/") {
    const [page] = await this.openTabs(1, path);
    return page;
  }

  /** Opens a browser of its own with so many tabs, one after the other. */
  async openTabs(count, path = "/") {
    const context = await this.#browser.newContext();
    context.setDefaultTimeout(PATIENCE_MS);
    const pages = [];
    for (let index = 0; index < count; index += 1) pages.push(await this.#tab(context, path));
    return pages;
  }

  async #tab(context, path) {
    const page = await context.newPage();
    page.complaints = [];
    page.on("pageerror", (error) => page.complaints.push(String(error)));
    page.on("console", (message) => message.type() === "error" && page.complaints.push(message.text()));
    await page.goto(this.url + path);
    return page;
  }

  /** Runs a statement as somebody else would, by the psql line that the example printed. */
  psql(sql) {
    const ran = spawnSync("/bin/sh", ["-c", `${this.psqlLine} -v ON_ERROR_STOP=1 -qAt`], { input: sql, encoding: "utf8" });
    if (ran.status !== 0) throw new Error(`${this.psqlLine}: ${ran.stderr}`);
    return ran.stdout.trim();
  }

  /** Ends it as Ctrl-C does. */
  async stop() {
    await this.#browser?.close();
    await this.interrupt();
    rmSync(this.#data, { recursive: true, force: true });
  }
}

/** Returns the value below which this share of the samples lies. */
export function percentile(samples, share) {
  const sorted = [...samples].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
}
