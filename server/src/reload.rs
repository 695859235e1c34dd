//! The project, read again while the server runs (`docs/protocol.md`, section 7, "Loop").
//!
//! A file that changed is analysed. Where it is good it takes the place of what its name meant, for new subscriptions at
//! once and for running ones when the engine has analysed it too. Where it is not, the version before goes on serving,
//! who subscribes is told, and the analysis is tried again: it may only wait for a table.

use crate::app::App;
use crate::error::chain;
use crate::loading::ProjectLoader;
use crate::project::{Failure, NamedQueries, NamedQuery, ProjectError};
use crate::saves::Saves;
use convoy_engine::analyse::analyse;
use convoy_engine::{
    Definition, ErrorCode, Event, QueryError, Redefinition, Statement, StatementKind,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::Signal;
use tokio::time::sleep;
use tracing::{info, warn};

/// How soon the analysis of a new version that failed, or the generation of code, is tried again.
pub(crate) const RETRY_DELAY: Duration = Duration::from_secs(5);

/// Reads the project again on each occasion. Never ends.
pub async fn reload_on(mut occasions: impl Occasions, app: App, project: ProjectLoader) {
    let mut reload = Reload::new(app, project);
    loop {
        tokio::select! {
            () = occasions.next() => reload.read().await,
            () = sleep(RETRY_DELAY), if reload.is_behind() => reload.retry().await,
        }
    }
}

/// When to read the project again: at a signal, or a save.
pub trait Occasions: Send {
    /// Waits for the next. None is lost where it is no longer waited for.
    fn next(&mut self) -> impl Future<Output = ()> + Send;
}

impl Occasions for Signal {
    async fn next(&mut self) {
        if self.recv().await.is_none() {
            // The process no longer hears signals.
            std::future::pending().await
        }
    }
}

impl Occasions for Saves {
    async fn next(&mut self) {
        let file = Saves::next(self).await;
        info!(file = %file.display(), "saved");
    }
}

/// What is to be remembered from one reading to the next.
struct Reload {
    app: App,
    project: ProjectLoader,
    /// What was said of versions that are not good, by name.
    told: BTreeMap<String, String>,
    /// Versions that were read and are not good: the one before serves.
    candidates: BTreeMap<String, NamedQuery>,
}

impl Reload {
    fn new(app: App, project: ProjectLoader) -> Reload {
        Reload { app, project, told: BTreeMap::new(), candidates: BTreeMap::new() }
    }

    /// Reads the project again.
    async fn read(&mut self) {
        let (mut loaded, mut failures) = match self.project.load_what_is_good().await {
            Ok(loaded) => loaded,
            Err(error) => return warn!(error = %chain(&error), "the project stays as it was"),
        };
        if self.app.identify.is_none() {
            failures.extend(loaded.take_without_identity());
        }
        let serving = self.app.named_queries();
        let mut next = NamedQueries::clone(&serving);
        let mut redefinitions = Vec::new();
        self.candidates.clear();
        let mut seen = BTreeSet::new();
        for Failure { name, file, error } in failures {
            warn!(error = %chain(&error), "a file is not in order");
            if let Some(name) = name {
                loaded.remove(&name);
                let error = for_clients(&file, &error);
                if serving.get(&name).is_some() {
                    redefinitions.extend(self.broken(&name, error));
                }
                seen.insert(name);
            }
        }
        for name in loaded.names().map(str::to_owned).collect::<Vec<_>>() {
            if let Some(query) = loaded.remove(&name) {
                redefinitions.extend(self.take_in(&name, query, &mut next).await);
                seen.insert(name);
            }
        }
        for name in serving.names().filter(|name| !seen.contains(*name)) {
            let file = next.remove(name).map_or_else(String::new, |query| query.file);
            self.told.remove(name);
            let message = format!("the query {name} is no more: {file} is gone");
            let error = QueryError::new(ErrorCode::NotFound, message);
            redefinitions.push(redefinition(name, Definition::Removed(error)));
        }
        info!(
            queries = next.len(),
            redefined = redefinitions.len(),
            not_good = self.told.len(),
            "the project was read again"
        );
        self.publish(next, redefinitions);
    }

    fn is_behind(&self) -> bool {
        !self.candidates.is_empty() || self.project.is_behind()
    }

    /// Tries again what could not be read though it was not saved, analyses again what was not good, and generates the code
    /// for what serves.
    async fn retry(&mut self) {
        if self.project.has_mended().await {
            return self.read().await;
        }
        if self.candidates.is_empty() {
            if !self.project.is_generation_behind() {
                return;
            }
            return self.project.generate(&self.app.named_queries()).await;
        }
        let mut next = NamedQueries::clone(&self.app.named_queries());
        let mut redefinitions = Vec::new();
        for (name, query) in std::mem::take(&mut self.candidates) {
            redefinitions.extend(self.take_in(&name, query, &mut next).await);
        }
        self.publish(next, redefinitions);
    }

    fn publish(&self, next: NamedQueries, redefinitions: Vec<Redefinition>) {
        // First: who looks a name up from here on asks for what it means now.
        self.app.replace_queries(next);
        if !redefinitions.is_empty() {
            self.app.queue.push_control(Event::QueriesRedefined(redefinitions));
        }
    }

    /// Lets a query that was read take the place of the one before, if it is good.
    async fn take_in(
        &mut self,
        name: &str,
        query: NamedQuery,
        next: &mut NamedQueries,
    ) -> Option<Redefinition> {
        let before = next.get(name).cloned();
        if before.as_ref() == Some(&query.statement) {
            let statement = query.statement.clone();
            next.insert(name.to_owned(), query);
            // It was changed, was not good, and is as it was.
            self.told.remove(name)?;
            return Some(redefinition(name, Definition::Statement(statement)));
        }
        if let Err(error) = self.analyse(&query.statement).await {
            warn!(file = query.file, %error, "a query's new version is not good");
            let serves = match &before {
                Some(before) => is_good(&self.analyse(before).await),
                None => false,
            };
            if serves || is_passing(&error) {
                let file = query.file.clone();
                self.candidates.insert(name.to_owned(), query);
                // That the database is away is no fault of the file's.
                return match is_passing(&error) {
                    true => None,
                    false => self.broken(name, for_clients_analysed(&file, &error)),
                };
            }
            // The one before is no better: whoever asks hears of the newest.
        }
        self.told.remove(name);
        let statement = query.statement.clone();
        next.insert(name.to_owned(), query);
        Some(redefinition(name, Definition::Statement(statement)))
    }

    /// Tells of a version that is not good, once.
    fn broken(&mut self, name: &str, mut error: QueryError) -> Option<Redefinition> {
        error.message.push_str("; the version before is still served");
        let before = self.told.insert(name.to_owned(), error.message.clone());
        let is_news = before.as_ref() != Some(&error.message);
        is_news.then(|| redefinition(name, Definition::Broken(error)))
    }

    async fn analyse(&self, statement: &Arc<Statement>) -> Result<(), QueryError> {
        if statement.kind == StatementKind::Function {
            // It was evaluated when it was read; what it reads is seen when it runs.
            return Ok(());
        }
        let facts = self.app.database.facts(statement).await?;
        let analysis = analyse(statement, &facts)?;
        // Constants that nobody has read make a weaker plan, and no error.
        let constants = vec![None; analysis.constants().len()];
        analysis.finish(&constants).map(drop)
    }
}

fn redefinition(name: &str, definition: Definition) -> Redefinition {
    Redefinition { name: name.to_owned(), definition }
}

fn is_passing(error: &QueryError) -> bool {
    matches!(error.code, ErrorCode::Unavailable | ErrorCode::Timeout)
}

/// Returns whether a version serves; where the database can't say, it did.
fn is_good(analysed: &Result<(), QueryError>) -> bool {
    analysed.as_ref().err().is_none_or(is_passing)
}

/// Returns what clients are told of a file: where it is in the project, not where that is.
fn for_clients(file: &str, error: &ProjectError) -> QueryError {
    match error {
        ProjectError::Statement { error, .. } => for_clients_analysed(file, error),
        ProjectError::Twice { name, .. } => QueryError::new(
            ErrorCode::InvalidArgs,
            format!("{file}: another file defines the query {name} too"),
        ),
        ProjectError::Functions { message } => {
            QueryError::new(ErrorCode::Internal, message.clone())
        }
        ProjectError::Read { .. } | ProjectError::Name { .. } | ProjectError::NoFolder { .. } => {
            QueryError::new(ErrorCode::Internal, format!("{file}: it could not be read"))
        }
    }
}

fn for_clients_analysed(file: &str, error: &QueryError) -> QueryError {
    QueryError::new(error.code, format!("{file}: {}", error.message))
}
