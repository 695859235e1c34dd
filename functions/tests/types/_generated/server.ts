import { createFunctionHelpers } from 'convoy';
import type { DataModel as DataModelOf, Doc as DocOf, GenericMutationCtx, GenericQueryCtx, GenericServerContext, TableNames } from 'convoy';
import type schema from '../schema';

export type DataModel = DataModelOf<typeof schema>;
export type Doc<Name extends TableNames<DataModel>> = DocOf<DataModel, Name>;
export interface ServerContext extends GenericServerContext<DataModel> {}
export type QueryCtx = GenericQueryCtx<DataModel>;
export type MutationCtx = GenericMutationCtx<DataModel>;
export const { query, mutation, internalQuery, internalMutation } = createFunctionHelpers<ServerContext>();
