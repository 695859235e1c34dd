//! Reads dates, times and intervals as Postgres shows them under `DateStyle = ISO` and `IntervalStyle = postgres`.
//!
//! The results are Postgres' own integers: days or microseconds since 2000-01-01, infinities at the integers' ends.

/// Reads a date: days since 2000-01-01.
pub(crate) fn read_date(text: &[u8]) -> Option<i32> {
    match text {
        b"infinity" => return Some(i32::MAX),
        b"-infinity" => return Some(i32::MIN),
        _ => {}
    }
    let (text, era) = split_era(text);
    let mut cursor = Cursor(text);
    let days = cursor.date(era)?;
    cursor.end()?;
    i32::try_from(days).ok()
}

/// Reads a time of day: microseconds since midnight, 24:00:00 included.
pub(crate) fn read_time(text: &[u8]) -> Option<i64> {
    let mut cursor = Cursor(text);
    let micros = cursor.time_of_day()?;
    cursor.end()?;
    Some(micros)
}

/// Reads a timestamp without time zone: microseconds since 2000-01-01 00:00:00.
pub(crate) fn read_timestamp(text: &[u8]) -> Option<i64> {
    read_point_in_time(text, |_| Some(0))
}

/// Reads a timestamp with time zone, in whichever zone it is shown: microseconds since 2000-01-01 00:00:00 UTC.
pub(crate) fn read_timestamptz(text: &[u8]) -> Option<i64> {
    read_point_in_time(text, |cursor| cursor.zone())
}

/// Reads an interval: its length in microseconds as Postgres compares it, a month having 30 days.
///
/// (PostgreSQL's `interval_cmp_value`: `1 mon` and `30 days` are equal.) Infinite ones, of PostgreSQL 17, are the ends.
pub(crate) fn read_interval(text: &[u8]) -> Option<i128> {
    const MONTH_DAYS: i128 = 30;
    match text {
        b"infinity" => return Some(i128::MAX),
        b"-infinity" => return Some(i128::MIN),
        _ => {}
    }
    let mut cursor = Cursor(text);
    let mut total = 0;
    let mut rank_before = 0;
    loop {
        let sign = cursor.sign();
        let amount = cursor.number(1, 18)?;
        if cursor.eat(b":") {
            let hours = i128::from(amount) * i128::from(HOUR);
            total += i128::from(sign) * (hours + i128::from(cursor.minutes_and_seconds()?));
            cursor.end()?;
            return Some(total);
        }
        cursor.eat(b" ").then_some(())?;
        let (rank, days) = match cursor.take_while(u8::is_ascii_alphabetic) {
            b"year" | b"years" => (1, 12 * MONTH_DAYS),
            b"mon" | b"mons" => (2, MONTH_DAYS),
            b"day" | b"days" => (3, 1),
            _ => return None,
        };
        if rank <= rank_before {
            return None;
        }
        rank_before = rank;
        total += i128::from(sign) * i128::from(amount) * days * i128::from(DAY);
        if cursor.0.is_empty() {
            return Some(total);
        }
        cursor.eat(b" ").then_some(())?;
    }
}

const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// Which way years count.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Era {
    Common,
    BeforeChrist,
}

fn split_era(text: &[u8]) -> (&[u8], Era) {
    match text.strip_suffix(b" BC") {
        Some(text) => (text, Era::BeforeChrist),
        None => (text, Era::Common),
    }
}

fn read_point_in_time(
    text: &[u8],
    zone: impl FnOnce(&mut Cursor<'_>) -> Option<i64>,
) -> Option<i64> {
    match text {
        b"infinity" => return Some(i64::MAX),
        b"-infinity" => return Some(i64::MIN),
        _ => {}
    }
    let (text, era) = split_era(text);
    let mut cursor = Cursor(text);
    let days = cursor.date(era)?;
    cursor.eat(b" ").then_some(())?;
    let micros = cursor.time_of_day()?;
    let offset = zone(&mut cursor)?;
    cursor.end()?;
    days.checked_mul(DAY)?.checked_add(micros)?.checked_sub(offset)
}

/// What is still to be read.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn eat(&mut self, expected: &[u8]) -> bool {
        match self.0.strip_prefix(expected) {
            Some(rest) => {
                self.0 = rest;
                true
            }
            None => false,
        }
    }

    fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }

    fn take_while(&mut self, wanted: impl Fn(&u8) -> bool) -> &'a [u8] {
        let end = self.0.iter().position(|byte| !wanted(byte)).unwrap_or(self.0.len());
        let (taken, rest) = self.0.split_at(end);
        self.0 = rest;
        taken
    }

    /// Reads `min` to `max` digits; at most 18, which fit.
    fn number(&mut self, min: usize, max: usize) -> Option<i64> {
        debug_assert!(max <= 18);
        let digits = self.take_while(u8::is_ascii_digit);
        let fits = (min..=max).contains(&digits.len());
        fits.then(|| digits.iter().fold(0, |value, digit| value * 10 + i64::from(digit - b'0')))
    }

    /// Reads a number of two digits below `limit`.
    fn pair(&mut self, limit: i64) -> Option<i64> {
        self.number(2, 2).filter(|&value| value < limit)
    }

    fn sign(&mut self) -> i64 {
        if self.eat(b"-") {
            -1
        } else {
            self.eat(b"+");
            1
        }
    }

    /// Reads `YYYY-MM-DD`: days since 2000-01-01.
    fn date(&mut self, era: Era) -> Option<i64> {
        let year = self.number(4, 7).filter(|&year| year > 0)?;
        self.eat(b"-").then_some(())?;
        let month = self.pair(13).filter(|&month| month > 0)?;
        self.eat(b"-").then_some(())?;
        let day = self.pair(32).filter(|&day| day > 0)?;
        // There is no year 0: 1 BC comes before 1.
        let year = if era == Era::BeforeChrist { 1 - year } else { year };
        (day <= month_days(year, month)).then(|| days_from_civil(year, month, day))
    }

    /// Reads `HH:MM:SS.ffffff` up to 24:00:00: microseconds.
    fn time_of_day(&mut self) -> Option<i64> {
        let hours = self.pair(25)?;
        self.eat(b":").then_some(())?;
        let micros = hours * HOUR + self.minutes_and_seconds()?;
        (micros <= DAY).then_some(micros)
    }

    /// Reads `MM:SS.ffffff`: microseconds.
    fn minutes_and_seconds(&mut self) -> Option<i64> {
        let minutes = self.pair(60)?;
        self.eat(b":").then_some(())?;
        let seconds = self.pair(60)?;
        let mut micros = 0;
        if self.eat(b".") {
            let digits = self.0.len();
            micros = self.number(1, 6)?;
            for _ in digits - self.0.len()..6 {
                micros *= 10;
            }
        }
        Some(minutes * MINUTE + seconds * SECOND + micros)
    }

    /// Reads `+HH`, `+HH:MM` or `+HH:MM:SS`: microseconds east of Greenwich.
    fn zone(&mut self) -> Option<i64> {
        if !matches!(self.0.first(), Some(b'+' | b'-')) {
            return None;
        }
        let sign = self.sign();
        let mut offset = self.pair(100)? * HOUR;
        for unit in [MINUTE, SECOND] {
            if self.eat(b":") {
                offset += self.pair(60)? * unit;
            } else {
                break;
            }
        }
        Some(sign * offset)
    }
}

fn month_days(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Returns how many days after 2000-01-01 the day lies; years count through zero (1 BC is 0).
///
/// Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `days_from_civil`.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    const EPOCH_DAYS: i64 = 719_468 + 10_957;
    let year_from_march = year - i64::from(month <= 2);
    let era = year_from_march.div_euclid(400);
    let year_of_era = year_from_march.rem_euclid(400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - EPOCH_DAYS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timestamp::PgTimestamp;
    use proptest::prelude::*;

    #[test]
    fn dates() {
        let cases = [
            ("2000-01-01", 0),
            ("1999-12-31", -1),
            ("2000-03-01", 60),
            ("0001-01-01", -730_119),
            ("0001-12-31 BC", -730_120),
            // The first and the last that a server takes, by `date - '2000-01-01'`.
            ("4714-11-24 BC", -2_451_545),
            ("5874897-12-31", 2_145_031_948),
            ("infinity", i32::MAX),
            ("-infinity", i32::MIN),
        ];
        for (text, days) in cases {
            assert_eq!(read_date(text.as_bytes()), Some(days), "{text}");
        }
    }

    #[test]
    fn times() {
        let cases = [
            ("00:00:00", 0),
            ("00:00:00.000001", 1),
            ("12:34:56.5", 45_296_500_000),
            ("23:59:59.999999", DAY - 1),
            ("24:00:00", DAY),
        ];
        for (text, micros) in cases {
            assert_eq!(read_time(text.as_bytes()), Some(micros), "{text}");
        }
    }

    #[test]
    fn timestamps() {
        assert_eq!(read_timestamp(b"2000-01-01 00:00:00"), Some(0));
        assert_eq!(
            read_timestamp(b"294276-12-31 23:59:59.999999"),
            Some(9_223_371_331_199_999_999)
        );
        assert_eq!(read_timestamp(b"4714-11-24 00:00:00 BC"), Some(-211_813_488_000_000_000));
        assert_eq!(read_timestamptz(b"2000-01-01 00:00:00+00"), Some(0));
        assert_eq!(read_timestamptz(b"2000-01-01 02:00:00+02"), Some(0));
        assert_eq!(read_timestamptz(b"1999-12-31 18:30:00-05:30"), Some(0));
        assert_eq!(read_timestamptz(b"0001-12-31 23:53:28-00:06:32 BC"), Some(-730_119 * DAY));
        assert_eq!(read_timestamptz(b"infinity"), Some(i64::MAX));
    }

    #[test]
    fn intervals() {
        let day = i128::from(DAY);
        let cases = [
            ("00:00:00", 0),
            ("1 day", day),
            ("1 mon", 30 * day),
            ("1 year", 360 * day),
            ("-1 years -2 mons +3 days -04:05:06", -417 * day - 14_706_000_000),
            ("1 day -00:00:00.000001", day - 1),
            ("2562047788:00:54.775807", i128::from(i64::MAX)),
            ("-2562047788:00:54.775808", i128::from(i64::MIN)),
            ("infinity", i128::MAX),
        ];
        for (text, micros) in cases {
            assert_eq!(read_interval(text.as_bytes()), Some(micros), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_none() {
        for text in [
            "",
            "2000-1-1",
            "2000-02-30",
            "2001-02-29",
            "2000-13-01",
            "2000-00-01",
            "0000-01-01",
            "01.02.2000",
            "2000-01-01 ",
            "2000-01-01 AD",
            "-2000-01-01",
            "99999999-01-01",
        ] {
            assert_eq!(read_date(text.as_bytes()), None, "{text:?}");
        }
        for text in [
            "",
            "1:2:3",
            "24:00:01",
            "25:00:00",
            "12:60:00",
            "12:00:60",
            "12:00",
            "12:00:00.",
            "12:00:00.1234567",
        ] {
            assert_eq!(read_time(text.as_bytes()), None, "{text:?}");
        }
        for text in [
            "2000-01-01",
            "2000-01-01T00:00:00",
            "2000-01-01 00:00:00+00",
            "5874897-01-01 00:00:00",
        ] {
            assert_eq!(read_timestamp(text.as_bytes()), None, "{text:?}");
        }
        for text in ["2000-01-01 00:00:00", "2000-01-01 00:00:00 UTC", "2000-01-01 00:00:00+0"] {
            assert_eq!(read_timestamptz(text.as_bytes()), None, "{text:?}");
        }
        for text in [
            "",
            "1",
            "P1D",
            "@ 1 day",
            "1 day 1 year",
            "1 day 1 day",
            "1 day ",
            "1 week",
            "1 day ago",
            "-",
        ] {
            assert_eq!(read_interval(text.as_bytes()), None, "{text:?}");
        }
    }

    proptest! {
        /// The two directions are written apart: `PgTimestamp` shows, this module reads.
        #[test]
        fn reads_what_timestamps_show(micros in -60_000_000_000_000_000i64..250_000_000_000_000_000) {
            let shown = PgTimestamp(micros).to_string();
            let text = shown.trim_end_matches('Z').replace('T', " ");
            prop_assert_eq!(read_timestamp(text.as_bytes()), Some(micros));
            prop_assert_eq!(read_timestamptz(format!("{text}+00").as_bytes()), Some(micros));
            let days = micros.div_euclid(DAY);
            prop_assert_eq!(read_date(&text.as_bytes()[..10]).map(i64::from), Some(days));
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>, text in "[-+0-9: .BCdaymonyears]{0,40}") {
            for text in [&bytes[..], text.as_bytes()] {
                let _ = (read_date(text), read_time(text), read_timestamptz(text), read_interval(text));
            }
        }
    }
}
