// Addresses: what the URL standard says of http and its like, with ASCII hosts; other schemes keep their rest as it is.

import { define, natives } from './define.js';
import './bytes.js';

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
