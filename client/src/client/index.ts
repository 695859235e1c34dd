// `convoy/client`: the browser's side, without a framework.

export { createConvoyClient, type AuthRequest, type ConvoyClientOptions } from "./create.js";
export type { ConvoyClient, MutationOptions, QueryState, Watch } from "./client.js";
export { ConvoyError, type ErrorCode } from "./errors.js";
export type { ConnectionState } from "./machine.js";
export type { LocalStore, OptimisticUpdate } from "./optimistic.js";
export type { PaginatedOptions, PaginatedState, PaginationOpts, PaginationResult, Paginator } from "./paginate.js";
export { anyApi, functionReference, getFunctionName } from "../api.js";
export type { FunctionArgs, FunctionReference, FunctionReturnType, MutationRef, QueryRef } from "../api.js";
