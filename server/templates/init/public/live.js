// Live queries over one stream, which all tabs of a browser share: a browser opens six connections to a server at most, so
// that the seventh tab with one of its own would wait for ever. A SharedWorker has the stream: it runs this file, too.

/** Calls `onRows(rows)` with the result, now and whenever it changes; `onState(state, words)` says how things stand. */
export function watch(name, args, { onRows, onState = () => {}, onError = () => {} }) {
  const tell = ({ rows, state, error }) => {
    if (state !== undefined) onState(...state);
    if (rows !== undefined) onRows(rows);
    if (error !== undefined) onError(error);
  };
  // Some browsers have no such workers: then the page has a stream itself.
  if (typeof SharedWorker !== 'function') return (ownHub ??= new Hub()).watch(name, args, tell);
  return ask(name, args, tell);
}

let ownHub = null;
let port = null;
let asked = 0;
const watches = new Map(); // by their number: what was asked, and who is told

function ask(name, args, tell) {
  if (port === null) {
    port = new SharedWorker(new URL('./live.js', import.meta.url), { type: 'module' }).port;
    port.onmessage = ({ data: { id, ...news } }) => watches.get(id)?.tell(news);
    // A page that goes says so, since its port would not; one that comes back from the browser's history asks again.
    addEventListener('pagehide', () => port.postMessage({ type: 'leave' }));
    addEventListener('pageshow', ({ persisted }) => {
      if (persisted) for (const [id, { name, args }] of watches) port.postMessage({ type: 'watch', id, name, args });
    });
  }
  const id = ++asked;
  watches.set(id, { name, args, tell });
  port.postMessage({ type: 'watch', id, name, args });
  return () => {
    watches.delete(id);
    port.postMessage({ type: 'end', id });
  };
}

/** The queries that anybody watches, and the stream that keeps them up to date. */
class Hub {
  queries = new Map(); // by name and arguments
  bySub = new Map(); // by what they are called in the session: a name is used once
  source = null;
  session = null;
  names = 0;
  asOf = null; // When the last transition came.
  state = ['waiting', 'connecting'];

  watch(name, args, tell) {
    const key = JSON.stringify([name, args]);
    let query = this.queries.get(key);
    if (query === undefined) {
      query = { name, args, sub: null, digest: undefined, keys: [], rows: undefined, error: undefined, tellers: new Set() };
      this.queries.set(key, query);
      this.subscribe([query]);
    }
    query.tellers.add(tell);
    tell({ state: this.state, rows: query.rows, error: query.error });
    if (this.source === null || this.source.readyState === EventSource.CLOSED) this.connect();
    return () => {
      query.tellers.delete(tell);
      if (query.tellers.size > 0 || this.queries.get(key) !== query) return;
      this.queries.delete(key);
      this.bySub.delete(query.sub);
      if (this.queries.size === 0) this.disconnect();
      else if (query.sub !== null) this.post({ unsubscribe: [query.sub] });
    };
  }

  connect() {
    const source = new EventSource('/api/sync');
    this.source = source;
    source.addEventListener('hello', (event) => {
      const { session, resumed } = JSON.parse(event.data);
      this.say('live', 'live');
      if (resumed && session === this.session) return;
      this.session = session;
      this.bySub.clear();
      this.subscribe([...this.queries.values()]);
    });
    source.addEventListener('transition', (event) => {
      this.asOf = new Date();
      for (const update of JSON.parse(event.data).updates) this.update(update);
    });
    source.addEventListener('goodbye', (event) => {
      const { message, retry_ms } = JSON.parse(event.data);
      if (retry_ms === null) this.fail(message); // Else it comes back by itself, and goes on where it was.
    });
    source.addEventListener('error', () => {
      if (source !== this.source) return;
      if (source.readyState === EventSource.CLOSED) return this.fail('The server refused the stream: its log says why. Reload the page to try again.');
      const words = this.asOf ? `reconnecting, showing data as of ${this.asOf.toLocaleTimeString()}` : 'connecting';
      this.say(this.asOf ? 'stale' : 'waiting', words);
    });
  }

  disconnect() {
    this.source?.close();
    this.source = this.session = this.asOf = null;
    this.bySub.clear();
    this.state = ['waiting', 'connecting'];
  }

  fail(message) {
    this.source.close();
    this.say('error', 'closed');
    for (const { tellers } of this.queries.values()) for (const tell of tellers) tell({ error: message });
  }

  say(...state) {
    this.state = state;
    for (const { tellers } of this.queries.values()) for (const tell of tellers) tell({ state });
  }

  subscribe(queries) {
    if (this.session === null || queries.length === 0) return;
    const have = {};
    const subscribe = queries.map((query) => {
      query.sub = `q${++this.names}`;
      this.bySub.set(query.sub, query);
      if (query.digest !== undefined) have[query.sub] = query.digest;
      return { sub: query.sub, query: query.name, args: query.args };
    });
    this.post({ subscribe, have });
  }

  /** Tells the session; where that fails, a new one is told everything. */
  async post(change) {
    const { source, session } = this;
    if (session === null) return;
    try {
      const response = await fetch(`/api/sync/${session}`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(change),
      });
      if (response.ok || source !== this.source) return;
    } catch {
      if (source !== this.source) return;
    }
    source.close();
    setTimeout(() => {
      if (source !== this.source) return;
      this.session = null;
      this.connect();
    }, 1_000);
  }

  update(update) {
    const query = this.bySub.get(update.sub);
    if (query === undefined) return;
    let news = { state: ['live', 'live'] };
    switch (update.type) {
      case 'snapshot':
        Object.assign(query, { keys: update.keys, rows: update.value, error: undefined });
        break;
      case 'diff':
        for (const op of update.ops) applyOp(query, op);
        break;
      case 'unchanged':
        break;
      case 'stale':
        news = { state: ['stale', `stale since ${this.asOf.toLocaleTimeString()}`] };
        break;
      case 'error':
        query.error = update.error.message;
        news = { error: query.error };
        break;
      default:
        return; // A kind from a later version.
    }
    if (update.digest !== undefined) {
      query.digest = update.digest;
      news.rows = query.rows;
    }
    for (const tell of query.tellers) tell(news);
  }
}

/** `at` is the place right after the operation; the keys say which row is meant. */
function applyOp({ keys, rows }, op) {
  const index = keys.indexOf(op.key);
  switch (op.op) {
    case 'insert':
      keys.splice(op.at, 0, op.key);
      rows.splice(op.at, 0, op.row);
      break;
    case 'remove':
      keys.splice(index, 1);
      rows.splice(index, 1);
      break;
    case 'update':
      rows[index] = { ...rows[index], ...op.set };
      break;
    case 'move':
      keys.splice(op.at, 0, ...keys.splice(index, 1));
      rows.splice(op.at, 0, ...rows.splice(index, 1));
      break;
  }
}

// In the worker: each page has a port, and says what it watches.
if (typeof document === 'undefined') {
  const hub = new Hub();
  addEventListener('connect', ({ ports: [page] }) => {
    const ends = new Map();
    page.onmessage = ({ data: { type, id, name, args } }) => {
      if (type === 'watch') return ends.set(id, hub.watch(name, args, (news) => page.postMessage({ id, ...news })));
      for (const key of type === 'leave' ? [...ends.keys()] : [id]) {
        ends.get(key)?.();
        ends.delete(key);
      }
    };
  });
}
