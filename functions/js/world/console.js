// console: one line an entry, which goes to the host.

import { define, natives } from './define.js';

const inspect = (value, depth, seen) => {
  if (typeof value === 'string') return depth === 0 ? value : JSON.stringify(value);
  if (typeof value === 'bigint') return `${value}n`;
  if (typeof value === 'function') return `[function ${value.name || 'anonymous'}]`;
  if (typeof value !== 'object' || value === null) return String(value);
  if (value instanceof Error) return `${value}${value.stack ? `\n${value.stack.trimEnd()}` : ''}`;
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? 'Invalid Date' : value.toISOString();
  if (seen.includes(value)) return '[circular]';
  if (depth > 4) return Array.isArray(value) ? '[…]' : '{…}';
  const inner = (part) => inspect(part, depth + 1, [...seen, value]);
  if (Array.isArray(value)) return `[${value.slice(0, 100).map(inner).join(', ')}${value.length > 100 ? ', …' : ''}]`;
  if (value instanceof Map) return `Map { ${Array.from(value, ([key, of]) => `${inner(key)} => ${inner(of)}`).join(', ')} }`;
  if (value instanceof Set) return `Set { ${Array.from(value, inner).join(', ')} }`;
  const name = Object.getPrototypeOf(value)?.constructor?.name;
  const fields = Object.entries(value).map(([key, of]) => `${key}: ${inner(of)}`);
  return `${name && name !== 'Object' ? `${name} ` : ''}{ ${fields.join(', ')} }`;
};
const write = (level) => (...values) => {
  let text;
  try {
    text = values.map((value) => inspect(value, 0, [])).join(' ');
  } catch {
    text = '[a value that can\'t be shown]';
  }
  natives.log(level, text.toWellFormed());
};
const log = write('info');
define('console', {
  log, info: log, dir: log, table: log, debug: write('debug'), trace: write('debug'), warn: write('warn'), error: write('error'),
  assert(condition, ...values) { if (!condition) this.error('assertion failed', ...values); },
  group: log, groupEnd() {}, time() {}, timeEnd() {}, count() {},
});
