// Arguments in one spelling, so that equal ones share one live query, whatever order their members came in.

/**
 * Returns `value` as JSON with the members of each object in order and without those that are undefined.
 * A bigint is written as a string, which the server takes for an int8.
 *
 * @throws TypeError where JSON has no form for a value, with the path that leads to it.
 */
export function canonicalJson(value: unknown): string {
  return write(value, "args", 0) ?? "null";
}

/** Deeper than any argument is meant to be: a value that contains itself would never end. */
const DEPTH_MAX = 100;

function write(value: unknown, path: string, depth: number): string | undefined {
  if (depth > DEPTH_MAX) throw new TypeError(`${path} is nested deeper than ${DEPTH_MAX}; does it contain itself?`);
  switch (typeof value) {
    case "string":
      return text(value);
    case "boolean":
      return JSON.stringify(value);
    case "number":
      if (!Number.isFinite(value)) throw new TypeError(`${path} is ${value}, which JSON can't say; pass it as a string`);
      return JSON.stringify(value);
    case "bigint":
      return `"${value}"`;
    case "undefined":
      return undefined;
    case "object":
      break;
    default:
      throw new TypeError(`${path} is a ${typeof value}, which can't be sent`);
  }
  if (value === null) return "null";
  if (value instanceof Date && Number.isNaN(value.getTime())) {
    throw new TypeError(`${path} is an invalid Date; pass null where there is none`);
  }
  if (typeof (value as { toJSON?: unknown }).toJSON === "function") {
    return write((value as { toJSON(): unknown }).toJSON(), path, depth + 1);
  }
  if (Array.isArray(value)) {
    // A hole is null like any undefined, which `map` would skip.
    return `[${Array.from(value, (item, index) => write(item, `${path}[${index}]`, depth + 1) ?? "null").join(",")}]`;
  }
  const prototype = Object.getPrototypeOf(value);
  if (prototype !== null && prototype !== Object.prototype && Object.getPrototypeOf(prototype) !== null) {
    const name = (value as object).constructor?.name ?? "object";
    throw new TypeError(`${path} is a ${name}; pass plain objects, arrays, strings, numbers, booleans or null`);
  }
  const members: string[] = [];
  for (const name of Object.keys(value).sort()) {
    const written = write((value as Record<string, unknown>)[name], `${path}.${name}`, depth + 1);
    if (written !== undefined) members.push(`${text(name)}:${written}`);
  }
  return `{${members.join(",")}}`;
}

/** Returns what stands for a query with these arguments: equal for equal arguments. */
export function queryKey(name: string, args: unknown): string {
  return keyOf(name, canonicalJson(args ?? {}));
}

/** The same, of arguments that are canonical already. */
export function keyOf(name: string, argsText: string): string {
  return `${name}:${argsText}`;
}

/** Half a surrogate pair is no text, and no JSON to the server: it is written as TextEncoder does. */
function text(value: string): string {
  return JSON.stringify(value.replace(/\p{Surrogate}/gu, "\uFFFD"));
}
