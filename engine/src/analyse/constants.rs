//! The constants of a statement's conditions, read by Postgres where we can't be sure how it reads them.
//!
//! The analysis runs twice over a statement: once to learn which texts must be read, once with the answers.

use crate::args::canonical;
use crate::database::{CastRequest, CastValue};
use convoy_types::{Key, PgType};

/// Words that a date or time reads as something that depends on when it is asked (PostgreSQL manual, 8.5.1.4).
const CLOCK_WORDS: [&str; 4] = ["now", "today", "tomorrow", "yesterday"];

/// The constants seen so far and, the second time, what they read as.
#[derive(Debug, Default)]
pub(crate) struct Constants {
    requests: Vec<CastRequest>,
    answers: Option<Vec<Option<String>>>,
}

impl Constants {
    /// Returns the constants with what Postgres read, one for each of `requests`.
    pub(crate) fn answered(requests: Vec<CastRequest>, mut answers: Vec<Option<String>>) -> Self {
        answers.resize(requests.len(), None);
        Constants { requests, answers: Some(answers) }
    }

    /// Returns what must be read.
    pub(crate) fn into_requests(self) -> Vec<CastRequest> {
        self.requests
    }

    /// Returns a constant's key, or none where it can't be read or depends on the clock.
    ///
    /// The first time, a constant that Postgres must read has a key that means nothing.
    pub(crate) fn key(&mut self, ty: &PgType, type_name: &str, text: &str) -> Option<Key> {
        if is_date_or_time(ty) {
            let lower = text.to_ascii_lowercase();
            if CLOCK_WORDS.iter().any(|word| lower.contains(word)) {
                return None;
            }
        }
        if let Some(text) = plainly(ty, text) {
            return Key::of(ty, text.as_bytes()).ok();
        }
        let asked = self.ask(cast_name(ty, type_name), text);
        if self.answers.is_none() {
            return Some(Key::null());
        }
        Key::of(ty, asked?.as_bytes()).ok()
    }

    /// Returns a constant's output text, or none where it can't be read; the first time, that of an empty array.
    pub(crate) fn array_text(&mut self, type_name: &str, text: &str) -> Option<String> {
        let lower = text.to_ascii_lowercase();
        if CLOCK_WORDS.iter().any(|word| lower.contains(word)) {
            return None;
        }
        let asked = self.ask(type_name.to_owned(), text);
        if self.answers.is_none() { Some("{}".to_owned()) } else { asked }
    }

    /// Returns a JSON constant as jsonb prints it, or none where it can't be read; the first time, an empty object.
    pub(crate) fn json_text(&mut self, text: &str) -> Option<String> {
        let asked = self.ask("pg_catalog.jsonb".to_owned(), text);
        if self.answers.is_none() { Some("{}".to_owned()) } else { asked }
    }

    /// Returns what was answered for a text; notes that it is to be asked where nothing was yet.
    fn ask(&mut self, type_name: String, text: &str) -> Option<String> {
        let request = CastRequest { type_name, value: CastValue::Text(text.to_owned()) };
        let known = self.requests.iter().position(|other| *other == request);
        match (&self.answers, known) {
            (Some(answers), known) => answers.get(known?)?.clone(),
            (None, Some(_)) => None,
            (None, None) => {
                self.requests.push(request);
                None
            }
        }
    }
}

fn is_date_or_time(ty: &PgType) -> bool {
    matches!(ty, PgType::Date | PgType::Time | PgType::Timestamp | PgType::TimestampTz)
}

/// Returns the output text where the literal's own text makes it plain. Postgres has taken the statement, so that an
/// enum's label, say, is one.
fn plainly(ty: &PgType, text: &str) -> Option<String> {
    match ty {
        PgType::Bpchar | PgType::Enum => Some(text.to_owned()),
        PgType::Numeric | PgType::Float4 | PgType::Float8 if is_decimal(text) => {
            Some(text.to_owned())
        }
        _ => canonical(text, ty),
    }
}

/// Returns whether it is digits, perhaps with a sign before and a point between them.
pub(crate) fn is_decimal(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let all_digits =
        |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    all_digits(whole) && all_digits(fraction)
}

/// Returns the type to cast to: without the column's own length or precision, which comparisons don't apply.
fn cast_name(ty: &PgType, type_name: &str) -> String {
    match ty {
        PgType::Enum | PgType::Array(_) | PgType::Other => type_name.to_owned(),
        _ => format!("pg_catalog.{}", ty.name()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_only_for_what_is_not_plain() {
        let mut constants = Constants::default();
        assert_eq!(constants.key(&PgType::Int4, "integer", "7"), Key::of(&PgType::Int4, b"7").ok());
        assert_eq!(constants.key(&PgType::Timestamp, "timestamp", "Yesterday"), None);
        assert!(constants.key(&PgType::Date, "date", "Jan 1, 2026").is_some());
        assert!(constants.key(&PgType::Numeric, "numeric(10,2)", "1e2").is_some());
        assert!(constants.key(&PgType::Date, "date", "Jan 1, 2026").is_some());
        let requests = constants.into_requests();
        let asked = requests.iter().map(|request| request.type_name.as_str()).collect::<Vec<_>>();
        assert_eq!(asked, ["pg_catalog.date", "pg_catalog.numeric"]);

        let mut constants =
            Constants::answered(requests, vec![Some("2026-01-01".to_owned()), None]);
        let date = constants.key(&PgType::Date, "date", "Jan 1, 2026");
        assert_eq!(date, Key::of(&PgType::Date, b"2026-01-01").ok());
        assert_eq!(constants.key(&PgType::Numeric, "numeric(10,2)", "1e2"), None);
    }

    #[test]
    fn knows_decimals() {
        for (text, expect) in [
            ("1", true),
            ("-1.50", true),
            (".5", false),
            ("1.", false),
            ("1e5", false),
            ("", false),
        ] {
            assert_eq!(is_decimal(text), expect, "{text:?}");
        }
    }
}
