//! A talk with an engine whose questions are answered by hand, one after the other.

use crate::world::{Panel, Question, Questions, World};
use convoy_engine::{
    Argument, Engine, Event, Limits, Outbox, OutboxState, QueryRead, QueryReference, ReadId,
    SessionId, Statement, StatementFacts, Transition,
};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

const SEED: u64 = 3;

struct NoReader;

impl Outbox for NoReader {
    fn send(&mut self, _: Transition) -> OutboxState {
        OutboxState::Ready
    }
}

/// An engine with a line and a session, whose questions are answered by hand.
pub struct Talk {
    pub limits: Limits,
    pub engine: Engine<Questions>,
    pub questions: Questions,
    pub world: World,
    pub random: SmallRng,
    pub now: Instant,
}

impl Talk {
    pub fn new() -> Self {
        // Short, so that other patience does not end first.
        let limits = Limits { read_silence_max: Duration::from_secs(5), ..Limits::default() };
        let mut random = SmallRng::seed_from_u64(SEED);
        let (world, questions) = (World::new(&mut random), Questions::default());
        let now = Instant::now();
        let engine = Engine::new(limits.clone(), questions.clone(), now);
        let mut talk = Talk { limits, engine, questions, world, random, now };
        talk.world.synchronous_standbys = false;
        talk.handle(Event::ReplicationStarted);
        let Question::Probe(id) = talk.question() else { panic!("something else is asked") };
        let probed = talk.world.probe();
        talk.handle(Event::SnapshotProbed(id, Ok(probed)));
        talk.handle(Event::SessionOpened(SessionId(1), Box::new(NoReader)));
        talk
    }

    pub fn handle(&mut self, event: Event) {
        self.engine.handle(self.now, event);
        self.engine.flush(self.now);
    }

    pub fn question(&mut self) -> Question {
        self.questions.take(&mut self.random).expect("a question")
    }

    /// Answers what the engine asks when time passes; a question that is not that stays.
    pub fn answer_probe(&mut self) {
        if let Some(id) = self.questions.take_probe() {
            let probed = self.world.probe();
            self.handle(Event::SnapshotProbed(id, Ok(probed)));
        }
    }

    pub fn subscribe(&mut self, panel: Panel) {
        let statement = Arc::new(Statement::ad_hoc(panel.sql()).expect("a statement"));
        let args = vec![Some(Argument::Number("0".to_owned()))];
        let query = QueryReference { statement, args };
        let sub = panel.sql().into();
        self.handle(Event::Subscribe { session: SessionId(1), sub, query, have: None });
    }

    /// Answers the one question there is, which is what a statement reads.
    pub fn describe(&mut self, change: impl Fn(StatementFacts) -> StatementFacts) {
        let Question::Describe(id, panel) = self.question() else { panic!("another question") };
        let facts = change(self.world.facts(panel));
        self.handle(Event::Described(id, Box::new(Ok(facts))));
    }

    /// Lets a read get as far as its snapshot.
    pub fn snapshot(&mut self) -> (ReadId, Vec<bool>) {
        let question = self.question();
        let Question::OpenRead(id) = question else { panic!("{question:?} is asked") };
        self.handle(Event::ReadOpened(id, Ok(BTreeSet::new())));
        (id, self.take_snapshot(id))
    }

    /// Answers the question for an open read's snapshot.
    pub fn take_snapshot(&mut self, id: ReadId) -> Vec<bool> {
        assert!(matches!(self.question(), Question::TakeSnapshot(read) if read == id));
        let (snapshot, shown) = self.world.snapshot();
        self.handle(Event::SnapshotTaken(id, Ok(snapshot)));
        shown
    }

    /// Lets the stream pass all that was committed.
    pub fn settle(&mut self) {
        let streamed = self.world.streamed().0;
        self.handle(Event::Progress(streamed));
    }

    /// Answers the queries of a read; returns how many there are.
    pub fn run(&mut self, read: ReadId, shown: &[bool]) -> usize {
        let Question::Run(id, queries) = self.question() else { panic!("another question") };
        assert_eq!(id, read);
        self.answer(read, &queries, shown);
        queries.len()
    }

    /// Answers these queries of a read, and ends it.
    pub fn answer(&mut self, read: ReadId, queries: &[QueryRead], shown: &[bool]) {
        for query in queries {
            let rows = self.world.read(SEED, shown, query);
            self.handle(Event::QueryRead(read, query.query, Ok(rows)));
        }
        self.handle(Event::ReadFinished(read));
    }

    pub fn commit(&mut self) {
        self.world.commit(&mut self.random);
        while !self.world.is_all_visible() {
            self.world.show(&mut self.random);
        }
        let transaction = self.world.stream().expect("a commit");
        self.handle(Event::Committed(transaction));
    }
}
