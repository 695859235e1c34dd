//! Recorded reads: what functions read, in the index under the live queries that ran them.
//!
//! Each read of a function is a statement with arguments, analysed like any other, and an entry of the index of its own.
//! A change that touches an entry touches the live query that made it. What a function reads is known only after it has
//! run: an answer counts where all its statements were analysed, and their tables published and locked, before its
//! snapshot was asked for. Else they are seen to, and the function is run once more.

use crate::database::{Database, ErrorCode, QueryError, ReadId};
use crate::engine::Engine;
use crate::function::RecordedRead;
use crate::line::Position;
use convoy_query_index::{QueryId, SlotValue, TemplateId};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

/// How many statements all that is read by one function's live queries may have; more are none that come again.
const STATEMENTS_MAX: usize = 256;

/// An entry of the index, beside its arguments.
const ENTRY_BYTES: usize = 256;

/// Who an entry of the index belongs to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner {
    /// The live query.
    pub query: QueryId,
    /// The recorded statement.
    pub template: TemplateId,
}

/// What functions read.
#[derive(Debug, Default)]
pub(crate) struct RecordedReads {
    /// Who the entries of the index belong to that are not live queries themselves.
    owners: BTreeMap<QueryId, Owner>,
    /// The entries of each live query, and what their arguments take.
    entries: BTreeMap<QueryId, (Vec<QueryId>, usize)>,
    /// For each function, the statements that its live queries have read by.
    statements: BTreeMap<TemplateId, BTreeSet<TemplateId>>,
    /// For each such statement, how many functions.
    functions: BTreeMap<TemplateId, usize>,
    /// Live queries that failed because a statement that they read by can't be analysed, and the statement.
    blocked: BTreeMap<QueryId, TemplateId>,
}

/// What has to be done before a function's answer counts.
#[derive(Debug)]
pub(crate) enum NotYet {
    /// Statements are analysed, or tables locked, which takes another run.
    Again,
    /// It can't be live, for this reason.
    Failed(QueryError),
}

impl RecordedReads {
    /// Returns whom an entry of the index belongs to; none where that is a live query itself.
    pub fn owner(&self, entry: QueryId) -> Option<Owner> {
        self.owners.get(&entry).copied()
    }

    /// Returns the statements that a function's live queries have read by.
    pub fn statements_of(&self, function: TemplateId) -> impl Iterator<Item = TemplateId> {
        self.statements.get(&function).into_iter().flatten().copied()
    }

    /// Notes that a function reads by a statement.
    ///
    /// # Errors
    /// Where it reads by too many.
    fn add_statement(
        &mut self,
        function: TemplateId,
        statement: TemplateId,
    ) -> Result<(), QueryError> {
        let statements = self.statements.entry(function).or_default();
        if statements.contains(&statement) {
            return Ok(());
        }
        if statements.len() >= STATEMENTS_MAX {
            return Err(too_many_statements());
        }
        statements.insert(statement);
        *self.functions.entry(statement).or_default() += 1;
        Ok(())
    }

    /// Returns whether some function reads by this statement.
    pub fn is_read_by(&self, statement: TemplateId) -> bool {
        self.functions.contains_key(&statement)
    }

    /// Returns what a live query's entries take.
    pub fn bytes_of(&self, query: QueryId) -> usize {
        self.entries.get(&query).map_or(0, |(entries, bytes)| entries.len() * ENTRY_BYTES + bytes)
    }

    /// Forgets a function; returns the statements that none reads by any more.
    pub fn forget_function(&mut self, function: TemplateId) -> Vec<TemplateId> {
        let mut unused = Vec::new();
        for statement in self.statements.remove(&function).unwrap_or_default() {
            if let Some(count) = self.functions.get_mut(&statement) {
                *count -= 1;
                if *count == 0 {
                    self.functions.remove(&statement);
                    unused.push(statement);
                }
            }
        }
        unused
    }

    /// Returns the live queries that have read by a statement, or would have.
    pub fn owners_of(&self, template: TemplateId) -> BTreeSet<QueryId> {
        let of = self.owners.values().filter(|owner| owner.template == template);
        let blocked = self.blocked.iter().filter(|(_, by)| **by == template);
        of.map(|owner| owner.query).chain(blocked.map(|(query, _)| *query)).collect()
    }
}

impl<D: Database> Engine<D> {
    /// Puts what a function read into the index, in place of what it read before. Returns whether a change has touched it
    /// since. Stages farther on than the first such change do not get this value, as they hoped to.
    ///
    /// # Errors
    /// Where the answer does not count.
    pub(crate) fn record(
        &mut self,
        read: ReadId,
        id: QueryId,
        read_at: Position,
        reads: &[RecordedRead],
    ) -> Result<bool, NotYet> {
        let function = self.queries.get(&id).ok_or(NotYet::Again)?.template;
        let mut entries: Vec<(TemplateId, Arc<[SlotValue]>)> = Vec::with_capacity(reads.len());
        let (mut all_are_known, mut bytes) = (true, 0);
        let mut seen = HashSet::new();
        for recorded in reads {
            let (template, is_new) = self.templates.intern(&recorded.statement);
            // A loop may read the same over and over.
            if !seen.insert((template, &recorded.args)) {
                continue;
            }
            if let Err(error) = self.recorded.add_statement(function, template) {
                self.forget_template_if_idle(template);
                return Err(NotYet::Failed(error));
            }
            self.describe_if_nobody_does(template, is_new);
            if let Some(error) = self.templates.get(template).and_then(|entry| entry.failed.clone())
            {
                self.recorded.blocked.insert(id, template);
                return Err(NotYet::Failed(error));
            }
            let analysed = self.templates.get(template).and_then(|entry| entry.template.clone());
            let (true, Some(analysed)) = (self.is_read_rightly(read, template), analysed) else {
                all_are_known = false;
                continue;
            };
            bytes += recorded.args.iter().flatten().map(|arg| arg.len()).sum::<usize>();
            entries.push((template, analysed.slot_values_or_open(&recorded.args)));
        }
        if !all_are_known {
            return Err(NotYet::Again);
        }
        self.forget_entries(id);
        let head = self.head();
        let is_touched = self.was_touched_between(read_at, head, &entries);
        if is_touched {
            // Nobody knew what would touch it when these were taken down.
            for (position, session) in self.stages_waiting(read, id) {
                if self.was_touched_between(read_at, position, &entries) {
                    self.dissolve_stage(session);
                }
            }
        }
        let mut ids = Vec::with_capacity(entries.len());
        for (template, slots) in entries {
            let entry = self.queries.take_id();
            if self.index.insert(entry, template, slots).is_err() {
                self.queries.give_back(entry);
                return Err(NotYet::Again);
            }
            self.recorded.owners.insert(entry, Owner { query: id, template });
            ids.push(entry);
        }
        self.recorded.entries.insert(id, (ids, bytes));
        Ok(is_touched)
    }

    /// Takes what a live query read out of the index.
    pub(crate) fn forget_entries(&mut self, id: QueryId) {
        self.recorded.blocked.remove(&id);
        let Some((entries, _)) = self.recorded.entries.remove(&id) else { return };
        for entry in entries {
            if self.recorded.owners.remove(&entry).is_some() {
                self.index.remove(entry);
                self.queries.give_back(entry);
            }
        }
    }

    /// Returns whether what was applied behind a point of the line, up to another, touches what was read at the first; also
    /// where that can't be told.
    fn was_touched_between(
        &self,
        read_at: Position,
        up_to: Position,
        entries: &[(TemplateId, Arc<[SlotValue]>)],
    ) -> bool {
        if read_at >= up_to {
            return false;
        }
        entries.iter().any(|(template, slots)| {
            let analysed = self.templates.get(*template).and_then(|entry| entry.template.as_ref());
            let Some(analysed) = analysed else { return true };
            analysed.tables.iter().any(|table| {
                let Some((changes, _)) = self.reads.log.changes_between(read_at, up_to, table.id)
                else {
                    return true;
                };
                let of_table = || {
                    analysed.predicates.iter().filter(|predicate| predicate.relation == table.id)
                };
                changes.iter().any(|change| {
                    self.images_of(change).is_some_and(|images| {
                        let images = images.borrowed();
                        of_table().any(|predicate| predicate.may_be_touched(slots, &images))
                    })
                })
            })
        })
    }

    /// Has those run again who read by a statement that is no longer what it was.
    pub(crate) fn run_again_who_read_by(&mut self, template: TemplateId) {
        for query in self.recorded.owners_of(template) {
            self.forget_entries(query);
            self.detach_reads(query);
            self.make_dirty(query);
        }
    }

    /// Returns whether what a function's live queries read by is analysed, or can't be.
    pub(crate) fn is_what_it_reads_analysed(&self, function: TemplateId) -> bool {
        self.recorded.statements_of(function).all(|statement| {
            self.templates
                .get(statement)
                .is_none_or(|entry| entry.is_current || entry.failed.is_some())
        })
    }
}

fn too_many_statements() -> QueryError {
    let message = format!(
        "the function reads by more than {STATEMENTS_MAX} different statements: let the texts given to ctx.db.raw be few, \
         and what differs be their parameters"
    );
    QueryError::new(ErrorCode::LimitExceeded, message)
}
