// Server-sent events, parsed as the WHATWG HTML standard says (section 9.2.6),
// from pieces of text cut anywhere.
//
// Responsible for: lines, fields, and where one event ends.
// Leaves to others: bytes and UTF-8 (TextDecoder), and what an event means (sync.js).

/** Longer than this without the end of a line, and the stream is not one of ours (a result is at most 16 MiB). */
export const LINE_LENGTH_MAX = 48 * 1024 * 1024;

export class SseParser {
  #onEvent;
  #onRetry;
  #rest = "";
  #searched = 0; // How much of `rest` is known to hold no line end: a long line is not searched twice.
  #afterCarriageReturn = false; // A line feed right after a CR, even in the next piece, ends no second line.
  #started = false;
  #type = "";
  #data = null;
  #id = "";

  /**
   * @param onEvent called with `{type, data, id}` for each event that has data.
   * @param onRetry called with milliseconds where the stream sets its reconnection time.
   */
  constructor({ onEvent, onRetry = () => {} }) {
    this.#onEvent = onEvent;
    this.#onRetry = onRetry;
  }

  /** Takes the next piece of text and reports every event that it completes. */
  push(piece) {
    if (!this.#started && piece.length > 0) {
      this.#started = true;
      if (piece.charCodeAt(0) === 0xfeff) piece = piece.slice(1);
    }
    const text = this.#rest + piece;
    const lineEnd = /[\r\n]/g;
    lineEnd.lastIndex = this.#searched;
    let from = 0;
    for (let match = lineEnd.exec(text); match !== null; match = lineEnd.exec(text)) {
      const at = match.index;
      const isLineFeed = match[0] === "\n";
      if (isLineFeed && this.#afterCarriageReturn && at === from) {
        from = at + 1;
        this.#afterCarriageReturn = false;
        continue;
      }
      this.#afterCarriageReturn = !isLineFeed;
      this.#line(text.slice(from, at));
      from = at + 1;
    }
    if (from < text.length) this.#afterCarriageReturn = false;
    this.#rest = text.slice(from);
    this.#searched = this.#rest.length;
    if (this.#rest.length > LINE_LENGTH_MAX) {
      throw new Error(`a line of the stream is longer than ${LINE_LENGTH_MAX} characters`);
    }
  }

  #line(line) {
    if (line === "") {
      if (this.#data !== null) {
        this.#onEvent({ type: this.#type || "message", data: this.#data, id: this.#id });
      }
      this.#type = "";
      this.#data = null;
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
        if (/^[0-9]+$/.test(value)) this.#onRetry(Number(value));
        break;
    }
  }
}
