//! From a wish to a live query: the arguments read, the query found or made; and how it ends.

use crate::args::{argument_text, canonical};
use crate::database::{CastId, CastRequest, CastValue, Database, ErrorCode, QueryError};
use crate::digest::Digest;
use crate::engine::Engine;
use crate::live_query::{ArgumentTexts, KeptBy, LiveQuery, Told, Value};
use crate::memory::QUERY_BYTES;
use crate::session::{QueryReference, SessionId};
use crate::sessions::{NamedWish, Shows, Sub};
use crate::statement::Statement;
use crate::template::{Count, Plan, QueryTemplate};
use crate::templates::{Applicant, wrong_argument_count};
use crate::window::Bounds;
use convoy_query_index::{Holdings, QueryId, TemplateId};
use std::sync::Arc;

/// What a cast under way is for, besides a template's constants.
#[derive(Debug)]
pub(crate) struct CastPurpose {
    pub template: TemplateId,
    pub session: SessionId,
    pub sub: Arc<str>,
    /// The texts that needed no cast; the others are filled from the answers, in order.
    known: Vec<ArgumentState>,
}

/// An argument on its way to its type's own text.
#[derive(Debug)]
enum ArgumentState {
    Known(Option<String>),
    Asked,
}

impl<D: Database> Engine<D> {
    pub(crate) fn subscribe(
        &mut self,
        session: SessionId,
        sub: Arc<str>,
        query: QueryReference,
        have: Option<Digest>,
    ) {
        let now = self.now;
        let Some(state) = self.sessions.get_mut(session) else { return };
        let (statement, given) = (&query.statement, &query.wish);
        let named = |given| NamedWish { statement: statement.clone(), given };
        let wish = Sub {
            wish: given.clone().map(named),
            query: None,
            notice: None,
            told: Told::Nothing,
            shows: Shows::Nothing,
            stale: false,
            behind: None,
            have: have.map(Box::new),
            since: now,
        };
        state.subs.insert(sub.clone(), wish);
        match self.present_meaning(query) {
            Ok(QueryReference { statement, args, .. }) => {
                self.apply_for(&statement, Applicant { session, sub, args });
            }
            Err(error) => self.refuse(session, &sub, error),
        }
    }

    /// Lets a subscription have a live query of the statement, as soon as that is analysed.
    pub(crate) fn apply_for(&mut self, statement: &Arc<Statement>, applicant: Applicant) {
        let Applicant { session, sub, .. } = &applicant;
        if self.templates.id_of(statement).is_none()
            && !self.was_answered(*session, sub)
            && let Err(error) = self.check_memory_for_new(statement)
        {
            return self.refuse(*session, &sub.clone(), error);
        }
        let (id, is_new) = self.templates.intern(statement);
        let Some(entry) = self.templates.get_mut(id) else { return };
        match &entry.template {
            Some(template) if entry.is_current => {
                let template = template.clone();
                self.admit(id, &template, applicant);
            }
            _ => entry.applicants.push(applicant),
        }
        self.describe_if_nobody_does(id, is_new);
    }

    pub(crate) fn cast(&mut self, cast: CastId, values: Vec<Result<Option<String>, QueryError>>) {
        if let Some(id) = self.templates.cast(cast) {
            return self.constants_read(id, values);
        }
        let Some(CastPurpose { template: id, session, sub, known }) = self.casts.remove(&cast)
        else {
            return;
        };
        let mut values = values.into_iter();
        let texts: Result<Vec<_>, QueryError> = known
            .into_iter()
            .map(|state| match state {
                ArgumentState::Known(text) => Ok(text),
                ArgumentState::Asked => values.next().unwrap_or(Ok(None)),
            })
            .collect();
        match texts {
            Err(error) => self.refuse(session, &sub, error),
            Ok(texts) => match self.templates.get(id).and_then(|entry| entry.template.clone()) {
                Some(template) => self.attach(id, &template, session, &sub, texts),
                None => self.refuse(
                    session,
                    &sub,
                    QueryError::new(
                        ErrorCode::Unavailable,
                        "the statement's tables changed meanwhile: subscribe again",
                    ),
                ),
            },
        }
    }

    /// Ends a subscription with an error; one that was answered before its name came to mean something else waits for
    /// a meaning that fits.
    pub(crate) fn refuse(&mut self, session: SessionId, sub: &Arc<str>, error: QueryError) {
        let now = self.now;
        let Some(state) = self.sessions.get_mut(session) else { return };
        let is_answered = |sub: &Sub| sub.wish.is_some() && sub.told != Told::Nothing;
        if state.subs.get(sub).is_some_and(is_answered) {
            return self.suspend(session, sub, error);
        }
        let Some(refused) = state.subs.remove(sub) else { return };
        if let Some(stage) = &mut state.stage {
            stage.settle(sub);
        }
        state.send_error(now, sub.clone(), true, error);
        if state.take_lost() {
            self.sessions.stir(session);
        }
        if let Some(query) = refused.query {
            self.leave(query, session, sub);
        }
    }

    /// Ends all subscriptions to a query; those that were answered wait for another meaning of its name.
    pub(crate) fn refuse_all(&mut self, id: QueryId, error: &QueryError) {
        let Some(query) = self.queries.get(&id) else { return };
        let subscribers: Vec<_> = query.subscribers.iter().cloned().collect();
        for (session, sub) in subscribers {
            self.refuse(session, &sub, error.clone());
        }
    }

    /// Reads an applicant's arguments.
    pub(crate) fn admit(
        &mut self,
        id: TemplateId,
        template: &Arc<QueryTemplate>,
        applicant: Applicant,
    ) {
        let Applicant { session, sub, args } = applicant;
        if args.len() != template.params.len() {
            return self.refuse(
                session,
                &sub,
                wrong_argument_count(template.params.len(), args.len()),
            );
        }
        let mut known = Vec::with_capacity(args.len());
        let mut requests = Vec::new();
        for (position, (argument, param)) in args.iter().zip(&template.params).enumerate() {
            let declared = template.statement.params.get(position);
            let state = match argument {
                None => match declared.and_then(|declared| declared.default.clone()) {
                    Some(default) => Err(CastValue::Expression(default)),
                    None => Ok(None),
                },
                Some(argument) => match argument_text(argument, param) {
                    Err(error) => return self.refuse(session, &sub, error),
                    Ok(None) => Ok(None),
                    Ok(Some(text)) => match canonical(&text, &param.ty) {
                        Some(text) => Ok(Some(text)),
                        None => Err(CastValue::Text(text)),
                    },
                },
            };
            known.push(match state {
                Ok(text) => ArgumentState::Known(text),
                Err(value) => {
                    requests.push(CastRequest { type_name: param.type_name.clone(), value });
                    ArgumentState::Asked
                }
            });
        }
        if requests.is_empty() {
            let texts = known
                .into_iter()
                .map(|state| if let ArgumentState::Known(text) = state { text } else { None });
            let texts = texts.collect();
            return self.attach(id, template, session, &sub, texts);
        }
        let cast = self.next_cast_id();
        self.casts.insert(cast, CastPurpose { template: id, session, sub, known });
        self.database.cast(cast, requests);
    }

    /// Finds or makes the live query, and lets the subscription have it.
    fn attach(
        &mut self,
        id: TemplateId,
        template: &Arc<QueryTemplate>,
        session: SessionId,
        sub: &Arc<str>,
        texts: Vec<Option<String>>,
    ) {
        if !self.sessions.get(session).is_some_and(|state| state.subs.contains_key(sub)) {
            return self.forget_template_if_idle(id);
        }
        let args: ArgumentTexts = texts.into_iter().map(|text| text.map(Arc::from)).collect();
        let query = match self.query_of.get(&(id, args.clone())) {
            Some(&query) => query,
            None => {
                // Who was answered goes on, and only goes over to another statement.
                let room = match self.was_answered(session, sub) {
                    true => Ok(()),
                    false => self.check_memory(QUERY_BYTES),
                };
                match room.and_then(|()| self.make_query(id, template, args)) {
                    Ok(query) => query,
                    Err(error) => {
                        self.refuse(session, sub, error);
                        return self.forget_template_if_idle(id);
                    }
                }
            }
        };
        if let Some(state) = self.queries.get_mut(&query) {
            state.subscribers.insert((session, sub.clone()));
        }
        self.enter(session, sub, query);
    }

    fn make_query(
        &mut self,
        id: TemplateId,
        template: &Arc<QueryTemplate>,
        args: ArgumentTexts,
    ) -> Result<QueryId, QueryError> {
        let slots = template.slot_values(&args)?;
        let bounds = bounds(template, &args)?;
        let query = self.queries.take_id();
        self.index.insert(query, id, slots.clone()).map_err(internal)?;
        let state = LiveQuery::new(id, args.clone(), slots, bounds, template.columns.clone());
        self.queries.insert(query, state);
        self.weigh(query);
        self.query_of.insert((id, args), query);
        self.dirty.insert(query);
        if let Some(entry) = self.templates.get_mut(id) {
            entry.queries.insert(query);
        }
        self.describe_if_nobody_does(id, false);
        Ok(query)
    }

    /// Puts a live query on a new analysis of its statement.
    pub(crate) fn renew(&mut self, id: QueryId, template: &Arc<QueryTemplate>) {
        self.detach_reads(id);
        let Some(query) = self.queries.get_mut(&id) else { return };
        let renewed = template
            .slot_values(&query.args)
            .and_then(|slots| Ok((slots, bounds(template, &query.args)?)));
        let (slots, bounds) = match renewed {
            Ok(renewed) => renewed,
            Err(error) => return self.fail(id, &error),
        };
        // An error stands until something else is known; it holds nobody up, as nothing would.
        if query.columns != template.columns {
            query.columns = template.columns.clone();
            if !matches!(query.value, Value::Failed(_)) {
                query.value = Value::None;
            }
        }
        query.slots = slots.clone();
        query.bounds = bounds;
        query.boundary = None;
        query.holdings = Holdings::Unknown;
        query.kept_by = KeptBy::Plan;
        let query_template = query.template;
        self.weigh(id);
        let inserted = self.index.insert(id, query_template, slots).map_err(internal);
        match inserted {
            Err(error) => self.fail(id, &error),
            Ok(()) => {
                self.hold_membership(id);
                self.make_dirty(id);
            }
        }
    }

    /// Puts an error in place of a live query's value.
    pub(crate) fn fail(&mut self, id: QueryId, error: &QueryError) {
        self.detach_reads(id);
        self.release_membership(id);
        let Some(query) = self.queries.get_mut(&id) else { return };
        let is_news = !matches!(&query.value, Value::Failed(before) if before == error);
        query.value = Value::Failed(error.clone());
        if is_news {
            query.replaced();
        }
        query.knowledge = crate::live_query::Knowledge::Known;
        self.dirty.remove(&id);
        self.tell_holdings(id);
        self.weigh(id);
        self.stir_subscribers(id);
    }

    pub(crate) fn unsubscribe(&mut self, session: SessionId, sub: &Arc<str>) {
        let Some(state) = self.sessions.get_mut(session) else { return };
        let Some(gone) = state.subs.remove(sub) else { return };
        if let Some(stage) = &mut state.stage {
            stage.settle(sub);
            stage.updates.retain(|update| update.sub != *sub);
        }
        state.stale_updates.retain(|update| update.sub != *sub);
        self.sessions.stir(session);
        if let Some(query) = gone.query {
            self.leave(query, session, sub);
        }
    }

    pub(crate) fn close_session(&mut self, id: SessionId) {
        let Some(session) = self.sessions.remove(id) else { return };
        self.forget_mutations_of(id);
        for (sub, state) in session.subs {
            if let Some(query) = state.query {
                self.leave(query, id, &sub);
            }
        }
    }

    /// Takes a subscriber from a live query; the last one takes it along.
    pub(crate) fn leave(&mut self, id: QueryId, session: SessionId, sub: &Arc<str>) {
        let Some(query) = self.queries.get_mut(&id) else { return };
        query.subscribers.remove(&(session, sub.clone()));
        if !query.subscribers.is_empty() {
            if query.history_bytes() > 0 {
                // It may have been the last one that they were kept for.
                self.told_about.insert(id);
            }
            return;
        }
        self.batch.forget(id);
        self.release_membership(id);
        self.forget_entries(id);
        self.index.remove(id);
        self.dirty.remove(&id);
        self.due.cancel(id);
        let Some(query) = self.queries.remove(&id) else { return };
        self.result_bytes -= query.weight;
        self.query_of.remove(&(query.template, query.args));
        // Its id may be used again: no read must answer for it any more.
        self.reads.forget(id);
        self.audits.forget(id);
        if let Some(entry) = self.templates.get_mut(query.template) {
            entry.queries.remove(&id);
        }
        self.forget_template_if_idle(query.template);
    }
}

pub(crate) fn internal(error: convoy_query_index::IndexError) -> QueryError {
    QueryError::new(ErrorCode::Internal, error.to_string())
}

/// Returns a window's offset and limit with the arguments put in.
fn bounds(template: &QueryTemplate, args: &ArgumentTexts) -> Result<Bounds, QueryError> {
    let (limit, offset) = match &template.plan {
        Plan::Window(plan) => (plan.limit, plan.offset),
        Plan::Groups(plan) => (plan.limit, plan.offset),
        Plan::Refresh(_) => (None, None),
    };
    let number = |count: Option<Count>, name: &str| match count {
        None => Ok(None),
        Some(Count::Constant(number)) => Ok(Some(number)),
        Some(Count::Param(param)) => match args.get(param).and_then(Option::as_deref) {
            None => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|_| {
                QueryError::new(
                    ErrorCode::InvalidArgs,
                    format!("{name} must not be negative: ${} is {text}", param + 1),
                )
            }),
        },
    };
    Ok(Bounds { offset: number(offset, "OFFSET")?.unwrap_or(0), limit: number(limit, "LIMIT")? })
}
