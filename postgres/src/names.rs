//! The names in a statement's text: which may call a function, which may be a type that something is cast to?
//!
//! A small reader of Postgres' lexical rules (PostgreSQL manual, 4.1): it knows what is a string, a comment or a
//! quoted identifier, so that nothing in those counts as a call, and no call hides between them. It errs towards
//! naming too much: the catalog says which of the names are functions and types.

use std::collections::BTreeSet;

/// Postgres cuts names off here, in bytes (`NAMEDATALEN`, PostgreSQL manual, 4.1.1).
const NAME_BYTES_MAX: usize = 63;

/// A name that occurs in a statement.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Name {
    /// The schema, where one is given.
    pub(crate) schema: Option<String>,
    /// The name, folded to lower case unless it was quoted.
    pub(crate) name: String,
    /// How it stands there.
    pub(crate) usage: Usage,
}

/// How a name stands in a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Usage {
    /// A parenthesis follows: a call, or a keyword, type or alias that looks like one.
    Called,
    /// A dot precedes and no parenthesis follows: a column, or `row.function`.
    Attribute,
    /// It stands alone, unquoted.
    Plain,
}

/// All that is taken from a statement's text.
#[derive(Debug, Default)]
pub(crate) struct TextNames {
    /// What may call a function.
    pub(crate) names: Vec<Name>,
    /// Every word, quoted ones too: what a column may be called.
    pub(crate) words: BTreeSet<String>,
    /// What stands where something is cast to a type: `::name`, `as name)`, `name '…'`.
    pub(crate) types: BTreeSet<String>,
}

/// Returns the names in an SQL text that may call a function, without duplicates, in order.
pub(crate) fn names(sql: &str) -> Vec<Name> {
    called(&tokens(sql))
}

/// Returns the names in an SQL text with the words and types.
pub(crate) fn text_names(sql: &str) -> TextNames {
    let tokens = tokens(sql);
    let mut found = TextNames { names: called(&tokens), ..TextNames::default() };
    for (position, token) in tokens.iter().enumerate() {
        let (Token::Word(name) | Token::Quoted(name)) = token else { continue };
        found.words.insert(name.clone());
        if is_cast_to(&tokens, position) {
            found.types.insert(name.clone());
        }
    }
    found
}

/// Returns whether the name at this position may be a type that something is cast to.
fn is_cast_to(tokens: &[Token], position: usize) -> bool {
    if tokens.get(position + 1) == Some(&Token::Symbol('.')) {
        // A schema.
        return false;
    }
    let mut first = position;
    while first >= 2 && tokens[first - 1] == Token::Symbol('.') {
        first -= 2;
    }
    let before = |back: usize| first.checked_sub(back).map(|at| &tokens[at]);
    if before(1) == Some(&Token::Symbol(':')) && before(2) == Some(&Token::Symbol(':')) {
        return true;
    }
    match tokens.get(position + 1) {
        Some(Token::Value) => true,
        Some(Token::Symbol(')' | '(' | '[')) => before(1) == Some(&Token::Word("as".to_owned())),
        _ => false,
    }
}

fn tokens(sql: &str) -> Vec<Token> {
    let mut tokens = Lexer { rest: sql.chars().collect(), at: 0 }.tokens();
    for token in &mut tokens {
        if let Token::Word(name) | Token::Quoted(name) = token {
            name.truncate(name.floor_char_boundary(NAME_BYTES_MAX));
        }
    }
    tokens
}

fn called(tokens: &[Token]) -> Vec<Name> {
    let mut names = Vec::new();
    for (position, token) in tokens.iter().enumerate() {
        let name = match token {
            Token::Word(name) | Token::Quoted(name) => name,
            Token::Symbol(_) | Token::Value => continue,
        };
        let before = |back: usize| position.checked_sub(back).map(|at| &tokens[at]);
        let qualified = before(1) == Some(&Token::Symbol('.'));
        let schema = match (qualified, before(2)) {
            (true, Some(Token::Word(schema) | Token::Quoted(schema))) => Some(schema.clone()),
            _ => None,
        };
        let usage = match tokens.get(position + 1) {
            Some(Token::Symbol('(')) => Usage::Called,
            _ if qualified => Usage::Attribute,
            // A quoted word is never a keyword.
            _ if matches!(token, Token::Quoted(_)) => continue,
            _ => Usage::Plain,
        };
        names.push(Name { schema, name: name.clone(), usage });
    }
    names.sort_unstable();
    names.dedup();
    names
}

/// What is left when strings and comments are gone.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Quoted(String),
    Symbol(char),
    /// A string, number or parameter.
    Value,
}

struct Lexer {
    rest: Vec<char>,
    at: usize,
}

impl Lexer {
    fn tokens(mut self) -> Vec<Token> {
        let mut tokens = Vec::new();
        while let Some(c) = self.peek(0) {
            match c {
                _ if c.is_whitespace() => self.at += 1,
                '-' if self.peek(1) == Some('-') => self.skip_line(),
                '/' if self.peek(1) == Some('*') => self.skip_block(),
                '\'' => {
                    self.skip_string(Escapes::Doubled);
                    tokens.push(Token::Value);
                }
                '"' => tokens.push(Token::Quoted(self.quoted())),
                'e' | 'E' if self.peek(1) == Some('\'') => {
                    self.at += 1;
                    self.skip_string(Escapes::Backslash);
                    tokens.push(Token::Value);
                }
                'b' | 'B' | 'x' | 'X' | 'n' | 'N' if self.peek(1) == Some('\'') => self.at += 1,
                'u' | 'U' if self.peek(1) == Some('&') && self.peek(2) == Some('\'') => {
                    self.at += 2;
                }
                'u' | 'U' if self.peek(1) == Some('&') && self.peek(2) == Some('"') => {
                    self.at += 2;
                    let name = self.quoted();
                    let escape = self.uescape().unwrap_or('\\');
                    tokens.push(Token::Quoted(unescaped(&name, escape)));
                }
                '$' => {
                    match self.dollar_tag() {
                        Some(tag) => self.skip_dollar(&tag),
                        None => {
                            self.at += 1;
                            self.skip_while(|c| c.is_ascii_digit());
                        }
                    }
                    tokens.push(Token::Value);
                }
                _ if c.is_ascii_digit() => {
                    // `1.f` is no attribute; letters that follow a number end it, as in `1and`.
                    self.skip_while(|c| c.is_ascii_digit() || c == '.');
                    tokens.push(Token::Value);
                }
                _ if is_word_start(c) => {
                    let start = self.at;
                    self.skip_while(is_word_part);
                    let word: String = self.rest[start..self.at].iter().collect();
                    // Postgres folds ASCII alone where characters have several bytes.
                    tokens.push(Token::Word(word.to_ascii_lowercase()));
                }
                _ => {
                    self.at += 1;
                    tokens.push(Token::Symbol(c));
                }
            }
        }
        tokens
    }

    fn peek(&self, ahead: usize) -> Option<char> {
        self.rest.get(self.at + ahead).copied()
    }

    fn skip_while(&mut self, wanted: impl Fn(char) -> bool) {
        while self.peek(0).is_some_and(&wanted) {
            self.at += 1;
        }
    }

    fn skip_line(&mut self) {
        self.skip_while(|c| c != '\n' && c != '\r');
    }

    /// Block comments nest.
    fn skip_block(&mut self) {
        let mut depth = 0;
        while self.at < self.rest.len() {
            match (self.peek(0), self.peek(1)) {
                (Some('/'), Some('*')) => {
                    depth += 1;
                    self.at += 2;
                }
                (Some('*'), Some('/')) => {
                    depth -= 1;
                    self.at += 2;
                    if depth == 0 {
                        return;
                    }
                }
                _ => self.at += 1,
            }
        }
    }

    fn skip_string(&mut self, escapes: Escapes) {
        self.at += 1;
        while let Some(c) = self.peek(0) {
            self.at += 1;
            match c {
                '\\' if escapes == Escapes::Backslash => self.at += 1,
                '\'' if self.peek(0) == Some('\'') => self.at += 1,
                '\'' => return,
                _ => {}
            }
        }
    }

    fn quoted(&mut self) -> String {
        let mut name = String::new();
        self.at += 1;
        while let Some(c) = self.peek(0) {
            self.at += 1;
            if c == '"' {
                if self.peek(0) != Some('"') {
                    break;
                }
                self.at += 1;
            }
            name.push(c);
        }
        name
    }

    /// Reads `UESCAPE '!'` behind a `U&"…"` name and returns its character; where there is none, nothing is read.
    fn uescape(&mut self) -> Option<char> {
        let start = self.at;
        self.skip_blank();
        let word: String = self.rest[self.at..].iter().take("uescape".len()).collect();
        if word.eq_ignore_ascii_case("uescape") {
            self.at += word.len();
            self.skip_blank();
            if let (Some('\''), Some(escape), Some('\'')) =
                (self.peek(0), self.peek(1), self.peek(2))
            {
                self.at += 3;
                return Some(escape);
            }
        }
        self.at = start;
        None
    }

    /// Skips blanks and comments.
    fn skip_blank(&mut self) {
        loop {
            match (self.peek(0), self.peek(1)) {
                (Some('-'), Some('-')) => self.skip_line(),
                (Some('/'), Some('*')) => self.skip_block(),
                (Some(c), _) if c.is_whitespace() => self.at += 1,
                _ => return,
            }
        }
    }

    /// Returns the tag of a dollar quote that begins here, dollars included.
    fn dollar_tag(&self) -> Option<Vec<char>> {
        let mut length = 1;
        loop {
            match self.peek(length) {
                Some('$') => return Some(self.rest[self.at..=self.at + length].to_vec()),
                Some(c) if is_word_start(c) || (length > 1 && c.is_ascii_digit()) => length += 1,
                _ => return None,
            }
        }
    }

    fn skip_dollar(&mut self, tag: &[char]) {
        self.at += tag.len();
        while self.at < self.rest.len() {
            if self.rest[self.at..].starts_with(tag) {
                self.at += tag.len();
                return;
            }
            self.at += 1;
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Escapes {
    Doubled,
    Backslash,
}

fn is_word_start(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || !c.is_ascii()
}

fn is_word_part(c: char) -> bool {
    is_word_start(c) || c.is_ascii_digit() || c == '$'
}

/// Reads the escapes of a `U&"…"` identifier.
fn unescaped(name: &str, escape: char) -> String {
    let mut text = String::new();
    let mut rest = name;
    while let Some(at) = rest.find(escape) {
        text.push_str(&rest[..at]);
        let after = &rest[at + escape.len_utf8()..];
        if let Some(behind) = after.strip_prefix(escape) {
            text.push(escape);
            rest = behind;
            continue;
        }
        let digits = match after.starts_with('+') {
            true => after.get(1..7).map(|digits| (digits, 7)),
            false => after.get(..4).map(|digits| (digits, 4)),
        };
        let read = digits.and_then(|(digits, length)| {
            let number = u32::from_str_radix(digits, 16).ok()?;
            Some((char::from_u32(number)?, length))
        });
        match read {
            Some((c, length)) => {
                text.push(c);
                rest = &after[length..];
            }
            None => {
                text.push(escape);
                rest = after;
            }
        }
    }
    text.push_str(rest);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn called(sql: &str) -> Vec<String> {
        let is_called = |name: &Name| name.usage == Usage::Called;
        let shown = |name: Name| match name.schema {
            Some(schema) => format!("{schema}.{}", name.name),
            None => name.name,
        };
        names(sql).into_iter().filter(is_called).map(shown).collect()
    }

    #[test]
    fn calls_are_found() {
        assert_eq!(called("select Now(), a.f (1), \"Odd\" (2)"), ["Odd", "now", "a.f"]);
        assert_eq!(called("select f /* x */ -- y\n (1)"), ["f"]);
        assert_eq!(called("select U&\"f\\006fo\"(1)"), ["foo"]);
        assert_eq!(called("select U&\"f!006fo\" /* x */ UESCAPE '!' (1)"), ["foo"]);
        assert_eq!(called("select U&\"f!!\" uescape\n'!'(1), U&\"g\" (uescape)"), ["f!", "g"]);
        assert_eq!(called(&format!("select {}(1)", "f".repeat(70))), ["f".repeat(63)]);
        assert_eq!(called("select \u{c9}F(1)"), ["\u{c9}f"]);
    }

    #[test]
    fn what_is_quoted_or_commented_is_no_call() {
        for sql in [
            "select 'f(1)'",
            "select E'it\\'s f(1)'",
            "select 'it''s f(1)'",
            "select $$f(1)$$, $a$ $$ f(1) $a$",
            "select 1 -- f(1)",
            "select 1 /* /* f(1) */ g(1) */",
            "select U&'\\0066(1) f(1)'",
            "select B'0', x'f(1)'",
        ] {
            assert_eq!(called(sql), Vec::<String>::new(), "{sql}");
        }
    }

    #[test]
    fn nothing_hides_behind_what_is_quoted() {
        for sql in [
            "select 'a\\' , f(1)",
            "select E'a\\\\', f(1)",
            "select $1, f($2)",
            "select a$b$c, f(1)",
            "select $a$x$a$, f(1)",
            "select \"a\"\"b\", f(1)",
            "select 1 /* /**/ */, f(1)",
            "select 1.5e3, f(1)",
        ] {
            assert_eq!(called(sql), ["f"], "{sql}");
        }
    }

    #[test]
    fn types_stand_where_casts_are() {
        let types = |sql: &str| text_names(sql).types.into_iter().collect::<Vec<_>>();
        assert_eq!(types("select a::b, c::s.d[], e::\"F\" from g"), ["F", "b", "d"]);
        assert_eq!(
            types("select cast(a as b), cast(c as s.d(3)), CAST(e AS f[])"),
            ["b", "d", "f"]
        );
        assert_eq!(types("select day '2026-01-01', mail = 'x'"), ["day"]);
        assert_eq!(types("select a as b, c from d as e where f = 1"), [""; 0]);
    }

    #[test]
    fn attributes_may_be_calls() {
        let attribute =
            Name { schema: Some("t".into()), name: "f".into(), usage: Usage::Attribute };
        assert!(names("select t.f from t").contains(&attribute));
        let unqualified = Name { schema: None, name: "f".into(), usage: Usage::Attribute };
        assert!(names("select (t).f from t").contains(&unqualified));
    }

    proptest! {
        #[test]
        fn any_text_ends(text in ".{0,80}") {
            text_names(&text);
        }

        #[test]
        fn a_call_after_any_closed_string_is_found(inner in "[^'\\\\]{0,20}") {
            prop_assert_eq!(called(&format!("select '{inner}', f(1)")), ["f"]);
        }
    }
}
