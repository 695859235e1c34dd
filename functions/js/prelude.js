// What a context has besides the language: all of it gives the same for the same call. It is evaluated first in each context;
// `natives` is what Rust put there, and is taken away again by `host.ts`.
(() => {
  const natives = globalThis.__convoyNatives;
  const define = (name, value) =>
    Object.defineProperty(globalThis, name, { value, writable: true, configurable: true, enumerable: false });

  // Chance: sfc32, filled from the call's seed.
  let a = 0, b = 0, c = 0, d = 1;
  const word = () => {
    const t = (((a + b) | 0) + d) | 0;
    d = (d + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = ((c << 21) | (c >>> 11)) + t | 0;
    return t >>> 0;
  };
  const fill = (low, high) => {
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

  // Time: stands still, in UTC, wherever the server is.
  const Real = Date;
  let now = 0;
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

  natives.begin = (time, low, high) => {
    now = time;
    fill(low, high);
  };
  natives.begin(natives.evaluatedAt, 0, 0);

  // Code is what was compiled. Libraries that would make more of it see that they can't: in a context that serves one call,
  // that never pays.
  const uncompiled = () => {
    throw new EvalError('code can\'t be made of text in functions');
  };
  define('eval', uncompiled);
  for (const sample of [function () {}, async function () {}, function* () {}, async function* () {}]) {
    const prototype = Object.getPrototypeOf(sample);
    const constructor = function () { uncompiled(); };
    Object.defineProperty(constructor, 'name', { value: prototype.constructor.name });
    Object.defineProperty(constructor, 'prototype', { value: prototype });
    Object.defineProperty(prototype, 'constructor', { value: constructor, configurable: true });
    if (constructor.name === 'Function') define('Function', constructor);
  }

  // What is missing says why.
  const absent = (name, instead) => define(name, function () {
    throw new Error(`${name} is not there in queries and mutations, which are run again at need: ${instead}`);
  });
  absent('setTimeout', 'nothing may happen later than the call; use a mutation for what is to happen');
  absent('setInterval', 'nothing may happen later than the call');
  absent('setImmediate', 'nothing may happen later than the call; await a promise instead');
  absent('fetch', 'they have no network; call the other service from your own backend and write the answer by a mutation');
  for (const name of ['clearTimeout', 'clearInterval', 'clearImmediate']) define(name, () => undefined);
  for (const name of ['performance', 'SharedArrayBuffer', 'Atomics', 'WeakRef', 'FinalizationRegistry', 'gc']) {
    delete globalThis[name];
  }

  // console: one line an entry, which goes to the host.
  const inspect = (value, depth, seen) => {
    if (typeof value === 'string') return depth === 0 ? value : JSON.stringify(value);
    if (typeof value === 'bigint') return `${value}n`;
    if (typeof value === 'function') return `[function ${value.name || 'anonymous'}]`;
    if (typeof value !== 'object' || value === null) return String(value);
    if (value instanceof Error) return `${value}${value.stack ? `\n${value.stack.trimEnd()}` : ''}`;
    if (value instanceof Real) return valid(value, (date) => date.toISOString());
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

  // Text and bytes.
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
    if (value instanceof Real) return keep(new Real(value.getTime()));
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

  // Addresses: what the URL standard says of http and its like, with ASCII hosts; other schemes keep their rest as it is.
  const decode = (text) => {
    const bytes = [];
    const encoded = new TextEncoder().encode(text.replaceAll('+', ' '));
    for (let i = 0; i < encoded.length; i++) {
      const hex = encoded[i] === 37 ? String.fromCharCode(encoded[i + 1], encoded[i + 2]) : '';
      if (/^[0-9a-f]{2}$/i.test(hex)) {
        bytes.push(parseInt(hex, 16));
        i += 2;
      } else bytes.push(encoded[i]);
    }
    return natives.decodeUtf8(bytes, false);
  };
  const encode = (text) =>
    Array.from(new TextEncoder().encode(text), (byte) => {
      const character = String.fromCharCode(byte);
      if (/[A-Za-z0-9*\-._]/.test(character)) return character;
      return character === ' ' ? '+' : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
    }).join('');
  class URLSearchParams {
    #pairs = [];
    #changed = () => undefined;
    constructor(from = '', changed) {
      if (changed) this.#changed = changed;
      if (typeof from === 'string') {
        for (const part of from.replace(/^\?/, '').split('&')) {
          if (part === '') continue;
          const at = part.indexOf('=');
          this.#pairs.push(at < 0 ? [decode(part), ''] : [decode(part.slice(0, at)), decode(part.slice(at + 1))]);
        }
      } else {
        const pairs = typeof from[Symbol.iterator] === 'function' ? from : Object.entries(from);
        for (const [key, value] of pairs) this.#pairs.push([String(key), String(value)]);
      }
    }
    get size() { return this.#pairs.length; }
    get(name) { return this.#pairs.find(([key]) => key === name)?.[1] ?? null; }
    getAll(name) { return this.#pairs.filter(([key]) => key === name).map(([, value]) => value); }
    has(name) { return this.#pairs.some(([key]) => key === name); }
    append(name, value) { this.#pairs.push([String(name), String(value)]); this.#changed(); }
    delete(name) { this.#pairs = this.#pairs.filter(([key]) => key !== name); this.#changed(); }
    set(name, value) {
      const at = this.#pairs.findIndex(([key]) => key === name);
      if (at < 0) this.#pairs.push([String(name), String(value)]);
      else {
        this.#pairs = this.#pairs.filter(([key], i) => key !== name || i === at);
        this.#pairs[at] = [String(name), String(value)];
      }
      this.#changed();
    }
    sort() { this.#pairs.sort(([x], [y]) => (x < y ? -1 : x > y ? 1 : 0)); this.#changed(); }
    forEach(each) { for (const [key, value] of this.#pairs) each(value, key, this); }
    *entries() { for (const pair of this.#pairs) yield [...pair]; }
    *keys() { for (const [key] of this.#pairs) yield key; }
    *values() { for (const [, value] of this.#pairs) yield value; }
    [Symbol.iterator]() { return this.entries(); }
    toString() { return this.#pairs.map(([key, value]) => `${encode(key)}=${encode(value)}`).join('&'); }
  }
  const PORTS = { 'http:': '80', 'https:': '443', 'ws:': '80', 'wss:': '443', 'ftp:': '21', 'file:': '' };
  const escape = (text, unsafe) =>
    text.replace(unsafe, (character) =>
      Array.from(new TextEncoder().encode(character), (byte) => `%${byte.toString(16).toUpperCase().padStart(2, '0')}`).join(''));
  const IN_PATH = /[\u0000-\u0020"<>`{}#?\u007f]|[^\u0000-\u007f]/gu;
  const IN_QUERY = /[\u0000-\u0020"<>#'\u007f]|[^\u0000-\u007f]/gu;
  const flatten = (path) => {
    const out = [];
    const segments = path.split('/').slice(1);
    segments.forEach((segment, i) => {
      const last = i === segments.length - 1;
      if (/^(?:\.|%2e){2}$/i.test(segment)) {
        out.pop();
        if (last) out.push('');
      } else if (/^(?:\.|%2e)$/i.test(segment)) {
        if (last) out.push('');
      } else out.push(segment);
    });
    return `/${out.join('/')}`;
  };
  const split = (rest) => {
    const [, body, search = '', hash = ''] = /^([^?#]*)(\?[^#]*)?(#.*)?$/s.exec(rest);
    return {
      body,
      search: search === '?' ? '' : escape(search, IN_QUERY),
      hash: hash === '#' ? '' : escape(hash, /[\u0000-\u0020"<>`\u007f]|[^\u0000-\u007f]/gu),
    };
  };
  const parseUrl = (given, base) => {
    const text = given.replace(/^[\u0000-\u0020]+|[\u0000-\u0020]+$/g, '').replace(/[\t\n\r]/g, '');
    const scheme = /^([a-z][a-z0-9+.-]*:)(.*)$/is.exec(text);
    const protocol = scheme ? scheme[1].toLowerCase() : base?.protocol;
    if (protocol === undefined) return undefined;
    const special = protocol in PORTS;
    if (!scheme && !special) return undefined;
    const { body: raw, search, hash } = split(scheme ? scheme[2] : text);
    const body = special ? raw.replaceAll('\\', '/') : raw;
    const parts = { protocol, username: '', password: '', hostname: '', port: '', pathname: '', search, hash, slashes: true };
    if (!scheme && !body.startsWith('//')) {
      const { username, password, hostname, port } = base;
      const folder = base.pathname.replace(/[^/]*$/, '');
      const path = body === '' ? base.pathname : body.startsWith('/') ? body : folder + body;
      const query = body === '' && search === '' ? base.search : search;
      return { ...parts, username, password, hostname, port, pathname: flatten(escape(path, IN_PATH)), search: query };
    }
    if (!special && !body.startsWith('//')) return { ...parts, pathname: escape(body, IN_PATH), slashes: false };
    const authority = /^\/*(?:([^/@]*)@)?(\[[0-9a-f:.]+\]|[^/:]*)(?::(\d*))?(\/.*)?$/is.exec(special && protocol !== 'file:' ? body : body.replace(/^\/\//, '\u0000').replace('\u0000', ''));
    if (!authority) return undefined;
    const [, login = '', host, port = '', path = ''] = authority;
    const hostname = special ? host.toLowerCase() : host;
    if (special && protocol !== 'file:' && hostname === '') return undefined;
    if (/[\u0000-\u0020"#%<>?@\\^`{|}\u007f]|[^\u0000-\u007f]/.test(hostname) || Number(port) > 65535) return undefined;
    const [username, password = ''] = login.split(/:(.*)/s);
    const plain = port === '' ? '' : String(Number(port));
    return {
      ...parts,
      username: escape(username, IN_PATH),
      password: escape(password, IN_PATH),
      hostname,
      port: plain === PORTS[protocol] ? '' : plain,
      pathname: special ? flatten(escape(path || '/', IN_PATH)) : escape(path, IN_PATH),
    };
  };
  class URL {
    #parts;
    #params;
    constructor(url, base) {
      this.#parts = parseUrl(String(url), base === undefined ? undefined : new URL(base).#parts);
      if (this.#parts === undefined) throw new TypeError(`Invalid URL: ${url}`);
    }
    static canParse(url, base) {
      try {
        return new URL(url, base) !== undefined;
      } catch {
        return false;
      }
    }
    static parse(url, base) { return URL.canParse(url, base) ? new URL(url, base) : null; }
    get href() {
      const { protocol, username, password, pathname, search, hash, slashes } = this.#parts;
      const login = username || password ? `${username}${password ? `:${password}` : ''}@` : '';
      return `${protocol}${slashes ? `//${login}${this.host}` : ''}${pathname}${search}${hash}`;
    }
    set href(value) { this.#parts = new URL(value).#parts; this.#params = undefined; }
    get origin() {
      const { protocol } = this.#parts;
      return protocol in PORTS && protocol !== 'file:' ? `${protocol}//${this.host}` : 'null';
    }
    get protocol() { return this.#parts.protocol; }
    get username() { return this.#parts.username; }
    get password() { return this.#parts.password; }
    get hostname() { return this.#parts.hostname; }
    get port() { return this.#parts.port; }
    get host() { return this.port ? `${this.hostname}:${this.port}` : this.hostname; }
    get pathname() { return this.#parts.pathname; }
    set pathname(value) { this.#parts.pathname = flatten(escape(`/${String(value).replace(/^\//, '')}`, IN_PATH)); }
    get search() { return this.#parts.search; }
    set search(value) {
      this.#parts.search = split(`?${String(value).replace(/^\?/, '')}`.replaceAll('#', '%23')).search;
      this.#params = undefined;
    }
    get hash() { return this.#parts.hash; }
    set hash(value) { this.#parts.hash = split(`#${String(value).replace(/^#/, '')}`).hash; }
    get searchParams() {
      return this.#params ??= new URLSearchParams(this.search, () => {
        const text = String(this.#params);
        this.#parts.search = text === '' ? '' : `?${text}`;
      });
    }
    toString() { return this.href; }
    toJSON() { return this.href; }
  }
  define('URLSearchParams', URLSearchParams);
  define('URL', URL);
  define('self', globalThis);
})();
