//! From a wish to a live query: the statement analysed, the arguments read, the query found or made; and analysed again
//! when the catalogue changes.

use crate::analyse::{Analysis, analyse};
use crate::args::{argument_text, canonical};
use crate::array::array_elements;
use crate::database::{
    CastId, CastRequest, CastValue, Database, DescribeId, Described, ErrorCode, QueryError,
};
use crate::engine::Engine;
use crate::facts::TableFacts;
use crate::live_query::{ArgumentTexts, LiveQuery, Told, Value};
use crate::session::{QueryReference, SessionId};
use crate::sessions::Sub;
use crate::statement::Statement;
use crate::template::{Count, Plan, QueryTemplate};
use crate::templates::{Applicant, Progress, RETRY_DELAY, wrong_argument_count};
use crate::window::Bounds;
use convoy_query_index::{QueryId, SlotValue, TemplateId};
use convoy_types::{Key, PgType, RelationId};
use std::collections::BTreeSet;
use std::sync::Arc;
use tracing::{debug, info};

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
        have: Option<Arc<str>>,
    ) {
        let now = self.now;
        let Some(state) = self.sessions.get_mut(session) else { return };
        let wish = Sub {
            wish: query.statement.name.is_some().then(|| query.clone()),
            query: None,
            notice: None,
            told: Told::Nothing,
            stale: false,
            have,
            since: now,
        };
        state.subs.insert(sub.clone(), wish);
        match self.present_meaning(query) {
            Ok(QueryReference { statement, args }) => {
                self.apply_for(&statement, Applicant { session, sub, args });
            }
            Err(error) => self.refuse(session, &sub, error),
        }
    }

    /// Lets a subscription have a live query of the statement, as soon as that is analysed.
    pub(crate) fn apply_for(&mut self, statement: &Arc<Statement>, applicant: Applicant) {
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

    /// Asks the database about a statement that is not current and that nobody asks about.
    fn describe_if_nobody_does(&mut self, id: TemplateId, is_new: bool) {
        let is_left = |entry: &crate::templates::TemplateEntry| {
            !entry.is_current && matches!(entry.progress, Progress::Idle)
        };
        if is_new || self.templates.get(id).is_some_and(is_left) {
            self.describe(id);
        }
    }

    /// Asks the database about a statement.
    fn describe(&mut self, id: TemplateId) {
        let describe = self.next_describe_id();
        let Some(entry) = self.templates.get_mut(id) else { return };
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

    pub(crate) fn cast(&mut self, cast: CastId, values: Vec<Result<Option<String>, QueryError>>) {
        if let Some(id) = self.templates.cast(cast) {
            let Some(entry) = self.templates.get_mut(id) else { return };
            if let Progress::Casting(_, analysis) =
                std::mem::replace(&mut entry.progress, Progress::Idle)
            {
                let constants: Vec<_> =
                    values.into_iter().map(|value| value.ok().flatten()).collect();
                self.finish_analysis(id, *analysis, &constants);
            }
            return;
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

    fn finish_analysis(
        &mut self,
        id: TemplateId,
        analysis: Analysis,
        constants: &[Option<String>],
    ) {
        let template = match analysis.finish(constants) {
            Ok(template) => Arc::new(template),
            Err(error) => return self.analysis_failed(id, &error),
        };
        let number = self.next_number();
        let Some(entry) = self.templates.get_mut(id) else { return };
        let name = entry.statement.name.as_deref().unwrap_or("ad hoc");
        debug!(
            statement = name,
            incremental = matches!(template.plan, Plan::Window(_)),
            "analysed"
        );
        entry.progress = Progress::Idle;
        entry.retry_delay = RETRY_DELAY.0;
        entry.is_current = true;
        entry.current_since = number;
        entry.template = Some(template.clone());
        let applicants = std::mem::take(&mut entry.applicants);
        let queries: Vec<_> = entry.queries.iter().copied().collect();
        let changed_again = entry.changed_again;
        self.index.remove_template(id);
        if let Err(error) = self.index.add_template(id, template.predicates.clone()) {
            return self.analysis_failed(id, &internal(error));
        }
        self.set_tables();
        for query in queries {
            self.renew(query, &template);
        }
        for applicant in applicants {
            self.admit(id, &template, applicant);
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
        let disagrees = |entry: &crate::templates::TemplateEntry| {
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
    fn analysis_failed(&mut self, id: TemplateId, error: &QueryError) {
        let now = self.now;
        let Some(entry) = self.templates.get_mut(id) else { return };
        let delay = entry.retry_delay;
        entry.retry_delay = (delay * 2).min(RETRY_DELAY.1);
        let applicants = std::mem::take(&mut entry.applicants);
        let queries: Vec<_> = entry.queries.iter().copied().collect();
        entry.progress = Progress::Waiting;
        self.retries.set(id, now + delay);
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
        for query in queries {
            self.fail(query, error);
        }
        self.forget_template_if_idle(id);
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
        if let Some(query) = refused.query {
            self.leave(query, session, sub);
        }
    }

    /// Reads an applicant's arguments.
    fn admit(&mut self, id: TemplateId, template: &Arc<QueryTemplate>, applicant: Applicant) {
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
                    false => self.check_memory_for_new(),
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
        let slots = slots(template, &args)?;
        let bounds = bounds(template, &args)?;
        let query = self.next_query_id();
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
    fn renew(&mut self, id: QueryId, template: &Arc<QueryTemplate>) {
        self.detach_reads(id);
        let Some(query) = self.queries.get_mut(&id) else { return };
        let renewed = slots(template, &query.args)
            .and_then(|slots| Ok((slots, bounds(template, &query.args)?)));
        let (slots, bounds) = match renewed {
            Ok(renewed) => renewed,
            Err(error) => return self.fail(id, &error),
        };
        if query.columns != template.columns || matches!(query.value, Value::Failed(_)) {
            query.columns = template.columns.clone();
            query.value = Value::None;
        }
        query.slots = slots.clone();
        query.bounds = bounds;
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
            return;
        }
        self.batch.forget(id);
        self.release_membership(id);
        self.index.remove(id);
        self.dirty.remove(&id);
        self.due.cancel(id);
        let Some(query) = self.queries.remove(&id) else { return };
        self.memory_bytes -= query.weight;
        self.query_of.remove(&(query.template, query.args));
        // Its id may be used again once no read can answer for it any more.
        self.reads.forget(id);
        self.free_query_id(id);
        if let Some(entry) = self.templates.get_mut(query.template) {
            entry.queries.remove(&id);
        }
        self.forget_template_if_idle(query.template);
    }

    /// Forgets a statement that nobody subscribes to, where it failed or there are many.
    pub(crate) fn forget_template_if_idle(&mut self, id: TemplateId) {
        let Some(entry) = self.templates.get(id) else { return };
        let is_idle = entry.queries.is_empty() && entry.applicants.is_empty();
        let is_used_soon = self.casts.values().any(|cast| cast.template == id);
        let is_useless = (!entry.is_current
            && !matches!(entry.progress, Progress::Describing(_) | Progress::Casting(..)))
            || self.is_replaced(&entry.statement);
        let are_many = self.templates.len() > self.limits.idle_templates_max;
        if is_idle && !is_used_soon && (is_useless || are_many) {
            self.templates.remove(id);
            self.retries.cancel(id);
            self.index.remove_template(id);
            self.set_tables();
        }
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
        if matches!(entry.progress, Progress::Describing(_) | Progress::Casting(..)) {
            entry.changed_again = true;
        } else if queries.is_empty() && entry.applicants.is_empty() {
            return self.forget_template_if_idle(id);
        } else {
            self.describe(id);
        }
        for query in queries {
            self.detach_reads(query);
            self.make_dirty(query);
        }
    }

    /// Tries statements again that failed, where somebody subscribes to them.
    pub(crate) fn tick_templates(&mut self) {
        for id in self.retries.take_due(self.now) {
            let Some(entry) = self.templates.get(id) else { continue };
            if entry.queries.is_empty() && entry.applicants.is_empty() {
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

fn internal(error: convoy_query_index::IndexError) -> QueryError {
    QueryError::new(ErrorCode::Internal, error.to_string())
}

/// Returns what a live query with these arguments puts in its template's slots.
fn slots(template: &QueryTemplate, args: &ArgumentTexts) -> Result<Arc<[SlotValue]>, QueryError> {
    let key = |ty: &PgType, text: &str| {
        Key::of(ty, text.as_bytes()).map_err(|error| {
            QueryError::new(ErrorCode::Internal, format!("an argument could not be read: {error}"))
        })
    };
    template
        .slots
        .iter()
        .map(|slot| {
            let text = args.get(slot.param).and_then(Option::as_deref);
            match text {
                None => Ok(SlotValue::One(None)),
                Some(text) if slot.elements => {
                    let elements = array_elements(text);
                    let keys = elements.iter().map(|element| {
                        element.as_deref().map(|text| key(&slot.ty, text)).transpose()
                    });
                    Ok(SlotValue::Many(keys.collect::<Result<_, _>>()?))
                }
                Some(text) => Ok(SlotValue::One(Some(key(&slot.ty, text)?))),
            }
        })
        .collect()
}

/// Returns a window's offset and limit with the arguments put in.
fn bounds(template: &QueryTemplate, args: &ArgumentTexts) -> Result<Bounds, QueryError> {
    let Plan::Window(plan) = &template.plan else { return Ok(Bounds { offset: 0, limit: None }) };
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
    Ok(Bounds {
        offset: number(plan.offset, "OFFSET")?.unwrap_or(0),
        limit: number(plan.limit, "LIMIT")?,
    })
}
