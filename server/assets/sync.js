// One session with a Convoy server: `POST /api/sync` read as a stream, resumed when it breaks,
// and the results of its subscriptions, always all from one point in the commit order.
//
// Responsible for: connecting, the heartbeat's watch, resume and reconnect with jitter, subscribing again.
// Leaves to others: parsing (sse.js), applying (diff.js), and every question of how it looks.

import { LOADING, MisfitError, applyUpdate } from "./diff.js";
import { SseParser } from "./sse.js";

const RETRY_FIRST_MS = 250;
const RETRY_MAX_MS = 10_000;
/** Before `hello` has said how often the server's heart beats. */
const HELLO_TIMEOUT_MS = 20_000;
/** A stream that lived this long ended for a new reason; a shorter one counts as one more failure in a row. */
const STEADY_MS = 5_000;

/** Returns the wait before attempt `failures` (1, 2, …): full jitter, so that a crowd does not come back at once. */
export function retryDelay(failures, random = Math.random) {
  const ceiling = Math.min(RETRY_MAX_MS, RETRY_FIRST_MS * 2 ** (failures - 1));
  return 50 + random() * ceiling;
}

/** Orders two LSNs in Postgres' text form: negative, zero or positive. */
export function compareLsn(a, b) {
  const [aHigh, aLow] = a.split("/").map((half) => Number.parseInt(half, 16));
  const [bHigh, bLow] = b.split("/").map((half) => Number.parseInt(half, 16));
  return aHigh - bHigh || aLow - bLow;
}

export class Sync {
  /** Sub → its result (diff.js). Replaced, never changed in place; all of them move in one turn. */
  results = new Map();
  /** `{word, since, message, asOf}`; word is "connecting", "live", "reconnecting" or "closed". */
  connection = { word: "connecting", since: Date.now(), message: "", asOf: null };
  /** From `hello`. */
  heartbeatMs = null;

  #references = new Map(); // sub → {reference, session}: the session that has been told of it, or null
  #options;
  #session = null;
  #token = null;
  #asOf = null; // Wall clock, in ms, when the last transition came.
  #stopped = true;
  #abort = null;
  #wake = null;
  #retryMs = null; // Set by `retry:`; the least wait.

  /**
   * @param url          the sync endpoint, without a query string.
   * @param onConnection called with `connection` whenever its word or message changes.
   * @param onTransition called with `{transition, changed}` after a transition was applied; `changed` is a Set of subs.
   * @param fetch, random, pause  replaceable by tests.
   */
  constructor({ url = "api/sync", onConnection = () => {}, onTransition = () => {}, fetch, random = Math.random, pause } = {}) {
    this.#options = {
      url,
      onConnection,
      onTransition,
      fetch: fetch ?? ((...args) => globalThis.fetch(...args)),
      random,
      pause: pause ?? ((ms) => this.#sleep(ms)),
    };
  }

  /** Adds a subscription; a `sub` is used once in the life of this object. */
  subscribe(sub, reference) {
    if (this.#references.has(sub)) throw new Error(`the subscription ${sub} is there already`);
    this.#references.set(sub, { reference, session: null });
    this.results.set(sub, LOADING);
    if (this.#session !== null) this.#tell();
  }

  unsubscribe(sub) {
    const known = this.#references.get(sub);
    this.#references.delete(sub);
    this.results.delete(sub);
    if (known && known.session !== null && known.session === this.#session) {
      this.#post({ unsubscribe: [sub] }).catch(() => this.#breakOff());
    }
  }

  /** Connects, and stays connected until `stop` or a `goodbye` that says not to come back. */
  async start() {
    this.#stopped = false;
    let failures = 0;
    while (!this.#stopped) {
      const began = Date.now();
      const end = await this.#connectOnce();
      if (this.#stopped) return;
      if (end.closed) {
        this.#stopped = true;
        this.#say("closed", end.message);
        return;
      }
      failures = Date.now() - began > STEADY_MS ? 1 : failures + 1;
      this.#say("reconnecting", end.message);
      if (end.atOnce) continue;
      const least = end.retryMs ?? this.#retryMs ?? 0;
      await this.#options.pause(least + retryDelay(failures, this.#options.random));
    }
  }

  stop() {
    this.#stopped = true;
    this.#abort?.abort();
    this.#wake?.();
  }

  /** Tries again now: the network came back, or somebody looks at the page again. */
  hurry() {
    this.#wake?.();
  }

  /** Runs one stream to its end; returns how it ended, never throws. */
  async #connectOnce() {
    const end = { greeted: false, closed: false, retryMs: null, atOnce: false, message: "" };
    const abort = new AbortController();
    this.#abort = abort;
    let watch = null;
    const alive = () => {
      clearTimeout(watch);
      const limit = end.greeted && this.heartbeatMs ? this.heartbeatMs * 2 : HELLO_TIMEOUT_MS;
      watch = setTimeout(() => abort.abort(new Error(`nothing came from the server for ${Math.round(limit / 1000)} s`)), limit);
    };
    try {
      alive();
      const resumed = this.#token !== null;
      const body = resumed ? { resume: this.#token } : this.#envelope("opening");
      const response = await this.#options.fetch(`${this.#options.url}?numbers=string`, {
        method: "POST",
        headers: { "content-type": "application/json", accept: "text/event-stream" },
        body: JSON.stringify(body),
        signal: abort.signal,
        cache: "no-store",
      });
      if (response.status !== 200) {
        await this.#refused(response, resumed, end);
        return end;
      }
      const parser = new SseParser({
        onEvent: (event) => this.#event(event, end),
        onRetry: (ms) => (this.#retryMs = Math.min(ms, 60_000)),
      });
      const decoder = new TextDecoder();
      const reader = response.body.getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        alive();
        parser.push(decoder.decode(value, { stream: true }));
        if (end.goodbye) break;
      }
      reader.cancel().catch(() => {});
      end.message ||= "the stream ended";
    } catch (error) {
      if (error instanceof MisfitError || error instanceof SyntaxError) {
        // What is on the screen may be wrong from here on: start over, and build upon nothing.
        this.#token = null;
        for (const [sub, result] of this.results) this.results.set(sub, { ...result, digest: null });
      }
      end.message = abort.signal.reason?.message ?? error.message;
    } finally {
      clearTimeout(watch);
      abort.abort(); // Whatever ended it, the connection is not left open.
      this.#session = null;
    }
    return end;
  }

  async #refused(response, resumed, end) {
    const answer = await response.json().catch(() => null);
    end.message = answer?.error?.message ?? `the server answered with status ${response.status}`;
    if (response.status === 404 && resumed) {
      this.#token = null; // The session is gone; a new one is not.
      end.atOnce = true;
    } else if (response.status === 204 || (response.status >= 400 && response.status < 500 && response.status !== 408 && response.status !== 429)) {
      end.closed = true;
    }
  }

  #event({ type, data, id }, end) {
    if (type === "hello") {
      const hello = JSON.parse(data);
      end.greeted = true;
      this.heartbeatMs = hello.heartbeat_ms;
      this.#session = hello.session;
      for (const known of this.#references.values()) {
        // Told in the opening body, or still standing from before the break.
        if (known.session === "opening" || (hello.resumed && known.session !== null)) known.session = hello.session;
        else known.session = null;
      }
      if (!hello.resumed) this.#token = null;
      this.#say("live");
      this.#tell();
    } else if (type === "transition") {
      this.#transition(JSON.parse(data));
      if (id) this.#token = id; // Only now: what a token stands for has been applied.
    } else if (type === "goodbye") {
      const goodbye = JSON.parse(data);
      end.goodbye = true;
      end.closed = goodbye.retry_ms === null;
      end.retryMs = goodbye.retry_ms;
      end.message = goodbye.message;
      if (!goodbye.resume) this.#token = null;
    }
  }

  #transition(transition) {
    // All or nothing: a misfit in the last update must not leave the first ones applied.
    const next = new Map();
    for (const update of transition.updates) {
      const before = next.get(update.sub) ?? this.results.get(update.sub);
      if (before !== undefined) next.set(update.sub, applyUpdate(before, update));
    }
    for (const [sub, result] of next) this.results.set(sub, result);
    this.#asOf = Date.now();
    this.connection.asOf = this.#asOf;
    this.#options.onTransition({ transition, changed: new Set(next.keys()) });
  }

  /** Returns the body that subscribes what no session knows of yet, and marks it as told. */
  #envelope(session) {
    const subscribe = [];
    const have = {};
    for (const [sub, known] of this.#references) {
      const result = this.results.get(sub);
      if (session === "opening") known.session = null;
      if (known.session !== null || result.error?.final) continue;
      known.session = session;
      subscribe.push({ sub, ...known.reference });
      if (result.digest !== null) have[sub] = result.digest;
    }
    return { subscribe, have };
  }

  #tell() {
    const body = this.#envelope(this.#session);
    if (body.subscribe.length > 0) this.#post(body).catch(() => this.#breakOff());
  }

  async #post(body) {
    const response = await this.#options.fetch(`${this.#options.url}/${encodeURIComponent(this.#session)}?numbers=string`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(HELLO_TIMEOUT_MS),
    });
    if (response.status !== 202) throw new Error(`the server answered with status ${response.status}`);
  }

  /** The server does not know what we know: a new session puts both at the same place. */
  #breakOff() {
    this.#token = null;
    this.#abort?.abort(new Error("the session could not be told of a change"));
  }

  #say(word, message = "") {
    if (this.connection.word === word && this.connection.message === message) return;
    const since = this.connection.word === word ? this.connection.since : Date.now();
    this.connection = { word, since, message, asOf: this.#asOf };
    this.#options.onConnection(this.connection);
  }

  #sleep(ms) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}
