//! The predicates of refreshed statements: for each table, which rows and columns matter.

use crate::analyse::condition::ConditionReader;
use crate::analyse::constants::Constants;
use crate::analyse::equal_columns::EqualColumns;
use crate::analyse::joins::Required;
use crate::analyse::scope::NotUnderstood;
use crate::analyse::unheld::{Holder, is_of_others};
use crate::analyse::walk::Walked;
use crate::derived::DerivedField;
use crate::facts::{Publication, StatementFacts, TableFacts, TableKind};
use crate::statement::Statement;
use crate::template::{RefreshPlan, SlotSpec};
use convoy_query_index::{Condition, OldRows, Predicate, Unheld};
use std::sync::Arc;

/// What a refreshed statement reads.
#[derive(Debug, Default)]
pub(crate) struct Read {
    pub(crate) predicates: Vec<Predicate>,
    pub(crate) slots: Vec<SlotSpec>,
    pub(crate) derived: Vec<DerivedField>,
}

/// Returns a statement's predicates, one or more for each table that the stream shows. Leaves of the plan's held tables
/// those whose held rows the predicates ask for.
pub(crate) fn predicates(
    walked: &Result<Walked<'_>, NotUnderstood>,
    refresh: &mut RefreshPlan,
    statement: &Statement,
    facts: &StatementFacts,
    constants: &mut Constants,
    notes: &mut Vec<String>,
) -> Read {
    let tables_of_keys = std::mem::take(&mut refresh.held);
    let streamed = || facts.tables.iter().filter(|table| is_streamed(table));
    let all_whole = |why: &str, notes: &mut Vec<String>| {
        let predicates = streamed().map(whole).collect::<Vec<_>>();
        for table in streamed() {
            notes.push(format!("{}: whole table, because {why}", table.name));
        }
        Read { predicates, ..Read::default() }
    };
    let walked = match walked {
        Ok(walked) => walked,
        Err(why) => return all_whole(&why.0, notes),
    };
    if let Err(why) = check_relations(walked, statement, facts) {
        return all_whole(&why, notes);
    }

    let mut read = Read::default();
    let holder = Holder::of(walked, &tables_of_keys, statement, facts);
    for table in streamed() {
        let name = &table.name;
        if walked.inner.contains(&table.id) {
            notes.push(format!(
                "{name}: whole table, because the conditions of subqueries are not analysed"
            ));
            read.predicates.push(whole(table));
            continue;
        }
        if is_depended_on(statement, table) {
            notes.push(format!("{name}: whole table, because @depends names it"));
            read.predicates.push(whole(table));
            continue;
        }
        for select in &walked.selects {
            for (position, source) in select.scope.sources.iter().enumerate() {
                if source.table.id != table.id {
                    continue;
                }
                let equal = EqualColumns::of(&select.scope, position);
                let (scope, columns) = (&select.scope, &equal.columns);
                let mut reader =
                    ConditionReader::new(scope, columns, facts, constants, &mut read.slots)
                        .with_derived(&mut read.derived);
                let mut conditions = Vec::new();
                let mut left_out = false;
                let mut is_of_another = false;
                for requirement in &equal.requirements {
                    is_of_another |= is_of_others(&requirement.what);
                    let Required::Holds(expr, visible) = &requirement.what else { continue };
                    reader.visible = visible.clone();
                    match reader.read(expr) {
                        Condition::Unknown => left_out = true,
                        condition if conditions.contains(&condition) => {}
                        condition => conditions.push(condition),
                    }
                }
                let mut fields = select.fields[position].clone();
                // They order the rows and tell them apart.
                fields.union_with(&table.primary_key.iter().copied().collect());
                if table.row_security {
                    // Policies look at columns that the statement does not mention.
                    fields = table.fields();
                }
                notes.push(match (conditions.is_empty(), left_out) {
                    (true, _) => format!("{name}: any row, and the columns that are mentioned"),
                    (false, true) => format!(
                        "{name}: rows by those conditions that compare its columns with values"
                    ),
                    (false, false) => format!("{name}: rows by its conditions"),
                });
                let unheld = holder.as_ref().and_then(|holder| {
                    holder.unheld(position, &conditions, left_out || is_of_another)
                });
                if unheld.is_some() {
                    refresh.held.extend(tables_of_keys.get(position).cloned());
                }
                let condition = Condition::And(conditions);
                notes.extend(note_of_old_rows(table, &condition, unheld.as_ref()));
                read.predicates.push(Predicate {
                    relation: table.id,
                    condition,
                    fields,
                    old_rows: OldRows::Condition,
                    unheld,
                });
            }
        }
    }
    read
}

/// Says what the stream would have to tell for fewer changes to touch the statement.
fn note_of_old_rows(
    table: &TableFacts,
    condition: &Condition,
    unheld: Option<&Unheld>,
) -> Option<String> {
    let what = match unheld {
        Some(unheld) if !unheld.deletes_matter => {
            (!table.tells_old(&unheld.decided_by)).then_some("any UPDATE may touch it")
        }
        _ => (!table.tells_old(&condition.fields())).then_some("any UPDATE or DELETE may touch it"),
    };
    let what = what.filter(|_| table.publication == Publication::Full)?;
    Some(format!(
        "{}: {what}, because the stream does not tell what rows were before; with ALTER TABLE {} REPLICA IDENTITY FULL \
         it would",
        table.name,
        table.qualified_name()
    ))
}

/// Says why the tables of the tree can't be taken for all that is read.
fn check_relations(
    walked: &Walked<'_>,
    statement: &Statement,
    facts: &StatementFacts,
) -> Result<(), String> {
    if let Some(view) = facts.tables.iter().find(|table| table.kind == TableKind::View) {
        return Err(format!("what the view {} does with its tables is not analysed", view.name));
    }
    if facts.tables.len() > 1
        && let Some(table) = facts.tables.iter().find(|table| table.row_security)
    {
        return Err(format!("policies of {} may read other tables", table.name));
    }
    for table in &facts.tables {
        let outermost = walked
            .selects
            .iter()
            .flat_map(|select| &select.scope.sources)
            .any(|source| source.table.id == table.id);
        if !outermost && !walked.inner.contains(&table.id) && !is_depended_on(statement, table) {
            return Err(format!(
                "Postgres reads {}, which the statement does not name",
                table.name
            ));
        }
    }
    Ok(())
}

fn is_depended_on(statement: &Statement, table: &TableFacts) -> bool {
    statement.directives.depends.iter().any(|name| {
        // The least strict reading: a name too many costs a refresh, one too few an update.
        let last = name.rsplit('.').next().unwrap_or(name).trim().trim_matches('"');
        last.eq_ignore_ascii_case(&table.name)
    })
}

fn is_streamed(table: &TableFacts) -> bool {
    matches!(table.kind, TableKind::Plain | TableKind::Partitioned)
        && table.publication != Publication::None
}

fn whole(table: &Arc<TableFacts>) -> Predicate {
    Predicate {
        relation: table.id,
        condition: Condition::always(),
        fields: table.fields(),
        old_rows: OldRows::Condition,
        unheld: None,
    }
}
