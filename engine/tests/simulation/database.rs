//! What the engine asks is answered: at once or later, well or not, or never.

use super::schedule::Schedule;
use crate::world::Question;
use convoy_engine::{
    CastRequest, CastValue, ErrorCode, Event, FunctionRead, QueryError, QueryRead, ReadId,
};
use rand::Rng;
use std::time::Duration;

/// One of the things that a read is asked.
enum Asked<'a> {
    Query(&'a QueryRead),
    Function(&'a FunctionRead),
}

impl Schedule {
    /// Answers a question, puts its answers on their way, or keeps silent.
    pub fn answer(&mut self) {
        self.release_closed();
        let Some(question) = self.questions.take(&mut self.random) else { return };
        self.trace(|_| format!("  asked {question:?}"));
        let fails = self.random.random_bool(self.temper.failures);
        match question {
            Question::Describe(id, panel) => {
                let facts = if fails { Err(failure()) } else { Ok(self.world.facts(panel)) };
                self.send(Event::Described(id, Box::new(facts)));
            }
            Question::Cast(id, values) => {
                let text = |value: CastRequest| match value.value {
                    CastValue::Text(text) | CastValue::Expression(text) => Ok(Some(text)),
                };
                self.handle(Event::Cast(id, values.into_iter().map(text).collect()));
            }
            Question::Probe(id) => {
                let probed = if fails { Err(failure()) } else { Ok(self.world.probe()) };
                self.send(Event::SnapshotProbed(id, probed));
            }
            Question::OpenRead(id) => {
                if self.is_silent() {
                    return;
                }
                if fails {
                    return self.handle(Event::ReadOpened(id, Err(failure())));
                }
                self.open_reads.insert(id, self.stream.crashes);
                let kept_out = self.kept_out();
                self.handle(Event::ReadOpened(id, Ok(kept_out)));
            }
            Question::TakeSnapshot(id) => {
                if self.is_silent() {
                    return;
                }
                if fails || !self.has_connection(id) {
                    // As a standby does, and a server that starts again.
                    self.open_reads.remove(&id);
                    return self.send(Event::SnapshotTaken(id, Err(failure())));
                }
                let (snapshot, shown) = self.world.snapshot();
                self.shown.insert(id, shown);
                // What happens between the snapshot and hearing of it is the point.
                self.send(Event::SnapshotTaken(id, Ok(snapshot)));
            }
            Question::Run(id, queries, functions) => self.run(id, &queries, &functions),
        }
    }

    fn run(&mut self, id: ReadId, queries: &[QueryRead], functions: &[FunctionRead]) {
        let has_connection = self.has_connection(id);
        let shown = self.shown.remove(&id);
        if self.is_silent() {
            return;
        }
        self.open_reads.remove(&id);
        let queries = queries.iter().map(|query| (query.query, Asked::Query(query)));
        let functions = functions.iter().map(|run| (run.query, Asked::Function(run)));
        for (query, asked) in queries.chain(functions) {
            let fails = self.random.random_bool(self.temper.failures);
            let answer = match (&shown, asked) {
                (Some(shown), Asked::Query(asked)) if has_connection && !fails => {
                    Event::QueryRead(id, query, Ok(self.world.read(shown, asked)))
                }
                (Some(shown), Asked::Function(asked)) if has_connection && !fails => {
                    Event::FunctionRead(id, query, self.world.run(shown, asked))
                }
                // It breaks off, and that is all there is to hear of it.
                _ if self.random.random_bool(0.3) => break,
                _ if self.random.random_bool(0.5) => {
                    let message = "canceling statement due to timeout";
                    Event::QueryRead(id, query, Err(QueryError::new(ErrorCode::Timeout, message)))
                }
                _ => Event::QueryRead(id, query, Err(failure())),
            };
            self.send(answer);
        }
        self.send(Event::ReadFinished(id));
    }

    /// Returns whether the connection that a read began on is still there.
    fn has_connection(&self, id: ReadId) -> bool {
        self.open_reads.get(&id) == Some(&self.stream.crashes)
    }

    fn is_silent(&mut self) -> bool {
        let is_silent = self.random.random_bool(self.temper.silence);
        self.seen.silences += usize::from(is_silent);
        is_silent
    }

    /// Puts an answer on its way. Some take long, as those of a slow statement or a connection that stalls.
    fn send(&mut self, event: Event) {
        let is_slow = self.random.random_bool(self.temper.silence);
        let delay = if is_slow { self.random.random_range(0..600) } else { 0 };
        self.answers.push((self.now + Duration::from_millis(delay), event));
    }

    /// What the engine has given up holds no locks.
    fn release_closed(&mut self) {
        for id in self.questions.take_closed() {
            self.open_reads.remove(&id);
        }
    }

    /// Lets one of the answers on their way arrive. Those of one read keep their order.
    pub fn arrive(&mut self) {
        let now = self.now;
        let read_of = |event: &Event| match event {
            Event::QueryRead(read, ..)
            | Event::FunctionRead(read, ..)
            | Event::ReadFinished(read) => Some(*read),
            _ => None,
        };
        let due = self.answers.iter().enumerate().filter(|(_, (due, _))| *due <= now);
        let due: Vec<usize> = due.map(|(at, _)| at).collect();
        if due.is_empty() {
            return;
        }
        let mut at = due[self.random.random_range(0..due.len())];
        if let Some(read) = read_of(&self.answers[at].1) {
            let is_of_it = |(_, event): &(_, Event)| read_of(event) == Some(read);
            at = self.answers.iter().position(is_of_it).unwrap_or(at);
        }
        let (_, event) = self.answers.remove(at);
        self.handle(event);
    }
}

fn failure() -> QueryError {
    QueryError::new(ErrorCode::Unavailable, "the database system is in recovery mode")
}
