//! Chance that a seed repeats.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// A seeded source of choices.
#[derive(Debug, Clone)]
pub struct Dice(SmallRng);

impl Dice {
    /// Returns the dice of one part of a seed's run, independent of its other parts.
    pub fn new(seed: u64, part: u64) -> Dice {
        Dice(SmallRng::seed_from_u64(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ part))
    }

    /// Returns a number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0.random_range(0..limit)
    }

    /// Returns a number of a closed range.
    pub fn between(&mut self, least: i64, most: i64) -> i64 {
        self.0.random_range(least..=most)
    }

    /// Returns true in so many of a hundred cases.
    pub fn percent(&mut self, chance: u32) -> bool {
        self.0.random_range(0..100) < chance
    }

    /// Returns one of these.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// Returns a part of these, in their order, each with the same chance; at least one.
    pub fn some<T: Clone>(&mut self, from: &[T], chance: u32) -> Vec<T> {
        let mut some: Vec<T> = from.iter().filter(|_| self.percent(chance)).cloned().collect();
        if some.is_empty() {
            some.push(self.pick(from).clone());
        }
        some
    }

    /// Returns digits that don't compress.
    pub fn noise(&mut self, length: usize) -> String {
        (0..length)
            .map(|_| char::from(b'a' + u8::try_from(self.below(26)).expect("a letter")))
            .collect()
    }
}
