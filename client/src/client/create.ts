// Puts a client together: options, credentials, and what the browser says of network and page.

import { elapsedMs, now, type Moment } from "./clock.js";
import { ConvoyClient } from "./client.js";
import { channelName, identityOfToken, type Identity } from "./identity.js";
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
   * Whether all tabs of one user share one stream. They do by default where it is known whose they are: by the JWT that
   * `auth` returns (`sub` and all other claims but those that differ from token to token), by `identity`, or, with neither
   * of them and without `headers` and `fetch`, because cookies are the same in all tabs of the page's origin, and none are
   * sent to another. With false, each tab has a stream of its own.
   */
  readonly tabs?: boolean;
  /**
   * Says who is logged in, in any words that differ from user to user (and from right to right, where a user may have
   * several). For credentials that nobody can look into and that differ from tab to tab.
   */
  readonly identity?: string | (() => string | null | undefined);
  /** How long a subscription stays when nobody listens any more, in ms: who comes back finds it. 1,000. */
  readonly lingerMs?: number;
  /** How long a mutation is tried where the server can't be reached or does not answer, in ms. 60,000. */
  readonly mutationTimeoutMs?: number;
  /**
   * What the keys of this client's queries begin with in a cache of TanStack Query. By default `convoy` for the first
   * client that is used there, `convoy:2` for the next, and so on. Give it where a server makes a client for each request,
   * so that a page finds what was fetched there.
   */
  readonly cacheKey?: string;
}

/** Returns a client. It connects when something is subscribed to. */
export function createConvoyClient(options: ConvoyClientOptions = {}): ConvoyClient {
  const url = (options.url ?? (typeof document === "undefined" ? "http://127.0.0.1:4500" : "")).replace(/\/+$/, "");
  if (url !== "" && !/^https?:\/\//.test(url)) {
    throw new TypeError(`url is ${JSON.stringify(url)}; it begins with http:// or https://, or is left out for the page's own server`);
  }
  const isOwn = typeof location !== "undefined" && (url === "" || new URL(url).origin === location.origin);
  const sharing = sharingOf(options, isOwn);
  if (options.tabs === true && sharing === null) {
    throw new TypeError(
      "tabs: true needs to know whose tabs these are, so that two users never share: with headers or a fetch of its own, give " +
        "auth (with JWTs) or identity (any string that differs from user to user)",
    );
  }
  let tabs: TabsSource | null = null;
  let joined: Identity | null | undefined; // Who the tabs were joined as, once that is known.
  let rejoinedAt: Moment | null = null;
  let isRestless = false; // Whether tokens of one user differ each time, so that no two tabs would ever share.
  const identify = (headers: Record<string, string>): Identity | null => {
    if (options.identity !== undefined) {
      const identity = typeof options.identity === "function" ? options.identity() : options.identity;
      return typeof identity === "string" ? { user: identity, channel: identity } : null;
    }
    const token = /^Bearer (.+)$/.exec(headers["authorization"] ?? "")?.[1];
    if (token !== undefined) return identityOfToken(token);
    return sharing === "cookies" || sharing === "nobody" ? { user: "", channel: sharing } : null;
  };
  const ask = async (fresh: boolean): Promise<Record<string, string>> => {
    const headers = typeof options.headers === "function" ? await options.headers() : options.headers;
    const token = await options.auth?.({ fresh });
    return { ...headers, ...(token ? { authorization: `Bearer ${token}` } : {}) };
  };
  /** Lets a stream that others share never go on as somebody else's. */
  const check = (headers: Record<string, string>): void => {
    if (tabs === null || joined === undefined) return;
    const identity = identify(headers);
    if (identity?.user !== joined?.user) {
      joined = undefined;
      client.identityChanged();
    } else if (identity?.channel !== joined?.channel && !isRestless) {
      // The same user, whose results stay, with another token: with whom it shares may be different.
      isRestless = rejoinedAt !== null && elapsedMs(rejoinedAt) < REJOIN_MS;
      rejoinedAt = now();
      joined = undefined;
      found = headers;
      tabs.rejoin();
    }
  };
  const request: StreamOptions = {
    url,
    // Called through the global each time: it may be replaced, and it must not lose its `this`.
    fetch: options.fetch ?? ((input, init) => globalThis.fetch(input, init)),
    credentials: options.credentials ?? "same-origin",
    headers: async (fresh) => {
      const headers = await ask(fresh);
      check(headers);
      return headers;
    },
    random: () => Math.random(),
  };
  /** By which the tabs were joined: the stream is opened with the same, since the next may be of another channel. */
  let found: Record<string, string> | null = null;
  const forStream: StreamOptions = {
    ...request,
    headers: async (fresh) => {
      const before = found;
      found = null;
      return before !== null && !fresh ? before : request.headers(fresh);
    },
  };
  const client = new ConvoyClient({
    request,
    source: (listener) => {
      if (options.tabs === false || sharing === null || !canShareTabs()) return new StreamSource(request, listener);
      const name = async (signal: AbortSignal): Promise<string | null> => {
        joined = undefined;
        const headers = await headersOf(forStream, false, signal);
        found = headers;
        // What is asked for much later is asked for anew.
        setTimeout(() => (found = found === headers ? null : found), FOUND_MS);
        joined = identify(headers);
        if (joined === null || isRestless) return null;
        return channelName(url === "" ? location.origin : url, joined.channel);
      };
      const renewed = () => client.identityChanged();
      tabs = new TabsSource({ request: forStream, name, isJar: sharing === "cookies", renewed }, listener);
      return tabs;
    },
    cacheKey: options.cacheKey ?? null,
    lingerMs: options.lingerMs ?? 1_000,
    patienceMs: options.mutationTimeoutMs ?? 60_000,
    attach: (source) => listenToPage(source, isLoopback(url)),
  });
  return client;
}

/** Tokens of one user that differ more often than this belong to a provider with which tabs can't be told by them. */
const REJOIN_MS = 60_000;
const FOUND_MS = 5_000;

/** By what tabs are known to be one user's; null where that is not known. */
type Sharing = "identity" | "tokens" | "cookies" | "nobody" | null;

function sharingOf({ auth, identity, headers, fetch, credentials }: ConvoyClientOptions, isOwn: boolean): Sharing {
  if (identity !== undefined) return "identity";
  if (auth !== undefined) return "tokens";
  if (headers !== undefined || (fetch !== undefined && credentials !== "omit")) return null;
  if (credentials === "omit") return "nobody";
  if (credentials === "include") return isOwn ? "cookies" : null;
  return isOwn ? "cookies" : "nobody"; // Cookies go to the page's own server alone.
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
