//! What becomes of statements when the catalogue changes under them.

use crate::world::{Panel, Question, Questions, World};
use convoy_engine::{
    Argument, ColumnFacts, Engine, Event, Limits, Outbox, OutboxState, QueryReference, ReadId,
    SessionId, Statement, StatementFacts, Transition,
};
use convoy_query_index::FieldId;
use convoy_types::Lsn;
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
struct Talk {
    limits: Limits,
    engine: Engine<Questions>,
    questions: Questions,
    world: World,
    random: SmallRng,
    now: Instant,
}

impl Talk {
    fn new() -> Self {
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

    fn handle(&mut self, event: Event) {
        self.engine.handle(self.now, event);
        self.engine.flush(self.now);
    }

    fn question(&mut self) -> Question {
        self.questions.take(&mut self.random).expect("a question")
    }

    /// Answers what the engine asks when time passes; a question that is not that stays.
    fn answer_probe(&mut self) {
        if let Some(id) = self.questions.take_probe() {
            let probed = self.world.probe();
            self.handle(Event::SnapshotProbed(id, Ok(probed)));
        }
    }

    fn subscribe(&mut self, panel: Panel) {
        let statement = Arc::new(Statement::ad_hoc(panel.sql()).expect("a statement"));
        let args = vec![Some(Argument::Number("0".to_owned()))];
        let query = QueryReference { statement, args };
        let sub = panel.sql().into();
        self.handle(Event::Subscribe { session: SessionId(1), sub, query, have: None });
    }

    /// Answers the one question there is, which is what a statement reads.
    fn describe(&mut self, change: impl Fn(StatementFacts) -> StatementFacts) {
        let Question::Describe(id, panel) = self.question() else { panic!("another question") };
        let facts = change(self.world.facts(panel));
        self.handle(Event::Described(id, Box::new(Ok(facts))));
    }

    /// Lets a read get as far as its snapshot.
    fn snapshot(&mut self) -> (ReadId, Vec<bool>) {
        let question = self.question();
        let Question::OpenRead(id) = question else { panic!("{question:?} is asked") };
        self.handle(Event::ReadOpened(id, Ok(BTreeSet::new())));
        assert!(matches!(self.question(), Question::TakeSnapshot(read) if read == id));
        let (snapshot, shown) = self.world.snapshot();
        self.handle(Event::SnapshotTaken(id, Ok(snapshot)));
        (id, shown)
    }

    /// Lets the stream pass all that was committed.
    fn settle(&mut self) {
        let streamed = self.world.streamed().0;
        self.handle(Event::Progress(streamed));
    }

    /// Answers the queries of a read; returns how many there are.
    fn run(&mut self, read: ReadId, shown: &[bool]) -> usize {
        let Question::Run(id, queries) = self.question() else { panic!("another question") };
        assert_eq!(id, read);
        for query in &queries {
            let rows = self.world.read(SEED, shown, query);
            self.handle(Event::QueryRead(read, query.query, Ok(rows)));
        }
        self.handle(Event::ReadFinished(read));
        queries.len()
    }

    fn commit(&mut self) {
        self.world.commit(&mut self.random);
        while !self.world.is_all_visible() {
            self.world.show(&mut self.random);
        }
        let transaction = self.world.stream().expect("a commit");
        self.handle(Event::Committed(transaction));
    }
}

/// The table after `ALTER TABLE items ADD COLUMN`, if a column could be added in the middle.
fn altered(mut facts: StatementFacts) -> StatementFacts {
    let mut table = (*facts.tables[0]).clone();
    let added = ColumnFacts { name: "added".to_owned(), ..table.columns[2].clone() };
    table.columns.insert(0, added);
    table.primary_key = vec![FieldId(1)];
    facts.tables = vec![Arc::new(table)];
    facts
}

#[test]
fn p7_statements_that_know_a_table_otherwise_are_analysed_again() {
    // Which facts count for the stream was a matter of chance.
    for order in 0..16 {
        let mut talk = Talk::new();
        let (earlier, later): (fn(_) -> _, fn(_) -> _) =
            if order % 2 == 0 { (|facts| facts, altered) } else { (altered, |facts| facts) };
        talk.subscribe(Panel::Group);
        talk.describe(earlier);
        let (read, shown) = talk.snapshot();
        talk.settle();
        assert_eq!(talk.run(read, &shown), 1);
        // Described after the ALTER, or by somebody slow from before it; nobody has told of it yet.
        talk.subscribe(Panel::Top);
        talk.describe(later);
        for _ in 0..5 {
            talk.commit();
        }
        // Both again, and now they agree.
        talk.describe(altered);
        talk.describe(altered);
        let (read, shown) = talk.snapshot();
        talk.settle();
        assert_eq!(talk.run(read, &shown), 2);
        talk.commit();
        assert_eq!(talk.engine.status().dirty_queries, 0);
    }
}

#[test]
fn p2_what_was_analysed_meanwhile_is_not_read_at_an_older_snapshot() {
    let mut talk = Talk::new();
    talk.subscribe(Panel::Group);
    talk.describe(|facts| facts);
    let (read, shown) = talk.snapshot();
    talk.settle();
    assert_eq!(talk.run(read, &shown), 1);
    // Sums are always read.
    talk.subscribe(Panel::Sum);
    talk.describe(|facts| facts);
    // Somebody writes without a table's being published, until it is: the snapshot does not show that.
    talk.world.commit(&mut talk.random);
    let (_, _) = talk.snapshot();
    let table = talk.world.facts(Panel::Sum).tables[0].id;
    talk.handle(Event::CatalogChanged(vec![table]));
    talk.describe(|facts| facts);
    talk.describe(|facts| facts);
    // The old snapshot closes, and nothing is read at it.
    let commit = talk.world.stream().expect("a commit");
    talk.handle(Event::Progress(Lsn(commit.end_lsn.0)));
    while !talk.world.is_all_visible() {
        talk.world.show(&mut talk.random);
    }
    let (newer, shown) = talk.snapshot();
    talk.settle();
    assert_eq!(talk.run(newer, &shown), 2);
    assert_eq!(talk.engine.status().dirty_queries, 0);
}

#[test]
fn a_read_that_is_silent_is_given_up_and_read_again() {
    let mut talk = Talk::new();
    talk.subscribe(Panel::ALL[0]);
    talk.describe(|facts| facts);
    let silence = talk.limits.read_silence_max;
    // Waiting for its locks.
    assert!(matches!(talk.question(), Question::OpenRead(_)));
    let pass = |talk: &mut Talk| {
        talk.now += silence;
        for _ in 0..2 {
            // Once for the silence, once for the pause after it.
            talk.handle(Event::Tick);
            talk.now += silence / 10;
        }
        talk.handle(Event::Tick);
        talk.answer_probe();
    };
    pass(&mut talk);
    // Running.
    let (read, shown) = talk.snapshot();
    talk.settle();
    assert!(matches!(talk.question(), Question::Run(id, _) if id == read));
    pass(&mut talk);
    let (again, shown_again) = talk.snapshot();
    talk.settle();
    // What the first one has to say comes too late.
    assert_ne!(read, again);
    assert_eq!(shown, shown_again);
    assert_eq!(talk.run(again, &shown_again), 1);
    assert_eq!(talk.engine.status().dirty_queries, 0);
}
