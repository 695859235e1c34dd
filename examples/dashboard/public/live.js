// Named queries over one stream, in one session: all of them move together, from one snapshot of the database to a later.
//
// Responsible for: the stream and its return, subscribing, taking in what changed.
// Leaves to others: what it looks like (main.js). The contract is docs/protocol.md, section 3.

/** How long to wait where the browser does not come back by itself, in ms. */
const RETRY_MS = 2_000;

/**
 * Subscribes to `queries`, an object of `{query, args}` by the names that the page has for them.
 *
 * `onMove(results, committedAt)` gets a Map with all results as of one moment: `{keys, rows, stale, error}` by name. The
 * first call comes when all have answered. `onState(state, words)` says how the connection is: "waiting", "live", "stale"
 * (what is shown may be old) or "error" (it will not come back).
 */
export function watch(queries, { onMove, onState }) {
  const results = new Map();
  const unanswered = new Set(); // In this session. Until it is empty, the page shows what it had, and no mixture.
  let stream = null;
  let token = null; // Stands for what has been taken in.
  let asOf = null; // When something came last.
  let beatMs = 15_000;
  let silence; // The timer that ends a stream on which nothing comes.
  connect();

  function connect() {
    clearTimeout(silence);
    stream?.close();
    stream = new EventSource(token === null ? '/api/sync' : `/api/sync?resume=${encodeURIComponent(token)}`);
    stream.addEventListener('hello', hear(hello));
    stream.addEventListener('transition', hear(transition));
    stream.addEventListener('goodbye', hear(goodbye));
    stream.addEventListener('error', lost);
  }

  /** Wraps a listener: an older stream says nothing any more, and what does not fit begins a new session. */
  function hear(listener) {
    const mine = stream;
    return (event) => {
      if (mine !== stream) return;
      clearTimeout(silence);
      silence = setTimeout(again, 2 * beatMs);
      try {
        listener(JSON.parse(event.data), event);
      } catch (error) {
        console.warn(error);
        startOver();
      }
    };
  }

  async function hello({ session, resumed, heartbeat_ms }) {
    beatMs = heartbeat_ms;
    if (resumed) return; // The subscriptions stand, and what was missed comes as one difference.
    token = null;
    const mine = stream;
    for (const name of Object.keys(queries)) unanswered.add(name);
    const subscribe = Object.entries(queries).map(([sub, reference]) => ({ sub, ...reference }));
    try {
      const response = await fetch(`/api/sync/${session}`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ subscribe }),
      });
      if (!response.ok) throw new Error(`the server answered with status ${response.status}`);
    } catch {
      if (mine === stream) startOver();
    }
  }

  function transition({ updates, committed_at }, event) {
    for (const update of updates) {
      results.set(update.sub, apply(results.get(update.sub), update));
      unanswered.delete(update.sub);
    }
    token = event.lastEventId;
    asOf = new Date();
    if (unanswered.size > 0) return;
    onState('live', 'live');
    if (updates.length > 0) onMove(new Map(results), committed_at);
  }

  function goodbye({ message, retry_ms }) {
    if (retry_ms !== null) return; // The browser comes back by itself.
    clearTimeout(silence);
    stream.close();
    stream = null;
    onState('error', `Closed: ${message}. Reload the page to connect again.`);
  }

  function lost({ target }) {
    if (target !== stream) return;
    clearTimeout(silence);
    sayLost();
    // It gives up on any answer that is not 200, a proxy's for instance; else it tries again by itself.
    if (stream.readyState === EventSource.CLOSED) silence = setTimeout(again, RETRY_MS);
  }

  function again() {
    sayLost();
    connect();
  }

  function startOver() {
    token = null;
    sayLost();
    clearTimeout(silence);
    stream.close();
    silence = setTimeout(connect, RETRY_MS);
  }

  function sayLost() {
    if (asOf === null) onState('waiting', 'Connecting');
    else onState('stale', `Reconnecting, showing data as of ${asOf.toLocaleTimeString()}`);
  }
}

/** Returns a result after an update of it; throws where the update can't be for it. */
function apply(before, update) {
  switch (update.type) {
    case 'snapshot':
      return { keys: update.keys, rows: update.value, stale: false, error: null };
    case 'diff':
      return { ...applyOps(before, update.ops), stale: false, error: null };
    case 'stale': // A slow query that was left behind. Its next update has it move with the others again.
      return { ...(before ?? { keys: [], rows: [] }), stale: true, error: null };
    case 'error':
      return { keys: [], rows: [], stale: false, error: update.error.message };
    default: // 'unchanged', or a kind from a later version.
      return { ...before, stale: false };
  }
}

/** The operations apply in order; `at` is the place right after each. */
function applyOps(before, ops) {
  const keys = [...before.keys];
  const rows = [...before.rows];
  for (const { op, key, at, row, set } of ops) {
    const index = keys.indexOf(key);
    if (index < 0 !== (op === 'insert')) throw new Error(`${op} of the row ${key} does not fit what is here`);
    if (op === 'update') {
      rows[index] = { ...rows[index], ...set };
      continue;
    }
    const moved = index < 0 ? row : rows[index];
    if (op !== 'insert') {
      keys.splice(index, 1);
      rows.splice(index, 1);
    }
    if (op !== 'remove') {
      keys.splice(at, 0, key);
      rows.splice(at, 0, moved);
    }
  }
  return { keys, rows };
}
