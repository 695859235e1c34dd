//! A bound on memory that many tasks fill while they wait for somebody else to take in what they bring: answers on
//! their way to the engine, bodies of requests.
//!
//! Past it a task waits before it takes in more. All of them may have begun by then and none may be able to end, so one
//! at a time, whoever has the *turn*, goes on all the same until it is done: the bound is exceeded by what one may hold
//! at most.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// The bound, and how much of it is in use.
#[derive(Debug)]
pub struct MemoryBudget {
    used: AtomicUsize,
    bytes_max: usize,
    turn: Arc<Semaphore>,
    freed: Notify,
}

impl MemoryBudget {
    /// Returns a bound of so many bytes.
    pub fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(MemoryBudget {
            used: AtomicUsize::new(0),
            bytes_max,
            turn: Arc::new(Semaphore::new(1)),
            freed: Notify::new(),
        })
    }

    /// Returns the bytes in use.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Returns the bound.
    pub fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// Gives bytes back that nobody has in a [`Room`] any more: see [`Room::hand_over`].
    pub fn give_back(&self, bytes: usize) {
        if bytes > 0 {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
            self.freed.notify_waiters();
        }
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.used().saturating_add(bytes) <= self.bytes_max
    }
}

/// What one task has taken of a budget. Dropping it gives that back.
#[derive(Debug)]
pub struct Room {
    budget: Arc<MemoryBudget>,
    bytes: usize,
    turn: Option<OwnedSemaphorePermit>,
}

impl Room {
    /// Takes nothing yet.
    pub fn new(budget: &Arc<MemoryBudget>) -> Self {
        Room { budget: budget.clone(), bytes: 0, turn: None }
    }

    /// Takes so many bytes more; waits while there is no room, unless it has the turn.
    pub async fn grow(&mut self, bytes: usize) {
        while self.turn.is_none() && !self.budget.has_room(bytes) {
            let mut freed = std::pin::pin!(self.budget.freed.notified());
            // From here on nothing that is freed is missed.
            freed.as_mut().enable();
            if self.budget.has_room(bytes) {
                break;
            }
            tokio::select! {
                turn = self.budget.turn.clone().acquire_owned() => self.turn = turn.ok(),
                () = freed => {}
            }
        }
        self.budget.used.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
    }

    /// Hands so many bytes of it over to somebody else, who gives them back to the budget.
    pub fn hand_over(&mut self, bytes: usize) -> usize {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        bytes
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::future::poll_immediate;

    #[tokio::test]
    async fn who_finds_no_room_waits_until_something_is_freed() {
        let budget = MemoryBudget::new(100);
        let mut first = Room::new(&budget);
        first.grow(60).await;
        let mut with_turn = Room::new(&budget);
        with_turn.grow(60).await;
        assert_eq!(budget.used(), 120, "one goes on past the bound");
        with_turn.grow(60).await;
        let mut third = Room::new(&budget);
        let mut waiting = Box::pin(third.grow(30));
        assert!(poll_immediate(&mut waiting).await.is_none());
        drop(with_turn);
        assert!(poll_immediate(&mut waiting).await.is_some());
        drop(waiting);
        assert_eq!(budget.used(), 90);
        let handed = first.hand_over(50);
        drop((first, third));
        assert_eq!(budget.used(), 50);
        budget.give_back(handed);
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test]
    async fn all_end_though_together_they_want_more_than_there_is() {
        let budget = MemoryBudget::new(1_000);
        let tasks = (0..20).map(|_| {
            let budget = budget.clone();
            tokio::spawn(async move {
                let mut room = Room::new(&budget);
                for _ in 0..10 {
                    room.grow(50).await;
                    tokio::task::yield_now().await;
                    assert!(budget.used() <= 1_000 + 500, "{}", budget.used());
                }
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.expect("no panic");
        }
        assert_eq!(budget.used(), 0);
    }
}
