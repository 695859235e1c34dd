// `usePaginatedQuery`: a live list that grows page by page.

import { useMemo, useSyncExternalStore } from "react";
import { getFunctionName, type FunctionArgs, type FunctionReturnType, type QueryRef } from "../api.js";
import { canonicalJson } from "../client/canonical.js";
import { LOADING, Paginator, type PaginatedOptions, type PaginatedState } from "../client/paginate.js";
import { useConvoy } from "./context.js";

/** A query that takes `paginationOpts` and returns `{page, isDone, continueCursor}`. */
export type PaginatedQueryRef = QueryRef<any, { page: readonly any[]; isDone: boolean; continueCursor: string }>;

/** The arguments that are left to give: `paginationOpts` is the hook's. */
export type PaginatedArgs<R extends PaginatedQueryRef> = Omit<FunctionArgs<R>, "paginationOpts">;

export interface UsePaginatedQueryResult<Item> extends PaginatedState<Item> {
  /** Asks for so many more; does nothing unless `status` is `CanLoadMore`. */
  readonly loadMore: (numItems: number) => void;
}

const SKIPPED: PaginatedState<never> = Object.freeze({ ...LOADING, isLoading: false });
const NOTHING = { onUpdate: () => () => {}, getCurrent: () => SKIPPED, loadMore: () => {} };

/** Subscribes to the pages loaded so far while the component is mounted. Other arguments begin a new list. */
export function usePaginatedQuery<R extends PaginatedQueryRef>(
  reference: R,
  args: PaginatedArgs<R> | "skip",
  { initialNumItems }: PaginatedOptions,
): UsePaginatedQueryResult<FunctionReturnType<R>["page"][number]> {
  const client = useConvoy();
  const name = getFunctionName(reference);
  const argsText = args === "skip" ? null : canonicalJson(args);
  const list = useMemo(() => {
    if (argsText === null) return NOTHING;
    const paginator = new Paginator(client, reference, JSON.parse(argsText) as object, { initialNumItems });
    return {
      onUpdate: (callback: () => void) => paginator.onUpdate(callback),
      getCurrent: () => paginator.getCurrent(),
      loadMore: (numItems: number) => paginator.loadMore(numItems),
    };
  }, [client, name, argsText, initialNumItems]);
  const state = useSyncExternalStore<PaginatedState>(list.onUpdate, list.getCurrent, () => LOADING);
  return useMemo(() => ({ ...state, loadMore: list.loadMore }), [state, list]) as UsePaginatedQueryResult<
    FunctionReturnType<R>["page"][number]
  >;
}
