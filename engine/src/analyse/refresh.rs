//! Refresh plans: the SQL that reads a statement's result as JSON, in an order without ties, with what tells its rows
//! apart.
//!
//! The statement's text stays as it is, but for what is added in two places: behind the select list, the hidden columns
//! that tell rows apart; behind ORDER BY, what breaks ties. Where it is not certain what may be added, the statement is
//! wrapped as it is, its rows are ordered by all their values, and told apart by a hash.
//!
//! Where the hidden columns are the primary keys of its tables' rows, they also say which rows those are
//! (`unheld.rs`).

use crate::analyse::clauses::Clauses;
use crate::analyse::lexer::lex;
use crate::analyse::outline::ordinal;
use crate::analyse::scope::{NotUnderstood, Resolved, Scope, folded, not_understood};
use crate::analyse::walk::Walked;
use crate::database::{ErrorCode, QueryError};
use crate::facts::{OutputColumn, StatementFacts, quote_identifier};
use crate::statement::Statement;
use crate::template::{HeldTable, RefreshPlan, RowKeys};
use convoy_types::PgType;
use sqlparser::ast::{Distinct, Expr, GroupByExpr};

/// Types beyond those that we know ourselves that have an order: "char", name, oid, inet, cidr, macaddr, macaddr8,
/// money, timetz, bit, varbit, tsvector, ranges (`pg_type.dat`, `pg_opclass.dat` of PostgreSQL 15).
const ORDERED_OIDS: [u32; 18] = [
    18, 19, 26, 869, 650, 829, 774, 790, 1266, 1560, 1562, 3614, 3904, 3906, 3908, 3910, 3912, 3926,
];

/// What tells the rows of a result apart, and breaks its ties.
struct Rows {
    keys: Vec<KeyColumn>,
    /// Expressions for the end of ORDER BY.
    order: Vec<String>,
    /// The tables whose primary keys the keys are, all of them.
    tables: Vec<HeldTable>,
}

/// One part of a row's key.
enum KeyColumn {
    /// An expression that the statement does not show: a hidden column.
    Hidden(String),
    /// A column of the result, by position.
    Output(usize),
}

/// Returns how a statement is read again.
///
/// # Errors
/// [`ErrorCode::InvalidArgs`] where `@key` names no column of the result.
pub(crate) fn refresh(
    statement: &Statement,
    walked: &Result<Walked<'_>, NotUnderstood>,
    clauses: &Clauses<'_>,
    facts: &StatementFacts,
    notes: &mut Vec<String>,
) -> Result<RefreshPlan, QueryError> {
    let stated = stated_key(statement, facts)?;
    let rows = match walked {
        Ok(walked) => rows(walked, clauses, facts),
        Err(why) => Err(why.clone()),
    };
    let ties = lex(clauses.text).tokens.iter().any(|token| token.is_word(clauses.text, "TIES"));
    match rows {
        Ok(None) => {
            let sql = wrap(&facts.columns, &[], clauses.text, "");
            Ok(RefreshPlan { sql: sql.into(), keys: RowKeys::OneRow, held: Vec::new() })
        }
        Ok(Some(Rows { keys, order, tables })) => {
            let (keys, held) =
                if stated.is_some() { (Vec::new(), Vec::new()) } else { (keys, tables) };
            let mut hidden = String::new();
            let mut shown = Vec::new();
            for (position, key) in keys.iter().enumerate() {
                match key {
                    KeyColumn::Hidden(expression) => {
                        let name = quote_identifier(&hidden_name(&facts.columns, position));
                        hidden.push_str(&format!(", ({expression})::pg_catalog.text AS {name}"));
                        shown.push(format!("q.{name}"));
                    }
                    KeyColumn::Output(position) => {
                        let name = quote_identifier(&facts.columns[*position].name);
                        shown.push(format!("q.{name}::pg_catalog.text"));
                    }
                }
            }
            // More in the ORDER BY would be fewer ties.
            let order = if ties { &[] } else { order.as_slice() };
            let sql = wrap(&facts.columns, &shown, &clauses.with(&hidden, order), "");
            let keys = stated.map_or(RowKeys::Appended(keys.len()), RowKeys::Output);
            Ok(RefreshPlan { sql: sql.into(), keys, held })
        }
        Err(why) => {
            if stated.is_none() {
                notes.push(format!(
                    "rows are told apart by a hash of their values, because {}",
                    why.0
                ));
            }
            let sql = by_values(clauses, &facts.columns, ties);
            let keys = stated.map_or(RowKeys::Hash, RowKeys::Output);
            Ok(RefreshPlan { sql: sql.into(), keys, held: Vec::new() })
        }
    }
}

/// Returns the columns that `@key` names.
pub(super) fn stated_key(
    statement: &Statement,
    facts: &StatementFacts,
) -> Result<Option<Vec<usize>>, QueryError> {
    if statement.directives.key.is_empty() {
        return Ok(None);
    }
    let position = |name: &String| {
        facts.columns.iter().position(|column| column.name == *name).ok_or_else(|| {
            let names = facts
                .columns
                .iter()
                .map(|column| column.name.as_str())
                .collect::<Vec<_>>()
                .join(", ");
            QueryError::new(
                ErrorCode::InvalidArgs,
                format!("@key names {name}, which is no column of the result; there are {names}"),
            )
        })
    };
    statement.directives.key.iter().map(position).collect::<Result<_, _>>().map(Some)
}

/// Says what tells rows apart; none where there is at most one.
fn rows(
    walked: &Walked<'_>,
    clauses: &Clauses<'_>,
    facts: &StatementFacts,
) -> Result<Option<Rows>, NotUnderstood> {
    let [walk] = walked.selects.as_slice() else {
        return not_understood("it joins several SELECTs");
    };
    match &walk.select.distinct {
        None | Some(Distinct::All) => {}
        Some(Distinct::Distinct) => return distinct(facts).map(Some),
        Some(Distinct::On(_)) => return not_understood("it has DISTINCT ON"),
    }
    if walk.rows_uncertain {
        return not_understood("it may give several rows for one row of its tables");
    }
    if walked.outline.has_groups() {
        return groups(&walk.scope, &walk.select.group_by, clauses, facts).map(Some);
    }
    if walk.has_aggregate || walk.select.from.is_empty() {
        return Ok(None);
    }
    if walk.scope.more {
        return not_understood("it does not read from tables alone");
    }
    let (mut columns, mut tables) = (Vec::new(), Vec::new());
    for source in &walk.scope.sources {
        if source.table.primary_key.is_empty() {
            return not_understood(format!("{} has no primary key", source.table.name));
        }
        let key = &source.table.primary_key;
        tables.push(HeldTable {
            relation: source.table.id,
            first: columns.len(),
            types: key.iter().map(|&field| source.table.column(field).ty.clone()).collect(),
        });
        for &field in key {
            columns.push(format!(
                "{}.{}",
                quote_identifier(&source.name),
                quote_identifier(&source.table.column(field).name)
            ));
        }
    }
    Ok(Some(Rows {
        keys: columns.iter().cloned().map(KeyColumn::Hidden).collect(),
        order: columns,
        tables,
    }))
}

/// Says what tells the rows of a DISTINCT apart: all their values, where equal ones mostly look alike, as in groups.
fn distinct(facts: &StatementFacts) -> Result<Rows, NotUnderstood> {
    let is_of_groups =
        |column: &OutputColumn| column.ty.looks_as_it_is() || column.ty == PgType::Numeric;
    if facts.columns.is_empty() || !facts.columns.iter().all(is_of_groups) {
        return not_understood("it has DISTINCT of values that may be equal and look different");
    }
    let positions = 0..facts.columns.len();
    Ok(Rows {
        keys: positions.clone().map(KeyColumn::Output).collect(),
        order: positions.map(|position| (position + 1).to_string()).collect(),
        tables: Vec::new(),
    })
}

/// Says what tells groups apart: the expressions behind GROUP BY.
fn groups(
    scope: &Scope<'_>,
    group_by: &GroupByExpr,
    clauses: &Clauses<'_>,
    facts: &StatementFacts,
) -> Result<Rows, NotUnderstood> {
    let GroupByExpr::Expressions(exprs, _) = group_by else {
        return not_understood("its GROUP BY is no list");
    };
    let texts = clauses.groups();
    if texts.len() != exprs.len() {
        return not_understood("its GROUP BY is not understood");
    }
    let mut rows = Rows { keys: Vec::new(), order: Vec::new(), tables: Vec::new() };
    for (expr, text) in exprs.iter().zip(texts) {
        let mut expr = expr;
        while let Expr::Nested(inner) = expr {
            expr = inner;
        }
        let output = match expr {
            Expr::Value(_) => ordinal(expr),
            // A bare name is first a column of the tables, then of the result (PostgreSQL manual, SELECT, "GROUP BY").
            Expr::Identifier(ident) => {
                let Some(name) = folded(ident) else { return not_understood("a name is too long") };
                match scope.resolve_name(&name) {
                    Resolved::Column(source, field) => {
                        let source = &scope.sources[source];
                        let column = format!(
                            "{}.{}",
                            quote_identifier(&source.name),
                            quote_identifier(&source.table.column(field).name)
                        );
                        rows.keys.push(KeyColumn::Hidden(column.clone()));
                        rows.order.push(column);
                        continue;
                    }
                    Resolved::Elsewhere if !scope.more => {
                        facts.columns.iter().position(|column| column.name == name)
                    }
                    _ => {
                        return not_understood(format!(
                            "it groups by {name}, which may be one of several columns"
                        ));
                    }
                }
            }
            Expr::Tuple(parts) if parts.is_empty() => {
                return not_understood("it groups by nothing");
            }
            _ => {
                rows.keys.push(KeyColumn::Hidden(text.to_owned()));
                rows.order.push(format!("({text})"));
                continue;
            }
        };
        match output.filter(|position| *position < facts.columns.len()) {
            Some(position) => {
                rows.keys.push(KeyColumn::Output(position));
                rows.order.push((position + 1).to_string());
            }
            None => return not_understood("its GROUP BY is not understood"),
        }
    }
    Ok(rows)
}

/// Returns a name that no column of the result has.
fn hidden_name(columns: &[OutputColumn], position: usize) -> String {
    let mut name = format!("convoy_key_{position}");
    while columns.iter().any(|column| column.name == name) {
        name.push('_');
    }
    name
}

/// Wraps a statement so that its columns come as JSON texts, followed by others.
///
/// A plain SELECT from a subquery keeps the subquery's order (seen on 15.18, also with parallel plans).
fn wrap(columns: &[OutputColumn], more: &[String], inner: &str, tail: &str) -> String {
    let mut list = columns
        .iter()
        .map(|column| {
            format!("pg_catalog.to_jsonb(q.{})::pg_catalog.text", quote_identifier(&column.name))
        })
        .collect::<Vec<_>>();
    list.extend(more.iter().cloned());
    format!("SELECT {} FROM ({inner}) AS q{tail}", list.join(", "))
}

/// Wraps a statement whose rows have no keys: ordered by all their values, before LIMIT, behind an order of its own.
fn by_values(clauses: &Clauses<'_>, columns: &[OutputColumn], ties: bool) -> String {
    if clauses.has_order() {
        let ordinals = columns
            .iter()
            .enumerate()
            .filter(|(_, column)| has_order(column))
            .map(|(position, _)| (position + 1).to_string())
            .collect::<Vec<_>>();
        let order = if ties { &[] } else { ordinals.as_slice() };
        return wrap(columns, &[], &clauses.with("", order), "");
    }
    if clauses.text.starts_with('(') && !clauses.is_set_operation {
        // `(SELECT … ORDER BY a) LIMIT 5`: the order is inside.
        return wrap(columns, &[], clauses.text, "");
    }
    let (rows, limit) = clauses.split_limit();
    let order = columns
        .iter()
        .map(|column| {
            let cast = if has_order(column) { "" } else { "::pg_catalog.text" };
            format!("q.{}{cast}", quote_identifier(&column.name))
        })
        .collect::<Vec<_>>();
    let mut tail = String::new();
    if !order.is_empty() {
        tail = format!(" ORDER BY {}", order.join(", "));
    }
    if !limit.is_empty() {
        tail = format!("{tail} {limit}");
    }
    wrap(columns, &[], rows, &tail)
}

/// Returns whether Postgres orders the column's values.
fn has_order(column: &OutputColumn) -> bool {
    let known = |ty: &PgType| *ty != PgType::Other;
    match &column.ty {
        PgType::Array(element) => known(element),
        PgType::Other => ORDERED_OIDS.contains(&column.type_oid),
        _ => true,
    }
}
