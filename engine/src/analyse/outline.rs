//! What kind of statement it is: one SELECT, or several joined by UNION and its like; without anything that Postgres
//! does not have or that we don't look at.

use crate::analyse::scope::{NotUnderstood, not_understood};
use sqlparser::ast::{
    Expr, GroupByExpr, LimitClause, OrderByExpr, OrderByKind, Query, Select, SelectFlavor, SetExpr,
    SetOperator, Statement, Value, WildcardAdditionalOptions, With,
};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Token, Tokenizer};

/// Statements with more words and operators than this are not parsed: operators nest, and nesting takes stack.
const WORDS_MAX: usize = 3000;

/// How deep set operations may nest.
const SET_OPERATIONS_MAX: usize = 200;

/// Parses a statement that Postgres has taken.
pub(crate) fn parse(text: &str) -> Result<Box<Query>, NotUnderstood> {
    let dialect = PostgreSqlDialect {};
    let Ok(tokens) = Tokenizer::new(&dialect, text).tokenize_with_location() else {
        return not_understood("its text is not understood");
    };
    let nesting = tokens.iter().filter(|token| {
        !matches!(
            token.token,
            Token::Whitespace(_)
                | Token::Comma
                | Token::Number(..)
                | Token::SingleQuotedString(_)
                | Token::Placeholder(_)
        )
    });
    if nesting.count() > WORDS_MAX {
        return not_understood("it is too long to be analysed");
    }
    let Ok(statements) =
        Parser::new(&dialect).with_tokens_with_locations(tokens).parse_statements()
    else {
        return not_understood("its syntax is not understood");
    };
    match <[Statement; 1]>::try_from(statements) {
        Ok([Statement::Query(query)]) => Ok(query),
        _ => not_understood("it is no single SELECT"),
    }
}

/// A statement's outermost query.
#[derive(Debug)]
pub(crate) struct Outline<'a> {
    pub(crate) query: &'a Query,
    /// The SELECTs that a set operation joins; one where there is none.
    pub(crate) selects: Vec<&'a Select>,
    pub(crate) with: Option<&'a With>,
    /// Whether it is one SELECT without WITH.
    pub(crate) is_plain: bool,
}

impl<'a> Outline<'a> {
    /// Reads a query's outline.
    pub(crate) fn of(query: &'a Query) -> Result<Self, NotUnderstood> {
        check_query(query)?;
        let (mut selects, mut rest, mut seen) = (Vec::new(), vec![&*query.body], 0);
        while let Some(body) = rest.pop() {
            seen += 1;
            match body {
                _ if seen > SET_OPERATIONS_MAX => {
                    return not_understood("it joins too many SELECTs");
                }
                SetExpr::Select(select) => {
                    check_select(select)?;
                    selects.push(&**select);
                }
                SetExpr::SetOperation { left, op, right, .. } if *op != SetOperator::Minus => {
                    rest.extend([&**right, &**left]);
                }
                // A SELECT in brackets of its own, without ORDER BY or LIMIT in them.
                SetExpr::Query(inner)
                    if inner.with.is_none() && !std::ptr::eq(body, &*query.body) =>
                {
                    check_query(inner)?;
                    rest.push(&*inner.body);
                }
                _ => return not_understood("it is not made of SELECTs"),
            }
        }
        let is_plain = query.with.is_none() && matches!(*query.body, SetExpr::Select(_));
        Ok(Outline { query, selects, with: query.with.as_ref(), is_plain })
    }

    /// Returns whether there is a GROUP BY.
    pub(crate) fn has_groups(&self) -> bool {
        self.selects.iter().any(|select| match &select.group_by {
            GroupByExpr::Expressions(groups, modifiers) => {
                !groups.is_empty() || !modifiers.is_empty()
            }
            GroupByExpr::All(_) => true,
        })
    }

    /// Returns whether the outermost query shows only some of its rows, by their number in its order.
    pub(crate) fn counts_rows(&self) -> bool {
        self.query.limit_clause.is_some() || self.query.fetch.is_some()
    }

    /// Returns whether the outermost query leaves out the first of its rows.
    pub(crate) fn has_offset(&self) -> bool {
        match &self.query.limit_clause {
            None => false,
            Some(LimitClause::LimitOffset { offset, .. }) => offset.is_some(),
            Some(LimitClause::OffsetCommaLimit { .. }) => true,
        }
    }

    /// Returns the outermost ORDER BY's items.
    pub(crate) fn order_items(&self) -> Result<&'a [OrderByExpr], NotUnderstood> {
        match &self.query.order_by {
            None => Ok(&[]),
            Some(order_by) => match &order_by.kind {
                OrderByKind::Expressions(items) if order_by.interpolate.is_none() => Ok(items),
                _ => not_understood("its ORDER BY is no list"),
            },
        }
    }
}

/// Refuses what no query of Postgres' has.
pub(crate) fn check_query(query: &Query) -> Result<(), NotUnderstood> {
    let Query {
        with: _,
        body: _,
        order_by: _,
        limit_clause: _,
        fetch: _,
        locks,
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators,
    } = query
    else {
        return not_understood("it has a clause that is not analysed");
    };
    if !locks.is_empty() || !pipe_operators.is_empty() {
        return not_understood("it has a clause that is not analysed");
    }
    Ok(())
}

/// Refuses what no SELECT of Postgres' has.
pub(crate) fn check_select(select: &Select) -> Result<(), NotUnderstood> {
    let plain = select.optimizer_hints.is_empty()
        && select.select_modifiers.is_none()
        && select.top.is_none()
        && select.exclude.is_none()
        && select.into.is_none()
        && select.lateral_views.is_empty()
        && select.prewhere.is_none()
        && select.connect_by.is_empty()
        && select.cluster_by.is_empty()
        && select.distribute_by.is_empty()
        && select.sort_by.is_empty()
        && select.qualify.is_none()
        && select.value_table_mode.is_none()
        && select.flavor == SelectFlavor::Standard;
    if plain { Ok(()) } else { not_understood("it has a clause that is not analysed") }
}

/// Returns whether a `*` is nothing but that.
pub(crate) fn is_plain_wildcard(options: &WildcardAdditionalOptions) -> bool {
    options.opt_ilike.is_none()
        && options.opt_exclude.is_none()
        && options.opt_except.is_none()
        && options.opt_replace.is_none()
        && options.opt_rename.is_none()
        && options.opt_alias.is_none()
}

/// Returns which column of the result a number in ORDER BY or GROUP BY stands for, counted from 0.
pub(crate) fn ordinal(expr: &Expr) -> Option<usize> {
    match expr {
        Expr::Value(literal) => match &literal.value {
            Value::Number(digits, _) => digits.parse::<usize>().ok()?.checked_sub(1),
            _ => None,
        },
        _ => None,
    }
}
