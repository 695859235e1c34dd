//! Transaction ids, and which transactions a snapshot shows.

use crate::error::ParseSnapshotError;
use std::fmt;
use std::str::FromStr;

/// A transaction id as the WAL carries it: 32 bits, which wrap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Xid(pub u32);

/// A transaction id with its epoch: 64 bits, which don't wrap (`xid8`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FullXid(pub u64);

impl fmt::Display for FullXid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// What `pg_current_snapshot()` said: which transactions a result includes.
///
/// Only top-level transactions can be asked about: a running subtransaction's id would test as visible
/// (`docs/postgres.md`, P4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotMark {
    /// Every transaction before this one had ended.
    pub xmin: FullXid,
    /// No transaction from this one on had been given out.
    pub xmax: FullXid,
    /// The transactions in `[xmin, xmax)` that were running, in order.
    running: Box<[FullXid]>,
}

impl SnapshotMark {
    /// Returns whether a committed top-level transaction is included in results read at this snapshot.
    pub fn shows(&self, xid: FullXid) -> bool {
        xid < self.xmin || (xid < self.xmax && self.running.binary_search(&xid).is_err())
    }

    /// Returns the 64-bit id that a 32-bit one of about the same age as this snapshot stands for.
    ///
    /// Right while the two are less than 2^31 transactions apart, which Postgres itself guarantees.
    pub fn widen(&self, xid: Xid) -> FullXid {
        #[expect(clippy::cast_possible_truncation, reason = "the low half is what is compared")]
        let low = self.xmax.0 as u32;
        let distance = i64::from(xid.0.wrapping_sub(low).cast_signed());
        FullXid(self.xmax.0.saturating_add_signed(distance))
    }
}

impl FromStr for SnapshotMark {
    type Err = ParseSnapshotError;

    /// Reads `pg_current_snapshot()::text`: `xmin:xmax:running,running,…`.
    fn from_str(text: &str) -> Result<Self, ParseSnapshotError> {
        let error = || ParseSnapshotError { text: text.chars().take(80).collect() };
        let number = |digits: &str| digits.parse().map(FullXid).map_err(|_| error());
        let mut parts = text.splitn(3, ':');
        let mut part = || parts.next().ok_or_else(error);
        let (xmin, xmax, running) = (number(part()?)?, number(part()?)?, part()?);
        let mut running = running
            .split(',')
            .filter(|digits| !digits.is_empty())
            .map(number)
            .collect::<Result<Vec<_>, _>>()?;
        running.sort_unstable();
        Ok(SnapshotMark { xmin, xmax, running: running.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(text: &str) -> SnapshotMark {
        text.parse().expect("a snapshot")
    }

    #[test]
    fn p4_a_mark_shows_what_had_ended() {
        let mark = mark("10:20:10,14,15");
        let shown = (5..25).filter(|&xid| mark.shows(FullXid(xid))).collect::<Vec<_>>();
        assert_eq!(shown, [5, 6, 7, 8, 9, 11, 12, 13, 16, 17, 18, 19]);
    }

    #[test]
    fn p4_xids_widen_across_a_wrap() {
        let just_after = mark("8589934590:8589934600:");
        assert_eq!(just_after.widen(Xid(7)), FullXid(8_589_934_599));
        assert_eq!(just_after.widen(Xid(20)), FullXid(8_589_934_612));
        assert_eq!(just_after.widen(Xid(u32::MAX)), FullXid(8_589_934_591));
        let just_before = mark("4294967290:4294967290:");
        assert_eq!(just_before.widen(Xid(3)), FullXid(4_294_967_299));
    }

    #[test]
    fn refuses_what_is_no_snapshot() {
        for text in ["", "1", "1:2", "a:2:", "1:2:x", "1:-2:"] {
            assert!(text.parse::<SnapshotMark>().is_err(), "{text:?}");
        }
    }
}
