//! Places in sources, and the way back to them from what runs.

use oxc::codegen::CodegenReturn;
use std::fmt;

/// A place in a file. Lines and columns count from 1.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Position {
    /// The file, from the project's root.
    pub file: String,
    /// The line.
    pub line: u32,
    /// The column.
    pub column: u32,
}

impl fmt::Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// Returns line and column, from 1, of a byte offset.
pub(crate) fn line_and_column(text: &str, offset: usize) -> (u32, u32) {
    let before = text.get(..offset.min(text.len())).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1;
    (u32::try_from(line).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX))
}

/// Where each place of a stripped module was in its source.
#[derive(Debug)]
pub(crate) struct LineMap {
    /// (line, column) in what runs and in the source, from 0, in the order of the former.
    tokens: Vec<((u32, u32), (u32, u32))>,
}

impl LineMap {
    pub(crate) fn of(generated: &CodegenReturn<'_>) -> Option<Self> {
        let map = generated.map.as_ref()?;
        let mut tokens: Vec<_> = map
            .get_tokens()
            .map(|token| {
                (
                    (token.get_dst_line(), token.get_dst_col()),
                    (token.get_src_line(), token.get_src_col()),
                )
            })
            .collect();
        tokens.sort_unstable();
        Some(Self { tokens })
    }

    /// Returns line and column in the source of those in what runs, all from 1.
    pub(crate) fn original(&self, line: u32, column: u32) -> Option<(u32, u32)> {
        let wanted = (line.checked_sub(1)?, column.saturating_sub(1));
        let after = self.tokens.partition_point(|(generated, _)| *generated <= wanted);
        let (generated, (line, column)) = *self.tokens.get(after.checked_sub(1)?)?;
        // A token of an earlier line says nothing of this one.
        (generated.0 == wanted.0).then_some((line + 1, column + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::line_and_column;

    #[test]
    fn lines_and_columns_count_from_one() {
        assert_eq!(line_and_column("ab\ncd", 0), (1, 1));
        assert_eq!(line_and_column("ab\ncd", 4), (2, 2));
        assert_eq!(line_and_column("äb\n", 2), (1, 2));
        assert_eq!(line_and_column("ab", 99), (1, 3));
    }
}
