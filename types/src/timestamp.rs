//! A point in time as the WAL carries it.

use crate::date_time::read_timestamptz;
use std::fmt;

/// A point in time: microseconds since 2000-01-01 00:00:00 UTC, Postgres' own epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PgTimestamp(pub i64);

impl PgTimestamp {
    /// Seconds from the Unix epoch to Postgres' (PostgreSQL manual, "Message Formats": commit timestamps).
    const EPOCH_UNIX_SECONDS: i64 = 946_684_800;

    /// Returns the microseconds since 1970-01-01 00:00:00 UTC.
    pub fn unix_micros(self) -> i64 {
        self.0.saturating_add(Self::EPOCH_UNIX_SECONDS * 1_000_000)
    }

    /// Returns the point in time that lies this many microseconds after 1970-01-01 00:00:00 UTC.
    pub fn from_unix_micros(micros: i64) -> Self {
        PgTimestamp(micros.saturating_sub(Self::EPOCH_UNIX_SECONDS * 1_000_000))
    }

    /// Reads what [`Display`](fmt::Display) shows; `None` for anything else than ISO 8601 in UTC.
    pub fn from_iso_8601(text: &str) -> Option<Self> {
        let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
        read_timestamptz(format!("{date} {time}+00").as_bytes()).map(PgTimestamp)
    }
}

impl fmt::Display for PgTimestamp {
    /// Shows it in ISO 8601 with microseconds: `2026-11-21T10:00:00.000000Z`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DAY_MICROS: i64 = 86_400_000_000;
        let unix = self.unix_micros();
        let (days, micros) = (unix.div_euclid(DAY_MICROS), unix.rem_euclid(DAY_MICROS));
        let (year, month, day) = civil_from_days(days);
        let seconds = micros / 1_000_000;
        write!(
            formatter,
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:06}Z",
            seconds / 3600,
            seconds / 60 % 60,
            seconds % 60,
            micros % 1_000_000
        )
    }
}

/// Returns year, month and day of the day this many days after 1970-01-01.
///
/// Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_iso_8601() {
        assert_eq!(PgTimestamp(0).to_string(), "2000-01-01T00:00:00.000000Z");
        assert_eq!(PgTimestamp(-1).to_string(), "1999-12-31T23:59:59.999999Z");
        let leap = PgTimestamp::from_unix_micros(1_709_210_096_000_007);
        assert_eq!(leap.to_string(), "2024-02-29T12:34:56.000007Z");
    }

    #[test]
    fn reads_what_it_shows() {
        for micros in [0, -1, 1_709_210_096_000_007, 999_999] {
            let timestamp = PgTimestamp::from_unix_micros(micros);
            assert_eq!(PgTimestamp::from_iso_8601(&timestamp.to_string()), Some(timestamp));
        }
        for wrong in [
            "",
            "2024-02-29",
            "2024-02-29T12:34:56",
            "2024-02-30T12:34:56Z",
            "2024-02-29 12:34:56+00",
        ] {
            assert_eq!(PgTimestamp::from_iso_8601(wrong), None, "{wrong}");
        }
    }
}
