/** The module `convoy`, as a project's schema and functions import it, and the generated code. */

export * from '../api.js';
export { ConvoyError, convoyError, type ErrorCode } from './errors.js';
export {
  defineRef,
  defineSchema,
  defineTable,
  SchemaDefinition,
  TableDefinition,
  type Id,
  type SystemFields,
} from './schema.js';
export { paginationOptsValidator } from './pagination.js';
export { sql, type DrizzleSql, type Sql } from './sql.js';
export {
  createFunctionHelpers,
  type AnyFunction,
  type Auth,
  type ContextRequest,
  type DefinedFunction,
  type FunctionHelpers,
  type GenericMutationCtx,
  type GenericQueryCtx,
  type GenericServerContext,
  type JwtOptions,
  type JwtVerifier,
  type MutationCtxOf,
  type QueryCtxOf,
  type UserIdentity,
} from './functions.js';
export type {
  AnyDataModel,
  DataModel,
  DataModelFromSchema,
  Doc,
  TableModel,
  TableNames,
} from './data-model.js';
export type {
  DatabaseReader,
  DatabaseWriter,
  Expression,
  FilterBuilder,
  IndexRange,
  OrderedQuery,
  PaginationOptions,
  PaginationResult,
  TableQuery,
} from './database.js';
export type { ArgsInput, ArgsOutput, Input, Output, Shape, Validator } from './validator.js';
