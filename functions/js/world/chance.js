// Chance: sfc32, filled from the call's seed.

import { define } from './define.js';

let a = 0, b = 0, c = 0, d = 1;
const word = () => {
  const t = (((a + b) | 0) + d) | 0;
  d = (d + 1) | 0;
  a = b ^ (b >>> 9);
  b = (c + (c << 3)) | 0;
  c = ((c << 21) | (c >>> 11)) + t | 0;
  return t >>> 0;
};
/** Begins anew from a call's seed. */
export const fill = (low, high) => {
  a = low | 0;
  b = high | 0;
  c = 0x9e3779b9 | 0;
  d = 1;
  for (let i = 0; i < 12; i++) word();
};
Object.defineProperty(Math, 'random', {
  value: function random() {
    return ((word() >>> 5) * 67108864 + (word() >>> 6)) / 9007199254740992;
  },
  writable: true,
  configurable: true,
});
const INTEGERS = ['Int8Array', 'Uint8Array', 'Uint8ClampedArray', 'Int16Array', 'Uint16Array', 'Int32Array', 'Uint32Array', 'BigInt64Array', 'BigUint64Array'];
define('crypto', {
  getRandomValues(array) {
    if (!INTEGERS.includes(Object.prototype.toString.call(array).slice(8, -1))) {
      throw new TypeError('crypto.getRandomValues takes an array of integers, such as a Uint8Array');
    }
    const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
    for (let i = 0; i < bytes.length; i++) bytes[i] = word() & 255;
    return array;
  },
  randomUUID() {
    const bytes = this.getRandomValues(new Uint8Array(16));
    bytes[6] = (bytes[6] & 15) | 64;
    bytes[8] = (bytes[8] & 63) | 128;
    const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
    return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
  },
});
