//! The change of `schema.ts`: `.relational()` behind the table's `defineTable(…)`.
//!
//! The source is not parsed: brackets, strings, templates and comments are told apart, which is enough to find
//! `name: defineTable(…)`, or `const t = defineTable(…)` where it says `name: t` or just `name`. Anything else is for
//! the author, who is told what to write.

use thiserror::Error;

/// An insertion into a source file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceEdit {
    /// The line, counted from one.
    pub line: usize,
    /// Before which character of the line, counted from one.
    pub column: usize,
    /// Where that is in the text, in bytes.
    pub offset: usize,
    /// What is put there.
    pub text: String,
}

/// Why there is no change that could be made.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EditError {
    /// It says so already.
    #[error("line {line}: the table is declared .relational() already")]
    Already {
        /// Where.
        line: usize,
    },
    /// The definition is not where it usually is.
    #[error(
        "the definition of table {table:?} was not found: write .relational() behind its defineTable(…) by hand"
    )]
    NotFound {
        /// The table.
        table: String,
    },
}

/// Finds where a table is defined in the text of `schema.ts`, and what to put there.
///
/// # Errors
/// [`EditError::Already`] and [`EditError::NotFound`].
pub fn schema_edit(source: &str, table: &str) -> Result<SourceEdit, EditError> {
    let tokens = tokens(source);
    let not_found = || EditError::NotFound { table: table.to_owned() };
    let open = definition(&tokens, table).ok_or_else(not_found)?;
    let close = closing(&tokens, open).ok_or_else(not_found)?;
    // What is called on it: `.index(…)`, `.relational()`.
    let mut at = close + 1;
    while let [
        Token { kind: Kind::Mark('.'), .. },
        Token { kind: Kind::Name(method), start, .. },
        Token { kind: Kind::Mark('('), .. },
        ..,
    ] = &tokens[at..]
    {
        if method == "relational" {
            return Err(EditError::Already { line: place(source, *start).0 });
        }
        at = closing(&tokens, at + 2).ok_or_else(not_found)? + 1;
    }
    let offset = tokens[close].end;
    let (line, column) = place(source, offset);
    Ok(SourceEdit { line, column, offset, text: ".relational()".to_owned() })
}

impl SourceEdit {
    /// Returns the text with the change made.
    pub fn applied(&self, source: &str) -> String {
        let (before, after) = source.split_at(self.offset);
        format!("{before}{}{after}", self.text)
    }
}

/// Returns the position of the bracket behind a table's `defineTable`.
fn definition(tokens: &[Token], table: &str) -> Option<usize> {
    let names =
        |token: &Token| matches!(&token.kind, Kind::Name(name) | Kind::Text(name) if name == table);
    // As a property: `name: defineTable(`, `name: other` or, in a list, `name`.
    let mut referred = None;
    for position in (0..tokens.len()).filter(|&position| names(&tokens[position])) {
        let before = position.checked_sub(1).map(|before| &tokens[before].kind);
        if !matches!(before, Some(Kind::Mark('{' | ','))) {
            continue;
        }
        match &tokens[position + 1..] {
            [
                Token { kind: Kind::Mark(':'), .. },
                Token { kind: Kind::Name(value), .. },
                next,
                ..,
            ] => match (value.as_str(), &next.kind) {
                ("defineTable", Kind::Mark('(')) => return Some(position + 3),
                (other, Kind::Mark(',' | '}' | '.')) => {
                    referred = referred.or(Some(other.to_owned()))
                }
                _ => {}
            },
            [Token { kind: Kind::Mark(',' | '}'), .. }, ..] => {
                referred = referred.or(Some(table.to_owned()));
            }
            _ => {}
        }
    }
    let variable = referred?;
    tokens
        .windows(4)
        .position(|window| {
            matches!(&window[0].kind, Kind::Name(name) if *name == variable)
                && window[1].kind == Kind::Mark('=')
                && matches!(&window[2].kind, Kind::Name(name) if name == "defineTable")
                && window[3].kind == Kind::Mark('(')
        })
        .map(|at| at + 3)
}

/// Returns where the bracket at a position is closed.
fn closing(tokens: &[Token], open: usize) -> Option<usize> {
    let mut depth = 0usize;
    for (position, token) in tokens.iter().enumerate().skip(open) {
        match token.kind {
            Kind::Mark('(' | '[' | '{') => depth += 1,
            Kind::Mark(')' | ']' | '}') => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(position);
                }
            }
            _ => {}
        }
    }
    None
}

/// Returns a place's line and column, counted from one.
fn place(source: &str, offset: usize) -> (usize, usize) {
    let before = &source[..offset];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

#[derive(Debug)]
struct Token {
    kind: Kind,
    start: usize,
    end: usize,
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Name(String),
    Text(String),
    Mark(char),
}

fn tokens(source: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut start = 0;
    while let Some(first) = source[start..].chars().next() {
        let rest = &source[start..];
        let is_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$');
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if let Some(comment) = rest.strip_prefix("/*") {
            comment.find("*/").map_or(rest.len(), |end| end + 4)
        } else if first.is_whitespace() {
            first.len_utf8()
        } else if matches!(first, '"' | '\'' | '`') {
            let length = text_length(rest, first);
            let inner = rest[1..length].strip_suffix(first).unwrap_or(&rest[1..length]);
            let kind =
                Kind::Text(inner.replace("\\'", "'").replace("\\\"", "\"").replace("\\\\", "\\"));
            tokens.push(Token { kind, start, end: start + length });
            length
        } else if is_name(first) {
            let length = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
            let kind = Kind::Name(rest[..length].to_owned());
            tokens.push(Token { kind, start, end: start + length });
            length
        } else {
            let end = start + first.len_utf8();
            tokens.push(Token { kind: Kind::Mark(first), start, end });
            first.len_utf8()
        };
        start += length;
    }
    tokens
}

/// Returns the length of a string with its quotes. What a template has in `${…}` is taken as text of it.
fn text_length(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (position, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return position + c.len_utf8(),
            _ => {}
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "\
import { defineSchema, defineTable } from 'convoy';

// projects: defineTable({}) is below.
const tags = defineTable({ name: z.string(/* ) */) }).index('by_name', ['name']);
const shared = defineTable({ note: z.string() });
export default defineSchema({
  users: defineTable({ projects: z.string().describe('a ) in it') }),
  'pro jects': defineTable({
    name: z.string(),
    users: z.array(defineRef(\"users\")),
  })
    .index('by_name', ['name']),
  hot: defineTable({ n: z.number() }).index('by_n', ['n']).relational(),
  tags,
  notes: shared,
  made: make(),
});
";

    fn check(table: &str, line: usize, before: &str) {
        let edit = schema_edit(SOURCE, table).expect(table);
        assert_eq!(edit.line, line, "{table}");
        let changed = edit.applied(SOURCE);
        assert!(changed.contains(&format!("{before}.relational()")), "{table}: {changed}");
        assert_eq!(changed.len(), SOURCE.len() + ".relational()".len());
        let error = schema_edit(&changed, table).expect_err("done");
        assert!(matches!(error, EditError::Already { .. }), "{error}");
    }

    #[test]
    fn the_definition_is_found() {
        check("users", 7, "'a ) in it') })");
        check("pro jects", 11, "(\"users\")),\n  })");
        check("tags", 4, "string(/* ) */) })");
        check("notes", 5, "note: z.string() })");
        assert_eq!(schema_edit(SOURCE, "hot"), Err(EditError::Already { line: 13 }));
    }

    #[test]
    fn what_is_elsewhere_is_left_to_the_author() {
        for table in ["made", "projects", "gone"] {
            let error = schema_edit(SOURCE, table).expect_err(table).to_string();
            assert!(error.contains("by hand"), "{error}");
        }
        assert!(schema_edit("defineSchema({ a: defineTable({", "a").is_err());
        assert!(schema_edit("", "a").is_err());
        assert!(schema_edit("'", "a").is_err());
    }
}
