// `convoy demo` as a child, for tests that look at it.

import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { PATIENCE_MS } from "./_chromium.mjs";

export class Demo {
  #process;
  #ended;

  /** Starts the binary and waits for what it prints. */
  static async start(program, flags = []) {
    const demo = new Demo();
    const child = spawn(program, ["demo", "--listen", "127.0.0.1:0", ...flags], { stdio: ["ignore", "pipe", "pipe"] });
    demo.#process = child;
    demo.lines = {};
    let errors = "";
    child.stderr.setEncoding("utf8").on("data", (text) => (errors += text));
    demo.#ended = new Promise((resolve) => child.on("exit", resolve));
    await new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`the demo did not start: ${errors}`)), PATIENCE_MS);
      const settle = (outcome, value) => {
        clearTimeout(timer);
        outcome(value);
      };
      child.on("error", (error) => settle(reject, error));
      child.on("exit", (code) => settle(reject, new Error(`the demo ended with status ${code}: ${errors}`)));
      createInterface({ input: child.stdout }).on("line", (line) => {
        const [, label, text] = /^ {2}(\S+(?: \S+)*) {2,}(.*)$/.exec(line) ?? [];
        if (label) demo.lines[label] = text;
        if (line.includes("Ctrl-C")) settle(resolve);
      });
    }).catch((error) => {
      child.kill("SIGINT");
      throw error;
    });
    demo.url = demo.lines.dashboard;
    return demo;
  }

  /** Ends it as Ctrl-C does; returns its exit status. */
  async stop() {
    this.#process.kill("SIGINT");
    const timer = setTimeout(() => this.#process.kill("SIGKILL"), 20_000);
    const status = await this.#ended;
    clearTimeout(timer);
    return status;
  }
}
