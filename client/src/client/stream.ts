// Does what the machine says: requests, timers, and the reading of one stream.
//
// Responsible for: fetch, the watch over silence, credentials in headers, events in their order.
// Leaves to others: every decision (machine.ts), parsing (sse.ts), results (source.ts).

import { elapsedMs, now } from "./clock.js";
import { errorOfResponse } from "./errors.js";
import { INITIAL, hasStream, step, type Effect, type Event, type State } from "./machine.js";
import { SseParser } from "./sse.js";
import type { Goodbye, Hello, Transition, WireError } from "./wire.js";

export type FetchFunction = (input: string, init: RequestInit) => Promise<Response>;

export interface StreamOptions {
  /** The server's address, without a slash at its end; empty for the page's own. */
  readonly url: string;
  readonly fetch: FetchFunction;
  readonly credentials: RequestCredentials;
  /** Returns what identifies the caller; `fresh` where the server has refused what it was last given. */
  readonly headers: (fresh: boolean) => Promise<Record<string, string>>;
  readonly random: () => number;
}

/**
 * Returns the headers of one request. They come from functions of the application, which may never answer: `signal` ends
 * the wait, and what they answer later is nobody's.
 */
export async function headersOf(options: StreamOptions, fresh: boolean, signal: AbortSignal): Promise<Record<string, string>> {
  signal.throwIfAborted();
  let end = (): void => {};
  const ended = new Promise<never>((_, reject) => {
    end = () => reject(signal.reason);
    signal.addEventListener("abort", end);
  });
  try {
    const headers = await Promise.race([options.headers(fresh), ended]);
    signal.throwIfAborted(); // It may have been while they were made, and then they are perhaps another's.
    return headers;
  } finally {
    signal.removeEventListener("abort", end);
  }
}

/** Aborts after so long, and says what did not come. Returns the timer. */
export function timeLimit(abort: AbortController, ms: number, what: string): ReturnType<typeof setTimeout> {
  return setTimeout(() => abort.abort(new Error(`${what} did not come within ${ms} ms`)), ms);
}

/** Who has the results. */
export interface Sink {
  /** Takes in a whole transition, or throws and takes in nothing of it. */
  apply(transition: Transition): void;
  fail(subs: readonly string[], error: WireError): void;
  /** What is here is old until it is answered. */
  outdate(): void;
  /** What is here is not to be built upon. */
  doubt(): void;
  /** What is here is somebody else's. */
  forget(): void;
  /** What the result is known by that is here for `sub`. */
  digest(sub: string): string | null;
  moved(state: State): void;
}

export class Stream {
  #state: State;
  #queue: Event[] = [];
  #running = false;
  #options: StreamOptions;
  #sink: Sink;
  #abort: AbortController | null = null;
  #sleep: ReturnType<typeof setTimeout> | undefined;
  #watch: ReturnType<typeof setTimeout> | undefined;
  #watchMs = 0;
  #heardAt = now();
  readonly #begunAt = now();
  #sleptAt = now();
  #sleepMs = 0;

  /** `wasLive`: whether it goes on from another stream, and so reconnects from the first. */
  constructor(options: StreamOptions, sink: Sink, wasLive: boolean) {
    this.#state = wasLive ? { ...INITIAL, everLive: true } : INITIAL;
    this.#options = options;
    this.#sink = sink;
  }

  get state(): State {
    return this.#state;
  }

  /** The machine's clock: it never goes back. */
  get #clockMs(): number {
    return elapsedMs(this.#begunAt);
  }

  /** For how long nothing has come. */
  get silentMs(): number {
    return elapsedMs(this.#heardAt);
  }

  /** Whether a timer that was set has not fired by far: the browser has put the page to sleep. */
  get isOverdue(): boolean {
    if (hasStream(this.#state)) return this.silentMs > this.#watchMs + OVERDUE_MS;
    return this.#state.phase === "waiting" && elapsedMs(this.#sleptAt) > this.#sleepMs + OVERDUE_MS;
  }

  /** Events are taken one after the other, also those that come while one is being taken. */
  dispatch(event: Event): void {
    this.#queue.push(event);
    if (this.#running) return;
    this.#running = true;
    try {
      for (let next = this.#queue.shift(); next !== undefined; next = this.#queue.shift()) {
        const before = this.#state;
        const { state, effects } = step(before, next);
        this.#state = state;
        // Before anybody hears that the stream is live: what is here from before does not count as live.
        if (effects.some(({ type }) => type === "outdate")) this.#sink.outdate();
        if (state !== before) this.#sink.moved(state);
        for (const effect of effects) this.#do(effect);
      }
    } finally {
      this.#running = false;
    }
  }

  #do(effect: Effect): void {
    switch (effect.type) {
      case "open":
        void this.#read(effect);
        break;
      case "abort":
        this.#abort?.abort();
        this.#abort = null;
        clearTimeout(this.#watch);
        break;
      case "watch":
        this.#watchMs = effect.ms;
        this.#heardAt = now();
        this.#lookOut(this.#state.attempt, effect.ms);
        break;
      case "post":
        void this.#post(effect);
        break;
      case "apply":
        try {
          this.#sink.apply(effect.transition);
        } catch (error) {
          this.dispatch({ type: "misfit", attempt: effect.attempt, at: this.#clockMs, message: messageOf(error) });
        }
        break;
      case "fail":
        this.#sink.fail(effect.subs, effect.error);
        break;
      case "sleep": {
        const ms = effect.leastMs + 20 + this.#options.random() * effect.ceilingMs;
        this.#sleptAt = now();
        this.#sleepMs = ms;
        clearTimeout(this.#sleep);
        this.#sleep = setTimeout(() => this.dispatch({ type: "woke" }), ms);
        break;
      }
      case "unsleep":
        clearTimeout(this.#sleep);
        break;
      case "outdate":
        break; // Done already.
      case "doubt":
        this.#sink.doubt();
        break;
      case "forget":
        this.#sink.forget();
        break;
    }
  }

  /** Timers of a page in the background run late or not at all, so what counts is the clock. */
  #lookOut(attempt: number, ms: number): void {
    clearTimeout(this.#watch);
    this.#watch = setTimeout(() => {
      const left = this.#watchMs - this.silentMs;
      if (left > 0) this.#lookOut(attempt, left);
      else this.dispatch({ type: "timeout", attempt, at: this.#clockMs });
    }, ms);
  }

  async #read(effect: Effect & { type: "open" }): Promise<void> {
    const { attempt } = effect;
    this.#abort?.abort(); // A poll that is over, or a stream that was given up.
    const abort = new AbortController();
    this.#abort = abort;
    try {
      const have: Record<string, string> = {};
      for (const { sub } of effect.subscribe) {
        const digest = this.#sink.digest(sub);
        if (digest !== null) have[sub] = digest;
      }
      const body = { ...(effect.resume === null ? {} : { resume: effect.resume }), subscribe: effect.subscribe, have };
      const poll = effect.poll === null ? "" : `&poll=${effect.poll}`;
      const response = await this.#options.fetch(`${this.#options.url}/api/sync?numbers=string${poll}`, {
        method: "POST",
        headers: {
          ...(await headersOf(this.#options, effect.fresh, abort.signal)),
          "content-type": "application/json",
          accept: "text/event-stream",
        },
        body: JSON.stringify(body),
        signal: abort.signal,
        cache: "no-store",
        credentials: this.#options.credentials,
      });
      if (response.status !== 200 || response.body === null) {
        const { code, message, data } = await errorOfResponse(response);
        this.dispatch({ type: "refused", attempt, status: response.status, error: { code, message, data } });
        return;
      }
      this.#heardAt = now();
      this.dispatch({ type: "opened", attempt });
      const parser = new SseParser({
        onEvent: ({ type, data, id }) => this.#event(attempt, type, data, id),
        onRetry: (ms) => this.dispatch({ type: "retry", attempt, ms }),
      });
      const decoder = new TextDecoder();
      const reader = response.body.getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        if (this.#abort === abort) this.#heardAt = now();
        parser.push(decoder.decode(value, { stream: true }));
      }
      this.dispatch({ type: "ended", attempt, at: this.#clockMs, message: "the stream ended" });
    } catch (error) {
      abort.abort();
      if (error instanceof SyntaxError) this.dispatch({ type: "misfit", attempt, at: this.#clockMs, message: error.message });
      else this.dispatch({ type: "ended", attempt, at: this.#clockMs, message: messageOf(error) });
    }
  }

  #event(attempt: number, type: string, data: string, id: string): void {
    if (attempt !== this.#state.attempt) return;
    switch (type) {
      case "hello":
        this.dispatch({ type: "hello", attempt, at: this.#clockMs, hello: JSON.parse(data) as Hello });
        break;
      case "transition":
        this.dispatch({ type: "transition", attempt, id, transition: JSON.parse(data) as Transition });
        break;
      case "goodbye":
        this.dispatch({ type: "goodbye", attempt, at: this.#clockMs, goodbye: JSON.parse(data) as Goodbye });
        break;
    }
  }

  async #post({ id, session, subscribe, unsubscribe }: Effect & { type: "post" }): Promise<void> {
    const have: Record<string, string> = {};
    for (const { sub } of subscribe) {
      const digest = this.#sink.digest(sub);
      if (digest !== null) have[sub] = digest;
    }
    const { status, error } = await this.#tell(session, { subscribe, have, unsubscribe });
    this.dispatch({ type: "posted", id, status, error });
  }

  /** Returns whether the session is still that of the credentials there are now; null where there is no answer. */
  async isOurs(session: string): Promise<boolean | null> {
    const { status } = await this.#tell(session, {});
    if (status >= 200 && status < 300) return true;
    return [401, 403, 404].includes(status) ? false : null;
  }

  /** Posts to the session; status 0 where no answer came. */
  async #tell(session: string, body: object): Promise<{ status: number; error: WireError | null }> {
    const abort = new AbortController();
    const timer = timeLimit(abort, POST_TIMEOUT_MS, "the answer to a change of the session");
    try {
      const response = await this.#options.fetch(
        `${this.#options.url}/api/sync/${encodeURIComponent(session)}?numbers=string`,
        {
          method: "POST",
          headers: { ...(await headersOf(this.#options, false, abort.signal)), "content-type": "application/json" },
          body: JSON.stringify(body),
          signal: abort.signal,
          credentials: this.#options.credentials,
        },
      );
      const { status } = response;
      if (status >= 300) {
        const { code, message, data } = await errorOfResponse(response);
        return { status, error: { code, message, data } };
      }
      await response.body?.cancel(); // The connection is free for the next.
      return { status, error: null };
    } catch (reason) {
      return { status: 0, error: { code: "UNAVAILABLE", message: messageOf(reason) } };
    } finally {
      clearTimeout(timer);
    }
  }
}

const POST_TIMEOUT_MS = 20_000;
const OVERDUE_MS = 2_000;

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
