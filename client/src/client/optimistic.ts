// Optimistic updates: what mutations that are under way are expected to do, laid over what the server said.
//
// A layer is one mutation's update. Layers are replayed in order over each new server state, so what they show always
// builds on the newest. A layer goes when its mutation fails, or once a transition contains its mutation and all queries
// that it sets have moved that far: one that is slow, or is being asked anew, moves later than the others.
//
// Responsible for: layers, replaying them, when one gives way.
// Leaves to others: the server's results (source.ts), telling listeners (client.ts).

import { getFunctionName, type FunctionArgs, type QueryRef, type FunctionReturnType } from "../api.js";
import { queryKey } from "./canonical.js";
import { share } from "./share.js";
import { compareLsn } from "./wire.js";

/** The queries that are subscribed to, as an optimistic update sees and changes them. */
export interface LocalStore {
  /** Returns what the query shows at present; undefined while it is loading, or if nobody subscribes to it. */
  getQuery<R extends QueryRef>(reference: R, args?: FunctionArgs<R>): FunctionReturnType<R> | undefined;
  /** Lets the query show this until the server has the mutation; undefined makes it load. */
  setQuery<R extends QueryRef>(reference: R, args: FunctionArgs<R>, value: FunctionReturnType<R> | undefined): void;
  /** Returns all that is subscribed to of this query, with arguments. */
  getAllQueries<R extends QueryRef>(reference: R): { args: FunctionArgs<R>; value: FunctionReturnType<R> | undefined }[];
}

/** `args` are as the server gets them, and a copy for each call: what JSON has no form for is a string there. */
export type OptimisticUpdate<Args> = (localStore: LocalStore, args: Args) => void;

export interface Layer {
  /** The mutation's id. */
  readonly id: string;
  readonly update: (localStore: LocalStore) => void;
  /** Where the mutation was committed, once its answer said so. */
  lsn: string | null;
  /** Whether a transition contained the mutation. */
  isReflected: boolean;
  /** What the update set when it last ran. */
  keys: ReadonlySet<string>;
}

/** The subscriptions under the layers. */
export interface Base {
  value(key: string): unknown;
  /** Whether the query is subscribed to. */
  has(key: string): boolean;
  /** Whether what is here of it is from before this position, or, with null, may be from before the newest. */
  isBehind(key: string, lsn: string | null): boolean;
  /** What is subscribed to of one query. */
  queries(name: string): Iterable<{ key: string; args: unknown }>;
}

export class Optimistic {
  #layers: Layer[] = [];
  #overlay = new Map<string, unknown>();

  get isEmpty(): boolean {
    return this.#layers.length === 0;
  }

  /** Whether what the query shows is not what the server said. */
  has(key: string): boolean {
    return this.#overlay.has(key);
  }

  value(key: string): unknown {
    return this.#overlay.get(key);
  }

  /** Lays one more on top. Throws what its update throws; then nothing has changed. */
  push(layer: Layer, base: Base): Set<string> {
    const before = new Map(this.#overlay);
    try {
      this.#run(layer, base);
    } catch (error) {
      this.#overlay = before;
      throw error;
    }
    this.#layers.push(layer);
    return new Set(this.#overlay.keys());
  }

  /** Takes one away. Returns the keys whose value may be another now. */
  remove(id: string, base: Base): Set<string> {
    return this.#keep((layer) => layer.id !== id, base);
  }

  /**
   * Takes away what has been shown: what a transition names, or was committed where it has passed (for mutations that no
   * session of ours was told of), as soon as all that it sets has moved; and what was committed and nobody looks at. Then
   * replays the rest over what the server says now.
   */
  settle(lsn: string | null, reflects: readonly string[], base: Base): Set<string> {
    if (this.#layers.length === 0) return new Set();
    return this.#keep((layer) => {
      const isPassed = layer.lsn !== null && lsn !== null && compareLsn(lsn, layer.lsn) >= 0;
      if (isPassed || reflects.includes(layer.id)) layer.isReflected = true;
      const keys = [...layer.keys].filter((key) => base.has(key));
      if (layer.lsn !== null && keys.length === 0) return false;
      return !layer.isReflected || keys.some((key) => base.isBehind(key, layer.lsn));
    }, base);
  }

  clear(): Set<string> {
    const keys = new Set(this.#overlay.keys());
    this.#layers = [];
    this.#overlay = new Map();
    return keys;
  }

  find(id: string): Layer | undefined {
    return this.#layers.find((layer) => layer.id === id);
  }

  #keep(stays: (layer: Layer) => boolean, base: Base): Set<string> {
    const before = this.#overlay;
    this.#layers = this.#layers.filter(stays);
    this.#overlay = new Map();
    for (const layer of this.#layers) {
      const under = new Map(this.#overlay);
      try {
        this.#run(layer, base);
      } catch (error) {
        // It worked on what was here before; on this it shows nothing, and the mutation goes on.
        this.#overlay = under;
        console.error("convoy: an optimistic update failed when it was replayed", error);
      }
    }
    const keys = new Set(this.#overlay.keys());
    for (const [key, value] of before) {
      if (this.#overlay.has(key)) this.#overlay.set(key, share(value, this.#overlay.get(key)));
      keys.add(key);
    }
    return keys;
  }

  #run(layer: Layer, base: Base): void {
    const keys = new Set<string>();
    layer.keys = keys;
    let isOver = false;
    const read = (key: string) => (this.#overlay.has(key) ? this.#overlay.get(key) : base.value(key));
    try {
      layer.update({
        getQuery: (reference, args) => read(queryKey(getFunctionName(reference), args)) as never,
        setQuery: (reference, args, value) => {
          if (isOver) {
            // It would stand for no mutation, and for ever.
            console.error("convoy: an optimistic update sets what it sets before it returns; it can't be async");
            return;
          }
          const key = queryKey(getFunctionName(reference), args);
          keys.add(key);
          this.#overlay.set(key, value);
        },
        getAllQueries: (reference) =>
          Array.from(base.queries(getFunctionName(reference)), ({ key, args }) => ({
            args: structuredClone(args), // The subscription's own are sent again.
            value: read(key),
          })) as never,
      });
    } finally {
      isOver = true;
    }
  }
}
