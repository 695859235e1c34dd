// Server-sent events, parsed as the WHATWG HTML standard says (section 9.2.6), from pieces of text cut anywhere.
//
// Responsible for: lines, fields, and where one event ends.
// Leaves to others: bytes and UTF-8 (TextDecoder), and what an event means (stream.ts).

/** Longer than this without the end of a line, and the stream is not one of ours (a result is at most 16 MiB). */
export const LINE_LENGTH_MAX = 48 * 1024 * 1024;

export interface SseEvent {
  readonly type: string;
  readonly data: string;
  /** The last `id:` of the stream, of this event or of one before. */
  readonly id: string;
}

export interface SseHandlers {
  onEvent(event: SseEvent): void;
  onRetry(ms: number): void;
}

export class SseParser {
  #handlers: SseHandlers;
  /** Pieces of the line that has no end yet; joined only when it has one. */
  #pieces: string[] = [];
  #length = 0;
  #afterCarriageReturn = false; // A line feed right after a CR, even in the next piece, ends no second line.
  #started = false;
  #type = "";
  #data: string | null = null;
  #id = "";

  constructor(handlers: SseHandlers) {
    this.#handlers = handlers;
  }

  /** Takes the next piece of text and reports every event that it completes. */
  push(piece: string): void {
    if (piece === "") return;
    let from = 0;
    if (!this.#started) {
      this.#started = true;
      if (piece.charCodeAt(0) === 0xfeff) from = 1;
    }
    if (this.#afterCarriageReturn && from < piece.length) {
      this.#afterCarriageReturn = false;
      if (piece.charCodeAt(from) === 10) from += 1;
    }
    const lineEnd = /[\r\n]/g;
    lineEnd.lastIndex = from;
    for (let match = lineEnd.exec(piece); match !== null; match = lineEnd.exec(piece)) {
      this.#pieces.push(piece.slice(from, match.index));
      const line = this.#pieces.length === 1 ? (this.#pieces[0] as string) : this.#pieces.join("");
      this.#pieces = [];
      this.#length = 0;
      from = match.index + 1;
      if (match[0] === "\r") {
        if (from === piece.length) this.#afterCarriageReturn = true;
        else if (piece.charCodeAt(from) === 10) from += 1;
      }
      lineEnd.lastIndex = from;
      this.#line(line);
    }
    if (from < piece.length) {
      this.#pieces.push(from === 0 ? piece : piece.slice(from));
      this.#length += piece.length - from;
      if (this.#length > LINE_LENGTH_MAX) {
        throw new SyntaxError(`a line of the stream is longer than ${LINE_LENGTH_MAX} characters`);
      }
    }
  }

  #line(line: string): void {
    if (line === "") {
      const data = this.#data;
      const type = this.#type || "message";
      this.#type = "";
      this.#data = null;
      if (data !== null) this.#handlers.onEvent({ type, data, id: this.#id });
      return;
    }
    const colon = line.indexOf(":");
    if (colon === 0) return; // A comment: it only shows that the server is there.
    const field = colon < 0 ? line : line.slice(0, colon);
    let value = colon < 0 ? "" : line.slice(colon + 1);
    if (value.startsWith(" ")) value = value.slice(1);
    switch (field) {
      case "event":
        this.#type = value;
        break;
      case "data":
        this.#data = this.#data === null ? value : `${this.#data}\n${value}`;
        break;
      case "id":
        if (!value.includes("\0")) this.#id = value;
        break;
      case "retry":
        if (/^[0-9]+$/.test(value)) this.#handlers.onRetry(Number(value));
        break;
    }
  }
}
