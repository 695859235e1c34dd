//! Choices by a seed, for laws.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// A source of choices.
#[derive(Debug)]
pub struct Dice(SmallRng);

impl Default for Dice {
    fn default() -> Dice {
        Dice::new()
    }
}

impl Dice {
    /// Returns dice by the seed that `CONVOY_SEED` asks for, or by any.
    pub fn new() -> Dice {
        Dice::of(seed_asked_for().unwrap_or_else(any_seed))
    }

    /// Returns dice by this seed.
    pub fn of(seed: u64) -> Dice {
        // Shown where the test fails.
        println!("replay with CONVOY_SEED={seed}");
        Dice(SmallRng::seed_from_u64(seed))
    }

    /// Returns a number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0.random_range(0..limit)
    }

    /// Returns true in so many of a hundred cases.
    pub fn percent(&mut self, chance: u32) -> bool {
        self.0.random_range(0..100) < chance
    }

    /// Returns one of these.
    pub fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }
}

fn any_seed() -> u64 {
    u64::from(rand::random::<u32>())
}

fn seed_asked_for() -> Option<u64> {
    std::env::var("CONVOY_SEED").ok().and_then(|seed| seed.parse().ok())
}

/// Returns the seeds of a law that goes round by round: as many as it has rounds, times `CONVOY_CASES`; or the one that
/// `CONVOY_SEED` names.
pub fn seeds(rounds: usize) -> Vec<u64> {
    let times = std::env::var("CONVOY_CASES").ok().and_then(|times| times.parse().ok());
    match seed_asked_for() {
        Some(seed) => vec![seed],
        None => (0..rounds * times.unwrap_or(1)).map(|_| any_seed()).collect(),
    }
}
