// Latencies as a histogram on a log axis, with p50 and p99 marked. Two sizes: with axes, and the bare
// shape for the bar at the top.
//
// Responsible for: drawing one summary of latency.js.
// Leaves to others: samples, and how often to draw.

import { BUCKETS, BUCKETS_PER_DECADE, bucketFrom } from "./latency.js";
import { decimal, duration } from "./format.js";
import { canvas, element, roundStep, set } from "./svg.js";

const BUCKETS_PER_BAR = 4; // Twelve bars a decade.
const FROM_MS = 1;
const TO_MS_LEAST = 1_000;
const TICKS_MS = [1, 10, 100, 1_000, 10_000, 100_000];

export class Histogram {
  #bare;
  #view;
  #summary = null;
  #parts = {};
  #gridKey = "";
  #margin;

  /** @param form "full", with axes and marks, or "bare" */
  constructor(host, form) {
    this.#bare = form === "bare";
    this.#margin = this.#bare ? { top: 1, right: 0, bottom: 1, left: 0 } : { top: 22, right: 16, bottom: 24, left: 52 };
    this.#view = canvas(host, "Commit to screen, last minute", () => this.#draw());
    const { drawing } = this.#view;
    this.#parts.grid = drawing.appendChild(element("g", { class: "axis" }));
    this.#parts.bars = drawing.appendChild(element("path", { class: "bars" }));
    this.#parts.marks = drawing.appendChild(element("g", { class: "marks" }));
  }

  set(summary) {
    this.#summary = summary;
    this.#draw();
  }

  #draw() {
    const { width, height } = this.#view.size;
    const summary = this.#summary;
    if (summary === null || width < 20 || height < 10) return;
    const margin = this.#margin;
    const toMs = TICKS_MS.find((ms) => ms >= Math.max(TO_MS_LEAST, summary.max * 0.999)) ?? TICKS_MS.at(-1);
    const decades = Math.log10(toMs / FROM_MS);
    const inner = width - margin.left - margin.right;
    const x = (ms) => margin.left + (Math.log10(Math.max(ms, FROM_MS) / FROM_MS) / decades) * inner;

    const bars = [];
    const firstBucket = BUCKETS_PER_DECADE; // 1 ms; what is faster joins the first bar.
    const lastBucket = Math.min(BUCKETS, firstBucket + decades * BUCKETS_PER_DECADE);
    for (let bucket = firstBucket; bucket < lastBucket; bucket += BUCKETS_PER_BAR) {
      let count = 0;
      const from = bucket === firstBucket ? 0 : bucket;
      const to = bucket + BUCKETS_PER_BAR >= lastBucket ? BUCKETS : bucket + BUCKETS_PER_BAR;
      for (let index = from; index < to; index += 1) count += summary.counts[index];
      bars.push({ from: bucketFrom(bucket), to: bucketFrom(bucket + BUCKETS_PER_BAR), count });
    }
    const peak = Math.max(1, ...bars.map(({ count }) => count));
    const step = roundStep(peak, 3);
    const top = this.#bare ? peak : Math.ceil(peak / step) * step;
    const base = height - margin.bottom;
    const y = (count) => base - (count / top) * (base - margin.top);
    const gap = this.#bare ? 0.5 : 1;
    const path = bars
      .filter(({ count }) => count > 0)
      .map(({ from, to, count }) => {
        const tip = Math.min(y(count), base - 1.5); // One sample is still to be seen.
        return `M${x(from).toFixed(1)} ${base}V${tip.toFixed(1)}H${(x(to) - gap).toFixed(1)}V${base}Z`;
      })
      .join("");
    set(this.#parts.bars, { d: path });
    set(this.#view.drawing, {
      "aria-label":
        summary.count === 0
          ? "Commit to screen: no samples in the last minute."
          : `Commit to screen, last minute, ${summary.count} samples: p50 ${duration(summary.p50)}, p99 ${duration(summary.p99)}.`,
    });
    if (this.#bare) return;
    this.#grid({ width, height, top, step, toMs, x, y, base });
    this.#marks({ summary, x, base, width });
  }

  #grid({ width, height, top, step, toMs, x, y, base }) {
    const key = [width, height, top, toMs].join();
    if (key === this.#gridKey) return;
    this.#gridKey = key;
    const { left, right } = this.#margin;
    const parts = [];
    for (let count = 0; count <= top; count += step) {
      parts.push(element("line", { x1: left, x2: width - right, y1: y(count), y2: y(count), class: count === 0 ? "base" : "" }));
      parts.push(element("text", { x: left - 8, y: y(count) + 4, "text-anchor": "end" }, decimal(count)));
    }
    for (const ms of TICKS_MS.filter((tick) => tick <= toMs)) {
      const anchor = ms === FROM_MS ? "start" : ms === toMs ? "end" : "middle";
      parts.push(element("line", { x1: x(ms), x2: x(ms), y1: base, y2: base + 4, class: "base" }));
      parts.push(element("text", { x: x(ms), y: height - 6, "text-anchor": anchor }, ms < 1_000 ? `${ms} ms` : `${ms / 1_000} s`));
    }
    this.#parts.grid.replaceChildren(...parts);
  }

  #marks({ summary, x, base, width }) {
    const parts = [];
    if (summary.count > 0) {
      const p50 = x(summary.p50);
      const p99 = x(summary.p99);
      const close = p99 - p50 < 64; // The two labels part to either side of their lines.
      for (const [at, label, anchor] of [
        [p50, "p50", close ? "end" : "middle"],
        [p99, "p99", close ? "start" : "middle"],
      ]) {
        parts.push(element("line", { x1: at, x2: at, y1: 16, y2: base }));
        parts.push(element("text", { x: Math.min(at, width - 16), y: 11, "text-anchor": anchor }, label));
      }
    }
    this.#parts.marks.replaceChildren(...parts);
  }
}
