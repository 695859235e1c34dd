// The distribution of the last minute's latencies. Pure: the caller brings the clock.
//
// Sixty one-second histograms in a ring, so memory does not grow with the rate. Buckets are equal on
// a log scale, 48 a decade: a quantile is right to within 2.5 %. Never a mean.

export const WINDOW_S = 60;
export const BUCKETS_PER_DECADE = 48;
const LOG_MIN = -1; // 0.1 ms; what is faster counts as this.
const DECADES = 6; // up to 100 s; what is slower counts as that.
export const BUCKETS = DECADES * BUCKETS_PER_DECADE;

/** Returns the bucket that holds `ms`. */
export function bucketOf(ms) {
  if (!(ms > 0)) return 0;
  const index = Math.floor((Math.log10(ms) - LOG_MIN) * BUCKETS_PER_DECADE);
  return Math.min(BUCKETS - 1, Math.max(0, index));
}

/** Returns the lower edge of a bucket, in ms. */
export function bucketFrom(index) {
  return 10 ** (LOG_MIN + index / BUCKETS_PER_DECADE);
}

export class LatencyWindow {
  #slots = Array.from({ length: WINDOW_S }, () => ({ second: -1, counts: new Uint32Array(BUCKETS), max: 0, behind: 0 }));

  /** Takes one sample; `nowMs` is any clock that does not go back. */
  record(ms, nowMs) {
    const second = Math.floor(nowMs / 1_000);
    const slot = this.#slots[second % WINDOW_S];
    if (slot.second !== second) {
      slot.second = second;
      slot.counts.fill(0);
      slot.max = 0;
      slot.behind = 0;
    }
    slot.counts[bucketOf(ms)] += 1;
    slot.max = Math.max(slot.max, ms);
    slot.behind = Math.min(slot.behind, ms);
  }

  /**
   * Returns `{count, counts, p50, p99, max, clockBehindMs}` of the last minute.
   * `clockBehindMs` above zero says that some commit seemed to lie in the future: this clock is at least so far off.
   */
  summary(nowMs) {
    const oldest = Math.floor(nowMs / 1_000) - WINDOW_S;
    const counts = new Uint32Array(BUCKETS);
    let count = 0;
    let max = 0;
    let behind = 0;
    for (const slot of this.#slots) {
      if (slot.second <= oldest) continue;
      for (let index = 0; index < BUCKETS; index += 1) {
        counts[index] += slot.counts[index];
        count += slot.counts[index];
      }
      max = Math.max(max, slot.max);
      behind = Math.min(behind, slot.behind);
    }
    return { count, counts, p50: quantile(counts, count, 0.5, max), p99: quantile(counts, count, 0.99, max), max, clockBehindMs: -behind };
  }
}

function quantile(counts, count, q, max) {
  if (count === 0) return null;
  const rank = Math.ceil(q * count);
  let seen = 0;
  for (let index = 0; index < BUCKETS; index += 1) {
    seen += counts[index];
    if (seen >= rank) return Math.min(max, bucketFrom(index + 0.5));
  }
  return max;
}
