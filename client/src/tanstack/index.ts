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
import { ConvoyError } from "../client/errors.js";

/** `client` is "convoy" for the first client of a page, and tells the queries of others from its: `convoy:2` and so on. */
export type ConvoyQueryKey = readonly [client: string, name: string, args: unknown];

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
    queryKey: [prefixOf(convoy), name, plain],
    queryFn: (context) => {
      const queryClient = (context as { client?: QueryClient }).client;
      if (queryClient === undefined) {
        throw new TypeError("convoy/tanstack needs @tanstack/react-query 5.66 or later: its query functions are told of their QueryClient");
      }
      forgetful(queryClient, convoy);
      return keep(queryClient, context.queryKey as ConvoyQueryKey, convoy.watchQuery<QueryRef<any, T>>(reference, plain), convoy, context.signal);
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

const prefixes = new WeakMap<ConvoyClient, string>();
let clients = 0;

/**
 * Returns what the keys of this client's queries begin with. No other client has the same, unless it was given: what it is
 * told is another server's, or another user's.
 */
function prefixOf(convoy: ConvoyClient): string {
  if (convoy.cacheKey !== null) return convoy.cacheKey;
  let prefix = prefixes.get(convoy);
  if (prefix === undefined) {
    clients += 1;
    prefix = clients === 1 ? "convoy" : `convoy:${clients}`;
    prefixes.set(convoy, prefix);
  }
  return prefix;
}

/** The subscription that feeds one query of a cache. */
class Feed {
  readonly #queryClient: QueryClient;
  readonly #queryHash: string;
  readonly convoy: ConvoyClient;
  readonly watch: Watch<unknown>;
  #end: (() => void) | null = null;
  #error: ConvoyError | null = null;

  constructor(queryClient: QueryClient, queryHash: string, convoy: ConvoyClient, watch: Watch<unknown>) {
    this.#queryClient = queryClient;
    this.#queryHash = queryHash;
    this.convoy = convoy;
    this.watch = watch;
  }

  start(): void {
    if (this.#end !== null) return;
    this.#end = this.watch.onUpdate(() => this.#feed());
    // What came since the query was last fed: the subscription lingers, and what it has is no news to it.
    if (this.watch.getCurrent().data !== undefined) this.#feed();
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
    void queryClient.resetQueries({ predicate: ({ queryKey, queryHash }) => queryKey[0] === prefixOf(convoy) || feeds.get(queryHash)?.convoy === convoy });
  });
  ends.register(queryClient, end);
}

/** Subscribes, feeds the cache, and returns the first answer. */
async function keep<T>(
  queryClient: QueryClient,
  queryKey: ConvoyQueryKey,
  watch: Watch<T>,
  convoy: ConvoyClient,
  signal: AbortSignal,
): Promise<T> {
  const all = feedsOf(queryClient);
  const query = queryClient.getQueryCache().find({ queryKey, exact: true });
  /** Who fetches ahead, on a server or for a route, waits for the answer; who observes shows that there is none yet. */
  const isPatient = () => convoy.connectionState === "live" || (query !== undefined && query.getObserversCount() > 0);
  if (query === undefined) return firstAnswer(watch, signal, isPatient); // It was removed while it was being fetched.
  let feed = all.get(query.queryHash);
  if (feed === undefined || feed.watch.key !== watch.key || feed.convoy !== convoy) {
    feed?.stop();
    feed = new Feed(queryClient, query.queryHash, convoy, watch);
    all.set(query.queryHash, feed);
  }
  // Asked for again after an error: the subscription would only repeat it.
  const isRefused = watch.getCurrent().error !== null;
  if (query.getObserversCount() > 0) feed.start();
  return isRefused ? watch.refetch() : firstAnswer(watch, signal, isPatient);
}

/** How long a query is fetched that nobody observes, without a server; as `query` of the client is. */
const PATIENCE_MS = 10_000;

function firstAnswer<T>(watch: Watch<T>, signal: AbortSignal, isPatient: () => boolean): Promise<T> {
  return new Promise((resolve, reject) => {
    let isOver = false;
    let end = (): void => {};
    const finish = (settle: () => void): void => {
      if (isOver) return;
      isOver = true;
      settle();
      clearInterval(timer);
      signal.removeEventListener("abort", onAbort);
      queueMicrotask(() => end());
    };
    const timer = setInterval(() => {
      if (!isPatient()) finish(() => reject(new ConvoyError("UNAVAILABLE", "the server can't be reached")));
    }, PATIENCE_MS);
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
