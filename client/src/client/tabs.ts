// One stream for all tabs of one user in a browser.
//
// A Web Lock decides which tab leads: it has the stream, for what any of them subscribes to, and passes on over a
// BroadcastChannel what comes. When it goes, its lock is granted to another, which goes on from the results that it has.
//
// Each tab applies the changes to results of its own. It may do so only where it builds on what the leader had: a key is
// *in step* once the leader has sent its whole result, by itself or as a snapshot; until then diffs of it are skipped.
//
// Responsible for: who leads, who wants what, tabs that come, go or sleep.
// Leaves to others: whose tabs these are (identity.ts), the stream (source.ts).

import { elapsedMs, now } from "./clock.js";
import { ANSWER_TIMEOUT_MS } from "./machine.js";
import { MisfitError } from "./patch.js";
import { LOADING, type Result } from "./results.js";
import { Results, StreamSource, type Connection, type KeyedChange, type Listener, type Source } from "./source.js";
import { timeLimit, type StreamOptions } from "./stream.js";
import type { Reference } from "./wire.js";

/** What a tab tells the one that leads. */
type Request =
  | { readonly type: "wants"; readonly tab: string; readonly wants: readonly { key: string; reference: Reference }[] }
  | { readonly type: "drop"; readonly tab: string; readonly key: string }
  | { readonly type: "again"; readonly key: string }
  | { readonly type: "ping" }
  /** Somebody looks at a page: no time to wait for the next attempt. */
  | { readonly type: "visible" };

/** What the tab that leads tells. */
type Report =
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

/** A leader of which nothing has been heard for so long is asked whether it is there; heartbeats come every 15 s. */
const SILENCE_MS = 25_000;
/** A tab in the background answers within this; one that the browser has frozen does not, or says so. */
const ANSWER_MS = 3_000;
const LOOK_MS = 5_000;

export interface TabsOptions {
  readonly request: StreamOptions;
  /** Returns the name under which tabs of this user find each other, or null where this is not known; `signal` ends it. */
  readonly name: (signal: AbortSignal) => Promise<string | null>;
}

/** Whether the browser has what it takes. */
export function canShareTabs(): boolean {
  return typeof BroadcastChannel === "function" && typeof navigator !== "undefined" && navigator.locks !== undefined;
}

export class TabsSource implements Source {
  readonly #options: TabsOptions;
  readonly #listener: Listener;
  readonly #results = new Results();
  readonly #wants = new Map<string, Reference>();
  readonly #inStep = new Set<string>();
  #tab = crypto.randomUUID();
  #channel: BroadcastChannel | null = null;
  /** Ends what was begun for one identity: locks, waiting for locks, timers. */
  #leaving = new AbortController();
  /** Where this tab leads: the stream, and who wants what of it. */
  #lead: { readonly stream: StreamSource; readonly wantedBy: Map<string, Set<string>>; readonly tabs: Set<string> } | null = null;
  /** Where another leads. */
  #leader: { readonly id: string; readonly session: string | null } | null = null;
  #connection: Connection = { state: "connecting", error: null };
  #lsn: string | null = null;
  #heardAt = now();
  #asked: ReturnType<typeof setTimeout> | undefined;

  constructor(options: TabsOptions, listener: Listener) {
    this.#options = options;
    this.#listener = listener;
    void this.#join();
  }

  get results(): ReadonlyMap<string, Result> {
    return this.#results.map;
  }

  get connection(): Connection {
    return this.#connection;
  }

  get session(): string | null {
    return this.#lead === null ? (this.#leader?.session ?? null) : this.#lead.stream.session;
  }

  get lsn(): string | null {
    return this.#lead === null ? this.#lsn : this.#lead.stream.lsn;
  }

  want(key: string, reference: Reference): void {
    this.#wants.set(key, reference);
    if (!this.#results.map.has(key)) this.#results.map.set(key, LOADING);
    if (this.#lead !== null) this.#wantedBy(this.#tab, key, reference);
    else this.#say({ type: "wants", tab: this.#tab, wants: [{ key, reference }] });
  }

  drop(key: string): void {
    this.#wants.delete(key);
    this.#inStep.delete(key);
    if (this.#lead !== null) return this.#droppedBy(this.#tab, key);
    this.#results.map.delete(key);
    this.#say({ type: "drop", tab: this.#tab, key });
  }

  again(key: string): void {
    if (this.#lead !== null) this.#lead.stream.again(key);
    else this.#say({ type: "again", key });
  }

  online(isOnline: boolean): void {
    this.#lead?.stream.online(isOnline);
  }

  visible(): void {
    if (this.#lead !== null) return this.#lead.stream.visible();
    this.#say({ type: "visible" });
    this.#look();
  }

  renew(): void {
    this.#leave();
    this.#lsn = null;
    this.#listener.changed({ keys: this.#results.forget(), lsn: null, reflects: [], isForgotten: true });
    this.#connected({ state: "connecting", error: null });
    void this.#join();
  }

  close(): void {
    this.#leave();
    this.#connected({ state: "closed", error: null });
  }

  // Coming and going.

  async #join(): Promise<void> {
    const leaving = new AbortController();
    this.#leaving = leaving;
    const { signal } = leaving;
    let name: string | null = null;
    const naming = new AbortController();
    const timer = timeLimit(naming, ANSWER_TIMEOUT_MS, "credentials");
    const end = () => naming.abort();
    signal.addEventListener("abort", end);
    try {
      name = await this.#options.name(naming.signal);
    } catch {
      // Who cannot be identified shares with nobody.
    } finally {
      clearTimeout(timer);
    }
    if (signal.aborted) return;
    if (name === null) return this.#takeLead();
    this.#tab = crypto.randomUUID();
    // As long as this tab is there, it has a lock by its own name: that is how the leader hears that it has gone.
    const isHeld = await new Promise<boolean>((resolve) => {
      void hold(tabLock(name, this.#tab), signal, {}, () => resolve(true)).then(() => resolve(false));
    });
    if (signal.aborted) return;
    // Pages of no origin (sandboxed frames) have locks and may not use them.
    if (!isHeld) return this.#takeLead();
    this.#channel = new BroadcastChannel(name);
    this.#channel.onmessage = ({ data }: MessageEvent<Request | Report>) => this.#hear(data);
    this.#heardAt = now();
    const clock = setInterval(() => this.#look(), LOOK_MS);
    signal.addEventListener("abort", () => clearInterval(clock));
    this.#stand(name, signal, {});
    this.#sayWants();
  }

  /** Waits to lead; leads until the lock is taken away. */
  #stand(name: string, signal: AbortSignal, options: LockOptions): void {
    void hold(name, signal, options, () => this.#takeLead()).then((end) => {
      if (end !== "stolen" || signal.aborted) return;
      // This tab slept, and another has taken over meanwhile.
      this.#stepDown();
      this.#stand(name, signal, {});
      this.#sayWants();
    });
  }

  #takeLead(): void {
    if (this.#lead !== null) return;
    const tabs = new Set<string>();
    const relay = {
      changes: (changes: readonly KeyedChange[], lsn: string | null, reflects: readonly string[]) => {
        // Most users have one tab.
        if (tabs.size > 0) this.#report({ type: "changes", leader: this.#tab, changes, lsn, reflects });
      },
      moved: () => {
        if (this.#lead?.stream === stream) this.#reportLead(); // Its end is no news of who leads.
      },
    };
    const listener: Listener = {
      changed: (change) => this.#listener.changed(change),
      connection: (connection) => {
        if (this.#lead?.stream === stream) this.#connected(connection); // Not how it ends when another takes over.
      },
    };
    // It goes on from the results that are here: where a digest still holds, nothing is sent again.
    const wasLive = this.#wants.size > 0 && ["live", "reconnecting"].includes(this.#connection.state);
    const stream: StreamSource = new StreamSource(this.#options.request, listener, this.#results, relay, wasLive);
    this.#lead = { stream, wantedBy: new Map(), tabs };
    this.#leader = null;
    clearTimeout(this.#asked);
    for (const [key, reference] of this.#wants) this.#wantedBy(this.#tab, key, reference);
    this.#connected(stream.connection);
    this.#reportLead();
  }

  #stepDown(): void {
    const lead = this.#lead;
    if (lead === null) return;
    this.#lead = null;
    this.#lsn = lead.stream.lsn;
    lead.stream.close();
    for (const key of [...this.#results.map.keys()]) if (!this.#wants.has(key)) this.#results.map.delete(key);
    this.#inStep.clear();
  }

  #leave(): void {
    this.#leaving.abort();
    this.#stepDown();
    this.#leader = null;
    this.#inStep.clear();
    clearTimeout(this.#asked);
    this.#channel?.close();
    this.#channel = null;
  }

  // As leader.

  #wantedBy(tab: string, key: string, reference: Reference): void {
    const lead = this.#lead;
    if (lead === null) return;
    const tabs = lead.wantedBy.get(key);
    if (tabs === undefined) {
      lead.wantedBy.set(key, new Set([tab]));
      lead.stream.want(key, reference);
    } else {
      tabs.add(tab);
    }
  }

  #droppedBy(tab: string, key: string): void {
    const tabs = this.#lead?.wantedBy.get(key);
    if (tabs === undefined || !tabs.delete(tab) || tabs.size > 0) return;
    this.#lead?.wantedBy.delete(key);
    this.#lead?.stream.drop(key);
  }

  /** Hears of the end of a tab, however it ended. */
  #lookAfter(tab: string): void {
    const lead = this.#lead;
    const name = this.#channel?.name;
    if (lead === null || name === undefined || lead.tabs.has(tab)) return;
    lead.tabs.add(tab);
    void hold(tabLock(name, tab), this.#leaving.signal, {}, () => {
      lead.tabs.delete(tab);
      if (this.#lead === lead) for (const key of [...lead.wantedBy.keys()]) this.#droppedBy(tab, key);
    }, true);
  }

  #reportLead(): void {
    const isAsleep = this.#lead?.stream.isOverdue ?? false;
    this.#report({ type: "leads", leader: this.#tab, connection: this.#connection, session: this.session, isAsleep });
  }

  #serve(request: Request): void {
    const lead = this.#lead;
    if (lead === null) return;
    switch (request.type) {
      case "wants": {
        const results: { key: string; result: Result }[] = [];
        for (const { key, reference } of request.wants) {
          this.#wantedBy(request.tab, key, reference);
          const result = this.#results.map.get(key);
          if (result !== undefined && result !== LOADING) results.push({ key, result });
        }
        this.#lookAfter(request.tab);
        this.#reportLead();
        this.#report({ type: "results", leader: this.#tab, tab: request.tab, results, lsn: lead.stream.lsn });
        break;
      }
      case "drop":
        this.#droppedBy(request.tab, request.key);
        break;
      case "again":
        lead.stream.again(request.key);
        break;
      case "ping":
        this.#reportLead();
        break;
      case "visible":
        this.#reportLead();
        lead.stream.visible();
        break;
    }
  }

  // As one of the others.

  #hear(message: Request | Report): void {
    if (!("leader" in message)) return this.#serve(message);
    if (this.#lead !== null) return; // Of one that slept, and does not know yet that it no longer leads.
    if (message.type !== "leads" || !message.isAsleep) {
      this.#heardAt = now();
      clearTimeout(this.#asked);
      this.#asked = undefined;
    }
    switch (message.type) {
      case "leads": {
        const isNew = this.#leader?.id !== message.leader;
        this.#leader = { id: message.leader, session: message.session };
        if (isNew) {
          this.#inStep.clear();
          this.#sayWants();
          const keys = this.#results.apply(this.#results.outdating(this.#lsn));
          this.#listener.changed({ keys, lsn: null, reflects: [] });
        }
        this.#connected(message.connection);
        break;
      }
      case "changes":
        if (message.leader === this.#leader?.id) this.#follow(message.changes, message.lsn, message.reflects);
        break;
      case "results":
        if (message.tab !== this.#tab || message.leader !== this.#leader?.id) break;
        this.#adopt(message.results, message.lsn);
        break;
    }
  }

  #follow(changes: readonly KeyedChange[], lsn: string | null, reflects: readonly string[]): void {
    const mine: KeyedChange[] = [];
    for (const change of changes) {
      if (!this.#wants.has(change.key)) continue;
      if (change.type === "snapshot" || change.type === "error") this.#inStep.add(change.key);
      if (this.#inStep.has(change.key)) mine.push(change);
    }
    try {
      const keys = this.#results.apply(mine);
      if (lsn !== null) this.#lsn = lsn;
      this.#listener.changed({ keys, lsn, reflects });
    } catch (error) {
      if (!(error instanceof MisfitError)) throw error;
      for (const { key } of mine) this.#inStep.delete(key);
      this.#sayWants();
      const keys = this.#results.apply(this.#results.outdating(this.#lsn, mine.map(({ key }) => key)));
      this.#listener.changed({ keys, lsn: null, reflects: [] });
    }
  }

  /** Takes over whole results, all at one point. */
  #adopt(results: readonly { key: string; result: Result }[], lsn: string | null): void {
    const changes: KeyedChange[] = [];
    for (const { key, result } of results) {
      if (!this.#wants.has(key)) continue;
      this.#inStep.add(key);
      if (result.value === undefined && result.error !== null) {
        changes.push({ key, type: "error", error: result.error, final: result.error.final });
        continue;
      }
      // As a snapshot, so that what is equal keeps its identity here.
      changes.push({
        key,
        type: "snapshot",
        value: result.value,
        ...(result.keys === null ? {} : { keys: result.keys }),
        ...(result.columns === null ? {} : { columns: result.columns }),
        ...(result.digest === null ? {} : { digest: result.digest }),
      });
      if (result.status === "stale") changes.push({ key, type: "stale", lsn: result.staleSince ?? "" });
      if (result.error !== null) changes.push({ key, type: "error", error: result.error, final: result.error.final });
    }
    const keys = this.#results.apply(changes);
    const isAll = [...this.#wants.keys()].every((key) => this.#inStep.has(key));
    if (lsn !== null) this.#lsn = lsn;
    this.#listener.changed({ keys, lsn: isAll ? lsn : null, reflects: [] });
  }

  /** Asks a leader that has not been heard of whether it is there; takes over from one that is not. */
  #look(): void {
    if (this.#lead !== null || this.#channel === null || this.#asked !== undefined) return;
    if (elapsedMs(this.#heardAt) < SILENCE_MS) return;
    // A tab in the background can wait, and it might itself be put to sleep next.
    if (typeof document !== "undefined" && document.visibilityState === "hidden") return;
    const { name } = this.#channel;
    const { signal } = this.#leaving;
    this.#say({ type: "ping" });
    this.#asked = setTimeout(() => {
      this.#asked = undefined;
      if (this.#lead === null && !signal.aborted) this.#stand(name, signal, { steal: true });
    }, ANSWER_MS);
  }

  #sayWants(): void {
    const wants = Array.from(this.#wants, ([key, reference]) => ({ key, reference }));
    this.#say({ type: "wants", tab: this.#tab, wants });
  }

  #say(request: Request): void {
    this.#channel?.postMessage(request);
  }

  #report(report: Report): void {
    this.#channel?.postMessage(report);
  }

  #connected(connection: Connection): void {
    if (connection.state === this.#connection.state && connection.error === this.#connection.error) return;
    this.#connection = connection;
    this.#listener.connection(connection);
  }
}

function tabLock(name: string, tab: string): string {
  return `${name}:${tab}`;
}

/**
 * Waits for a lock, calls back when it is held, and holds it until `signal` ends it; or only for the call, with `once`.
 * Returns how it ended.
 */
async function hold(
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
