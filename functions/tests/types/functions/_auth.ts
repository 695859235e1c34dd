import { convoyError, createFunctionHelpers, type Id } from 'convoy';
import type { ServerContext } from '../_generated/server';

export type AuthContext = ServerContext & { auth: { userId: Id<'users'> } | null };

const helpers = createFunctionHelpers<AuthContext>();
export const authQuery = helpers.query;
export const authMutation = helpers.mutation;

export function requireAuth(ctx: AuthContext) {
  if (!ctx.auth?.userId) {
    throw convoyError('UNAUTHORIZED', 'Missing session');
  }
  return ctx.auth;
}
