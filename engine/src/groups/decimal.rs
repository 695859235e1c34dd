//! Exact decimal arithmetic, as far as sums and averages need it, with the scales that Postgres' `numeric` shows.
//!
//! A sum is an integer at a scale. What does not fit 128 bits is refused, never rounded: the result is then read from
//! the database instead.

/// Digits of a quotient that are significant at least (`NUMERIC_MIN_SIG_DIGITS` of PostgreSQL's `numeric.h`).
const SIGNIFICANT_DIGITS_MIN: i64 = 16;
/// The greatest scale of a quotient (`NUMERIC_MAX_DISPLAY_SCALE`).
const SCALE_MAX: i64 = 1000;
/// Decimal digits in one of `numeric`'s own (`DEC_DIGITS`).
const DIGITS_OF_A_PLACE: usize = 4;

/// A number that does not fit, or a text that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLarge;

/// A finite decimal number: `unscaled` / 10^`scale`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Decimal {
    pub(super) unscaled: i128,
    pub(super) scale: u32,
}

impl Decimal {
    /// Reads what `numeric` shows for a finite value.
    pub(super) fn read(text: &str) -> Result<Decimal, TooLarge> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        if whole.is_empty() {
            return Err(TooLarge);
        }
        let mut unscaled = 0_i128;
        for digit in whole.bytes().chain(fraction.bytes()) {
            if !digit.is_ascii_digit() {
                return Err(TooLarge);
            }
            let digit = i128::from(digit - b'0');
            unscaled = unscaled
                .checked_mul(10)
                .and_then(|tens| tens.checked_add(digit))
                .ok_or(TooLarge)?;
        }
        let scale = u32::try_from(fraction.len()).map_err(|_| TooLarge)?;
        Ok(Decimal { unscaled: if negative { -unscaled } else { unscaled }, scale })
    }

    /// Returns the number at a greater scale.
    fn widened(self, scale: u32) -> Result<i128, TooLarge> {
        let more = scale.checked_sub(self.scale).ok_or(TooLarge)?;
        if self.unscaled == 0 {
            return Ok(0);
        }
        10_i128
            .checked_pow(more)
            .and_then(|factor| self.unscaled.checked_mul(factor))
            .ok_or(TooLarge)
    }

    /// Returns the sum, at the greater scale of the two.
    pub(super) fn plus(self, other: Decimal) -> Result<Decimal, TooLarge> {
        let scale = self.scale.max(other.scale);
        let unscaled = self.widened(scale)?.checked_add(other.widened(scale)?).ok_or(TooLarge)?;
        Ok(Decimal { unscaled, scale })
    }

    /// Returns the number with the sign turned.
    pub(super) fn negated(self) -> Result<Decimal, TooLarge> {
        Ok(Decimal { unscaled: self.unscaled.checked_neg().ok_or(TooLarge)?, ..self })
    }

    /// Returns the same number at this scale; an error where digits would be lost.
    pub(super) fn at_scale(self, scale: u32) -> Result<Decimal, TooLarge> {
        if scale >= self.scale {
            return Ok(Decimal { unscaled: self.widened(scale)?, scale });
        }
        let Some(factor) = 10_i128.checked_pow(self.scale - scale) else {
            // Nothing but zero has so many zeros at its end.
            return if self.unscaled == 0 {
                Ok(Decimal { unscaled: 0, scale })
            } else {
                Err(TooLarge)
            };
        };
        match self.unscaled % factor {
            0 => Ok(Decimal { unscaled: self.unscaled / factor, scale }),
            _ => Err(TooLarge),
        }
    }

    /// Returns what `numeric` shows.
    pub(super) fn text(self) -> String {
        let digits = self.unscaled.unsigned_abs().to_string();
        written(self.unscaled < 0, digits, usize::try_from(self.scale).unwrap_or(usize::MAX))
    }

    /// Returns what `numeric` shows for the quotient of this and a count: Postgres' own choice of scale, rounded half
    /// away from zero (`numeric_div`, `select_div_scale`).
    pub(super) fn divided_by(self, count: u64) -> Result<String, TooLarge> {
        if count == 0 {
            return Err(TooLarge);
        }
        let (weight, first) = self.leading_place();
        let (count_weight, count_first) =
            Decimal { unscaled: count.into(), scale: 0 }.leading_place();
        let mut quotient_weight = weight - count_weight;
        if first <= count_first {
            quotient_weight -= 1;
        }
        let places = i64::try_from(DIGITS_OF_A_PLACE).unwrap_or(4);
        let scale = (SIGNIFICANT_DIGITS_MIN - quotient_weight * places)
            .max(self.scale.into())
            .clamp(0, SCALE_MAX);
        let scale = usize::try_from(scale).map_err(|_| TooLarge)?;
        let more = scale
            .checked_sub(usize::try_from(self.scale).map_err(|_| TooLarge)?)
            .ok_or(TooLarge)?;

        // Long division, digit by digit: what remains is less than the count, so ten times that fits.
        let dividend = self.unscaled.unsigned_abs().to_string();
        let count = u128::from(count);
        let mut remainder = 0_u128;
        let mut digits: Vec<u8> = Vec::with_capacity(dividend.len() + more);
        for digit in dividend.bytes().chain(std::iter::repeat_n(b'0', more)) {
            remainder = remainder * 10 + u128::from(digit - b'0');
            // Less than ten, since what remained was less than the count.
            digits.push(b'0' + u8::try_from(remainder / count).unwrap_or(9));
            remainder %= count;
        }
        if remainder * 2 >= count {
            round_up(&mut digits);
        }
        let is_zero = digits.iter().all(|&digit| digit == b'0');
        let digits = digits.into_iter().map(char::from).collect();
        Ok(written(self.unscaled < 0 && !is_zero, digits, scale))
    }

    /// Returns the weight of the first of `numeric`'s digits that is not zero, and that digit: they count four decimal
    /// digits each, from the point on. Zero has none: (0, 0).
    fn leading_place(self) -> (i64, i64) {
        if self.unscaled == 0 {
            return (0, 0);
        }
        let digits = self.unscaled.unsigned_abs().to_string();
        let scale = usize::try_from(self.scale).unwrap_or(usize::MAX);
        // The power of ten of the first digit, and the place that it stands in.
        let power = as_i64(digits.len()) - 1 - as_i64(scale);
        let places = as_i64(DIGITS_OF_A_PLACE);
        let weight = power.div_euclid(places);
        let in_place = usize::try_from(power.rem_euclid(places)).unwrap_or(0) + 1;
        let place: i64 = digits
            .bytes()
            .chain(std::iter::repeat(b'0'))
            .take(in_place)
            .fold(0, |place, digit| place * 10 + i64::from(digit - b'0'));
        (weight, place)
    }
}

fn as_i64(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn round_up(digits: &mut Vec<u8>) {
    for digit in digits.iter_mut().rev() {
        if *digit < b'9' {
            *digit += 1;
            return;
        }
        *digit = b'0';
    }
    digits.insert(0, b'1');
}

/// Writes digits with a point before the last `scale` of them.
fn written(negative: bool, digits: String, scale: usize) -> String {
    let digits = digits.trim_start_matches('0');
    let padded = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = padded.split_at(padded.len() - scale);
    let sign = if negative { "-" } else { "" };
    match fraction {
        "" => format!("{sign}{whole}"),
        fraction => format!("{sign}{whole}.{fraction}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decimal(text: &str) -> Decimal {
        Decimal::read(text).unwrap_or_else(|_| panic!("{text} is a number"))
    }

    #[test]
    fn averages_have_the_scale_that_postgres_chooses() {
        // Asked of 15.18: `select sum / count`.
        let cases = [
            ("10", 4, "2.5000000000000000"),
            ("0", 3, "0.00000000000000000000"),
            ("1", 3, "0.33333333333333333333"),
            ("2", 3, "0.66666666666666666667"),
            ("-2", 3, "-0.66666666666666666667"),
            ("100000", 3, "33333.333333333333"),
            ("1.5", 1, "1.50000000000000000000"),
            ("10000", 10000, "1.00000000000000000000"),
            ("100000000000000000000", 7, "14285714285714285714"),
            ("0.000001", 3, "0.000000333333333333333333"),
        ];
        for (sum, count, expected) in cases {
            assert_eq!(decimal(sum).divided_by(count).as_deref(), Ok(expected), "{sum} / {count}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let most = i128::MAX.to_string();
        assert_eq!(decimal(&most).plus(decimal("1")), Err(TooLarge));
        assert_eq!(decimal(&most).plus(decimal("0.1")), Err(TooLarge));
        assert!(Decimal::read(&format!("{most}0")).is_err());
        for text in ["", "-", "NaN", "1e5", ".5", "+1", " 1"] {
            assert!(Decimal::read(text).is_err(), "{text:?}");
        }
        assert_eq!(decimal("1.5").at_scale(0), Err(TooLarge));
        assert_eq!(decimal("1.500").at_scale(1).map(Decimal::text), Ok("1.5".to_owned()));
    }

    proptest! {
        #[test]
        fn reading_what_is_shown_gives_the_number(unscaled: i64, scale in 0..30_u32) {
            let number = Decimal { unscaled: unscaled.into(), scale };
            prop_assert_eq!(Decimal::read(&number.text()), Ok(number));
        }

        #[test]
        fn taking_away_what_was_added_leaves_the_sum(a: i64, b: i64, left in 0..9_u32, right in 0..9_u32) {
            let (a, b) = (Decimal { unscaled: a.into(), scale: left }, Decimal { unscaled: b.into(), scale: right });
            let back = a.plus(b).and_then(|sum| sum.plus(b.negated()?)).and_then(|sum| sum.at_scale(left));
            prop_assert_eq!(back, Ok(a));
        }
    }
}
