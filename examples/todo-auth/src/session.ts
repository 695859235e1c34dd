// Who is logged in in this browser: kept for all of its tabs, until somebody logs out.

import type { ConvoyClient } from 'convoy/client';
import { useSyncExternalStore } from 'react';

/** The address of issuer.mjs, put here when the page is built. */
declare const ISSUER: string;

const KEY = 'todo-session';

export interface Session {
  readonly token: string;
  readonly name: string;
}

let session: Session | null = read();
const listeners = new Set<() => void>();

function read(): Session | null {
  try {
    return JSON.parse(localStorage.getItem(KEY) ?? 'null') as Session | null;
  } catch {
    return null;
  }
}

/** The token of who is logged in, or null. */
export const currentToken = (): string | null => session?.token ?? null;

/** Has the client, and the page, go over to whoever logs in, in this tab or in another. */
export function followSession(client: ConvoyClient): void {
  // First the client: it forgets what was another's before anything is drawn for the next.
  listeners.add(() => client.identityChanged());
  addEventListener('storage', ({ key }) => {
    if (key === KEY || key === null) change(read());
  });
}

/** Logs in. Throws an error with words for the user. */
export async function logIn(user: string, password: string): Promise<void> {
  const headers = { 'content-type': 'application/json' };
  const body = JSON.stringify({ user, password });
  const response = await fetch(`${ISSUER}/login`, { method: 'POST', headers, body }).catch(() => {
    throw new Error('The issuer of tokens can’t be reached. Is npm start still running?');
  });
  const answer = (await response.json()) as Session & { message: string };
  if (!response.ok) throw new Error(answer.message);
  const { token, name } = answer;
  localStorage.setItem(KEY, JSON.stringify({ token, name }));
  change({ token, name });
}

export function logOut(): void {
  localStorage.removeItem(KEY);
  change(null);
}

function change(next: Session | null): void {
  session = next;
  for (const listener of [...listeners]) listener();
}

export function useSession(): Session | null {
  return useSyncExternalStore(
    (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    () => session,
  );
}
