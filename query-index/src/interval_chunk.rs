//! Intervals that are next to each other, in 24 bytes each with the queries that have them.
//!
//! Keys of one value begin with the same byte, and most end within eight more: an integer, a date, a short text. So a bound
//! is the number that those eight bytes are, and a code for what is behind them; only what is longer is kept apart. The
//! number decides nearly every comparison.

use crate::interval::Interval;
use crate::postings::Postings;
use std::cmp::Ordering;

/// The byte that nearly every key begins with.
const FIRST: u8 = 1;
/// The most bytes of a bound that is kept whole: the first, eight digits, and the zero of a bound behind a key.
const INLINE_LEN: usize = 10;

/// Codes below this are how many digits there are; one more than eight is a zero behind them.
const LONG: u8 = 16;
const EMPTY: u8 = 254;
const INFINITY: u8 = 255;

/// A bound of an interval, or a point, with the number that decides first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bound<'a> {
    /// Never greater than that of a bound that is greater.
    pub(crate) digits: u64,
    rest: Rest<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Rest<'a> {
    /// The digits are all there is, by this code.
    Inline(u8),
    Bytes(&'a [u8]),
    /// Behind all keys.
    Infinity,
}

impl<'a> Bound<'a> {
    /// Returns the bound that these bytes are.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        let digits = match bytes.split_first() {
            Some((&FIRST, digits)) => match digits.first_chunk::<8>() {
                Some(first) => u64::from_be_bytes(*first),
                None => digits
                    .iter()
                    .rev()
                    .fold(0, |number, &digit| number >> 8 | u64::from(digit) << 56),
            },
            Some((first, _)) if *first > FIRST => u64::MAX,
            Some(_) | None => 0,
        };
        Bound { digits, rest: Rest::Bytes(bytes) }
    }

    fn end(bytes: Option<&'a [u8]>) -> Self {
        bytes.map_or(Bound { digits: u64::MAX, rest: Rest::Infinity }, Bound::new)
    }

    fn write<'b>(&'b self, buffer: &'b mut [u8; INLINE_LEN]) -> &'b [u8] {
        match self.rest {
            Rest::Bytes(bytes) => bytes,
            Rest::Inline(code) => {
                buffer[0] = FIRST;
                buffer[1..9].copy_from_slice(&self.digits.to_be_bytes());
                buffer[9] = 0;
                &buffer[..1 + usize::from(code)]
            }
            Rest::Infinity => &[],
        }
    }
}

impl Ord for Bound<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.digits.cmp(&other.digits).then_with(|| match (self.rest, other.rest) {
            (Rest::Infinity, Rest::Infinity) => Ordering::Equal,
            (Rest::Infinity, _) => Ordering::Greater,
            (_, Rest::Infinity) => Ordering::Less,
            _ => {
                let (mut left, mut right) = ([0; INLINE_LEN], [0; INLINE_LEN]);
                self.write(&mut left).cmp(other.write(&mut right))
            }
        })
    }
}

impl PartialOrd for Bound<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Bound<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Bound<'_> {}

/// Returns how many are less than a number, of numbers that ascend.
///
/// The last of each eight is asked, and then those of the eight where it changes, which are side by side: few loads wait for
/// others, and few instructions are needed.
pub(crate) fn count_less(eights: &[[u64; 8]; 4], number: u64) -> usize {
    let is_less = |other: u64| usize::from(other < number);
    let full = is_less(eights[0][7]) + is_less(eights[1][7]) + is_less(eights[2][7]);
    let eight = &eights[full];
    let mut count = 4 * is_less(eight[3]);
    count += 2 * is_less(eight[count + 1]);
    count += is_less(eight[count]);
    8 * full + count + is_less(eight[7])
}

/// Returns how far before the last interval that begins before a point another one may be that holds it: 0 where none
/// begins before the one before it has ended.
///
/// Takes the digits of at most [`Chunk::LEN_MAX`] beginnings, ascending, with those of their ends.
pub(crate) fn reach(intervals: impl Iterator<Item = (u64, u64)>) -> usize {
    let mut greatest_ends = [0; Chunk::LEN_MAX];
    let (mut first, mut reach, mut greatest) = (0, 0, 0);
    for (place, (from, to)) in intervals.enumerate() {
        // The first that may not have ended where this one begins.
        while first < place && greatest_ends[first] < from {
            first += 1;
        }
        reach = reach.max(place - first);
        greatest = to.max(greatest);
        greatest_ends[place] = greatest;
    }
    reach
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    from: u64,
    to: u64,
    postings: Postings,
    from_code: u8,
    to_code: u8,
}

/// Some intervals, ascending by their beginnings and then their ends.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chunk {
    // Invariant: ascending, without duplicates.
    entries: Vec<Entry>,
    /// Bounds that are kept whole.
    long: Box<[Box<[u8]>]>,
    /// The entry with the greatest end.
    end_entry: u16,
    /// See [`reach`].
    reach: u16,
}

impl Chunk {
    /// The most intervals: scanning them should cost about what a cache miss does.
    pub(crate) const LEN_MAX: usize = 32;

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns the beginning of the first interval.
    pub(crate) fn start(&self) -> Bound<'_> {
        self.from(&self.entries[0])
    }

    /// Returns the greatest end.
    pub(crate) fn end(&self) -> Bound<'_> {
        self.to(&self.entries[self.end_entry as usize])
    }

    /// Returns whether the first interval comes behind this one.
    pub(crate) fn is_behind(&self, interval: &Interval) -> bool {
        self.compare(&self.entries[0], interval).is_gt()
    }

    /// Returns where the interval is, or where it would be.
    pub(crate) fn position(&self, interval: &Interval) -> Result<usize, usize> {
        self.entries.binary_search_by(|entry| self.compare(entry, interval))
    }

    pub(crate) fn postings(&mut self, place: usize) -> &mut Postings {
        &mut self.entries[place].postings
    }

    /// Adds an interval at its position.
    pub(crate) fn insert(&mut self, place: usize, interval: &Interval, postings: Postings) {
        let (from, to) = (Bound::new(interval.from()), Bound::end(interval.to()));
        let mut long = std::mem::take(&mut self.long).into_vec();
        let mut code = |bound: &Bound<'_>| match bound.rest {
            Rest::Infinity => INFINITY,
            Rest::Inline(code) => code,
            Rest::Bytes([]) => EMPTY,
            Rest::Bytes([FIRST, digits @ ..]) if digits.len() <= 8 => digits.len() as u8,
            Rest::Bytes([FIRST, digits @ ..]) if digits.len() == 9 && digits[8] == 0 => 9,
            Rest::Bytes(bytes) => {
                long.push(bytes.into());
                // At most two for each interval of a chunk.
                LONG + (long.len() - 1) as u8
            }
        };
        let (from_code, to_code) = (code(&from), code(&to));
        self.long = long.into_boxed_slice();
        if self.entries.len() == self.entries.capacity() {
            // Many trees have one interval.
            self.entries.reserve_exact(if self.entries.is_empty() { 1 } else { 4 });
        }
        let entry = Entry { from: from.digits, to: to.digits, postings, from_code, to_code };
        self.entries.insert(place, entry);
        self.find_end();
    }

    /// Takes the interval at a position away.
    pub(crate) fn remove(&mut self, place: usize) {
        self.entries.remove(place);
        if self.entries.len() + 8 <= self.entries.capacity() {
            self.entries.shrink_to(self.entries.len() + 4);
        }
        self.forget_long();
        self.find_end();
    }

    /// Takes the intervals from a position on away, and returns them.
    pub(crate) fn split_off(&mut self, place: usize) -> Chunk {
        let mut upper = Chunk {
            entries: self.entries.split_off(place),
            long: self.long.clone(),
            end_entry: 0,
            reach: 0,
        };
        self.entries.shrink_to_fit();
        for chunk in [&mut *self, &mut upper] {
            chunk.forget_long();
            chunk.find_end();
        }
        upper
    }

    /// Appends the intervals of a chunk that follows this one.
    pub(crate) fn append(&mut self, other: &Chunk) {
        self.entries.reserve_exact(other.len());
        for (interval, postings) in other.intervals() {
            self.insert(self.len(), &interval, postings);
        }
    }

    /// Returns the intervals, with the queries that have them.
    pub(crate) fn intervals(&self) -> impl Iterator<Item = (Interval, Postings)> + '_ {
        self.entries.iter().map(|entry| {
            let (mut from, mut to) = ([0; INLINE_LEN], [0; INLINE_LEN]);
            let (begin, end) = (self.from(entry), self.to(entry));
            let to = (entry.to_code != INFINITY).then(|| end.write(&mut to));
            (Interval::new(begin.write(&mut from), to), entry.postings)
        })
    }

    /// Returns what has the intervals.
    pub(crate) fn all_postings(&self) -> impl Iterator<Item = Postings> + '_ {
        self.entries.iter().map(|entry| entry.postings)
    }

    /// Reads what most stabs read, and returns a number of it.
    pub(crate) fn touch(&self, point: Bound<'_>) -> usize {
        let last = self.count_begun(point.digits).saturating_sub(1);
        self.entries.get(last).map_or(0, |entry| entry.to as usize)
    }

    /// Returns how many intervals do not begin behind these digits.
    ///
    /// As [`count_less`] does, but each third is asked: three take just more than a line of the cache, so that all lines are
    /// read at once, and not the others after what the first ones say.
    fn count_begun(&self, digits: u64) -> usize {
        let (threes, rest) = self.entries.as_chunks::<3>();
        let has_begun = |entry: &Entry| usize::from(entry.from <= digits);
        let full: usize = threes.iter().map(|[_, _, last]| has_begun(last)).sum();
        let following = threes.get(full).map_or(rest, |three| &three[..2]);
        full * 3 + following.iter().map(has_begun).sum::<usize>()
    }

    /// Calls `visit` for each interval that holds the point.
    pub(crate) fn stab(&self, point: Bound<'_>, visit: &mut impl FnMut(Postings)) {
        let mut begun = self.count_begun(point.digits);
        while begun > 0
            && self.entries[begun - 1].from == point.digits
            && self.from(&self.entries[begun - 1]) > point
        {
            begun -= 1;
        }
        let first = begun.saturating_sub(1 + usize::from(self.reach));
        for entry in self.entries.get(first..begun).unwrap_or_default() {
            if entry.to > point.digits || (entry.to == point.digits && self.to(entry) > point) {
                visit(entry.postings);
            }
        }
    }

    fn from(&self, entry: &Entry) -> Bound<'_> {
        self.bound(entry.from, entry.from_code)
    }

    fn to(&self, entry: &Entry) -> Bound<'_> {
        self.bound(entry.to, entry.to_code)
    }

    fn bound(&self, digits: u64, code: u8) -> Bound<'_> {
        let rest = match code {
            INFINITY => Rest::Infinity,
            EMPTY => Rest::Bytes(&[]),
            LONG.. => Rest::Bytes(&self.long[usize::from(code - LONG)]),
            code => Rest::Inline(code),
        };
        Bound { digits, rest }
    }

    fn compare(&self, entry: &Entry, interval: &Interval) -> Ordering {
        let order = self.from(entry).cmp(&Bound::new(interval.from()));
        order.then_with(|| self.to(entry).cmp(&Bound::end(interval.to())))
    }

    fn find_end(&mut self) {
        let mut end = 0;
        for place in 1..self.entries.len() {
            if self.to(&self.entries[place]) > self.to(&self.entries[end]) {
                end = place;
            }
        }
        self.end_entry = end as u16;
        let digits = self.entries.iter().map(|entry| (entry.from, entry.to));
        self.reach = reach(digits) as u16;
    }

    /// Drops long bounds that no entry has any more.
    fn forget_long(&mut self) {
        if self.long.is_empty() {
            return;
        }
        let mut before = std::mem::take(&mut self.long).into_vec();
        let mut kept = Vec::new();
        for entry in &mut self.entries {
            for code in [&mut entry.from_code, &mut entry.to_code] {
                if (LONG..EMPTY).contains(code) {
                    kept.push(std::mem::take(&mut before[usize::from(*code - LONG)]));
                    *code = LONG + (kept.len() - 1) as u8;
                }
            }
        }
        self.long = kept.into_boxed_slice();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![Just(0u8), Just(1), Just(2), Just(255)];
        prop_oneof![
            prop::collection::vec(byte.clone(), 0..4),
            prop::collection::vec(byte.clone(), 7..12),
            prop::collection::vec(byte, 8..12).prop_map(|end| [&[1][..], &end].concat()),
        ]
    }

    proptest! {
        #[test]
        fn bounds_compare_as_their_bytes(left in bytes(), right in bytes()) {
            prop_assert_eq!(Bound::new(&left).cmp(&Bound::new(&right)), left.cmp(&right));
            prop_assert!(Bound::new(&left) < Bound::end(None));
            // Also as a chunk keeps them.
            let mut chunk = Chunk::default();
            let interval = Interval::new(&left, Some(&right));
            chunk.insert(0, &interval, Postings::one(crate::QueryId(1)));
            prop_assert_eq!(chunk.start().cmp(&Bound::new(&right)), left.cmp(&right));
            prop_assert_eq!(chunk.end().cmp(&Bound::new(&left)), right.cmp(&left));
            prop_assert_eq!(chunk.intervals().next().map(|(interval, _)| interval), Some(interval));
        }
    }

    #[test]
    fn an_interval_takes_24_bytes() {
        assert_eq!((size_of::<Entry>(), size_of::<Chunk>()), (24, 48));
    }
}
