/** What functions know of who calls. */

/** `ctx.auth`: what `createContext` put there, with the way to ask for it that Convex has. */
export function authOf(text: string | undefined): unknown {
  const given = text === undefined ? {} : JSON.parse(text);
  if (typeof given !== 'object' || given === null) {
    return given;
  }
  const identity = text === undefined ? null : given;
  return Object.defineProperty({ ...given }, 'getUserIdentity', { value: async () => identity, enumerable: false });
}
