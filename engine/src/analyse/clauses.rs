//! Where the clauses of a statement's outermost query stand in its text, so that the text can be lengthened in the
//! right places and stays otherwise as it was written.

use crate::analyse::lexer::{Token, TokenKind, lex};
use crate::statement::significant;
use std::ops::Range;

/// A clause, in the order in which they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Clause {
    Head,
    From,
    Where,
    GroupBy,
    Having,
    Window,
    OrderBy,
    /// LIMIT, OFFSET and FETCH, in any order.
    Limit,
}

/// A statement's text with the places of the outermost query's clauses.
#[derive(Debug)]
pub(crate) struct Clauses<'a> {
    /// The text without what is around the statement: comments, semicolons, brackets about the whole.
    pub(crate) text: &'a str,
    starts: Vec<(Clause, usize)>,
    tokens: Vec<Token>,
    /// Whether several SELECTs are joined by UNION, INTERSECT or EXCEPT.
    pub(crate) is_set_operation: bool,
}

impl<'a> Clauses<'a> {
    /// Finds the clauses of a statement.
    pub(crate) fn of(text: &'a str) -> Self {
        let mut text = text;
        let mut tokens;
        loop {
            tokens = significant(&lex(text).tokens).to_vec();
            let (Some(first), Some(last)) = (tokens.first(), tokens.last()) else { break };
            let encloses_all = first.is_symbol(b'(') && closing(&tokens) == Some(tokens.len() - 1);
            text = &text[if encloses_all { first.end..last.start } else { first.start..last.end }];
            if !encloses_all {
                tokens = lex(text).tokens;
                break;
            }
        }
        let mut clauses = Clauses { text, starts: Vec::new(), tokens, is_set_operation: false };
        clauses.find();
        clauses
    }

    fn find(&mut self) {
        let mut depth = 0_usize;
        for (at, token) in self.tokens.iter().enumerate() {
            match token.kind {
                TokenKind::Symbol(b'(' | b'[') => depth += 1,
                TokenKind::Symbol(b')' | b']') => depth = depth.saturating_sub(1),
                TokenKind::Word if depth == 0 => {
                    let before = at.checked_sub(1).map(|before| &self.tokens[before]);
                    let is = |keyword| token.is_word(self.text, keyword);
                    let follows =
                        |keyword| before.is_some_and(|before| before.is_word(self.text, keyword));
                    // Behind AS or a dot any keyword is a name; IS DISTINCT FROM is an operator.
                    if follows("AS") || before.is_some_and(|before| before.is_symbol(b'.')) {
                        continue;
                    }
                    if is("UNION") || is("INTERSECT") || is("EXCEPT") {
                        self.is_set_operation = true;
                        self.starts.clear();
                        continue;
                    }
                    let clause = match () {
                        () if is("FROM") && !follows("DISTINCT") => Clause::From,
                        () if is("WHERE") => Clause::Where,
                        () if is("GROUP") => Clause::GroupBy,
                        () if is("HAVING") => Clause::Having,
                        () if is("WINDOW") => Clause::Window,
                        () if is("ORDER") => Clause::OrderBy,
                        () if is("LIMIT") || is("OFFSET") || is("FETCH") => Clause::Limit,
                        () => continue,
                    };
                    if self.starts.iter().all(|(known, _)| *known != clause) {
                        self.starts.push((clause, at));
                    }
                }
                _ => {}
            }
        }
    }

    /// Returns which tokens a clause is made of, its keyword included; none where it is not there.
    fn tokens_of(&self, clause: Clause) -> Option<Range<usize>> {
        let start = match clause {
            Clause::Head => 0,
            clause => self.starts.iter().find(|(known, _)| *known == clause)?.1,
        };
        let end = self.starts.iter().map(|&(_, at)| at).filter(|&at| at > start).min();
        Some(start..end.unwrap_or(self.tokens.len()))
    }

    fn end_of(&self, tokens: &Range<usize>) -> usize {
        self.tokens[..tokens.end].last().map_or(0, |token| token.end)
    }

    /// Returns the text of the clause behind its `keywords` keywords.
    fn body(&self, clause: Clause, keywords: usize) -> Option<&'a str> {
        let tokens = self.tokens_of(clause)?;
        let first = self.tokens.get(tokens.start + keywords).filter(|_| tokens.len() > keywords)?;
        self.text.get(first.start..self.end_of(&tokens))
    }

    /// Returns the condition behind WHERE.
    pub(crate) fn selection(&self) -> Option<&'a str> {
        self.body(Clause::Where, 1)
    }

    /// Returns whether the outermost query has an ORDER BY.
    pub(crate) fn has_order(&self) -> bool {
        self.tokens_of(Clause::OrderBy).is_some()
    }

    /// Returns the items behind GROUP BY.
    pub(crate) fn groups(&self) -> Vec<&'a str> {
        let Some(tokens) = self.tokens_of(Clause::GroupBy) else { return Vec::new() };
        let (mut items, mut depth, mut first) = (Vec::new(), 0_usize, None);
        let range = (tokens.start + 2).min(tokens.end)..tokens.end;
        for (at, token) in self.tokens[range.clone()].iter().enumerate() {
            match token.kind {
                TokenKind::Symbol(b'(' | b'[') => depth += 1,
                TokenKind::Symbol(b')' | b']') => depth = depth.saturating_sub(1),
                TokenKind::Symbol(b',') if depth == 0 => {
                    first = None;
                    continue;
                }
                _ => {}
            }
            let start = *first.get_or_insert_with(|| {
                items.push("");
                at
            });
            if let Some(item) = items.last_mut() {
                *item = &self.text[self.tokens[range.start + start].start..token.end];
            }
        }
        items
    }

    /// Returns the conditions of FILTERs in the select list, in their order.
    pub(crate) fn filters(&self) -> Vec<&'a str> {
        let head = self.tokens_of(Clause::Head).unwrap_or_default();
        let tokens = &self.tokens[head];
        let mut filters = Vec::new();
        for at in 0..tokens.len() {
            let [filter, bracket, condition, first, ..] = &tokens[at..] else { break };
            let begins = filter.is_word(self.text, "FILTER")
                && bracket.is_symbol(b'(')
                && condition.is_word(self.text, "WHERE");
            let Some(end) = begins.then(|| closing(&tokens[at + 1..])).flatten() else { continue };
            // The bracket that closes is `end` behind the one that opens.
            filters.push(&self.text[first.start..tokens[at + end].end]);
        }
        filters
    }

    /// Returns the text before LIMIT, OFFSET and FETCH, and the text from there on.
    pub(crate) fn split_limit(&self) -> (&'a str, &'a str) {
        match self.tokens_of(Clause::Limit) {
            Some(tokens) => {
                let end = self.end_of(&(0..tokens.start));
                (&self.text[..end], &self.text[self.tokens[tokens.start].start..])
            }
            None => (self.text, ""),
        }
    }

    /// Returns the text with more behind the select list, and more behind the ORDER BY's items.
    pub(crate) fn with(&self, columns: &str, order: &[String]) -> String {
        let (before_limit, limit) = self.split_limit();
        let head = self.tokens_of(Clause::Head).map_or(0, |tokens| self.end_of(&tokens));
        let order = match (order, self.has_order()) {
            ([], _) => String::new(),
            (order, true) => format!(", {}", order.join(", ")),
            (order, false) => format!(" ORDER BY {}", order.join(", ")),
        };
        let gap = if limit.is_empty() { "" } else { " " };
        format!("{}{columns}{}{order}{gap}{limit}", &self.text[..head], &before_limit[head..])
    }
}

/// Returns which token closes the bracket that the first one opens.
fn closing(tokens: &[Token]) -> Option<usize> {
    let mut depth = 0_usize;
    tokens.iter().position(|token| {
        match token.kind {
            TokenKind::Symbol(b'(') => depth += 1,
            TokenKind::Symbol(b')') => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_clauses() {
        let clauses = Clauses::of(
            "-- about\n((select a as where, b is distinct from c, extract(year from d) from t where x = 'from' \
             -- and\n and f(array[1, 2]) group by a, (b, c), f(d, e) order by a desc /* x */ limit 3 offset 1));",
        );
        assert_eq!(clauses.selection(), Some("x = 'from' -- and\n and f(array[1, 2])"));
        assert_eq!(clauses.groups(), ["a", "(b, c)", "f(d, e)"]);
        assert!(clauses.has_order());
        assert_eq!(clauses.split_limit().1, "limit 3 offset 1");
        assert!(!clauses.is_set_operation);
    }

    #[test]
    fn lengthens_the_text() {
        let check = |text: &str, expect: &str| {
            assert_eq!(Clauses::of(text).with(", k AS k0", &["k".to_owned()]), expect, "{text}");
        };
        check("select a from t", "select a, k AS k0 from t ORDER BY k");
        check(
            "select a -- x\nfrom t order by a -- y\nlimit 1; -- z",
            "select a, k AS k0 -- x\nfrom t order by a, k limit 1",
        );
        check("select 1", "select 1, k AS k0 ORDER BY k");
        check(
            "with w as (select 1 from x order by 1) select a from w offset 1",
            "with w as (select 1 from x order by 1) select a, k AS k0 from w ORDER BY k offset 1",
        );
    }

    #[test]
    fn finds_filters() {
        let filters = |text| Clauses::of(text).filters();
        assert_eq!(
            filters(
                "select count(*) filter (where a = (1)) as x, \"filter\", sum(b) FILTER (/* c */ WHERE b > ')') from t"
            ),
            ["a = (1)", "b > ')'"]
        );
        assert!(
            filters("select filter, count(*) from t having sum(a) filter (where b) > 1").is_empty()
        );
    }

    #[test]
    fn knows_set_operations() {
        let clauses =
            Clauses::of("(select a from t where x) union select b from u order by 1 limit 2");
        assert!(clauses.is_set_operation && clauses.has_order());
        assert_eq!(
            clauses.split_limit().0,
            "(select a from t where x) union select b from u order by 1"
        );
        assert!(!Clauses::of("select (select 1 union select 2) as a").is_set_operation);
        assert_eq!(Clauses::of("").text, "");
    }
}
