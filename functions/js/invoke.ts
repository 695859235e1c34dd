/** One call: arguments validated, the handler run, its value or its error handed to Rust. */

import { ConvoyError } from 'convoy:server/errors.ts';
import { isFunction } from 'convoy:server/functions.ts';
import { Database } from './database.ts';
import { schemaOf, type Modules } from './describe.ts';
import { natives } from './host.ts';
import { authOf } from './auth.ts';
import { identify } from './identify.ts';
import { ArgumentsError, line, parse, parseArgs } from './validate.ts';

/** Why a call has no value; `arguments` where it is they that the function does not take. */
type Failure =
  | { code: string; message: string; data: unknown; stack: string; arguments: boolean }
  | { thrown: string; stack: string };

/** Promises that were rejected and that nobody awaits, with the reason. They are kept: another may not come to lie at their place. */
const unhandled = new Map<object, unknown>();

/** Notes that a promise is rejected and nobody awaits it, or that somebody does after all. Called by Rust. */
export function rejected(promise: object, reason: unknown, isHandled: boolean): void {
  if (isHandled) {
    unhandled.delete(promise);
  } else {
    unhandled.set(promise, reason);
  }
}

/** Returns why what nobody awaited has failed, where anything has. Called by Rust, when the call is over. */
export function unawaited(): string | undefined {
  for (const reason of unhandled.values()) {
    return failed(reason);
  }
  return undefined;
}

/** Begins a call; `natives` hears how it ends. Called by Rust. */
export function invoke(
  modules: Modules,
  file: string,
  name: string,
  args: string,
  auth: string | undefined,
  argumentsOnly: boolean,
  now: number,
  [low, high]: [number, number],
): void {
  natives.begin(now, low, high);
  unhandled.clear();
  run(modules, file, name, args, auth, argumentsOnly).then(
    (value) => natives.done(value),
    (error) => natives.fail(failed(error)),
  );
}

const jwt = {
  verify: async () => {
    throw new Error('ctx.jwt.verify in a function: tokens are verified once a request, in createContext of server.ts');
  },
};

async function run(
  modules: Modules,
  file: string,
  name: string,
  args: string,
  auth: string | undefined,
  argumentsOnly: boolean,
): Promise<string> {
  const tables = schemaOf(modules)?.tables ?? {};
  if (file === 'server.ts') {
    return json(await identify(modules.server?.[name], given(args), tables));
  }
  const definition = modules.functions[file]?.[name];
  if (!isFunction(definition)) {
    throw new Error(`${file} has no function ${name}`);
  }
  const input = await parseArgs(definition.input, given(args));
  if (argumentsOnly) {
    return 'null';
  }
  const ctx = { db: new Database(tables), auth: authOf(auth), jwt };
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

function given(args: string): unknown {
  try {
    return JSON.parse(args);
  } catch {
    throw new ArgumentsError('the arguments have to be a JSON object, such as {"name": "…"}');
  }
}

/** The value as JSON; undefined is null there. */
function json(value: unknown): string {
  try {
    return JSON.stringify(value) ?? 'null';
  } catch (error) {
    // Once more, to say where.
    JSON.stringify(value, (key, part) => {
      if (typeof part === 'bigint') {
        const where = key === '' ? 'what the function returned' : `in what the function returned, ${key}`;
        throw new Error(`${where} is a bigint, which JSON does not have: return String(value)`);
      }
      return part;
    });
    throw error;
  }
}

function failed(error: unknown): string {
  const stack = error instanceof Error && typeof error.stack === 'string' ? error.stack : '';
  if (error instanceof ConvoyError) {
    const { code, message, data } = error;
    const told = { code: String(code), message, stack, arguments: error instanceof ArgumentsError };
    try {
      return JSON.stringify({ ...told, data: data ?? null } satisfies Failure);
    } catch {
      return JSON.stringify({ ...told, data: null } satisfies Failure);
    }
  }
  return JSON.stringify({ thrown: shown(error), stack } satisfies Failure);
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
