export interface HttpOptions {
  /** Where the server is: `http://127.0.0.1:4500`; the page's own origin where it is not given. */
  readonly url?: string;
  /** More headers, like `authorization`. */
  readonly headers?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal;
}

export interface SubscribeOptions<Result> {
  readonly url?: string;
  /** Each new value, the first one too. */
  readonly onValue: (value: Result) => void;
  /** What went wrong. It ends the subscription where `final` is true; else the next value ends the error. */
  readonly onError?: (error: CallError, final: boolean) => void;
  /** The value is behind the database, since reading it takes long; the next value ends that. */
  readonly onStale?: () => void;
}

/** What the server answers when it can't do what it was asked. */
export class CallError extends Error {
  constructor(
    readonly code: string,
    message: string,
    readonly data: unknown = undefined,
    readonly status: number | undefined = undefined,
  ) {
    super(message);
    this.name = 'CallError';
  }
}

/** Asks a query once. */
export function callQuery<Ref extends QueryRef>(
  ref: Ref,
  args: FunctionArgs<Ref>,
  options: HttpOptions = {},
): Promise<FunctionReturnType<Ref>> {
  return call('query', getFunctionName(ref), args, options, {});
}

/**
 * Runs a mutation, exactly once: a repeat with the same `id` returns the first answer and does nothing. Give an `id` of
 * your own (a UUID) to try again after an answer was lost.
 */
export function callMutation<Ref extends MutationRef>(
  ref: Ref,
  args: FunctionArgs<Ref>,
  options: HttpOptions & { readonly id?: string } = {},
): Promise<FunctionReturnType<Ref>> {
  const id = options.id ?? crypto.randomUUID();
  return call('mutation', getFunctionName(ref), args, options, { 'x-convoy-mutation': id });
}

/** Subscribes to a query; returns what ends that. */
export function subscribe<Ref extends QueryRef>(
  ref: Ref,
  args: FunctionArgs<Ref>,
  options: SubscribeOptions<FunctionReturnType<Ref>>,
): () => void {
  const query = new URLSearchParams({ args: JSON.stringify(args), numbers: 'string' });
  const name = encodeURIComponent(getFunctionName(ref));
  const source = new EventSource(`${options.url ?? ''}/api/query/${name}?${query}`);
  let result: Result = { value: undefined };
  const fail = (error: WireError, final: boolean) => {
    if (final) source.close();
    options.onError?.(new CallError(error.code, error.message, error.data), final);
  };
  source.addEventListener('transition', (event) => {
    for (const update of (JSON.parse(event.data) as { updates: Update[] }).updates) {
      switch (update.type) {
        case 'snapshot':
          result = { value: update.value, keys: update.keys };
          break;
        case 'diff':
          result = applyDiff(result, update.ops);
          break;
        case 'patch':
          result = { value: update.patch.reduce(applyPatch, result.value) };
          break;
        case 'unchanged':
          break;
        case 'stale':
          options.onStale?.();
          continue;
        case 'error':
          fail(update.error, update.final);
          continue;
        default:
          continue;
      }
      options.onValue(result.value as FunctionReturnType<Ref>);
    }
  });
  source.addEventListener('goodbye', (event) => {
    const goodbye = JSON.parse((event as MessageEvent<string>).data) as Goodbye;
    if (goodbye.retry_ms === null) fail(goodbye, true);
  });
  source.addEventListener('error', () => {
    // An EventSource comes back by itself, unless the server refused it.
    if (source.readyState !== EventSource.CLOSED) return;
    fail({ code: 'UNAVAILABLE', message: 'the server refused the subscription' }, true);
  });
  return () => source.close();
}

/** The context of functions where there is no `server.ts`: what the server gives, and nothing more. */
export async function createContext(_req: unknown, base: ServerContext): Promise<ServerContext> {
  return base;
}

async function call(
  kind: 'query' | 'mutation',
  name: string,
  args: unknown,
  options: HttpOptions,
  headers: Readonly<Record<string, string>>,
): Promise<any> {
  const url = `${options.url ?? ''}/api/${kind}/${encodeURIComponent(name)}?numbers=string`;
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers, ...options.headers },
    body: JSON.stringify(args),
    ...(options.signal === undefined ? {} : { signal: options.signal }),
  });
  const answer: any = await response.json().catch(() => undefined);
  if (response.ok && answer !== undefined) return answer.value;
  const { code = 'UNAVAILABLE', message = `the server answered ${response.status}`, data } = answer?.error ?? {};
  throw new CallError(code, message, data, response.status);
}

type WireError = { readonly code: string; readonly message: string; readonly data?: unknown };
type Goodbye = WireError & { readonly retry_ms: number | null };
type Row = Readonly<Record<string, unknown>>;
type Result = { readonly value: unknown; readonly keys?: readonly string[] | undefined };

type Update =
  | { readonly type: 'snapshot'; readonly value: unknown; readonly keys?: readonly string[] }
  | { readonly type: 'diff'; readonly ops: readonly DiffOp[] }
  | { readonly type: 'patch'; readonly patch: readonly PatchOp[] }
  | { readonly type: 'unchanged' }
  | { readonly type: 'stale' }
  | { readonly type: 'error'; readonly final: boolean; readonly error: WireError };

type DiffOp =
  | { readonly op: 'remove'; readonly key: string }
  | { readonly op: 'insert'; readonly key: string; readonly at: number; readonly row: Row }
  | { readonly op: 'update'; readonly key: string; readonly set: Row }
  | { readonly op: 'move'; readonly key: string; readonly at: number };

type PatchOp = { readonly op: string; readonly path: string; readonly from?: string; readonly value?: unknown };

function applyDiff(result: Result, ops: readonly DiffOp[]): Result {
  const keys = [...(result.keys ?? [])];
  const rows = [...(result.value as Row[])];
  for (const op of ops) {
    if (op.op === 'insert') {
      keys.splice(op.at, 0, op.key);
      rows.splice(op.at, 0, op.row);
      continue;
    }
    const at = keys.indexOf(op.key);
    if (op.op === 'update') {
      rows[at] = { ...rows[at], ...op.set };
      continue;
    }
    keys.splice(at, 1);
    const [row] = rows.splice(at, 1);
    if (op.op === 'move') {
      keys.splice(op.at, 0, op.key);
      rows.splice(op.at, 0, row as Row);
    }
  }
  return { value: rows, keys };
}

/** One operation of RFC 6902, on a copy of what it changes. */
function applyPatch(value: unknown, op: PatchOp): unknown {
  const path = pointer(op.path);
  switch (op.op) {
    case 'add':
      return changed(value, path, () => op.value, true);
    case 'replace':
      return changed(value, path, () => op.value, false);
    case 'remove':
      return removed(value, path);
    case 'copy':
      return changed(value, path, () => at(value, pointer(op.from ?? '')), true);
    case 'move': {
      const from = pointer(op.from ?? '');
      const moved = at(value, from);
      return changed(removed(value, from), path, () => moved, true);
    }
    default:
      return value;
  }
}

function pointer(text: string): string[] {
  return text.split('/').slice(1).map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'));
}

function at(value: any, path: readonly string[]): unknown {
  return path.reduce((inner, part) => inner?.[part], value);
}

function changed(value: any, path: readonly string[], to: () => unknown, inserts: boolean): unknown {
  const [part, ...rest] = path;
  if (part === undefined) return to();
  if (!Array.isArray(value)) return { ...value, [part]: changed(value?.[part], rest, to, inserts) };
  const copy = [...value];
  const index = part === '-' ? copy.length : Number(part);
  if (rest.length === 0 && inserts) copy.splice(index, 0, to());
  else copy[index] = changed(copy[index], rest, to, inserts);
  return copy;
}

function removed(value: any, path: readonly string[]): unknown {
  const [part, ...rest] = path;
  if (part === undefined) return undefined;
  if (rest.length > 0) return changed(value, [part], () => removed(value?.[part], rest), false);
  if (Array.isArray(value)) return value.filter((_, index) => index !== Number(part));
  const { [part]: _, ...others } = value;
  return others;
}
