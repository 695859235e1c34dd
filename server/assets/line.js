// Orders a minute as a line that moves: at each point, the orders of the sixty seconds before it.
//
// At the end of a full minute that is known exactly, and drawn in ink. In between, the minute under way is
// added to what is left of the one before, as if that had been even: the line's live end, in the accent.
//
// Responsible for: the scales (zero at the bottom; the last half hour, ending now), axes, path.
// Leaves to others: where the numbers come from.

import { clockMinute, decimal } from "./format.js";
import { canvas, element, roundStep, set } from "./svg.js";

const MINUTE_MS = 60_000;
const SPAN_MS = 30 * MINUTE_MS;
const SPAN_MIN_MS = 5 * MINUTE_MS;
const MARGIN = { top: 12, right: 16, bottom: 24, left: 52 };

export class MinuteLine {
  #points = new Map(); // Start of a minute, ms → count.
  #parts = {};
  #view;
  #gridKey = "";
  #labelledAt = 0;

  constructor(host) {
    this.#view = canvas(host, "Orders a minute", () => this.draw(Date.now()));
    const { drawing } = this.#view;
    this.#parts.grid = drawing.appendChild(element("g", { class: "axis" }));
    this.#parts.area = drawing.appendChild(element("path", { class: "area" }));
    this.#parts.line = drawing.appendChild(element("path", { class: "line" }));
    this.#parts.pending = drawing.appendChild(element("path", { class: "line live" }));
    this.#parts.dot = drawing.appendChild(element("circle", { class: "dot", r: 4 }));
  }

  /** Takes [startMs, count] pairs in any order. */
  set(pairs) {
    this.#points = new Map(pairs);
  }

  /**
   * Returns `{current, previous, trailing}`: this minute's count so far, the last full minute's, and about how
   * many came in the last sixty seconds; the last two are null before there is a full minute.
   */
  last(nowMs) {
    const start = Math.floor(nowMs / MINUTE_MS) * MINUTE_MS;
    const current = this.#points.get(start) ?? 0;
    if (Math.min(...this.#points.keys()) >= start) return { current, previous: null, trailing: null };
    const previous = this.#points.get(start - MINUTE_MS) ?? 0;
    const left = 1 - (nowMs - start) / MINUTE_MS;
    return { current, previous, trailing: Math.round(current + previous * left) };
  }

  draw(nowMs) {
    const { width, height } = this.#view.size;
    if (width < 80 || height < 60 || this.#points.size === 0) return;
    const current = Math.floor(nowMs / MINUTE_MS) * MINUTE_MS;
    const first = Math.max(Math.min(...this.#points.keys()), current - SPAN_MS);
    const to = nowMs;
    const from = Math.min(Math.max(first + MINUTE_MS, to - SPAN_MS), to - SPAN_MIN_MS);

    // A full minute stands at its end, where it became known. One without orders has no row: it is zero.
    const full = [];
    for (let start = first; start < current; start += MINUTE_MS) full.push([start + MINUTE_MS, this.#points.get(start) ?? 0]);
    const { current: soFar, trailing } = this.last(nowMs);
    const live = trailing ?? soFar;
    const peak = Math.max(live, ...full.map(([, count]) => count));
    const step = roundStep(peak * 1.08, height < 200 ? 3 : 4);
    const top = Math.ceil((peak * 1.08 || 1) / step) * step;

    const x = (ms) => MARGIN.left + ((ms - from) / (to - from)) * (width - MARGIN.left - MARGIN.right);
    const y = (count) => height - MARGIN.bottom - (count / top) * (height - MARGIN.top - MARGIN.bottom);
    this.#grid({ width, height, from, to, top, step, x, y });

    const inView = full.filter(([at], index) => at >= from || (full[index + 1]?.[0] ?? 0) >= from);
    const path = inView.map(([at, count], index) => `${index === 0 ? "M" : "L"}${x(at).toFixed(1)} ${y(count).toFixed(1)}`).join("");
    set(this.#parts.line, { d: path });
    const clip = inView.length > 1 ? `${path}L${x(inView.at(-1)[0]).toFixed(1)} ${y(0)}L${x(inView[0][0]).toFixed(1)} ${y(0)}Z` : "";
    set(this.#parts.area, { d: clip });
    const start = trailing === null ? [x(current), y(0)] : [x(current), y(this.#points.get(current - MINUTE_MS) ?? 0)];
    const end = [x(to), y(live)];
    set(this.#parts.pending, { d: `M${start.map((n) => n.toFixed(1)).join(" ")}L${end.map((n) => n.toFixed(1)).join(" ")}` });
    set(this.#parts.dot, { cx: end[0], cy: end[1] });
    if (nowMs - this.#labelledAt < 1_000) return;
    this.#labelledAt = nowMs;
    set(this.#view.drawing, { "aria-label": `Orders a minute, last half hour. About ${live} in the last sixty seconds.` });
  }

  #grid({ width, height, from, to, top, step, x, y }) {
    const every = (to - from > 12 * MINUTE_MS ? (width < 420 ? 10 : 5) : 1) * MINUTE_MS;
    const key = [width, height, top, step, every, Math.floor(from / 1_000)].join();
    if (key === this.#gridKey) return;
    this.#gridKey = key;
    const parts = [];
    for (let count = 0; count <= top; count += step) {
      parts.push(element("line", { x1: MARGIN.left, x2: width - MARGIN.right, y1: y(count), y2: y(count), class: count === 0 ? "base" : "" }));
      parts.push(element("text", { x: MARGIN.left - 8, y: y(count) + 4, "text-anchor": "end" }, decimal(count)));
    }
    for (let at = Math.ceil(from / every) * every; at <= to; at += every) {
      if (x(at) < MARGIN.left + 16 || x(at) > width - MARGIN.right - 52) continue;
      parts.push(element("text", { x: x(at), y: height - 6, "text-anchor": "middle" }, clockMinute(at)));
    }
    parts.push(element("text", { x: width - MARGIN.right, y: height - 6, "text-anchor": "end" }, "now"));
    this.#parts.grid.replaceChildren(...parts);
  }
}
