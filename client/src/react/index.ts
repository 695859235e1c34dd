// `convoy/react`: hooks. Importing it touches nothing of the browser, so it may be imported on a server.

export { ConvoyProvider, useConvoy, type ConvoyProviderProps } from "./context.js";
export { useQuery, type UseQueryOptions, type UseQueryRest, type UseQueryResult } from "./use-query.js";
export { useMutation, useMutationState, type Mutate, type MutationState } from "./use-mutation.js";
export {
  usePaginatedQuery,
  type PaginatedArgs,
  type PaginatedQueryRef,
  type UsePaginatedQueryResult,
} from "./use-paginated-query.js";
export { useConnectionState } from "./use-connection-state.js";
export { ConvoyError } from "../client/errors.js";
export { createConvoyClient } from "../client/create.js";
