//! Seeded schedules: whatever the interleaving of commits, visibility, stream, losses, answers and readers, each session
//! is at each transition exactly where its position says, and in the end where the database is.
//!
//! Time is the schedule's own: the engine has no clock, so that holds, heartbeats, audits and what is given up for its
//! silence pass in no time.

mod clients;
mod database;
mod ending;
mod fault;
mod mutations;
mod schedule;
mod stream;
mod temper;
mod trace;
mod truth;
mod wishes;

use fault::{Fault, Kind};
use schedule::{Schedule, Seen};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

/// Schedules that are tried, where nobody says how many.
const SCHEDULES: u64 = 10_000;

/// Seeds beyond those that failed once, and are tried too.
const KEPT: [u64; 2] = [16_494, 30_380];

/// What happens in a schedule before it comes to its end.
const STEPS: usize = 600;

/// What replays a schedule, after its seed.
const COMMAND: &str = "cargo test -p convoy-engine --test main simulation -- --nocapture";

fn run(seed: u64, fault: Fault, is_traced: bool) -> Seen {
    let mut schedule = Schedule::new(seed, fault, is_traced);
    for _ in 0..STEPS {
        schedule.step();
    }
    schedule.settle();
    schedule.seen
}

/// What became of many schedules.
#[derive(Default)]
struct Outcome {
    seen: Seen,
    failed: Vec<u64>,
}

/// Runs the schedules of these seeds, each processor one at a time; stops after one that fails, unless it shall go on.
fn run_all(seeds: impl Iterator<Item = u64> + Send, goes_on: bool) -> Outcome {
    let seeds = Mutex::new(seeds);
    let outcome = Mutex::new(Outcome::default());
    let work = || {
        loop {
            let is_over = !goes_on && !outcome.lock().expect("no panic under it").failed.is_empty();
            let next = seeds.lock().expect("no panic under it").next();
            let Some(seed) = next.filter(|_| !is_over) else { break };
            let of_one = catch_unwind(AssertUnwindSafe(|| run(seed, Fault::default(), false)));
            let mut outcome = outcome.lock().expect("no panic under it");
            match of_one {
                Ok(seen) => outcome.seen.add(seen),
                Err(_) => {
                    eprintln!("replay with CONVOY_SEED={seed} {COMMAND}");
                    outcome.failed.push(seed);
                }
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    outcome.into_inner().expect("no panic under it")
}

/// `CONVOY_SEED=n` runs one schedule and prints its moves; `CONVOY_SCHEDULES=n` that many, from `CONVOY_FIRST_SEED=n` on;
/// with `CONVOY_GO_ON=1` past those that fail.
#[test]
fn every_transition_is_a_cut() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("CONVOY_SEED") {
        println!("{:?}", run(seed, Fault::default(), true));
        return;
    }
    let (first, count) =
        (number("CONVOY_FIRST_SEED").unwrap_or(0), number("CONVOY_SCHEDULES").unwrap_or(SCHEDULES));
    let seeds = KEPT.into_iter().chain(first..first + count);
    let Outcome { seen, failed } = run_all(seeds, number("CONVOY_GO_ON").is_some());
    println!("{count} schedules: {seen:?}");
    assert!(
        failed.is_empty(),
        "{} failed: replay with CONVOY_SEED={} {COMMAND}",
        failed.len(),
        failed[0]
    );
    assert!(seen.is_wild(), "too tame: {seen:?}");
}

/// The simulator sees what it is there to see: something is lost on purpose, on its way to the engine or to a client.
#[test]
fn what_is_lost_is_seen() {
    /// Schedules of each kind; each loses something in its midst.
    const SCHEDULES: u64 = 40;
    for kind in Kind::ALL {
        let (mut struck, mut seen) = (0, 0);
        for seed in 0..SCHEDULES {
            let fault = Fault::new(kind);
            let outcome = catch_unwind(AssertUnwindSafe(|| run(seed, fault.clone(), false)));
            struck += u64::from(fault.has_struck());
            seen += u64::from(fault.has_struck() && outcome.is_err());
            assert!(outcome.is_ok() || fault.has_struck(), "seed {seed}: it fails by itself");
        }
        println!("{kind:?}: {struck} lost something, {seen} failed");
        // Some of it is told anew before anybody misses it.
        assert!(struck >= 5 && seen * 3 >= struck, "{kind:?}: of {struck} losses {seen} were seen");
    }
}
