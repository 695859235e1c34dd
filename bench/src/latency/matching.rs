//! What writer and receivers saw of the same commits, put together by their numbers.

use crate::clock::Stamp;
use crate::samples::Samples;
use crate::worker::{Received, Tally, Written, WrittenCommit};
use anyhow::{Context, bail};

/// Who receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Bare,
    Subscriber,
}

impl Side {
    fn words(self) -> &'static str {
        match self {
            Side::Bare => "bare client",
            Side::Subscriber => "subscribers",
        }
    }
}

/// One phase, without its warm-up.
#[derive(Debug)]
pub(super) struct Trace {
    written: Vec<WrittenCommit>,
    bare: Option<Vec<Stamp>>,
    subscriber: Option<Vec<Stamp>>,
    /// What kinds of updates the subscribers got, the warm-up included.
    pub(super) tally: Tally,
    /// The server's CPU time, the warm-up included.
    pub(super) cpu_us_per_commit: Option<f64>,
}

impl Trace {
    /// Puts a phase together.
    ///
    /// # Errors
    /// If a commit did not arrive somewhere: then there is nothing to be said of latency.
    pub(super) fn new(
        written: Written,
        bare: Option<Received>,
        subscriber: Option<Received>,
        warm_up: usize,
        cpu_us_per_commit: Option<f64>,
    ) -> anyhow::Result<Self> {
        let tally = subscriber.as_ref().map(|received| received.tally).unwrap_or_default();
        let count = written.commits.len();
        let arrivals = |received: Option<Received>, side: Side| -> anyhow::Result<_> {
            let Some(received) = received else { return Ok(None) };
            let missing = received.at.iter().filter(|at| at.is_none()).count()
                + count.abs_diff(received.at.len());
            if missing > 0 {
                bail!("{missing} of {count} commits never arrived at the {}", side.words());
            }
            Ok(Some(received.at.into_iter().flatten().skip(warm_up).collect::<Vec<_>>()))
        };
        Ok(Trace {
            bare: arrivals(bare, Side::Bare)?,
            subscriber: arrivals(subscriber, Side::Subscriber)?,
            written: written.commits.into_iter().skip(warm_up).collect(),
            tally,
            cpu_us_per_commit,
        })
    }

    /// Returns the latencies from a moment of the writer's to the arrival at one side; nothing where it was not there.
    pub(super) fn arrivals(&self, side: Side, from: impl Fn(&WrittenCommit) -> Stamp) -> Samples {
        let arrived = match side {
            Side::Bare => &self.bare,
            Side::Subscriber => &self.subscriber,
        };
        let arrived = arrived.as_deref().unwrap_or_default();
        self.written.iter().zip(arrived).map(|(commit, at)| at.since(from(commit))).collect()
    }

    /// Returns at what rate transactions really began; `None` of fewer than two.
    pub(super) fn commits_per_second(&self) -> Option<f64> {
        let begun = |commit: &WrittenCommit| commit.begun;
        let first = self.written.iter().map(begun).min()?;
        let last = self.written.iter().map(begun).max()?;
        let nanos = last.since(first);
        (nanos > 0).then(|| (self.written.len() - 1) as f64 * 1e9 / nanos as f64)
    }

    /// Returns the latencies between two moments of the writer's.
    pub(super) fn between(
        &self,
        from: impl Fn(&WrittenCommit) -> Stamp,
        to: impl Fn(&WrittenCommit) -> Stamp,
    ) -> Samples {
        self.written.iter().map(|commit| to(commit).since(from(commit))).collect()
    }
}

/// Returns the ratio of two p50s.
pub(super) fn p50_ratio(over: &Samples, under: &Samples) -> anyhow::Result<f64> {
    let (over, under) = over.quantile_us(0.5).zip(under.quantile_us(0.5)).context("no samples")?;
    Ok(over / under)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(count: i64) -> Written {
        let commit = |n: i64| WrittenCommit {
            due: Stamp(n * 1_000_000),
            begun: Stamp(n * 1_000_000 + 1_000),
            sent: Stamp(n * 1_000_000 + 2_000),
            returned: Stamp(n * 1_000_000 + 5_000),
        };
        Written { commits: (0..count).map(commit).collect() }
    }

    fn received(count: i64, after_ns: i64) -> Received {
        let at = (0..count).map(|n| Some(Stamp(n * 1_000_000 + after_ns))).collect();
        Received { at, tally: Tally::default() }
    }

    #[test]
    fn latencies_are_from_the_same_commit() {
        let trace =
            Trace::new(written(10), Some(received(10, 4_000)), Some(received(10, 8_000)), 2, None);
        let trace = trace.expect("complete");
        let sent_to_bare = trace.arrivals(Side::Bare, |commit| commit.sent);
        assert_eq!((sent_to_bare.len(), sent_to_bare.quantile_us(1.0)), (8, Some(2.0)));
        // It was there before COMMIT had returned.
        assert_eq!(
            trace.arrivals(Side::Bare, |commit| commit.returned).quantile_us(0.5),
            Some(-1.0)
        );
        let sent_to_subscriber = trace.arrivals(Side::Subscriber, |commit| commit.sent);
        assert_eq!(p50_ratio(&sent_to_subscriber, &sent_to_bare).expect("samples"), 3.0);
        assert_eq!(
            trace.between(|commit| commit.sent, |commit| commit.returned).quantile_us(0.5),
            Some(3.0)
        );
    }

    #[test]
    fn a_lost_commit_fails_the_benchmark() {
        let mut lossy = received(10, 4_000);
        // In the warm-up, even.
        lossy.at[0] = None;
        let error =
            Trace::new(written(10), None, Some(lossy), 2, None).expect_err("lost").to_string();
        assert_eq!(error, "1 of 10 commits never arrived at the subscribers");
    }

    #[test]
    fn a_side_that_was_not_there_has_no_samples() {
        let trace =
            Trace::new(written(3), Some(received(3, 4_000)), None, 0, None).expect("complete");
        assert_eq!(trace.arrivals(Side::Subscriber, |commit| commit.sent), Samples::default());
        assert!(p50_ratio(&Samples::default(), &Samples::default()).is_err());
    }
}
