//! What is to be done at what time: one time for each thing, the earliest at hand.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::time::Instant;

/// Things that are due at some time, each once.
#[derive(Debug)]
pub(crate) struct Schedule<K> {
    at: HashMap<K, Instant>,
    order: BTreeSet<(Instant, K)>,
}

impl<K> Default for Schedule<K> {
    fn default() -> Self {
        Schedule { at: HashMap::new(), order: BTreeSet::new() }
    }
}

impl<K: Copy + Ord + Hash> Schedule<K> {
    /// Plans a thing, instead of when it was planned before.
    pub fn set(&mut self, key: K, at: Instant) {
        self.cancel(key);
        self.at.insert(key, at);
        self.order.insert((at, key));
    }

    /// Takes a thing off.
    pub fn cancel(&mut self, key: K) {
        if let Some(at) = self.at.remove(&key) {
            self.order.remove(&(at, key));
        }
    }

    /// Returns when the first thing is due.
    pub fn next(&self) -> Option<Instant> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Returns the things that are due, and takes them off.
    pub fn take_due(&mut self, now: Instant) -> Vec<K> {
        let mut due = Vec::new();
        while let Some(&(at, key)) = self.order.first()
            && at <= now
        {
            self.order.pop_first();
            self.at.remove(&key);
            due.push(key);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn each_thing_is_due_once_at_its_last_time() {
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        let mut schedule = Schedule::default();
        schedule.set('a', at(3));
        schedule.set('b', at(1));
        schedule.set('a', at(2));
        schedule.set('c', at(2));
        schedule.cancel('c');
        assert_eq!(schedule.next(), Some(at(1)));
        assert_eq!(schedule.take_due(at(1)), ['b']);
        assert_eq!(schedule.take_due(at(5)), ['a']);
        assert_eq!(schedule.next(), None);
    }
}
