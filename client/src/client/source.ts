// Where results come from: the results that are here by query, and one stream that keeps them up to date.
//
// Responsible for: names of subscriptions on the wire, and that a transition changes all results or none.
// Leaves to others: the stream's fate (machine.ts), optimistic values and listeners (client.ts).

import { connectionState, type ConnectionState, type State } from "./machine.js";
import { LOADING, applyChange, withoutDigest, type Result } from "./results.js";
import { Stream, type Sink, type StreamOptions } from "./stream.js";
import type { Change, Reference, Transition, WireError } from "./wire.js";

export interface Connection {
  readonly state: ConnectionState;
  /** Why there is no stream, where that is known. */
  readonly error: WireError | null;
}

/** A change of the result of one query, named by its key. */
export type KeyedChange = Change & { readonly key: string };

/** What a source tells. */
export interface Listener {
  /** Results have changed, all at once; or a transition came that changed none. */
  changed(change: {
    readonly keys: ReadonlySet<string>;
    readonly lsn: string | null;
    readonly reflects: readonly string[];
    /** Whether somebody else is logged in, and all that was here was theirs. */
    readonly isForgotten?: boolean;
  }): void;
  connection(connection: Connection): void;
}

export interface Source {
  /** What the server said last, by key. Replaced, never changed in place. */
  readonly results: ReadonlyMap<string, Result>;
  readonly connection: Connection;
  /** The session whose transitions come here. */
  readonly session: string | null;
  /** Where the newest transition stands. */
  readonly lsn: string | null;
  want(key: string, reference: Reference): void;
  drop(key: string): void;
  /** Asks anew for what is wanted already. */
  again(key: string): void;
  online(isOnline: boolean): void;
  visible(): void;
  /** Somebody else is logged in: nothing of what is here is theirs. */
  renew(): void;
  close(): void;
}

/** Results by key. */
export class Results {
  readonly map = new Map<string, Result>();

  /** Applies all of it or, where one does not fit, nothing. Returns the keys that were touched. */
  apply(changes: Iterable<KeyedChange>): Set<string> {
    const next = new Map<string, Result>();
    for (const change of changes) {
      const before = next.get(change.key) ?? this.map.get(change.key);
      if (before !== undefined) next.set(change.key, applyChange(before, change));
    }
    const touched = new Set<string>();
    for (const [key, result] of next) {
      if (this.map.get(key) !== result) touched.add(key);
      this.map.set(key, result);
    }
    return touched;
  }

  /** Returns the changes that let what is here count as old. */
  outdating(lsn: string | null, keys: Iterable<string> = this.map.keys()): KeyedChange[] {
    return Array.from(keys)
      .filter((key) => this.map.get(key)?.status === "ready")
      .map((key) => ({ key, type: "stale", lsn: lsn ?? "0/0" }));
  }

  doubt(): void {
    for (const [key, result] of this.map) this.map.set(key, withoutDigest(result));
  }

  forget(): Set<string> {
    for (const key of this.map.keys()) this.map.set(key, LOADING);
    return new Set(this.map.keys());
  }
}

/** Who passes on what the stream brings. */
export interface Relay {
  /** Changes that were applied, before anybody here is told. */
  changes?(changes: readonly KeyedChange[], lsn: string | null, reflects: readonly string[]): void;
  /** The connection or the session is another. */
  moved?(): void;
}

/** A source with a stream of its own. */
export class StreamSource implements Source, Sink {
  readonly #results: Results;
  readonly #listener: Listener;
  readonly #stream: Stream;
  readonly #references = new Map<string, Reference>();
  readonly #subOf = new Map<string, string>();
  readonly #keyOf = new Map<string, string>();
  #subs = 0;
  #isClosed = false;
  #batch: { add: { sub: string; reference: Reference }[]; drop: string[] } | null = null;
  #connection: Connection = { state: "connecting", error: null };
  lsn: string | null = null;
  readonly #relay: Relay;

  constructor(options: StreamOptions, listener: Listener, results = new Results(), relay: Relay = {}, wasLive = false) {
    this.#results = results;
    this.#listener = listener;
    this.#relay = relay;
    this.#stream = new Stream(options, this, wasLive);
    if (wasLive) this.#connection = { state: "reconnecting", error: null };
  }

  get results(): ReadonlyMap<string, Result> {
    return this.#results.map;
  }

  get connection(): Connection {
    return this.#connection;
  }

  get session(): string | null {
    return this.#stream.state.session;
  }

  /** Returns whether the session is still that of the credentials there are now; null where there is no answer. */
  isOurs(session: string): Promise<boolean | null> {
    return this.#stream.isOurs(session);
  }

  /** Whether the page sleeps, so that its stream is not read. */
  get isOverdue(): boolean {
    return this.#stream.isOverdue;
  }

  want(key: string, reference: Reference): void {
    if (this.#subOf.has(key)) return;
    this.#references.set(key, reference);
    if (!this.#results.map.has(key)) this.#results.map.set(key, LOADING);
    this.#begin(key, reference);
  }

  drop(key: string): void {
    this.#references.delete(key);
    this.#results.map.delete(key);
    this.#end(key);
  }

  again(key: string): void {
    const reference = this.#references.get(key);
    if (reference === undefined) return;
    this.#end(key);
    this.#begin(key, reference);
    // Until then it does not move with the others.
    this.#by(this.#results.outdating(this.lsn, [key]));
  }

  online(isOnline: boolean): void {
    this.#stream.dispatch({ type: isOnline ? "online" : "offline" });
  }

  visible(): void {
    this.#stream.dispatch({ type: "visible", silentMs: this.#stream.silentMs });
  }

  renew(): void {
    this.#stream.dispatch({ type: "renew" });
  }

  close(): void {
    this.#isClosed = true;
    this.#stream.dispatch({ type: "close" });
  }

  /** A name on the wire is used once: what is still on its way for an older one does not count. */
  #begin(key: string, reference: Reference): void {
    this.#subs += 1;
    const sub = this.#subs.toString(36);
    this.#subOf.set(key, sub);
    this.#keyOf.set(sub, key);
    this.#soon().add.push({ sub, reference });
  }

  #end(key: string): void {
    const sub = this.#subOf.get(key);
    if (sub === undefined) return;
    this.#subOf.delete(key);
    this.#keyOf.delete(sub);
    const batch = this.#soon();
    const index = batch.add.findIndex((added) => added.sub === sub);
    if (index >= 0) batch.add.splice(index, 1);
    else batch.drop.push(sub);
  }

  /** What comes in one turn goes in one request. */
  #soon(): { add: { sub: string; reference: Reference }[]; drop: string[] } {
    if (this.#batch === null) {
      this.#batch = { add: [], drop: [] };
      queueMicrotask(() => {
        const { add, drop } = this.#batch as { add: { sub: string; reference: Reference }[]; drop: string[] };
        this.#batch = null;
        // Closed by us, it is nobody's any more: another goes on with the results.
        if (this.#isClosed) return;
        if (add.length > 0 || drop.length > 0) this.#stream.dispatch({ type: "want", add, drop });
      });
    }
    return this.#batch;
  }

  // What the stream tells.

  apply(transition: Transition): void {
    const changes: KeyedChange[] = [];
    for (const { sub, ...change } of transition.updates) {
      const key = this.#keyOf.get(sub);
      if (key !== undefined) changes.push({ ...(change as Change), key });
    }
    const keys = this.#results.apply(changes);
    this.lsn = transition.lsn;
    this.#relay.changes?.(changes, transition.lsn, transition.reflects ?? []);
    this.#listener.changed({ keys, lsn: transition.lsn, reflects: transition.reflects ?? [] });
  }

  fail(subs: readonly string[], error: WireError): void {
    const changes: KeyedChange[] = [];
    for (const sub of subs) {
      const key = this.#keyOf.get(sub);
      if (key !== undefined) changes.push({ key, type: "error", final: true, error });
    }
    this.#by(changes);
  }

  outdate(): void {
    this.#by(this.#results.outdating(this.lsn));
  }

  /** Changes that no transition brought. */
  #by(changes: readonly KeyedChange[]): void {
    if (changes.length === 0) return;
    const keys = this.#results.apply(changes);
    this.#relay.changes?.(changes, null, []);
    this.#listener.changed({ keys, lsn: null, reflects: [] });
  }

  doubt(): void {
    this.#results.doubt();
  }

  forget(): void {
    this.lsn = null;
    this.#listener.changed({ keys: this.#results.forget(), lsn: null, reflects: [], isForgotten: true });
  }

  digest(sub: string): string | null {
    const key = this.#keyOf.get(sub);
    return (key === undefined ? undefined : this.#results.map.get(key)?.digest) ?? null;
  }

  moved(machine: State): void {
    this.#told(machine);
    if (machine.session === this.#session && this.#toldOf === this.#connection) return;
    this.#session = machine.session;
    this.#toldOf = this.#connection;
    this.#relay.moved?.();
  }

  #session: string | null = null;
  #toldOf: Connection | null = null;

  #told(machine: State): void {
    const state = connectionState(machine);
    if (state === this.#connection.state && machine.error === this.#connection.error) return;
    this.#connection = { state, error: machine.error };
    this.#listener.connection(this.#connection);
  }
}
