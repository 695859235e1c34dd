// What one change does to one result. Pure: takes a result and a change, returns the next result, touches neither.
//
// Responsible for: the six kinds of update (protocol section 3) and row operations; rows that stay the same keep
// their identity.
// Leaves to others: which subscription an update is for, and what to do when one does not fit (machine.ts).

import { MisfitError, applyPatch } from "./patch.js";
import { share, shareRows } from "./share.js";
import type { Change, Column, Row, RowOperation, WireError } from "./wire.js";

export interface Result {
  readonly status: "loading" | "ready" | "stale" | "error";
  readonly columns: readonly Column[] | null;
  /** Null where the value is one value and not a set of rows. */
  readonly keys: readonly string[] | null;
  readonly value: unknown;
  /** Sent back as `have`; null where the value is not to be built upon. */
  readonly digest: string | null;
  /** The LSN that a stale result is as of. */
  readonly staleSince: string | null;
  readonly error: (WireError & { readonly final: boolean }) | null;
}

export const LOADING: Result = Object.freeze({
  status: "loading",
  columns: null,
  keys: null,
  value: undefined,
  digest: null,
  staleSince: null,
  error: null,
});

/** Returns the result after `change`. Throws MisfitError where that can't have been meant for `result`. */
export function applyChange(result: Result, change: Change): Result {
  switch (change.type) {
    case "snapshot": {
      const keys = change.keys ?? null;
      const rows = keys !== null && Array.isArray(change.value) ? change.value : null;
      const value =
        rows !== null && keys !== null && result.keys !== null && Array.isArray(result.value)
          ? shareRows(result.keys, result.value, keys, rows)
          : share(result.value, change.value);
      return ready(change.columns ?? null, keys, value, change.digest ?? null);
    }
    case "diff": {
      if (result.keys === null || result.digest === null || !Array.isArray(result.value)) {
        throw new MisfitError("a diff for a result that has no rows");
      }
      const { keys, rows } = applyOperations(result.keys, result.value as Row[], change.ops);
      return ready(result.columns, keys, rows, change.digest);
    }
    case "patch":
      if (result.value === undefined || result.digest === null) {
        throw new MisfitError("a patch for a result that has no value");
      }
      return ready(result.columns, null, share(result.value, applyPatch(result.value, change.patch)), change.digest);
    case "unchanged":
      if (result.value === undefined || result.digest === null) {
        throw new MisfitError("'unchanged' for a result that was never here");
      }
      return ready(result.columns, result.keys, result.value, result.digest);
    case "stale":
      return { ...result, status: "stale", staleSince: change.lsn, error: null };
    case "error":
      // Its next update is a snapshot, so nothing is to be built upon what was here.
      return { ...result, status: "error", digest: null, error: { ...change.error, final: change.final === true } };
    default:
      return result; // A kind from a later protocol.
  }
}

/** Returns the result with nothing to build upon: its next change must be a snapshot, or an error. */
export function withoutDigest(result: Result): Result {
  return result.digest === null ? result : { ...result, digest: null };
}

function ready(
  columns: readonly Column[] | null,
  keys: readonly string[] | null,
  value: unknown,
  digest: string | null,
): Result {
  return { status: "ready", columns, keys, value: frozen(value), digest, staleSince: null, error: null };
}

/**
 * Freezes a result, all of it: what comes next is made from this, so that whoever sorts it where it is would have it wrong
 * for good. What it shares with the one before is frozen already, and is not looked at again.
 */
function frozen<T>(value: T): T {
  if (typeof value !== "object" || value === null || Object.isFrozen(value)) return value;
  Object.freeze(value);
  for (const item of Array.isArray(value) ? value : Object.values(value)) frozen(item);
  return value;
}

/**
 * Returns `{keys, rows}` after the operations, applied in order; each `at` is the index right after its own. What is
 * equal keeps its identity, also where it was written anew.
 */
export function applyOperations(
  keysBefore: readonly string[],
  rowsBefore: readonly Row[],
  operations: readonly RowOperation[],
): { keys: readonly string[]; rows: readonly Row[] } {
  const keys = keysBefore.slice();
  const rows = rowsBefore.slice();
  const removed = new Map<string, Row>();
  const find = (key: string): number => {
    const index = keys.indexOf(key);
    if (index < 0) throw new MisfitError(`no row has the key ${JSON.stringify(key)}`);
    return index;
  };
  const place = (at: number, key: string, row: Row): void => {
    if (!Number.isInteger(at) || at < 0 || at > keys.length) throw new MisfitError(`no row can stand at ${at}`);
    keys.splice(at, 0, key);
    rows.splice(at, 0, row);
  };
  for (const operation of operations) {
    switch (operation.op) {
      case "remove": {
        const index = find(operation.key);
        keys.splice(index, 1);
        const [row] = rows.splice(index, 1) as [Row];
        removed.set(operation.key, row);
        break;
      }
      case "insert":
        if (keys.includes(operation.key)) {
          throw new MisfitError(`the key ${JSON.stringify(operation.key)} is there already`);
        }
        place(operation.at, operation.key, share(removed.get(operation.key), operation.row));
        break;
      case "update": {
        const index = find(operation.key);
        const row = rows[index] as Row;
        rows[index] = share(row, { ...row, ...operation.set });
        break;
      }
      case "move": {
        const index = find(operation.key);
        const [row] = rows.splice(index, 1) as [Row];
        keys.splice(index, 1);
        place(operation.at, operation.key, row);
        break;
      }
      default:
        throw new MisfitError(`unknown operation ${JSON.stringify((operation as { op: unknown }).op)}`);
    }
  }
  const isSame = rows.length === rowsBefore.length && rows.every((row, index) => row === rowsBefore[index]);
  return { keys, rows: isSame ? rowsBefore : rows };
}
