//! Statements on their way to be templates: described by the database, their constants read, analysed; and again when
//! the catalogue changes.

use crate::analyse::{Analysis, analyse};
use crate::args::Argument;
use crate::database::{CastId, Database, DescribeId, Described, ErrorCode, QueryError};
use crate::engine::Engine;
use crate::facts::TableFacts;
use crate::function;
use crate::session::SessionId;
use crate::statement::{Statement, StatementKind};
use crate::subscribe::internal;
use crate::template::QueryTemplate;
use convoy_query_index::TemplateId;
use convoy_types::RelationId;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tracing::{debug, info};

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
    /// Whether its live queries are found by keys, ranges or boundaries, and never by a whole table.
    pub is_precise: bool,
    /// When it became current, in the order of the engine's numbers: a snapshot asked for before may be from before its
    /// tables were published (`docs/postgres.md`, P2).
    pub current_since: u64,
    /// Whether the catalogue changed while it was being described: once more, then.
    pub changed_again: bool,
    /// The relations whose catalogue entries it hangs on, views too.
    pub watched: Vec<RelationId>,
    /// How soon it is tried again if it fails now.
    pub retry_delay: Duration,
    /// Why the database could not be asked of it lately.
    pub away: Option<QueryError>,
    /// Why its last analysis failed; none once one works.
    pub failed: Option<QueryError>,
    /// Live queries of it.
    pub queries: BTreeSet<convoy_query_index::QueryId>,
}

/// All statements.
#[derive(Default)]
pub(crate) struct Templates {
    by_statement: HashMap<Arc<Statement>, TemplateId>,
    entries: HashMap<TemplateId, TemplateEntry>,
    next: u32,
    memory_bytes: usize,
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

    /// Returns what they take, in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// Returns a statement's id, where it is known.
    pub fn id_of(&self, statement: &Statement) -> Option<TemplateId> {
        self.by_statement.get(statement).copied()
    }

    /// Returns a statement's id, and whether it is new.
    pub fn intern(&mut self, statement: &Arc<Statement>) -> (TemplateId, bool) {
        if let Some(id) = self.id_of(statement) {
            return (id, false);
        }
        let id = TemplateId(self.next);
        self.next += 1;
        self.memory_bytes += statement.memory_bytes();
        self.by_statement.insert(statement.clone(), id);
        let entry = TemplateEntry {
            statement: statement.clone(),
            progress: Progress::Idle,
            applicants: Vec::new(),
            template: None,
            is_current: false,
            is_precise: false,
            current_since: 0,
            changed_again: false,
            watched: Vec::new(),
            retry_delay: RETRY_DELAY.0,
            away: None,
            failed: None,
            queries: BTreeSet::new(),
        };
        self.entries.insert(id, entry);
        (id, true)
    }

    pub fn remove(&mut self, id: TemplateId) -> Option<TemplateEntry> {
        let entry = self.entries.remove(&id)?;
        self.by_statement.remove(&entry.statement);
        self.memory_bytes -= entry.statement.memory_bytes();
        Some(entry)
    }

    /// Returns, for each who waits for a statement of which the database can't be asked, why that is so.
    pub fn why_applicants_wait(&self) -> HashMap<(SessionId, Arc<str>), QueryError> {
        let waiting = self.iter().filter_map(|(_, entry)| Some((entry, entry.away.as_ref()?)));
        let whys = waiting.flat_map(|(entry, error)| {
            let why = move |one: &Applicant| ((one.session, one.sub.clone()), error.clone());
            entry.applicants.iter().map(why)
        });
        whys.collect()
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

impl<D: Database> Engine<D> {
    /// Asks the database about a statement that is not current and that nobody asks about.
    pub(crate) fn describe_if_nobody_does(&mut self, id: TemplateId, is_new: bool) {
        let is_left =
            |entry: &TemplateEntry| !entry.is_current && matches!(entry.progress, Progress::Idle);
        if is_new || self.templates.get(id).is_some_and(is_left) {
            self.describe(id);
        }
    }

    /// Asks the database about a statement.
    fn describe(&mut self, id: TemplateId) {
        let describe = self.next_describe_id();
        let Some(entry) = self.templates.get_mut(id) else { return };
        if entry.statement.kind == StatementKind::Function {
            // What it reads is seen when it runs.
            let template = Arc::new(function::template(&entry.statement));
            return self.take_template(id, template);
        }
        entry.progress = Progress::Describing(describe);
        entry.changed_again = false;
        self.database.describe(describe, &entry.statement);
    }

    pub(crate) fn described(&mut self, describe: DescribeId, described: Described) {
        let Some(id) = self.templates.described(describe) else { return };
        let cast = self.next_cast_id();
        let Some(entry) = self.templates.get_mut(id) else { return };
        let analysis = described.and_then(|facts| {
            entry.watched = facts.tables.iter().map(|table| table.id).collect();
            analyse(&entry.statement, &facts)
        });
        match analysis {
            Err(error) => self.analysis_failed(id, &error),
            Ok(analysis) if analysis.constants().is_empty() => {
                self.finish_analysis(id, analysis, &[])
            }
            Ok(analysis) => {
                self.database.cast(cast, analysis.constants().to_vec());
                entry.progress = Progress::Casting(cast, Box::new(analysis));
            }
        }
    }

    /// Takes the constants of a statement's conditions.
    pub(crate) fn constants_read(
        &mut self,
        id: TemplateId,
        values: Vec<Result<Option<String>, QueryError>>,
    ) {
        let Some(entry) = self.templates.get_mut(id) else { return };
        if let Progress::Casting(_, analysis) =
            std::mem::replace(&mut entry.progress, Progress::Idle)
        {
            let constants: Vec<_> = values.into_iter().map(|value| value.ok().flatten()).collect();
            self.finish_analysis(id, *analysis, &constants);
        }
    }

    fn finish_analysis(
        &mut self,
        id: TemplateId,
        analysis: Analysis,
        constants: &[Option<String>],
    ) {
        let finished = analysis.finish(constants).and_then(|mut template| {
            self.derived.adopt(id, &mut template)?;
            Ok(Arc::new(template))
        });
        match finished {
            Ok(template) => self.take_template(id, template),
            Err(error) => self.analysis_failed(id, &error),
        }
    }

    /// Takes what a statement was found to be.
    fn take_template(&mut self, id: TemplateId, template: Arc<QueryTemplate>) {
        // By the template that they were held by.
        let queries = self.templates.get(id).map(|entry| entry.queries.iter().copied().collect());
        let queries: Vec<_> = queries.unwrap_or_default();
        for &query in &queries {
            self.release_membership(query);
        }
        let number = self.next_number();
        let Some(entry) = self.templates.get_mut(id) else { return };
        let name = entry.statement.name.as_deref().unwrap_or("ad hoc");
        debug!(statement = name, incremental = template.plan.is_incremental(), "analysed");
        entry.progress = Progress::Idle;
        entry.retry_delay = RETRY_DELAY.0;
        entry.away = None;
        entry.failed = None;
        entry.is_current = true;
        entry.current_since = number;
        entry.template = Some(template.clone());
        let applicants = std::mem::take(&mut entry.applicants);
        let changed_again = entry.changed_again;
        self.run_again_who_read_by(id);
        self.index.remove_template(id);
        if let Err(error) = self.index.add_template(id, template.predicates.clone()) {
            return self.analysis_failed(id, &internal(error));
        }
        let is_precise = self.is_precise(id, &template);
        if let Some(entry) = self.templates.get_mut(id) {
            entry.is_precise = is_precise;
        }
        self.set_tables();
        for query in queries {
            self.renew(query, &template);
        }
        for applicant in applicants {
            // It goes with one who is refused, where no more are to be kept.
            match self.templates.get(id) {
                Some(_) => self.admit(id, &template, applicant),
                None => self.apply_for(&template.statement, applicant),
            }
        }
        if changed_again {
            self.describe_again(id);
        }
        self.describe_again_who_disagrees(id, &template);
    }

    /// Analyses statements again that know one of a statement's tables otherwise than it does: the stream's changes are
    /// told to all in the same terms.
    fn describe_again_who_disagrees(&mut self, id: TemplateId, template: &QueryTemplate) {
        let is_other = |table: &Arc<TableFacts>| {
            let knows = |known: &Arc<TableFacts>| known.id == table.id && !known.is_told_as(table);
            template.tables.iter().any(knows)
        };
        let disagrees = |entry: &TemplateEntry| {
            let template = entry.template.as_ref().filter(|_| entry.is_current);
            template.is_some_and(|template| template.tables.iter().any(is_other))
        };
        let disagreeing = self.templates.iter().filter(|(_, entry)| disagrees(entry));
        let mut disagreeing: Vec<_> = disagreeing.map(|(other, _)| other).collect();
        if disagreeing.is_empty() {
            return;
        }
        // Either may be the newer one: what describes a statement may have been overtaken.
        disagreeing.push(id);
        disagreeing.sort_unstable();
        disagreeing.dedup();
        for other in disagreeing {
            self.describe_again(other);
        }
        self.set_tables();
    }

    /// Tells who waits or subscribes, and plans another try where somebody subscribes.
    ///
    /// While the database can't be asked, nothing is wrong with the statement: who waits for a first answer goes on
    /// waiting (`Limits::first_answer_max`).
    fn analysis_failed(&mut self, id: TemplateId, error: &QueryError) {
        let now = self.now;
        let Some(entry) = self.templates.get_mut(id) else { return };
        let delay = entry.retry_delay;
        entry.retry_delay = (delay * 2).min(RETRY_DELAY.1);
        entry.progress = Progress::Waiting;
        self.retries.set(id, now + delay);
        let is_away = error.code == ErrorCode::Unavailable;
        entry.away = is_away.then(|| error.clone());
        entry.failed = (!is_away).then(|| error.clone());
        let applicants = match is_away {
            true => Vec::new(),
            false => std::mem::take(&mut entry.applicants),
        };
        let queries: Vec<_> = entry.queries.iter().copied().collect();
        if is_away {
            let statement = entry.statement.name.as_deref().unwrap_or("ad hoc");
            info!(statement, %error, "the database can't be asked about a statement: trying again");
        }
        let is_first_failure = delay == RETRY_DELAY.0;
        for applicant in applicants {
            // What its name meant before goes on serving the one that was answered, which is told once.
            if self.was_answered(applicant.session, &applicant.sub) {
                if is_first_failure {
                    self.notify(applicant.session, &applicant.sub, error);
                }
                if let Some(entry) = self.templates.get_mut(id) {
                    entry.applicants.push(applicant);
                }
            } else {
                self.refuse(applicant.session, &applicant.sub, error.clone());
            }
        }
        let is_passing = delay < patience(error.code);
        for query in queries.into_iter().filter(|_| !is_passing) {
            self.fail(query, error);
        }
        self.forget_template_if_idle(id);
    }

    /// Forgets a statement that nobody subscribes to, where it failed or there are many.
    pub(crate) fn forget_template_if_idle(&mut self, id: TemplateId) {
        let Some(entry) = self.templates.get(id) else { return };
        let is_idle = !self.is_used(id, entry);
        let is_used_soon = self.casts.values().any(|cast| cast.template == id);
        let is_useless = (!entry.is_current
            && !matches!(entry.progress, Progress::Describing(_) | Progress::Casting(..)))
            || self.is_replaced(&entry.statement);
        // Those that are kept in case somebody asks again must not keep others out.
        let are_many = self.templates.len() > self.limits.idle_templates_max
            || self.templates.memory_bytes() > self.limits.memory_bytes_max / 8;
        if is_idle && !is_used_soon && (is_useless || are_many) {
            self.templates.remove(id);
            self.retries.cancel(id);
            self.derived.release(id);
            self.index.remove_template(id);
            for statement in self.recorded.forget_function(id) {
                self.forget_template_if_idle(statement);
            }
            self.set_tables();
        }
    }

    /// Returns whether anybody waits for a statement, subscribes to it, or reads by it.
    fn is_used(&self, id: TemplateId, entry: &TemplateEntry) -> bool {
        !entry.queries.is_empty() || !entry.applicants.is_empty() || self.recorded.is_read_by(id)
    }

    pub(crate) fn catalog_changed(&mut self, relations: &[RelationId]) {
        let changed: BTreeSet<_> = relations.iter().collect();
        for id in self.templates.ids() {
            let Some(entry) = self.templates.get(id) else { continue };
            // What is being described may have been looked at before the change.
            let is_asked =
                matches!(entry.progress, Progress::Describing(_) | Progress::Casting(..));
            if is_asked || entry.watched.iter().any(|relation| changed.contains(relation)) {
                info!(
                    statement = entry.statement.name.as_deref().unwrap_or("ad hoc"),
                    "the catalogue changed: analysing again"
                );
                self.describe_again(id);
            }
        }
    }

    /// Analyses a statement again; meanwhile nothing is read by what was known of it.
    fn describe_again(&mut self, id: TemplateId) {
        let Some(entry) = self.templates.get_mut(id) else { return };
        entry.is_current = false;
        let queries: Vec<_> = entry.queries.iter().copied().collect();
        let is_asked = matches!(entry.progress, Progress::Describing(_) | Progress::Casting(..));
        entry.changed_again |= is_asked;
        let is_used = self.templates.get(id).is_some_and(|entry| self.is_used(id, entry));
        if !is_asked && !is_used {
            return self.forget_template_if_idle(id);
        }
        if !is_asked {
            self.describe(id);
        }
        self.run_again_who_read_by(id);
        for query in queries {
            self.detach_reads(query);
            self.make_dirty(query);
        }
    }

    /// Tries statements again that failed, where somebody subscribes to them.
    pub(crate) fn tick_templates(&mut self) {
        for id in self.retries.take_due(self.now) {
            let Some(entry) = self.templates.get(id) else { continue };
            if !self.is_used(id, entry) {
                self.forget_template_if_idle(id);
            } else if matches!(entry.progress, Progress::Waiting) {
                self.describe(id);
            }
        }
    }

    fn set_tables(&mut self) {
        // Where a table is known in two ways, the newer one counts: what is not current is being looked at again.
        let mut entries: Vec<_> = self.templates.iter().map(|(_, entry)| entry).collect();
        entries.sort_by_key(|entry| !entry.is_current);
        let templates = entries.into_iter().filter_map(|entry| entry.template.as_ref());
        let tables: Vec<_> =
            templates.flat_map(|template| template.tables.iter().cloned()).collect();
        self.tables.set(tables.into_iter());
        let watched: BTreeSet<_> =
            self.templates.iter().flat_map(|(_, entry)| entry.watched.iter().copied()).collect();
        self.database.watch(watched.into_iter().collect());
    }
}

/// How soon a statement that failed is tried again, at first and at most.
pub(crate) const RETRY_DELAY: (Duration, Duration) =
    (Duration::from_millis(250), Duration::from_secs(10));

/// Returns how late a statement that failed so may be tried again before those who have a result of it are told; until
/// then they keep it, stale. What says nothing of the statement passes: a table that is being altered keeps everybody
/// waiting, which is told at the fourth try, and a server that starts again takes a while.
fn patience(code: ErrorCode) -> Duration {
    match code {
        ErrorCode::Timeout => Duration::from_secs(2),
        ErrorCode::Unavailable => RETRY_DELAY.1,
        ErrorCode::InvalidArgs
        | ErrorCode::Unauthorized
        | ErrorCode::Forbidden
        | ErrorCode::Conflict
        | ErrorCode::LimitExceeded
        | ErrorCode::NotFound
        | ErrorCode::Internal => Duration::ZERO,
    }
}

/// Returns the error of a statement whose parameters are not those given.
pub(crate) fn wrong_argument_count(expected: usize, given: usize) -> QueryError {
    QueryError::new(
        ErrorCode::InvalidArgs,
        format!("the statement has {expected} parameters and {given} were given"),
    )
}
