// Puts a client together: options, credentials, and what the browser says of network and page.

import { ConvoyClient } from "./client.js";
import type { Source } from "./source.js";
import { StreamSource } from "./source.js";
import type { FetchFunction, StreamOptions } from "./stream.js";

export interface AuthRequest {
  /** Whether the server has refused what was given last; a token from a cache will not do. */
  readonly fresh: boolean;
}

export interface ConvoyClientOptions {
  /**
   * The server's address, like `https://app.example`. By default the page's own; outside of a browser
   * `http://127.0.0.1:4500`.
   */
  readonly url?: string;
  /** Returns the bearer token, or null if nobody is logged in; asked for each request. */
  readonly auth?: (request: AuthRequest) => string | null | undefined | Promise<string | null | undefined>;
  /** Headers for each request. */
  readonly headers?: Record<string, string> | (() => Record<string, string> | Promise<Record<string, string>>);
  /** Whether cookies are sent; by default to the page's own server only. */
  readonly credentials?: RequestCredentials;
  readonly fetch?: FetchFunction;
  /** How long a subscription stays when nobody listens any more, in ms: who comes back finds it. 1,000. */
  readonly lingerMs?: number;
  /** How long a mutation is tried where the server can't be reached, in ms. 60,000. */
  readonly mutationTimeoutMs?: number;
}

/** Returns a client. It connects when something is subscribed to. */
export function createConvoyClient(options: ConvoyClientOptions = {}): ConvoyClient {
  const url = (options.url ?? (typeof document === "undefined" ? "http://127.0.0.1:4500" : "")).replace(/\/+$/, "");
  if (url !== "" && !/^https?:\/\//.test(url)) {
    throw new TypeError(`url is ${JSON.stringify(url)}; it begins with http:// or https://, or is left out for the page's own server`);
  }
  const request: StreamOptions = {
    url,
    // Called through the global each time: it may be replaced, and it must not lose its `this`.
    fetch: options.fetch ?? ((input, init) => globalThis.fetch(input, init)),
    credentials: options.credentials ?? "same-origin",
    headers: async (fresh) => {
      const headers = typeof options.headers === "function" ? await options.headers() : options.headers;
      const token = await options.auth?.({ fresh });
      return { ...headers, ...(token ? { authorization: `Bearer ${token}` } : {}) };
    },
    random: Math.random,
  };
  return new ConvoyClient({
    request,
    source: (listener) => new StreamSource(request, listener),
    lingerMs: options.lingerMs ?? 1_000,
    patienceMs: options.mutationTimeoutMs ?? 60_000,
    attach: (source) => listenToPage(source, isLoopback(url)),
  });
}

/** Tells the source what the browser knows. A server on this machine does not need the network. */
function listenToPage(source: Source, loopback: boolean): () => void {
  if (typeof window === "undefined" || typeof document === "undefined") return () => {};
  const online = () => source.online(true);
  const offline = () => source.online(false);
  const visible = () => {
    if (document.visibilityState === "visible") source.visible();
  };
  if (!loopback) {
    window.addEventListener("online", online);
    window.addEventListener("offline", offline);
  }
  window.addEventListener("pageshow", visible);
  document.addEventListener("visibilitychange", visible);
  return () => {
    window.removeEventListener("online", online);
    window.removeEventListener("offline", offline);
    window.removeEventListener("pageshow", visible);
    document.removeEventListener("visibilitychange", visible);
  };
}

function isLoopback(url: string): boolean {
  const host = url === "" ? globalThis.location?.hostname : new URL(url).hostname;
  return host === "localhost" || host === "[::1]" || /^127\./.test(host ?? "") || (host ?? "").endsWith(".localhost");
}
