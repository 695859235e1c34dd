//! Whether a statement gives the same result whenever it reads the same rows, so that an audit can compare.

use crate::analyse::lexer::{TokenKind, lex};
use crate::analyse::refusal::{clock, settings};
use crate::facts::{Publication, StatementFacts, TableKind};
use crate::statement::Statement;
use crate::template::{Audit, Plan, RowKeys};
use convoy_types::PgType;

/// Aggregates whose result does not depend on the order of rows, floats left out.
const ORDERLESS: [&str; 10] =
    ["count", "sum", "avg", "min", "max", "bool_and", "bool_or", "every", "bit_and", "bit_or"];

/// Words that take one of several equal values.
const CHOOSES: [&str; 7] = ["DISTINCT", "GROUP", "UNION", "INTERSECT", "EXCEPT", "MIN", "MAX"];

/// Returns how a statement's results may be audited. `is_walked` says whether its syntax is understood.
pub(super) fn audit(
    plan: &Plan,
    is_walked: bool,
    statement: &Statement,
    facts: &StatementFacts,
) -> Audit {
    if !changes_by_writes_alone(statement, facts) {
        return Audit::Never;
    }
    match plan {
        Plan::Window(_) | Plan::Groups(_) => Audit::Strict,
        Plan::Refresh(refresh) if is_walked && repeats(&refresh.keys, statement, facts) => {
            Audit::Strict
        }
        Plan::Refresh(_) => Audit::Lenient,
    }
}

/// Returns whether nothing changes a statement's result but writes that the stream shows.
pub(super) fn changes_by_writes_alone(statement: &Statement, facts: &StatementFacts) -> bool {
    let is_unseen =
        |kind: TableKind, publication| kind != TableKind::View && publication != Publication::Full;
    statement.directives.refresh.is_none()
        && clock(statement, facts).is_none()
        && settings(facts).is_none()
        && !facts.tables.iter().any(|table| is_unseen(table.kind, table.publication))
}

fn repeats(keys: &RowKeys, statement: &Statement, facts: &StatementFacts) -> bool {
    let text = &statement.text;
    let (mut depth, mut chooses, mut picks, mut last_distinct) = (0_usize, false, false, false);
    for token in lex(text).tokens {
        let is = |word: &&str| token.is_word(text, word);
        match token.kind {
            TokenKind::Symbol(b'(') => depth += 1,
            TokenKind::Symbol(b')') => depth = depth.saturating_sub(1),
            TokenKind::Word => {
                chooses |= CHOOSES.iter().any(&is);
                // Any of several rows: the first ones of a subquery, of equals, of a window.
                picks |= depth > 0 && ["LIMIT", "FETCH", "OFFSET"].iter().any(&is);
                picks |= ["OVER", "TIES"].iter().any(&is);
                picks |= last_distinct && is(&"ON");
                last_distinct = is(&"DISTINCT");
            }
            _ => {}
        }
    }
    let has_float = |ty: &PgType| matches!(ty, PgType::Float4 | PgType::Float8);
    let adds_floats = facts
        .functions
        .iter()
        .any(|function| function.aggregate && ["sum", "avg"].contains(&function.name.as_str()))
        && facts
            .tables
            .iter()
            .any(|table| table.columns.iter().any(|column| has_float(&column.ty)));
    let has_order = |ty: &PgType| !matches!(ty, PgType::Other);
    // A collation may take for equal what looks different, of any column that is chosen of.
    let folds = facts
        .tables
        .iter()
        .flat_map(|table| &table.columns)
        .any(|column| column.ty.looks_as_it_is() && !column.ty.has_equality(column.collation));
    let all = |is: &dyn Fn(&PgType) -> bool| facts.columns.iter().all(|column| is(&column.ty));
    let orderless = facts
        .functions
        .iter()
        .all(|function| !function.aggregate || ORDERLESS.contains(&function.name.as_str()));
    !picks
        && orderless
        && !adds_floats
        && (!chooses || (all(&PgType::looks_as_it_is) && !folds))
        && (*keys != RowKeys::Hash || all(&has_order))
}

#[cfg(test)]
mod tests {
    use crate::analyse::fixture::Case;
    use crate::template::Audit;
    use convoy_types::Collation;

    fn audit(sql: &str, collation: Collation) -> Audit {
        let case = Case::new(sql, "label").table("orders", |table| {
            table.columns.iter_mut().for_each(|column| column.collation = collation);
        });
        case.analyse().unwrap_or_else(|error| panic!("{sql}: {error}")).audit
    }

    #[test]
    fn one_of_several_that_count_as_equal_may_be_shown() {
        for (sql, chooses) in [
            ("select label from orders o where exists (select from orders where id = o.id)", false),
            ("select distinct label from orders", true),
            ("select label from orders group by label", true),
        ] {
            assert_eq!(audit(sql, Collation::ByteOrder), Audit::Strict, "{sql}");
            let folded = if chooses { Audit::Lenient } else { Audit::Strict };
            assert_eq!(audit(sql, Collation::Nondeterministic), folded, "{sql}");
        }
    }
}
