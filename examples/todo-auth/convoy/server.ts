import type { ContextRequest } from 'convoy';
import type { ServerContext } from './_generated/server';

/** Says who calls, once for each request or stream: whoever the token names, and nobody where there is none. */
export async function createContext(request: ContextRequest, base: ServerContext) {
  const header = request.headers.authorization;
  if (header === undefined) return { ...base, auth: null };
  const { sub, name } = await base.jwt.verify<{ sub: string; name: string }>(header.replace(/^Bearer /i, ''), {
    secretFile: '../.secret',
    algorithms: ['HS256'],
    issuer: 'todo-issuer',
    audience: 'todo-auth',
  });
  return { ...base, auth: { userId: sub, name } };
}
