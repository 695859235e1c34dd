// Time: stands still, in UTC, wherever the server is.

import { define } from './define.js';

const Real = Date;
let now = 0;

/** Has time stand still there. */
export const stop = (time) => {
  now = time;
};

const ZONED = /(?:z|gmt|utc|[+-]\d\d:?\d\d(?:\s*\(.*\))?)\s*$/i;
const DATE_ALONE = /^\s*[+-]?\d{4,6}(?:-\d\d(?:-\d\d)?)?\s*$/;
const parse = (text) => {
  const time = Real.parse(text);
  const local = !Number.isNaN(time) && !ZONED.test(text) && !DATE_ALONE.test(text);
  return local ? time - localOffset.call(new Real(time)) * 60000 : time;
};
const localOffset = Real.prototype.getTimezoneOffset;
function FrozenDate(...parts) {
  if (new.target === undefined) return new FrozenDate(now).toString();
  let date;
  if (parts.length === 0) date = new Real(now);
  else if (parts.length > 1) date = new Real(Real.UTC(...parts));
  else if (typeof parts[0] === 'string') date = new Real(parse(parts[0]));
  else if (parts[0] instanceof Real || typeof parts[0] !== 'object' || parts[0] === null) date = new Real(parts[0]);
  else {
    const primitive = parts[0][Symbol.toPrimitive] ? parts[0][Symbol.toPrimitive]('default') : parts[0].valueOf();
    date = new Real(typeof primitive === 'string' ? parse(primitive) : primitive);
  }
  Object.setPrototypeOf(date, new.target.prototype);
  return date;
}
Object.defineProperty(FrozenDate, 'name', { value: 'Date' });
Object.defineProperty(FrozenDate, 'length', { value: 7 });
FrozenDate.now = () => now;
FrozenDate.parse = (text) => parse(String(text));
FrozenDate.UTC = Real.UTC;
FrozenDate.prototype = Real.prototype;
Object.defineProperty(Real.prototype, 'constructor', { value: FrozenDate, writable: true, configurable: true });
for (const part of ['Date', 'Day', 'FullYear', 'Hours', 'Milliseconds', 'Minutes', 'Month', 'Seconds']) {
  Real.prototype['get' + part] = Real.prototype['getUTC' + part];
  if (part !== 'Day') Real.prototype['set' + part] = Real.prototype['setUTC' + part];
}
const DAYS = ['Sun', 'Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat'];
const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];
const two = (number) => String(number).padStart(2, '0');
const dateText = (date) =>
  `${DAYS[date.getUTCDay()]} ${MONTHS[date.getUTCMonth()]} ${two(date.getUTCDate())} ${String(date.getUTCFullYear()).padStart(4, '0')}`;
const timeText = (date) =>
  `${two(date.getUTCHours())}:${two(date.getUTCMinutes())}:${two(date.getUTCSeconds())} GMT+0000 (Coordinated Universal Time)`;
const valid = (date, text) => (Number.isNaN(date.getTime()) ? 'Invalid Date' : text(date));
Object.assign(Real.prototype, {
  getTimezoneOffset() { return Number.isNaN(this.getTime()) ? NaN : 0; },
  toString() { return valid(this, (date) => `${dateText(date)} ${timeText(date)}`); },
  toDateString() { return valid(this, dateText); },
  toTimeString() { return valid(this, timeText); },
  toLocaleString() { return valid(this, (date) => date.toISOString().slice(0, 19).replace('T', ' ')); },
  toLocaleDateString() { return valid(this, (date) => date.toISOString().slice(0, 10)); },
  toLocaleTimeString() { return valid(this, (date) => date.toISOString().slice(11, 19)); },
});
define('Date', FrozenDate);
