// The protocol's shapes (protocol section 3), as far as the client reads them. Unknown fields are skipped.

/** What names one live query on the wire. */
export interface Reference {
  readonly query: string;
  readonly args: unknown;
}

export interface Hello {
  readonly session: string;
  readonly resumed: boolean;
  readonly heartbeat_ms: number;
}

export interface Goodbye {
  readonly code: string;
  readonly message: string;
  readonly retry_ms: number | null;
  readonly resume: boolean;
}

export interface WireError {
  readonly code: string;
  readonly message: string;
  readonly data?: unknown;
}

export interface Column {
  readonly name: string;
  readonly type: string;
}

export type RowOperation =
  | { readonly op: "remove"; readonly key: string }
  | { readonly op: "insert"; readonly key: string; readonly at: number; readonly row: Row }
  | { readonly op: "update"; readonly key: string; readonly set: Row }
  | { readonly op: "move"; readonly key: string; readonly at: number };

export type Row = { readonly [column: string]: unknown };

export type PatchStep =
  | { readonly op: "add" | "replace" | "test"; readonly path: string; readonly value: unknown }
  | { readonly op: "remove"; readonly path: string }
  | { readonly op: "move" | "copy"; readonly path: string; readonly from: string };

/** What an update does, whoever it is for. */
export type Change =
  | {
      readonly type: "snapshot";
      readonly digest?: string;
      readonly columns?: readonly Column[];
      readonly keys?: readonly string[];
      readonly value: unknown;
    }
  | { readonly type: "diff"; readonly digest: string; readonly ops: readonly RowOperation[] }
  | { readonly type: "patch"; readonly digest: string; readonly patch: readonly PatchStep[] }
  | { readonly type: "unchanged" }
  | { readonly type: "stale"; readonly lsn: string }
  | { readonly type: "error"; readonly final?: boolean; readonly error: WireError };

export type Update = Change & { readonly sub: string };

export interface Transition {
  readonly lsn: string;
  readonly committed_at?: string | null;
  readonly reflects?: readonly string[];
  readonly updates: readonly Update[];
}

/** Orders two LSNs in Postgres' text form: negative, zero or positive. */
export function compareLsn(a: string, b: string): number {
  const [aHigh = 0, aLow = 0] = a.split("/").map((half) => Number.parseInt(half, 16));
  const [bHigh = 0, bLow = 0] = b.split("/").map((half) => Number.parseInt(half, 16));
  return aHigh - bHigh || aLow - bLow;
}
