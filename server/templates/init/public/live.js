// One live query over an EventSource: its rows, kept up to date by what the server says has changed.

/** Calls `onRows(rows)` with the result, now and whenever it changes; `onState(state, words)` says how things stand. */
export function watch(name, args, { onRows, onState = () => {}, onError = () => {} }) {
  const url = `/api/query/${name}?args=${encodeURIComponent(JSON.stringify(args))}`;
  let keys = [];
  let rows = [];
  let asOf = null; // When the last transition came.
  let source = connect();
  return () => source.close();

  function connect() {
    const stream = new EventSource(url);
    stream.addEventListener('hello', () => onState('live', 'live'));
    stream.addEventListener('transition', (event) => {
      asOf = new Date();
      for (const update of JSON.parse(event.data).updates) apply(update);
    });
    stream.addEventListener('goodbye', (event) => {
      const { message, retry_ms } = JSON.parse(event.data);
      if (retry_ms !== null) return; // It comes back by itself, and goes on where it was.
      stream.close();
      onState('error', 'closed');
      onError(message);
    });
    stream.addEventListener('error', () => {
      if (stream.readyState === EventSource.CLOSED) {
        onState('error', 'closed');
        onError(`The server refused ${name}: its log says why. Reload the page to try again.`);
      } else {
        const words = asOf ? `reconnecting, showing data as of ${asOf.toLocaleTimeString()}` : 'connecting';
        onState(asOf ? 'stale' : 'waiting', words);
      }
    });
    return stream;
  }

  function apply(update) {
    switch (update.type) {
      case 'snapshot':
        keys = update.keys;
        rows = update.value;
        break;
      case 'diff':
        for (const op of update.ops) applyOp(op);
        break;
      case 'stale':
        return onState('stale', `stale since ${asOf.toLocaleTimeString()}`);
      case 'error':
        return onError(update.error.message);
      case 'unchanged':
        return onState('live', 'live');
      default:
        return; // A kind from a later version.
    }
    onState('live', 'live');
    onRows(rows);
  }

  /** `at` is the place right after the operation; the keys say which row is meant. */
  function applyOp(op) {
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
}
