// What the modules of this folder share. They make up what a context has besides the language, so that the same call gives the
// same; they are evaluated before all others.

/** What Rust put there; `host.ts` takes it away again. */
export const natives = globalThis.__convoyNatives;

/** Adds to the globals. */
export const define = (name, value) =>
  Object.defineProperty(globalThis, name, { value, writable: true, configurable: true, enumerable: false });
