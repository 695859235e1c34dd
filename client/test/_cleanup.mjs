// What must not outlive the tests, also where they are interrupted.

const pending = new Set();

/** Runs `clean` when the process ends; returns what runs it before, once. `clean` must not wait for anything. */
export function atExit(clean) {
  pending.add(clean);
  return () => {
    if (pending.delete(clean)) clean();
  };
}

process.on("exit", () => {
  for (const clean of [...pending].reverse()) clean();
});
for (const [signal, number] of [["SIGINT", 2], ["SIGTERM", 15], ["SIGHUP", 1]]) process.on(signal, () => process.exit(128 + number));
