// Builders and a guard for functions that need to know the reader.

import { convoyError, createFunctionHelpers, type Id } from 'convoy';
import type { ServerContext } from '../_generated/server';

export type ReaderContext = ServerContext & { auth: { readerId: Id<'readers'> } | null };

const helpers = createFunctionHelpers<ReaderContext>();
export const authQuery = helpers.query;
export const authMutation = helpers.mutation;

export function requireAuth(ctx: ReaderContext) {
  if (!ctx.auth?.readerId) {
    throw convoyError('UNAUTHORIZED', 'show your card');
  }
  return ctx.auth;
}
