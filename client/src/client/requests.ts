// Requests that are answered once: queries, and mutations, which are repeated under one id until an answer comes.
//
// Responsible for: retries, credentials that have run out, what an answer says.
// Leaves to others: optimistic values (client.ts), the stream (stream.ts).

import { elapsedMs, now, type Moment } from "./clock.js";
import { ConvoyError, errorOfResponse } from "./errors.js";
import { RETRY_FIRST_MS } from "./machine.js";
import { headersOf, timeLimit, type StreamOptions } from "./stream.js";

export interface Answer {
  readonly value: unknown;
  readonly lsn: string | null;
}

export interface AskOptions {
  /** How long to try where the server can't be reached, from `since` on. */
  readonly patienceMs: number;
  /** The call; or later, when the server was last heard of. By default now. */
  readonly since?: () => Moment;
  /** Whether a try ends with the patience, too: whoever waits for a server that takes and never answers has had enough. */
  readonly isStrict?: boolean;
  /** Headers beside the credentials; asked again for each try. */
  readonly extra?: () => Record<string, string>;
  /** Returns what ends a try: its reason is thrown, unless it is another by then, under which to go on. */
  readonly signal: () => AbortSignal;
}

const RETRY_MAX_MS = 5_000;
/** Longer than this nobody is told to wait: the mutations after it wait, too. */
const RETRY_AFTER_MAX_MS = 15_000;
/** One try: longer than any statement may run, so that a slow one is not asked twice. */
const TRY_TIMEOUT_MS = 60_000;

/** Posts the arguments, `body`, to `/api/{kind}/{name}`. Throws ConvoyError, or what the signal was aborted with. */
export async function ask(
  options: StreamOptions,
  kind: "query" | "mutation",
  name: string,
  body: string,
  { patienceMs, since, isStrict = false, extra = () => ({}), signal: signalNow }: AskOptions,
): Promise<Answer> {
  const called = now();
  const leftMs = () => patienceMs - elapsedMs(since?.() ?? called);
  let fresh = false;
  let withoutSession = false;
  for (let failures = 0; ; ) {
    let error: ConvoyError;
    let leastMs = 0;
    const signal = signalNow();
    if (isStrict && leftMs() <= 0) {
      signal.throwIfAborted();
      throw new ConvoyError("UNAVAILABLE", `the server did not answer within ${patienceMs} ms`);
    }
    const tryMs = () => (isStrict ? Math.min(Math.max(leftMs(), 0), TRY_TIMEOUT_MS) : TRY_TIMEOUT_MS);
    const abort = new AbortController();
    const end = () => abort.abort(signal.reason);
    let timer = timeLimit(abort, Math.min(patienceMs, tryMs()), "credentials");
    signal.addEventListener("abort", end);
    try {
      signal.throwIfAborted();
      const headers: Record<string, string> = { ...(await headersOf(options, fresh, abort.signal)), ...extra() };
      clearTimeout(timer);
      timer = timeLimit(abort, tryMs(), "an answer");
      if (withoutSession) delete headers["x-convoy-session"];
      const response = await options.fetch(`${options.url}/api/${kind}/${encodeURIComponent(name)}?numbers=string`, {
        method: "POST",
        headers: { ...headers, "content-type": "application/json" },
        body,
        signal: abort.signal,
        credentials: options.credentials,
      });
      if (response.ok) {
        const answer = (await response.json()) as { value?: unknown; lsn?: string };
        signal.throwIfAborted();
        return { value: answer.value, lsn: answer.lsn ?? null };
      }
      error = await errorOfResponse(response);
      if (response.status === 401 && !fresh) {
        fresh = true;
        continue;
      }
      // Either there is no such function, or the session has just ended: the latter is no reason not to do it.
      if (response.status === 404 && headers["x-convoy-session"] !== undefined) {
        withoutSession = true;
        continue;
      }
      // 502 is a proxy's. The server says with `Retry-After` where a repeat can help; a function that throws LIMIT_EXCEEDED
      // by itself, or was stopped at its limits, would only do so again.
      const retryMs = retryAfterMs(response);
      const canHelp = response.status === 502 || ((response.status === 429 || response.status === 503) && retryMs !== null);
      if (!canHelp) throw error;
      leastMs = retryMs ?? 0;
    } catch (reason) {
      signalNow().throwIfAborted();
      if (reason instanceof ConvoyError) {
        if (!signal.aborted) throw reason;
        error = reason;
      } else {
        error = new ConvoyError("UNAVAILABLE", `the server can't be reached: ${reason instanceof Error ? reason.message : reason}`);
        error.cause = reason;
      }
    } finally {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
    }
    failures += 1;
    const waitMs = Math.max(leastMs, 20) + options.random() * Math.min(RETRY_MAX_MS, RETRY_FIRST_MS * 2 ** Math.min(failures - 1, 16));
    if (waitMs > leftMs()) throw error;
    const waiting = signalNow();
    await new Promise<void>((resolve) => {
      const wake = () => {
        clearTimeout(sleep);
        waiting.removeEventListener("abort", wake);
        resolve();
      };
      const sleep = setTimeout(wake, waitMs);
      waiting.addEventListener("abort", wake);
    });
  }
}

/** Returns how long the server asks to wait, in seconds or until a date (RFC 9110, section 10.2.3); null where it does not. */
function retryAfterMs(response: Response): number | null {
  const text = response.headers.get("retry-after");
  if (text === null) return null;
  const ms = /^[0-9]+$/.test(text.trim()) ? Number(text) * 1_000 : Date.parse(text) - Date.now();
  return Number.isNaN(ms) ? null : Math.min(Math.max(ms, 0), RETRY_AFTER_MAX_MS);
}

/** Returns 128 random bits as a UUID; `crypto.randomUUID` is missing on pages that came over plain HTTP. */
export function uuid(): string {
  if (typeof globalThis.crypto.randomUUID === "function") return globalThis.crypto.randomUUID();
  const bytes = globalThis.crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = ((bytes[6] as number) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] as number) & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}
