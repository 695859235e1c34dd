// Whose tabs these are. Tabs share a stream only if they are known to be one user's: what a stream brings is for the
// identity that it was opened with.

/** Claims that differ from one token of a user to the next. */
const VOLATILE = new Set(["exp", "iat", "nbf", "jti", "auth_time", "at_hash", "nonce", "uti"]);

/** Who asks, in words that are compared and never shown. */
export interface Identity {
  /** Another is somebody else. */
  readonly user: string;
  /** What may be seen can depend on this, too: tabs share where it is the same. */
  readonly channel: string;
}

/**
 * Returns whose token this is, by `iss` and `sub`, and what else it says that is not about the token itself; null for one
 * that can't be looked into.
 */
export function identityOfToken(token: string): Identity | null {
  const payload = token.split(".")[1];
  if (payload === undefined || token.split(".").length !== 3) return null;
  try {
    const bytes = Uint8Array.from(atob(payload.replaceAll("-", "+").replaceAll("_", "/")), (char) => char.charCodeAt(0));
    const claims = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes)) as Record<string, unknown>;
    if (typeof claims !== "object" || claims === null || typeof claims["sub"] !== "string") return null;
    const lasting = Object.keys(claims)
      .filter((name) => !VOLATILE.has(name))
      .sort()
      .map((name) => [name, claims[name]]);
    return { user: JSON.stringify([claims["iss"] ?? null, claims["sub"]]), channel: JSON.stringify(lasting) };
  } catch {
    return null;
  }
}

/** Returns the name under which tabs of one user find each other. It tells nothing of who that is. */
export async function channelName(url: string, identity: string): Promise<string> {
  const bytes = new TextEncoder().encode(`${url}\n${identity}`);
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return `convoy:1:${Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}
