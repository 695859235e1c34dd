// How long ago something was, whatever happens to the clocks.

/** A moment by both clocks. */
export interface Moment {
  readonly wall: number;
  readonly steady: number;
}

export function now(): Moment {
  return { wall: Date.now(), steady: performance.now() };
}

/** The one clock may be set back, and the other stands still while the machine sleeps: the longer time is true. */
export function elapsedMs(since: Moment): number {
  return Math.max(Date.now() - since.wall, performance.now() - since.steady, 0);
}
