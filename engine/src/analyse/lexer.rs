//! Splits SQL into tokens exactly as Postgres' own scanner does (`src/backend/parser/scan.l`): strings of every kind,
//! dollar quotes, nested comments, quoted identifiers.
//!
//! The parser of `sqlparser` says what a statement means; this says *where* things stand in its text, so that the text
//! can be cut and lengthened without being printed anew, and which comments are comments.

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenKind {
    /// A keyword or an identifier without quotes.
    Word,
    /// An identifier in double quotes (`U&"…"` too).
    QuotedIdentifier,
    /// A string of any kind.
    String,
    /// A number.
    Number,
    /// `$1`
    Param,
    /// Any other character, one by one.
    Symbol(u8),
}

/// A token: what it is, and where it stands in the text (bytes).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) kind: TokenKind,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl Token {
    /// Returns whether it is this keyword, given in capitals.
    pub(crate) fn is_word(&self, text: &str, keyword: &str) -> bool {
        self.kind == TokenKind::Word && text[self.start..self.end].eq_ignore_ascii_case(keyword)
    }

    /// Returns whether it is this character.
    pub(crate) fn is_symbol(&self, symbol: u8) -> bool {
        self.kind == TokenKind::Symbol(symbol)
    }
}

/// A text's tokens and its `--` comments, in order.
#[derive(Debug, Default)]
pub(crate) struct Lexed {
    pub(crate) tokens: Vec<Token>,
    /// Where each `--` comment's words stand: behind the dashes, up to the end of the line.
    pub(crate) line_comments: Vec<(usize, usize)>,
}

/// Splits a text. What never ends (a string, a comment) ends with the text: Postgres will say so better.
pub(crate) fn lex(text: &str) -> Lexed {
    let bytes = text.as_bytes();
    let mut lexed = Lexed::default();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let start = at;
        let next = bytes.get(at + 1).copied();
        let kind = match byte {
            b' ' | b'\t' | b'\n' | b'\r' | 0x0B | 0x0C => {
                at += 1;
                continue;
            }
            b'-' if next == Some(b'-') => {
                at = line_end(bytes, at);
                lexed.line_comments.push((start + 2, at));
                continue;
            }
            b'/' if next == Some(b'*') => {
                at = block_comment_end(bytes, at);
                continue;
            }
            b'\'' => {
                at = quoted_end(bytes, at + 1, b'\'', Backslash::Plain);
                TokenKind::String
            }
            b'"' => {
                at = quoted_end(bytes, at + 1, b'"', Backslash::Plain);
                TokenKind::QuotedIdentifier
            }
            b'e' | b'E' if next == Some(b'\'') => {
                at = quoted_end(bytes, at + 2, b'\'', Backslash::Escapes);
                TokenKind::String
            }
            b'b' | b'B' | b'x' | b'X' | b'n' | b'N' if next == Some(b'\'') => {
                at = quoted_end(bytes, at + 2, b'\'', Backslash::Plain);
                TokenKind::String
            }
            b'u' | b'U'
                if next == Some(b'&') && matches!(bytes.get(at + 2), Some(b'\'' | b'"')) =>
            {
                let quote = bytes[at + 2];
                at = quoted_end(bytes, at + 3, quote, Backslash::Plain);
                if quote == b'"' { TokenKind::QuotedIdentifier } else { TokenKind::String }
            }
            b'$' if next.is_some_and(|byte| byte.is_ascii_digit()) => {
                at = run_end(bytes, at + 1, |byte| byte.is_ascii_digit());
                TokenKind::Param
            }
            b'$' => match dollar_quote_end(text, at) {
                Some(end) => {
                    at = end;
                    TokenKind::String
                }
                None => {
                    at += 1;
                    TokenKind::Symbol(b'$')
                }
            },
            _ if starts_identifier(byte) => {
                at = run_end(bytes, at, |byte| {
                    starts_identifier(byte) || byte.is_ascii_digit() || byte == b'$'
                });
                TokenKind::Word
            }
            _ if byte.is_ascii_digit()
                || (byte == b'.' && next.is_some_and(|byte| byte.is_ascii_digit())) =>
            {
                at = number_end(bytes, at);
                TokenKind::Number
            }
            _ => {
                at += 1;
                TokenKind::Symbol(byte)
            }
        };
        lexed.tokens.push(Token { kind, start, end: at });
    }
    lexed
}

fn starts_identifier(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

fn run_end(bytes: &[u8], from: usize, part: impl Fn(u8) -> bool) -> usize {
    bytes[from..].iter().position(|&byte| !part(byte)).map_or(bytes.len(), |length| from + length)
}

fn line_end(bytes: &[u8], from: usize) -> usize {
    run_end(bytes, from, |byte| byte != b'\n' && byte != b'\r')
}

fn block_comment_end(bytes: &[u8], from: usize) -> usize {
    let (mut at, mut depth) = (from, 0_usize);
    while at < bytes.len() {
        match (bytes[at], bytes.get(at + 1)) {
            (b'/', Some(b'*')) => {
                depth += 1;
                at += 2;
            }
            (b'*', Some(b'/')) => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    bytes.len()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Backslash {
    Plain,
    Escapes,
}

fn quoted_end(bytes: &[u8], from: usize, quote: u8, backslash: Backslash) -> usize {
    let mut at = from;
    while at < bytes.len() {
        if bytes[at] == b'\\' && backslash == Backslash::Escapes {
            at += 2;
        } else if bytes[at] == quote {
            if bytes.get(at + 1) != Some(&quote) {
                return at + 1;
            }
            at += 2;
        } else {
            at += 1;
        }
    }
    bytes.len()
}

/// Returns where `$tag$…$tag$` ends, if one begins here.
fn dollar_quote_end(text: &str, from: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let tag_end = run_end(bytes, from + 1, |byte| starts_identifier(byte) || byte.is_ascii_digit());
    if bytes.get(tag_end) != Some(&b'$') {
        return None;
    }
    let tag = &text[from..=tag_end];
    let body = tag_end + 1;
    Some(text[body..].find(tag).map_or(text.len(), |length| body + length + tag.len()))
}

fn number_end(bytes: &[u8], from: usize) -> usize {
    let mut at = from;
    while let Some(&byte) = bytes.get(at) {
        let sign = matches!(byte, b'+' | b'-') && matches!(bytes[at - 1], b'e' | b'E') && at > from;
        let digit_follows = bytes.get(at + 1).is_some_and(u8::is_ascii_digit);
        if byte == b'.' && bytes.get(at + 1) == Some(&b'.') {
            break;
        }
        if !(byte.is_ascii_alphanumeric()
            || byte == b'.'
            || byte == b'_'
            || (sign && digit_follows))
        {
            break;
        }
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Vec<&str> {
        lex(text).tokens.iter().map(|token| &text[token.start..token.end]).collect()
    }

    #[test]
    fn splits_as_postgres_does() {
        let check = |text: &str, expect: &[&str]| assert_eq!(tokens(text), expect, "{text}");
        check("select a.b", &["select", "a", ".", "b"]);
        check("'it''s' -- 'x\n1", &["'it''s'", "1"]);
        check(r"E'\'' 'a\' b", &[r"E'\''", r"'a\'", "b"]);
        check("/* a /* b */ c */ d", &["d"]);
        check("$$ a $x$ $$ $x$ $$ $x$ a$b$c $1", &["$$ a $x$ $$", "$x$ $$ $x$", "a$b$c", "$1"]);
        check(r#""a""b" U&"d\0061" U&'x'"#, &[r#""a""b""#, r#"U&"d\0061""#, "U&'x'"]);
        check("1.5e-3 .5 1..2 a-1", &["1.5e-3", ".5", "1", ".", ".2", "a", "-", "1"]);
        check("straße = 'ä'", &["straße", "=", "'ä'"]);
    }

    #[test]
    fn what_never_ends_ends_with_the_text() {
        for text in
            ["'a", "E'\\", "\"a", "/* a", "$$ a", "$x$ a $x", "--", "/*", "1e", "1e-", "$", "U&'"]
        {
            let lexed = lex(text);
            assert!(lexed.tokens.iter().all(|token| token.end <= text.len()), "{text}");
        }
    }

    #[test]
    fn comments_are_told_from_strings() {
        let text = "-- @a\nselect '-- @b', $$\n-- @c\n$$ /*\n-- @d\n*/ -- e";
        let comments =
            lex(text).line_comments.iter().map(|&(from, to)| &text[from..to]).collect::<Vec<_>>();
        assert_eq!(comments, [" @a", " e"]);
    }
}
