// How long commits took to be on the screen, over the last minute: a distribution, and never a mean.

const WINDOW_MS = 60_000;
const BARS_PER_DECADE = 6;
const DECADES = 4; // From 1 ms to 10 s; what is outside stands in the first or the last bar.
const BARS = BARS_PER_DECADE * DECADES;

let samples = []; // {at, ms}, the oldest first; one for each frame, so there are some thousands at most.

/** Takes a sample: the frame at `at` showed a commit that was `ms` old. */
export function record(ms, at) {
  samples.push({ at, ms });
}

/** Draws the minute that ends now. */
export function draw({ p50, p99, histogram }, now) {
  samples = samples.filter(({ at }) => now - at < WINDOW_MS);
  const sorted = samples.map(({ ms }) => ms).sort((a, b) => a - b);
  const quantile = (share) => words(sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))]);
  p50.textContent = quantile(0.5);
  p99.textContent = quantile(0.99);
  const counts = new Array(BARS).fill(0);
  for (const ms of sorted) counts[Math.min(BARS - 1, Math.floor(Math.log10(Math.max(ms, 1)) * BARS_PER_DECADE))] += 1;
  const most = Math.max(1, ...counts);
  // One sample is still to be seen.
  const bar = (count, index) => count && `M${index} 20v${-Math.max(1.5, (count / most) * 20)}h.9v20z`;
  histogram.querySelector('path').setAttribute('d', counts.map(bar).filter(Boolean).join(''));
  const said = sorted.length === 0 ? 'no commit in the last minute' : `p50 ${p50.textContent}, p99 ${p99.textContent}`;
  histogram.setAttribute('aria-label', `Commit to screen, from 1 ms to 10 s: ${said}`);
}

function words(ms) {
  if (ms === undefined) return '–';
  return ms < 1_000 ? `${Math.round(ms)} ms` : `${(ms / 1_000).toFixed(1)} s`;
}
