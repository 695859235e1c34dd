/** Values against zod types, field by field: so it does not matter which version of zod the types are from. */

import { ConvoyError } from 'convoy:server/errors.ts';
import { isValidator } from 'convoy:server/schema.ts';
import type { ArgsValidator, Shape, Validator } from 'convoy:server/validator.ts';

/** What is wrong with a value. */
export interface Issue {
  path: (string | number)[];
  message: string;
}

/** What is told of arguments that a function does not take. A function can't throw one: none can import this. */
export class ArgumentsError extends ConvoyError {
  constructor(message: string, data?: { issues: Issue[] }) {
    super('INVALID_ARGS', message, data);
  }
}

type Result = { success: true; data: unknown } | { success: false; error: { issues: Issue[] } };
type Parses = { safeParse(value: unknown): Result; safeParseAsync(value: unknown): Promise<Result> };

/** Validates one value by one type. */
export async function parse(type: Validator, value: unknown, at: (string | number)[]): Promise<{ value: unknown; issues: Issue[] }> {
  const result = await run(type as unknown as Parses, value);
  if (result.success) {
    return { value: result.data, issues: [] };
  }
  const issues = result.error.issues.map(({ path, message }) => ({ path: [...at, ...path], message }));
  return { value: undefined, issues };
}

async function run(type: Parses, value: unknown): Promise<Result> {
  try {
    return type.safeParse(value);
  } catch (error) {
    // Zod says so when a refinement or transform is asynchronous.
    if (error instanceof Error && /async|promise/i.test(`${error.name} ${error.message}`)) {
      return type.safeParseAsync(value);
    }
    throw error;
  }
}

/** Validates an object by a shape. Fields that the shape does not have are issues of their own. */
export async function parseShape(
  shape: Shape,
  value: Record<string, unknown>,
  what: string,
): Promise<{ value: Record<string, unknown>; issues: Issue[] }> {
  const out: Record<string, unknown> = {};
  const issues: Issue[] = unknownFields(shape, value, what);
  for (const [field, type] of Object.entries(shape)) {
    const given = Object.hasOwn(value, field) ? value[field] : undefined;
    const parsed = await parse(type, given, [field]);
    issues.push(...parsed.issues);
    if (parsed.value !== undefined) {
      out[field] = parsed.value;
    }
  }
  return { value: out, issues };
}

/** Validates a call's arguments; what is wrong is `INVALID_ARGS`. */
export async function parseArgs(validator: ArgsValidator | undefined, args: unknown): Promise<unknown> {
  if (typeof args !== 'object' || args === null || Array.isArray(args)) {
    throw invalid([{ path: [], message: 'the arguments have to be an object, such as {"name": "…"}' }]);
  }
  const given = args as Record<string, unknown>;
  if (validator === undefined || !isValidator(validator)) {
    const parsed = await parseShape((validator ?? {}) as Shape, given, 'argument');
    if (parsed.issues.length > 0) {
      throw invalid(parsed.issues);
    }
    return parsed.value;
  }
  const shape = strippedShape(validator);
  const issues = shape === undefined ? [] : unknownFields(shape, given, 'argument');
  const parsed = await parse(validator, given, []);
  issues.push(...parsed.issues);
  if (issues.length > 0) {
    throw invalid(issues);
  }
  return parsed.value;
}

function invalid(issues: Issue[]): ConvoyError {
  return new ArgumentsError(issues.map(line).join('; '), { issues });
}

/** One issue as a line: where, and what. */
export function line(issue: Issue): string {
  const path = issue.path.map(String).join('.');
  return path === '' ? issue.message : `${path}: ${issue.message}`;
}

function unknownFields(shape: Shape, value: Record<string, unknown>, what: string): Issue[] {
  const known = Object.keys(shape);
  return Object.keys(value)
    .filter((field) => !Object.hasOwn(shape, field))
    .map((field) => ({ path: [field], message: `there is no such ${what}${hint(field, known)}` }));
}

function hint(field: string, known: string[]): string {
  const nearest = closest(field, known);
  if (nearest !== undefined) {
    return `; did you mean ${nearest}?`;
  }
  return known.length > 0 ? `; there are ${known.join(', ')}` : '; there are none';
}

/** The known name that is the fewest edits away, if it is near. */
export function closest(name: string, known: string[]): string | undefined {
  const distances = known.map((other) => ({ other, distance: distance(name.toLowerCase(), other.toLowerCase()) }));
  distances.sort((x, y) => x.distance - y.distance);
  const first = distances[0];
  return first !== undefined && first.distance <= Math.max(2, name.length / 3) ? first.other : undefined;
}

function distance(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, i) => i);
  for (let i = 1; i <= from.length; i++) {
    const next = [i];
    for (let j = 1; j <= to.length; j++) {
      const same = from[i - 1] === to[j - 1] ? 0 : 1;
      next.push(Math.min((row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1, (row[j - 1] ?? 0) + same));
    }
    row = next;
  }
  return row[to.length] ?? 0;
}

/** The shape of a `z.object` that says nothing of unknown fields; undefined where it says that it takes them. */
function strippedShape(type: Validator): Shape | undefined {
  const { _zod, _def } = type as { _zod?: { def: any }; _def?: any };
  if (_zod !== undefined) {
    return _zod.def.type === 'object' && _zod.def.catchall === undefined ? _zod.def.shape : undefined;
  }
  const plain = _def.typeName === 'ZodObject' && _def.unknownKeys === 'strip' && _def.catchall?._def.typeName === 'ZodNever';
  return plain ? _def.shape() : undefined;
}
