//! Choices by a seed, for the law.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// A source of choices.
pub struct Dice(SmallRng);

impl Dice {
    /// Returns dice by the seed that `CONVOY_SEED` asks for, or by any.
    pub fn new() -> Dice {
        let asked_for = std::env::var("CONVOY_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = asked_for.unwrap_or_else(|| u64::from(rand::random::<u32>()));
        // Shown where the test fails.
        println!("replay with CONVOY_SEED={seed}");
        Dice(SmallRng::seed_from_u64(seed))
    }

    pub fn below(&mut self, limit: usize) -> usize {
        self.0.random_range(0..limit)
    }
}
