/** What TypeScript knows of the tables: derived from a schema, and what `ctx.db` is typed by. */

import type { Fields, FieldsInput, SchemaDefinition, SystemFields, TableDefinition, Tables } from './schema.js';
import type { Flat } from './validator.js';

/** One table. */
export interface TableModel {
  /** A document as it is read. */
  document: any;
  /** What insert and replace take. */
  input: any;
  /** Indexes by name, with their fields in order. */
  indexes: { readonly [name: string]: readonly string[] };
}

/** Tables by name. */
export type AnyDataModel = { [table: string]: TableModel };

/** The tables of a schema: `DataModel<typeof schema>`. */
export type DataModel<Schema extends SchemaDefinition<any>> =
  Schema extends SchemaDefinition<infer T extends Tables>
    ? {
        -readonly [Name in keyof T & string]: {
          document: Flat<SystemFields<Name> & Fields<T[Name]>>;
          input: FieldsInput<T[Name]>;
          indexes: T[Name] extends TableDefinition<any, infer I> ? Flat<I> : {};
        };
      }
    : never;

/** The tables of a schema of which perhaps nothing is known. */
export type DataModelFromSchema<Schema> = 0 extends 1 & Schema
  ? AnyDataModel
  : Schema extends SchemaDefinition<any>
    ? DataModel<Schema>
    : AnyDataModel;

/** The names of the tables. */
export type TableNames<DM extends AnyDataModel> = keyof DM & string;

/** A document: `Doc<DataModel, 'users'>`. */
export type Doc<DM extends AnyDataModel, Name extends TableNames<DM>> = DM[Name]['document'];
