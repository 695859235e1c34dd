/**
 * References to functions at run time: objects that know a name and nothing else. `anyApi.orders.list` is a reference
 * to `orders.list`, whatever there is on the server; the generated `api` gives it its types.
 */

import type { FunctionKind, FunctionReference } from './types.js';

export type * from './types.js';

/** What a reference's name stands under. In the registry of symbols, so that two copies of this package agree on it. */
const NAME = Symbol.for('convoy.functionName');

/** Whoever awaits a reference, compares it or writes it as JSON asks for these: they are no functions' names. */
const NO_NAMES = new Set(['then', 'toJSON', '$$typeof', 'asymmetricMatch']);

/** A tree of references of which nothing is known. */
export interface AnyApi {
  readonly [name: string]: AnyApi & FunctionReference<any, any, any, any>;
}

/**
 * Any name at all: `anyApi.orders.list`. Each name is always the same object, as hooks that compare references need.
 */
export const anyApi: AnyApi = reference('') as AnyApi;

/**
 * Returns the name of a function: `orders.list`.
 *
 * A string is a name already, which is of use where there is no generated code.
 */
export function getFunctionName(ref: FunctionReference<any, any, any, any> | string): string {
  if (typeof ref === 'string') return ref;
  const name: unknown = (ref as { [NAME]?: unknown } | null | undefined)?.[NAME];
  if (typeof name === 'string' && name !== '') return name;
  throw new TypeError(
    `${describe(ref, name)} is no reference to a function: give one of the generated api, like api.orders.list`,
  );
}

/** Returns the reference of this name, for names that are known only at run time. */
export function functionReference<Kind extends FunctionKind, Args = any, Result = any>(
  name: string,
): FunctionReference<Kind, 'public', Args, Result> {
  return reference(name) as FunctionReference<Kind, 'public', Args, Result>;
}

function reference(name: string): unknown {
  const parts = new Map<string, unknown>();
  return new Proxy(Object.freeze({}), {
    get(_target, key) {
      if (key === NAME) return name;
      if (key === Symbol.toStringTag) return 'FunctionReference';
      if (key === Symbol.toPrimitive || key === 'toString') return () => name;
      if (typeof key === 'symbol' || NO_NAMES.has(key)) return undefined;
      let part = parts.get(key);
      if (part === undefined) {
        part = reference(name === '' ? key : `${name}.${key}`);
        parts.set(key, part);
      }
      return part;
    },
    has: (_target, key) => key === NAME,
  });
}

function describe(ref: unknown, name: unknown): string {
  if (name === '') return 'the whole api';
  if (typeof ref === 'function') return 'a function itself';
  return ref === null ? 'null' : typeof ref === 'object' ? 'an object' : String(ref);
}
