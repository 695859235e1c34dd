// One stream for all tabs of one user in a browser.
//
// A Web Lock decides which tab leads: it has the stream, for what any of them subscribes to, and passes on over a
// BroadcastChannel what comes. When it goes, its lock is granted to another, which goes on from the results that it has.
//
// Each tab applies the changes to results of its own. It may do so only where it builds on what the leader had: a key is
// *in step* once the leader has sent its whole result, by itself or as a snapshot; until then diffs of it are skipped.
//
// A leader whose own stream the server closes gives the lead to the next in line, since that may be for its credentials
// alone: each tab is tried, and one that failed follows whoever has a stream.
//
// Where the tabs are one user's because they have one jar of cookies, a login is told to all.
//
// Responsible for: who leads; a tab that follows, comes, goes or sleeps.
// Leaves to others: what the leader does for all (lead.ts), what they tell each other and the locks (channel.ts), whose
// tabs these are (identity.ts), the stream (source.ts).

import { hold, tabLock, type Report, type Request } from "./channel.js";
import { elapsedMs, now } from "./clock.js";
import { Lead, type LeadOptions } from "./lead.js";
import { ANSWER_TIMEOUT_MS } from "./machine.js";
import { MisfitError } from "./patch.js";
import { LOADING, type Result } from "./results.js";
import { Results, type Connection, type KeyedChange, type Listener, type Source } from "./source.js";
import { timeLimit, type StreamOptions } from "./stream.js";
import type { Reference, WireError } from "./wire.js";

/** A leader of which nothing has been heard for so long is asked whether it is there; heartbeats come every 15 s. */
const SILENCE_MS = 25_000;
/** A tab in the background answers within this; one that the browser has frozen does not, or says so. */
const ANSWER_MS = 3_000;
const LOOK_MS = 5_000;
/** A tab whose own stream was refused for good leads again no sooner than this after another could. */
const OUT_MS = 30_000;

export interface TabsOptions {
  readonly request: StreamOptions;
  /** Returns the name under which tabs of this user find each other, or null where this is not known; `signal` ends it. */
  readonly name: (signal: AbortSignal) => Promise<string | null>;
  /**
   * Whether they are one user's because they have one jar of cookies. Then all take part in a login, and who comes is given
   * what is here only once the server has said that the session is still that of the cookies: they may have changed since
   * without a word.
   */
  readonly isJar: boolean;
  /** Is called when another tab says that somebody else is logged in. */
  readonly renewed: () => void;
}

/** Whether this is a browser, and has what it takes: elsewhere there are no tabs, though perhaps locks and channels. */
export function canShareTabs(): boolean {
  return typeof document !== "undefined" && typeof BroadcastChannel === "function" && typeof navigator !== "undefined" && navigator.locks !== undefined;
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
  /** Where this tab leads. */
  #lead: Lead | null = null;
  /** Ends leading, or standing in line for it. */
  #standing: AbortController | null = null;
  /** Why this tab's own stream was closed, until another tab has one. */
  #out: WireError | null = null;
  /** The leader that has given this tab something, and so has proven that it may. */
  #provenBy: string | null = null;
  /** Whether `renew` is called because another tab has said so. */
  #isTold = false;
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
    if (this.#lead !== null) return this.#lead.want(this.#tab, key, reference);
    this.#say({ type: "wants", tab: this.#tab, wants: [{ key, reference }] });
    const { error } = this.#connection;
    if (this.#out !== null && error !== null) queueMicrotask(() => this.#refuse([key], error));
  }

  drop(key: string): void {
    this.#wants.delete(key);
    this.#inStep.delete(key);
    if (this.#lead !== null) return this.#lead.drop(this.#tab, key);
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
    this.#resume();
    if (this.#lead !== null) return this.#lead.stream.visible();
    this.#say({ type: "visible" });
    this.#look();
  }

  renew(): void {
    if (this.#options.isJar && !this.#isTold) this.#say({ type: "renew" });
    this.#leave();
    this.#lsn = null;
    this.#listener.changed({ keys: this.#results.forget(), lsn: null, reflects: [], isForgotten: true });
    this.#connected({ state: "connecting", error: null });
    void this.#join();
  }

  /** The same user's tabs are to be found under another name: what is here stays. */
  rejoin(): void {
    this.#leave();
    this.#outdate();
    if (this.#connection.state !== "connecting") this.#connected({ state: "reconnecting", error: null });
    void this.#join();
  }

  close(): void {
    this.#leave();
    this.#connected({ state: "closed", error: null });
  }

  #outdate(keys?: Iterable<string>): void {
    const changed = this.#results.apply(this.#results.outdating(this.#lsn, keys));
    this.#listener.changed({ keys: changed, lsn: null, reflects: [] });
  }

  #refuse(keys: readonly string[], error: WireError): void {
    const changes = keys.filter((key) => this.#wants.has(key)).map((key): KeyedChange => ({ key, type: "error", final: true, error }));
    this.#listener.changed({ keys: this.#results.apply(changes), lsn: null, reflects: [] });
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
    // A page that is put to sleep hears messages, but not its timers and its stream: another is to lead.
    if (typeof document !== "undefined") {
      document.addEventListener("freeze", () => this.#pause(), { signal });
      document.addEventListener("resume", () => this.#resume(), { signal });
    }
    this.#stand(name, signal, {});
    this.#sayWants();
  }

  /** Waits to lead; leads until the lock is taken away, or given up. */
  #stand(name: string, signal: AbortSignal, options: LockOptions): void {
    const standing = new AbortController();
    const end = () => standing.abort();
    signal.addEventListener("abort", end, { signal: standing.signal });
    this.#standing?.abort();
    this.#standing = standing;
    void hold(name, standing.signal, options, () => this.#takeLead()).then((how) => {
      if (how !== "stolen" || standing.signal.aborted) return;
      // This tab slept, and another has taken over meanwhile.
      this.#stepDown();
      this.#stand(name, signal, {});
      this.#sayWants();
    });
  }

  /** Gives the lead to whoever is next, and stands no more. */
  #giveUp(): void {
    this.#stepDown();
    this.#standing?.abort();
    this.#standing = null;
  }

  #pause(): void {
    if (this.#channel === null || this.#standing === null) return;
    const didLead = this.#lead !== null;
    this.#giveUp();
    if (!didLead) return;
    this.#outdate();
    this.#connected({ state: "reconnecting", error: null });
  }

  #resume(): void {
    if (this.#channel === null || this.#standing !== null || this.#out !== null) return;
    this.#stand(this.#channel.name, this.#leaving.signal, {});
    this.#sayWants();
  }

  /** The server has closed this tab's stream. That may be for its own credentials: the others are not to go down with it. */
  #retire(error: WireError): void {
    this.#giveUp();
    this.#out = error;
    this.#leader = null;
  }

  /** Another tab has a stream: follows it, and after a while stands last in line. */
  #comeBack(): void {
    this.#out = null;
    const { signal } = this.#leaving;
    const timer = setTimeout(() => this.#resume(), OUT_MS);
    signal.addEventListener("abort", () => clearTimeout(timer));
  }

  #takeLead(): void {
    if (this.#lead !== null) return;
    const { request, isJar } = this.#options;
    const options: LeadOptions = {
      request,
      isJar,
      tab: this.#tab,
      channel: this.#channel,
      signal: this.#leaving.signal,
      closed: (error) => this.#retire(error),
      notOurs: () => {
        this.#say({ type: "renew" });
        this.#renewed();
      },
    };
    const listener: Listener = {
      changed: (change) => this.#listener.changed(change),
      connection: (connection) => this.#connected(connection),
    };
    const wasLive = this.#wants.size > 0 && ["live", "reconnecting"].includes(this.#connection.state);
    const lead = new Lead(options, listener, this.#results, wasLive);
    this.#lead = lead;
    this.#leader = null;
    clearTimeout(this.#asked);
    for (const [key, reference] of this.#wants) lead.want(this.#tab, key, reference);
    this.#connected(lead.stream.connection);
    lead.report();
  }

  #stepDown(): void {
    const lead = this.#lead;
    if (lead === null) return;
    this.#lead = null;
    this.#lsn = lead.stream.lsn;
    lead.end();
    for (const key of [...this.#results.map.keys()]) if (!this.#wants.has(key)) this.#results.map.delete(key);
    this.#inStep.clear();
  }

  #leave(): void {
    this.#leaving.abort();
    this.#stepDown();
    this.#standing = null;
    this.#leader = null;
    this.#out = null;
    this.#provenBy = null;
    this.#inStep.clear();
    clearTimeout(this.#asked);
    this.#channel?.close();
    this.#channel = null;
  }

  // As one of the others.

  #renewed(): void {
    this.#isTold = true;
    try {
      this.#options.renewed();
    } finally {
      this.#isTold = false;
    }
  }

  #hear(message: Request | Report): void {
    if (!("leader" in message)) return message.type === "renew" ? this.#renewed() : this.#lead?.serve(message);
    if (this.#lead !== null) return; // Of one that slept, and does not know yet that it no longer leads.
    if (message.type !== "leads" || !message.isAsleep) {
      this.#heardAt = now();
      clearTimeout(this.#asked);
      this.#asked = undefined;
    }
    switch (message.type) {
      case "leads": {
        if (this.#out !== null) {
          // Others are tried after this one, and may be refused as it was.
          if (message.connection.state !== "live") break;
          this.#comeBack();
        }
        const isNew = this.#leader?.id !== message.leader;
        this.#leader = { id: message.leader, session: message.session };
        if (isNew) {
          this.#inStep.clear();
          this.#sayWants();
          this.#outdate();
        }
        this.#connected(message.connection);
        break;
      }
      case "changes":
        if (this.#options.isJar && this.#provenBy !== message.leader) break;
        if (message.leader === this.#leader?.id) this.#follow(message.changes, message.lsn, message.reflects);
        break;
      case "results":
        if (message.tab !== this.#tab || message.leader !== this.#leader?.id) break;
        this.#provenBy = message.leader;
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
      this.#outdate(mine.map(({ key }) => key));
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
    void this.#lead?.prove();
    if (this.#lead !== null || this.#out !== null || this.#channel === null || this.#asked !== undefined) return;
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

  #connected(connection: Connection): void {
    if (connection.state === this.#connection.state && connection.error === this.#connection.error) return;
    this.#connection = connection;
    this.#listener.connection(connection);
  }
}
