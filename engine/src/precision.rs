//! Precision: how often live queries are woken by row changes, and how often for nothing.
//!
//! A wake-up is one batch of changes taken into a result, or one read that changes asked for, however many they were.
//! Where every look-up goes by a key, a range or a boundary, a wake-up for nothing is our own imprecision; where a whole
//! table is watched it is what was to be expected. So the two are counted apart.

use crate::database::Database;
use crate::engine::Engine;
use crate::template::QueryTemplate;
use convoy_query_index::{AccessPath, OldRows, Predicate, QueryId, TemplateId};

/// Wake-ups of live queries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WakeUps {
    /// All of them.
    pub all: u64,
    /// Those after which the result was what it had been.
    pub for_nothing: u64,
}

impl<D: Database> Engine<D> {
    /// Counts a wake-up of a live query whose result was at this version before.
    pub(crate) fn count_wake_up(&mut self, id: QueryId, version_before: u64) {
        let Some(query) = self.queries.get(&id) else { return };
        let is_precise = self.templates.get(query.template).is_some_and(|entry| entry.is_precise);
        let counted = match is_precise {
            true => &mut self.counters.precise_wake_ups,
            false => &mut self.counters.whole_table_wake_ups,
        };
        counted.all += 1;
        counted.for_nothing += u64::from(query.version == version_before);
    }

    /// Returns whether all that a template's live queries read is found by keys, ranges or boundaries.
    pub(crate) fn is_precise(&self, id: TemplateId, template: &QueryTemplate) -> bool {
        let mut predicates = template.predicates.iter().enumerate();
        predicates.all(|(number, predicate)| {
            is_looked_up(&self.index.access_path(id, number)) && tells_old_rows(template, predicate)
        })
    }
}

/// Returns whether a row that goes tells what is looked up. If it does not, it touches whatever it may have been in, unless
/// who holds it is known.
fn tells_old_rows(template: &QueryTemplate, predicate: &Predicate) -> bool {
    let table = template.tables.iter().find(|table| table.id == predicate.relation);
    predicate.old_rows == OldRows::Membership
        || table.is_some_and(|table| table.tells_old(&predicate.condition.fields()))
}

fn is_looked_up(path: &AccessPath) -> bool {
    match path {
        AccessPath::Any(paths) => paths.iter().all(is_looked_up),
        AccessPath::All(paths) => paths.iter().any(is_looked_up),
        // Nulls are no value that tells rows apart.
        AccessPath::Table
        | AccessPath::WideOr
        | AccessPath::IsNull(_)
        | AccessPath::IsNotNull(_) => false,
        AccessPath::Equality(_)
        | AccessPath::In(_)
        | AccessPath::Element(_)
        | AccessPath::Range(_)
        | AccessPath::Prefix(_)
        | AccessPath::Never => true,
    }
}
