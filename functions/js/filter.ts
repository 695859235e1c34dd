/** Filters on documents: expressions as Convex builds them, or a plain predicate. */

import type { FilterBuilder } from 'convoy:server/database.ts';

type Doc = Record<string, unknown>;

/** Only this module makes them, so one is told from whatever else a filter returns. */
class Node {
  readonly of: (doc: Doc) => unknown;

  constructor(of: (doc: Doc) => unknown) {
    this.of = of;
  }
}

const evaluate = (operand: unknown, doc: Doc): unknown => (operand instanceof Node ? operand.of(doc) : operand);

const both = (test: (left: any, right: any) => boolean) => (left: unknown, right: unknown) =>
  new Node((doc) => test(evaluate(left, doc), evaluate(right, doc)));

/** Values are ordered within their type; of two types neither is less. */
const ordered = (test: (left: any, right: any) => boolean) =>
  both((left, right) => typeof left === typeof right && left !== null && right !== null && test(left, right));

const same = (left: unknown, right: unknown): boolean => {
  if (left === right || (left ?? undefined) === (right ?? undefined)) {
    return left === right || left == null;
  }
  return typeof left === 'object' && typeof right === 'object' && JSON.stringify(left) === JSON.stringify(right);
};

const builder = {
  field: (name: string) => new Node((doc) => doc[name]),
  eq: both(same),
  neq: both((left, right) => !same(left, right)),
  lt: ordered((left, right) => left < right),
  lte: ordered((left, right) => left <= right),
  gt: ordered((left, right) => left > right),
  gte: ordered((left, right) => left >= right),
  and: (...conditions: unknown[]) => new Node((doc) => conditions.every((condition) => evaluate(condition, doc))),
  or: (...conditions: unknown[]) => new Node((doc) => conditions.some((condition) => evaluate(condition, doc))),
  not: (condition: unknown) => new Node((doc) => !evaluate(condition, doc)),
};

/**
 * Makes a test of what was given to `.filter`. It is called with the builder once; what then is no expression was a predicate,
 * and one that fails there as well, for a builder has none of a document's fields.
 */
export function compile(condition: (q: FilterBuilder<any> & any) => unknown): (doc: Doc) => boolean {
  let expression: unknown;
  try {
    expression = condition(builder);
  } catch {
    expression = undefined;
  }
  if (expression instanceof Node) {
    const node = expression;
    return (doc) => Boolean(node.of(doc));
  }
  return (doc) => Boolean(condition(doc));
}
