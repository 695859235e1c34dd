//! Half-open intervals of byte strings: what comparisons with `<`, `<=`, `>` and `>=` leave of a field's keys.

use crate::eval::prefix_bytes;
use convoy_types::Key;

/// A half-open interval of byte strings, `[from, to)`; it may be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Interval {
    /// The first point; empty where the interval is open below, because nothing is less than the empty string.
    from: Bytes,
    /// The point behind the last; `None` where the interval is open above.
    to: Option<Bytes>,
}

impl Interval {
    /// Returns the interval of everything.
    pub(crate) fn all() -> Self {
        Interval { from: Bytes::new(&[]), to: None }
    }

    /// Returns the interval with these bounds.
    pub(crate) fn new(from: &[u8], to: Option<&[u8]>) -> Self {
        Interval { from: Bytes::new(from), to: to.map(Bytes::new) }
    }

    /// Takes away what is less than `key`, and `key` itself where it is not included.
    pub(crate) fn bound_below(&mut self, key: &Key, included: bool) {
        let from = Bytes::bound(key, included);
        if self.from.slice() < from.slice() {
            self.from = from;
        }
    }

    /// Takes away what is greater than `key`, and `key` itself where it is not included.
    pub(crate) fn bound_above(&mut self, key: &Key, included: bool) {
        let to = Bytes::bound(key, !included);
        if self.to.as_ref().is_none_or(|known| to.slice() < known.slice()) {
            self.to = Some(to);
        }
    }

    /// Takes away what does not begin with the text.
    pub(crate) fn bound_prefix(&mut self, text: &Key) {
        let prefix = prefix_bytes(text);
        let from = Bytes::new(prefix);
        if self.from.slice() < from.slice() {
            self.from = from;
        }
        // The least that is greater than all that begin with it.
        let Some(last) = prefix.iter().rposition(|&byte| byte != u8::MAX) else { return };
        let mut behind = prefix[..=last].to_vec();
        behind[last] += 1;
        if self.to.as_ref().is_none_or(|known| behind.as_slice() < known.slice()) {
            self.to = Some(Bytes::new(&behind));
        }
    }

    /// Returns the first point.
    pub(crate) fn from(&self) -> &[u8] {
        self.from.slice()
    }

    /// Returns the point behind the last.
    pub(crate) fn to(&self) -> Option<&[u8]> {
        self.to.as_ref().map(Bytes::slice)
    }

    /// Returns whether the point is in the interval.
    #[cfg(test)]
    pub(crate) fn holds(&self, point: &[u8]) -> bool {
        self.from() <= point && self.to().is_none_or(|to| point < to)
    }
}

/// Bytes, without an allocation where they are few.
#[derive(Clone, Debug)]
enum Bytes {
    Inline { len: u8, bytes: [u8; 22] },
    Heap(Box<[u8]>),
}

impl Bytes {
    fn new(slice: &[u8]) -> Self {
        let mut bytes = [0; 22];
        match bytes.get_mut(..slice.len()) {
            Some(start) => {
                start.copy_from_slice(slice);
                Bytes::Inline { len: slice.len() as u8, bytes }
            }
            None => Bytes::Heap(slice.into()),
        }
    }

    /// Returns the least bytes that are not less than the key, or that are greater.
    fn bound(key: &Key, included: bool) -> Self {
        if included {
            Bytes::new(key.as_bytes())
        } else {
            Bytes::new(&[key.as_bytes(), &[0]].concat())
        }
    }

    fn slice(&self) -> &[u8] {
        match self {
            Bytes::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Bytes::Heap(bytes) => bytes,
        }
    }
}

impl PartialEq for Bytes {
    fn eq(&self, other: &Self) -> bool {
        self.slice() == other.slice()
    }
}

impl Eq for Bytes {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::key;
    use convoy_types::PgType;

    #[test]
    fn bounds_take_away() {
        let mut interval = Interval::all();
        let holds = |interval: &Interval, value| interval.holds(key(value).as_bytes());
        assert!(holds(&interval, 1));
        interval.bound_below(&key(1), false);
        interval.bound_above(&key(5), true);
        let held = |interval: &Interval| (0..8).filter(|&v| holds(interval, v)).collect::<Vec<_>>();
        assert_eq!(held(&interval), [2, 3, 4, 5]);
        // The tighter one counts.
        interval.bound_below(&key(0), true);
        interval.bound_above(&key(5), false);
        assert_eq!(held(&interval), [2, 3, 4]);
        interval.bound_below(&key(4), true);
        interval.bound_above(&key(4), true);
        assert_eq!(held(&interval), [4]);
        interval.bound_above(&key(4), false);
        assert_eq!(held(&interval), [0; 0]);
    }

    #[test]
    fn prefixes_are_intervals() {
        let text = |text: &str| Key::of(&PgType::Text, text.as_bytes()).expect("it is a text");
        let texts = ["", "a", "ab", "ab\u{1}", "ab\u{10ffff}", "abc", "ac", "b", "\u{10ffff}"];
        for start in texts {
            let mut interval = Interval::all();
            interval.bound_prefix(&text(start));
            for value in texts {
                let is_in = interval.holds(text(value).as_bytes());
                assert_eq!(is_in, value.starts_with(start), "{value:?} begins with {start:?}");
            }
        }
    }
}
