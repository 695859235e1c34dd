// `useQuery`: a query that stays up to date while the component is there.

import { useCallback, useEffect, useMemo, useRef, useState, useSyncExternalStore } from "react";
import { getFunctionName, type FunctionArgs, type FunctionReturnType, type QueryRef } from "../api.js";
import { canonicalJson } from "../client/canonical.js";
import type { QueryState } from "../client/client.js";
import { ConvoyError } from "../client/errors.js";
import { useConvoy, useIdentity } from "./context.js";

export interface UseQueryOptions {
  /** Whether to subscribe; false leaves it to `refetch`. True by default. */
  readonly enabled?: boolean;
  /** Shows the data of the arguments before until that of the new ones is there; meanwhile it is stale. */
  readonly keepPreviousData?: boolean;
}

export interface UseQueryResult<T> extends QueryState<T> {
  /** Asks anew, also where the query is not enabled, and returns the answer. */
  readonly refetch: () => Promise<T>;
}

/** The parameters after the reference; arguments may be left out where none is required. */
export type UseQueryRest<R extends QueryRef> =
  {} extends FunctionArgs<R>
    ? [args?: FunctionArgs<R> | "skip", options?: UseQueryOptions]
    : [args: FunctionArgs<R> | "skip", options?: UseQueryOptions];

/** What the server shows, and the browser until it has connected. */
const ON_SERVER: QueryState<never> = Object.freeze({
  data: undefined,
  error: null,
  isLoading: true,
  isStale: false,
  isReconnecting: false,
  connectionState: "connecting",
});

/**
 * Subscribes to a query while the component is mounted, and renders it again when what it shows changes. `"skip"` as
 * arguments asks for nothing.
 */
export function useQuery<R extends QueryRef>(
  reference: R,
  ...[args, options = {}]: UseQueryRest<R>
): UseQueryResult<FunctionReturnType<R>> {
  type T = FunctionReturnType<R>;
  const client = useConvoy();
  const name = getFunctionName(reference);
  const isSkipped = args === "skip";
  const isEnabled = !isSkipped && options.enabled !== false;
  const argsText = isSkipped ? null : canonicalJson(args ?? {});

  const identity = useIdentity(client);

  // Equal arguments are the same query, however often they are written anew; another user's is another.
  const watch = useMemo(
    () => (argsText === null ? null : client.watchQuery<QueryRef<any, T>>(reference, JSON.parse(argsText))),
    [client, identity, name, argsText],
  );
  const store = useMemo(() => {
    if (watch !== null && isEnabled) return { subscribe: watch.onUpdate, read: watch.getCurrent };
    return {
      subscribe: (callback: () => void) => client.onConnectionChange(callback),
      read: (): QueryState<T> => client.unsubscribed,
    };
  }, [client, watch, isEnabled]);
  const state = useSyncExternalStore<QueryState<T>>(store.subscribe, store.read, () => ON_SERVER);

  const [asked, setAsked] = useState<{ watch: unknown; data: T | undefined; error: ConvoyError | null; isLoading: boolean } | null>(null);
  const refetch = useCallback(async (): Promise<T> => {
    if (watch === null) throw new ConvoyError("INVALID_ARGS", "the query is skipped: there are no arguments to ask with");
    if (isEnabled) return watch.refetch();
    const before = (now: typeof asked) => (now?.watch === watch ? now.data : undefined);
    setAsked((now) => ({ watch, data: before(now), error: null, isLoading: true }));
    try {
      const data = await watch.refetch();
      setAsked({ watch, data, error: null, isLoading: false });
      return data;
    } catch (error) {
      setAsked((now) => ({ watch, data: before(now), error: error as ConvoyError, isLoading: false }));
      throw error;
    }
  }, [watch, isEnabled]);

  const previous = useRef<{ identity: number; data: T } | null>(null);
  useEffect(() => {
    if (state.data !== undefined) previous.current = { identity, data: state.data };
  }, [state.data]);

  const isHeld = options.keepPreviousData === true && state.data === undefined && state.error === null;
  const held = isHeld && previous.current?.identity === identity ? previous.current.data : undefined;
  const own = asked !== null && asked.watch === watch ? asked : null;
  return useMemo(() => {
    if (!isEnabled) {
      const data = own?.data ?? held;
      return { ...state, data, error: own?.error ?? null, isLoading: own?.isLoading === true && data === undefined, isStale: data !== undefined, refetch };
    }
    if (held !== undefined) return { ...state, data: held, isLoading: false, isStale: true, refetch };
    return { ...state, refetch };
  }, [state, isEnabled, own, held, refetch]);
}
