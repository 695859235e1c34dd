//! SQL's three truth values, and sets of them for conditions on values that nobody told us.
//!
//! A condition on an unknown value is *some* truth value. [`Possible`] carries the set of those that it may be
//! through `AND`, `OR` and `NOT`; [`Truth`] is what is said of a whole condition. Keeping sets, and not a fourth truth
//! value, is what makes `NOT (null AND unknown)` right: it is true or null, while a table of four values has to lose
//! either that it may be true or that `null AND unknown` can't be.

/// What a condition says of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// True: the row meets it.
    True,
    /// False.
    False,
    /// Null; also where it is null or false and the row does not tell which.
    Null,
    /// It may be true and may be something else.
    Unknown,
}

impl Truth {
    /// Returns whether a row that a condition says this of may meet it.
    pub fn can_be_true(self) -> bool {
        matches!(self, Truth::True | Truth::Unknown)
    }
}

/// The set of truth values that a condition may have.
// Invariant: not empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Possible(u8);

impl Possible {
    pub(crate) const TRUE: Possible = Possible(1);
    pub(crate) const FALSE: Possible = Possible(2);
    pub(crate) const NULL: Possible = Possible(4);
    /// True or false: what `IS NULL` says of an unknown value.
    pub(crate) const TRUE_OR_FALSE: Possible = Possible(3);
    /// True or null: what a comparison without a bound says of an unknown value.
    pub(crate) const TRUE_OR_NULL: Possible = Possible(5);
    /// False or null: what is not true, and by which of the two is not told.
    pub(crate) const FALSE_OR_NULL: Possible = Possible(6);
    /// Anything: what a comparison says of an unknown value.
    pub(crate) const ANY: Possible = Possible(7);

    pub(crate) fn of(truth: bool) -> Possible {
        if truth { Possible::TRUE } else { Possible::FALSE }
    }

    fn overlaps(self, other: Possible) -> bool {
        self.0 & other.0 != 0
    }

    pub(crate) fn and(self, other: Possible) -> Possible {
        let is_true = self.0 & other.0 & Possible::TRUE.0;
        let is_false = (self.0 | other.0) & Possible::FALSE.0;
        // Null comes of a null and something that is not false.
        let not_false = Possible(Possible::TRUE.0 | Possible::NULL.0);
        let is_null = self.overlaps(Possible::NULL) && other.overlaps(not_false)
            || other.overlaps(Possible::NULL) && self.overlaps(not_false);
        Possible(is_true | is_false | if is_null { Possible::NULL.0 } else { 0 })
    }

    pub(crate) fn or(self, other: Possible) -> Possible {
        // De Morgan holds in SQL's logic, so it does for sets of its values.
        self.not().and(other.not()).not()
    }

    pub(crate) fn not(self) -> Possible {
        Possible(
            (self.0 & Possible::NULL.0)
                | (self.0 & Possible::TRUE.0) << 1
                | (self.0 & Possible::FALSE.0) >> 1,
        )
    }

    pub(crate) fn truth(self) -> Truth {
        match self {
            Possible::TRUE => Truth::True,
            Possible::FALSE => Truth::False,
            possible if possible.overlaps(Possible::TRUE) => Truth::Unknown,
            _ => Truth::Null,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // SQL's own tables (PostgreSQL manual, 9.1 "Logical Operators"), with `None` for null.
    fn sql_and(left: Option<bool>, right: Option<bool>) -> Option<bool> {
        match (left, right) {
            (Some(false), _) | (_, Some(false)) => Some(false),
            (Some(true), Some(true)) => Some(true),
            _ => None,
        }
    }

    fn sql_or(left: Option<bool>, right: Option<bool>) -> Option<bool> {
        match (left, right) {
            (Some(true), _) | (_, Some(true)) => Some(true),
            (Some(false), Some(false)) => Some(false),
            _ => None,
        }
    }

    fn single(value: Option<bool>) -> Possible {
        match value {
            Some(true) => Possible::TRUE,
            Some(false) => Possible::FALSE,
            None => Possible::NULL,
        }
    }

    fn members(possible: Possible) -> Vec<Option<bool>> {
        [Some(true), Some(false), None]
            .into_iter()
            .filter(|&value| single(value).overlaps(possible))
            .collect()
    }

    fn set(values: impl IntoIterator<Item = Option<bool>>) -> Possible {
        Possible(values.into_iter().fold(0, |bits, value| bits | single(value).0))
    }

    fn all_sets() -> impl Iterator<Item = Possible> {
        (1..=7).map(Possible)
    }

    #[test]
    fn operators_are_sqls_on_every_member() {
        for left in all_sets() {
            assert_eq!(left.not(), set(members(left).into_iter().map(|value| value.map(|v| !v))));
            for right in all_sets() {
                let pairs = || {
                    members(left)
                        .into_iter()
                        .flat_map(|l| members(right).into_iter().map(move |r| (l, r)))
                };
                assert_eq!(
                    left.and(right),
                    set(pairs().map(|(l, r)| sql_and(l, r))),
                    "{left:?} and {right:?}"
                );
                assert_eq!(
                    left.or(right),
                    set(pairs().map(|(l, r)| sql_or(l, r))),
                    "{left:?} or {right:?}"
                );
            }
        }
    }

    #[test]
    fn a_truth_says_whether_it_can_be_true() {
        for possible in all_sets() {
            assert_eq!(possible.truth().can_be_true(), members(possible).contains(&Some(true)));
            assert_eq!(possible.truth() == Truth::True, possible == Possible::TRUE);
        }
        assert_eq!(Possible::FALSE.truth(), Truth::False);
        assert_eq!(Possible::NULL.truth(), Truth::Null);
        assert_eq!(Possible::NULL.and(Possible::ANY).truth(), Truth::Null);
        assert_eq!(Possible::NULL.and(Possible::ANY).not().truth(), Truth::Unknown);
    }
}
