//! What sessions take by themselves: the part `sessions` of memory (`limits.rs`), from a session's begin to its end. What
//! waits for their clients is another (`stream_memory.rs`).

use crate::protocol::ApiError;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A session without subscriptions, here and in the engine (measured: 20 MB for 3,000, with one each).
pub(super) const SESSION_BYTES: usize = 4 << 10;
/// A subscription beside its name and its arguments, here and in the engine (measured: 25 MB for 40,000 of one query).
pub(super) const SUBSCRIPTION_BYTES: usize = 384;
/// A name that was used, beside its text.
pub(super) const NAME_BYTES: usize = 96;

/// The bound, and how much of it is in use.
#[derive(Debug)]
pub struct SessionMemory {
    used: AtomicUsize,
    bytes_max: usize,
}

impl SessionMemory {
    /// Returns a bound of so many bytes.
    pub fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(SessionMemory { used: AtomicUsize::new(0), bytes_max })
    }

    /// Returns the bytes in use.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

/// What one session takes. Dropping it gives that back.
#[derive(Debug)]
pub(super) struct Kept {
    memory: Arc<SessionMemory>,
    bytes: usize,
}

impl Kept {
    /// Takes what a session does.
    ///
    /// # Errors
    /// `LIMIT_EXCEEDED` where there is no room for another.
    pub fn session(memory: &Arc<SessionMemory>) -> Result<Kept, ApiError> {
        let mut kept = Kept { memory: memory.clone(), bytes: 0 };
        kept.take(SESSION_BYTES)?;
        Ok(kept)
    }

    /// Takes so many bytes more.
    ///
    /// # Errors
    /// `LIMIT_EXCEEDED` where they are not there; then nothing is taken.
    pub fn take(&mut self, bytes: usize) -> Result<(), ApiError> {
        let SessionMemory { used, bytes_max } = &*self.memory;
        let add = |used: usize| used.checked_add(bytes).filter(|sum| sum <= bytes_max);
        if let Err(used) = used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add) {
            let message = format!(
                "sessions and their subscriptions take {used} of {bytes_max} bytes (--memory-sessions, a part of \
                 --memory-limit), too much for more: close some, or try again when others have ended"
            );
            return Err(ApiError::no_room(message));
        }
        self.bytes += bytes;
        Ok(())
    }

    /// Gives so many bytes back.
    pub fn give_back(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.memory.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Code;

    #[test]
    fn what_is_taken_is_given_back_and_never_more_than_there_is() {
        let memory = SessionMemory::new(SESSION_BYTES + 1000);
        let mut one = Kept::session(&memory).expect("room");
        assert_eq!(Kept::session(&memory).expect_err("full").code, Code::LimitExceeded);
        one.take(1000).expect("room");
        assert!(one.take(1).is_err());
        one.give_back(600);
        one.take(500).expect("room");
        assert_eq!(memory.used(), SESSION_BYTES + 900);
        drop(one);
        assert_eq!(memory.used(), 0);
    }
}
