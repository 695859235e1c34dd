//! What the demo says in the terminal: what to do on standard output, what it is at on standard error, where one line
//! rewrites itself if it is a terminal.

use std::io::{IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The line of progress. Shared with the thread that starts Postgres.
#[derive(Debug)]
pub(crate) struct StatusLine {
    is_terminal: bool,
    shown: Mutex<String>,
}

impl StatusLine {
    pub(crate) fn new() -> Self {
        StatusLine { is_terminal: std::io::stderr().is_terminal(), shown: Mutex::default() }
    }

    /// Returns whether it can rewrite itself.
    pub(crate) fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// Shows a step; on a terminal instead of what was there.
    pub(crate) fn step(&self, text: &str) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if *shown == text {
            return;
        }
        let mut stderr = std::io::stderr().lock();
        // Nobody is left to be told that nobody is listening.
        let _ = match self.is_terminal {
            // Back to the first column, and the rest of the line goes (ECMA-48: CR, EL).
            true => write!(stderr, "\r{text}\x1b[K").and_then(|()| stderr.flush()),
            false => writeln!(stderr, "{text}"),
        };
        text.clone_into(&mut shown);
    }

    /// Clears the line, so that something else can take its place.
    pub(crate) fn clear(&self) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_terminal && !shown.is_empty() {
            let mut stderr = std::io::stderr().lock();
            let _ = write!(stderr, "\r\x1b[K").and_then(|()| stderr.flush());
        }
        shown.clear();
    }
}

impl Drop for StatusLine {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Prints to standard output; a reader that has gone is no error.
pub(crate) fn print(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// Returns lines of a label and what it stands for, aligned.
pub(crate) fn aligned(lines: &[(&str, String)]) -> String {
    let width = lines.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
    lines.iter().map(|(label, text)| format!("  {label:width$}  {text}\n")).collect()
}

/// Returns a whole number with its thousands set apart.
pub(crate) fn decimal(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Returns a duration with a unit that fits, and three digits.
pub(crate) fn duration(duration: Duration) -> String {
    let micros = duration.as_secs_f64() * 1e6;
    match micros {
        _ if micros < 1e3 => format!("{micros:.0} µs"),
        _ if micros < 1e4 => format!("{:.2} ms", micros / 1e3),
        _ if micros < 1e5 => format!("{:.1} ms", micros / 1e3),
        _ if micros < 1e6 => format!("{:.0} ms", micros / 1e3),
        _ => format!("{:.2} s", micros / 1e6),
    }
}

/// Returns how long something has been going on, as a clock shows it.
pub(crate) fn clock(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds / 3600 {
        0 => format!("{}:{:02}", seconds / 60, seconds % 60),
        hours => format!("{hours}:{:02}:{:02}", seconds / 60 % 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_units_and_thousands() {
        assert_eq!(
            ["0", "999", "1,000", "98,765,432"],
            [0, 999, 1_000, 98_765_432].map(decimal).each_ref().map(String::as_str)
        );
        let shown = [850, 1_234, 56_780, 123_456, 2_500_000]
            .map(|micros| duration(Duration::from_micros(micros)));
        assert_eq!(shown, ["850 µs", "1.23 ms", "56.8 ms", "123 ms", "2.50 s"]);
        assert_eq!(
            [5, 65, 3_665].map(|seconds| clock(Duration::from_secs(seconds))),
            ["0:05", "1:05", "1:01:05"]
        );
    }

    #[test]
    fn columns_are_aligned() {
        assert_eq!(aligned(&[("a", "x".into()), ("bcd", "y".into())]), "  a    x\n  bcd  y\n");
    }
}
