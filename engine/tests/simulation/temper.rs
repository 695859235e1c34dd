//! What kind of schedule it is: most that can go wrong goes wrong only in some, so that each has its own depth.

use super::schedule::Move;
use convoy_engine::Limits;
use rand::Rng;
use rand::rngs::SmallRng;
use std::time::Duration;

/// What `@maxhold` says where a statement has it.
pub const STATED_HOLD: Duration = Duration::from_millis(120);

/// What may happen in a schedule, and how often.
#[derive(Debug)]
pub struct Temper {
    /// How often the database answers with an error.
    pub failures: f64,
    /// How often it is silent.
    pub silence: f64,
    /// How often a transaction is told by its tables alone.
    pub touched: f64,
    /// Whether unchanged values may be left out.
    pub unchanged_toast: bool,
    /// Whether the catalogue changes, or is said to.
    pub catalogue: bool,
    /// Whether standbys come and go, so that nobody can say what the engine may apply.
    pub standbys_change: bool,
    pub memory_is_short: bool,
    pub may_crash: bool,
    /// Whether nothing is kept of what comes before anybody can say what is visible.
    pub lets_go: bool,
    /// Whether sessions have mutations.
    pub mutates: bool,
    moves: Vec<(Move, u32)>,
    of_all: u32,
}

impl Temper {
    pub fn new(seed: u64, random: &mut SmallRng) -> Self {
        let mut now_and_then = |often: f64, then: f64| {
            let is_so = random.random_bool(often);
            if is_so { then } else { 0.0 }
        };
        let failures = now_and_then(0.3, 0.08);
        let silence = now_and_then(0.3, 0.05);
        let touched = now_and_then(0.3, 0.2);
        let is = |share: f64| share > 0.0;
        let unchanged_toast = is(now_and_then(0.3, 1.0));
        let catalogue = is(now_and_then(0.25, 1.0));
        let standbys_change = is(now_and_then(0.1, 1.0));
        let memory_is_short = is(now_and_then(0.08, 1.0));
        let lets_go = is(now_and_then(0.2, 1.0));
        let breaks = is(now_and_then(0.3, 1.0));
        let loses = is(now_and_then(0.4, 1.0));
        let gives_way = is(now_and_then(0.2, 1.0));
        let crashes = is(now_and_then(0.3, 1.0));
        let (opens, truncates) = (is(now_and_then(0.4, 1.0)), is(now_and_then(0.25, 1.0)));
        let weight = |is: bool, weight: u32| if is { weight } else { 0 };
        let is_lost = loses || crashes;
        let moves = vec![
            (Move::Commit, 160),
            (Move::Show, 200),
            (Move::Stream, 160),
            (Move::Progress, 30),
            (Move::Answer, 150),
            (Move::Arrive, 140),
            (Move::OpenSession, 20),
            (Move::Subscribe, 30),
            (Move::Redefine, 10),
            (Move::Unsubscribe, 8),
            (Move::Read, 60),
            (Move::LoseWhatWaits, weight(gives_way, 10)),
            (Move::Cut, 2 + weight(breaks, 40)),
            (Move::Resume, 4 + weight(breaks, 40)),
            (Move::Reconnect, 6),
            (Move::CloseSession, 2),
            (Move::Await, 8),
            (Move::StandbyAnswers, 2),
            (Move::Tick, 10),
            (Move::Leap, 3),
            (Move::WriteWal, 4),
            (Move::Begin, weight(opens, 30)),
            (Move::End, weight(opens, 20)),
            (Move::Truncate, weight(truncates, 10)),
            (Move::FallBehind, weight(is(touched), 4)),
            (Move::AlterIdentity, weight(catalogue, 8)),
            (Move::TellCatalogue, weight(catalogue, 8)),
            (Move::SwitchStandbys, weight(standbys_change, 4)),
            (Move::Lose, weight(loses, 6)),
            (Move::Crash, weight(crashes, 6)),
            (Move::HearOfLoss, weight(is_lost, 30)),
            (Move::AskForSlot, weight(is_lost, 30)),
            (Move::SlotIsThere, weight(is_lost, 60)),
        ];
        let of_all = moves.iter().map(|(_, weight)| weight).sum();
        Temper {
            failures,
            silence,
            touched,
            unchanged_toast,
            catalogue,
            standbys_change,
            memory_is_short,
            may_crash: crashes,
            lets_go,
            // Not by the dice: schedules without are what they were before there were any, and so are the kept seeds.
            mutates: seed % 2 == 1,
            moves,
            of_all,
        }
    }

    /// Returns the engine's bounds.
    pub fn limits(&self, random: &mut SmallRng) -> Limits {
        Limits {
            max_hold: Duration::from_millis(50),
            history_bytes_min: if random.random_bool(0.3) { 64 } else { 16 << 10 },
            write_log_bytes_max: if random.random_bool(0.2) { 600 } else { 1 << 20 },
            waiting_bytes_max: if random.random_bool(0.2) { 400 } else { 1 << 20 },
            early_bytes_max: if self.lets_go { 0 } else { 1 << 20 },
            groups_bytes_max: if random.random_bool(0.1) { 400 } else { 1 << 20 },
            memory_bytes_max: if self.memory_is_short { 9 << 10 } else { 1 << 30 },
            reads_max: random.random_range(1..5),
            reads_per_query_max: random.random_range(1..4),
            read_silence_max: Duration::from_millis(300),
            heartbeat: Duration::from_millis(if random.random_bool(0.2) { 100 } else { 15_000 }),
            audit_interval: Duration::from_millis(if random.random_bool(0.1) { 10 } else { 0 }),
            ..Limits::default()
        }
    }

    /// Returns what happens next.
    pub fn next_move(&self, random: &mut SmallRng) -> Move {
        let mut at = random.random_range(0..self.of_all);
        for &(next, weight) in &self.moves {
            match at.checked_sub(weight) {
                Some(left) => at = left,
                None => return next,
            }
        }
        Move::Tick
    }
}
