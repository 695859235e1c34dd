//! What the engine tells of itself.

use crate::database::Database;
use crate::engine::{Counters, Engine};
use crate::live_query::KeptBy;
use crate::session::IDENTITY_SUB;
use crate::sessions::Session;
use crate::statement::{ParamDeclaration, ParamSource, StatementKind};
use convoy_query_index::{QueryId, TemplateId};
use convoy_types::Lsn;
use std::collections::HashMap;
use std::sync::Arc;

/// The engine's state in numbers.
#[derive(Clone, Debug)]
pub struct EngineStatus {
    /// Whether replication streams.
    pub streaming: bool,
    /// The position that the stream has passed.
    pub received: Lsn,
    /// The position up to which every transaction has been applied.
    pub applied: Lsn,
    /// Transactions that have arrived and wait.
    pub transactions_waiting: usize,
    /// Live queries, but for those that watch identities.
    pub live_queries: usize,
    /// Those that watch who sessions belong to.
    pub identities_watched: usize,
    /// What live queries take, estimated, in bytes.
    pub memory_bytes: usize,
    /// The limit of that.
    pub memory_bytes_max: usize,
    /// What row changes take that wait for a snapshot, in bytes.
    pub waiting_bytes: usize,
    /// What row changes take that are kept for results being read, or until it is known what is visible, in bytes.
    pub log_bytes: usize,
    /// Live queries whose result is not known and must be read.
    pub dirty_queries: usize,
    /// Statements analysed.
    pub templates: usize,
    /// Sessions.
    pub sessions: usize,
    /// Subscriptions of all sessions.
    pub subscriptions: usize,
    /// Reads under way.
    pub reads: usize,
    /// What has been done so far.
    pub counters: Counters,
}

/// A live query, for a list.
#[derive(Clone, Debug)]
pub struct LiveQueryInfo {
    /// Its id.
    pub id: QueryId,
    /// The named query, where it is one.
    pub name: Option<String>,
    /// The statement; of a function, those that it has read by, with `;` between them.
    pub sql: String,
    /// The arguments, as text; without what is known of who asks.
    pub args: Vec<Option<String>>,
    /// Whether it is kept from the row changes themselves.
    pub incremental: bool,
    /// Why it is kept as it is.
    pub notes: Vec<String>,
    /// How the index finds it at present, for each of its predicates.
    pub found_by: Vec<String>,
    /// How many subscribe.
    pub subscribers: usize,
    /// Rows in the result.
    pub rows: usize,
    /// The error of the last read.
    pub error: Option<String>,
}

/// What all live queries of a template have in common.
struct ReadBy {
    sql: String,
    found_by: Vec<String>,
}

/// Returns arguments for whoever looks: claims are their callers' business.
fn shown_args(params: &[ParamDeclaration], args: &[Option<Arc<str>>]) -> Vec<Option<String>> {
    let shown = |(position, arg): (usize, &Option<Arc<str>>)| {
        let source = params.get(position).map_or(ParamSource::Argument, |param| param.source);
        match source {
            ParamSource::Argument => arg.as_deref().map(str::to_owned),
            ParamSource::Claim | ParamSource::Identity => {
                arg.as_ref().map(|_| "(claim)".to_owned())
            }
        }
    };
    args.iter().enumerate().map(shown).collect()
}

impl<D: Database> Engine<D> {
    /// Returns the engine's state in numbers.
    pub fn status(&self) -> EngineStatus {
        let of_identities =
            self.templates.iter().filter(|(_, entry)| entry.statement.is_identity());
        let identities_watched = of_identities.map(|(_, entry)| entry.queries.len()).sum();
        let subscriptions = |session: &Session| {
            session.subs.len() - usize::from(session.subs.contains_key(IDENTITY_SUB))
        };
        EngineStatus {
            streaming: self.streaming && self.line.is_some(),
            received: self.line.as_ref().map_or(Lsn::default(), |line| line.received()),
            applied: self.label(),
            transactions_waiting: self.line.as_ref().map_or(0, |line| line.waiting()),
            live_queries: self.queries.len() - identities_watched,
            identities_watched,
            memory_bytes: self.memory_bytes(),
            memory_bytes_max: self.limits.memory_bytes_max,
            waiting_bytes: self.waiting_bytes(),
            log_bytes: self.reads.log.bytes() + self.early.bytes(),
            dirty_queries: self.dirty.len(),
            templates: self.templates.len(),
            sessions: self.sessions.len(),
            subscriptions: self.sessions.iter().map(|(_, session)| subscriptions(session)).sum(),
            reads: self.reads.len(),
            counters: self.counters,
        }
    }

    /// Returns the live queries, by id.
    pub fn live_queries(&self) -> Vec<LiveQueryInfo> {
        // Alike for all of a template, of which there may be very many.
        let mut read_by: HashMap<TemplateId, ReadBy> = HashMap::new();
        let info = |id: QueryId| {
            let query = self.queries.get(&id)?;
            let entry = self.templates.get(query.template)?;
            let template = entry.template.as_ref();
            let read_by =
                read_by.entry(query.template).or_insert_with(|| self.read_by(query.template));
            Some(LiveQueryInfo {
                id,
                name: entry.statement.name.clone(),
                sql: read_by.sql.clone(),
                args: shown_args(&entry.statement.params, &query.args),
                incremental: query.kept_by == KeptBy::Plan
                    && template.is_some_and(|template| template.plan.is_incremental()),
                notes: template.map_or(Vec::new(), |template| template.notes.clone()),
                found_by: read_by.found_by.clone(),
                subscribers: query.subscribers.len(),
                rows: query.value.rows().map_or(0, |rows| rows.rows().len()),
                error: match &query.value {
                    crate::live_query::Value::Failed(error) => Some(error.message.clone()),
                    _ => None,
                },
            })
        };
        self.queries.ids().filter_map(info).collect()
    }

    /// Returns what a template's live queries are read by: its statement or, of a function, all that it has read by.
    fn read_by(&self, template: TemplateId) -> ReadBy {
        let recorded = || self.recorded.statements_of(template).collect();
        let statements: Vec<TemplateId> = match self.templates.get(template) {
            Some(entry) if entry.statement.kind == StatementKind::Function => recorded(),
            _ => vec![template],
        };
        let (mut texts, mut found_by) = (Vec::new(), Vec::new());
        for statement in statements {
            let Some(entry) = self.templates.get(statement) else { continue };
            texts.push(&*entry.statement.text);
            if let Some(template) = &entry.template {
                found_by.extend(template.describe_access_in(&self.index, statement));
            }
        }
        ReadBy { sql: texts.join(";\n"), found_by }
    }
}
