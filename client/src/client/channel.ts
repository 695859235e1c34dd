// What the tabs of one user tell each other over their BroadcastChannel, and the locks by which they know of each other.

import type { Result } from "./results.js";
import type { Connection, KeyedChange } from "./source.js";
import type { Reference } from "./wire.js";

/** What a tab tells the one that leads. */
export type Request =
  | { readonly type: "wants"; readonly tab: string; readonly wants: readonly { key: string; reference: Reference }[] }
  | { readonly type: "drop"; readonly tab: string; readonly key: string }
  | { readonly type: "again"; readonly key: string }
  | { readonly type: "ping" }
  /** Somebody looks at a page: no time to wait for the next attempt. */
  | { readonly type: "visible" }
  /** To all: the cookies are somebody else's. */
  | { readonly type: "renew" };

/** What the tab that leads tells. */
export type Report =
  | {
      readonly type: "leads";
      readonly leader: string;
      readonly connection: Connection;
      readonly session: string | null;
      /** Whether its page sleeps: Chromium lets a frozen one hear messages, but not its timers and its stream. */
      readonly isAsleep: boolean;
    }
  | {
      readonly type: "changes";
      readonly leader: string;
      readonly changes: readonly KeyedChange[];
      readonly lsn: string | null;
      readonly reflects: readonly string[];
    }
  | {
      readonly type: "results";
      readonly leader: string;
      readonly tab: string;
      readonly results: readonly { key: string; result: Result }[];
      readonly lsn: string | null;
    };

/** The lock that a tab holds as long as it is there: who waits for it hears of its end, however that came. */
export function tabLock(name: string, tab: string): string {
  return `${name}:${tab}`;
}

/**
 * Waits for a lock, calls back when it is held, and holds it until `signal` ends it; or only for the call, with `once`.
 * Returns how it ended.
 */
export async function hold(
  name: string,
  signal: AbortSignal,
  options: LockOptions,
  held: () => void,
  once = false,
): Promise<"left" | "stolen" | "refused"> {
  try {
    await navigator.locks.request(name, options.steal ? options : { ...options, signal }, () => {
      if (signal.aborted) return undefined;
      held();
      if (once) return undefined;
      return new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
    });
    return "left";
  } catch (error) {
    if (signal.aborted) return "left";
    return error instanceof DOMException && error.name === "AbortError" ? "stolen" : "refused";
  }
}
