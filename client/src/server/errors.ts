/** Errors that reach the client as they are. */

/** The codes that come with a status of their own; any other is answered with 400. */
export type ErrorCode =
  | 'INVALID_ARGS'
  | 'UNAUTHORIZED'
  | 'FORBIDDEN'
  | 'NOT_FOUND'
  | 'CONFLICT'
  | 'PAYLOAD_TOO_LARGE'
  | 'LIMIT_EXCEEDED'
  | 'INTERNAL'
  | 'UNAVAILABLE'
  | 'TIMEOUT';

/**
 * An error with a code. Thrown by a function, it reaches the client with its code, message and data. Any other error is
 * `INTERNAL` there, and tells nothing of itself: what it said is in the log.
 */
export class ConvoyError<Data = unknown> extends Error {
  override readonly name: string = 'ConvoyError';
  readonly code: string;
  readonly data: Data | undefined;

  constructor(code: ErrorCode | (string & {}), message?: string, data?: Data) {
    super(message ?? code);
    this.code = code;
    this.data = data;
  }
}

/** Makes an error with a code: `throw convoyError('FORBIDDEN', 'only members may post')`. */
export function convoyError<Data = unknown>(
  code: ErrorCode | (string & {}),
  message?: string,
  data?: Data,
): ConvoyError<Data> {
  return new ConvoyError(code, message, data);
}
