//! Mutations of sessions: which transactions of the stream are theirs, and which transition newly contains one.
//!
//! A mutation names itself in its own transaction, by a logical message. The engine is told of it before it commits, and
//! names it to its session in the first transition that is written down after the transaction was applied. Where the
//! transaction never comes by itself (the stream was lost meanwhile, or it was collapsed with others), it is named once the
//! line has passed the position that its commit was answered with, and nothing that was open when the line began can be it
//! without our knowing.

use crate::database::{Database, ProbeId};
use crate::engine::Engine;
use crate::session::SessionId;
use convoy_types::{Lsn, PgTimestamp, Transaction};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// The prefix of the messages by which mutations name themselves; the content is the mutation's id.
pub const MUTATION_PREFIX: &str = "convoy.mutation";

/// Mutations of one session that are expected or waiting to be named; the oldest give way.
const PER_SESSION_MAX: usize = 1024;

/// What was named lately is named again to a session that may not have heard it: so many.
const NAMED_AGAIN_MAX: usize = 64;

/// Mutations that are under way, and whose transactions have not come.
#[derive(Debug, Default)]
pub(crate) struct ExpectedMutations {
    sessions: HashMap<Arc<str>, SessionId>,
    counts: HashMap<SessionId, usize>,
    /// Those of them that are known to be committed.
    done: Vec<Done>,
}

/// A mutation that is known to be committed, and visible.
#[derive(Debug)]
struct Done {
    mutation: Arc<str>,
    /// Its commit lies before this position.
    before: Lsn,
    /// What is asked for later than this shows it.
    asked_last: ProbeId,
}

impl ExpectedMutations {
    fn expect(&mut self, mutation: Arc<str>, session: SessionId) {
        let count = self.counts.entry(session).or_default();
        if *count < PER_SESSION_MAX && self.sessions.insert(mutation, session).is_none() {
            *count += 1;
        }
    }

    fn take(&mut self, mutation: &str) -> Option<SessionId> {
        let session = self.sessions.remove(mutation)?;
        if let Some(count) = self.counts.get_mut(&session) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&session);
            }
        }
        Some(session)
    }

    fn done(&mut self, mutation: Arc<str>, before: Lsn, asked_last: ProbeId) {
        if self.sessions.contains_key(&mutation) {
            self.done.push(Done { mutation, before, asked_last });
        }
    }

    /// Takes those whose commits lie before a position, whose transactions have not come, and that this probe showed; none
    /// stands for one that is asked whenever.
    fn take_passed(&mut self, position: Lsn, shown: Option<ProbeId>) -> Vec<(SessionId, Arc<str>)> {
        let is_passed = |done: &mut Done| {
            done.before <= position && shown.is_none_or(|shown| shown > done.asked_last)
        };
        let passed: Vec<_> = self.done.extract_if(.., is_passed).collect();
        let passed = passed.into_iter().map(|done| done.mutation);
        passed.filter_map(|id| Some((self.take(&id)?, id))).collect()
    }

    fn forget_session(&mut self, session: SessionId) {
        if self.counts.remove(&session).is_some() {
            self.sessions.retain(|_, of| *of != session);
        }
    }
}

/// A mutation that a session is to be told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reflection {
    mutation: Arc<str>,
    /// When it committed; none where its transaction never came.
    committed_at: Option<PgTimestamp>,
}

/// Mutations that a transition is the first to contain.
#[derive(Debug, Default)]
pub(crate) struct Reflected(Vec<Reflection>);

impl Reflected {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns when the newest of them committed, as far as that is known.
    pub fn committed_at(&self) -> Option<PgTimestamp> {
        self.0.iter().filter_map(|reflection| reflection.committed_at).max()
    }

    pub fn into_ids(self) -> Vec<Arc<str>> {
        self.0.into_iter().map(|reflection| reflection.mutation).collect()
    }
}

/// Mutations that a session is to be told of, or was told of lately.
#[derive(Debug, Default)]
pub(crate) struct Reflections {
    due: VecDeque<Reflection>,
    named: VecDeque<Reflection>,
}

impl Reflections {
    fn add(&mut self, mutation: Arc<str>, committed_at: Option<PgTimestamp>) {
        if self.due.len() >= PER_SESSION_MAX {
            self.due.pop_front();
        }
        self.due.push_back(Reflection { mutation, committed_at });
    }

    /// Returns whether a transition that is written down now names any.
    pub fn are_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// Takes those that a transition which is written down now names.
    pub fn take(&mut self) -> Reflected {
        let taken: Vec<_> = self.due.drain(..).collect();
        self.named.extend(taken.iter().cloned());
        while self.named.len() > NAMED_AGAIN_MAX {
            self.named.pop_front();
        }
        Reflected(taken)
    }

    /// Has those named that a transition would have named that will not be sent, before all others.
    pub fn give_back(&mut self, Reflected(taken): Reflected) {
        self.named.retain(|named| !taken.contains(named));
        taken.into_iter().rev().for_each(|reflection| self.due.push_front(reflection));
    }

    /// Has those named again that were named lately: it may not have arrived.
    pub fn name_again(&mut self) {
        self.due.extend(self.named.drain(..));
    }
}

impl<D: Database> Engine<D> {
    /// Expects a mutation's transaction.
    pub(crate) fn expect_mutation(&mut self, session: SessionId, mutation: Arc<str>) {
        if self.sessions.get(session).is_some() {
            self.expected.expect(mutation, session);
        }
    }

    /// Expects it no more: it came to nothing.
    pub(crate) fn mutation_failed(&mut self, mutation: &str) {
        self.expected.take(mutation);
    }

    /// Expects it no longer than until the line has passed a position.
    pub(crate) fn mutation_done(&mut self, mutation: Arc<str>, before: Lsn) {
        let asked_last = self.last_probe_id();
        self.expected.done(mutation, before, asked_last);
    }

    /// Notes mutations whose commits the line has passed without a word of them.
    pub(crate) fn note_passed_mutations(&mut self, label: Lsn) {
        let Some(line) = self.line.as_ref().filter(|line| !line.may_have_overlooked()) else {
            return;
        };
        // One that was open when the line began may be just this one: then everything is read again once that is known.
        let shown = line.has_open().then_some(self.probe.answered);
        for (session, mutation) in self.expected.take_passed(label, shown) {
            if let Some(state) = self.sessions.get_mut(session) {
                state.reflections.add(mutation, None);
                self.sessions.stir(session);
            }
        }
    }

    /// Notes which mutations a transaction is, which was just applied.
    pub(crate) fn note_mutations(&mut self, transaction: &Transaction) {
        for message in
            transaction.messages.iter().filter(|message| message.prefix == MUTATION_PREFIX)
        {
            let Ok(mutation) = std::str::from_utf8(&message.content) else { continue };
            let Some(session) = self.expected.take(mutation) else { continue };
            if let Some(state) = self.sessions.get_mut(session) {
                state.reflections.add(mutation.into(), Some(transaction.commit_time));
                self.sessions.stir(session);
            }
        }
    }

    /// Forgets a session's mutations.
    pub(crate) fn forget_mutations_of(&mut self, session: SessionId) {
        self.expected.forget_session(session);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mutation_is_named_once_it_is_contained_and_again_where_that_may_be_lost() {
        let mut reflections = Reflections::default();
        assert!(!reflections.are_due());
        reflections.add("a".into(), Some(PgTimestamp(2)));
        assert_eq!(reflections.take().into_ids(), ["a".into()]);
        reflections.add("b".into(), None);
        let taken = reflections.take();
        assert_eq!((taken.committed_at(), reflections.are_due()), (None, false));
        reflections.give_back(taken);
        assert_eq!(reflections.take().into_ids(), ["b".into()]);
        reflections.name_again();
        let taken = reflections.take();
        assert_eq!(taken.committed_at(), Some(PgTimestamp(2)));
        assert_eq!(taken.into_ids(), ["a".into(), "b".into()]);
    }

    #[test]
    fn a_session_that_closes_takes_its_mutations_along() {
        let mut expected = ExpectedMutations::default();
        expected.expect("a".into(), SessionId(1));
        expected.expect("b".into(), SessionId(1));
        expected.expect("c".into(), SessionId(2));
        assert_eq!(expected.take("a"), Some(SessionId(1)));
        expected.forget_session(SessionId(1));
        assert_eq!(expected.take("b"), None);
        assert_eq!(expected.take("c"), Some(SessionId(2)));
        assert!(expected.counts.is_empty());
    }

    #[test]
    fn one_whose_transaction_never_comes_is_passed_with_its_position() {
        let mut expected = ExpectedMutations::default();
        for (id, at) in [("a", 10), ("b", 20), ("c", 30)] {
            expected.expect(id.into(), SessionId(1));
            expected.done(id.into(), Lsn(at), ProbeId(at));
        }
        expected.done("unknown".into(), Lsn(1), ProbeId(1));
        assert_eq!(expected.take("b"), Some(SessionId(1)), "its transaction came");
        assert_eq!(expected.take_passed(Lsn(9), None), []);
        assert_eq!(
            expected.take_passed(Lsn(20), Some(ProbeId(10))),
            [],
            "asked before it was done"
        );
        assert_eq!(expected.take_passed(Lsn(20), Some(ProbeId(11))), [(SessionId(1), "a".into())]);
        assert_eq!(expected.take_passed(Lsn(30), None), [(SessionId(1), "c".into())]);
        assert!(expected.done.is_empty() && expected.sessions.is_empty());
    }
}
