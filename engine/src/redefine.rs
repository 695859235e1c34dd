//! Named queries that come to mean another statement, or none, while subscriptions run.
//!
//! A subscription goes over to the new statement once that is analysed; until then its old live query serves it. Its
//! arguments are made anew of what was given with the name. One that the new meaning does not fit is suspended: it is told
//! an error that is not final, has no live query, and comes back with a meaning that fits it.

use crate::database::{Database, ErrorCode, QueryError};
use crate::engine::Engine;
use crate::live_query::Told;
use crate::session::{QueryReference, SessionId, Wish};
use crate::sessions::Sub;
use crate::statement::Statement;
use crate::templates::Applicant;
use convoy_query_index::QueryId;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use tracing::info;

/// What a name means from now on.
#[derive(Clone, Debug)]
pub enum Definition {
    /// This statement.
    Statement(Arc<Statement>),
    /// What it meant before: a new version is there and is not good, for this reason.
    Broken(QueryError),
    /// Nothing any more, for this reason.
    Removed(QueryError),
}

/// A named query that is no longer what it was.
#[derive(Clone, Debug)]
pub struct Redefinition {
    /// Its name.
    pub name: String,
    /// What it means.
    pub definition: Definition,
}

impl<D: Database> Engine<D> {
    pub(crate) fn queries_redefined(&mut self, redefinitions: Vec<Redefinition>) {
        let mut by_name = HashMap::new();
        for Redefinition { name, definition } in redefinitions {
            match &definition {
                Definition::Statement(statement) => {
                    self.definitions.insert(name.clone(), Ok(statement.clone()));
                }
                Definition::Removed(error) => {
                    self.definitions.insert(name.clone(), Err(error.clone()));
                }
                Definition::Broken(_) => {}
            }
            by_name.insert(name, definition);
        }
        let definition_for = |sub: &Sub| by_name.get(sub.wish.as_ref()?.statement.name.as_ref()?);
        let mut concerned = Vec::new();
        for (session, state) in self.sessions.iter() {
            for (name, sub) in &state.subs {
                if let (Some(definition), Some(wish)) = (definition_for(sub), &sub.wish) {
                    concerned.push((session, name.clone(), wish.clone(), definition));
                }
            }
        }
        info!(queries = by_name.len(), subscriptions = concerned.len(), "queries were redefined");
        let on_their_way = concerned
            .iter()
            .filter(|(.., definition)| !matches!(definition, Definition::Broken(_)))
            .map(|(session, sub, ..)| (*session, sub.clone()));
        self.stop_on_their_way(&on_their_way.collect());
        for (session, sub, wish, definition) in concerned {
            match definition {
                Definition::Statement(statement) => {
                    self.go_over(session, &sub, &*wish.given, statement)
                }
                Definition::Broken(error) => self.notify(session, &sub, error),
                Definition::Removed(error) => self.refuse(session, &sub, error.clone()),
            }
        }
        for id in self.templates.ids() {
            self.forget_template_if_idle(id);
        }
    }

    /// Forgets what these subscriptions applied for: it is not what they will get.
    fn stop_on_their_way(&mut self, subs: &HashSet<(SessionId, Arc<str>)>) {
        for id in self.templates.ids() {
            if let Some(entry) = self.templates.get_mut(id) {
                entry.applicants.retain(|applicant| {
                    !subs.contains(&(applicant.session, applicant.sub.clone()))
                });
            }
        }
        self.casts.retain(|_, cast| !subs.contains(&(cast.session, cast.sub.clone())));
    }

    /// Lets a subscription apply for its name's new statement.
    fn go_over(
        &mut self,
        session: SessionId,
        sub: &Arc<str>,
        wish: &dyn Wish,
        statement: &Arc<Statement>,
    ) {
        let args = match wish.arguments(statement) {
            Ok(args) => args,
            Err(error) => return self.refuse(session, sub, misfit(statement, error)),
        };
        let statement_of = |query: QueryId| {
            Some(&self.templates.get(self.queries.get(&query)?.template)?.statement)
        };
        let Some(state) = self.sessions.get_mut(session).and_then(|state| state.subs.get_mut(sub))
        else {
            return;
        };
        if state.query.and_then(statement_of) == Some(statement) {
            // It never went away: what was told of a version that was no good is over.
            state.notice = None;
            if matches!(state.told, Told::Interrupted(_)) {
                state.told = Told::Reset;
            }
            return self.sessions.stir(session);
        }
        self.apply_for(statement, Applicant { session, sub: sub.clone(), args });
    }

    /// Puts a subscription on its live query, in place of the one before.
    pub(crate) fn enter(&mut self, session: SessionId, sub: &Arc<str>, query: QueryId) {
        self.dissolve_stage_of(session, sub);
        let now = self.now;
        let Some(state) = self.sessions.get_mut(session).and_then(|state| state.subs.get_mut(sub))
        else {
            return;
        };
        let before = state.query.replace(query).filter(|before| *before != query);
        state.notice = None;
        state.told = match state.told {
            Told::Nothing => Told::Nothing,
            Told::Interrupted(_) => Told::Interrupted(0),
            Told::Version(_) | Told::Reset => Told::Reset,
        };
        if state.told != Told::Nothing {
            state.since = now;
        }
        self.sessions.stir(session);
        if let Some(before) = before {
            self.leave(before, session, sub);
        }
    }

    /// Tells a subscription of a version of its query that is not good; what it has goes on.
    pub(crate) fn notify(&mut self, session: SessionId, sub: &Arc<str>, error: &QueryError) {
        let Some(state) = self.sessions.get_mut(session).and_then(|state| state.subs.get_mut(sub))
        else {
            return;
        };
        // Its first answer is still to come, from the version that serves.
        if state.told == Told::Nothing {
            return;
        }
        if state.query.is_none() && state.notice.as_deref() != Some(error) {
            state.told = Told::Reset;
        }
        state.notice = Some(Box::new(error.clone()));
        self.sessions.stir(session);
    }

    /// Takes a subscription's live query away, for a reason that it is told.
    pub(crate) fn suspend(&mut self, session: SessionId, sub: &Arc<str>, error: QueryError) {
        self.dissolve_stage_of(session, sub);
        let Some(state) = self.sessions.get_mut(session) else { return };
        state.stale_updates.retain(|update| update.sub != *sub);
        let Some(state) = state.subs.get_mut(sub) else { return };
        let before = state.query.take();
        if before.is_some() || state.notice.as_deref() != Some(&error) {
            state.told = Told::Reset;
        }
        state.notice = Some(Box::new(error));
        state.stale = false;
        self.sessions.stir(session);
        if let Some(before) = before {
            self.leave(before, session, sub);
        }
    }

    /// What a stage has of a subscription's old live query is not what it is to see next.
    fn dissolve_stage_of(&mut self, session: SessionId, sub: &Arc<str>) {
        let state = self.sessions.get(session);
        let is_running = |sub: &Sub| sub.query.is_some();
        if state.is_some_and(|state| state.subs.get(sub).is_some_and(is_running)) {
            self.dissolve_stage(session);
        }
    }

    /// Returns whether a subscription was answered, so that it outlives a new meaning of its name.
    pub(crate) fn was_answered(&self, session: SessionId, sub: &Arc<str>) -> bool {
        let sub = self.sessions.get(session).and_then(|session| session.subs.get(sub));
        sub.is_some_and(|sub| sub.told != Told::Nothing)
    }

    /// Returns whether a name has come to mean something else than this statement.
    pub(crate) fn is_replaced(&self, statement: &Arc<Statement>) -> bool {
        let name = statement.name.as_ref();
        match name.and_then(|name| self.definitions.get(name)) {
            Some(Ok(present)) => present != statement,
            Some(Err(_)) => true,
            None => false,
        }
    }

    /// Returns what a reference asks for now: who made it may have looked the name up before it was redefined.
    pub(crate) fn present_meaning(
        &self,
        reference: QueryReference,
    ) -> Result<QueryReference, QueryError> {
        let Some(wish) = &reference.wish else { return Ok(reference) };
        let name = reference.statement.name.as_ref();
        match name.and_then(|name| self.definitions.get(name)) {
            Some(Ok(statement)) if *statement != reference.statement => {
                let args = wish.arguments(statement).map_err(|error| misfit(statement, error))?;
                Ok(QueryReference { statement: statement.clone(), args, wish: Some(wish.clone()) })
            }
            Some(Err(error)) => Err(error.clone()),
            _ => Ok(reference),
        }
    }
}

/// Returns what is told of a subscription that its name's new meaning does not fit.
fn misfit(statement: &Statement, error: QueryError) -> QueryError {
    if error.code != ErrorCode::InvalidArgs {
        return error;
    }
    let name = statement.name.as_deref().unwrap_or("the query");
    let message = format!(
        "{name} takes other arguments now, and the subscription's don't fit: {}",
        error.message
    );
    QueryError { message, ..error }
}
