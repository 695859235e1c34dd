//! How many spare rows a limited window holds: as many as a read brings, and fewer the longer it does without them.
//!
//! A spare row takes memory, and a change of it wakes the window though nobody sees it; where one is missing, a read is
//! needed, which is far dearer. So a window gives spare rows back only when it has gone without them for long, and after a
//! read it has all of them again.

/// Batches after which a window gives back half of the spare rows that it has not needed: a read that it may need for that
/// later costs about as much as a few hundred wake-ups.
const QUIET_BATCHES: u16 = 256;

/// A window's spare rows. There are never so many that two bytes would not count them (`spare_rows`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spare {
    /// How many it holds at most.
    max: u16,
    /// The fewest that it has had since the last time it was looked at.
    fewest: u16,
    /// Batches since then.
    batches: u16,
}

impl Spare {
    /// Returns the spare rows of a window that has just been read.
    pub fn new(max: usize) -> Self {
        let max = u16::try_from(max).unwrap_or(u16::MAX);
        Spare { max, fewest: max, batches: 0 }
    }

    /// Returns how many are held at most.
    pub fn max(self) -> usize {
        self.max.into()
    }

    /// Notes how many there are after a batch, and gives back what has not been needed for long.
    pub fn after_batch(&mut self, there: usize) {
        self.fewest = self.fewest.min(u16::try_from(there).unwrap_or(u16::MAX));
        self.batches += 1;
        if self.batches >= QUIET_BATCHES {
            *self = Spare::new((self.max - self.fewest / 2).into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_needed_for_long_is_given_back_by_and_by() {
        let mut spare = Spare::new(10);
        let mut after = |batches: u16, there: usize| {
            (0..batches).for_each(|_| spare.after_batch(there));
            spare.max()
        };
        assert_eq!(after(QUIET_BATCHES - 1, 10), 10);
        assert_eq!(after(1, 10), 5);
        assert_eq!(after(QUIET_BATCHES, 5), 3);
        // Two of the three were needed once.
        assert_eq!(after(1, 1), 3);
        assert_eq!(after(QUIET_BATCHES - 1, 3), 3);
        assert_eq!(after(3 * QUIET_BATCHES, 3), 1, "the last one stays");
    }
}
