// When to paint: at most once a frame, however often something changes.
//
// Responsible for: coalescing, the time at which a paint was on screen, the reader's wish for no motion.
// Leaves to others: what is painted.

const stillness = matchMedia("(prefers-reduced-motion: reduce)");

/** Returns whether anything may move; asked each time, because the reader may change it. */
export function motionAllowed() {
  return !stillness.matches;
}

/**
 * Returns a function that asks for `paint` at the next frame; asking again before then does nothing.
 * After the frame that showed it, `shown` is called with the wall clock (`wallClock`).
 */
export function painter(paint, shown = () => {}) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      const receipt = paint();
      // The next frame begins when this one has been handed to the screen.
      requestAnimationFrame(() => shown(wallClock(), receipt));
    });
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

/** The accent on what changed, for 600 ms. One animation an element: changing again starts it over. */
const flashes = new WeakMap();
const FLASH = [{ backgroundColor: "var(--accent-wash)" }, { backgroundColor: "transparent" }];

export function flash(element) {
  if (!motionAllowed()) return;
  const running = flashes.get(element);
  if (running) {
    running.currentTime = 0;
    running.play();
  } else {
    flashes.set(element, element.animate(FLASH, { duration: 600, easing: "ease-out" }));
  }
}
