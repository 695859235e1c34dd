// `convoy/tanstack`: live queries in the cache of TanStack Query.
//
//   const { data } = useQuery(convoyQuery(convoy, api.messages.list, { channel }));
//
// The query function subscribes and returns the first answer; from then on each new result is written into the cache,
// for as long as somebody observes the query. Nothing is ever refetched by a timer, a focus or a reconnect.
//
// Responsible for: the options, and subscriptions that live as long as their query is observed.
// Leaves to others: the subscription itself (client/).

import type { QueryClient, QueryFunctionContext } from "@tanstack/react-query";
import { getFunctionName, type FunctionArgs, type FunctionReturnType, type MutationRef, type QueryRef } from "../api.js";
import { canonicalJson } from "../client/canonical.js";
import type { ConvoyClient, MutationOptions, Watch } from "../client/client.js";
import type { ConvoyError } from "../client/errors.js";

export type ConvoyQueryKey = readonly ["convoy", name: string, args: unknown];

export interface ConvoyQueryOptions<T> {
  readonly queryKey: ConvoyQueryKey;
  readonly queryFn: (context: QueryFunctionContext<any>) => Promise<T>;
  readonly enabled: boolean;
  readonly staleTime: number;
  readonly refetchOnMount: true;
  readonly refetchOnWindowFocus: false;
  readonly refetchOnReconnect: false;
  readonly refetchInterval: false;
  readonly retry: false;
  readonly structuralSharing: false;
  readonly networkMode: "always";
}

/** Returns options for `useQuery`, `useSuspenseQuery` or `prefetchQuery`. `"skip"` as arguments asks for nothing. */
export function convoyQuery<R extends QueryRef>(
  convoy: ConvoyClient,
  reference: R,
  ...[args]: {} extends FunctionArgs<R> ? [args?: FunctionArgs<R> | "skip"] : [args: FunctionArgs<R> | "skip"]
): ConvoyQueryOptions<FunctionReturnType<R>> {
  type T = FunctionReturnType<R>;
  const name = getFunctionName(reference);
  const isSkipped = args === "skip";
  const plain: unknown = isSkipped ? "skip" : JSON.parse(canonicalJson(args ?? {}));
  return {
    queryKey: ["convoy", name, plain],
    queryFn: (context) => {
      const watch = convoy.watchQuery<QueryRef<any, T>>(reference, plain);
      const queryClient = (context as { client?: QueryClient }).client;
      if (queryClient === undefined) {
        throw new TypeError("convoy/tanstack needs @tanstack/react-query 5.63 or later: its query functions are told of their QueryClient");
      }
      forgetful(queryClient, convoy);
      return keep(queryClient, context.queryKey as ConvoyQueryKey, watch, context.signal);
    },
    enabled: !isSkipped,
    // So that the query function runs for each component that comes: it answers from the subscription, or begins one.
    staleTime: 0,
    refetchOnMount: true,
    refetchOnWindowFocus: false,
    refetchOnReconnect: false,
    refetchInterval: false,
    retry: false,
    structuralSharing: false, // Rows that stay the same keep their identity already.
    networkMode: "always", // Whether there is a network is the client's business; a server on loopback needs none.
  };
}

/** Returns options for `useMutation`. */
export function convoyMutation<R extends MutationRef>(
  convoy: ConvoyClient,
  reference: R,
  options: MutationOptions<FunctionArgs<R>> = {},
): {
  readonly mutationKey: readonly ["convoy", name: string];
  readonly mutationFn: (args: FunctionArgs<R>) => Promise<FunctionReturnType<R>>;
  readonly retry: false;
  readonly networkMode: "always";
} {
  return {
    mutationKey: ["convoy", getFunctionName(reference)],
    mutationFn: (args) => convoy.mutation<MutationRef>(reference, args ?? {}, options),
    retry: false,
    networkMode: "always",
  };
}

/** The subscription that feeds one query of a cache. */
class Feed {
  readonly #queryClient: QueryClient;
  readonly #queryHash: string;
  readonly watch: Watch<unknown>;
  #end: (() => void) | null = null;
  #error: ConvoyError | null = null;

  constructor(queryClient: QueryClient, queryHash: string, watch: Watch<unknown>) {
    this.#queryClient = queryClient;
    this.#queryHash = queryHash;
    this.watch = watch;
  }

  start(): void {
    this.#end ??= this.watch.onUpdate(() => this.#feed());
  }

  stop(): void {
    this.#end?.();
    this.#end = null;
  }

  #feed(): void {
    // By its hash and not by its key: keys may be hashed in another way for one query than for others.
    const query = this.#queryClient.getQueryCache().get(this.#queryHash);
    const { data, error } = this.watch.getCurrent();
    if (query === undefined) return;
    if (error !== null) {
      if (error !== this.#error) query.setState({ status: "error", error, errorUpdatedAt: Date.now(), fetchStatus: "idle" });
    } else if (data !== undefined && (data !== query.state.data || this.#error !== null)) {
      query.setData(data, { manual: true });
    }
    this.#error = error;
  }
}

const feeds = new WeakMap<QueryClient, Map<string, Feed>>();

/** Returns the feeds of a cache by the hash of their query. A feed runs while its query is observed. */
function feedsOf(queryClient: QueryClient): Map<string, Feed> {
  const before = feeds.get(queryClient);
  if (before !== undefined) return before;
  const all = new Map<string, Feed>();
  feeds.set(queryClient, all);
  queryClient.getQueryCache().subscribe(({ type, query }) => {
    const feed = all.get(query.queryHash);
    if (feed === undefined) return;
    if (type === "observerAdded") feed.start();
    else if (type === "observerRemoved" && query.getObserversCount() === 0) feed.stop();
    else if (type === "removed") {
      feed.stop();
      all.delete(query.queryHash);
    }
  });
  return all;
}

const ends = new FinalizationRegistry<() => void>((end) => end());
const known = new WeakMap<QueryClient, WeakSet<ConvoyClient>>();

/** Lets a cache forget what it has of ours when somebody else is logged in; what is observed is asked for anew. */
function forgetful(queryClient: QueryClient, convoy: ConvoyClient): void {
  let clients = known.get(queryClient);
  if (clients === undefined) known.set(queryClient, (clients = new WeakSet()));
  if (clients.has(convoy)) return;
  clients.add(convoy);
  // A server has a cache for each request, and perhaps one client for all: that must not hold on to them.
  const cache = new WeakRef(queryClient);
  const end = convoy.onIdentityChange(() => {
    const queryClient = cache.deref();
    if (queryClient === undefined) return;
    const feeds = feedsOf(queryClient); // They may have been given keys of their own.
    void queryClient.resetQueries({ predicate: ({ queryKey, queryHash }) => queryKey[0] === "convoy" || feeds.has(queryHash) });
  });
  ends.register(queryClient, end);
}

/** Subscribes, feeds the cache, and returns the first answer. */
async function keep<T>(queryClient: QueryClient, queryKey: ConvoyQueryKey, watch: Watch<T>, signal: AbortSignal): Promise<T> {
  const all = feedsOf(queryClient);
  const query = queryClient.getQueryCache().find({ queryKey, exact: true });
  if (query === undefined) return firstAnswer(watch, signal); // It was removed while it was being fetched.
  let feed = all.get(query.queryHash);
  if (feed === undefined || feed.watch.key !== watch.key) {
    feed?.stop();
    feed = new Feed(queryClient, query.queryHash, watch);
    all.set(query.queryHash, feed);
  }
  if (query.getObserversCount() > 0) feed.start();
  return firstAnswer(watch, signal);
}

function firstAnswer<T>(watch: Watch<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    let isOver = false;
    let end = (): void => {};
    const finish = (settle: () => void): void => {
      if (isOver) return;
      isOver = true;
      settle();
      signal.removeEventListener("abort", onAbort);
      queueMicrotask(() => end());
    };
    const onAbort = (): void => finish(() => reject(signal.reason));
    const look = (): void => {
      const { data, error } = watch.getCurrent();
      if (error !== null) finish(() => reject(error));
      else if (data !== undefined) finish(() => resolve(data));
    };
    signal.addEventListener("abort", onAbort);
    end = watch.onUpdate(look);
    look();
  });
}
