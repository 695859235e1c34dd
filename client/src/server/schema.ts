/** The schema: tables, their fields as zod types, their indexes. */

import { z } from 'zod';
import type { Shape, ShapeInput, ShapeOutput, Validator } from './validator.js';

declare const TABLE: unique symbol;

/** The id of a document: a string, of which TypeScript knows the table. */
export type Id<TableName extends string> = string & { readonly [TABLE]: TableName };

/** What each document has besides its own fields. */
export interface SystemFields<TableName extends string> {
  /** The document's id. */
  _id: Id<TableName>;
  /** When it was inserted, in milliseconds since 1970. */
  _creationTime: number;
}

/** Indexes of a table by name, with their fields in order. */
export type Indexes = { readonly [name: string]: readonly string[] };

/** A table as `defineTable` makes it. */
export class TableDefinition<S extends Shape = Shape, I extends Indexes = {}> {
  /** The fields. */
  readonly shape: S;
  /** The declared indexes. */
  readonly indexes: ReadonlyArray<{ readonly name: string; readonly fields: readonly string[] }>;
  /** Whether Convoy makes and keeps the table. */
  readonly managed: boolean;
  /** How rows lie in Postgres. */
  readonly layout: 'document' | 'relational';
  /** For TypeScript alone. */
  declare readonly _indexes: I;

  constructor(
    shape: S,
    rest: Pick<TableDefinition, 'indexes' | 'managed' | 'layout'> = { indexes: [], managed: true, layout: 'document' },
  ) {
    this.shape = shape;
    this.indexes = rest.indexes;
    this.managed = rest.managed;
    this.layout = rest.layout;
  }

  /** Adds an index: `.index('by_userId', ['userId'])`. Documents of equal fields are in the order of their creation. */
  index<const N extends string, const F extends readonly [IndexField<S>, ...IndexField<S>[]]>(
    name: N,
    fields: F,
  ): TableDefinition<S, I & { readonly [K in N]: F }> {
    if (this.indexes.some((index) => index.name === name)) {
      throw new Error(`the index ${name} is defined twice on one table: give one of them another name`);
    }
    if (!Array.isArray(fields) || fields.length === 0) {
      throw new Error(`the index ${name} has no fields: .index('${name}', ['field'])`);
    }
    for (const field of fields) {
      if (!(field in this.shape) && field !== '_creationTime' && field !== '_id') {
        const known = Object.keys(this.shape).join(', ');
        throw new Error(`the index ${name} names the field ${field}, which the table does not have; it has ${known}`);
      }
    }
    return new TableDefinition(this.shape, { ...this, indexes: [...this.indexes, { name, fields: [...fields] }] });
  }

  /** Leaves the table to its owner: Convoy reads and writes it, and never makes or changes it. */
  unmanaged(): TableDefinition<S, I> {
    return new TableDefinition(this.shape, { ...this, managed: false });
  }

  /** Keeps the fields in columns of their own instead of in one JSONB document. Functions notice nothing. */
  relational(): TableDefinition<S, I> {
    return new TableDefinition(this.shape, { ...this, layout: 'relational' });
  }
}

type IndexField<S extends Shape> = (keyof S & string) | '_creationTime';

/** Tables by name. */
export type Tables = { readonly [name: string]: TableDefinition<any, any> };

/** A schema as `defineSchema` makes it. */
export class SchemaDefinition<T extends Tables = Tables> {
  readonly tables: T;

  constructor(tables: T) {
    this.tables = tables;
  }
}

/** Defines a table by its fields: `defineTable({ name: z.string() })`. */
export function defineTable<S extends Shape>(shape: S): TableDefinition<S> {
  if (isValidator(shape)) {
    throw new Error('defineTable takes the fields themselves: defineTable({ name: z.string() }), without z.object');
  }
  for (const [field, type] of Object.entries(shape)) {
    if (!isValidator(type)) {
      throw new Error(`the field ${field} is none of zod's types: write for example ${field}: z.string()`);
    }
    if (field.startsWith('_')) {
      throw new Error(`the field ${field}: names with a leading _ are Convoy's own (_id, _creationTime)`);
    }
  }
  return new TableDefinition(shape);
}

/** Defines the schema: `export default defineSchema({ users: defineTable({ … }) })`. */
export function defineSchema<const T extends Tables>(tables: T): SchemaDefinition<T> {
  for (const [name, table] of Object.entries(tables)) {
    if (!(table instanceof TableDefinition)) {
      throw new Error(`the table ${name} is not made by defineTable`);
    }
  }
  return new SchemaDefinition(tables);
}

/** The zod type of an id, in whichever zod there is. */
export type RefType<TableName extends string> = ReturnType<typeof z.custom<Id<TableName>>>;

const refs = new WeakMap<object, string>();

/** A field or argument that holds the id of a document of that table. */
export function defineRef<const TableName extends string>(table: TableName): RefType<TableName> {
  const type = z.custom<Id<TableName>>((value: unknown) => typeof value === 'string', {
    message: `expected the id of a document in ${table}, a string`,
  });
  refs.set(type, table);
  return type as RefType<TableName>;
}

/** The table whose ids a type holds, if it was made by `defineRef`. */
export function refOf(type: object): string | undefined {
  return refs.get(type);
}

/** Whether a value is a zod type. */
export function isValidator(value: unknown): value is Validator {
  return typeof value === 'object' && value !== null && ('_zod' in value || '_def' in value);
}

/** The document of a table, without the system fields: what a validated insert holds. */
export type Fields<T> = T extends TableDefinition<infer S, any> ? ShapeOutput<S> : never;

/** What insert takes for a table: a field with a default may be left out. */
export type FieldsInput<T> = T extends TableDefinition<infer S, any> ? ShapeInput<S> : never;
