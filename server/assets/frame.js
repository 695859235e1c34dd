// When to paint: at most once a frame, however often something changes.
//
// Responsible for: coalescing, the time at which a paint was on screen, the reader's wish for no motion,
// the accent on what changed, and the calm that decides whether rows slide.
// Leaves to others: what is painted.

const stillness = matchMedia("(prefers-reduced-motion: reduce)");

/** Returns whether anything may move; asked each time, because the reader may change it. */
export function motionAllowed() {
  return !stillness.matches;
}

/** A frame that took longer than this was missed, at 60 a second with some slack. */
const MISSED_MS = 25;

/**
 * Returns a function that asks for `paint` at the next frame; asking again before then does nothing.
 * After the frame that showed it, `shown` is called with the wall clock (`wallClock`) and what `paint` returned.
 *
 * A device that can't paint this much at its frame rate is given as long a rest as it was late, so that a
 * press of a button or a scroll is never behind a queue of paints.
 */
export function painter(paint, shown = () => {}) {
  let asked = false;
  let rest = 0;
  const frame = () =>
    requestAnimationFrame((began) => {
      asked = false;
      const receipt = paint();
      // The next frame begins when this one has been handed to the screen.
      requestAnimationFrame((next) => {
        rest = next - began > MISSED_MS ? Math.min(100, next - began - MISSED_MS / 2) : 0;
        shown(wallClock(), receipt);
      });
    });
  return () => {
    if (asked) return;
    asked = true;
    if (rest > 0 && !document.hidden) setTimeout(frame, rest);
    else frame();
  };
}

let correction = 0;

/**
 * Returns milliseconds since 1970 with the fraction that `Date.now` lacks. The page's monotonic clock does
 * not follow when the system's is set, so it is put right whenever the two part by more than 2 ms.
 */
export function wallClock() {
  const steady = performance.timeOrigin + performance.now();
  const coarse = Date.now();
  if (Math.abs(steady + correction - coarse) > 2) correction = coarse - steady;
  return steady + correction;
}

/**
 * The accent on what changed: full for 150 ms, then it fades until 600 ms have passed. What changes again
 * keeps it without being touched, so that a thousand changes a second cost one class, and no animation.
 */
const ACCENT_MS = 150;
const FADE = [{ backgroundColor: "var(--accent-wash)" }, { backgroundColor: "transparent" }];
const lit = new Map(); // element → when it last changed, ms, oldest first.
let sweeping = false;

export function flash(element) {
  if (!motionAllowed()) return;
  if (!lit.delete(element)) {
    element.classList.add("lit");
    if (element.fading?.playState === "running") element.fading.cancel();
  }
  lit.set(element, performance.now());
  if (!sweeping) {
    sweeping = true;
    setTimeout(sweep, ACCENT_MS);
  }
}

function sweep() {
  const now = performance.now();
  for (const [element, changedAt] of lit) {
    if (now - changedAt < ACCENT_MS) break;
    lit.delete(element);
    element.classList.remove("lit");
    if (element.isConnected) element.fading = element.animate(FADE, { duration: 600 - ACCENT_MS, easing: "ease-out" });
  }
  sweeping = lit.size > 0;
  if (sweeping) setTimeout(sweep, ACCENT_MS / 2);
}

/** How much comes and goes on the whole page, about a second's worth: past a few rows, nothing slides. */
const CALM_ARRIVALS_PER_SECOND = 6;
let arrivals = 0;
let countedAt = 0;

/** Takes note that so many rows came or went; returns whether rows may move. */
export function calm(changes) {
  const now = performance.now();
  arrivals = arrivals * Math.exp((countedAt - now) / 1_000) + changes;
  countedAt = now;
  return arrivals <= CALM_ARRIVALS_PER_SECOND * 2;
}
