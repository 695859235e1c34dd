// Stands for your identity provider, or your own backend: it knows who people are, and signs tokens that say so.
// Convoy sees only the tokens. `npm run token -- ada` prints one.
//
// A demo of two things that it does not do: keep passwords (here the password is the name), and take a token back.

import { createHmac, randomBytes } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { fileURLToPath } from 'node:url';

const PEOPLE = new Map([
  ['ada', 'Ada'],
  ['bob', 'Bob'],
  ['grace', 'Grace'],
]);
const LIFE_S = 8 * 3600;
const BODY_BYTES_MAX = 10_000;

/** What signs the tokens and verifies them: functions have no environment to read it from. */
const FILE = new URL('.secret', import.meta.url);

/** Returns the secret: `TODO_SECRET`, else the one of before, else a new one. Writes it where `convoy/server.ts` says. */
export function secret() {
  const before = existsSync(FILE) ? readFileSync(FILE, 'utf8').trim() : null;
  const now = process.env.TODO_SECRET || before || randomBytes(32).toString('base64url');
  // Whoever has it can be anybody: it is never committed.
  if (now !== before) writeFileSync(FILE, `${now}\n`, { mode: 0o600 });
  return now;
}

/** Returns a token that says who this is (RFC 7519, HS256). */
export function tokenFor(user, { key = secret(), lifeS = LIFE_S } = {}) {
  const now = Math.floor(Date.now() / 1000);
  const claims = { iss: 'todo-issuer', aud: 'todo-auth', sub: user, name: PEOPLE.get(user), iat: now, exp: now + lifeS };
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const signed = `${part({ alg: 'HS256', typ: 'JWT' })}.${part(claims)}`;
  return `${signed}.${createHmac('sha256', key).update(signed).digest('base64url')}`;
}

/** Serves `POST /login`, `{user, password}` to `{token, name}`, to pages of this machine. Resolves to its address. */
export function serve() {
  const server = createServer(async (request, response) => {
    const origin = request.headers.origin ?? '';
    const isLocal = /^http:\/\/(localhost|127\.0\.0\.1|\[::1\])(:\d+)?$/.test(origin);
    const answer = (status, body) => {
      const cors = isLocal ? { 'access-control-allow-origin': origin, 'access-control-allow-headers': 'content-type' } : {};
      response.writeHead(status, { ...cors, vary: 'origin', 'content-type': 'application/json', 'cache-control': 'no-store' });
      response.end(body === undefined ? '' : JSON.stringify(body));
    };
    if (request.method === 'OPTIONS') return answer(204);
    if (request.method !== 'POST' || request.url !== '/login') return answer(404, { message: 'There is only POST /login.' });
    try {
      let body = '';
      for await (const piece of request) {
        body += piece;
        if (body.length > BODY_BYTES_MAX) return answer(413, { message: 'That is too long.' });
      }
      const { user, password } = JSON.parse(body);
      if (!PEOPLE.has(user) || password !== user) return answer(401, { message: 'Name and password do not fit.' });
      answer(200, { token: tokenFor(user), name: PEOPLE.get(user) });
    } catch {
      answer(400, { message: 'The body has to be JSON: {"user": "…", "password": "…"}' });
    }
  });
  return new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () => resolve({ url: `http://127.0.0.1:${server.address().port}`, close: () => server.close() }));
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const user = process.argv[2];
  if (!PEOPLE.has(user)) {
    console.error(`npm run token -- ${[...PEOPLE.keys()].join(' | ')}`);
    process.exit(2);
  }
  console.log(tokenFor(user));
}
