//! Where in the log mutations stand that were done: a repeat of one is told what the first was told.
//!
//! A transaction can't know where its own commit will be. The position is asked for right after it, noted here, where the
//! first word on a mutation is the one that counts, and written beside the answer a little later, for many at once. Where the
//! process ends in between, the first repeat is told a later position, which includes the commit too, and that one stays.

use convoy_types::Lsn;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::sleep;

/// Twice so many mutations' positions are known without asking the database. They may be forgotten once they are written.
const KNOWN_MAX: usize = 10_000;
/// At most so many wait to be written; positions of further ones are not.
const UNWRITTEN_MAX: usize = 100_000;
/// How long others are waited for that are written with one.
const GATHER: Duration = Duration::from_millis(50);

/// What is known of mutations that were done lately.
#[derive(Debug, Default)]
pub(super) struct Positions {
    state: Mutex<State>,
    noted: Notify,
}

#[derive(Debug, Default)]
struct State {
    newer: HashMap<Arc<str>, Lsn>,
    older: HashMap<Arc<str>, Lsn>,
    unwritten: Vec<(Arc<str>, Lsn)>,
}

impl Positions {
    /// Returns a mutation's position, where one was noted.
    pub fn known(&self, id: &str) -> Option<Lsn> {
        let state = self.lock();
        state.newer.get(id).or_else(|| state.older.get(id)).copied()
    }

    /// Notes a position that includes a mutation's commit. Returns the one that counts: the first.
    pub fn note(&self, id: &Arc<str>, position: Lsn) -> Lsn {
        let mut state = self.lock();
        if let Some(first) = state.newer.get(id).or_else(|| state.older.get(id)) {
            return *first;
        }
        if state.newer.len() >= KNOWN_MAX {
            state.older = std::mem::take(&mut state.newer);
        }
        state.newer.insert(id.clone(), position);
        if state.unwritten.len() < UNWRITTEN_MAX {
            state.unwritten.push((id.clone(), position));
        }
        drop(state);
        self.noted.notify_one();
        position
    }

    /// Waits until there is something to be written, and for what comes soon after.
    pub async fn gathered(&self) {
        while self.lock().unwritten.is_empty() {
            self.noted.notified().await;
        }
        sleep(GATHER).await;
    }

    /// Returns what is to be written.
    pub fn unwritten(&self) -> Vec<(Arc<str>, Lsn)> {
        self.lock().unwritten.clone()
    }

    /// Notes that so many are written, those that have waited longest.
    pub fn written(&self, count: usize) {
        let mut state = self.lock();
        let count = count.min(state.unwritten.len());
        state.unwritten.drain(..count);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_counts_and_is_written_once() {
        let positions = Positions::default();
        let id: Arc<str> = "a".into();
        assert_eq!(positions.known("a"), None);
        assert_eq!(positions.note(&id, Lsn(7)), Lsn(7));
        assert_eq!(positions.note(&id, Lsn(9)), Lsn(7));
        assert_eq!(positions.known("a"), Some(Lsn(7)));
        positions.note(&"b".into(), Lsn(8));
        let unwritten = positions.unwritten();
        assert_eq!(unwritten, [(id, Lsn(7)), ("b".into(), Lsn(8))]);
        positions.written(1);
        assert_eq!(positions.unwritten(), unwritten[1..]);
    }

    #[test]
    fn what_is_known_is_bounded() {
        let positions = Positions::default();
        for n in 0..5 * KNOWN_MAX as u64 {
            positions.note(&n.to_string().into(), Lsn(n));
        }
        let state = positions.lock();
        assert!(state.newer.len() + state.older.len() <= 2 * KNOWN_MAX);
        drop(state);
        let last = 5 * KNOWN_MAX as u64 - 1;
        assert_eq!(positions.known(&last.to_string()), Some(Lsn(last)));
    }
}
