/** A read of a table: `ctx.db.query('t')…`. It reads in batches, no further than what is asked for. */

import { ConvoyError } from 'convoy:server/errors.ts';
import type { TableDefinition } from 'convoy:server/schema.ts';
import { compile } from './filter.ts';
import { ask } from './host.ts';
import { closest } from './validate.ts';

type Doc = Record<string, unknown>;
type Test = (doc: Doc) => boolean;

interface Condition {
  op: 'eq' | 'gt' | 'gte' | 'lt' | 'lte';
  field: string;
  value: unknown;
}

interface Batch {
  docs: Doc[];
  cursor: string | null;
  done: boolean;
}

interface State {
  index: string | null;
  range: Condition[];
  order: 'asc' | 'desc';
  orderBy: string | null;
  tests: Test[];
}

/** Documents that are read at a time where somebody walks over them. */
const WALK = 100;

/** No batch is larger than this for the sake of a filter. */
const BATCH = 1000;

/** A read that is being said; each method gives a further one. */
export class Query implements AsyncIterable<Doc> {
  readonly #name: string;
  readonly #table: TableDefinition<any, any>;
  readonly #state: State;

  constructor(
    name: string,
    table: TableDefinition<any, any>,
    state: State = { index: null, range: [], order: 'asc', orderBy: null, tests: [] },
  ) {
    this.#name = name;
    this.#table = table;
    this.#state = state;
  }

  withIndex(name: string, range?: (q: any) => unknown): Query {
    const index = this.#table.indexes.find((candidate) => candidate.name === name);
    if (index === undefined) {
      const known = this.#table.indexes.map((candidate) => candidate.name);
      const nearest = closest(String(name), known);
      const hint = nearest ? `did you mean ${nearest}?` : `it has ${known.join(', ') || 'none'}`;
      throw new ConvoyError('INVALID_ARGS', `the table ${this.#name} has no index ${name}: ${hint}`);
    }
    const conditions: Condition[] = [];
    range?.(new Range(name, index.fields, conditions));
    return this.#with({ index: name, range: conditions });
  }

  filter(condition: (q: any) => unknown): Query {
    return this.#with({ tests: [...this.#state.tests, compile(condition)] });
  }

  order(direction: 'asc' | 'desc', field?: string): Query {
    if (direction !== 'asc' && direction !== 'desc') {
      throw new ConvoyError('INVALID_ARGS', `.order takes 'asc' or 'desc', not ${String(direction)}`);
    }
    if (field !== undefined && !(field in this.#table.shape) && field !== '_creationTime' && field !== '_id') {
      const nearest = closest(String(field), Object.keys(this.#table.shape));
      throw new ConvoyError('INVALID_ARGS', `the table ${this.#name} has no field ${field}${nearest ? `: did you mean ${nearest}?` : ''}`);
    }
    return this.#with({ order: direction, orderBy: field ?? null });
  }

  async collect(): Promise<Doc[]> {
    const { docs } = await this.#scan(null, null, null);
    return docs.filter((doc) => this.#passes(doc));
  }

  async take(n: number): Promise<Doc[]> {
    return (await this.#page(count('take', n), null, false)).page;
  }

  async first(): Promise<Doc | null> {
    return (await this.take(1))[0] ?? null;
  }

  async unique(): Promise<Doc | null> {
    const docs = await this.take(2);
    if (docs.length > 1) {
      throw new ConvoyError('CONFLICT', `.unique() on ${this.#name}: there is more than one document`);
    }
    return docs[0] ?? null;
  }

  async paginate(options: { numItems: number; cursor: string | null; endCursor?: string | null }) {
    const after = options.cursor || null;
    const until = options.endCursor || null;
    if (until !== null) {
      // A page that was read before: all that lies between its borders, however much that has become.
      const { docs } = await this.#scan(after, until, null);
      return { page: docs.filter((doc) => this.#passes(doc)), isDone: false, continueCursor: until };
    }
    const { page, cursor, done } = await this.#page(count('paginate', options.numItems), after, true);
    return { page, isDone: done, continueCursor: cursor ?? after ?? '' };
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Doc> {
    let after: string | null = null;
    for (;;) {
      const batch: Batch = await this.#scan(after, null, WALK);
      for (const doc of batch.docs) {
        if (this.#passes(doc)) {
          yield doc;
        }
      }
      if (batch.done || batch.cursor === null) {
        return;
      }
      after = batch.cursor;
    }
  }

  /**
   * The first `n` that pass, and the cursor behind the last, where it is wanted. A batch is what is missing, or as much as was
   * read for nothing so far: what passes seldom is found in few batches.
   */
  async #page(n: number, from: string | null, wantsCursor: boolean) {
    const page: Doc[] = [];
    let cursor = from;
    let dropped = 0;
    while (page.length < n) {
      const batch = await this.#scan(cursor, null, Math.max(n - page.length, Math.min(dropped, BATCH)));
      let looked = 0;
      while (looked < batch.docs.length && page.length < n) {
        const doc = batch.docs[looked++]!;
        this.#passes(doc) ? page.push(doc) : dropped++;
      }
      if (looked < batch.docs.length) {
        // Read too far: where the page ends, only a scan says that ends there.
        const end = wantsCursor ? await this.#scan(cursor, null, looked) : batch;
        return { page, cursor: end.cursor, done: false };
      }
      cursor = batch.cursor ?? cursor;
      if (batch.done || batch.docs.length === 0) {
        return { page, cursor, done: true };
      }
    }
    return { page, cursor, done: false };
  }

  #scan(after: string | null, until: string | null, limit: number | null): Promise<Batch> {
    const { index, range, order, orderBy } = this.#state;
    return ask('db.scan', { table: this.#name, index, range, order, orderBy, after, until, limit });
  }

  #passes(doc: Doc): boolean {
    return this.#state.tests.every((test) => test(doc));
  }

  #with(change: Partial<State>): Query {
    return new Query(this.#name, this.#table, { ...this.#state, ...change });
  }
}

/** Collects the range of an index: equalities from the left, then at most a lower and an upper bound on the next field. */
class Range {
  constructor(
    readonly name: string,
    readonly fields: readonly string[],
    readonly conditions: Condition[],
  ) {}

  eq(field: string, value: unknown) { return this.#add('eq', field, value); }
  gt(field: string, value: unknown) { return this.#add('gt', field, value); }
  gte(field: string, value: unknown) { return this.#add('gte', field, value); }
  lt(field: string, value: unknown) { return this.#add('lt', field, value); }
  lte(field: string, value: unknown) { return this.#add('lte', field, value); }

  #add(op: Condition['op'], field: string, value: unknown): this {
    const equalities = this.conditions.filter((condition) => condition.op === 'eq').length;
    const bounded = this.conditions.length > equalities;
    const fields = [...this.fields, '_creationTime'];
    const next = fields[equalities];
    const wrong = field !== next || (op === 'eq' && bounded);
    if (wrong) {
      const hint = bounded && op === 'eq' ? 'after a range there is no further equality' : `next comes ${next ?? 'nothing'}`;
      throw new ConvoyError('INVALID_ARGS', `the index ${this.name} is on (${this.fields.join(', ')}): .${op}('${field}', …) can't stand here, ${hint}`);
    }
    if (value === undefined) {
      throw new ConvoyError('INVALID_ARGS', `.${op}('${field}', undefined) on the index ${this.name}: give a value, or null for documents without the field`);
    }
    this.conditions.push({ op, field, value });
    return this;
  }
}

function count(method: string, n: unknown): number {
  if (typeof n !== 'number' || !Number.isInteger(n) || n < 0) {
    throw new ConvoyError('INVALID_ARGS', `.${method} takes a whole number of documents, not ${String(n)}`);
  }
  return n;
}
