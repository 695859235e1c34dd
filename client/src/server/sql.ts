/** SQL with its parameters: what stands in `${…}` is never part of the text. */

const FRAGMENT = Symbol.for('convoy.sql');

/** A statement, or a part of one. */
export interface Sql {
  readonly [FRAGMENT]: true;
  readonly strings: readonly string[];
  readonly values: readonly unknown[];
}

/** A statement made by drizzle-orm's `sql`, with values in it and nothing else. */
export interface DrizzleSql {
  readonly queryChunks: readonly unknown[];
}

/**
 * A statement for `ctx.db.raw`. A value becomes a parameter (`$1`), another `sql` becomes part of the text:
 * `` sql`select * from orders where tenant = ${tenant} ${open ? sql`and status = 'open'` : sql``}` ``.
 */
export function sql(strings: TemplateStringsArray, ...values: unknown[]): Sql {
  return { [FRAGMENT]: true, strings: [...strings], values };
}

/** Whether a value was made by `sql`. */
export function isSql(value: unknown): value is Sql {
  return typeof value === 'object' && value !== null && (value as Partial<Sql>)[FRAGMENT] === true;
}
