/** One call: arguments validated, the handler run, its value or its error handed to Rust. */

import { ConvoyError } from 'convoy:server/errors.ts';
import { isFunction } from 'convoy:server/functions.ts';
import { Database } from './database.ts';
import { schemaOf, type Modules } from './describe.ts';
import { natives } from './host.ts';
import { line, parse, parseArgs } from './validate.ts';

/** How a call ends. */
type Outcome =
  | { ok: string }
  | { code: string; message: string; data: unknown; stack: string }
  | { thrown: string; stack: string };

/** Begins a call; `natives.finish` ends it. Called by Rust. */
export function invoke(
  modules: Modules,
  file: string,
  name: string,
  args: string,
  auth: string | undefined,
  now: number,
  low: number,
  high: number,
): void {
  natives.begin(now, low, high);
  run(modules, file, name, args, auth).then(
    (value) => natives.finish(JSON.stringify({ ok: value } satisfies Outcome)),
    (error) => natives.finish(failed(error)),
  );
}

async function run(modules: Modules, file: string, name: string, args: string, auth: string | undefined): Promise<string> {
  const definition = modules.functions[file]?.[name];
  if (!isFunction(definition)) {
    throw new Error(`${file} has no function ${name}`);
  }
  const input = await parseArgs(definition.input, JSON.parse(args));
  const ctx = { db: new Database(schemaOf(modules)?.tables ?? {}), auth: authOf(auth) };
  let value = await definition.handler(ctx, input);
  if (definition.returns !== undefined) {
    const parsed = await parse(definition.returns, value, []);
    if (parsed.issues.length > 0) {
      throw new Error(`what the function returned is not what its \`returns\` says: ${parsed.issues.map(line).join('; ')}`);
    }
    value = parsed.value;
  }
  return json(value);
}

/** The value as JSON; what JSON has no form for is an error, but undefined, which is null. */
function json(value: unknown): string {
  return JSON.stringify(value, (key, part) => {
    if (typeof part === 'bigint') {
      throw new Error(`${at(key)} is a bigint, which JSON does not have: return String(value)`);
    }
    if (typeof part === 'function' || typeof part === 'symbol') {
      throw new Error(`${at(key)} is a ${typeof part}, which can't be sent: return data`);
    }
    return part instanceof Map || part instanceof Set ? [...part] : part;
  }) ?? 'null';
}

function at(key: string): string {
  return key === '' ? 'what the function returned' : `in what the function returned, ${key}`;
}

/** `ctx.auth`: what `createContext` put there, with the way to ask for it that Convex has. */
function authOf(text: string | undefined): unknown {
  const given = text === undefined ? {} : JSON.parse(text);
  if (typeof given !== 'object' || given === null) {
    return given;
  }
  const identity = text === undefined ? null : given;
  return Object.defineProperty({ ...given }, 'getUserIdentity', { value: async () => identity, enumerable: false });
}

function failed(error: unknown): string {
  const stack = error instanceof Error && typeof error.stack === 'string' ? error.stack : '';
  if (error instanceof ConvoyError) {
    const { code, message, data } = error;
    try {
      return JSON.stringify({ code: String(code), message, data: data ?? null, stack } satisfies Outcome);
    } catch {
      return JSON.stringify({ code: String(code), message, data: null, stack } satisfies Outcome);
    }
  }
  return JSON.stringify({ thrown: shown(error), stack } satisfies Outcome);
}

function shown(error: unknown): string {
  try {
    if (error instanceof Error) {
      return String(error);
    }
    return typeof error === 'object' ? JSON.stringify(error) : String(error);
  } catch {
    return 'something that can\'t be shown';
  }
}
