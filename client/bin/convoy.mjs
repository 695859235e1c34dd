#!/usr/bin/env node
// Starts the `convoy` binary: the one that CONVOY_BIN names, else the platform package's, else a checkout's own.

import { spawn } from "node:child_process";
import { accessSync, constants, existsSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url)); // Symbolic links are resolved: a package installed by path is its checkout.
const program = process.platform === "win32" ? "convoy.exe" : "convoy";

/** The package that a release puts the binary for this platform into. */
function fromPlatformPackage() {
  try {
    return createRequire(import.meta.url).resolve(`@convoy-live/${process.platform}-${process.arch}/bin/${program}`);
  } catch {
    return null;
  }
}

function fromCheckout() {
  const root = join(here, "../..");
  if (!existsSync(join(root, "Cargo.toml"))) return null;
  const built = join(root, "target/release", program);
  return existsSync(built) ? built : null;
}

function fail(message) {
  process.stderr.write(`${message}\n`);
  process.exit(1);
}

function find() {
  const named = process.env.CONVOY_BIN;
  if (named) {
    try {
      accessSync(named, constants.X_OK);
    } catch {
      fail(`CONVOY_BIN is ${named}, which is no program that can be run; unset it or name the built binary`);
    }
    return named;
  }
  return fromPlatformPackage() ?? fromCheckout();
}

const binary = find();
if (binary === null) {
  const root = existsSync(join(here, "../../Cargo.toml")) ? join(here, "../..") : "<a checkout of Convoy>";
  fail(
    `the convoy binary for ${process.platform}-${process.arch} is not here. Build it:\n\n` +
      `  cd ${root} && cargo build --release --features functions\n\n` +
      "or set CONVOY_BIN to the path of one that is built",
  );
}

const child = spawn(binary, process.argv.slice(2), { stdio: "inherit" });
// Ctrl-C reaches the child by the terminal; what is sent to this process alone is passed on.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => child.kill(signal));
child.on("error", (error) => fail(`${binary} can't be started: ${error.message}`));
child.on("exit", (status, signal) => {
  if (signal === null) process.exit(status ?? 1);
  for (const name of ["SIGINT", "SIGTERM", "SIGHUP"]) process.removeAllListeners(name);
  process.kill(process.pid, signal);
});
