//! Why a live query fired: the last changes that touched it, what was done about each, and how long that took.

use crate::database::Database;
use crate::engine::Engine;
use crate::line::Position;
use crate::template::QueryTemplate;
use convoy_query_index::{
    FieldId, FieldValue, Predicate, QueryId, QueryIndex, RowImages, SlotId, SlotValue, TemplateId,
    Truth, Unheld,
};
use convoy_types::{Lsn, PgTimestamp, RelationId};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A change that touched a live query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WhyEntry {
    /// Where the transaction's commit record ends.
    pub lsn: Lsn,
    /// When it committed, by the database's clock.
    pub committed_at: PgTimestamp,
    /// When the engine received it.
    pub received_at: Instant,
    /// The table, with its schema.
    pub table: String,
    /// The row's key, where it has one and the change is known by its row.
    pub key: Option<String>,
    /// The condition that the row met or may have met, as SQL would write it.
    pub predicate: String,
    /// What was done.
    pub action: WhyAction,
    /// From when it was received until it was applied: a snapshot was on its way, or a synchronous standby.
    pub waited: Duration,
    /// From then until the result with it was known; none where it is not yet.
    pub maintained: Option<Duration>,
    /// From then until it was put into a transition; none where it changed nothing, or was not yet.
    pub told: Option<Duration>,
}

/// What was done about a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhyAction {
    /// The change was taken into the result.
    Diff,
    /// The result is read again.
    Refresh(RefreshReason),
}

/// Why a result is read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefreshReason {
    /// Its plan is to be read again.
    Plan,
    /// The change could not be taken into the result: too few rows were left, or the log left a value out.
    Refill,
    /// The change is known by its table alone: TRUNCATE, or a transaction past its budget.
    TableAlone,
}

impl RefreshReason {
    /// Returns the reason in words.
    pub fn describe(self) -> &'static str {
        match self {
            RefreshReason::Plan => "its plan reads it again at each change that may touch it",
            RefreshReason::Refill => {
                "too few spare rows were left, or the log left out a value that is needed"
            }
            RefreshReason::TableAlone => {
                "the change is known by its table alone: a TRUNCATE, or a transaction past its budget"
            }
        }
    }
}

/// A change, shared by all that it touched.
#[derive(Debug)]
pub(crate) struct Cause {
    pub lsn: Lsn,
    pub committed_at: PgTimestamp,
    pub received_at: Instant,
    pub applied_at: Instant,
    /// The point of the line that it led to.
    pub position: Position,
    pub relation: RelationId,
    pub key: Option<Box<str>>,
}

/// The predicate that a change met, or may have met.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Met {
    /// Of this template: the live query's, or that of what its function read.
    pub template: TemplateId,
    /// Its number there.
    pub predicate: u16,
}

#[derive(Debug)]
struct Touch {
    cause: Arc<Cause>,
    met: Met,
    action: WhyAction,
    known_at: Option<Instant>,
    told_at: Option<Instant>,
}

/// The last changes that touched one live query, the oldest first. Nothing until there is one.
#[derive(Debug, Default)]
#[expect(
    clippy::box_collection,
    reason = "most live queries have none, and a pointer is less than a list"
)]
pub(crate) struct Touches(Option<Box<VecDeque<Touch>>>);

impl Touches {
    fn iter(&self) -> impl Iterator<Item = &Touch> {
        self.0.iter().flat_map(|touches| touches.iter())
    }

    fn iter_mut(&mut self) -> impl Iterator<Item = &mut Touch> {
        self.0.iter_mut().flat_map(|touches| touches.iter_mut())
    }

    /// Notes a change, and forgets the oldest where there are too many.
    pub fn note(&mut self, cause: &Arc<Cause>, met: Met, action: WhyAction, max: usize) {
        if max == 0 {
            return;
        }
        let touches = self.0.get_or_insert_default();
        if touches.len() >= max {
            touches.pop_front();
        }
        let cause = cause.clone();
        touches.push_back(Touch { cause, met, action, known_at: None, told_at: None });
    }

    /// Notes that what was to be taken into the result is read again instead.
    pub fn refilled(&mut self) {
        for touch in self.iter_mut().filter(|touch| touch.known_at.is_none()) {
            if touch.action == WhyAction::Diff {
                touch.action = WhyAction::Refresh(RefreshReason::Refill);
            }
        }
    }

    /// Notes that the result is known at a point of the line.
    pub fn known(&mut self, now: Instant, at: Position) {
        let is_news = |touch: &&mut Touch| touch.cause.position <= at && touch.known_at.is_none();
        for touch in self.iter_mut().filter(is_news) {
            touch.known_at = Some(now);
        }
    }

    /// Notes that somebody is told what is known.
    pub fn told(&mut self, now: Instant) {
        let is_news = |touch: &&mut Touch| touch.known_at.is_some() && touch.told_at.is_none();
        for touch in self.iter_mut().filter(is_news) {
            touch.told_at = Some(now);
        }
    }
}

impl<D: Database> Engine<D> {
    /// Returns the last changes that touched a live query, the oldest first; none where there is no such query.
    pub fn why(&self, id: QueryId) -> Option<Vec<WhyEntry>> {
        let query = self.queries.get(&id)?;
        let entry = |touch: &Touch| {
            let cause = &touch.cause;
            let entry = self.templates.get(touch.met.template);
            let template = entry.and_then(|entry| entry.template.as_deref());
            let table = |template: &QueryTemplate| {
                let found = template.tables.iter().find(|table| table.id == cause.relation);
                found.map(|table| table.qualified_name())
            };
            WhyEntry {
                lsn: cause.lsn,
                committed_at: cause.committed_at,
                received_at: cause.received_at,
                table: template.and_then(table).unwrap_or_default(),
                key: cause.key.as_deref().map(str::to_owned),
                predicate: template
                    .map(|template| template.describe_predicate(usize::from(touch.met.predicate)))
                    .unwrap_or_default(),
                action: touch.action,
                waited: cause.applied_at - cause.received_at,
                maintained: touch.known_at.map(|known| known - cause.applied_at),
                told: touch.told_at.zip(touch.known_at).map(|(told, known)| told - known),
            }
        };
        Some(query.why.iter().map(entry).collect())
    }
}

impl QueryTemplate {
    /// Returns the condition of one of the predicates, as SQL would write it.
    pub fn describe_predicate(&self, number: usize) -> String {
        let Some(predicate) = self.predicates.get(number) else { return String::new() };
        let field_name = |field: FieldId| self.field_name(predicate.relation, field);
        let slot_name = |slot: SlotId| match self.slots.get(usize::from(slot.0)) {
            Some(spec) => format!("${}", spec.param + 1),
            // Behind those of the parameters.
            None => "the last row's".to_owned(),
        };
        predicate.condition.describe(&field_name, &slot_name)
    }

    /// Returns which changes of one of the predicates' tables count only for rows that the result holds, if any do.
    pub fn describe_unheld(&self, number: usize) -> Option<String> {
        let predicate = self.predicates.get(number)?;
        let field_name = |field: FieldId| self.field_name(predicate.relation, field);
        Some(predicate.unheld.as_ref()?.describe(&predicate.fields, &field_name))
    }

    /// Returns how the index finds the live queries of each predicate to begin with: by what the statement says. Many live
    /// queries may speak for another way.
    pub fn describe_access(&self) -> Vec<String> {
        let mut index = QueryIndex::new();
        // An empty index takes any template.
        let _ = index.add_template(TemplateId(0), self.predicates.clone());
        self.describe_access_in(&index, TemplateId(0))
    }

    /// Returns how an index that has the template's live queries finds them at present, for each predicate.
    pub(crate) fn describe_access_in(&self, index: &QueryIndex, id: TemplateId) -> Vec<String> {
        let describe = |(number, predicate): (usize, &Predicate)| {
            let field_name = |field: FieldId| self.field_name(predicate.relation, field);
            index.access_path(id, number).describe(&field_name)
        };
        self.predicates.iter().enumerate().map(describe).collect()
    }

    /// Returns the number of the predicate that a change meets, or may meet: of several on one table the first. `holds`
    /// says whether the result holds the row.
    pub(crate) fn predicate_met(
        &self,
        slots: &[SlotValue],
        images: &RowImages<'_>,
        holds: impl FnOnce() -> bool,
    ) -> u16 {
        let of_table = || {
            let all = self.predicates.iter().enumerate();
            all.filter(|(_, predicate)| predicate.relation == images.relation)
        };
        let may_meet = |row: Option<&[FieldValue]>, predicate: &Predicate| {
            row.is_some_and(|row| {
                let truth = predicate.condition.eval(row, slots);
                matches!(truth, Truth::True | Truth::Unknown)
            })
        };
        let mut numbers = of_table().map(|(number, _)| number);
        let first = numbers.next().unwrap_or(0);
        // Mostly there is one, and nothing to find out.
        let met = match numbers.next() {
            None => first,
            Some(_) => {
                let holds = holds();
                let mut met = of_table().filter(|(_, predicate)| {
                    let is_spared = |unheld: &Unheld| !holds && unheld.spares(images);
                    !predicate.unheld.as_ref().is_some_and(is_spared)
                        && (may_meet(images.new, predicate) || may_meet(images.old, predicate))
                });
                met.next().map_or(first, |(number, _)| number)
            }
        };
        u16::try_from(met).unwrap_or(u16::MAX)
    }
}
