// What went wrong, as the server says it or as the client found it.

import { ConvoyError, type ErrorCode } from "../server/errors.js";

// One class, so that `instanceof` holds whichever entry it was imported from.
export { ConvoyError, type ErrorCode };

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
