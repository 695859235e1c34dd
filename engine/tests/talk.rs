//! A talk with an engine whose questions are answered by hand, one after the other.

use crate::world::{Panel, Question, Questions, World};
use convoy_engine::{
    Engine, Event, Limits, Outbox, OutboxState, QueryError, QueryRead, ReadId, ResultRow,
    SessionId, StatementFacts, Transition, UpdateKind, apply_diff,
};
use convoy_types::Lsn;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const SEED: u64 = 3;

/// What a client has of each subscription.
type Shown = BTreeMap<Arc<str>, Result<Vec<ResultRow>, QueryError>>;

/// The session's client.
#[derive(Clone, Default)]
struct Client {
    shown: Arc<Mutex<Shown>>,
    /// Whether its outbox is full after the next transition.
    is_slow: Arc<AtomicBool>,
}

impl Outbox for Client {
    fn send(&mut self, transition: Transition) -> OutboxState {
        let mut shown = self.shown.lock().expect("no panic under it");
        for update in transition.updates {
            match update.kind {
                UpdateKind::Snapshot(snapshot) => {
                    shown.insert(update.sub, Ok(snapshot.value.rows.clone()));
                }
                UpdateKind::Error { error, .. } => {
                    shown.insert(update.sub, Err(error));
                }
                UpdateKind::Diffs(diffs) => {
                    let Some(Ok(rows)) = shown.get_mut(&update.sub) else {
                        panic!("a diff of nothing")
                    };
                    for diff in diffs {
                        apply_diff(rows, &diff.value.ops).expect("a diff that fits");
                    }
                }
                UpdateKind::Unchanged | UpdateKind::Stale(_) => {}
            }
        }
        if self.is_slow.load(Ordering::Relaxed) { OutboxState::Full } else { OutboxState::Ready }
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
    client: Client,
}

impl Talk {
    pub fn new() -> Self {
        // Short, so that other patience does not end first.
        let read_silence_max = Duration::from_secs(5);
        Talk::with_limits(Limits { read_silence_max, ..Limits::default() })
    }

    pub fn with_limits(limits: Limits) -> Self {
        let mut random = SmallRng::seed_from_u64(SEED);
        let (world, questions) = (World::new(&mut random), Questions::default());
        let now = Instant::now();
        let engine = Engine::new(limits.clone(), questions.clone(), now);
        let client = Client::default();
        let mut talk =
            Talk { limits, engine, questions, world, random, now, client: client.clone() };
        talk.world.synchronous_standbys = false;
        talk.handle(Event::ReplicationStarted);
        let Question::Probe(id) = talk.question() else { panic!("something else is asked") };
        let probed = talk.world.probe();
        talk.handle(Event::SnapshotProbed(id, Ok(probed)));
        talk.handle(Event::SessionOpened(SessionId(1), Box::new(client)));
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
        let query = panel.reference("", 0);
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

    /// Answers a whole read, which has to be of so many queries.
    pub fn read(&mut self, count: usize) {
        let (read, shown) = self.snapshot();
        self.settle();
        assert_eq!(self.run(read, &shown), count);
    }

    /// Answers the queries of a read; returns how many there are.
    pub fn run(&mut self, read: ReadId, shown: &[bool]) -> usize {
        let Question::Run(id, queries, functions) = self.question() else {
            panic!("another question")
        };
        assert_eq!(id, read);
        for function in &functions {
            let answer = self.world.run(shown, function);
            self.handle(Event::FunctionRead(read, function.query, answer));
        }
        self.answer(read, &queries, shown);
        queries.len() + functions.len()
    }

    /// Answers these queries of a read, and ends it.
    pub fn answer(&mut self, read: ReadId, queries: &[QueryRead], shown: &[bool]) {
        for query in queries {
            let rows = self.world.read(shown, query);
            self.handle(Event::QueryRead(read, query.query, Ok(rows)));
        }
        self.handle(Event::ReadFinished(read));
    }

    /// Lets the session's outbox be full, with an empty transition in it.
    pub fn stall(&mut self) {
        self.client.is_slow.store(true, Ordering::Relaxed);
        self.handle(Event::Await(SessionId(1), Lsn(0)));
    }

    /// The session's outbox has room again.
    pub fn drain(&mut self) {
        self.client.is_slow.store(false, Ordering::Relaxed);
        self.handle(Event::OutboxDrained(SessionId(1)));
    }

    /// Answers whatever is asked, until nothing is.
    pub fn answer_everything(&mut self) {
        let mut snapshots = BTreeMap::new();
        while !self.questions.is_empty() {
            match self.question() {
                Question::Describe(id, panel) => {
                    let facts = self.world.facts(panel);
                    self.handle(Event::Described(id, Box::new(Ok(facts))));
                }
                Question::Probe(id) => {
                    let probed = self.world.probe();
                    self.handle(Event::SnapshotProbed(id, Ok(probed)));
                }
                Question::OpenRead(id) => {
                    self.handle(Event::ReadOpened(id, Ok(BTreeSet::new())));
                }
                Question::TakeSnapshot(id) => {
                    let (snapshot, shown) = self.world.snapshot();
                    snapshots.insert(id, shown);
                    self.handle(Event::SnapshotTaken(id, Ok(snapshot)));
                    self.settle();
                }
                Question::Run(id, queries, functions) => {
                    for function in &functions {
                        let answer = self.world.run(&snapshots[&id], function);
                        self.handle(Event::FunctionRead(id, function.query, answer));
                    }
                    self.answer(id, &queries, &snapshots[&id]);
                }
                Question::Cast(..) => panic!("a cast is asked"),
            }
        }
    }

    /// Whether the session has been told anything of a panel.
    pub fn is_told(&self, panel: Panel) -> bool {
        self.client.shown.lock().expect("no panic under it").contains_key(panel.sql())
    }

    /// Returns what the session has been shown of a panel, as a text or null for each column; or the error.
    pub fn shown(&self, panel: Panel) -> Result<Vec<Vec<String>>, QueryError> {
        let shown = self.client.shown.lock().expect("no panic under it");
        let rows = shown.get(panel.sql()).expect("an answer").as_ref().map_err(Clone::clone)?;
        Ok(rows.iter().map(|row| row.cells().map(str::to_owned).collect()).collect())
    }

    /// Returns the error that the session was told last of a subscription, where that is what it was told.
    pub fn error_of(&self, sub: &str) -> Option<QueryError> {
        self.client.shown.lock().expect("no panic under it").get(sub)?.as_ref().err().cloned()
    }

    /// Returns what a panel is by now.
    pub fn answer_now(&self, panel: Panel) -> Vec<Vec<String>> {
        let items = self.world.items_after(|_, _| true);
        let cell = |text: Option<String>| text.unwrap_or_else(|| "null".to_owned());
        let rows = panel.answer(&items, 0).into_iter();
        rows.map(|row| row.into_iter().map(cell).collect()).collect()
    }

    pub fn commit(&mut self) {
        self.world.commit(&mut self.random);
        self.stream();
    }

    /// Lets a commit be visible, and the stream bring it.
    pub fn stream(&mut self) {
        while !self.world.is_all_visible() {
            self.world.show(&mut self.random);
        }
        let transaction = self.world.stream().expect("a commit");
        self.handle(Event::Committed(transaction));
    }
}
