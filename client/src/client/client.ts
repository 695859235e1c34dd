// The client: queries that stay up to date, queries asked once, mutations.
//
// Responsible for: sharing one subscription among equal queries, what each shows, telling listeners after everything
// has moved, the order of mutations.
// Leaves to others: results (source.ts), layers (optimistic.ts), requests (requests.ts), many tabs (tabs.ts).

import {
  getFunctionName,
  type FunctionArgs,
  type FunctionReturnType,
  type MutationRef,
  type OptionalRestArgs,
  type QueryRef,
} from "../api.js";
import { canonicalJson, keyOf } from "./canonical.js";
import { elapsedMs, now, type Moment } from "./clock.js";
import { ConvoyError, errorFromWire } from "./errors.js";
import type { ConnectionState } from "./machine.js";
import { Optimistic, type Base, type OptimisticUpdate } from "./optimistic.js";
import { Paginator, type PaginatedOptions } from "./paginate.js";
import { ask, uuid } from "./requests.js";
import type { Result } from "./results.js";
import { share } from "./share.js";
import type { Connection, Listener, Source } from "./source.js";
import type { StreamOptions } from "./stream.js";
import { compareLsn, type WireError } from "./wire.js";

/** What a query shows at one moment. Replaced when something changes, never changed in place. */
export interface QueryState<T> {
  /** The newest result; undefined until there is one. What did not change keeps its identity. */
  readonly data: T | undefined;
  /** The error that stands in place of a newer result, or null. */
  readonly error: ConvoyError | null;
  /** Whether there is neither a result nor an error yet. */
  readonly isLoading: boolean;
  /** Whether `data` may be older than the rest: the query is slow and was left behind, it failed, or there is no stream. */
  readonly isStale: boolean;
  readonly isReconnecting: boolean;
  readonly connectionState: ConnectionState;
}

/** One query with its arguments, which can be looked at and listened to. */
export interface Watch<T> {
  /** Equal for equal queries with equal arguments. */
  readonly key: string;
  /** Returns what the query shows; the same object until something changes. */
  getCurrent(): QueryState<T>;
  /** Subscribes, and calls back after each change. Returns what ends it. */
  onUpdate(callback: () => void): () => void;
  /** Asks anew, and returns what the answer is. */
  refetch(): Promise<T>;
}

export interface MutationOptions<Args> {
  /** Shows at once what the mutation will do; it is undone if the mutation fails, and gives way to its result. */
  readonly optimisticUpdate?: OptimisticUpdate<Args> | undefined;
}

interface Entry {
  readonly key: string;
  readonly name: string;
  readonly args: unknown;
  readonly listeners: Set<() => void>;
  /** Ends the subscription some time after the last listener has gone. */
  linger: ReturnType<typeof setTimeout> | undefined;
  state: QueryState<unknown>;
  wasOptimistic: boolean;
  /** Wait for the next answer. */
  readonly waiting: Waiter[];
}

interface Waiter {
  resolve(data: unknown): void;
  reject(error: ConvoyError): void;
}

export interface ClientParts {
  readonly request: StreamOptions;
  readonly source: (listener: Listener) => Source;
  readonly cacheKey: string | null;
  readonly lingerMs: number;
  readonly patienceMs: number;
  /** Is called with the source on first use, and returns what is to be undone at the end. */
  readonly attach: (source: Source) => () => void;
}

export class ConvoyClient {
  readonly #parts: ClientParts;
  readonly #entries = new Map<string, Entry>();
  readonly #optimistic = new Optimistic();
  readonly #base: Base;
  readonly #connectionListeners = new Set<() => void>();
  readonly #identityListeners = new Set<() => void>();
  #identityVersion = 0;
  /** From `identityChanged` until the source has forgotten too: what it has is somebody else's. */
  #isForgetting = false;
  /** For as long as the same user is logged in, or nobody, and the client is not closed. */
  #user = new AbortController();
  #isClosed = false;
  #source: Source | null = null;
  #detach: () => void = () => {};
  #connection: Connection = { state: "connecting", error: null };
  /** What a query shows that nobody subscribes to. */
  #unseen: QueryState<unknown>;
  /** The mutation that was called last: the next one begins when it is over. */
  #lastMutation: Promise<unknown> = Promise.resolve();
  /** When a mutation was last answered: those behind it were not kept by a server that is away. */
  #heard: Moment = now();

  constructor(parts: ClientParts) {
    this.#parts = parts;
    this.#unseen = this.#show(undefined, undefined);
    this.#base = {
      value: (key) => this.#result(key)?.value,
      has: (key) => this.#entries.has(key),
      isBehind: (key, lsn) => {
        const result = this.#result(key);
        if (result === undefined || result.status === "loading") return true;
        if (result.status !== "stale") return false;
        return lsn === null || !result.staleSince || compareLsn(result.staleSince, lsn) < 0;
      },
      queries: (name) => [...this.#entries.values()].filter((entry) => entry.name === name),
    };
  }

  /** Asks once. */
  async query<R extends QueryRef>(reference: R, ...[args]: OptionalRestArgs<R>): Promise<FunctionReturnType<R>> {
    return (await this.#ask(getFunctionName(reference), canonicalJson(args ?? {}))) as FunctionReturnType<R>;
  }

  /**
   * Runs a mutation; its transaction is committed when the promise resolves. It runs exactly once, however often it has
   * to be sent. Mutations of one client run in the order in which they were called.
   *
   * @throws ConvoyError with the code that the function threw, or the server's; `UNAVAILABLE` where it has no answer when
   *   `identityChanged` is called: it is never sent as somebody else's.
   */
  async mutation<R extends MutationRef>(
    reference: R,
    ...[args, options]: [...OptionalRestArgs<R>, options?: MutationOptions<FunctionArgs<R>>]
  ): Promise<FunctionReturnType<R>> {
    const name = getFunctionName(reference);
    // What is sent is what was given at the call, whatever its turn is. Throws before anything is shown.
    const body = canonicalJson(args ?? {});
    const id = uuid();
    const update = options?.optimisticUpdate;
    if (update !== undefined) {
      const layer = {
        id,
        update: (store: Parameters<typeof update>[0]) => update(store, JSON.parse(body) as FunctionArgs<R>),
        lsn: null,
        isReflected: false,
        keys: new Set<string>(),
      };
      this.#changed(this.#optimistic.push(layer, this.#base));
    }
    const extra = (): Record<string, string> => {
      const session = this.#source?.session ?? null;
      return { "x-convoy-mutation": id, ...(session === null ? {} : { "x-convoy-session": session }) };
    };
    const called = now();
    const { signal } = this.#user; // Of who calls, and not of whoever is logged in when it is its turn.
    const turn = this.#lastMutation.then(() =>
      ask(this.#parts.request, "mutation", name, body, {
        patienceMs: this.#parts.patienceMs,
        since: () => (elapsedMs(this.#heard) < elapsedMs(called) ? this.#heard : called),
        isStrict: true,
        extra,
        signal: () => signal,
      }),
    );
    this.#lastMutation = turn.then(
      () => (this.#heard = now()),
      (error) => {
        if (!(error instanceof ConvoyError) || error.code !== "UNAVAILABLE") this.#heard = now();
      },
    );
    try {
      const answer = await turn;
      this.#answered(id, answer.lsn);
      return answer.value as FunctionReturnType<R>;
    } catch (error) {
      this.#changed(this.#optimistic.remove(id, this.#base));
      throw error;
    }
  }

  /** Returns a query that can be looked at and listened to. It is subscribed to while somebody listens. */
  watchQuery<R extends QueryRef>(reference: R, ...[args]: OptionalRestArgs<R>): Watch<FunctionReturnType<R>> {
    const name = getFunctionName(reference);
    // Key and arguments of one text, taken once: the caller's object may change, and JSON can't say all that it may hold.
    const argsText = canonicalJson(args ?? {});
    const key = keyOf(name, argsText);
    return {
      key,
      getCurrent: () => (this.#entries.get(key)?.state ?? this.#unseen) as QueryState<FunctionReturnType<R>>,
      onUpdate: (callback) => this.#listen(key, name, argsText, callback),
      refetch: () => this.#refetch(key, name, argsText) as Promise<FunctionReturnType<R>>,
    };
  }

  /** Calls back with each new result. Returns what ends it. */
  subscribe<R extends QueryRef>(
    reference: R,
    args: FunctionArgs<R>,
    onData: (data: FunctionReturnType<R>) => void,
    onError: (error: ConvoyError) => void = () => {},
  ): () => void {
    const watch = this.watchQuery(reference, args);
    let isOver = false;
    let data: unknown;
    let error: ConvoyError | null = null;
    const tell = (): void => {
      if (isOver) return;
      const state = watch.getCurrent();
      const isNews = state.data !== undefined && !Object.is(state.data, data);
      const isError = state.error !== null && state.error !== error;
      data = state.data;
      error = state.error;
      if (isNews) onData(state.data as FunctionReturnType<R>);
      if (isError && !isOver) onError(state.error as ConvoyError);
    };
    const end = watch.onUpdate(tell);
    queueMicrotask(() => tellAll([tell])); // What is there already.
    return () => {
      isOver = true;
      end();
    };
  }

  /** Returns a list that grows page by page, and stays gapless while rows come and go. */
  paginate<R extends QueryRef>(reference: R, args: Omit<FunctionArgs<R>, "paginationOpts">, options: PaginatedOptions): Paginator {
    return new Paginator(this, reference, args, options);
  }

  /** What any query shows that is not subscribed to; the same object until the connection's state changes. */
  get unsubscribed(): QueryState<never> {
    return this.#unseen as QueryState<never>;
  }

  get connectionState(): ConnectionState {
    return this.#connection.state;
  }

  /** Why there is no stream, where that is known. */
  get connectionError(): ConvoyError | null {
    return this.#connection.error === null ? null : errorFromWire(this.#connection.error);
  }

  /** Calls back when the connection's state changes. Returns what ends it. */
  onConnectionChange(callback: () => void): () => void {
    return listen(this.#connectionListeners, callback);
  }

  /** What keys in a cache of TanStack Query begin with, where it was given. */
  get cacheKey(): string | null {
    return this.#parts.cacheKey;
  }

  /** Counts the calls of `identityChanged`: what was kept at another number is another user's. */
  get identityVersion(): number {
    return this.#identityVersion;
  }

  /** Calls back when somebody else is logged in, and all results are forgotten. Returns what ends it. */
  onIdentityChange(callback: () => void): () => void {
    return listen(this.#identityListeners, callback);
  }

  /**
   * Says that somebody else is logged in, or nobody: forgets all results, and asks for them with the new credentials.
   * Mutations that have no answer yet are given up with `UNAVAILABLE`.
   */
  identityChanged(): void {
    if (this.#isClosed) return;
    const before = this.#user;
    this.#user = new AbortController();
    before.abort(new ConvoyError("UNAVAILABLE", "somebody else is logged in since the call"));
    this.#lastMutation = Promise.resolve();
    this.#identityVersion += 1;
    this.#isForgetting = this.#source !== null;
    this.#optimistic.clear();
    this.#changed(new Set(this.#entries.keys()));
    // At once, but for a call by a listener: then when all have heard of what they are just told.
    this.#source?.renew();
    tellAll(this.#identityListeners);
  }

  /** Ends everything. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#user.abort(CLOSED);
    this.#detach();
    this.#source?.close();
    this.#connected({ state: "closed", error: null });
    for (const entry of this.#entries.values()) {
      clearTimeout(entry.linger);
      this.#refuse(entry, CLOSED);
    }
  }

  #listen(key: string, name: string, argsText: string, callback: () => void): () => void {
    let entry = this.#entries.get(key);
    if (entry === undefined) {
      const args: unknown = JSON.parse(argsText);
      entry = { key, name, args, listeners: new Set(), linger: undefined, state: this.#unseen, wasOptimistic: false, waiting: [] };
      this.#entries.set(key, entry);
      if (!this.#isClosed) this.#open().want(key, { query: name, args });
      // An optimistic update may have been here first.
      this.#refresh(entry);
    }
    clearTimeout(entry.linger);
    entry.linger = undefined;
    // Two listeners may be one function.
    const { listeners } = entry;
    const end = listen(listeners, callback);
    return () => {
      if (!end() || listeners.size > 0) return;
      const left = this.#entries.get(key);
      if (left?.listeners !== listeners) return;
      clearTimeout(left.linger);
      if (this.#parts.lingerMs > TIMER_MAX_MS) return;
      left.linger = setTimeout(() => {
        this.#entries.delete(key);
        this.#source?.drop(key);
        // A layer over it alone would otherwise wait for ever for a transition.
        if (!this.#optimistic.isEmpty) this.#changed(this.#optimistic.settle(null, [], this.#base));
        this.#refuse(left, new ConvoyError("UNAVAILABLE", "nobody listens to the query any more"));
      }, this.#parts.lingerMs);
    };
  }

  #refetch(key: string, name: string, argsText: string): Promise<unknown> {
    const entry = this.#entries.get(key);
    if (entry === undefined || this.#isClosed) return this.#ask(name, argsText);
    return new Promise((resolve, reject) => {
      let timer: ReturnType<typeof setTimeout> | undefined;
      const waiter: Waiter = {
        resolve: (data) => (clearTimeout(timer), resolve(data)),
        reject: (error) => (clearTimeout(timer), reject(error)),
      };
      const look = (): void => {
        timer = setTimeout(() => {
          // Who is slow is waited for; who is not there is not.
          if (this.#connection.state === "live") return look();
          entry.waiting.splice(entry.waiting.indexOf(waiter), 1);
          reject(new ConvoyError("UNAVAILABLE", "the server can't be reached"));
        }, QUERY_PATIENCE_MS);
      };
      look();
      entry.waiting.push(waiter);
      if (entry.waiting.length === 1) this.#open().again(key);
    });
  }

  /** Asks once; anew where somebody else logs in meanwhile, as everything is that is only read. */
  async #ask(name: string, body: string): Promise<unknown> {
    const options = { patienceMs: QUERY_PATIENCE_MS, signal: () => this.#user.signal };
    return (await ask(this.#parts.request, "query", name, body, options)).value;
  }

  #open(): Source {
    if (this.#source === null) {
      this.#source = this.#parts.source({
        changed: ({ keys, lsn, reflects, isForgotten }) => {
          if (isForgotten) this.#isForgetting = false;
          const more = this.#optimistic.isEmpty ? keys : union(keys, this.#optimistic.settle(lsn, reflects, this.#base));
          this.#changed(more, keys);
        },
        connection: (connection) => this.#connected(connection),
      });
      this.#connection = this.#source.connection;
      this.#detach = this.#parts.attach(this.#source);
    }
    return this.#source;
  }

  /** The layer of a mutation that was answered waits for the transition that contains it, if one will come. */
  #answered(id: string, lsn: string | null): void {
    const layer = this.#optimistic.find(id);
    if (layer === undefined) return;
    layer.lsn = lsn;
    const seen = this.#source?.lsn ?? null;
    const willCome = lsn !== null && this.#connection.state !== "closed";
    this.#changed(willCome ? this.#optimistic.settle(seen, [], this.#base) : this.#optimistic.remove(id, this.#base));
  }

  /** First everything moves, then everybody hears of it. `answered` are those that the server spoke of. */
  #changed(keys: ReadonlySet<string>, answered: ReadonlySet<string> = new Set()): void {
    const heard: Entry[] = [];
    for (const key of keys) {
      const entry = this.#entries.get(key);
      if (entry === undefined) continue;
      if (this.#refresh(entry)) heard.push(entry);
    }
    for (const key of answered) {
      const entry = this.#entries.get(key);
      if (entry !== undefined) this.#release(entry);
    }
    for (const entry of heard) tellAll(entry.listeners);
  }

  #connected(connection: Connection): void {
    const before = this.#connection.state;
    this.#connection = connection;
    if (before === connection.state) return;
    this.#unseen = this.#show(undefined, undefined);
    const heard = [...this.#entries.values()].filter((entry) => this.#refresh(entry));
    if (connection.state === "closed") {
      // No transition will come on which they could give way.
      this.#changed(this.#optimistic.clear());
    }
    for (const entry of heard) tellAll(entry.listeners);
    tellAll(this.#connectionListeners);
  }

  /** What the server said last, to who is logged in now. */
  #result(key: string): Result | undefined {
    return this.#isForgetting ? undefined : this.#source?.results.get(key);
  }

  /** Returns whether the query shows something else now. */
  #refresh(entry: Entry): boolean {
    const result = this.#result(entry.key);
    const isOptimistic = this.#optimistic.has(entry.key);
    const value = isOptimistic ? this.#optimistic.value(entry.key) : result?.value;
    const next = this.#show(result, this.#steady(entry, isOptimistic, value), isOptimistic);
    if (same(entry.state, next)) return false;
    entry.state = next;
    return true;
  }

  /** Results keep the identity of what is equal by themselves; what an optimistic update makes anew each time does not. */
  #steady(entry: Entry, isOptimistic: boolean, value: unknown): unknown {
    const before = entry.state.data;
    if (!isOptimistic && !entry.wasOptimistic) return value;
    entry.wasOptimistic = isOptimistic;
    const shared = share(before, value);
    return isOptimistic || shared === before ? shared : value;
  }

  #show(result: Result | undefined, data: unknown, isOptimistic = false): QueryState<unknown> {
    const { state } = this.#connection;
    const wire = isOptimistic ? null : (result?.error ?? null);
    // What a closed client does not have will not come.
    const error = wire !== null ? errorOf(wire) : this.#isClosed && data === undefined ? CLOSED : null;
    return {
      data,
      error,
      isLoading: data === undefined && error === null,
      isStale: data !== undefined && (result?.status === "stale" || error !== null || state !== "live"),
      isReconnecting: state === "reconnecting",
      connectionState: state,
    };
  }

  #release(entry: Entry): void {
    if (entry.waiting.length === 0) return;
    const result = this.#result(entry.key);
    if (result === undefined || result.status === "loading" || result.status === "stale") return;
    if (result.error !== null) this.#refuse(entry, errorOf(result.error));
    else for (const { resolve } of entry.waiting.splice(0)) resolve(result.value);
  }

  #refuse(entry: Entry, error: ConvoyError): void {
    for (const { reject } of entry.waiting.splice(0)) reject(error);
  }
}

const CLOSED = new ConvoyError("UNAVAILABLE", "the client was closed");

/** What a timer can wait at most; told to wait for longer, it does not wait at all. */
const TIMER_MAX_MS = 2 ** 31 - 1;

/** How long a query that is asked once is tried. */
const QUERY_PATIENCE_MS = 10_000;

const errors = new WeakMap<WireError, ConvoyError>();

/** One error object for one error of the server's, so that it is not taken for another. */
function errorOf(wire: WireError): ConvoyError {
  let error = errors.get(wire);
  if (error === undefined) {
    error = errorFromWire(wire);
    errors.set(wire, error);
  }
  return error;
}

function same(a: QueryState<unknown>, b: QueryState<unknown>): boolean {
  return (
    Object.is(a.data, b.data) &&
    a.error === b.error &&
    a.isLoading === b.isLoading &&
    a.isStale === b.isStale &&
    a.connectionState === b.connectionState
  );
}

function union(a: ReadonlySet<string>, b: ReadonlySet<string>): Set<string> {
  const all = new Set(a);
  for (const item of b) all.add(item);
  return all;
}

/** Adds a listener, which is called until it is ended; the same function twice is two. Returns what ends it. */
export function listen(listeners: Set<() => void>, callback: () => void): () => boolean {
  const listener = (): void => {
    if (listeners.has(listener)) callback(); // It may have been ended by one that heard of the same change.
  };
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** One listener's error is nobody else's. */
export function tellAll(listeners: Iterable<() => void>): void {
  for (const listener of [...listeners]) {
    try {
      listener();
    } catch (error) {
      if (typeof globalThis.reportError === "function") globalThis.reportError(error);
      else
        queueMicrotask(() => {
          throw error;
        });
    }
  }
}
