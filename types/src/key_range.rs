//! Intervals of keys.

use crate::key::Key;
use std::ops::Bound;

/// A half-open interval of keys, `[from, to)` in bytes.
///
/// A bound may have fewer values than the keys: it then stands for all keys that begin with it. So
/// `new(Included(k), Included(k))` holds every key that begins with `k`, and `new(Excluded(k), Unbounded)` none of
/// them.
///
/// Nulls lie above every value, but no comparison in SQL is true of a null: the range of `b > 5` ends, excluded, at
/// [`Key::null`], and the one of `a = 1 and b > 5` at the key of 1 and null.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyRange {
    from: Option<Key>,
    to: Option<Key>,
}

impl KeyRange {
    /// Returns the range between two bounds.
    pub fn new(lower: Bound<Key>, upper: Bound<Key>) -> Self {
        let from = match lower {
            Bound::Included(key) => Some(key),
            Bound::Excluded(key) => Some(key.successor()),
            Bound::Unbounded => None,
        };
        let to = match upper {
            Bound::Included(key) => Some(key.successor()),
            Bound::Excluded(key) => Some(key),
            Bound::Unbounded => None,
        };
        KeyRange { from, to }
    }

    /// Returns where the range starts, this key included; `None` where it is open below.
    pub fn from(&self) -> Option<&Key> {
        self.from.as_ref()
    }

    /// Returns where the range ends, this key excluded; `None` where it is open above.
    ///
    /// It is a bound in bytes: not necessarily the key of any value.
    pub fn to(&self) -> Option<&Key> {
        self.to.as_ref()
    }

    /// Returns whether the key lies in the range.
    pub fn contains(&self, key: &Key) -> bool {
        self.from.as_ref().is_none_or(|from| from <= key)
            && self.to.as_ref().is_none_or(|to| key < to)
    }

    /// Returns whether the range ends before it starts.
    pub fn is_empty(&self) -> bool {
        matches!((&self.from, &self.to), (Some(from), Some(to)) if from >= to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::KeyBuilder;
    use crate::pg_type::PgType;
    use Bound::{Excluded, Included, Unbounded};
    use proptest::prelude::*;

    /// Returns the key of integers; `None` is null.
    fn key(values: &[Option<i32>]) -> Key {
        let mut builder = KeyBuilder::new();
        for value in values {
            let text = value.map(|value| value.to_string());
            builder
                .push_nullable(&PgType::Int4, text.as_deref().map(str::as_bytes))
                .expect("an integer");
        }
        builder.finish()
    }

    fn one(value: i32) -> Key {
        key(&[Some(value)])
    }

    #[test]
    fn greater_than_ends_at_null() {
        let range = KeyRange::new(Excluded(one(5)), Excluded(Key::null()));
        assert!(range.contains(&one(6)) && range.contains(&one(i32::MAX)));
        assert!(!range.contains(&one(5)) && !range.contains(&Key::null()));
        assert!(KeyRange::new(Excluded(one(5)), Unbounded).contains(&Key::null()));
    }

    #[test]
    fn a_shorter_bound_stands_for_all_that_begin_with_it() {
        let all =
            [key(&[Some(1), Some(i32::MIN)]), key(&[Some(1), Some(-1)]), key(&[Some(1), None])];
        let equal = KeyRange::new(Included(one(1)), Included(one(1)));
        let greater = KeyRange::new(Excluded(one(1)), Unbounded);
        let less = KeyRange::new(Unbounded, Excluded(one(1)));
        for key in &all {
            assert!(
                equal.contains(key) && !greater.contains(key) && !less.contains(key),
                "{key:?}"
            );
        }
        assert!(
            !equal.contains(&key(&[Some(2), Some(0)])) && !equal.contains(&key(&[Some(0), None]))
        );
    }

    #[test]
    fn the_key_of_nothing_begins_every_key() {
        let everything = KeyRange::new(Included(key(&[])), Included(key(&[])));
        assert!(
            everything.contains(&one(1))
                && everything.contains(&Key::null())
                && !everything.is_empty()
        );
        let nothing = KeyRange::new(Excluded(key(&[])), Excluded(key(&[])));
        assert!(nothing.is_empty() && !nothing.contains(&one(1)));
    }

    proptest! {
        #[test]
        fn contains_what_lies_between_its_bounds(low: i8, high: i8, value: i8) {
            let (low, high, value) = (i32::from(low), i32::from(high), i32::from(value));
            let cases = [
                (Included(one(low)), Included(one(high)), low <= value && value <= high, low > high),
                (Included(one(low)), Excluded(one(high)), low <= value && value < high, low >= high),
                (Excluded(one(low)), Included(one(high)), low < value && value <= high, low >= high),
                // Bytes are denser than integers: (1, 2) holds no key, which `is_empty` need not know.
                (Excluded(one(low)), Excluded(one(high)), low < value && value < high, low >= high),
                (Unbounded, Excluded(one(high)), value < high, false),
                (Excluded(one(low)), Unbounded, low < value, false),
            ];
            for (lower, upper, contained, empty) in cases {
                let range = KeyRange::new(lower, upper);
                prop_assert_eq!(range.contains(&one(value)), contained, "{:?}", &range);
                prop_assert!(!empty || range.is_empty(), "{:?}", &range);
                prop_assert!(!(range.is_empty() && contained), "{:?}", &range);
            }
        }
    }
}
