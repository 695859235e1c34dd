//! The clock that all processes of a benchmark share.
//!
//! CLOCK_MONOTONIC is one clock for the whole machine (clock_gettime(2)): stamps of different processes may be
//! subtracted, and nobody sets it while we measure. `std::time::Instant` reads the same clock and keeps it to itself.

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Nanoseconds of CLOCK_MONOTONIC; only differences mean something, and only on one machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Stamp(pub(crate) i64);

impl Stamp {
    /// Returns the time now.
    pub(crate) fn now() -> Self {
        let now = clock_gettime(ClockId::Monotonic);
        Stamp(now.tv_sec * 1_000_000_000 + now.tv_nsec)
    }

    /// Returns the nanoseconds since `earlier`; negative if it is later.
    pub(crate) fn since(self, earlier: Stamp) -> i64 {
        self.0 - earlier.0
    }

    /// Returns the time this long after.
    pub(crate) fn plus(self, duration: Duration) -> Self {
        Stamp(self.0.saturating_add(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)))
    }

    /// Blocks the thread until this time. tokio's timers have a resolution of 1 ms, which is a whole interval here.
    pub(crate) fn block_until(self) {
        if let Ok(left) = u64::try_from(self.since(Stamp::now())) {
            std::thread::sleep(Duration::from_nanos(left));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_at_least_until_the_time() {
        let target = Stamp::now().plus(Duration::from_millis(2));
        target.block_until();
        assert!(Stamp::now().since(target) >= 0);
        // In the past: not at all, and no panic.
        Stamp(0).block_until();
    }
}
