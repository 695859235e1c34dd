//! The analysis: from a statement and what Postgres says about it to a [`QueryTemplate`].
//!
//! It may always say less than is true (a weaker condition, more columns, a refresh where a window would do), never
//! more. Which relations a statement reads is Postgres' word; the parser's tree only refines it, by a walk with an
//! allow-list of nodes, and what the walk does not know falls back to whole tables.

mod batch;
mod clauses;
mod comparand;
mod condition;
mod constants;
mod equal_columns;
mod groups;
mod joins;
pub(crate) mod lexer;
mod outline;
mod predicates;
mod refresh;
mod refusal;
mod repeat;
mod scope;
mod type_name;
mod unheld;
mod walk;
mod window;

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;

use crate::database::{CastRequest, QueryError};
use crate::facts::{StatementFacts, TableFacts, TableKind};
use crate::statement::{Statement, StatementKind};
use crate::template::{Plan, QueryTemplate, ReadStatement};
use clauses::Clauses;
pub(crate) use condition::Pattern;
use constants::Constants;
pub(crate) use constants::is_decimal;
use convoy_query_index::OldRows;
use outline::Outline;
use std::sync::Arc;

/// A statement half analysed: the texts of its conditions' constants are still to be read by their types.
#[derive(Debug)]
pub struct Analysis {
    statement: Arc<Statement>,
    facts: StatementFacts,
    requests: Vec<CastRequest>,
}

/// Begins to analyse a statement.
///
/// # Errors
/// [`ErrorCode::InvalidArgs`](crate::ErrorCode::InvalidArgs) where the statement can't be live: it reads what the WAL
/// does not show, calls a volatile function, or its columns have no names of their own.
pub fn analyse(statement: &Arc<Statement>, facts: &StatementFacts) -> Result<Analysis, QueryError> {
    refusal::check(statement, facts)?;
    let mut constants = Constants::default();
    template(statement, facts, &mut constants)?;
    Ok(Analysis {
        statement: statement.clone(),
        facts: facts.clone(),
        requests: constants.into_requests(),
    })
}

impl Analysis {
    /// Returns the texts that must be read by their types' input functions.
    pub fn constants(&self) -> &[CastRequest] {
        &self.requests
    }

    /// Ends the analysis with what was read: for each of [`constants`](Analysis::constants) its output text, or none
    /// where its type does not take it.
    ///
    /// # Errors
    /// As [`analyse`].
    pub fn finish(self, constants: &[Option<String>]) -> Result<QueryTemplate, QueryError> {
        let mut constants = Constants::answered(self.requests, constants.to_vec());
        template(&self.statement, &self.facts, &mut constants)
    }
}

fn template(
    statement: &Arc<Statement>,
    facts: &StatementFacts,
    constants: &mut Constants,
) -> Result<QueryTemplate, QueryError> {
    let clauses = Clauses::of(&statement.text);
    let parsed = outline::parse(clauses.text);
    let outline = match &parsed {
        Ok(query) => Outline::of(query),
        Err(why) => Err(why.clone()),
    };
    let mut notes = Vec::new();
    let window = match &outline {
        Ok(outline) => window::window(outline, &clauses, facts, constants),
        Err(why) => Err(why.clone()),
    };
    let mut is_walked = true;
    let (plan, mut predicates, slots, derived) = match window {
        Ok(window) => {
            notes.push(format!("{}: kept up to date from its row changes", window.plan.table.name));
            if refresh::stated_key(statement, facts)?.is_some() {
                notes.push("@key is not needed: rows are told apart by the primary key".to_owned());
            }
            (Plan::Window(window.plan), vec![window.predicate], window.slots, window.derived)
        }
        Err(why) => {
            let walked = match &outline {
                Ok(outline) => walk::walk(outline, facts),
                Err(why) => Err(why.clone()),
            };
            is_walked = walked.is_ok();
            let mut of_keys = Vec::new();
            let mut refresh = refresh::refresh(statement, &walked, &clauses, facts, &mut of_keys)?;
            let groups = match &outline {
                Ok(outline) if groups::is_aggregate(outline, facts) => {
                    groups::groups(outline, &clauses, facts, constants, refresh.clone())
                }
                _ => Err(why),
            };
            match groups {
                Ok(groups) => {
                    let name = &groups.plan.table.name;
                    notes.push(format!("{name}: kept up to date from its row changes, by groups"));
                    (
                        Plan::Groups(groups.plan),
                        vec![groups.predicate],
                        groups.slots,
                        groups.derived,
                    )
                }
                Err(why) => {
                    notes.push(format!(
                        "read again on each change that may touch it, because {}",
                        why.0
                    ));
                    let read = predicates::predicates(
                        &walked,
                        &mut refresh,
                        statement,
                        facts,
                        constants,
                        &mut notes,
                    );
                    notes.append(&mut of_keys);
                    (Plan::Refresh(refresh), read.predicates, read.slots, read.derived)
                }
            }
        }
    };
    refusal::warn_of_time(statement, facts, &mut notes);
    let read = |sql: &Arc<str>| {
        Arc::new(ReadStatement {
            sql: sql.clone(),
            param_types: facts.params.iter().map(|param| param.type_oid).collect(),
            batching: batch::batching(sql, statement, facts),
        })
    };
    let audit = repeat::audit(&plan, is_walked, statement, facts);
    let read_unkept = match &plan {
        Plan::Groups(groups) => Some(read(&groups.refresh.sql)),
        Plan::Window(_) | Plan::Refresh(_) => None,
    };
    let read = read(plan.read_sql());
    if statement.kind == StatementKind::Recorded {
        // Nobody holds its rows.
        for predicate in &mut predicates {
            predicate.old_rows = OldRows::Condition;
            predicate.unheld = None;
        }
    }
    Ok(QueryTemplate {
        statement: statement.clone(),
        params: facts.params.clone(),
        columns: facts.columns.clone().into(),
        tables: facts.tables.iter().filter(|table| can_be_locked(table)).cloned().collect(),
        plan,
        predicates,
        slots,
        derived,
        read,
        read_unkept,
        audit,
        notes,
    })
}

/// Returns whether a read should lock the relation: what LOCK TABLE takes, without views and catalogs.
fn can_be_locked(table: &TableFacts) -> bool {
    matches!(table.kind, TableKind::Plain | TableKind::Partitioned | TableKind::Unlogged)
}
