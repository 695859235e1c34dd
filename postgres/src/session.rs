//! What every session of ours has set, whoever it is for: values must read the same whichever connection they come
//! from, the walsender's included (`docs/protocol.md`, conventions), and a session must leave nothing to the next
//! one (`docs/postgres.md`, P12).

use std::time::Duration;

/// The settings that decide how values look, which the walsender sets too, and how a statement reads: `'a\b'` and `= NULL`
/// mean to us what they mean by default.
const PINNED: [(&str, &str); 8] = [
    ("IntervalStyle", "postgres"),
    ("DateStyle", "ISO"),
    ("extra_float_digits", "1"),
    ("bytea_output", "hex"),
    ("lc_monetary", "C"),
    ("client_encoding", "UTF8"),
    ("standard_conforming_strings", "on"),
    ("transform_null_equals", "off"),
];

/// What a connection goes back to the pool through: settings, roles and locks survive the end of a transaction.
pub(crate) const RESET: &str = "ROLLBACK; RESET ALL; RESET ROLE; RESET SESSION AUTHORIZATION; \
     SELECT pg_catalog.pg_advisory_unlock_all()";

/// What our sessions have set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionOptions {
    /// `TimeZone`.
    pub timezone: String,
    /// What `pg_stat_activity` shows.
    pub application_name: String,
    /// At most so long for one statement, unless a query has its own limit.
    pub statement_timeout: Duration,
    /// At most so long for one lock.
    pub lock_timeout: Duration,
    /// At most so long between two statements of a transaction: a read that was forgotten ends.
    pub idle_in_transaction_timeout: Duration,
}

impl Default for SessionOptions {
    fn default() -> Self {
        SessionOptions {
            timezone: "UTC".into(),
            application_name: "convoy".into(),
            statement_timeout: Duration::from_secs(30),
            lock_timeout: Duration::from_secs(5),
            idle_in_transaction_timeout: Duration::from_secs(120),
        }
    }
}

impl SessionOptions {
    /// Returns the `options` of the start-up message: the caller's, then ours, of which the later ones hold.
    ///
    /// As start-up options they are what RESET ALL goes back to.
    pub fn startup_options(&self, callers: Option<&str>) -> String {
        let mut options = callers.map(str::trim).unwrap_or_default().to_owned();
        let mut set = |name: &str, value: &str| {
            if !options.is_empty() {
                options.push(' ');
            }
            options.push_str("-c ");
            options.push_str(name);
            options.push('=');
            escape_into(&mut options, value);
        };
        set("TimeZone", &self.timezone);
        for (name, value) in PINNED {
            set(name, value);
        }
        let milliseconds = |duration: Duration| duration.as_millis().max(1).to_string();
        set("statement_timeout", &milliseconds(self.statement_timeout));
        set("lock_timeout", &milliseconds(self.lock_timeout));
        set("idle_in_transaction_session_timeout", &milliseconds(self.idle_in_transaction_timeout));
        // Where a string ends decides what of a statement's text is a call (`names.rs`).
        set("standard_conforming_strings", "on");
        // Compiling costs more than it gains for statements that take milliseconds.
        set("jit", "off");
        options
    }
}

/// Appends a value as the server splits options: a backslash before each blank and backslash
/// (`pg_split_opts` in PostgreSQL's `postinit.c`).
fn escape_into(options: &mut String, value: &str) {
    for c in value.chars() {
        if c.is_ascii_whitespace() || c == '\\' {
            options.push('\\');
        }
        options.push(c);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_come_last_and_hold() {
        let options = SessionOptions::default().startup_options(Some("-c DateStyle=German "));
        let german = options.find("DateStyle=German").expect("the caller's");
        let ours = options.find("DateStyle=ISO").expect("ours");
        assert!(german < ours, "{options}");
    }

    #[test]
    fn blanks_and_backslashes_are_escaped() {
        let session = SessionOptions { timezone: r"a b\c".into(), ..SessionOptions::default() };
        let options = session.startup_options(None);
        assert!(options.starts_with(r"-c TimeZone=a\ b\\c -c "), "{options}");
    }
}
