// Text as bytes, and copies.

import { define, natives } from './define.js';

define('TextEncoder', class TextEncoder {
  get encoding() { return 'utf-8'; }
  encode(text = '') {
    const bytes = [];
    for (const character of String(text)) {
      let point = character.codePointAt(0);
      if (point >= 0xd800 && point <= 0xdfff) point = 0xfffd;
      if (point < 0x80) bytes.push(point);
      else if (point < 0x800) bytes.push(0xc0 | (point >> 6), 0x80 | (point & 63));
      else if (point < 0x10000) bytes.push(0xe0 | (point >> 12), 0x80 | ((point >> 6) & 63), 0x80 | (point & 63));
      else bytes.push(0xf0 | (point >> 18), 0x80 | ((point >> 12) & 63), 0x80 | ((point >> 6) & 63), 0x80 | (point & 63));
    }
    return Uint8Array.from(bytes);
  }
});
define('TextDecoder', class TextDecoder {
  #fatal;
  constructor(label = 'utf-8', options = {}) {
    if (!/^\s*utf-?8\s*$/i.test(label)) throw new RangeError(`TextDecoder knows utf-8 alone, not ${label}`);
    this.#fatal = Boolean(options.fatal);
  }
  get encoding() { return 'utf-8'; }
  get fatal() { return this.#fatal; }
  decode(source = new Uint8Array()) {
    const bytes = source instanceof ArrayBuffer
      ? new Uint8Array(source)
      : new Uint8Array(source.buffer, source.byteOffset, source.byteLength);
    const text = natives.decodeUtf8(Array.from(bytes), this.#fatal);
    if (text === undefined) throw new TypeError('the bytes are not UTF-8');
    return text.startsWith('\ufeff') ? text.slice(1) : text;
  }
});
const clone = (value, done) => {
  if (typeof value === 'function' || typeof value === 'symbol') throw new TypeError(`structuredClone can't copy a ${typeof value}`);
  if (typeof value !== 'object' || value === null) return value;
  if (done.has(value)) return done.get(value);
  const keep = (copy) => (done.set(value, copy), copy);
  if (value instanceof Date) return keep(new Date(value.getTime()));
  if (value instanceof RegExp) return keep(new RegExp(value.source, value.flags));
  if (value instanceof ArrayBuffer) return keep(value.slice(0));
  if (ArrayBuffer.isView(value)) {
    const buffer = value.buffer.slice(value.byteOffset, value.byteOffset + value.byteLength);
    return keep(new value.constructor(buffer));
  }
  if (value instanceof Map) {
    const copy = keep(new Map());
    for (const [key, of] of value) copy.set(clone(key, done), clone(of, done));
    return copy;
  }
  if (value instanceof Set) {
    const copy = keep(new Set());
    for (const of of value) copy.add(clone(of, done));
    return copy;
  }
  if (value instanceof Error) {
    const copy = keep(new (globalThis[value.name] ?? Error)(value.message));
    copy.stack = value.stack;
    return copy;
  }
  const copy = keep(Array.isArray(value) ? new Array(value.length) : {});
  for (const key of Object.keys(value)) copy[key] = clone(value[key], done);
  return copy;
};
define('structuredClone', (value) => clone(value, new Map()));
