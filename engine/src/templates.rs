//! Statements on their way to be templates: described by the database, their constants read, analysed.

use crate::analyse::Analysis;
use crate::args::Argument;
use crate::database::{CastId, DescribeId, QueryError};
use crate::session::SessionId;
use crate::statement::Statement;
use crate::template::QueryTemplate;
use convoy_query_index::TemplateId;
use convoy_types::RelationId;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// A subscription that waits for its statement.
#[derive(Debug)]
pub(crate) struct Applicant {
    pub session: SessionId,
    pub sub: Arc<str>,
    pub args: Vec<Option<Argument>>,
}

/// Where an analysis stands.
#[derive(Debug)]
pub(crate) enum Progress {
    /// The database was asked.
    Describing(DescribeId),
    /// Its constants are being read.
    Casting(CastId, Box<Analysis>),
    /// Nothing is under way.
    Idle,
    /// It failed, and will be tried again.
    Waiting,
}

/// A statement and what is known of it.
pub(crate) struct TemplateEntry {
    pub statement: Arc<Statement>,
    pub progress: Progress,
    /// Who waits for the first analysis.
    pub applicants: Vec<Applicant>,
    /// The newest analysis that worked.
    pub template: Option<Arc<QueryTemplate>>,
    /// Whether `template` is what the database says now. Else nothing is read by it.
    pub is_current: bool,
    /// When it became current, in the order of the engine's numbers: a snapshot asked for before may be from before its
    /// tables were published (`docs/postgres.md`, P2).
    pub current_since: u64,
    /// Whether the catalogue changed while it was being described: once more, then.
    pub changed_again: bool,
    /// The relations whose catalogue entries it hangs on, views too.
    pub watched: Vec<RelationId>,
    /// How soon it is tried again if it fails now.
    pub retry_delay: Duration,
    /// Live queries of it.
    pub queries: BTreeSet<convoy_query_index::QueryId>,
}

/// All statements.
#[derive(Default)]
pub(crate) struct Templates {
    by_statement: HashMap<Arc<Statement>, TemplateId>,
    entries: HashMap<TemplateId, TemplateEntry>,
    next: u32,
}

impl Templates {
    pub fn get(&self, id: TemplateId) -> Option<&TemplateEntry> {
        self.entries.get(&id)
    }

    pub fn get_mut(&mut self, id: TemplateId) -> Option<&mut TemplateEntry> {
        self.entries.get_mut(&id)
    }

    pub fn ids(&self) -> Vec<TemplateId> {
        let mut ids: Vec<_> = self.entries.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    pub fn iter(&self) -> impl Iterator<Item = (TemplateId, &TemplateEntry)> {
        self.entries.iter().map(|(id, entry)| (*id, entry))
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns a statement's id, and whether it is new.
    pub fn intern(&mut self, statement: &Arc<Statement>) -> (TemplateId, bool) {
        if let Some(&id) = self.by_statement.get(statement) {
            return (id, false);
        }
        let id = TemplateId(self.next);
        self.next += 1;
        self.by_statement.insert(statement.clone(), id);
        let entry = TemplateEntry {
            statement: statement.clone(),
            progress: Progress::Idle,
            applicants: Vec::new(),
            template: None,
            is_current: false,
            current_since: 0,
            changed_again: false,
            watched: Vec::new(),
            retry_delay: RETRY_DELAY.0,
            queries: BTreeSet::new(),
        };
        self.entries.insert(id, entry);
        (id, true)
    }

    pub fn remove(&mut self, id: TemplateId) -> Option<TemplateEntry> {
        let entry = self.entries.remove(&id)?;
        self.by_statement.remove(&entry.statement);
        Some(entry)
    }

    /// Returns the statement that a describe was for.
    pub fn described(&self, describe: DescribeId) -> Option<TemplateId> {
        let asked = |entry: &TemplateEntry| matches!(entry.progress, Progress::Describing(id) if id == describe);
        self.iter().find(|(_, entry)| asked(entry)).map(|(id, _)| id)
    }

    /// Returns the statement whose constants a cast was for.
    pub fn cast(&self, cast: CastId) -> Option<TemplateId> {
        let asked = |entry: &TemplateEntry| matches!(entry.progress, Progress::Casting(id, _) if id == cast);
        self.iter().find(|(_, entry)| asked(entry)).map(|(id, _)| id)
    }
}

/// How soon a statement that failed is tried again, at first and at most.
pub(crate) const RETRY_DELAY: (Duration, Duration) =
    (Duration::from_millis(250), Duration::from_secs(10));

/// Returns the error of a statement whose parameters are not those given.
pub(crate) fn wrong_argument_count(expected: usize, given: usize) -> QueryError {
    QueryError::new(
        crate::database::ErrorCode::InvalidArgs,
        format!("the statement has {expected} parameters and {given} were given"),
    )
}
