/** The way to the host: each operation is a promise that Rust settles. */

import { ConvoyError } from 'convoy:server/errors.ts';

/** What Rust puts into each context. */
interface Natives {
  /** Sets time and chance for the call. */
  begin(now: number, low: number, high: number): void;
  /** Asks the host; returns an error as JSON where it may not be asked. */
  request(id: number, op: string, args: string): string | undefined;
  /** Ends the call with a value, as JSON. */
  done(value: string): void;
  /** Ends the call with an error, as JSON. */
  fail(error: string): void;
}

const holder = globalThis as unknown as { __convoyNatives?: Natives };

/** Only this module has them: it is evaluated before any of the project's. */
export const natives: Natives = holder.__convoyNatives as Natives;
delete holder.__convoyNatives;

interface Waiting {
  resolve(value: unknown): void;
  reject(error: unknown): void;
}

/** An error as the host tells it. */
interface HostError {
  code: string;
  message: string;
  data?: unknown;
}

const waiting = new Map<number, Waiting>();
let lastId = 0;

/** Has the host carry out an operation. */
export function ask(op: string, args: unknown): Promise<any> {
  return new Promise((resolve, reject) => {
    const id = ++lastId;
    const refused = natives.request(id, op, JSON.stringify(args));
    if (refused !== undefined) {
      reject(failure(JSON.parse(refused)));
      return;
    }
    waiting.set(id, { resolve, reject });
  });
}

/** Settles an operation, with its answer or a `HostError`. Called by Rust. */
export function reply(id: number, ok: boolean, answer: unknown): void {
  const promise = waiting.get(id);
  waiting.delete(id);
  if (ok) {
    promise?.resolve(answer);
  } else {
    promise?.reject(failure(answer as HostError));
  }
}

function failure(error: HostError): ConvoyError {
  return new ConvoyError(error.code, error.message, error.data ?? undefined);
}
