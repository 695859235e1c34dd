//! The audit: what is held and is not what the database says is found, told and mended; what is right is left in peace.

use crate::world::{Panel, Question, Questions, TextRow, World};
use convoy_engine::{
    Argument, Engine, Event, Limits, Outbox, OutboxState, QueryReference, ReadId, ReadRow,
    SessionId, Statement, Transition, UpdateKind, apply_diff,
};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const SEED: u64 = 5;

#[derive(Clone, Default)]
struct Inbox(Arc<Mutex<Vec<Transition>>>);

impl Outbox for Inbox {
    fn send(&mut self, transition: Transition) -> OutboxState {
        self.0.lock().expect("no panic under it").push(transition);
        OutboxState::Ready
    }
}

/// An engine with a line and a subscription, whose questions are answered by hand.
struct Talk {
    engine: Engine<Questions>,
    questions: Questions,
    world: World,
    random: SmallRng,
    now: Instant,
    inbox: Inbox,
}

impl Talk {
    fn new(panel: Panel) -> Self {
        let mut random = SmallRng::seed_from_u64(SEED);
        let (world, questions) = (World::new(&mut random), Questions::default());
        let now = Instant::now();
        let engine = Engine::new(Limits::default(), questions.clone(), now);
        let inbox = Inbox::default();
        let mut talk = Talk { engine, questions, world, random, now, inbox: inbox.clone() };
        talk.world.synchronous_standbys = false;
        talk.handle(Event::ReplicationStarted);
        talk.answer_probe();
        talk.handle(Event::SessionOpened(SessionId(1), Box::new(inbox)));
        let statement = Arc::new(Statement::ad_hoc(panel.sql()).expect("a statement"));
        let grp = Some(Argument::Number("0".to_owned()));
        let args = if panel.has_parameter() { vec![grp] } else { Vec::new() };
        let query = QueryReference::fixed(statement, args);
        let sub = "sub".into();
        talk.handle(Event::Subscribe { session: SessionId(1), sub, query, have: None });
        let Some(Question::Describe(id, panel)) = talk.question() else { panic!("not asked") };
        let facts = talk.world.facts(panel);
        talk.handle(Event::Described(id, Box::new(Ok(facts))));
        talk
    }

    fn handle(&mut self, event: Event) {
        self.engine.handle(self.now, event);
        self.engine.flush(self.now);
    }

    fn question(&mut self) -> Option<Question> {
        self.questions.take(&mut self.random)
    }

    fn answer_probe(&mut self) {
        if let Some(id) = self.questions.take_probe() {
            let probed = self.world.probe();
            self.handle(Event::SnapshotProbed(id, Ok(probed)));
        }
    }

    /// Lets time pass until audits are due.
    fn wait(&mut self) {
        self.now += Duration::from_millis(1_100);
        self.handle(Event::Tick);
        self.answer_probe();
    }

    /// Lets a read that was opened get as far as its queries.
    fn open(&mut self) -> Option<ReadId> {
        let Question::OpenRead(id) = self.question()? else { panic!("something else is asked") };
        self.handle(Event::ReadOpened(id, Ok(BTreeSet::new())));
        assert!(matches!(self.question(), Some(Question::TakeSnapshot(read)) if read == id));
        let (snapshot, _) = self.world.snapshot();
        self.handle(Event::SnapshotTaken(id, Ok(snapshot)));
        let streamed = self.world.streamed().0;
        self.handle(Event::Progress(streamed));
        Some(id)
    }

    /// Answers a read's one query with what the database says, or something else.
    fn run(&mut self, read: ReadId, change: impl Fn(&mut Vec<TextRow>)) {
        let Some(Question::Run(id, queries, _)) = self.question() else {
            panic!("it does not run")
        };
        assert_eq!((id, queries.len()), (read, 1));
        let shown: Vec<bool> = self.world.commits.iter().map(|_| true).collect();
        let rows = self.world.read(&shown, &queries[0]);
        let text_row = |row: ReadRow<'_>| row.iter().map(|text| text.map(str::to_owned)).collect();
        let mut rows: Vec<TextRow> = rows.iter().map(text_row).collect();
        change(&mut rows);
        let rows = rows.into_iter().collect();
        self.handle(Event::QueryRead(read, queries[0].query, Ok(rows)));
        self.handle(Event::ReadFinished(read));
    }

    /// Returns how many audits there were, and how many found something.
    fn audits(&self) -> (u64, u64) {
        let counters = self.engine.status().counters;
        (counters.audits, counters.audit_mismatches)
    }

    /// Returns what the subscriber sees.
    fn shown(&self) -> Vec<Vec<String>> {
        let mut rows = Vec::new();
        for transition in self.inbox.0.lock().expect("no panic under it").iter() {
            for update in &transition.updates {
                match &update.kind {
                    UpdateKind::Snapshot(snapshot) => rows = snapshot.value.rows.clone(),
                    UpdateKind::Diffs(diffs) => {
                        for diff in diffs {
                            apply_diff(&mut rows, &diff.value.ops).expect("steps that fit");
                        }
                    }
                    UpdateKind::Unchanged => {}
                    other => panic!("the subscriber is told {other:?}"),
                }
            }
        }
        rows.iter().map(|row| row.cells().map(ToString::to_string).collect()).collect()
    }

    /// Returns what it should see.
    fn expected(&self, panel: Panel) -> Vec<Vec<String>> {
        let items = self.world.items_after(|_, _| true);
        let cell = |cell: Option<String>| cell.unwrap_or_else(|| "null".to_owned());
        let row = |row: Vec<Option<String>>| row.into_iter().map(cell).collect();
        panel.answer(&items, 0).into_iter().map(row).collect()
    }

    fn transitions(&self) -> usize {
        self.inbox.0.lock().expect("no panic under it").len()
    }
}

#[test]
fn a_wrong_value_is_found_and_mended() {
    for panel in Panel::STATEMENTS {
        let mut talk = Talk::new(panel);
        // Drift, as it would be: the engine holds something that the database never said.
        let wrong = |rows: &mut Vec<TextRow>| {
            let last = rows.last_mut().expect("rows");
            last[1..].fill(Some("1000".into()));
        };
        let read = talk.open().expect("the first answer");
        talk.run(read, wrong);
        assert_ne!(talk.shown(), talk.expected(panel), "{panel:?}");

        talk.wait();
        let read = talk.open().expect("an audit");
        talk.run(read, |_| {});
        assert_eq!(talk.audits(), (1, 1), "{panel:?}");
        let read = talk.open().expect("the mending");
        talk.run(read, |_| {});
        assert_eq!(talk.shown(), talk.expected(panel), "{panel:?}");

        talk.wait();
        let read = talk.open().expect("another audit");
        talk.run(read, |_| {});
        assert_eq!(talk.audits(), (2, 1), "{panel:?}");
        assert!(talk.open().is_none(), "{panel:?}: what is right is not read again");
    }
}

#[test]
fn an_audit_holds_nobody_up() {
    for panel in Panel::STATEMENTS {
        let mut talk = Talk::new(panel);
        let read = talk.open().expect("the first answer");
        talk.run(read, |_| {});
        talk.wait();
        let audit = talk.open().expect("an audit");
        let Some(Question::Run(_, queries, _)) = talk.question() else { panic!("it does not run") };
        let shown: Vec<bool> = talk.world.commits.iter().map(|_| true).collect();
        let rows = talk.world.read(&shown, &queries[0]);
        // Commits go on while the audit is read.
        let before = talk.transitions();
        for _ in 0..20 {
            talk.world.commit(&mut talk.random);
            while !talk.world.is_all_visible() {
                talk.world.show(&mut talk.random);
            }
            let transaction = talk.world.stream().expect("a commit");
            talk.handle(Event::Committed(transaction));
            let streamed = talk.world.streamed().0;
            talk.handle(Event::Progress(streamed));
            if let Some(read) = talk.open() {
                talk.run(read, |_| {});
            }
        }
        assert!(talk.transitions() > before, "{panel:?}");
        assert_eq!(talk.shown(), talk.expected(panel), "{panel:?}");
        // What it says of the point where it was read is right, though much has come since.
        talk.handle(Event::QueryRead(audit, queries[0].query, Ok(rows)));
        talk.handle(Event::ReadFinished(audit));
        assert_eq!(talk.audits(), (1, 0), "{panel:?}");
        assert!(talk.open().is_none(), "{panel:?}");
    }
}

#[test]
fn nothing_is_audited_where_nothing_is_subscribed() {
    let mut talk = Talk::new(Panel::Groups);
    let read = talk.open().expect("the first answer");
    talk.run(read, |_| {});
    talk.handle(Event::SessionClosed(SessionId(1)));
    talk.wait();
    assert!(talk.open().is_none());
    assert_eq!(talk.audits(), (0, 0));
}
