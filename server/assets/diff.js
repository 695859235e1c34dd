// What one update of a transition does to one result. Pure: takes a result and an update,
// returns the next result, and touches neither.
//
// Responsible for: the six kinds of update (protocol section 3), row operations, RFC 6902 patches.
// Leaves to others: which subscription an update is for, and what to do when one does not fit (sync.js).
//
// A result: { status, columns, keys, value, digest, staleSince, error }
//   status      "loading" | "ready" | "stale" | "error"
//   keys        null where the value is one value and not a set of rows
//   digest      sent back as `have`; null where the value is not to be built upon
//   staleSince  the LSN that a stale result is as of
// A copy of the two arrays is made for each diff: results here are as long as a screen.

/** An update that does not fit the result it is for: the stream can no longer be trusted. */
export class MisfitError extends Error {}

export const LOADING = Object.freeze({
  status: "loading",
  columns: null,
  keys: null,
  value: undefined,
  digest: null,
  staleSince: null,
  error: null,
});

/** Returns the result after `update`. Throws MisfitError where it can't have been meant for `result`. */
export function applyUpdate(result, update) {
  switch (update.type) {
    case "snapshot":
      return ready({
        columns: update.columns ?? null,
        keys: update.keys ?? null,
        value: update.value,
        digest: update.digest ?? null,
      });
    case "diff": {
      if (result.keys === null || result.digest === null) throw new MisfitError("a diff for a result that has no rows");
      const { keys, rows } = applyOperations(result.keys, result.value, update.ops);
      return ready({ columns: result.columns, keys, value: rows, digest: update.digest });
    }
    case "patch":
      if (result.value === undefined || result.digest === null) throw new MisfitError("a patch for a result that has no value");
      return ready({
        columns: result.columns,
        keys: null,
        value: applyPatch(result.value, update.patch),
        digest: update.digest,
      });
    case "unchanged":
      if (result.value === undefined) throw new MisfitError("'unchanged' for a result that was never here");
      return ready(result);
    case "stale":
      return { ...result, status: "stale", staleSince: update.lsn, error: null };
    case "error":
      // Its next update is a snapshot, so nothing is to be built upon what was here.
      return { ...result, status: "error", digest: null, error: { ...update.error, final: update.final === true } };
    default:
      return result; // A kind from a later protocol.
  }
}

function ready({ columns, keys, value, digest }) {
  return { status: "ready", columns, keys, value, digest, staleSince: null, error: null };
}

/** Returns `{keys, rows}` after the operations, applied in order; each `at` is the final index right after its own. */
export function applyOperations(keysBefore, rowsBefore, operations) {
  const keys = keysBefore.slice();
  const rows = rowsBefore.slice();
  const find = (key) => {
    const index = keys.indexOf(key);
    if (index < 0) throw new MisfitError(`no row has the key ${JSON.stringify(key)}`);
    return index;
  };
  const place = (at, key, row) => {
    if (!Number.isInteger(at) || at < 0 || at > keys.length) throw new MisfitError(`no row can stand at ${at}`);
    keys.splice(at, 0, key);
    rows.splice(at, 0, row);
  };
  for (const operation of operations) {
    switch (operation.op) {
      case "remove": {
        const index = find(operation.key);
        keys.splice(index, 1);
        rows.splice(index, 1);
        break;
      }
      case "insert":
        if (keys.includes(operation.key)) throw new MisfitError(`the key ${JSON.stringify(operation.key)} is there already`);
        place(operation.at, operation.key, operation.row);
        break;
      case "update": {
        const index = find(operation.key);
        for (const column of Object.keys(operation.set)) {
          if (!Object.hasOwn(rows[index], column)) throw new MisfitError(`the rows have no column ${JSON.stringify(column)}`);
        }
        rows[index] = { ...rows[index], ...operation.set };
        break;
      }
      case "move": {
        const index = find(operation.key);
        const [row] = rows.splice(index, 1);
        keys.splice(index, 1);
        place(operation.at, operation.key, row);
        break;
      }
      default:
        throw new MisfitError(`unknown operation ${JSON.stringify(operation.op)}`);
    }
  }
  return { keys, rows };
}

/** Returns `document` after an RFC 6902 patch; `document` itself stays as it is. */
export function applyPatch(document, patch) {
  // One holder above the document lets the empty path be a member like any other.
  const holder = { root: structuredClone(document) };
  for (const step of patch) {
    switch (step.op) {
      case "add":
        add(holder, step.path, structuredClone(step.value));
        break;
      case "remove":
        take(holder, step.path);
        break;
      case "replace":
        replace(holder, step.path, structuredClone(step.value));
        break;
      case "move":
        if (step.path.startsWith(`${step.from}/`)) throw new MisfitError("a value can't be moved into itself");
        add(holder, step.path, take(holder, step.from));
        break;
      case "copy":
        add(holder, step.path, structuredClone(read(holder, step.from)));
        break;
      case "test":
        if (!equal(read(holder, step.path), step.value)) throw new MisfitError(`the test at ${step.path} failed`);
        break;
      default:
        throw new MisfitError(`unknown patch operation ${JSON.stringify(step.op)}`);
    }
  }
  return holder.root;
}

/** Returns the container that a JSON pointer (RFC 6901) leads to, and the last name in it. */
function locate(holder, pointer) {
  if (pointer !== "" && !pointer.startsWith("/")) throw new MisfitError(`not a JSON pointer: ${pointer}`);
  const names = pointer.split("/").map((name) => name.replaceAll("~1", "/").replaceAll("~0", "~"));
  names[0] = "root";
  const last = names.pop();
  let container = holder;
  for (const name of names) container = member(container, name, pointer);
  if (container === null || typeof container !== "object") throw new MisfitError(`nothing is at ${pointer}`);
  if (last === "__proto__") throw new MisfitError("a patch can't name __proto__");
  return { container, name: last };
}

function member(container, name, pointer) {
  if (container === null || typeof container !== "object" || !Object.hasOwn(container, name)) {
    throw new MisfitError(`nothing is at ${pointer}`);
  }
  return container[name];
}

function read(holder, pointer) {
  const { container, name } = locate(holder, pointer);
  return member(container, name, pointer);
}

function add(holder, pointer, value) {
  const { container, name } = locate(holder, pointer);
  if (!Array.isArray(container)) {
    container[name] = value;
    return;
  }
  const index = name === "-" ? container.length : arrayIndex(name);
  if (index > container.length) throw new MisfitError(`nothing can be added at ${pointer}`);
  container.splice(index, 0, value);
}

function replace(holder, pointer, value) {
  const { container, name } = locate(holder, pointer);
  member(container, name, pointer);
  container[name] = value;
}

function take(holder, pointer) {
  const { container, name } = locate(holder, pointer);
  const value = member(container, name, pointer);
  if (Array.isArray(container)) container.splice(arrayIndex(name), 1);
  else delete container[name];
  return value;
}

function arrayIndex(name) {
  if (!/^(0|[1-9][0-9]*)$/.test(name)) throw new MisfitError(`not an array index: ${name}`);
  return Number(name);
}

function equal(a, b) {
  if (a === b) return true;
  if (a === null || b === null || typeof a !== "object" || typeof b !== "object") return false;
  if (Array.isArray(a) !== Array.isArray(b)) return false;
  const names = Object.keys(a);
  return names.length === Object.keys(b).length && names.every((name) => Object.hasOwn(b, name) && equal(a[name], b[name]));
}
