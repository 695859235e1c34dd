//! Texts that begin with something: `LIKE`, `^@`, `starts_with`.

use super::{ConditionReader, Subject, negate};
use crate::analyse::comparand::Comparand;
use crate::analyse::scope::name_parts;
use crate::template::{SlotReads, SlotSpec};
use convoy_query_index::{CompareOp, Condition, Operand};
use convoy_types::PgType;
use sqlparser::ast::{Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments};

/// What a `LIKE` pattern without an `ESCAPE` of its own asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Pattern {
    /// This text and no other.
    Exactly(String),
    /// Any text that begins so.
    Prefix(String),
    /// A text that begins so, and more.
    Within(String),
}

impl Pattern {
    /// Reads a pattern; none where Postgres would refuse it.
    pub(crate) fn read(pattern: &str) -> Option<Self> {
        let mut start = String::new();
        let mut rest = pattern.chars();
        loop {
            match rest.next() {
                None => return Some(Pattern::Exactly(start)),
                Some('\\') => start.push(rest.next()?),
                Some('%') if rest.as_str().bytes().all(|byte| byte == b'%') => {
                    return Some(Pattern::Prefix(start));
                }
                Some('%' | '_') => return Some(Pattern::Within(start)),
                Some(other) => start.push(other),
            }
        }
    }

    /// Returns what a text begins with that meets the pattern.
    pub(crate) fn start(pattern: &str) -> String {
        match Pattern::read(pattern) {
            Some(Pattern::Exactly(start) | Pattern::Prefix(start) | Pattern::Within(start)) => {
                start
            }
            None => String::new(),
        }
    }
}

impl ConditionReader<'_, '_> {
    /// `text LIKE pattern`
    pub(super) fn like(&mut self, expr: &Expr, pattern: &Expr, negated: bool) -> Condition {
        let found = self.like_or_unknown(expr, pattern).unwrap_or(Condition::Unknown);
        if negated { negate(found) } else { found }
    }

    fn like_or_unknown(&mut self, expr: &Expr, pattern: &Expr) -> Option<Condition> {
        let subject = self.text_subject(expr)?;
        Some(match self.value(pattern)? {
            Comparand::Null => self.compare(&subject, CompareOp::Eq, &Comparand::Null),
            Comparand::Untyped(text)
            | Comparand::Typed(PgType::Text | PgType::Varchar, None, text) => {
                match Pattern::read(&text)? {
                    Pattern::Exactly(text) => {
                        self.compare(&subject, CompareOp::Eq, &Comparand::Untyped(text))
                    }
                    Pattern::Prefix(start) => self.prefix(&subject, start)?,
                    Pattern::Within(start) => {
                        Condition::And(vec![self.prefix(&subject, start)?, Condition::Unknown])
                    }
                }
            }
            Comparand::Param(param) => {
                // What else the pattern asks for is known only with the argument.
                let operand = self.text_slot(param, SlotReads::PatternStart)?;
                let prefix = Condition::Prefix { field: subject.field, operand };
                Condition::And(vec![prefix, Condition::Unknown])
            }
            _ => return None,
        })
    }

    /// `text ^@ start`, `starts_with(text, start)`
    pub(super) fn starts_with(&mut self, expr: &Expr, start: &Expr) -> Option<Condition> {
        let subject = self.text_subject(expr)?;
        match self.value(start)? {
            Comparand::Null => Some(self.compare(&subject, CompareOp::Eq, &Comparand::Null)),
            Comparand::Untyped(text)
            | Comparand::Typed(PgType::Text | PgType::Varchar, None, text) => {
                self.prefix(&subject, text)
            }
            Comparand::Param(param) => {
                let operand = self.text_slot(param, SlotReads::Value)?;
                Some(Condition::Prefix { field: subject.field, operand })
            }
            _ => None,
        }
    }

    /// Reads a call; only `starts_with` says something of a row.
    pub(super) fn function(&mut self, function: &Function) -> Option<Condition> {
        let plain = function.over.is_none() && function.filter.is_none();
        let name = name_parts(&function.name)?;
        let is_built_in = match name.as_slice() {
            [name] => {
                let known = self.facts.functions.iter().filter(|facts| facts.name == *name);
                let mut schemas = known.map(|facts| facts.namespace.as_str()).peekable();
                name == "starts_with"
                    && schemas.peek().is_some()
                    && schemas.all(|schema| schema == "pg_catalog")
            }
            [schema, name] => schema == "pg_catalog" && name == "starts_with",
            _ => false,
        };
        let FunctionArguments::List(list) = &function.args else { return None };
        match list.args.as_slice() {
            [
                FunctionArg::Unnamed(FunctionArgExpr::Expr(text)),
                FunctionArg::Unnamed(FunctionArgExpr::Expr(start)),
            ] if plain && is_built_in && list.clauses.is_empty() => self.starts_with(text, start),
            _ => None,
        }
    }

    /// Returns a text whose equality is that of its bytes. Blanks at the end of a `char(n)` count in a pattern.
    fn text_subject(&mut self, expr: &Expr) -> Option<Subject> {
        self.subject(expr).filter(|subject| {
            matches!(subject.ty, PgType::Text | PgType::Varchar) && subject.has_equality()
        })
    }

    fn prefix(&mut self, subject: &Subject, start: String) -> Option<Condition> {
        let key = self.constants.key(&PgType::Text, "text", &start)?;
        Some(Condition::Prefix { field: subject.field, operand: Operand::Constant(Some(key)) })
    }

    fn text_slot(&mut self, param: usize, reads: SlotReads) -> Option<Operand> {
        let is_text = matches!(self.facts.params.get(param)?.ty, PgType::Text | PgType::Varchar);
        let spec = SlotSpec { param, ty: PgType::Text, reads };
        if is_text { self.slot(spec) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_read_as_like_reads_them() {
        let check = |pattern: &str, expect: Option<Pattern>| {
            assert_eq!(Pattern::read(pattern), expect, "{pattern}");
        };
        check("abc", Some(Pattern::Exactly("abc".to_owned())));
        check("", Some(Pattern::Exactly(String::new())));
        check("abc%", Some(Pattern::Prefix("abc".to_owned())));
        check("%%", Some(Pattern::Prefix(String::new())));
        check("a_c%", Some(Pattern::Within("a".to_owned())));
        check("a%c", Some(Pattern::Within("a".to_owned())));
        check("a%_", Some(Pattern::Within("a".to_owned())));
        check(r"a\%b\_c\\%", Some(Pattern::Prefix(r"a%b_c\".to_owned())));
        check(r"\a", Some(Pattern::Exactly("a".to_owned())));
        check("a\\", None);
    }
}
