//! How long to wait before trying again.
//!
//! Whether to try again is [`ReplicationError::is_retryable`](crate::ReplicationError::is_retryable)'s word. Knows no
//! clock and no random source: the caller sleeps, and passes the random numbers in.

use std::time::Duration;

/// The first wait, at most. A server that restarts is back about then.
const FIRST: Duration = Duration::from_millis(200);
/// The longest wait: long enough to spare a server in trouble, short enough for a person who waits for it.
const LONGEST: Duration = Duration::from_secs(10);

/// Waits that double from 0.2 s to 10 s, each somewhere between its half and its whole, so that many processes that
/// lost the same server don't come back at once.
#[derive(Clone, Debug, Default)]
pub struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// Returns how long to wait before the next attempt, given a random number.
    pub fn next_delay(&mut self, random: u64) -> Duration {
        let whole = FIRST.saturating_mul(1 << self.attempts.min(16)).min(LONGEST);
        self.attempts = self.attempts.saturating_add(1);
        let half_micros = u64::try_from(whole.as_micros() / 2).unwrap_or(u64::MAX);
        Duration::from_micros(half_micros + random % (half_micros + 1))
    }

    /// Returns how many attempts have failed since the last success.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Begins anew after a success.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_longer_each_time_and_never_too_long() {
        let (mut shortest, mut longest) = (Backoff::default(), Backoff::default());
        let mut before = Duration::ZERO;
        for _ in 0..100 {
            let (low, high) = (shortest.next_delay(0), longest.next_delay(longest.next_random()));
            assert!(low >= before && low <= high && high <= LONGEST, "{low:?} {high:?}");
            before = low;
        }
        assert_eq!(before, LONGEST / 2);
        shortest.reset();
        assert_eq!(shortest.next_delay(0), FIRST / 2);
    }

    impl Backoff {
        /// Returns the number that gives the longest wait of the next attempt.
        fn next_random(&self) -> u64 {
            let whole = FIRST.saturating_mul(1 << self.attempts.min(16)).min(LONGEST);
            u64::try_from(whole.as_micros() / 2).expect("some seconds")
        }
    }
}
