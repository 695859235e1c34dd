// Who calls: the reader of a signed token, or else of the card whose number is in the cookie. Nobody gets in without either.

import type { IncomingMessage } from 'node:http';
import { convoyError, type Id } from 'convoy';
import type { ServerContext } from './_generated/server';

export async function createContext(req: IncomingMessage, base: ServerContext) {
  const token = req.headers.authorization?.replace(/^Bearer /, '');
  if (token) {
    const { sub } = await base.jwt.verify<{ sub: Id<'readers'> }>(token, { secretFile: '../.secret', issuer: 'the desk' });
    return { ...base, auth: { readerId: sub } };
  }
  const cookie = req.headers.cookie ?? '';
  const number = cookie.split('card=')[1]?.split(';')[0];
  if (!number) {
    throw convoyError('UNAUTHORIZED', 'show your card');
  }
  const card = await base.db.query('cards').withIndex('by_number', (q) => q.eq('number', number)).unique();
  if (!card) {
    throw convoyError('UNAUTHORIZED', 'this card is not known');
  }
  return { ...base, auth: { readerId: card.readerId } };
}
