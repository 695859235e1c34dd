/** `ctx.db`: what functions ask of it, as operations of the host. */

import { ConvoyError } from 'convoy:server/errors.ts';
import { isSql, type DrizzleSql, type Sql } from 'convoy:server/sql.ts';
import type { TableDefinition } from 'convoy:server/schema.ts';
import { ask } from './host.ts';
import { Query } from './query.ts';
import { closest, line, parse, parseShape, type Issue } from './validate.ts';

type Table = TableDefinition<any, any>;
type Doc = Record<string, unknown>;

const SYSTEM = ['_id', '_creationTime'];

/** `ctx.db` for a schema. In a query it has no writes: each says so. */
export class Database {
  readonly #tables: Record<string, Table>;

  constructor(tables: Record<string, Table>) {
    this.#tables = tables;
  }

  get(...given: unknown[]): Promise<Doc | null> {
    return ask('db.get', this.#address('get', given, 0));
  }

  query(table: string): Query {
    return new Query(table, this.#table(table));
  }

  raw(statement: Sql | DrizzleSql): Promise<Doc[]> {
    return ask('db.raw', rendered(statement));
  }

  async insert(table: string, document: Doc): Promise<string> {
    const definition = this.#table(table);
    const doc = object('insert', document);
    for (const field of SYSTEM) {
      if (field in doc) {
        throw new ConvoyError('INVALID_ARGS', `insert into ${table}: ${field} is given by the database; leave it out`);
      }
    }
    return ask('db.insert', { table, doc: await this.#validated(`insert into ${table}`, definition, doc) });
  }

  async patch(...given: unknown[]): Promise<void> {
    const { table, id, rest } = this.#address('patch', given, 1);
    const fields = ownFields(`patch of ${id}`, object('patch', rest), id);
    const definition = this.#tableOf(table, id);
    const set: Doc = {};
    const unset: string[] = [];
    const issues: Issue[] = [];
    for (const [field, value] of Object.entries(fields)) {
      const type = definition?.shape[field];
      if (definition !== undefined && type === undefined) {
        const nearest = closest(field, Object.keys(definition.shape));
        issues.push({ path: [field], message: `there is no such field${nearest ? `; did you mean ${nearest}?` : ''}` });
      } else if (type === undefined) {
        value === undefined ? unset.push(field) : (set[field] = value);
      } else {
        const parsed = await parse(type, value, [field]);
        issues.push(...parsed.issues);
        parsed.value === undefined ? unset.push(field) : (set[field] = parsed.value);
      }
    }
    refuse(`patch of ${id}`, issues);
    await ask('db.patch', { table, id, set, unset });
  }

  async replace(...given: unknown[]): Promise<void> {
    const { table, id, rest } = this.#address('replace', given, 1);
    const fields = ownFields(`replace of ${id}`, object('replace', rest), id);
    const definition = this.#tableOf(table, id);
    const doc = definition === undefined ? fields : await this.#validated(`replace of ${id}`, definition, fields);
    await ask('db.replace', { table, id, doc });
  }

  async delete(...given: unknown[]): Promise<void> {
    const { table, id } = this.#address('delete', given, 0);
    await ask('db.delete', { table, id });
  }

  #table(name: string): Table {
    const table = Object.hasOwn(this.#tables, name) ? this.#tables[name] : undefined;
    if (table === undefined) {
      const known = Object.keys(this.#tables);
      const nearest = closest(String(name), known);
      const hint = nearest ? `did you mean ${nearest}?` : `schema.ts has ${known.join(', ') || 'none'}`;
      throw new ConvoyError('INVALID_ARGS', `there is no table ${name}: ${hint}`);
    }
    return table;
  }

  /** The definition of a document's table; none where neither the call nor the id says which it is. */
  #tableOf(table: string | null, id: string): Table | undefined {
    if (table !== null) {
      return this.#table(table);
    }
    const name = id.slice(0, Math.max(0, id.lastIndexOf(':')));
    return Object.hasOwn(this.#tables, name) ? this.#tables[name] : undefined;
  }

  /** Reads `(id)` or `(table, id)`, with so many arguments after it. */
  #address(method: string, given: unknown[], after: 0 | 1): { table: string | null; id: string; rest: unknown } {
    const named = given.length >= 2 + after;
    const table = named ? given[0] : null;
    const id = given[named ? 1 : 0];
    if (typeof id !== 'string' || id === '') {
      throw new ConvoyError('INVALID_ARGS', `ctx.db.${method} takes the id of a document, a string, not ${shown(id)}`);
    }
    if (table !== null) {
      this.#table(table as string);
    }
    const address = { table: table as string | null, id };
    return Object.defineProperty(address, 'rest', { value: given[named ? 2 : 1], enumerable: false }) as any;
  }

  async #validated(what: string, table: Table, doc: Doc): Promise<Doc> {
    const { value, issues } = await parseShape(table.shape, doc, 'field');
    refuse(what, issues);
    return value;
  }
}

function refuse(what: string, issues: Issue[]): void {
  if (issues.length > 0) {
    throw new ConvoyError('INVALID_ARGS', `${what}: ${issues.map(line).join('; ')}`, { issues });
  }
}

function object(method: string, value: unknown): Doc {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new ConvoyError('INVALID_ARGS', `ctx.db.${method} takes an object of fields, not ${shown(value)}`);
  }
  return value as Doc;
}

/** The fields but those of the system, which a document read before carries along. */
function ownFields(what: string, doc: Doc, id: string): Doc {
  const { _id, _creationTime, ...fields } = doc;
  if (_id !== undefined && _id !== id) {
    throw new ConvoyError('INVALID_ARGS', `${what}: an id can't be changed (to ${shown(_id)})`);
  }
  return fields;
}

function shown(value: unknown): string {
  return value === null || typeof value !== 'object' ? String(value) : Array.isArray(value) ? 'an array' : 'an object';
}

/** The text of a statement with `$1`, and its parameters. */
function rendered(statement: Sql | DrizzleSql): { text: string; params: unknown[] } {
  const params: unknown[] = [];
  const text = (part: unknown): string => {
    if (isSql(part)) {
      return part.strings.map((string, i) => (i < part.values.length ? string + text(part.values[i]) : string)).join('');
    }
    if (isDrizzle(part)) {
      return part.queryChunks.map(chunk).join('');
    }
    params.push(part ?? null);
    return `$${params.length}`;
  };
  // Drizzle's `sql` keeps text and values side by side, each text and some values in a class of its own.
  const chunk = (part: unknown): string => {
    const kind = (part as any)?.constructor?.[Symbol.for('drizzle:entityKind')];
    switch (kind) {
      case undefined:
      case 'SQL':
        return text(part);
      case 'StringChunk':
        return (part as { value: string[] }).value.join('');
      case 'Param':
        return text((part as { value: unknown }).value);
      default:
        throw new ConvoyError('INVALID_ARGS', `ctx.db.raw takes drizzle's sql\`…\` with values alone, not its ${kind}: write names as text`);
    }
  };
  if (!isSql(statement) && !isDrizzle(statement)) {
    throw new ConvoyError('INVALID_ARGS', "ctx.db.raw takes a statement made by sql`…` of 'convoy', so that values stay apart from the text");
  }
  return { text: text(statement), params };
}

function isDrizzle(value: unknown): value is DrizzleSql {
  return typeof value === 'object' && value !== null && Array.isArray((value as Partial<DrizzleSql>).queryChunks);
}
