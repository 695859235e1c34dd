//! Batches: the statement that reads the results of many live queries of one template at once (`docs/postgres.md`,
//! P13).
//!
//! The arguments come as one array for each parameter. They are unnested side by side, and the statement that reads one
//! result stands behind them as a LATERAL subquery in which every parameter has become a column:
//!
//! ```sql
//! SELECT b.n, r.* FROM ROWS FROM (unnest($1), unnest($2)) WITH ORDINALITY AS b(p1, p2, n)
//! CROSS JOIN LATERAL (SELECT row_number() OVER () AS i, q.* FROM (SELECT … (b.p1) …) AS q) AS r
//! ORDER BY b.n
//! ```
//!
//! So each row says whose it is (`n`) and where in that result it stands (`i`). The order costs no sort: a function's
//! rows come in the order of their ordinals, and LATERAL makes a nested loop of the join.
//!
//! Nothing here decides whether Postgres takes it, or whether it is quicker: an aggregate whose arguments are
//! parameters alone (`sum($1)`) belongs to the outer query then, which is an error; and a condition that an index serves
//! only where the value is known while planning is slow. The database is asked at the first use. Here stands what can be
//! known from the text.

use crate::analyse::lexer::{Token, TokenKind, lex};
use crate::analyse::refusal::clock;
use crate::facts::{ParamType, StatementFacts};
use crate::statement::Statement;
use crate::template::{BatchStatement, Batching};
use convoy_types::PgType;
use std::fmt::Write;

/// What our own names begin with, lengthened until the statement has no such name.
const NAME: &str = "convoy_batch";

/// Words that end the right side of LIKE.
const ENDS_OPERAND: [&str; 18] = [
    "AND",
    "OR",
    "THEN",
    "ELSE",
    "WHEN",
    "END",
    "GROUP",
    "ORDER",
    "LIMIT",
    "OFFSET",
    "FETCH",
    "HAVING",
    "WINDOW",
    "UNION",
    "EXCEPT",
    "INTERSECT",
    "AS",
    "FROM",
];

/// Returns how the results of many live queries are read at once, or why they are not.
///
/// `sql` reads one result, with the statement's own parameters.
pub(super) fn batching(sql: &str, statement: &Statement, facts: &StatementFacts) -> Batching {
    match rewrite(sql, statement, facts) {
        Ok(batch) => Batching::Together(batch),
        Err(why) => Batching::Singly(why),
    }
}

fn rewrite(
    sql: &str,
    statement: &Statement,
    facts: &StatementFacts,
) -> Result<BatchStatement, String> {
    let params = &facts.params;
    if params.is_empty() {
        return Err(
            "it has no parameters, so it is one live query for all its subscribers".to_owned()
        );
    }
    if let Some(clock) = clock(statement, facts) {
        return Err(format!("its result changes with time ({clock})"));
    }
    if let Some(function) = facts.functions.iter().find(|function| function.volatile) {
        return Err(format!("{} is a volatile function", function.name));
    }
    let tokens = lex(sql).tokens;
    if let Some(operator) = pattern_from_param(sql, &tokens) {
        return Err(format!(
            "it compares with {operator} and a parameter, which an index serves only where the pattern is known"
        ));
    }
    let name = unused_name(sql);
    let mut inner = String::with_capacity(sql.len() + 64);
    let mut copied = 0;
    for token in tokens.iter().filter(|token| token.kind == TokenKind::Param) {
        let number = sql[token.start + 1..token.end].parse().ok();
        let number: usize = number
            .filter(|number| (1..=params.len()).contains(number))
            .ok_or_else(|| format!("it has no parameter {}", &sql[token.start..token.end]))?;
        // In brackets, as `$1.field` and `$1[1]` go on behind it.
        let _ = write!(inner, "{}({name}.{name}_{number})", &sql[copied..token.start]);
        copied = token.end;
    }
    inner.push_str(&sql[copied..]);
    let as_text: Box<[bool]> = params.iter().map(is_array).collect();
    let sql = format!(
        "SELECT {name}.{name}_n, {name}_result.* FROM {} CROSS JOIN LATERAL (SELECT pg_catalog.row_number() OVER () \
         AS {name}_row, {name}_rows.* FROM ({inner}) AS {name}_rows) AS {name}_result ORDER BY {name}.{name}_n",
        arguments(&name, params, &as_text),
    );
    Ok(BatchStatement { sql: sql.into(), as_text })
}

/// Returns the FROM item that has a row for each live query: its arguments, and its number from 1 on.
fn arguments(name: &str, params: &[ParamType], as_text: &[bool]) -> String {
    let list = |item: &dyn Fn(usize) -> String| {
        (1..=params.len()).map(item).collect::<Vec<_>>().join(", ")
    };
    let unnested = list(&|number| format!("pg_catalog.unnest(${number})"));
    let columns = list(&|number| format!("{name}_{number}"));
    let rows = format!("ROWS FROM ({unnested}) WITH ORDINALITY AS {name}({columns}, {name}_n)");
    if !as_text.contains(&true) {
        return rows;
    }
    // unnest would flatten arrays of arrays, so an array comes as its text. OFFSET 0 keeps the subquery a subquery: each
    // text is read once for its live query, not once for each row that it is compared with.
    let cast = list(&|number| match as_text[number - 1] {
        true => format!("{name}_{number}::{} AS {name}_{number}", params[number - 1].type_name),
        false => format!("{name}_{number}"),
    });
    format!("(SELECT {cast}, {name}_n FROM {rows} OFFSET 0) AS {name}")
}

fn is_array(param: &ParamType) -> bool {
    // A domain over an array has arrays of its own, which unnest takes apart into values of the domain; so the type that
    // is asked for is an array's own, by its name.
    matches!(param.ty, PgType::Array(_)) && param.type_name.ends_with("[]")
}

/// Returns a name that nothing in the statement begins with: a column of ours must not be what one of its names means.
fn unused_name(sql: &str) -> String {
    let sql = sql.to_lowercase();
    let mut name = NAME.to_owned();
    while sql.contains(&name) {
        name.push('_');
    }
    name
}

/// Returns the operator that matches with a pattern made from a parameter, if there is one.
///
/// With the pattern at hand, the planner makes a range of its beginning, which an index serves; with a column's value it
/// can't.
fn pattern_from_param<'a>(sql: &'a str, tokens: &[Token]) -> Option<&'a str> {
    let is_pattern = |at: usize| {
        let token = &tokens[at];
        ["LIKE", "ILIKE", "SIMILAR"].iter().any(|word| token.is_word(sql, word))
            || token.is_symbol(b'~')
            || (token.is_symbol(b'^')
                && tokens.get(at + 1).is_some_and(|next| next.is_symbol(b'@')))
    };
    let at = (0..tokens.len()).find(|&at| is_pattern(at) && has_param(sql, &tokens[at + 1..]))?;
    Some(&sql[tokens[at].start..tokens[at].end])
}

/// Returns whether the operand that these tokens begin with has a parameter in it.
fn has_param(sql: &str, tokens: &[Token]) -> bool {
    let mut depth = 0_usize;
    for token in tokens {
        match token.kind {
            TokenKind::Param => return true,
            TokenKind::Symbol(b'(' | b'[') => depth += 1,
            TokenKind::Symbol(b')' | b']') if depth == 0 => return false,
            TokenKind::Symbol(b')' | b']') => depth -= 1,
            TokenKind::Symbol(b',') if depth == 0 => return false,
            TokenKind::Word
                if depth == 0 && ENDS_OPERAND.iter().any(|word| token.is_word(sql, word)) =>
            {
                return false;
            }
            _ => {}
        }
    }
    false
}
