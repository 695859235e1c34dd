//! Seeded schedules: whatever the interleaving of commits, visibility, stream, answers and readers, each session is at
//! each transition exactly where its position says, and in the end where the database is.

use crate::world::{Panel, Question, Questions, World};
use convoy_engine::{
    Argument, Definition, DiffOp, Digest, Engine, ErrorCode, Event, Limits, Observer, Outbox,
    OutboxState, Position, QueryError, QueryReference, Redefinition, SessionId, Snapshot,
    Statement, Transition, Update, UpdateKind,
};
use convoy_types::{FullXid, Lsn, RelationId, Transaction};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The transactions in the order in which the engine applied them, by the end of their commit records.
#[derive(Clone, Default)]
struct Applied(Arc<Mutex<Vec<Lsn>>>);

impl Observer for Applied {
    fn applied(&mut self, position: Position, _: FullXid, transaction: &Transaction) {
        let mut applied = self.0.lock().expect("no panic under it");
        applied.push(transaction.end_lsn);
        assert_eq!(position.0, applied.len() as u64);
    }

    fn closed(&mut self, _: Position, _: &Snapshot) {}
}

#[derive(Clone, Default)]
struct Inbox {
    transitions: Arc<Mutex<Vec<Transition>>>,
    room: usize,
    /// Whether its connection is gone: what is sent is lost.
    is_cut: Arc<AtomicBool>,
    /// What its reader had when it came back.
    has: BTreeMap<Arc<str>, Digest>,
}

impl Outbox for Inbox {
    fn send(&mut self, transition: Transition) -> OutboxState {
        let mut transitions = self.transitions.lock().expect("no panic under it");
        transitions.push(transition);
        if self.is_cut.load(Ordering::Relaxed) {
            return OutboxState::Closed;
        }
        if transitions.len() >= self.room { OutboxState::Full } else { OutboxState::Ready }
    }

    fn has(&self, sub: &str) -> Option<Digest> {
        self.has.get(sub).copied()
    }
}

/// What a subscription asked for.
#[derive(Clone, Copy, Debug)]
enum Wish {
    /// A statement.
    Panel(Panel),
    /// A name, by number, and which of its meanings was shown last.
    Name(usize, usize),
}

/// What a name means, one after the other; none where its file is gone. It is asked for with a group, always.
type Meanings = Vec<Option<Panel>>;

/// Returns whether a meaning serves those who ask with a group.
fn serves(meaning: &Option<Panel>) -> bool {
    meaning.is_some_and(Panel::has_parameter)
}

/// A client that believes what it is told.
struct Client {
    id: SessionId,
    inbox: Inbox,
    subs: HashMap<Arc<str>, (Wish, i32)>,
    /// Subscriptions that were told an error: a snapshot is next.
    in_error: BTreeSet<Arc<str>>,
    results: BTreeMap<Arc<str>, Vec<(String, Vec<String>)>>,
    digests: BTreeMap<Arc<str>, Digest>,
    stale: BTreeMap<Arc<str>, bool>,
    lsn: Lsn,
    next_sub: u32,
}

impl Client {
    fn apply(&mut self, name: &Arc<str>, kind: &UpdateKind) {
        let goes_on = matches!(kind, UpdateKind::Diffs(_) | UpdateKind::Unchanged);
        assert!(!goes_on || !self.in_error.contains(name), "{name}: {kind:?} after an error");
        match kind {
            UpdateKind::Snapshot(snapshot) => {
                self.in_error.remove(name);
                let rows = snapshot.value.rows.iter();
                let rows = rows
                    .map(|row| (row.key().to_owned(), row.cells().map(str::to_owned).collect()));
                self.results.insert(name.clone(), rows.collect());
                self.digests.insert(name.clone(), snapshot.value.digest);
                self.stale.insert(name.clone(), false);
            }
            UpdateKind::Diffs(diffs) => {
                self.digests.extend(diffs.last().map(|diff| (name.clone(), diff.value.digest)));
                let rows = self.results.get_mut(name).expect("a diff follows a snapshot");
                for op in diffs.iter().flat_map(|diff| &diff.value.ops) {
                    apply_op(rows, op);
                }
                self.stale.insert(name.clone(), false);
            }
            UpdateKind::Unchanged => drop(self.stale.insert(name.clone(), false)),
            UpdateKind::Stale(_) => drop(self.stale.insert(name.clone(), true)),
            UpdateKind::Error { error, last } => {
                let is_named = !matches!(self.subs.get(name), Some((Wish::Panel(_), _)));
                assert!(is_named, "{name}: {error}");
                self.in_error.insert(name.clone());
                self.digests.remove(name);
                if *last {
                    self.forget(name);
                }
            }
        }
    }
}

impl Client {
    fn forget(&mut self, name: &Arc<str>) {
        self.subs.remove(name);
        self.results.remove(name);
        self.digests.remove(name);
        self.in_error.remove(name);
    }
}

fn apply_op(rows: &mut Vec<(String, Vec<String>)>, op: &DiffOp) {
    let find = |rows: &[(String, Vec<String>)], key: &str| {
        rows.iter().position(|(there, _)| there == key).expect("a step names a row that is there")
    };
    match op {
        DiffOp::Remove { key } => drop(rows.remove(find(rows, key))),
        DiffOp::Insert { row, at } => {
            assert!(rows.iter().all(|(key, _)| key != row.key()), "no key stands twice");
            rows.insert(*at, (row.key().to_owned(), row.cells().map(str::to_owned).collect()));
        }
        DiffOp::Update { key, set } => {
            let at = find(rows, key);
            for (column, value) in set {
                rows[at].1[*column] = value.to_string();
            }
        }
        DiffOp::Move { key, at } => {
            let row = rows.remove(find(rows, key));
            rows.insert(*at, row);
        }
    }
}

struct Schedule {
    seed: u64,
    random: SmallRng,
    world: World,
    engine: Engine<Questions>,
    questions: Questions,
    applied: Applied,
    clients: Vec<Client>,
    /// What the project's queries mean.
    names: [Meanings; 2],
    now: Instant,
    /// What each read's snapshot shows.
    shown: HashMap<u64, Vec<bool>>,
    /// Answers on their way.
    answers: Vec<Event>,
    stale_seen: usize,
    transitions_seen: usize,
}

impl Schedule {
    fn new(seed: u64) -> Self {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut world = World::new(&mut random);
        if random.random_bool(0.2) {
            world.commit_before_slot(&mut random);
        }
        let questions = Questions::default();
        let limits = Limits {
            max_hold: Duration::from_millis(50),
            history_bytes_min: if random.random_bool(0.3) { 64 } else { 16 << 10 },
            write_log_bytes_max: if random.random_bool(0.2) { 600 } else { 1 << 20 },
            reads_max: random.random_range(1..5),
            audit_interval: Duration::from_millis(if random.random_bool(0.1) { 10 } else { 0 }),
            ..Limits::default()
        };
        let now = Instant::now();
        let applied = Applied::default();
        let mut engine = Engine::new(limits, questions.clone(), now);
        engine.observe(Box::new(applied.clone()));
        engine.handle(now, Event::ReplicationStarted);
        Schedule {
            seed,
            random,
            world,
            engine,
            questions,
            applied,
            clients: Vec::new(),
            names: [vec![Some(Panel::Sum)], vec![Some(Panel::Top)]],
            now,
            shown: HashMap::new(),
            answers: Vec::new(),
            stale_seen: 0,
            transitions_seen: 0,
        }
    }

    fn handle(&mut self, event: Event) {
        self.engine.handle(self.now, event);
        if self.random.random_bool(0.7) {
            self.engine.flush(self.now);
        }
    }

    /// The tables that somebody keeps readers out of just now.
    fn kept_out(&mut self) -> BTreeSet<RelationId> {
        self.random.random_bool(0.1).then(|| self.world.table_id()).into_iter().collect()
    }

    /// Answers a question, or puts its answers on their way.
    fn answer(&mut self) {
        let Some(question) = self.questions.take(&mut self.random) else { return };
        let event = match question {
            Question::Describe(id, panel) => {
                Event::Described(id, Box::new(Ok(self.world.facts(panel))))
            }
            Question::Cast(id, values) => {
                let text = |value: convoy_engine::CastRequest| match value.value {
                    convoy_engine::CastValue::Text(text)
                    | convoy_engine::CastValue::Expression(text) => Ok(Some(text)),
                };
                Event::Cast(id, values.into_iter().map(text).collect())
            }
            Question::OpenRead(id) => Event::ReadOpened(id, Ok(self.kept_out())),
            Question::TakeSnapshot(id) => {
                let (snapshot, shown) = self.world.snapshot();
                self.shown.insert(id.0, shown);
                // What happens between the snapshot and hearing of it is the point.
                return self.answers.push(Event::SnapshotTaken(id, Ok(snapshot)));
            }
            Question::Probe(id) => {
                let probed = self.world.probe();
                return self.answers.push(Event::SnapshotProbed(id, Ok(probed)));
            }
            Question::Run(id, queries) => {
                let shown = self.shown.remove(&id.0).expect("a snapshot was taken");
                for query in queries {
                    let rows = self.world.read(self.seed, &shown, &query);
                    self.answers.push(Event::QueryRead(id, query.query, Ok(rows)));
                }
                return self.answers.push(Event::ReadFinished(id));
            }
        };
        self.handle(event);
    }

    /// Lets one of the answers on their way arrive. Those of one read keep their order.
    fn arrive(&mut self) {
        let len = self.answers.len();
        if len == 0 {
            return;
        }
        let read_of = |event: &Event| match event {
            Event::QueryRead(read, ..) | Event::ReadFinished(read) => Some(*read),
            _ => None,
        };
        let mut at = self.random.random_range(0..len);
        if let Some(read) = read_of(&self.answers[at]) {
            at = self.answers.iter().position(|event| read_of(event) == Some(read)).unwrap_or(at);
        }
        let event = self.answers.remove(at);
        self.handle(event);
    }

    fn open_session(&mut self) {
        let id = SessionId(self.clients.len() as u64);
        let inbox = Inbox { room: self.random.random_range(1..4), ..Inbox::default() };
        self.clients.push(Client {
            id,
            inbox: inbox.clone(),
            subs: HashMap::new(),
            in_error: BTreeSet::new(),
            results: BTreeMap::new(),
            digests: BTreeMap::new(),
            stale: BTreeMap::new(),
            lsn: Lsn(0),
            next_sub: 0,
        });
        self.handle(Event::SessionOpened(id, Box::new(inbox)));
    }

    fn subscribe(&mut self) {
        if self.clients.is_empty() {
            return;
        }
        let at = self.random.random_range(0..self.clients.len());
        let panel = Panel::ALL[self.random.random_range(0..Panel::ALL.len())];
        let grp = self.random.random_range(0..3);
        let client = &mut self.clients[at];
        let sub: Arc<str> = client.next_sub.to_string().into();
        client.next_sub += 1;
        let name = self.random.random_range(0..4);
        // Who asks may have looked the name up a while ago.
        let meanings = self.names.get(name).map_or(&[][..], |meanings| {
            let ago =
                self.random.random_range(0..3_usize).saturating_sub(1).min(meanings.len() - 1);
            &meanings[..meanings.len() - ago]
        });
        let (wish, statement) = match meanings.last() {
            Some(meaning) if serves(meaning) => {
                let panel = meaning.expect("it serves");
                (Wish::Name(name, meanings.len() - 1), panel.named(&format!("q{name}")))
            }
            _ => {
                let statement = Statement::ad_hoc(panel.sql()).expect("a statement");
                (Wish::Panel(panel), Arc::new(statement))
            }
        };
        client.subs.insert(sub.clone(), (wish, grp));
        let args = if matches!(wish, Wish::Name(..)) || panel.has_parameter() {
            vec![Some(Argument::Number(grp.to_string()))]
        } else {
            Vec::new()
        };
        let event = Event::Subscribe {
            session: client.id,
            sub,
            query: QueryReference { statement, args },
            have: None,
        };
        self.handle(event);
    }

    /// The project is read again, and a name means something else, or its new version is no good.
    fn redefine(&mut self) {
        let name = self.random.random_range(0..self.names.len());
        let said = self.random.random_range(0..1_000);
        let error = |code| QueryError::new(code, format!("the {said}th of its kind"));
        let definition = match self.random.random_range(0..8) {
            0 => Definition::Broken(error(ErrorCode::InvalidArgs)),
            1 => {
                self.names[name].push(None);
                Definition::Removed(error(ErrorCode::NotFound))
            }
            _ => {
                let panel = Panel::ALL[self.random.random_range(0..Panel::ALL.len())];
                self.names[name].push(Some(panel));
                Definition::Statement(panel.named(&format!("q{name}")))
            }
        };
        let redefinition = Redefinition { name: format!("q{name}"), definition };
        self.handle(Event::QueriesRedefined(vec![redefinition]));
    }

    fn unsubscribe(&mut self) {
        if self.clients.is_empty() {
            return;
        }
        let at = self.random.random_range(0..self.clients.len());
        let client = &mut self.clients[at];
        let Some(sub) = client.subs.keys().min().cloned() else { return };
        client.subs.remove(&sub);
        let event = Event::Unsubscribe { session: client.id, sub };
        self.handle(event);
    }

    /// A client reads what it was sent, and each transition is held against the world.
    fn read(&mut self, at: usize) {
        if self.clients[at].inbox.is_cut.load(Ordering::Relaxed) {
            return;
        }
        let transitions = std::mem::take(
            &mut *self.clients[at].inbox.transitions.lock().expect("no panic under it"),
        );
        let had_any = !transitions.is_empty();
        for transition in transitions {
            self.transitions_seen += 1;
            self.check(at, &transition);
        }
        if had_any {
            let id = self.clients[at].id;
            self.handle(Event::OutboxDrained(id));
        }
    }

    /// A client's connection goes, or it comes back over another.
    fn cut_or_resume(&mut self) {
        if self.clients.is_empty() {
            return;
        }
        let at = self.random.random_range(0..self.clients.len());
        if self.random.random_bool(0.5) {
            self.read(at);
        }
        match self.random.random_bool(0.5) {
            true => self.clients[at].inbox.is_cut.store(true, Ordering::Relaxed),
            false => self.resume(at),
        }
    }

    /// A client comes back with what it has; what was still on its old connection may be lost.
    fn resume(&mut self, at: usize) {
        let client = &mut self.clients[at];
        // Final errors are the server's to repeat.
        let lost =
            std::mem::take(&mut *client.inbox.transitions.lock().expect("no panic under it"));
        for update in lost.into_iter().flat_map(|transition| transition.updates) {
            if matches!(update.kind, UpdateKind::Error { last: true, .. }) {
                client.forget(&update.sub);
            }
        }
        let has = client.digests.clone();
        client.inbox = Inbox { room: client.inbox.room, has, ..Inbox::default() };
        let event = Event::SessionResumed(client.id, Box::new(client.inbox.clone()));
        self.handle(event);
    }

    fn check(&mut self, at: usize, transition: &Transition) {
        let seed = self.seed;
        for update in &transition.updates {
            let is_stale = |update: &Update| matches!(update.kind, UpdateKind::Stale(_));
            let alike = transition
                .updates
                .iter()
                .filter(|other| other.sub == update.sub && is_stale(other) == is_stale(update));
            assert_eq!(alike.count(), 1, "seed {seed}: {} is named twice", update.sub);
        }
        let client = &mut self.clients[at];
        for update in &transition.updates {
            client.apply(&update.sub, &update.kind);
        }
        assert!(transition.lsn >= client.lsn, "seed {seed}: lsn went back");
        client.lsn = transition.lsn;
        // A final error waits for no cut, so it may overtake what a resume has yet to bring.
        let is_final =
            |update: &Update| matches!(update.kind, UpdateKind::Error { last: true, .. });
        if !transition.updates.is_empty() && transition.updates.iter().all(is_final) {
            return;
        }
        let applied = self.applied.0.lock().expect("no panic under it");
        let in_cut = &applied[..usize::try_from(transition.position.0).expect("small")];
        for commit in &self.world.commits {
            let is_in = in_cut.contains(&commit.end_lsn);
            assert!(
                is_in || commit.is_before_slot || commit.end_lsn > transition.lsn,
                "seed {seed}: the label promises what is not in"
            );
        }
        // What was committed before the slot is in all results of a session, or in none.
        let items = |with_before| {
            self.world.items_after(seed, |_, commit| {
                in_cut.contains(&commit.end_lsn) || (with_before && commit.is_before_slot)
            })
        };
        let (without, with) = (items(false), items(true));
        let (mut stale_seen, mut wrong) = (0, [None, None]);
        for (sub, rows) in &client.results {
            if client.stale.get(sub) == Some(&true) {
                stale_seen += 1;
                continue;
            }
            let Some((wish, grp)) = client.subs.get_mut(sub) else { continue };
            if client.in_error.contains(sub) {
                continue;
            }
            let shown: Vec<_> = rows.iter().map(|(_, cells)| cells.clone()).collect();
            let from = if let Wish::Name(_, meaning) = wish { *meaning } else { 0 };
            let meanings = match wish {
                Wish::Panel(panel) => vec![Some(*panel)],
                Wish::Name(name, _) => self.names[*name][from..].to_vec(),
            };
            let mut seen = None;
            for (items, wrong) in [&without, &with].into_iter().zip(&mut wrong) {
                let is_it = |panel: &Option<Panel>| {
                    panel.is_some_and(|panel| json(panel.answer(items, *grp)) == shown)
                };
                match meanings.iter().position(is_it) {
                    Some(at) => seen = seen.max(Some(std::cmp::Reverse(at))),
                    None => {
                        wrong.get_or_insert_with(|| {
                            let expected: Vec<_> = meanings
                                .iter()
                                .flatten()
                                .map(|panel| json(panel.answer(items, *grp)))
                                .collect();
                            format!("{wish:?} of {grp} is {shown:?}, none of {expected:?}")
                        });
                    }
                }
            }
            // The least that it can be; it never goes back.
            if let (Wish::Name(_, meaning), Some(std::cmp::Reverse(at))) = (wish, seen) {
                *meaning += at;
            }
        }
        self.stale_seen += stale_seen;
        if let [Some(wrong), Some(_)] = wrong {
            panic!("seed {seed}: {wrong} at {:?}", transition.position);
        }
    }

    fn step(&mut self) {
        self.now += Duration::from_micros(self.random.random_range(0..3_000));
        match self.random.random_range(0..100) {
            0..16 => self.world.commit(&mut self.random),
            16..36 => self.world.show(&mut self.random),
            36..52 => {
                if let Some(transaction) = self.world.stream() {
                    self.handle(Event::Committed(transaction));
                }
            }
            52..55 => {
                let (lsn, is_all) = self.world.streamed();
                if is_all {
                    self.handle(Event::Progress(lsn));
                }
            }
            55..70 => self.answer(),
            70..84 => self.arrive(),
            84..86 => {
                if self.clients.len() < 4 {
                    self.open_session();
                }
            }
            86..89 => self.subscribe(),
            89..90 => self.redefine(),
            90..91 => self.unsubscribe(),
            91..97 => {
                if !self.clients.is_empty() {
                    let at = self.random.random_range(0..self.clients.len());
                    self.read(at);
                }
            }
            97..98 => self.cut_or_resume(),
            98..99 => self.world.standby_answers |= self.random.random_bool(0.2),
            _ => self.tick(),
        }
    }

    fn tick(&mut self) {
        if let Some(deadline) = self.engine.next_deadline() {
            self.now = self.now.max(deadline.min(self.now + Duration::from_millis(40)));
        }
        self.engine.handle(self.now, Event::Tick);
        self.engine.flush(self.now);
    }

    /// Everything arrives; then every client has what the database has.
    fn settle(&mut self) {
        // What is quiet may still have been told to flush only in the next turn.
        let mut quiet_turns = 0;
        // Where audits go on all the time, it is never quiet.
        let mut turns_left = if self.engine.status().counters.audits > 0 { 400 } else { 5_000 };
        self.world.standby_answers = true;
        for at in 0..self.clients.len() {
            if self.clients[at].inbox.is_cut.load(Ordering::Relaxed) {
                self.resume(at);
            }
        }
        while turns_left > 0 {
            turns_left -= 1;
            while !self.world.is_all_visible() {
                self.world.show(&mut self.random);
            }
            while let Some(transaction) = self.world.stream() {
                self.handle(Event::Committed(transaction));
            }
            self.handle(Event::Progress(self.world.streamed().0));
            self.answer();
            self.arrive();
            self.tick();
            for at in 0..self.clients.len() {
                self.read(at);
            }
            let is_quiet = self.questions.is_empty() && self.answers.is_empty();
            let is_settled =
                is_quiet && self.engine.status().dirty_queries == 0 && self.is_answered();
            quiet_turns = if is_settled { quiet_turns + 1 } else { 0 };
            if quiet_turns == 5 {
                // What is only noticed by asking now and then is noticed.
                self.now += Duration::from_secs(2);
            }
            if quiet_turns > 20 {
                break;
            }
        }
        let counters = self.engine.status().counters;
        assert_eq!(counters.audit_mismatches, 0, "seed {}", self.seed);
        let items = self.world.items_after(self.seed, |_, _| true);
        for client in &self.clients {
            for (sub, (wish, grp)) in &client.subs {
                let Some(panel) = self.panel_of(*wish) else {
                    let is_told = client.in_error.contains(sub);
                    assert!(is_told, "seed {}: {sub} does not know that it is gone", self.seed);
                    continue;
                };
                let rows = client
                    .results
                    .get(sub)
                    .unwrap_or_else(|| panic!("seed {}: no answer for {sub}", self.seed));
                let shown: Vec<_> = rows.iter().map(|(_, cells)| cells.clone()).collect();
                assert_eq!(
                    shown,
                    json(panel.answer(&items, *grp)),
                    "seed {}: {panel:?} in the end",
                    self.seed
                );
                assert_ne!(
                    client.stale.get(sub),
                    Some(&true),
                    "seed {}: {sub} stays stale",
                    self.seed
                );
            }
        }

        // What live queries take goes with them.
        let status = self.engine.status();
        assert!(status.memory_bytes >= status.live_queries << 10, "seed {}: {status:?}", self.seed);
        for at in 0..self.clients.len() {
            let id = self.clients[at].id;
            self.handle(Event::SessionClosed(id));
        }
        let status = self.engine.status();
        assert_eq!((status.live_queries, status.memory_bytes), (0, 0), "seed {}", self.seed);
    }

    /// Returns what a subscription is to see in the end, where there is something that fits it.
    fn panel_of(&self, wish: Wish) -> Option<Panel> {
        match wish {
            Wish::Panel(panel) => Some(panel),
            Wish::Name(name, _) => self.names[name].last().copied().filter(serves).flatten(),
        }
    }

    fn is_answered(&self) -> bool {
        let is_fresh = |client: &Client, sub: &Arc<str>| client.stale.get(sub) == Some(&false);
        self.clients.iter().all(|client| {
            client.subs.iter().all(|(sub, (wish, _))| {
                let is_told = match self.panel_of(*wish) {
                    Some(_) => client.results.contains_key(sub),
                    None => client.in_error.contains(sub),
                };
                is_told && (is_fresh(client, sub) || client.in_error.contains(sub))
            }) && client.inbox.transitions.lock().expect("no panic under it").is_empty()
        })
    }
}

fn json(rows: Vec<Vec<Option<String>>>) -> Vec<Vec<String>> {
    let cell = |cell: Option<String>| cell.unwrap_or_else(|| "null".to_owned());
    rows.into_iter().map(|row| row.into_iter().map(cell).collect()).collect()
}

fn run(seed: u64) -> (usize, usize, u64) {
    let mut schedule = Schedule::new(seed);
    for _ in 0..600 {
        schedule.step();
    }
    schedule.settle();
    let audits = schedule.engine.status().counters.audits;
    (schedule.transitions_seen, schedule.stale_seen, audits)
}

/// `CONVOY_SEED=n` runs one schedule, `CONVOY_SCHEDULES=n` that many.
#[test]
fn every_transition_is_a_cut() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("CONVOY_SEED") {
        run(seed);
        return;
    }
    let (mut transitions, mut stale, mut audits) = (0, 0, 0);
    for seed in 0..number("CONVOY_SCHEDULES").unwrap_or(1_000) {
        let outcome = std::panic::catch_unwind(|| run(seed));
        match outcome {
            Ok(seen) => {
                transitions += seen.0;
                stale += seen.1;
                audits += seen.2;
            }
            Err(panic) => {
                eprintln!("replay with CONVOY_SEED={seed} cargo test -p convoy-engine --test main");
                std::panic::resume_unwind(panic);
            }
        }
    }
    assert!(
        transitions > 0 && stale > 0 && audits > 0,
        "{transitions} transitions, {stale} stale results, {audits} audits: too tame"
    );
}
