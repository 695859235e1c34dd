// What the tab that leads does for all: it has the stream, knows who wants what of it, and passes on what comes.
//
// Where the tabs are one user's because they have one jar of cookies, cookies may change without a word: a tab that comes is
// owed what it asked for, and given it once the server has said that the session is still theirs.

import { hold, tabLock, type Report, type Request } from "./channel.js";
import { LOADING, type Result } from "./results.js";
import { StreamSource, type KeyedChange, type Listener, type Results } from "./source.js";
import type { StreamOptions } from "./stream.js";
import type { Reference, WireError } from "./wire.js";

export interface LeadOptions {
  readonly request: StreamOptions;
  /** Whether the tabs are one user's because they have one jar of cookies. */
  readonly isJar: boolean;
  /** The name that this tab has. */
  readonly tab: string;
  /** How the others hear of it; null where there are none. */
  readonly channel: BroadcastChannel | null;
  /** Ends being one of these tabs. */
  readonly signal: AbortSignal;
  /** Is called when the server has closed the stream; that may be for this tab's credentials alone. */
  readonly closed: (error: WireError) => void;
  /** Is called when the server says that the session is not that of the cookies there are now. */
  readonly notOurs: () => void;
}

export class Lead {
  readonly stream: StreamSource;
  readonly #options: LeadOptions;
  readonly #results: Results;
  readonly #wantedBy = new Map<string, Set<string>>();
  readonly #tabs = new Set<string>();
  /** Tabs that may have what is here. */
  readonly #proven = new Set<string>();
  /** What other tabs wait to be given. */
  readonly #owed = new Map<string, Set<string>>();
  #isProving = false;
  /** Whether the server has closed the stream: what it says then is this tab's alone. */
  #isOver = false;
  /** Whether this tab leads no more. */
  #isEnded = false;

  /** Goes on from the results that are here: where a digest still holds, nothing is sent again. */
  constructor(options: LeadOptions, listener: Listener, results: Results, wasLive: boolean) {
    this.#options = options;
    this.#results = results;
    const relay = {
      changes: (changes: readonly KeyedChange[], lsn: string | null, reflects: readonly string[]) => {
        // Most users have one tab.
        if (this.#tabs.size === 0 || this.#isOver) return;
        this.#tell({ type: "changes", leader: options.tab, changes, lsn, reflects });
        this.#pay();
      },
      moved: () => {
        if (this.#isEnded || this.#isOver) return; // Its end is no news of who leads.
        this.report();
        void this.prove();
      },
    };
    const watched: Listener = {
      changed: (change) => listener.changed(change),
      connection: (connection) => {
        if (this.#isEnded) return; // Not how it ends when another takes over.
        const { state, error } = connection;
        if (state === "closed" && error !== null && options.channel !== null) {
          this.#isOver = true;
          queueMicrotask(() => {
            if (!this.#isEnded) options.closed(error);
          });
        }
        listener.connection(connection);
      },
    };
    this.stream = new StreamSource(options.request, watched, results, relay, wasLive);
  }

  /** Leads no more. */
  end(): void {
    this.#isEnded = true;
    this.stream.close();
  }

  want(tab: string, key: string, reference: Reference): void {
    const tabs = this.#wantedBy.get(key);
    if (tabs === undefined) {
      this.#wantedBy.set(key, new Set([tab]));
      this.stream.want(key, reference);
    } else {
      tabs.add(tab);
    }
  }

  drop(tab: string, key: string): void {
    const tabs = this.#wantedBy.get(key);
    if (tabs === undefined || !tabs.delete(tab) || tabs.size > 0) return;
    this.#wantedBy.delete(key);
    this.stream.drop(key);
  }

  /** Tells the others who leads, and how it stands. */
  report(): void {
    const { connection, session, isOverdue } = this.stream;
    this.#tell({ type: "leads", leader: this.#options.tab, connection, session, isAsleep: isOverdue });
  }

  serve(request: Request): void {
    switch (request.type) {
      case "wants": {
        const { tab, wants } = request;
        const owed = this.#owed.get(tab) ?? new Set();
        for (const { key, reference } of wants) {
          this.want(tab, key, reference);
          owed.add(key);
        }
        this.#owed.set(tab, owed);
        this.#lookAfter(tab);
        if (!this.#options.isJar) this.#proven.add(tab);
        this.report();
        if (this.#proven.has(tab)) this.#give(tab, owed);
        else void this.prove();
        break;
      }
      case "drop":
        this.drop(request.tab, request.key);
        break;
      case "again":
        this.stream.again(request.key);
        break;
      case "ping":
        this.report();
        break;
      case "visible":
        this.report();
        this.stream.visible();
        break;
    }
  }

  /** Asks the server whether the session is that of the cookies there are now, before anybody who came is given anything. */
  async prove(): Promise<void> {
    const unproven = [...this.#owed.keys()].filter((tab) => !this.#proven.has(tab));
    const { session, connection } = this.stream;
    if (unproven.length === 0 || this.#isProving || session === null || connection.state !== "live") return;
    this.#isProving = true;
    const isOurs = await this.stream.isOurs(session);
    this.#isProving = false;
    if (this.#isEnded) return;
    if (isOurs === null || this.stream.session !== session) return; // No answer, or of another session: later.
    if (!isOurs) return this.#options.notOurs();
    for (const tab of unproven) {
      this.#proven.add(tab);
      const owed = this.#owed.get(tab);
      if (owed !== undefined) this.#give(tab, owed);
    }
    void this.prove(); // Of who came meanwhile.
  }

  /** Hears of the end of a tab, however it ended. */
  #lookAfter(tab: string): void {
    const { channel, signal } = this.#options;
    if (channel === null || this.#tabs.has(tab)) return;
    this.#tabs.add(tab);
    void hold(tabLock(channel.name, tab), signal, {}, () => {
      this.#tabs.delete(tab);
      this.#proven.delete(tab);
      this.#owed.delete(tab);
      if (!this.#isEnded) for (const key of [...this.#wantedBy.keys()]) this.drop(tab, key);
    }, true);
  }

  /** Gives a tab what it waits for, as far as it is here. */
  #give(tab: string, owed: Set<string>): void {
    const results: { key: string; result: Result }[] = [];
    for (const key of owed) {
      const result = this.#results.map.get(key);
      // What is stale may be from before the session, and so somebody else's.
      if (this.#options.isJar && result?.status === "stale") continue;
      owed.delete(key);
      if (result !== undefined && result !== LOADING) results.push({ key, result });
    }
    if (owed.size === 0) this.#owed.delete(tab);
    this.#tell({ type: "results", leader: this.#options.tab, tab, results, lsn: this.stream.lsn });
  }

  /** Gives what was stale when it was asked for, and no longer is. */
  #pay(): void {
    for (const [tab, owed] of this.#owed) {
      if (this.#proven.has(tab) && [...owed].some((key) => this.#results.map.get(key)?.status !== "stale")) this.#give(tab, owed);
    }
  }

  #tell(report: Report): void {
    this.#options.channel?.postMessage(report);
  }
}
