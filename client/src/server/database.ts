/** `ctx.db` as functions see it. What carries it out is in the embedded engine (`functions/js/`). */

import type { AnyDataModel, Doc, TableNames } from './data-model.js';
import type { Id } from './schema.js';
import type { DrizzleSql, Sql } from './sql.js';

/** Reads. All that a query has. */
export interface DatabaseReader<DM extends AnyDataModel> {
  /** The document of an id, or null. The id itself says in which table. */
  get<Name extends TableNames<DM>>(id: Id<Name>): Promise<Doc<DM, Name> | null>;
  /** The document of an id in a table, or null: for tables whose ids do not begin with the table's name. */
  get<Name extends TableNames<DM>>(table: Name, id: Id<NoInfer<Name>> | string): Promise<Doc<DM, Name> | null>;
  /** Begins a read of a table. */
  query<Name extends TableNames<DM>>(table: Name): TableQuery<Doc<DM, Name>, DM[Name]['indexes']>;
  /** Runs a SELECT: `` ctx.db.raw<{ total: number }>(sql`select count(*)::int as total from users`) ``. */
  raw<Row = Record<string, unknown>>(statement: Sql | DrizzleSql): Promise<Row[]>;
}

/** Reads and writes: what a mutation has. */
export interface DatabaseWriter<DM extends AnyDataModel> extends DatabaseReader<DM> {
  /** Inserts a document and returns its id. */
  insert<Name extends TableNames<DM>>(table: Name, document: DM[Name]['input']): Promise<Id<Name>>;
  /** Changes some fields; `undefined` takes a field away. */
  patch<Name extends TableNames<DM>>(id: Id<Name>, fields: Patch<Doc<DM, Name>>): Promise<void>;
  patch<Name extends TableNames<DM>>(
    table: Name,
    id: Id<NoInfer<Name>> | string,
    fields: Patch<Doc<DM, NoInfer<Name>>>,
  ): Promise<void>;
  /** Replaces all fields. */
  replace<Name extends TableNames<DM>>(id: Id<Name>, document: Replacement<DM, Name>): Promise<void>;
  replace<Name extends TableNames<DM>>(
    table: Name,
    id: Id<NoInfer<Name>> | string,
    document: Replacement<DM, NoInfer<Name>>,
  ): Promise<void>;
  /** Deletes a document. */
  delete<Name extends TableNames<DM>>(id: Id<Name>): Promise<void>;
  delete<Name extends TableNames<DM>>(table: Name, id: Id<NoInfer<Name>> | string): Promise<void>;
}

/** Some of a document's fields. */
export type Patch<D> = { [K in Exclude<keyof D, '_id' | '_creationTime'>]?: D[K] | undefined };

/** All of a document's fields; its own system fields may be among them. */
export type Replacement<DM extends AnyDataModel, Name extends TableNames<DM>> = DM[Name]['input'] & {
  _id?: Id<Name>;
  _creationTime?: number;
};

/** A read of a table that may still be narrowed by an index. */
export interface TableQuery<D, I extends { readonly [name: string]: readonly string[] }> extends OrderedQuery<D> {
  /** Reads by an index: only documents in the range, in the index' order. */
  withIndex<Name extends keyof I & string>(
    name: Name,
    range?: (q: IndexRange<D, Ended<I[Name]>>) => IndexRangeEnd,
  ): OrderedQuery<D>;
}

/** A read of a table. */
export interface OrderedQuery<D> extends AsyncIterable<D> {
  /**
   * Keeps the documents for which the condition holds. Either of two ways to write it:
   * `.filter((q) => q.eq(q.field('done'), false))` or `.filter((doc) => !doc.done)`.
   */
  filter(condition: (q: FilterBuilder<D> & D) => Expression<boolean> | boolean): OrderedQuery<D>;
  /** Orders by the index (or the time of creation), or by a field. */
  order(direction: 'asc' | 'desc', field?: keyof D & string): OrderedQuery<D>;
  /** All documents. */
  collect(): Promise<D[]>;
  /** The first `n` documents. Reads no further than it has to. */
  take(n: number): Promise<D[]>;
  /** The first document, or null. */
  first(): Promise<D | null>;
  /** The only document, or null; an error where there are more. */
  unique(): Promise<D | null>;
  /** One page. */
  paginate(options: PaginationOptions): Promise<PaginationResult<D>>;
}

/** Which page. */
export interface PaginationOptions {
  /** How many documents. */
  numItems: number;
  /** `continueCursor` of the page before; null for the first. */
  cursor: string | null;
  /** Where the page ends: a page that was read before keeps its borders while documents come and go. */
  endCursor?: string | null | undefined;
}

/** One page. */
export interface PaginationResult<D> {
  page: D[];
  /** Whether there is nothing after it. */
  isDone: boolean;
  /** Where the next page begins. */
  continueCursor: string;
}

/** The end of a range: nothing more can be said. */
export interface IndexRangeEnd {
  readonly _range: true;
}

/** The fields of an index as Postgres has them: the time of creation ends each, whether it was declared or not. */
type Ended<F extends readonly string[]> = number extends F['length']
  ? F
  : F extends readonly [...string[], '_creationTime']
    ? F
    : readonly [...F, '_creationTime'];

type FieldType<D, F> = F extends keyof D ? D[F] : never;
type Rest<F extends readonly string[]> = F extends readonly [string, ...infer R extends readonly string[]] ? R : [];

type OrAbsent<T> = undefined extends T ? T | null : T;

/** A range of an index: equalities from the left, then one range. */
export interface IndexRange<D, F extends readonly string[]> extends IndexRangeEnd {
  /** Of a field that may be missing, null finds the documents without it. */
  eq(field: F[0], value: OrAbsent<FieldType<D, F[0]>>): IndexRange<D, Rest<F>>;
  gt(field: F[0], value: FieldType<D, F[0]>): IndexRangeUpper<D, F[0]>;
  gte(field: F[0], value: FieldType<D, F[0]>): IndexRangeUpper<D, F[0]>;
  lt(field: F[0], value: FieldType<D, F[0]>): IndexRangeEnd;
  lte(field: F[0], value: FieldType<D, F[0]>): IndexRangeEnd;
}

/** A range that begins somewhere, and may end. */
export interface IndexRangeUpper<D, F extends string> extends IndexRangeEnd {
  lt(field: F, value: FieldType<D, F>): IndexRangeEnd;
  lte(field: F, value: FieldType<D, F>): IndexRangeEnd;
}

/** Part of a filter. */
export interface Expression<T> {
  readonly _value: T;
}

type Operand<T> = Expression<T> | T;

/** Builds a filter. */
export interface FilterBuilder<D> {
  /** A field of the document. */
  field<F extends keyof D & string>(name: F): Expression<D[F]>;
  eq<T>(left: Operand<T>, right: Operand<NoInfer<T>>): Expression<boolean>;
  neq<T>(left: Operand<T>, right: Operand<NoInfer<T>>): Expression<boolean>;
  lt<T>(left: Operand<T>, right: Operand<NoInfer<T>>): Expression<boolean>;
  lte<T>(left: Operand<T>, right: Operand<NoInfer<T>>): Expression<boolean>;
  gt<T>(left: Operand<T>, right: Operand<NoInfer<T>>): Expression<boolean>;
  gte<T>(left: Operand<T>, right: Operand<NoInfer<T>>): Expression<boolean>;
  and(...conditions: Operand<boolean>[]): Expression<boolean>;
  or(...conditions: Operand<boolean>[]): Expression<boolean>;
  not(condition: Operand<boolean>): Expression<boolean>;
}
