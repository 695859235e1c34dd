//! What commands print: aligned columns, colours only where they are wanted.

use std::io::{self, IsTerminal, Write};

/// Prints lines. A reader that has gone away is no failure: `convoy … | head` ends here.
pub(super) fn print(text: &str) {
    let mut out = io::stdout().lock();
    if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

/// How a cell looks on a terminal; it always says in words what the colour says, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Tone {
    #[default]
    Plain,
    Good,
    Warning,
    Bad,
    Quiet,
}

impl Tone {
    fn code(self) -> Option<&'static str> {
        match self {
            Tone::Plain => None,
            Tone::Good => Some("32"),
            Tone::Warning => Some("33"),
            Tone::Bad => Some("31"),
            Tone::Quiet => Some("2"),
        }
    }
}

/// Colours a text where standard output is a terminal that wants it.
pub(super) fn toned(text: &str, tone: Tone) -> String {
    match tone.code() {
        Some(code) if io::stdout().is_terminal() && !crate::telemetry::is_no_color() => {
            format!("\x1b[{code}m{text}\x1b[0m")
        }
        _ => text.to_owned(),
    }
}

/// Returns rows as aligned columns; the last one is as wide as it is.
pub(super) fn table(rows: &[Vec<(String, Tone)>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |text: &str| text.chars().count();
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            rows.iter()
                .filter_map(|row| row.get(column))
                .map(|(text, _)| width(text))
                .max()
                .unwrap_or(0)
        })
        .collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, (text, tone)) in row.iter().enumerate() {
            line.push_str(&toned(text, *tone));
            if column + 1 < row.len() {
                line.extend(std::iter::repeat_n(' ', widths[column] - width(text) + 2));
            }
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let row =
            |cells: &[&str]| cells.iter().map(|cell| ((*cell).to_owned(), Tone::Plain)).collect();
        assert_eq!(
            table(&[row(&["a", "bb", "c"]), row(&["äöü", "b", ""])]),
            "a    bb  c\näöü  b\n"
        );
    }
}
