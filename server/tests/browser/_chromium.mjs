// A browser and a page in it, driven over the DevTools protocol through a pair of pipes: no package, no port.
//
// Responsible for: starting Chromium, sending commands, keeping what the page complains of, waiting for what a page
// shows, and the end of all of it. Leaves to others: what is tested.

import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** How long anything may take on a busy machine, in ms. */
export const PATIENCE_MS = 60_000;

const FLAGS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-dev-shm-usage",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--hide-scrollbars",
  "--remote-debugging-pipe",
];

/** Waits until `probe` returns something true, or says what did not come. */
export async function until(what, probe, patienceMs = PATIENCE_MS) {
  const deadline = Date.now() + patienceMs;
  for (;;) {
    const found = await probe();
    if (found) return found;
    if (Date.now() > deadline) throw new Error(`${what}: not within ${patienceMs / 1_000} s`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

export class Browser {
  #process;
  #folder;
  #ended;
  #commands = new Map(); // id → {resolve, reject}
  #listeners = new Map(); // session → (method, params)
  #lastId = 0;

  static async start(program) {
    const browser = new Browser();
    browser.#folder = await mkdtemp(join(tmpdir(), "convoy-chromium-"));
    // Messages end with a NUL; the browser reads file descriptor 3 and writes to 4.
    const child = spawn(program, [...FLAGS, `--user-data-dir=${browser.#folder}`, "about:blank"], {
      stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"],
    });
    browser.#process = child;
    browser.#ended = new Promise((resolve) => {
      const end = (reason) => {
        for (const { reject } of browser.#commands.values()) reject(new Error(`the browser ended: ${reason}`));
        browser.#commands.clear();
        resolve();
      };
      child.on("error", (error) => end(error.message));
      child.on("exit", (code, signal) => end(signal ?? `status ${code}`));
    });
    child.stdio[3].on("error", () => {}); // Its end is told by the process.
    let rest = "";
    child.stdio[4].setEncoding("utf8");
    child.stdio[4].on("data", (chunk) => {
      const messages = (rest + chunk).split("\0");
      rest = messages.pop();
      for (const message of messages) browser.#receive(JSON.parse(message));
    });
    return browser;
  }

  #receive({ id, method, params, result, error, sessionId }) {
    if (id === undefined) {
      this.#listeners.get(sessionId)?.(method, params);
      return;
    }
    const command = this.#commands.get(id);
    this.#commands.delete(id);
    if (error) command?.reject(new Error(error.message));
    else command?.resolve(result);
  }

  send(method, params = {}, sessionId = undefined) {
    this.#lastId += 1;
    const id = this.#lastId;
    return new Promise((resolve, reject) => {
      this.#commands.set(id, { resolve, reject });
      this.#process.stdio[3].write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
    });
  }

  /** Opens a page that is `width` by `height`, at `url`. */
  async open(url, { width = 1_600, height = 1_000, dark = false } = {}) {
    const { targetId } = await this.send("Target.createTarget", { url: "about:blank" });
    const { sessionId } = await this.send("Target.attachToTarget", { targetId, flatten: true });
    const page = new Page((method, params) => this.send(method, params, sessionId));
    this.#listeners.set(sessionId, (method, params) => page.hear(method, params));
    for (const domain of ["Page", "Runtime", "Log", "Network"]) await page.send(`${domain}.enable`);
    await page.send("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: 1, mobile: width < 600 });
    await page.send("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: dark ? "dark" : "light" }] });
    await page.send("Page.navigate", { url });
    return page;
  }

  async close() {
    const deadline = setTimeout(() => this.#process.kill("SIGKILL"), 5_000);
    this.send("Browser.close").catch(() => {});
    await this.#ended;
    clearTimeout(deadline);
    await rm(this.#folder, { recursive: true, force: true, maxRetries: 5 });
  }
}

export class Page {
  /** What went wrong in the page: exceptions, errors in the console, requests that failed. */
  complaints = [];
  /** The hosts that it asked anything of. */
  hosts = new Set();

  constructor(send) {
    this.send = send;
  }

  hear(method, params) {
    switch (method) {
      case "Runtime.exceptionThrown":
        this.complaints.push(params.exceptionDetails.exception?.description ?? params.exceptionDetails.text);
        break;
      case "Runtime.consoleAPICalled":
        if (params.type === "error" || params.type === "warning") {
          this.complaints.push(params.args.map((arg) => arg.value ?? arg.description).join(" "));
        }
        break;
      case "Log.entryAdded":
        if (params.entry.level === "error") this.complaints.push(`${params.entry.text} ${params.entry.url ?? ""}`);
        break;
      case "Network.requestWillBeSent":
        if (!params.request.url.startsWith("data:")) this.hosts.add(new URL(params.request.url).host);
        break;
    }
  }

  /** Evaluates an expression in the page. */
  async evaluate(expression) {
    const { result, exceptionDetails } = await this.send("Runtime.evaluate", { expression, returnByValue: true, awaitPromise: true });
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return result.value;
  }

  /** Waits until an expression is true in the page, and returns its value. */
  until(what, expression) {
    // Before the page is there, its elements are not.
    return until(what, () => this.evaluate(expression).catch(() => false));
  }

  async click(selector) {
    await this.evaluate(`document.querySelector(${JSON.stringify(selector)}).click()`);
  }

  /** Returns a picture of the whole page, as PNG. */
  async picture() {
    const { data } = await this.send("Page.captureScreenshot", { format: "png", captureBeyondViewport: true });
    return Buffer.from(data, "base64");
  }
}
