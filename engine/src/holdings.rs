//! What the index is told of the rows that results hold: a window's, where the stream has no old rows, and those of a
//! refreshed result's tables.
//!
//! A window takes each change into itself, so what it holds is always known. A refreshed result is known until a change
//! touches it, and again when its next answer is there; in between nobody can say what it will hold.

use crate::database::Database;
use crate::engine::Engine;
use crate::held_rows::HeldRows;
use crate::live_query::{Knowledge, Value};
use crate::template::{Plan, QueryTemplate};
use convoy_query_index::{Holdings, OldRows, QueryId};
use convoy_types::{Key, RelationId};

impl<D: Database> Engine<D> {
    /// Tells the index which rows a result holds.
    pub(crate) fn hold_membership(&mut self, id: QueryId) {
        let Some(template) = self.template_of(id) else { return };
        let Some(query) = self.queries.get(&id) else { return };
        for (table, key) in held_rows(&template, &query.value) {
            self.index.hold(id, table, key);
        }
    }

    /// Takes that back.
    pub(crate) fn release_membership(&mut self, id: QueryId) {
        let Some(template) = self.template_of(id) else { return };
        let Some(query) = self.queries.get(&id) else { return };
        for (table, key) in held_rows(&template, &query.value) {
            self.index.release(id, table, &key);
        }
    }

    /// Tells the index which rows a result holds in place of the one before.
    pub(crate) fn exchange_membership(&mut self, id: QueryId, before: &Value) {
        let Some(template) = self.template_of(id) else { return };
        let Some(query) = self.queries.get(&id) else { return };
        match (before.held(), query.value.held()) {
            (Some(before), Some(after)) if matches!(template.plan, Plan::Refresh(_)) => {
                for (table, key) in before.without(after) {
                    self.index.release(id, table, &key);
                }
                for (table, key) in after.without(before) {
                    self.index.hold(id, table, key);
                }
            }
            _ => {
                for (table, key) in held_rows(&template, before) {
                    self.index.release(id, table, &key);
                }
                self.hold_membership(id);
            }
        }
    }

    /// Tells the index whether it knows which rows a refreshed result holds: while its value at the head is known. What
    /// comes while it is being read must touch it as if it held any row, for nobody can say yet.
    pub(crate) fn tell_holdings(&mut self, id: QueryId) {
        let Some(query) = self.queries.get_mut(&id) else { return };
        let holdings = match (query.knowledge, query.value.held()) {
            (Knowledge::Known, Some(_)) => Holdings::Known,
            _ => Holdings::Unknown,
        };
        if std::mem::replace(&mut query.holdings, holdings) != holdings {
            self.index.set_holdings(id, holdings);
        }
    }
}

/// Returns the rows that the index is told of while this is a result.
fn held_rows<'a>(
    template: &'a QueryTemplate,
    value: &'a Value,
) -> Box<dyn Iterator<Item = (RelationId, Key)> + 'a> {
    match (&template.plan, value) {
        (Plan::Window(plan), Value::Window(window)) if finds_by_membership(template) => {
            Box::new(window.held_keys().map(|key| (plan.table.id, key)))
        }
        (Plan::Refresh(_), value) => Box::new(value.held().into_iter().flat_map(HeldRows::iter)),
        (Plan::Window(_) | Plan::Groups(_), _) => Box::new(std::iter::empty()),
    }
}

/// Returns whether rows that a window holds are found by their keys.
pub(crate) fn finds_by_membership(template: &QueryTemplate) -> bool {
    template.predicates.iter().any(|predicate| predicate.old_rows == OldRows::Membership)
}
