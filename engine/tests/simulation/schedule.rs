//! A schedule: its state, and what may happen next.

use super::clients::{Client, Digests, Excuses, Inbox};
use super::fault::Fault;
use super::mutations::Mutation;
use super::stream::Stream;
use super::temper::{STATED_HOLD, Temper};
use super::trace::named;
use super::truth::{Applied, Truth};
use super::wishes::Meanings;
use crate::world::{Panel, Questions, World};
use convoy_engine::{Engine, Event, ReadId, SessionId};
use convoy_types::Lsn;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

/// Something that happens. Each stands for one kind; the dice say the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    // In the database.
    Commit,
    Begin,
    End,
    Show,
    Truncate,
    AlterIdentity,
    TellCatalogue,
    StandbyAnswers,
    SwitchStandbys,
    WriteWal,
    // Of the stream.
    Stream,
    Progress,
    FallBehind,
    Lose,
    Crash,
    HearOfLoss,
    AskForSlot,
    SlotIsThere,
    // What the engine asked.
    Answer,
    Arrive,
    // From clients.
    OpenSession,
    Subscribe,
    Redefine,
    Unsubscribe,
    Read,
    LoseWhatWaits,
    Cut,
    Resume,
    Reconnect,
    CloseSession,
    Await,
    // Of the clock.
    Tick,
    Leap,
}

/// What was seen to happen, so that nobody takes tame schedules for a proof.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    pub transitions: usize,
    pub stale: usize,
    pub audits: u64,
    pub retaken: u64,
    pub losses: usize,
    pub crashes: usize,
    /// Crashes after which an id was given out again that a snapshot had shown.
    pub reused: usize,
    /// Slots that were found again, with what had not been confirmed.
    pub found: usize,
    /// Transactions that became visible after a slot was there that will never bring them.
    pub late: usize,
    pub errors: usize,
    pub unchanged: usize,
    pub silences: usize,
    pub truncated: usize,
    pub refused: usize,
    /// Mutations that were named: whose transactions came, whose never did, and those that were named again.
    pub reflected: usize,
    pub passed: usize,
    pub named_again: usize,
    /// Transitions that name a time, and it was known which not to be older than.
    pub timed: usize,
}

impl Seen {
    pub fn add(&mut self, other: Seen) {
        self.transitions += other.transitions;
        self.stale += other.stale;
        self.audits += other.audits;
        self.retaken += other.retaken;
        self.losses += other.losses;
        self.crashes += other.crashes;
        self.reused += other.reused;
        self.found += other.found;
        self.late += other.late;
        self.errors += other.errors;
        self.unchanged += other.unchanged;
        self.silences += other.silences;
        self.truncated += other.truncated;
        self.refused += other.refused;
        self.reflected += other.reflected;
        self.passed += other.passed;
        self.named_again += other.named_again;
        self.timed += other.timed;
    }

    /// Returns whether all of it was seen.
    pub fn is_wild(&self) -> bool {
        let counts = [
            self.transitions,
            self.stale,
            self.losses,
            self.crashes,
            self.reused,
            self.found,
            self.late,
            self.errors,
            self.unchanged,
            self.silences,
            self.truncated,
            self.refused,
            self.reflected,
            self.passed,
            self.named_again,
            self.timed,
        ];
        counts.iter().all(|count| *count > 0) && self.audits > 0 && self.retaken > 0
    }
}

pub struct Schedule {
    pub seed: u64,
    /// Whether moves are printed.
    pub is_traced: bool,
    pub random: SmallRng,
    pub temper: Temper,
    pub world: World,
    pub engine: Engine<Questions>,
    pub questions: Questions,
    pub truth: Truth,
    pub stream: Stream,
    pub clients: Vec<Client>,
    pub next_session: u64,
    pub mutations: Vec<Mutation>,
    /// What is broken on purpose.
    pub fault: Fault,
    pub digests: Digests,
    /// What the project's queries mean.
    pub names: [Meanings; 2],
    pub began: Instant,
    pub now: Instant,
    /// What each read's snapshot shows.
    pub shown: HashMap<ReadId, Vec<bool>>,
    /// Reads that hold locks, with the crashes that there had been when they began.
    pub open_reads: HashMap<ReadId, usize>,
    /// Answers on their way, some of them not before a time.
    pub answers: Vec<(Instant, Event)>,
    /// What waits for the lock that keeps everybody out of the table; meanwhile nobody begins anything with it.
    pub waits: Option<Move>,
    /// Whether the catalogue has changed and nobody has told.
    pub catalogue_changed: bool,
    pub seen: Seen,
}

impl Schedule {
    pub fn new(seed: u64, fault: Fault, is_traced: bool) -> Self {
        let mut random = SmallRng::seed_from_u64(seed);
        let temper = Temper::new(seed, &mut random);
        let mut world = World::new(&mut random);
        let is_held = random.random_bool(0.2);
        if is_held {
            world.commit_before_slot(&mut random);
        }
        let questions = Questions::default();
        let now = Instant::now();
        let mut engine = Engine::new(temper.limits(&mut random), questions.clone(), now);
        let applied = Applied::default();
        engine.observe(Box::new(applied.clone()));
        let mut schedule = Schedule {
            seed,
            is_traced,
            random,
            temper,
            world,
            engine,
            questions,
            truth: Truth::new(applied),
            stream: Stream::new(),
            clients: Vec::new(),
            next_session: 0,
            mutations: Vec::new(),
            fault,
            digests: Digests::default(),
            names: [vec![Some(Panel::Sum)], vec![Some(Panel::Top)]],
            began: now,
            now,
            shown: HashMap::new(),
            open_reads: HashMap::new(),
            answers: Vec::new(),
            waits: None,
            catalogue_changed: false,
            seen: Seen::default(),
        };
        schedule.trace(|schedule| format!("{:?}", schedule.temper));
        schedule.begin_epoch();
        schedule
    }

    /// Prints what happens, where somebody replays it.
    pub fn trace(&self, what: impl Fn(&Self) -> String) {
        if self.is_traced {
            eprintln!("{:>9} µs  {}", (self.now - self.began).as_micros(), what(self));
        }
    }

    pub fn handle(&mut self, event: Event) {
        self.trace(|_| format!("  event {}", named(&event)));
        self.engine.handle(self.now, event);
        if self.random.random_bool(0.7) {
            self.engine.flush(self.now);
        }
        self.check_applied();
    }

    pub fn step(&mut self) {
        self.now += Duration::from_micros(self.random.random_range(0..3_000));
        let is_due = self.engine.next_deadline().is_some_and(|deadline| deadline <= self.now);
        if is_due && self.random.random_bool(0.3) {
            self.tick();
        }
        self.take_lock();
        self.step_mutations();
        let next = self.temper.next_move(&mut self.random);
        self.trace(|_| format!("{next:?}"));
        match next {
            Move::Commit | Move::Begin if self.waits.is_some() => self.world.end(&mut self.random),
            Move::Commit => self.world.commit(&mut self.random),
            Move::Begin => self.world.begin(&mut self.random),
            Move::End => self.world.end(&mut self.random),
            Move::Show => self.world.show(&mut self.random),
            Move::Truncate | Move::AlterIdentity => self.waits = Some(next),
            Move::TellCatalogue => self.tell_catalogue(),
            Move::StandbyAnswers => self.world.standby_answers |= self.random.random_bool(0.2),
            Move::SwitchStandbys => self.world.synchronous_standbys ^= true,
            Move::WriteWal => self.world.write_wal(),
            Move::Stream => self.stream_one(),
            Move::Progress => self.progress(),
            Move::FallBehind => self.stream.behind = self.random.random_range(1..8),
            Move::Lose => self.lose(),
            Move::Crash => self.crash(),
            Move::HearOfLoss => self.hear_of_loss(),
            Move::AskForSlot => self.ask_for_slot(),
            Move::SlotIsThere => self.slot_is_there(),
            Move::Answer => self.answer(),
            Move::Arrive => self.arrive(),
            Move::OpenSession if self.clients.len() < 4 => self.open_session(),
            Move::OpenSession => {}
            Move::Redefine => self.redefine(),
            Move::Tick => self.tick(),
            Move::Leap => {
                let pause = self.random.random_range(0..400);
                self.leap(Duration::from_millis(pause));
            }
            of_client => {
                if !self.clients.is_empty() {
                    let at = self.random.random_range(0..self.clients.len());
                    self.step_client(at, of_client);
                }
            }
        }
    }

    fn step_client(&mut self, at: usize, what: Move) {
        match what {
            Move::Subscribe => self.subscribe(at),
            Move::Unsubscribe => self.unsubscribe(at),
            Move::Read => self.read(at),
            Move::LoseWhatWaits => self.lose_what_waits(at),
            Move::Cut => self.clients[at].inbox.cut(),
            Move::Resume => self.resume(at),
            Move::Reconnect => self.reconnect(at),
            Move::CloseSession => {
                let client = self.clients.remove(at);
                self.handle(Event::SessionClosed(client.id));
            }
            Move::Await => {
                let lsn = self.engine.confirmed();
                let client = &mut self.clients[at];
                client.awaits.push((lsn, self.now));
                let id = client.id;
                self.handle(Event::Await(id, lsn));
            }
            other => unreachable!("{other:?} is no client's"),
        }
    }

    /// Lets go on who has waited for the lock of the table.
    fn take_lock(&mut self) {
        if self.world.is_unwritten() && self.open_reads.is_empty() {
            match self.waits.take() {
                Some(Move::Truncate) => {
                    self.seen.truncated += 1;
                    self.world.truncate();
                }
                Some(_) => {
                    self.world.alter_identity();
                    self.catalogue_changed = true;
                }
                None => {}
            }
        }
    }

    /// Tells of a change of the catalogue; sometimes there was none that matters.
    pub fn tell_catalogue(&mut self) {
        self.catalogue_changed = false;
        let table = self.world.table_id();
        self.handle(Event::CatalogChanged(vec![table]));
    }

    fn new_session(&mut self) -> (SessionId, Inbox) {
        let id = SessionId(self.next_session);
        self.next_session += 1;
        let room = self.random.random_range(1..4);
        let (seed, fault) = (self.seed, self.fault.clone());
        let epoch = self.truth.epoch_shared();
        let inbox = Inbox { seed, fault, room, epoch, ..Inbox::default() };
        self.handle(Event::SessionOpened(id, Box::new(inbox.clone())));
        (id, inbox)
    }

    fn open_session(&mut self) {
        let (id, inbox) = self.new_session();
        let faults = self.temper.failures > 0.0
            || self.temper.silence > 0.0
            || self.temper.catalogue
            || self.temper.may_crash;
        let excuses = Excuses { faults, memory: self.temper.memory_is_short };
        self.clients.push(Client::new(id, inbox, excuses));
        if self.random.random_bool(0.3) {
            let grp = self.random.random_range(0..3);
            self.watch(self.clients.len() - 1, grp);
        }
    }

    /// A client comes back, and its session is gone; it says what it has.
    fn reconnect(&mut self, at: usize) {
        if self.random.random_bool(0.5) {
            self.read(at);
        }
        let id = self.clients[at].id;
        self.handle(Event::SessionClosed(id));
        let (id, inbox) = self.new_session();
        let client = &mut self.clients[at];
        client.begin_anew(id, inbox);
        for (sub, (wish, grp)) in client.subs.clone() {
            self.ask(at, sub, wish, grp);
        }
    }

    /// A client reads what it was sent, and each transition is held against the world.
    pub fn read(&mut self, at: usize) {
        if self.clients[at].inbox.is_cut() {
            return;
        }
        let transitions = self.clients[at].inbox.take();
        self.forget_lost(at, Vec::new());
        let had_any = !transitions.is_empty();
        for sent in transitions {
            self.seen.transitions += 1;
            self.check(at, &sent);
        }
        if had_any {
            let id = self.clients[at].id;
            self.handle(Event::OutboxDrained(id));
        }
    }

    /// Lets time pass in which nobody is told that it does.
    pub fn leap(&mut self, pause: Duration) {
        self.now += pause;
        for (_, since) in self.clients.iter_mut().flat_map(|client| &mut client.awaits) {
            *since += pause;
        }
    }

    pub fn tick(&mut self) {
        if let Some(deadline) = self.engine.next_deadline() {
            self.now = self.now.max(deadline.min(self.now + Duration::from_millis(40)));
        }
        self.trace(|_| "  tick".to_owned());
        self.engine.handle(self.now, Event::Tick);
        self.engine.flush(self.now);
        self.check_applied();
        self.check_awaits();
    }

    /// Who waits for a position that has been reached hears of it: nothing holds a session longer than its hold.
    fn check_awaits(&mut self) {
        /// As long as two stages, one after the other, with what they may hope for.
        const PATIENCE: Duration = Duration::from_millis(2 * STATED_HOLD.as_millis() as u64 + 300);
        let (now, seed, reached) = (self.now, self.seed, self.engine.confirmed());
        let is_running = self.stream.is_up() && self.engine.status().streaming;
        for client in &mut self.clients {
            let sent: Lsn = client.inbox.sent_lsn();
            client.awaits.retain(|(lsn, _)| *lsn > sent);
            let is_read = !client.inbox.is_cut() && client.inbox.len() < client.inbox.room;
            let is_free = is_running && is_read;
            for (lsn, since) in &mut client.awaits {
                if !is_free || *lsn > reached {
                    *since = now;
                }
                let waited = now - *since;
                assert!(
                    waited <= PATIENCE,
                    "seed {seed}: session {} waits for {lsn}, which was reached {waited:?} ago",
                    client.id.0
                );
            }
        }
    }

    /// The tables that somebody keeps readers out of just now.
    pub fn kept_out(&mut self) -> BTreeSet<convoy_types::RelationId> {
        let is_locked = self.waits.is_some() || self.world.is_kept_out();
        let is_kept_out = is_locked || self.random.random_bool(0.1);
        is_kept_out.then(|| self.world.table_id()).into_iter().collect()
    }
}
