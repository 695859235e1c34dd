/** What a project's modules define: its functions, and its schema as JSON. */

import { isFunction } from 'convoy:server/functions.ts';
import { refOf, SchemaDefinition } from 'convoy:server/schema.ts';
import { closest } from './validate.ts';

/** The modules of a project, as the entry hands them over. */
export interface Modules {
  schema: Record<string, unknown> | undefined;
  server: Record<string, unknown> | undefined;
  functions: Record<string, Record<string, unknown>>;
}

/** The project's schema; none where there is no `schema.ts`. */
export function schemaOf(modules: Modules): SchemaDefinition | undefined {
  if (modules.schema === undefined) {
    return undefined;
  }
  const schema = modules.schema['default'] ?? modules.schema['schema'];
  if (!(schema instanceof SchemaDefinition)) {
    throw new Error('schema.ts exports no schema: export default defineSchema({ … }), or export const schema = defineSchema({ … })');
  }
  return schema;
}

/** Describes the project, as JSON. */
export function describe(modules: Modules): string {
  const functions = Object.entries(modules.functions).flatMap(([file, exports]) =>
    Object.entries(exports)
      .filter(([, value]) => isFunction(value))
      .map(([name, value]) => {
        const { kind, visibility } = value as { kind: string; visibility: string };
        return { file, export: name, kind, visibility };
      }),
  );
  const schema = schemaOf(modules);
  const context = typeof modules.server?.['createContext'] === 'function';
  if (typeof modules.server?.['configureServer'] === 'function') {
    console.warn(
      'server.ts exports configureServer, which nobody calls: there is no Node server. Headers and access logs are for a proxy in front, logging for --log, figures at /metrics',
    );
  }
  return JSON.stringify({ functions, context, schema: { tables: schema === undefined ? [] : tables(schema) } });
}

function tables(schema: SchemaDefinition) {
  const known = Object.keys(schema.tables);
  for (const [name, table] of Object.entries(schema.tables)) {
    for (const [field, type] of Object.entries(table.shape)) {
      const { ref } = fieldOf(type as object);
      if (ref !== null && !known.includes(ref)) {
        const nearest = closest(ref, known);
        const hint = nearest === undefined ? `it has ${known.join(', ')}` : `did you mean ${nearest}?`;
        throw new Error(`the field ${name}.${field} refers to the table ${ref}, which the schema does not have: ${hint}`);
      }
    }
  }
  return Object.entries(schema.tables).map(([name, table]) => ({
    name,
    managed: table.managed,
    layout: table.layout,
    fields: Object.entries(table.shape).map(([field, type]) => ({ name: field, ...fieldOf(type as object) })),
    indexes: table.indexes.map((index: { name: string; fields: readonly string[] }) => ({ name: index.name, fields: index.fields })),
  }));
}

type FieldType = 'string' | 'number' | 'boolean' | 'json';

interface Field {
  type: FieldType;
  ref: string | null;
  optional: boolean;
  nullable: boolean;
}

/** Reads what a zod type, 3 or 4, holds. Whatever is not clearly one scalar is `json`. */
function fieldOf(type: object): Field {
  const ref = refOf(type);
  if (ref !== undefined) {
    return { type: 'string', ref, optional: false, nullable: false };
  }
  const def = definition(type);
  const inner = (): Field => fieldOf(def.innerType ?? def.schema ?? def.type);
  switch (kindOf(def)) {
    case 'string':
    case 'template_literal':
      return plain('string');
    case 'enum':
    case 'nativeenum':
      return plain(common(Object.values(def.entries ?? def.values)));
    case 'literal':
      return plain(common(def.values ?? [def.value]));
    case 'number':
    case 'int':
      return plain('number');
    case 'boolean':
      return plain('boolean');
    case 'optional':
    case 'exactoptional':
      return { ...inner(), optional: true };
    case 'nullable':
      return { ...inner(), nullable: true };
    case 'union':
    case 'discriminatedunion':
      return union(Array.from(def.options.values ? def.options.values() : def.options, (option) => fieldOf(option as object)));
    // What is stored is always there, whatever was given.
    case 'default':
    case 'prefault':
    case 'catch':
    case 'nonoptional':
      return { ...inner(), optional: false };
    case 'readonly':
    case 'branded':
      return inner();
    // A transform's output is what it makes of it; of a refinement and a pipe it is known.
    case 'effects':
      return def.effect?.type === 'refinement' ? inner() : plain('json');
    case 'pipe':
    case 'pipeline':
      return fieldOf(def.out);
    // Whether it may be null, or missing, nobody says better than the type itself: any, unknown, null, json, lazy …
    default:
      return { ...plain('json'), optional: takes(type, undefined), nullable: takes(type, null) };
  }
}

function takes(type: any, value: unknown): boolean {
  try {
    return type.safeParse(value).success === true;
  } catch {
    // One whose check is asynchronous.
    return false;
  }
}

function definition(type: object): any {
  const { _zod, _def } = type as { _zod?: { def: unknown }; _def?: unknown };
  return _zod?.def ?? _def ?? {};
}

/** The kind in zod 4's words. */
function kindOf(def: any): string {
  return typeof def.typeName === 'string' ? def.typeName.replace(/^Zod/, '').toLowerCase() : String(def.type);
}

function plain(type: FieldType): Field {
  return { type, ref: null, optional: false, nullable: false };
}

function common(values: unknown[]): FieldType {
  const types = new Set(values.map((value) => typeof value));
  const [only] = types;
  return types.size === 1 && (only === 'string' || only === 'number' || only === 'boolean') ? only : 'json';
}

/** A union of one scalar type, apart from null and undefined, is that type. */
function union(options: Field[]): Field {
  const types = new Set(options.map((option) => option.type));
  const [only] = types;
  const refs = new Set(options.map((option) => option.ref));
  const [ref] = refs;
  return {
    type: types.size === 1 && only !== undefined ? only : 'json',
    ref: refs.size === 1 && ref !== undefined ? ref : null,
    optional: options.some((option) => option.optional),
    nullable: options.some((option) => option.nullable),
  };
}
