//! Precision: how often live queries are woken by row changes, and how often for nothing.
//!
//! A wake-up is one batch of changes taken into a result, or one read that changes asked for, however many they were. It
//! changes the result; or only what is kept for it, and nobody sees: a spare row of a window, a group that LIMIT cuts off;
//! or nothing at all. Where every look-up goes by a key, a range or a boundary, a wake-up for nothing is our own
//! imprecision; where a whole table is watched it is what was to be expected. So the two are counted apart.

use crate::database::Database;
use crate::engine::Engine;
use crate::line::Position;
use crate::live_query::LiveQuery;
use crate::template::QueryTemplate;
use convoy_query_index::{AccessPath, FieldId, OldRows, Predicate, QueryId, TemplateId};

/// Wake-ups of live queries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WakeUps {
    /// All of them.
    pub all: u64,
    /// Those after which the result was what it had been.
    pub for_nothing: u64,
    /// Those of them that changed what is kept for the result.
    pub kept_only: u64,
}

/// What a wake-up may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Versions {
    /// Of the result.
    result: u64,
    /// Of what is kept for it.
    kept: u64,
}

impl Versions {
    pub fn of(query: &LiveQuery) -> Self {
        Versions { result: query.version, kept: query.value.revision() }
    }
}

/// The changes that ask for a result to be read again: where on the line the first and the last of them are that no read
/// has answered yet.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AskedFor {
    first: Position,
    /// The beginning of the line, where no change is, if there are none.
    last: Position,
}

impl AskedFor {
    /// Notes one, at this position.
    pub fn by_change(&mut self, position: Position) {
        if self.last == Position::default() {
            self.first = position;
        }
        self.last = position;
    }

    /// Notes that the result was read at this position. Returns whether any of them asked for that.
    pub fn answered(&mut self, position: Position) -> bool {
        let AskedFor { first, last } = *self;
        if last == Position::default() {
            return false;
        }
        *self = match last > position {
            true => AskedFor { first: first.max(position), last },
            false => AskedFor::default(),
        };
        first <= position
    }
}

impl<D: Database> Engine<D> {
    /// Counts a wake-up of a live query by a batch that was taken into it.
    pub(crate) fn count_batch(&mut self, id: QueryId, before: Versions) {
        let Some(after) = self.queries.get(&id).map(Versions::of) else { return };
        self.count_wake_up(id, before.result == after.result, before.kept != after.kept);
    }

    /// Counts a wake-up of a live query that was read because changes asked for it; what it kept is made anew.
    pub(crate) fn count_read(&mut self, id: QueryId, before: Versions) {
        let Some(after) = self.queries.get(&id).map(Versions::of) else { return };
        self.count_wake_up(id, before.result == after.result, false);
    }

    fn count_wake_up(&mut self, id: QueryId, for_nothing: bool, kept_changed: bool) {
        let Some(query) = self.queries.get(&id) else { return };
        let is_precise = self.templates.get(query.template).is_some_and(|entry| entry.is_precise);
        let counted = match is_precise {
            true => &mut self.counters.precise_wake_ups,
            false => &mut self.counters.whole_table_wake_ups,
        };
        counted.all += 1;
        counted.for_nothing += u64::from(for_nothing);
        counted.kept_only += u64::from(for_nothing && kept_changed);
    }

    /// Returns whether all that a template's live queries read is found by keys, ranges or boundaries.
    pub(crate) fn is_precise(&self, id: TemplateId, template: &QueryTemplate) -> bool {
        let mut predicates = template.predicates.iter().enumerate();
        predicates.all(|(number, predicate)| {
            let table = template.tables.iter().find(|table| table.id == predicate.relation);
            // What the stream leaves out, it can't be looked up by: then any row will do.
            let is_told = |field: FieldId| {
                let column = table.and_then(|table| table.columns.get(usize::from(field.0)));
                // What is read inside of a document is no column.
                column.is_none_or(|column| !column.generated)
            };
            is_looked_up(&self.index.access_path(id, number), &is_told)
                && tells_old_rows(template, predicate)
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

/// Returns whether rows are found by what they hold in fields that the stream tells.
fn is_looked_up(path: &AccessPath, is_told: &dyn Fn(FieldId) -> bool) -> bool {
    match path {
        AccessPath::Any(paths) => paths.iter().all(|path| is_looked_up(path, is_told)),
        AccessPath::All(paths) => paths.iter().any(|path| is_looked_up(path, is_told)),
        // Nulls are no value that tells rows apart.
        AccessPath::Table
        | AccessPath::WideOr
        | AccessPath::IsNull(_)
        | AccessPath::IsNotNull(_) => false,
        AccessPath::Equality(fields) => fields.iter().all(|field| is_told(*field)),
        AccessPath::In(field)
        | AccessPath::Element(field)
        | AccessPath::Range(field)
        | AccessPath::Prefix(field) => is_told(*field),
        AccessPath::Never => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_answers_the_changes_that_it_shows() {
        let mut asked = AskedFor::default();
        assert!(!asked.answered(Position(9)), "nobody asked");
        asked.by_change(Position(3));
        asked.by_change(Position(7));
        assert!(!asked.answered(Position(2)), "it was read before either");
        assert!(asked.answered(Position(5)));
        assert!(asked.answered(Position(7)));
        assert!(!asked.answered(Position(8)));
    }
}
