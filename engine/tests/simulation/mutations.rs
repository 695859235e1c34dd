//! Mutations: begun, committed, answered or failed, tried again; and when their session is to be told of them.

use super::clients::Sent;
use super::schedule::Schedule;
use convoy_engine::{Event, SessionId};
use convoy_types::Lsn;
use rand::Rng;
use std::sync::Arc;

/// How far a mutation has got, as who asked for it knows.
#[derive(Clone, Copy, Debug)]
pub enum Progress {
    /// Its COMMIT is about to be sent, or was lost with its connection.
    Begun,
    /// Its transaction is committed, which nobody has answered.
    Committed(u64),
    /// It is answered, with a position that includes it.
    Done(u64, Lsn),
    /// Postgres refused it.
    Failed,
}

/// A mutation of a session.
#[derive(Debug)]
pub struct Mutation {
    pub session: SessionId,
    pub id: Arc<str>,
    pub progress: Progress,
}

impl Mutation {
    /// Returns its transaction.
    pub fn serial(&self) -> Option<u64> {
        match self.progress {
            Progress::Committed(serial) | Progress::Done(serial, _) => Some(serial),
            Progress::Begun | Progress::Failed => None,
        }
    }
}

impl Schedule {
    /// Something happens to a mutation, in the schedules that have any.
    pub fn step_mutations(&mut self) {
        if !self.temper.mutates || !self.random.random_bool(0.1) {
            return;
        }
        if self.random.random_bool(0.3) && !self.clients.is_empty() {
            let at = self.random.random_range(0..self.clients.len());
            self.begin_mutation(at);
        } else if !self.mutations.is_empty() {
            // Mostly one of the last.
            let ago = self.random.random_range(0..self.mutations.len().min(6));
            self.go_on_with(self.mutations.len() - 1 - ago);
        }
    }

    fn begin_mutation(&mut self, at: usize) {
        let session = self.clients[at].id;
        let id: Arc<str> = format!("m{}", self.mutations.len()).into();
        self.mutations.push(Mutation { session, id, progress: Progress::Begun });
        self.tell_begun(self.mutations.len() - 1);
        if self.random.random_bool(0.5) {
            self.go_on_with(self.mutations.len() - 1);
        }
    }

    /// It is about to commit: for the first time or again, after it was refused, or nobody knows what became of it.
    fn tell_begun(&mut self, nth: usize) {
        let mutation = &mut self.mutations[nth];
        mutation.progress = Progress::Begun;
        let event =
            Event::MutationBegun { session: mutation.session, mutation: mutation.id.clone() };
        self.handle(event);
    }

    /// Its next step.
    fn go_on_with(&mut self, nth: usize) {
        let (id, progress) = (self.mutations[nth].id.clone(), self.mutations[nth].progress);
        self.trace(|_| format!("mutation {id} {progress:?}"));
        match progress {
            Progress::Begun if self.random.random_bool(0.2) => {
                self.mutations[nth].progress = Progress::Failed;
                self.handle(Event::MutationFailed(id));
            }
            Progress::Begun => {
                let may_write = self.waits.is_none();
                let serial = self.world.commit_mutation(&mut self.random, id, may_write);
                self.mutations[nth].progress = Progress::Committed(serial);
            }
            Progress::Committed(serial) => {
                if self.world.commit_of(serial).is_none() {
                    // A crash has taken it back.
                    self.tell_begun(nth);
                } else if let Some(lsn) = self.world.answer_commit(serial, &mut self.random) {
                    self.mutations[nth].progress = Progress::Done(serial, lsn);
                    self.handle(Event::MutationDone(id, lsn));
                }
            }
            Progress::Failed if self.random.random_bool(0.5) => self.tell_begun(nth),
            Progress::Failed | Progress::Done(..) => {}
        }
    }

    /// Whoever waits for a mutation is answered.
    pub fn end_mutations(&mut self) {
        for nth in 0..self.mutations.len() {
            if !matches!(self.mutations[nth].progress, Progress::Failed | Progress::Done(..)) {
                self.go_on_with(nth);
            }
        }
    }

    /// Holds the mutations that a transition names against those that it contains. Returns those of them that are late
    /// transactions, as a set of bits: who is told of one sees it.
    pub fn check_reflects(&mut self, at: usize, sent: &Sent) -> usize {
        let (seed, Sent { epoch, losses, transition }) = (self.seed, sent);
        let position = usize::try_from(transition.position.0).expect("small");
        let client = &mut self.clients[at];
        let mut late = 0;
        for id in &transition.reflects {
            let is_it = |mutation: &&Mutation| mutation.id == *id && mutation.session == client.id;
            let mutation = self.mutations.iter().find(is_it);
            let mutation = mutation
                .unwrap_or_else(|| panic!("seed {seed}: session {} is told of {id}", client.id.0));
            let serial = mutation.serial().filter(|serial| self.world.commit_of(*serial).is_some());
            let serial = serial.unwrap_or_else(|| panic!("seed {seed}: {mutation:?} is named"));
            let contained = self.truth.contains(*epoch, serial, position);
            // A slot that was found may begin before what was applied: who is shown nothing of that may yet be told.
            let is_contained = contained != Some(false) || !client.is_shown_anything();
            assert!(is_contained, "seed {seed}: {mutation:?} is named and not contained");
            late |= self.truth.late_bit(*epoch, serial);
            if self.truth.came(serial) {
                self.seen.reflected += 1;
            } else {
                self.seen.passed += 1;
                let is_passed =
                    matches!(mutation.progress, Progress::Done(_, lsn) if lsn <= transition.lsn);
                let is_passed = is_passed || !client.is_shown_anything();
                assert!(is_passed, "seed {seed}: {mutation:?} is named at {}", transition.lsn);
            }
            if let Some(before) = client.named.insert(id.clone(), *losses) {
                self.seen.named_again += 1;
                assert!(before < *losses, "seed {seed}: {id} is named twice, and nothing was lost");
            }
        }
        if sent.is_final_error() {
            return late;
        }
        // What comes by itself is named at once.
        for mutation in self.mutations.iter().filter(|mutation| mutation.session == client.id) {
            let is_in = mutation
                .serial()
                .is_some_and(|serial| self.truth.is_applied(*epoch, serial, position));
            assert!(
                !is_in || client.named.contains_key(&mutation.id),
                "seed {seed}: {mutation:?} is contained at {position} and was never named"
            );
        }
        late
    }

    /// In the end every session knows of all its mutations.
    pub fn check_all_are_named(&self) {
        for mutation in &self.mutations {
            let Progress::Done(..) = mutation.progress else { continue };
            let client = self.clients.iter().find(|client| client.id == mutation.session);
            let is_named = client.is_none_or(|client| client.named.contains_key(&mutation.id));
            assert!(is_named, "seed {}: {mutation:?} was never named", self.seed);
        }
    }
}
