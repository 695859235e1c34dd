//! Latencies, and what is said of them.
//!
//! Exact, from all samples, and not from a histogram's buckets: a run has at most some 100,000 of them, and a
//! histogram can't hold the negative ones that there are when an event arrives before COMMIT has returned.

use serde::Serialize;

/// Latencies in nanoseconds, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Samples(Vec<i64>);

impl FromIterator<i64> for Samples {
    fn from_iter<Iter: IntoIterator<Item = i64>>(nanos: Iter) -> Self {
        let mut nanos: Vec<i64> = nanos.into_iter().collect();
        nanos.sort_unstable();
        Samples(nanos)
    }
}

impl Samples {
    /// Returns how many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns the smallest sample that at least this share of all samples does not exceed (nearest rank), in
    /// microseconds; `None` without samples.
    pub(crate) fn quantile_us(&self, share: f64) -> Option<f64> {
        let rank = (share * self.0.len() as f64).ceil() as usize;
        let nanos = self.0.get(rank.max(1) - 1).or(self.0.last())?;
        Some(*nanos as f64 / 1_000.0)
    }
}

/// One latency over all pairs: the median of the pairs' quantiles, the greatest of their maxima.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Summary {
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) max_us: f64,
    /// All pairs' samples.
    pub(crate) samples: usize,
    /// Each pair's own p50, in the order that they were measured.
    pub(crate) pairs_p50_us: Vec<f64>,
}

impl Summary {
    /// Sums pairs up; `None` if one of them has no samples, or there are none.
    pub(crate) fn of(pairs: &[Samples]) -> Option<Summary> {
        let all =
            |share| pairs.iter().map(|pair| pair.quantile_us(share)).collect::<Option<Vec<_>>>();
        let pairs_p50_us = all(0.5)?;
        Some(Summary {
            p50_us: median(&pairs_p50_us)?,
            p99_us: median(&all(0.99)?)?,
            max_us: all(1.0)?.into_iter().reduce(f64::max)?,
            samples: pairs.iter().map(Samples::len).sum(),
            pairs_p50_us,
        })
    }
}

/// One figure over all pairs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    /// Each pair's own, in the order that they were measured.
    pub(crate) pairs: Vec<f64>,
}

impl Spread {
    /// Sums pairs up; `None` if there are none.
    pub(crate) fn of(pairs: Vec<f64>) -> Option<Spread> {
        Some(Spread { median: median(&pairs)?, pairs })
    }
}

/// Returns the median, between the two middle values where their number is even.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = sorted[(sorted.len() - 1) / 2];
    Some(f64::midpoint(lower, upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_samples() {
        let samples: Samples = (1..=100).rev().map(|us| us * 1_000).collect();
        assert_eq!(samples.quantile_us(0.5), Some(50.0));
        assert_eq!(samples.quantile_us(0.99), Some(99.0));
        assert_eq!(samples.quantile_us(1.0), Some(100.0));
        assert_eq!(samples.quantile_us(0.0), Some(1.0));
        assert_eq!(Samples::default().quantile_us(0.5), None);
    }

    #[test]
    fn negative_samples_count() {
        let samples: Samples = [-3_000, -1_000, 2_000].into_iter().collect();
        assert_eq!(samples.quantile_us(0.5), Some(-1.0));
    }

    #[test]
    fn medians_of_even_and_odd_numbers() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn one_bad_pair_moves_the_maximum_and_not_the_median() {
        let pair = |us: i64| (0..10).map(|_| us * 1_000).collect::<Samples>();
        let summary = Summary::of(&[pair(10), pair(9_000), pair(12)]).expect("samples");
        assert_eq!((summary.p50_us, summary.max_us, summary.samples), (12.0, 9_000.0, 30));
        assert_eq!(Summary::of(&[pair(10), Samples::default()]), None);
    }
}
