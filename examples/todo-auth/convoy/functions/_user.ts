import { convoyError } from 'convoy';

/** Returns the id of who calls; nobody is told to log in. */
export function userOf({ auth }: { auth: { userId: string } | null }): string {
  if (auth === null) throw convoyError('UNAUTHORIZED', 'Log in to see your todos.');
  return auth.userId;
}
