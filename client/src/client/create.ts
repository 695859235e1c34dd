// Puts a client together: options, credentials, and what the browser says of network and page.

import { ConvoyClient } from "./client.js";
import { channelName, identityOfToken } from "./identity.js";
import type { Source } from "./source.js";
import { StreamSource } from "./source.js";
import { headersOf, type FetchFunction, type StreamOptions } from "./stream.js";
import { TabsSource, canShareTabs } from "./tabs.js";

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
  /**
   * Whether all tabs of one user share one stream. They do by default where it is known whose they are: by the `sub`
   * and the other claims of a JWT that `auth` returns, by `identity`, or because `credentials` is `"omit"` and there are
   * neither `auth` nor `headers`. With false, each tab has a stream of its own.
   */
  readonly tabs?: boolean;
  /**
   * Says who is logged in, in any words that differ from user to user (and from right to right, where a user may have
   * several). What cookie sessions need to share a stream, since nobody can look into them.
   */
  readonly identity?: string | (() => string | null);
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
  if (options.tabs === true && !canBeIdentified(options)) {
    throw new TypeError(
      "tabs: true needs to know whose tabs these are, so that two users never share: give auth (with JWTs), identity " +
        '(any string that differs from user to user), or credentials: "omit" where nobody logs in',
    );
  }
  let tabs: TabsSource | null = null;
  let joined: string | null | undefined; // The identity that the tabs were joined with, once that is known.
  const identify = (headers: Record<string, string>): string | null => {
    if (options.identity !== undefined) return typeof options.identity === "function" ? options.identity() : options.identity;
    const token = /^Bearer (.+)$/.exec(headers["authorization"] ?? "")?.[1];
    if (token !== undefined) return identityOfToken(token);
    return options.auth === undefined && options.headers === undefined && options.credentials === "omit" ? "" : null;
  };
  const request: StreamOptions = {
    url,
    // Called through the global each time: it may be replaced, and it must not lose its `this`.
    fetch: options.fetch ?? ((input, init) => globalThis.fetch(input, init)),
    credentials: options.credentials ?? "same-origin",
    headers: async (fresh) => {
      const headers = typeof options.headers === "function" ? await options.headers() : options.headers;
      const token = await options.auth?.({ fresh });
      const all = { ...headers, ...(token ? { authorization: `Bearer ${token}` } : {}) };
      // A stream that others share must never go on as somebody else's.
      if (tabs !== null && joined !== undefined && identify(all) !== joined) {
        joined = undefined;
        client.identityChanged();
      }
      return all;
    },
    random: () => Math.random(),
  };
  const client = new ConvoyClient({
    request,
    source: (listener) => {
      if (options.tabs === false || !canBeIdentified(options) || !canShareTabs()) return new StreamSource(request, listener);
      const name = async (signal: AbortSignal): Promise<string | null> => {
        joined = undefined;
        const identity = identify(await headersOf(request, false, signal));
        joined = identity;
        return identity === null ? null : channelName(url === "" ? location.origin : url, identity);
      };
      tabs = new TabsSource({ request, name }, listener);
      return tabs;
    },
    lingerMs: options.lingerMs ?? 1_000,
    patienceMs: options.mutationTimeoutMs ?? 60_000,
    attach: (source) => listenToPage(source, isLoopback(url)),
  });
  return client;
}

function canBeIdentified({ auth, identity, headers, credentials }: ConvoyClientOptions): boolean {
  return identity !== undefined || auth !== undefined || (headers === undefined && credentials === "omit");
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
