//! Which changes of rows that a result does not hold can't matter to it.
//!
//! A row of the result comes from a *combination*: one row of each of the FROM's tables, or nulls where an outer join
//! found none. Where the result has a row for each combination that its conditions let through, and shows each one's
//! primary keys, it says which rows of a table are in it: those it *holds*. What is said here of a table is said of each
//! place where it stands in the FROM; a row counts as held if it is held in one of them.
//!
//! **An update** of a row that is not held can't matter if it leaves alone each column by which combinations are let
//! through: those of WHERE and of every join's condition, and the primary key. Then the same combinations are let
//! through as before, the row is in none of them, and those that it is in show nothing. With a LIMIT or an OFFSET, which
//! let combinations through by their number, the columns of ORDER BY count as well.
//!
//! **A delete** of a row that is not held takes away combinations that were not let through. It can't matter unless it
//! brings others:
//!
//! - Where an outer join may make its table null, the row may have been the only match of another one, which comes back
//!   with nulls. If nothing further out looks at what is null then, neither the WHERE nor another join's condition, then
//!   that combination is let through no more than the row's was. If a condition is never true of those nulls, it is in no
//!   result either (`joins.rs` takes such a join for an inner one). Else it may matter.
//! - With an OFFSET those behind move up.
//! - With a LIMIT the row's combination may be behind the last that is let through, and the one with nulls stand before
//!   it: so it may matter wherever its table may be null. Of a table that can't be, what is behind the last is missed by
//!   nobody.
//!
//! **An insert** always may matter, and so does what the stream does not tell: an update of which it is not known what it
//! changed (under `REPLICA IDENTITY DEFAULT` all but the key may have changed), a change without the row's primary key.
//!
//! Changes are looked at one by one, also those of one transaction. That is enough: each one that can't matter leaves
//! the let through combinations as they are, and so the held rows, for the next one.
//!
//! None of this holds where rows are grouped, made distinct, numbered by window functions, multiplied by functions, or
//! come from several SELECTs, subqueries or views; nor where the result changes without a write that is seen (a clock, a
//! function of the user's own, a table that is not in the log), for then it is not known what it holds; nor where
//! policies look at rows. Tables in subqueries are read as a whole anyway.
//!
//! The keys cost memory, so they are asked for only where the row's own values say too little: where the conditions
//! leave something to the rows that it is joined with and don't tell live queries apart by an argument, or where rows are
//! counted off.

use crate::analyse::joins::Required;
use crate::analyse::outline::Outline;
use crate::analyse::repeat::changes_by_writes_alone;
use crate::analyse::walk::{Walked, WalkedSelect};
use crate::facts::{Publication, StatementFacts, TableFacts, TableKind};
use crate::statement::Statement;
use crate::template::HeldTable;
use convoy_query_index::{CompareOp, Condition, Operand, Unheld};
use convoy_types::{PgType, ReplicaIdentity};

/// The one SELECT of a statement whose result says which rows it holds.
pub(crate) struct Holder<'a> {
    outline: &'a Outline<'a>,
    select: &'a WalkedSelect<'a>,
}

impl<'a> Holder<'a> {
    /// Returns the statement's SELECT, where its rows are combinations and show their keys: those of `tables`, then, in the
    /// order of its FROM.
    pub(crate) fn of(
        walked: &'a Walked<'a>,
        tables: &[HeldTable],
        statement: &Statement,
        facts: &StatementFacts,
    ) -> Option<Self> {
        let [select] = walked.selects.as_slice() else { return None };
        // There are none where rows are not combinations of tables' rows.
        let shows_keys = tables.len() == select.scope.sources.len();
        let is_known = changes_by_writes_alone(statement, facts)
            && facts.functions.iter().all(|function| function.namespace == "pg_catalog")
            && facts.tables.iter().all(|table| !table.row_security);
        let are_combinations =
            !select.has_window && !select.scope.more && !select.scope.merges_unknown;
        (shows_keys && is_known && are_combinations)
            .then_some(Holder { outline: walked.outline, select })
    }

    /// Returns what can't matter of rows that are not held in one place of the FROM; none where that is not worth knowing,
    /// or nothing. `conditions` are those that are known of the row itself; `is_left_out` says whether others are not.
    pub(crate) fn unheld(
        &self,
        position: usize,
        conditions: &[Condition],
        is_left_out: bool,
    ) -> Option<Unheld> {
        let source = self.select.scope.sources.get(position)?;
        let counts_rows = self.outline.counts_rows();
        let is_told = !is_left_out || conditions.iter().any(tells_queries_apart);
        if !tells_its_key(source.table) || (is_told && !counts_rows) {
            return None;
        }
        let deletes_matter = self.outline.has_offset()
            || source.nulled.iter().any(|nulled| nulled.is_looked_at || counts_rows);
        let mut decided_by = self.select.deciding.get(position)?.clone();
        decided_by.union_with(&source.table.key_fields());
        let mentioned = self.select.fields.get(position)?;
        let updates_matter = mentioned.iter().all(|field| decided_by.contains(field));
        (!updates_matter || !deletes_matter).then_some(Unheld { decided_by, deletes_matter })
    }
}

/// Returns whether something is required that a row's own values don't tell.
pub(crate) fn is_of_others(required: &Required<'_>) -> bool {
    match required {
        Required::Holds(..) => false,
        Required::Equal(..) | Required::Unclear => true,
    }
}

/// Returns whether the stream tells the primary key of each row that is updated or deleted, and results show it.
fn tells_its_key(table: &TableFacts) -> bool {
    let is_plain = match table.kind {
        TableKind::Plain => table.leaves.is_empty(),
        TableKind::Partitioned => true,
        TableKind::Unlogged
        | TableKind::Temporary
        | TableKind::Foreign
        | TableKind::MaterializedView
        | TableKind::Sequence
        | TableKind::Catalog
        | TableKind::View => false,
    };
    let has_key = |ty: &PgType| !matches!(ty, PgType::Jsonb | PgType::Array(_) | PgType::Other);
    is_plain
        && table.publication == Publication::Full
        && matches!(table.identity, ReplicaIdentity::Default | ReplicaIdentity::Full)
        && !table.primary_key.is_empty()
        && table.primary_key.iter().all(|field| has_key(&table.column(*field).ty))
}

/// Returns whether live queries with other arguments don't meet the condition with the same rows.
fn tells_queries_apart(condition: &Condition) -> bool {
    let is_slot = |operand: &Operand| matches!(operand, Operand::Slot(_));
    match condition {
        Condition::Compare { op: CompareOp::Eq, operand, .. }
        | Condition::HasElement { operand, .. } => is_slot(operand),
        Condition::In { operands, .. } => operands.iter().all(is_slot),
        _ => false,
    }
}
