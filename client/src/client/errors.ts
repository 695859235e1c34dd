// What went wrong, as the server says it or as the client found it.

/** The codes that the server itself uses (protocol section 4); a function may throw any other. */
export type ErrorCode =
  | "INVALID_ARGS"
  | "UNAUTHORIZED"
  | "FORBIDDEN"
  | "NOT_FOUND"
  | "METHOD_NOT_ALLOWED"
  | "CONFLICT"
  | "PAYLOAD_TOO_LARGE"
  | "LIMIT_EXCEEDED"
  | "INTERNAL"
  | "UNAVAILABLE"
  | "TIMEOUT"
  | (string & {});

/**
 * An error of a query or a mutation. `code` is the server's or the one that a function threw by
 * `convoyError(code, message, data)`; `UNAVAILABLE` is also what a server that can't be reached counts as.
 */
export class ConvoyError<Data = unknown> extends Error {
  override readonly name: string = "ConvoyError";
  readonly code: ErrorCode;
  readonly data: Data | undefined;

  constructor(code: ErrorCode, message?: string, data?: Data) {
    super(message ?? code);
    this.code = code;
    this.data = data;
  }
}

/** Reads `{code, message, data}` from the wire. */
export function errorFromWire(wire: { code?: unknown; message?: unknown; data?: unknown } | null | undefined): ConvoyError {
  const code = typeof wire?.code === "string" ? wire.code : "INTERNAL";
  const message = typeof wire?.message === "string" ? wire.message : "the server gave no reason";
  return new ConvoyError(code, message, wire?.data ?? undefined);
}

/** Reads the answer to a request that was refused; a proxy's own answer counts by its status. */
export async function errorOfResponse(response: Response): Promise<ConvoyError> {
  const body = (await response.json().catch(() => null)) as { error?: { code?: unknown } } | null;
  if (typeof body?.error?.code === "string") return errorFromWire(body.error);
  const code = CODE_OF_STATUS.get(response.status) ?? (response.status >= 500 ? "UNAVAILABLE" : "INVALID_ARGS");
  return new ConvoyError(code, `the server answered with status ${response.status}`);
}

const CODE_OF_STATUS = new Map<number, ErrorCode>([
  [401, "UNAUTHORIZED"],
  [403, "FORBIDDEN"],
  [404, "NOT_FOUND"],
  [409, "CONFLICT"],
  [413, "PAYLOAD_TOO_LARGE"],
  [429, "LIMIT_EXCEEDED"],
  [500, "INTERNAL"],
  [504, "TIMEOUT"],
]);
