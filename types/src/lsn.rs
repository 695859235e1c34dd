//! A position in the write-ahead log.

use crate::error::ParseLsnError;
use std::fmt;
use std::str::FromStr;

/// A position in the write-ahead log, in bytes from its beginning.
///
/// Shown as Postgres shows it, two hexadecimal halves: `16/B374D848` (PostgreSQL manual, 8.20 "pg_lsn Type").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl Lsn {
    /// Returns how many bytes of WAL lie between `earlier` and `self`; 0 where `earlier` is the later one.
    pub fn bytes_since(self, earlier: Lsn) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Returns this insert position as one that a walsender can reach.
    ///
    /// An insert position that points just behind a bare page header (24 bytes, or 40 for a segment's first page)
    /// names bytes that no record has filled: on an idle server the stream never gets there (`docs/postgres.md`, P5).
    pub fn before_bare_page_header(self) -> Lsn {
        const PAGE_BYTES: u64 = 8192;
        match self.0 % PAGE_BYTES {
            offset @ (24 | 40) => Lsn(self.0 - offset),
            _ => self,
        }
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

impl FromStr for Lsn {
    type Err = ParseLsnError;

    fn from_str(text: &str) -> Result<Self, ParseLsnError> {
        let error = || ParseLsnError { text: text.chars().take(40).collect() };
        let (high, low) = text.split_once('/').ok_or_else(error)?;
        let half = |digits: &str| {
            let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            if plain { u32::from_str_radix(digits, 16).map_err(|_| error()) } else { Err(error()) }
        };
        Ok(Lsn(u64::from(half(high)?) << 32 | u64::from(half(low)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_shows() {
        for lsn in [Lsn(0), Lsn(0x16_B374_D848), Lsn(u64::MAX)] {
            assert_eq!(lsn.to_string().parse(), Ok(lsn));
        }
        assert_eq!(Lsn(0x16_B374_D848).to_string(), "16/B374D848");
    }

    #[test]
    fn refuses_what_is_no_position() {
        for text in ["", "/", "16", "16/", "x/1", "1/123456789", "+1/2", "1/2/3", " 1/2"] {
            assert!(text.parse::<Lsn>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn p5_a_bare_page_header_is_rounded_down() {
        assert_eq!(Lsn(8192 + 24).before_bare_page_header(), Lsn(8192));
        assert_eq!(Lsn(8192 + 40).before_bare_page_header(), Lsn(8192));
        assert_eq!(Lsn(8192 + 32).before_bare_page_header(), Lsn(8192 + 32));
    }
}
