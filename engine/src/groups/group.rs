//! One group: what is kept of its rows, and the values that are made of that.

use super::Lost;
use super::decimal::{Decimal, TooLarge};
use super::plan::{GroupValue, GroupsPlan, Scale, StateKind, ValueOf};
use convoy_types::{Key, PgType};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// What a value in a collection takes beside its texts.
const VALUE_BYTES: usize = 96;

/// Whether a row comes or goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Comes,
    Goes,
}

impl Step {
    fn times(self, count: i64) -> i64 {
        match self {
            Step::Comes => count,
            Step::Goes => -count,
        }
    }
}

/// The state of one group.
#[derive(Clone, Debug)]
pub(super) struct Group {
    /// The values of its columns in their types' output text.
    pub(super) texts: Box<[Option<Box<str>>]>,
    pub(super) rows: i64,
    pub(super) states: Box<[Kept]>,
    /// Tells whether it is made of other values than before: the sum of the hashes of what changes added to it, less that of
    /// what they took away. It means nothing by itself.
    pub(super) made_of: u64,
}

/// What is kept of a group for one of the plan's states.
#[derive(Clone, Debug)]
pub(super) enum Kept {
    Count(i64),
    Sum { sum: i128, count: i64 },
    Numeric(NumericSum),
    Values(BTreeMap<Key, (i64, Box<str>)>),
}

/// A sum of numerics.
#[derive(Clone, Debug, Default)]
pub(super) struct NumericSum {
    /// Of the finite ones.
    pub(super) sum: Decimal,
    pub(super) count: i64,
    pub(super) nans: i64,
    pub(super) infinities: i64,
    pub(super) minus_infinities: i64,
    /// How often each scale occurs; empty where it does not vary.
    pub(super) scales: BTreeMap<u32, i64>,
}

/// A value as output text; none for null.
pub(super) type Text = Option<String>;

impl Kept {
    /// Returns what is kept of no rows.
    pub(super) fn empty(kind: StateKind) -> Kept {
        match kind {
            StateKind::Count => Kept::Count(0),
            StateKind::Sum => Kept::Sum { sum: 0, count: 0 },
            StateKind::NumericSum { .. } => Kept::Numeric(NumericSum::default()),
            StateKind::Values { .. } => Kept::Values(BTreeMap::new()),
        }
    }

    /// Takes a row's value in, or out again. Returns by how many bytes it has grown.
    pub(super) fn take(
        &mut self,
        kind: StateKind,
        ty: &PgType,
        text: &str,
        step: Step,
    ) -> Result<isize, Lost> {
        match (self, kind) {
            (Kept::Count(count), _) => *count += step.times(1),
            (Kept::Sum { sum, count }, _) => {
                let number: i128 = text.parse().map_err(|_| Lost::ReadAgain)?;
                let number = if step == Step::Comes { number } else { -number };
                *sum = sum.checked_add(number).ok_or(Lost::TooLarge)?;
                *count += step.times(1);
            }
            (Kept::Numeric(numeric), StateKind::NumericSum { scale }) => {
                numeric.take(scale, text, step)?;
            }
            (Kept::Numeric(_), _) => return Err(Lost::ReadAgain),
            (Kept::Values(values), _) => {
                let key = Key::of(ty, text.as_bytes()).map_err(|_| Lost::ReadAgain)?;
                return count_value(values, key, text, step.times(1));
            }
        }
        Ok(0)
    }

    /// Returns whether it can be: nothing occurs less than never.
    pub(super) fn is_possible(&self) -> bool {
        match self {
            Kept::Count(count) | Kept::Sum { count, .. } => *count >= 0,
            Kept::Numeric(numeric) => {
                let counts =
                    [numeric.count, numeric.nans, numeric.infinities, numeric.minus_infinities];
                counts.iter().chain(numeric.scales.values()).all(|count| *count >= 0)
            }
            // Those that would be less are noticed when they are counted.
            Kept::Values(_) => true,
        }
    }
}

/// Counts a value in a collection. Returns by how many bytes it has grown.
pub(super) fn count_value(
    values: &mut BTreeMap<Key, (i64, Box<str>)>,
    key: Key,
    text: &str,
    times: i64,
) -> Result<isize, Lost> {
    // The text is about as long as the key.
    let bytes = 2 * key.as_bytes().len() + VALUE_BYTES;
    let bytes = isize::try_from(bytes).map_err(|_| Lost::TooLarge)?;
    match values.entry(key) {
        Entry::Vacant(entry) if times > 0 => {
            entry.insert((times, text.into()));
            Ok(bytes)
        }
        Entry::Vacant(_) => Err(Lost::ReadAgain),
        Entry::Occupied(mut entry) => {
            entry.get_mut().0 += times;
            match entry.get().0 {
                0 => {
                    entry.remove();
                    Ok(-bytes)
                }
                count if count < 0 => Err(Lost::ReadAgain),
                _ => Ok(0),
            }
        }
    }
}

impl NumericSum {
    fn take(&mut self, scale: Scale, text: &str, step: Step) -> Result<(), Lost> {
        let times = step.times(1);
        match text {
            "NaN" => self.nans += times,
            "Infinity" => self.infinities += times,
            "-Infinity" => self.minus_infinities += times,
            _ => {
                let number = Decimal::read(text)?;
                match scale {
                    Scale::Fixed(scale) if scale != number.scale => return Err(Lost::ReadAgain),
                    Scale::Fixed(_) => {}
                    Scale::Varies(_) => self.count_scale(number.scale, times),
                }
                let number = if step == Step::Comes { number } else { number.negated()? };
                self.sum = self.sum.plus(number)?;
                self.count += times;
                // Zeros behind the last digit that anyone has would only make it too large.
                let scale = self.scale(scale);
                if scale < self.sum.scale {
                    self.sum = self.sum.at_scale(scale)?;
                }
            }
        }
        Ok(())
    }

    /// Counts a scale.
    pub(super) fn count_scale(&mut self, scale: u32, times: i64) {
        let count = self.scales.entry(scale).or_insert(0);
        *count += times;
        if *count == 0 {
            self.scales.remove(&scale);
        }
    }

    /// Returns the special value that the sum is, where it is one (`numeric_sum`).
    fn special(&self) -> Option<&'static str> {
        match (self.nans > 0, self.infinities > 0, self.minus_infinities > 0) {
            (true, ..) | (_, true, true) => Some("NaN"),
            (_, true, false) => Some("Infinity"),
            (_, false, true) => Some("-Infinity"),
            _ => None,
        }
    }

    /// Returns the greatest scale of the finite ones.
    fn scale(&self, scale: Scale) -> u32 {
        match scale {
            Scale::Fixed(scale) => scale,
            Scale::Varies(_) => self.scales.last_key_value().map_or(0, |(scale, _)| *scale),
        }
    }

    /// Returns the sum of the finite ones at that scale.
    fn shown(&self, scale: Scale) -> Result<Decimal, TooLarge> {
        self.sum.at_scale(self.scale(scale))
    }
}

impl Group {
    /// Returns a group without rows.
    pub(super) fn empty(plan: &GroupsPlan, texts: Box<[Option<Box<str>>]>) -> Group {
        let states = plan.states.iter().map(|state| Kept::empty(state.kind)).collect();
        Group { texts, rows: 0, states, made_of: 0 }
    }

    /// Returns whether it can be so.
    pub(super) fn is_possible(&self) -> bool {
        self.rows >= 0 && self.states.iter().all(Kept::is_possible)
    }

    /// Returns a value of it.
    pub(super) fn value(&self, plan: &GroupsPlan, value: &GroupValue) -> Result<Text, Lost> {
        let text = self.plain_value(plan, value)?;
        let fits = |text: &String| match value.ty {
            PgType::Int2 => text.parse::<i16>().is_ok(),
            PgType::Int4 => text.parse::<i32>().is_ok(),
            PgType::Int8 => text.parse::<i64>().is_ok(),
            _ => true,
        };
        // What Postgres would refuse, it should refuse in its own words.
        if !text.iter().all(fits) {
            return Err(Lost::TooLarge);
        }
        Ok(text.or_else(|| value.or_else.as_deref().map(str::to_owned)))
    }

    fn plain_value(&self, plan: &GroupsPlan, value: &GroupValue) -> Result<Text, Lost> {
        let (ValueOf::Count(at)
        | ValueOf::Sum(at)
        | ValueOf::Average(at)
        | ValueOf::Least(at)
        | ValueOf::Greatest(at)
        | ValueOf::Distinct(at)) = value.of
        else {
            let ValueOf::Group(at) = value.of else { return Err(Lost::ReadAgain) };
            return Ok(self.texts[at].as_deref().map(str::to_owned));
        };
        let scale = match plan.states[at].kind {
            StateKind::NumericSum { scale } => scale,
            _ => Scale::Fixed(0),
        };
        let text = match (value.of, &self.states[at]) {
            (ValueOf::Count(_), Kept::Count(count)) => Some(count.to_string()),
            (ValueOf::Distinct(_), Kept::Values(values)) => Some(values.len().to_string()),
            (ValueOf::Least(_), Kept::Values(values)) => {
                values.first_key_value().map(|(_, (_, text))| text.to_string())
            }
            (ValueOf::Greatest(_), Kept::Values(values)) => {
                values.last_key_value().map(|(_, (_, text))| text.to_string())
            }
            (ValueOf::Sum(_) | ValueOf::Average(_), Kept::Sum { count: 0, .. }) => None,
            (ValueOf::Sum(_), Kept::Sum { sum, .. }) => Some(sum.to_string()),
            (ValueOf::Average(_), Kept::Sum { sum, count }) => {
                let count = u64::try_from(*count).map_err(|_| Lost::ReadAgain)?;
                Some(Decimal { unscaled: *sum, scale: 0 }.divided_by(count)?)
            }
            (ValueOf::Sum(_) | ValueOf::Average(_), Kept::Numeric(numeric)) => {
                match (numeric.special(), numeric.count) {
                    (Some(special), _) => Some(special.to_owned()),
                    (None, 0) => None,
                    (None, count) => {
                        let sum = numeric.shown(scale)?;
                        if matches!(value.of, ValueOf::Sum(_)) {
                            Some(sum.text())
                        } else {
                            let count = u64::try_from(count).map_err(|_| Lost::ReadAgain)?;
                            Some(sum.divided_by(count)?)
                        }
                    }
                }
            }
            // The plan and the state are made for each other.
            _ => return Err(Lost::ReadAgain),
        };
        Ok(text)
    }
}
