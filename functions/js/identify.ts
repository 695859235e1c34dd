/** `createContext` of a project's `server.ts`: from a request to what functions have as `ctx.auth`. */

import type { Tables } from 'convoy:server/schema.ts';
import { authOf } from './auth.ts';
import { Database } from './database.ts';
import { ask } from './host.ts';

/** What of a context does not come from `createContext` alone. */
const BASE = new Set(['db', 'jwt', 'auth']);

/** Returns what `createContext` says of a request; null is nobody. */
export async function identify(createContext: unknown, request: unknown, tables: Tables): Promise<unknown> {
  if (typeof createContext !== 'function') {
    throw new Error('server.ts exports no function createContext');
  }
  const nobody = authOf(undefined);
  const base = { db: new Database(tables), auth: nobody, jwt: { verify } };
  const context: unknown = await createContext(request, base);
  if (typeof context !== 'object' || context === null) {
    throw new Error('createContext has to return a context: { ...base, auth: { … } }, or base for nobody');
  }
  const other = Object.keys(context).find((key) => !BASE.has(key));
  if (other !== undefined) {
    throw new Error(
      `createContext returned ${other}, and only auth reaches functions: put it there, { ...base, auth: { …, ${other} } }`,
    );
  }
  const auth = (context as { auth?: unknown }).auth;
  return auth === nobody ? null : (auth ?? null);
}

/** `base.jwt.verify`: the claims of a token that counts; an UNAUTHORIZED error for one that does not. */
async function verify(token: unknown, options: unknown): Promise<unknown> {
  const { claims } = await ask('jwt.verify', { token, options });
  return claims;
}
