// `useMutation` and `useMutationState`: mutations, called from a component.

import { useCallback, useEffect, useMemo, useRef, useState } from "react";
import { getFunctionName, type FunctionArgs, type FunctionReturnType, type MutationRef, type OptionalRestArgs } from "../api.js";
import type { ConvoyClient, MutationOptions } from "../client/client.js";
import type { ConvoyError } from "../client/errors.js";
import type { OptimisticUpdate } from "../client/optimistic.js";
import { useConvoy, useIdentity } from "./context.js";

/** Runs the mutation when called; `mutate` is the same once more, for who takes it out of the object. */
export interface Mutate<R extends MutationRef> {
  (...args: OptionalRestArgs<R>): Promise<FunctionReturnType<R>>;
  readonly mutate: Mutate<R>;
  /** Returns the mutation with an update that is shown at once, and undone if the mutation fails. */
  withOptimisticUpdate(update: OptimisticUpdate<FunctionArgs<R>>): Mutate<R>;
}

/** Returns a function that runs the mutation; the same one on every render. */
export function useMutation<R extends MutationRef>(reference: R): Mutate<R> {
  const client = useConvoy();
  const name = getFunctionName(reference);
  return useMemo(() => mutateOf(client, reference, undefined), [client, name]);
}

function mutateOf<R extends MutationRef>(
  client: ConvoyClient,
  reference: R,
  optimisticUpdate: OptimisticUpdate<FunctionArgs<R>> | undefined,
): Mutate<R> {
  const options: MutationOptions<FunctionArgs<R>> = { optimisticUpdate };
  // What an event handler passes on is an event, and no argument.
  const call = (args?: FunctionArgs<R>) => client.mutation<MutationRef>(reference, isEvent(args) ? {} : (args ?? {}), options);
  const mutate = call as unknown as Mutate<R> & { mutate: Mutate<R> };
  Object.defineProperties(mutate, {
    mutate: { value: mutate },
    withOptimisticUpdate: {
      value: (update: OptimisticUpdate<FunctionArgs<R>>) => mutateOf(client, reference, update),
    },
  });
  return mutate;
}

function isEvent(value: unknown): boolean {
  return typeof value === "object" && value !== null && "nativeEvent" in value && "preventDefault" in value;
}

export interface MutationState<R extends MutationRef> {
  /** Runs the mutation. Throws what it throws, and keeps it in `error` too. */
  readonly mutate: (...args: OptionalRestArgs<R>) => Promise<FunctionReturnType<R>>;
  readonly isLoading: boolean;
  /** What the call before threw, or null. */
  readonly error: ConvoyError | null;
  /** What the call before returned. */
  readonly data: FunctionReturnType<R> | undefined;
  /** Forgets error and data. */
  readonly reset: () => void;
}

type CallState<R extends MutationRef> = Pick<MutationState<R>, "isLoading" | "error" | "data">;

const IDLE: CallState<never> = Object.freeze({ isLoading: false, error: null, data: undefined });

/** Returns a mutation and how its last call fares. */
export function useMutationState<R extends MutationRef>(
  reference: R,
  options: MutationOptions<FunctionArgs<R>> = {},
): MutationState<R> {
  const client = useConvoy();
  const name = getFunctionName(reference);
  const identity = useIdentity(client);
  const [{ state, of }, setState] = useState<{ state: CallState<R>; of: number }>({ state: IDLE, of: identity });
  const shown = of === identity ? state : IDLE; // What another user's call came to is not shown.
  const last = useRef(0); // Of two calls under way, the later one counts.
  const latest = useRef(options);
  useEffect(() => {
    latest.current = options;
  });
  const mutate = useCallback(
    async (...[args]: OptionalRestArgs<R>): Promise<FunctionReturnType<R>> => {
      const call = ++last.current;
      const of = client.identityVersion;
      setState((before) => ({ state: { ...(before.of === of ? before.state : IDLE), isLoading: true, error: null }, of }));
      try {
        const given = isEvent(args) ? {} : (args ?? {});
        const data = await client.mutation<MutationRef>(reference, given, latest.current);
        if (call === last.current) setState({ state: { isLoading: false, error: null, data }, of });
        return data;
      } catch (error) {
        if (call === last.current) setState({ state: { isLoading: false, error: error as ConvoyError, data: undefined }, of });
        throw error;
      }
    },
    [client, name],
  );
  const reset = useCallback(() => {
    last.current += 1;
    setState({ state: IDLE, of: client.identityVersion });
  }, [client]);
  return useMemo(() => ({ ...shown, mutate, reset }), [shown, mutate, reset]);
}
