//! Aligned columns for the terminal.

use std::fmt::Write;

/// A table: the first column is words and aligned left, the others are numbers and aligned right.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Returns a table with this head.
    pub(crate) fn new<const N: usize>(head: [&str; N]) -> Self {
        Table { rows: vec![head.map(str::to_owned).to_vec()] }
    }

    /// Adds a row.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.to_vec());
    }

    /// Returns the lines, indented by two.
    pub(crate) fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut out = String::new();
        for row in &self.rows {
            let mut line = String::from("  ");
            for (column, cell) in row.iter().enumerate() {
                // Writing to a String can't fail.
                let _ = match column {
                    0 => write!(line, "{cell:<width$}", width = widths[column]),
                    _ => write!(line, "  {cell:>width$}", width = widths[column]),
                };
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }
}

/// Returns a report's head: its title, and named lines.
pub(crate) fn head(title: &str, lines: &[(&str, String)]) -> String {
    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut out = format!("{title}\n\n");
    for (name, text) in lines {
        let _ = writeln!(out, "{name:<width$}  {text}");
    }
    out
}

/// Writes a number with thousands separated, and one decimal below ten.
pub(crate) fn number(value: f64) -> String {
    if value.abs() < 9.95 {
        return format!("{value:.1}");
    }
    let digits = format!("{:.0}", value.abs());
    let mut out = String::from(if value < 0.0 { "-" } else { "" });
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Writes a count with thousands separated.
pub(crate) fn count(value: usize) -> String {
    if value < 10 { value.to_string() } else { number(value as f64) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(["what", "p50"]);
        table.row(["µs".into(), "1,234".into()]);
        assert_eq!(table.render(), "  what    p50\n  µs    1,234\n");
    }

    #[test]
    fn numbers_are_readable() {
        assert_eq!(number(1_234_567.4), "1,234,567");
        assert_eq!(number(-1_234.0), "-1,234");
        assert_eq!(number(9.94), "9.9");
        assert_eq!(number(99.96), "100");
        assert_eq!(number(999.6), "1,000");
        assert_eq!((count(7), count(1_000)), ("7".to_owned(), "1,000".to_owned()));
    }
}
