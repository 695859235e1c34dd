// Structural sharing: what is equal keeps its identity, so that a component that shows it need not render again.

/**
 * Returns a value equal to `next` that reuses every part of `before` that is equal to the part of `next` in the same
 * place, or in a document with the same `_id`; `before` itself where all of it is. Both are JSON.
 */
export function share<T>(before: unknown, next: T): T {
  if (Object.is(before, next)) return next;
  if (before === null || next === null || typeof before !== "object" || typeof next !== "object") return next;
  if (Array.isArray(next)) {
    if (!Array.isArray(before)) return next;
    // What has its identity already keeps it, wherever it stands now; a document is known by its id.
    const known = new Set<unknown>(before);
    const byId = new Map<string, unknown>();
    for (const item of before) {
      const id = idOf(item);
      if (id !== null) byId.set(id, item);
    }
    let same = before.length === next.length;
    const items = next.map((item, index) => {
      const id = idOf(item);
      const old = id === null ? before[index] : byId.get(id);
      const shared = known.has(item) ? item : share(old, item);
      if (same && !Object.is(shared, before[index])) same = false;
      return shared;
    });
    return (same ? before : items) as T;
  }
  if (Array.isArray(before) || !isPlain(before) || !isPlain(next)) return next;
  const old = before as Record<string, unknown>;
  const names = Object.keys(next);
  let same = names.length === Object.keys(old).length;
  const members: Record<string, unknown> = {};
  for (const name of names) {
    const has = Object.hasOwn(old, name);
    const item = (next as Record<string, unknown>)[name];
    const shared = has ? share(old[name], item) : item;
    if (!has || !Object.is(shared, old[name])) same = false;
    // Not by assignment: a member called __proto__ is one like any other.
    Object.defineProperty(members, name, { value: shared, writable: true, enumerable: true, configurable: true });
  }
  return (same ? old : members) as T;
}

/** Returns rows equal to `next` that reuse the rows of `before` with the same key, wherever they stood. */
export function shareRows(
  keysBefore: readonly string[],
  before: readonly unknown[],
  keys: readonly string[],
  next: readonly unknown[],
): readonly unknown[] {
  const byKey = new Map<string, unknown>();
  keysBefore.forEach((key, index) => byKey.set(key, before[index]));
  let same = before.length === next.length;
  const rows = next.map((row, index) => {
    const old = byKey.get(keys[index] as string);
    const shared = old === undefined ? row : share(old, row);
    if (shared !== before[index]) same = false;
    return shared;
  });
  return same ? before : rows;
}

function idOf(item: unknown): string | null {
  const id = typeof item === "object" && item !== null ? (item as { _id?: unknown })._id : undefined;
  return typeof id === "string" ? id : null;
}

function isPlain(value: object): boolean {
  const prototype = Object.getPrototypeOf(value);
  return prototype === null || prototype === Object.prototype;
}
