//! Order-preserving bytes of floats and of `numeric`.
//!
//! A numeric other than zero is ±0.d₁d₂d₃… × 10^exponent with d₁ ≠ 0 and without zeros at the end, which is one form
//! for 1.0 and 1.00. Its bytes: the class (negative, positive), the exponent in three bytes, the digits two by two as
//! 1 to 100, and 0 as the end. A negative one has every byte behind its class inverted. The other classes are one
//! byte.

/// What the first byte says, in order: `-Infinity`, negative, zero, positive, `Infinity`, `NaN`.
mod class {
    pub(super) const MINUS_INFINITY: u8 = 0;
    pub(super) const NEGATIVE: u8 = 1;
    pub(super) const ZERO: u8 = 2;
    pub(super) const POSITIVE: u8 = 3;
    pub(super) const INFINITY: u8 = 4;
    pub(super) const NAN: u8 = 5;
}

/// Half the exponents that fit. A numeric's lie within -16,383 and 131,072 (PostgreSQL manual, 8.1 "Numeric Types").
const EXPONENT_BIAS: i64 = 1 << 23;

/// Appends the eight bytes of a float: -0.0 as 0.0, NaN behind all.
pub(crate) fn encode_float(value: f64, out: &mut Vec<u8>) {
    let bits = if value.is_nan() {
        u64::MAX
    } else {
        // Adding zero turns -0.0 into 0.0. Negative floats grow downwards, so all their bits flip.
        let bits = (value + 0.0).to_bits();
        if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
    };
    out.extend_from_slice(&bits.to_be_bytes());
}

/// Appends the bytes of a numeric; may leave some behind where the text is none.
pub(crate) fn encode_numeric(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    match text {
        b"NaN" => out.push(class::NAN),
        b"Infinity" => out.push(class::INFINITY),
        b"-Infinity" => out.push(class::MINUS_INFINITY),
        _ => {
            let decimal = Decimal::read(text)?;
            let Some((exponent, digits)) = decimal.normal_form() else {
                out.push(class::ZERO);
                return Some(());
            };
            let biased =
                u32::try_from(exponent + EXPONENT_BIAS).ok().filter(|biased| biased >> 24 == 0)?;
            out.push(if decimal.negative { class::NEGATIVE } else { class::POSITIVE });
            let start = out.len();
            out.extend_from_slice(&biased.to_be_bytes()[1..]);
            let mut digits = digits.peekable();
            while let Some(first) = digits.next() {
                out.push(1 + 10 * first + digits.next().unwrap_or(0));
            }
            out.push(0);
            if decimal.negative {
                out[start..].iter_mut().for_each(|byte| *byte = !*byte);
            }
        }
    }
    Some(())
}

/// Returns how many bytes a numeric takes at the beginning of these.
pub(crate) fn numeric_len(bytes: &[u8]) -> Option<usize> {
    let end = match *bytes.first()? {
        class::NEGATIVE => u8::MAX,
        class::POSITIVE => 0,
        _ => return Some(1),
    };
    // The class and the exponent, in which the end's byte may stand too.
    let digits = bytes.get(4..)?;
    Some(4 + digits.iter().position(|&byte| byte == end)? + 1)
}

/// A finite number in text: `-12.50`, `1e-07`.
pub(crate) struct Decimal<'a> {
    /// Whether it has a minus sign; zero may.
    pub(crate) negative: bool,
    /// The digits before the point.
    integer: &'a [u8],
    /// The digits behind it.
    fraction: &'a [u8],
    /// The power of ten that both are to be taken with.
    exponent: i64,
}

impl<'a> Decimal<'a> {
    /// Reads a number as Postgres shows numeric and floats; NaN and infinities are none.
    pub(crate) fn read(text: &'a [u8]) -> Option<Decimal<'a>> {
        let (negative, text) = match text.strip_prefix(b"-") {
            Some(text) => (true, text),
            None => (false, text),
        };
        let (mantissa, exponent) = match text.iter().position(|&byte| byte == b'e') {
            Some(at) => (&text[..at], read_exponent(&text[at + 1..])?),
            None => (text, 0),
        };
        let (integer, fraction) = match mantissa.iter().position(|&byte| byte == b'.') {
            Some(at) => (&mantissa[..at], Some(&mantissa[at + 1..])),
            None => (mantissa, None),
        };
        let digits = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
        let valid = digits(integer) && fraction.is_none_or(digits);
        valid.then(|| Decimal {
            negative,
            integer,
            fraction: fraction.unwrap_or_default(),
            exponent,
        })
    }

    /// Returns the exponent and the digits of 0.d₁d₂d₃… × 10^exponent; `None` for zero.
    fn normal_form(&self) -> Option<(i64, impl Iterator<Item = u8>)> {
        let digits = self.integer.iter().chain(self.fraction);
        let leading = digits.clone().position(|&digit| digit != b'0')?;
        let trailing = digits.clone().rev().position(|&digit| digit != b'0')?;
        let count = self.integer.len() + self.fraction.len() - leading - trailing;
        let exponent =
            i64::try_from(self.integer.len()).ok()? - i64::try_from(leading).ok()? + self.exponent;
        Some((exponent, digits.skip(leading).take(count).map(|digit| digit - b'0')))
    }

    /// Appends the number without an exponent, as a cast to numeric shows it; a negative zero loses its sign.
    pub(crate) fn write_plain(&self, out: &mut String) {
        let shift = self.exponent;
        let point = i64::try_from(self.integer.len()).unwrap_or(i64::MAX).saturating_add(shift);
        let digits = || self.integer.iter().chain(self.fraction).map(|&digit| char::from(digit));
        let count = self.integer.len() + self.fraction.len();
        let is_zero = digits().all(|digit| digit == '0');
        if self.negative && !is_zero {
            out.push('-');
        }
        // The point stands behind `before` digits; what lacks on either side are zeros.
        let before = usize::try_from(point).unwrap_or(0);
        let start = out.len();
        out.extend(
            digits().chain(std::iter::repeat('0')).take(before).skip_while(|&digit| digit == '0'),
        );
        if out.len() == start {
            out.push('0');
        }
        if before < count {
            out.push('.');
            let zeros = usize::try_from(point.saturating_neg()).unwrap_or(0);
            out.extend(std::iter::repeat_n('0', zeros).chain(digits().skip(before)));
        }
    }
}

/// Reads what stands behind the `e`: at most four digits, which is more than any float has.
fn read_exponent(text: &[u8]) -> Option<i64> {
    let (sign, digits) = match text {
        [b'-', digits @ ..] => (-1, digits),
        [b'+', digits @ ..] => (1, digits),
        digits => (1, digits),
    };
    let valid = (1..=4).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    valid.then(|| sign * digits.iter().fold(0, |value, digit| value * 10 + i64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn numeric(text: &str) -> Vec<u8> {
        let mut out = Vec::new();
        encode_numeric(text.as_bytes(), &mut out)
            .unwrap_or_else(|| panic!("{text:?} is a numeric"));
        out
    }

    fn plain(text: &str) -> String {
        let mut out = String::new();
        Decimal::read(text.as_bytes()).expect("a number").write_plain(&mut out);
        out
    }

    #[test]
    fn numerics_order() {
        let ascending = [
            "-Infinity",
            "-1000",
            "-100.5",
            "-100",
            "-99.99",
            "-1.01",
            "-1",
            "-0.5",
            "-0.05",
            "-0.0005",
            "0",
            "0.0005",
            "0.05",
            "0.5",
            "0.55",
            "1",
            "1.01",
            "9",
            "10",
            "99.99",
            "100",
            "100.5",
            "1000",
            "Infinity",
            "NaN",
        ];
        for pair in ascending.windows(2) {
            assert!(numeric(pair[0]) < numeric(pair[1]), "{pair:?}");
        }
    }

    #[test]
    fn numerics_are_equal_at_any_scale() {
        for (left, right) in
            [("1.0", "1.00"), ("0", "0.000"), ("-0", "0"), ("100", "100.0"), ("1e2", "100")]
        {
            assert_eq!(numeric(left), numeric(right), "{left} {right}");
        }
        let long = "9".repeat(131_072);
        assert!(numeric(&long) < numeric(&format!("{long}.5")));
        assert!(numeric(&format!("0.{}1", "0".repeat(16_382))) > numeric("0"));
    }

    #[test]
    fn refuses_what_is_no_number() {
        for text in [
            "", "-", ".", "1.", ".5", "+1", "--1", "1.2.3", "1e", "1e+", "1e99999", " 1", "0x1",
            "inf", "1e5.0",
        ] {
            assert!(encode_numeric(text.as_bytes(), &mut Vec::new()).is_none(), "{text:?}");
        }
    }

    #[test]
    fn exponents_are_written_out() {
        let cases = [
            ("1e+20", "100000000000000000000"),
            ("1e-07", "0.0000001"),
            ("-0", "0"),
            ("1.5e-07", "0.00000015"),
            ("-1.25e+03", "-1250"),
            ("1.2345e+02", "123.45"),
            ("0.1", "0.1"),
            ("-12.5", "-12.5"),
            ("1e+00", "1"),
        ];
        for (text, expected) in cases {
            assert_eq!(plain(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn floats_order_as_postgres_floats(left: f64, right: f64) {
            let bytes = |value| { let mut out = Vec::new(); encode_float(value, &mut out); out };
            let expected = match (left.is_nan(), right.is_nan()) {
                (false, false) => left.partial_cmp(&right).expect("no NaN"),
                (left, right) => left.cmp(&right),
            };
            prop_assert_eq!(bytes(left).cmp(&bytes(right)), expected);
            prop_assert_eq!(bytes(0.0), bytes(-0.0));
        }

        #[test]
        fn numerics_order_as_scaled_integers(left in -10_000_000i64..10_000_000, right in -10_000_000i64..10_000_000,
                                             scale in 0u32..7, pad in 0usize..4) {
            let show = |value: i64, pad: usize| {
                let unit = 10i64.pow(scale);
                let (whole, rest) = (value.abs() / unit, value.abs() % unit);
                let sign = if value < 0 { "-" } else { "" };
                let width = scale as usize;
                let fraction = if width == 0 { String::new() } else { format!(".{rest:0width$}") };
                let point = if fraction.is_empty() && pad > 0 { "." } else { "" };
                format!("{sign}{whole}{fraction}{point}{}", "0".repeat(pad))
            };
            prop_assert_eq!(numeric(&show(left, pad)).cmp(&numeric(&show(right, 0))), left.cmp(&right));
        }

        #[test]
        fn written_out_floats_are_the_same_floats(value in any::<f64>().prop_filter("finite", |value| value.is_finite())) {
            let text = format!("{value:e}");
            prop_assert_eq!(plain(&text).parse::<f64>().ok(), Some(value + 0.0));
        }
    }
}
