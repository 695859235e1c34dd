//! Mutations of sessions: which transactions of the stream are theirs, and which transition newly contains one.
//!
//! A mutation names itself in its own transaction, by a logical message. The engine is told of it before it commits, and
//! names it to its session in the first transition whose point of the line is not before the transaction's. Where the
//! transaction never comes by itself (the stream was lost meanwhile, or it was collapsed with others), it is named once the
//! line has passed the position that its commit was answered with.

use crate::database::Database;
use crate::engine::Engine;
use crate::line::Position;
use crate::session::SessionId;
use convoy_types::{LogicalMessage, Lsn};
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
    /// Those of them that are known to be committed, and before which position.
    done: Vec<(Lsn, Arc<str>)>,
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

    fn done(&mut self, mutation: Arc<str>, before: Lsn) {
        if self.sessions.contains_key(&mutation) {
            self.done.push((before, mutation));
        }
    }

    /// Takes those whose commits lie before a position, and whose transactions have not come.
    fn take_passed(&mut self, position: Lsn) -> Vec<(SessionId, Arc<str>)> {
        let passed: Vec<_> = self.done.extract_if(.., |(before, _)| *before <= position).collect();
        passed.into_iter().filter_map(|(_, id)| Some((self.take(&id)?, id))).collect()
    }

    fn forget_session(&mut self, session: SessionId) {
        if self.counts.remove(&session).is_some() {
            self.sessions.retain(|_, of| *of != session);
        }
    }
}

/// Mutations that a session is to be told of, or was told of lately.
#[derive(Debug, Default)]
pub(crate) struct Reflections {
    due: VecDeque<(Position, Arc<str>)>,
    named: VecDeque<(Position, Arc<str>)>,
}

impl Reflections {
    fn add(&mut self, position: Position, mutation: Arc<str>) {
        if self.due.len() >= PER_SESSION_MAX {
            self.due.pop_front();
        }
        self.due.push_back((position, mutation));
    }

    /// Returns whether a transition to this point of the line would name any.
    pub fn are_due(&self, position: Position) -> bool {
        self.due.iter().any(|(of, _)| *of <= position)
    }

    /// Takes those that a transition to this point of the line names.
    pub fn take(&mut self, position: Position) -> Vec<Arc<str>> {
        if self.due.is_empty() {
            return Vec::new();
        }
        let (named, due): (VecDeque<_>, _) =
            std::mem::take(&mut self.due).into_iter().partition(|(of, _)| *of <= position);
        self.due = due;
        let ids = named.iter().map(|(_, mutation)| mutation.clone()).collect();
        self.named.extend(named);
        while self.named.len() > NAMED_AGAIN_MAX {
            self.named.pop_front();
        }
        ids
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
        self.expected.done(mutation, before);
    }

    /// Notes mutations whose commits the line has passed without a word of them.
    pub(crate) fn note_passed_mutations(&mut self, label: Lsn) {
        let head = self.head();
        for (session, mutation) in self.expected.take_passed(label) {
            if let Some(state) = self.sessions.get_mut(session) {
                state.reflections.add(head, mutation);
                self.sessions.stir(session);
            }
        }
    }

    /// Notes which mutations a transaction is, which was just applied.
    pub(crate) fn note_mutations(&mut self, messages: &[LogicalMessage]) {
        let head = self.head();
        for message in messages.iter().filter(|message| message.prefix == MUTATION_PREFIX) {
            let Ok(mutation) = std::str::from_utf8(&message.content) else { continue };
            let Some(session) = self.expected.take(mutation) else { continue };
            if let Some(state) = self.sessions.get_mut(session) {
                state.reflections.add(head, mutation.into());
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
        reflections.add(Position(3), "a".into());
        reflections.add(Position(5), "b".into());
        assert!(!reflections.are_due(Position(2)));
        assert_eq!(reflections.take(Position(4)), ["a".into()]);
        assert_eq!(reflections.take(Position(4)), [] as [Arc<str>; 0]);
        assert_eq!(reflections.take(Position(5)), ["b".into()]);
        reflections.name_again();
        assert_eq!(reflections.take(Position(5)), ["a".into(), "b".into()]);
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
            expected.done(id.into(), Lsn(at));
        }
        expected.done("unknown".into(), Lsn(1));
        assert_eq!(expected.take("b"), Some(SessionId(1)), "its transaction came");
        assert_eq!(expected.take_passed(Lsn(9)), []);
        assert_eq!(expected.take_passed(Lsn(20)), [(SessionId(1), "a".into())]);
        assert_eq!(expected.take_passed(Lsn(30)), [(SessionId(1), "c".into())]);
        assert!(expected.done.is_empty() && expected.sessions.is_empty());
    }
}
