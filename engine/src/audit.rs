//! The audit: now and then one live query is read again, and what is read is compared with the value that is held for
//! that very point of the line. Drift can't be silent so: a difference is counted, logged, and mended.
//!
//! It goes by the engine's own reads, at a closed snapshot, but nobody waits for it: the query stays known all the
//! while, no session is staged or held. What is read of a query that is dirty or being read anyway says nothing, so such
//! a one is left out.

use crate::database::{Database, QueryError, ReadId};
use crate::engine::Engine;
use crate::facts::OutputColumn;
use crate::live_query::Knowledge;
use crate::read_rows::ReadRows;
use crate::row_list::RowList;
use crate::template::Audit;
use convoy_query_index::QueryId;
use convoy_types::RelationId;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;
use tracing::{debug, error};

/// Live queries that are looked at for one that may be audited, each time.
const CANDIDATES_MAX: usize = 1_000;

/// Keys of rows that are named when results differ.
const KEYS_MAX: usize = 8;

/// Which query is audited, and which was.
#[derive(Debug)]
pub(crate) struct Audits {
    /// When the next one begins. Nothing but the clock moves it.
    due: Instant,
    /// Where to look for the next one: queries take turns.
    next: QueryId,
    /// The query that goes into the next read.
    wanted: Option<QueryId>,
    /// The one that is being read.
    running: Option<Running>,
}

/// An audit under way.
#[derive(Debug)]
struct Running {
    read: ReadId,
    query: QueryId,
    /// What was held where the read's snapshot closed.
    held: RowList,
    columns: Arc<[OutputColumn]>,
}

impl Audits {
    /// Returns audits that begin to be due at this time.
    pub fn new(now: Instant) -> Self {
        Audits { due: now, next: QueryId(0), wanted: None, running: None }
    }

    /// Returns the query that waits for a read.
    pub fn wanted(&self) -> Option<QueryId> {
        self.wanted
    }

    /// Returns whether this read's answer for a query is an audit's.
    pub fn is_of(&self, read: ReadId, query: QueryId) -> bool {
        self.running.as_ref().is_some_and(|audit| (audit.read, audit.query) == (read, query))
    }

    /// Forgets the audit of a query that is gone, or is read by another statement from now on.
    pub fn forget(&mut self, query: QueryId) {
        self.wanted.take_if(|wanted| *wanted == query);
        self.running.take_if(|audit| audit.query == query);
    }

    /// Forgets the audit that a read was for.
    pub fn forget_read(&mut self, read: ReadId) {
        self.running.take_if(|audit| audit.read == read);
    }

    /// Forgets what is under way.
    pub fn abandon(&mut self) {
        (self.wanted, self.running) = (None, None);
    }
}

impl<D: Database> Engine<D> {
    /// Returns when the next audit is due; none where there is nothing to audit.
    pub(crate) fn audit_deadline(&self) -> Option<Instant> {
        let is_on = !self.limits.audit_interval.is_zero() && self.line.is_some();
        (is_on && self.queries.len() > 0).then_some(self.audits.due)
    }

    /// Chooses the query that is audited next, when it is time to.
    pub(crate) fn tick_audit(&mut self) {
        if self.audit_deadline().is_none_or(|due| self.now < due) {
            return;
        }
        self.audits.due = self.now + self.limits.audit_interval;
        if self.audits.running.is_some() {
            return;
        }
        self.audits.wanted = self.next_to_audit(|_, _| true);
    }

    /// Returns the query whose turn it is, of those that may be audited and fit.
    fn next_to_audit(&mut self, fits: impl Fn(&Self, QueryId) -> bool) -> Option<QueryId> {
        let mut from = self.audits.next;
        for _ in 0..CANDIDATES_MAX.min(self.queries.len()) {
            let id = self.queries.next_from(from).or(self.queries.next_from(QueryId(0)))?;
            from = QueryId(id.0 + 1);
            if self.may_be_audited(id) && fits(self, id) {
                self.audits.next = from;
                return Some(id);
            }
        }
        self.audits.next = from;
        None
    }

    /// Returns whether a query has a value at the head that reading it must give.
    pub(crate) fn may_be_audited(&self, id: QueryId) -> bool {
        let Some(query) = self.queries.get(&id) else { return false };
        query.knowledge == Knowledge::Known
            && query.reads.is_empty()
            && !query.subscribers.is_empty()
            && query.value.rows().is_some()
            && self.template_of(id).is_some_and(|template| template.audit != Audit::Never)
            && self.may_be_read(id)
    }

    /// Takes the wanted audit into a read whose snapshot has just closed; another one, where that query has been touched
    /// meanwhile.
    pub(crate) fn begin_audit(
        &mut self,
        read: ReadId,
        tables: &BTreeSet<RelationId>,
        asked: u64,
    ) -> Option<QueryId> {
        let wanted = self.audits.wanted.take()?;
        let serves = |engine: &Self, id| {
            let query = engine.queries.get(&id);
            engine.may_be_audited(id)
                && query.is_some_and(|query| engine.is_answered_by(query.template, asked, tables))
        };
        let id = if serves(self, wanted) { wanted } else { self.next_to_audit(serves)? };
        let query = self.queries.get(&id)?;
        let (held, columns) = (query.value.rows()?.clone(), query.columns.clone());
        self.audits.running = Some(Running { read, query: id, held, columns });
        Some(id)
    }

    /// Compares what an audit has read with what was held there.
    pub(crate) fn audited(&mut self, id: QueryId, outcome: Result<ReadRows, QueryError>) {
        let Some(Running { held, columns, .. }) = self.audits.running.take() else { return };
        let value = match outcome {
            Ok(rows) => self.value_of(id, Ok(rows)),
            Err(error) => return debug!(query = id.0, %error, "a result could not be audited"),
        };
        // What its plan can't keep any more will be noticed with the next change.
        let Some(found) = value.as_ref().ok().and_then(|value| value.rows()) else { return };
        self.counters.audits += 1;
        let (expected, digest) = (held.digest(&columns), found.digest(&columns));
        if expected == digest {
            return;
        }
        let Some(template) = self.template_of(id) else { return };
        if template.audit == Audit::Lenient {
            debug!(query = id.0, "the same rows may be shown in several ways, and now are");
        } else {
            self.counters.audit_mismatches += 1;
            let keys = differing_keys(&held, found).join(", ");
            let name = template.statement.name.as_deref().unwrap_or("ad hoc");
            error!(
                query = id.0, statement = name, keys, held = %expected, read = %digest,
                "a live result is not what the database says: it is read anew"
            );
        }
        self.make_dirty(id);
    }
}

/// Returns the keys of rows that are in one result and not, or otherwise, in the other; where only their order differs,
/// those that stand elsewhere.
fn differing_keys(held: &RowList, found: &RowList) -> Vec<String> {
    let by_key = |rows: &RowList| -> HashMap<Box<str>, usize> {
        rows.rows().iter().enumerate().map(|(at, row)| (row.key().into(), at)).collect()
    };
    let (places, found_places) = (by_key(held), by_key(found));
    let is_same = |key: &str, (at, other): (usize, usize)| {
        key.is_empty() || (held.rows()[at] == found.rows()[other])
    };
    let mut keys: Vec<String> = Vec::new();
    let mut elsewhere: Vec<String> = Vec::new();
    for (at, row) in held.rows().iter().enumerate() {
        match found_places.get(row.key()) {
            Some(&other) if is_same(row.key(), (at, other)) => {
                if at != other {
                    elsewhere.push(row.key().to_owned());
                }
            }
            _ => keys.push(row.key().to_owned()),
        }
    }
    let new = found.rows().iter().filter(|row| !places.contains_key(row.key()));
    keys.extend(new.map(|row| row.key().to_owned()));
    if keys.is_empty() {
        keys = elsewhere;
    }
    keys.truncate(KEYS_MAX);
    keys
}
