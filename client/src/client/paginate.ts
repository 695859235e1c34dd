// A list that grows page by page and has no gaps while rows come and go.
//
// A page is first asked for by its length. Once it is there, its end is pinned: it is subscribed to again, from its
// beginning to where it ended, whatever comes to lie between. The older subscription stays until the newer one has
// answered, and the page after it is shown only from then on; so what is shown is always one range. Pages move together;
// while one is behind the others, what is shown is what was there before they parted.
//
// Responsible for: pages, their pinning, what they show together.
// Leaves to others: subscriptions (client.ts).

import type { QueryRef } from "../api.js";
import { canonicalJson } from "./canonical.js";
import { listen, tellAll, type ConvoyClient, type QueryState, type Watch } from "./client.js";
import type { ConvoyError } from "./errors.js";

export interface PaginatedOptions {
  /** How many rows the first page asks for. */
  readonly initialNumItems: number;
}

/** What a paginated function takes as `paginationOpts`. */
export interface PaginationOpts {
  readonly numItems: number;
  readonly cursor: string | null;
  readonly endCursor?: string;
}

/** What a paginated function returns. */
export interface PaginationResult<T = unknown> {
  readonly page: readonly T[];
  readonly isDone: boolean;
  readonly continueCursor: string;
}

export interface PaginatedState<T = unknown> {
  readonly results: readonly T[];
  readonly status: "LoadingFirstPage" | "CanLoadMore" | "LoadingMore" | "Exhausted";
  readonly isLoading: boolean;
  /** Whether `results` may be older than the rest: a page is behind, or there is no stream. */
  readonly isStale: boolean;
  readonly error: ConvoyError | null;
}

/** What a list shows before anything is there. */
export const LOADING: PaginatedState<never> = Object.freeze({
  results: [],
  status: "LoadingFirstPage",
  isLoading: true,
  isStale: false,
  error: null,
});

interface Page {
  readonly cursor: string | null;
  readonly numItems: number;
  /** What it shows. */
  shown: Part;
  /** The same, pinned, before it has answered. */
  next: Part | null;
}

interface Part {
  readonly watch: Watch<PaginationResult>;
  readonly endCursor: string | null;
  end: () => void;
}

export class Paginator {
  readonly #client: ConvoyClient;
  readonly #reference: QueryRef;
  readonly #args: object;
  readonly #numItems: number;
  readonly #listeners = new Set<() => void>();
  #pages: Page[] = [];
  #state: PaginatedState = LOADING;
  /** What was shown when all pages were of one moment; null before that. */
  #whole: readonly unknown[] | null = null;
  /** Whether some pages have moved since and others have not. */
  #isTorn = false;
  /** Whose list it is: where pages end is one user's, too. */
  #identity: number;
  #endOfIdentity = (): void => {};
  #updating = false;

  constructor(client: ConvoyClient, reference: QueryRef, args: object, { initialNumItems }: PaginatedOptions) {
    if (!Number.isInteger(initialNumItems) || initialNumItems < 1) {
      throw new TypeError(`initialNumItems is ${initialNumItems}; it is how many rows the first page asks for, at least 1`);
    }
    this.#client = client;
    this.#reference = reference;
    this.#args = JSON.parse(canonicalJson(args)) as object; // For all pages those of the call.
    this.#numItems = initialNumItems;
    this.#identity = client.identityVersion;
  }

  /** Returns what the list shows; the same object until something changes. */
  getCurrent(): PaginatedState {
    return this.#identity === this.#client.identityVersion ? this.#state : LOADING;
  }

  /** Subscribes, and calls back after each change. Returns what ends it. */
  onUpdate(callback: () => void): () => void {
    const end = listen(this.#listeners, callback);
    if (this.#listeners.size === 1) this.#start();
    return () => {
      if (end() && this.#listeners.size === 0) this.#stop();
    };
  }

  /**
   * Asks for so many rows more, and again where that failed; does nothing unless the status is `CanLoadMore`, and
   * somebody listens.
   */
  loadMore(numItems: number): void {
    if (!Number.isInteger(numItems) || numItems < 1) {
      throw new TypeError(`loadMore takes how many rows to ask for, at least 1, not ${numItems}`);
    }
    const last = this.#pages.at(-1);
    if (this.getCurrent().status !== "CanLoadMore" || last === undefined || this.#listeners.size === 0) return;
    if (hasFailed(last)) {
      this.#pages.pop();
      const page = this.#page(last.cursor, numItems);
      this.#pages.push(page);
      end([last]);
      // The same page as before would have the same error.
      if (hasFailed(page)) page.shown.watch.refetch().catch(() => {});
      return this.#update();
    }
    const cursor = (last.next ?? last.shown).endCursor;
    if (cursor === null) return;
    this.#pages.push(this.#page(cursor, numItems));
    this.#update();
  }

  #start(): void {
    this.#endOfIdentity = this.#client.onIdentityChange(() => this.#update());
    if (this.#identity !== this.#client.identityVersion) {
      this.#identity = this.#client.identityVersion;
      this.#begin();
      this.#pages = [];
    }
    if (this.#pages.length > 0) {
      // Somebody is back (StrictMode does that at once): the same pages, which may still be there.
      for (const page of this.#pages) {
        page.shown.end = page.shown.watch.onUpdate(() => this.#update());
        if (page.next) page.next.end = page.next.watch.onUpdate(() => this.#update());
      }
    } else {
      this.#pages.push(this.#page(null, this.#numItems));
    }
    this.#update();
  }

  #stop(): void {
    this.#endOfIdentity();
    end(this.#pages);
  }

  #begin(): void {
    this.#state = LOADING;
    this.#whole = null;
    this.#isTorn = false;
  }

  #page(cursor: string | null, numItems: number): Page {
    return { cursor, numItems, shown: this.#part(cursor, numItems, null), next: null };
  }

  #part(cursor: string | null, numItems: number, endCursor: string | null): Part {
    const paginationOpts: PaginationOpts = { numItems, cursor, ...(endCursor === null ? {} : { endCursor }) };
    const watch = this.#client.watchQuery(this.#reference, { ...this.#args, paginationOpts }) as Watch<PaginationResult>;
    return { watch, endCursor, end: watch.onUpdate(() => this.#update()) };
  }

  #update(): void {
    // One that listened to the same query may have ended the list.
    if (this.#updating || this.#listeners.size === 0) return;
    this.#updating = true;
    try {
      if (this.#identity !== this.#client.identityVersion) {
        this.#identity = this.#client.identityVersion;
        const before = this.#pages;
        this.#whole = null;
        this.#isTorn = false;
        this.#pages = [this.#page(null, this.#numItems)];
        end(before);
      }
      for (const page of this.#pages) this.#pin(page);
    } finally {
      this.#updating = false;
    }
    const next = this.#show();
    const before = this.#state;
    const isSame =
      before.status === next.status &&
      before.error === next.error &&
      before.isStale === next.isStale &&
      before.isLoading === next.isLoading &&
      before.results.length === next.results.length &&
      before.results.every((row, index) => Object.is(row, next.results[index]));
    if (isSame) return;
    this.#state = next;
    tellAll(this.#listeners);
  }

  #pin(page: Page): void {
    for (;;) {
      if (page.next !== null) {
        if (page.next.watch.getCurrent().data === undefined) return;
        page.shown.end();
        page.shown = page.next;
        page.next = null;
      }
      const { data } = page.shown.watch.getCurrent();
      // A page that reaches the end stays open there, so that it shows what comes after.
      if (page.shown.endCursor !== null || data === undefined || data.isDone) return;
      page.next = this.#part(page.cursor, page.numItems, data.continueCursor);
    }
  }

  #show(): PaginatedState {
    const results: unknown[] = [];
    let last: QueryState<PaginationResult> | null = null;
    let error: ConvoyError | null = null;
    let isWhole = true; // Whether the pages so far are one range that the next one goes on from.
    let behind = 0;
    let shown = 0;
    for (const page of this.#pages) {
      last = isWhole ? page.shown.watch.getCurrent() : null;
      error ??= page.shown.watch.getCurrent().error ?? page.next?.watch.getCurrent().error ?? null;
      if (last?.data === undefined) {
        last = null;
        break;
      }
      shown += 1;
      if (last.isStale) behind += 1;
      results.push(...last.data.page);
      isWhole = page.shown.endCursor !== null;
    }
    // Where all are behind, they stand where they stood together, and what is optimistic is shown.
    if (behind === 0) this.#isTorn = false;
    else if (behind < shown) this.#isTorn = true;
    const isHeld = this.#isTorn && this.#whole !== null;
    if (!isHeld) this.#whole = results;
    const open = this.#pages.at(-1);
    // The last page is asked whether it is the end; a pinned one does not know, and so there may be more.
    const isDone = open !== undefined && open.shown.endCursor === null && open.next === null && last?.data?.isDone === true;
    const isMissing = last === null;
    const isFailed = open !== undefined && this.#pages.length > 1 && hasFailed(open);
    const status = isMissing && !isFailed
      ? results.length === 0 && this.#pages.length <= 1
        ? "LoadingFirstPage"
        : "LoadingMore"
      : isDone
        ? "Exhausted"
        : "CanLoadMore";
    return {
      results: isHeld ? (this.#whole as readonly unknown[]) : results,
      status,
      isLoading: isMissing && error === null,
      isStale: behind > 0,
      error,
    };
  }
}

/** Whether a page was refused, so that it will not come by itself. */
function hasFailed({ shown }: Page): boolean {
  const { data, error } = shown.watch.getCurrent();
  return data === undefined && error !== null;
}

function end(pages: readonly Page[]): void {
  for (const { shown, next } of pages) {
    shown.end();
    next?.end();
  }
}
