//! The engine's turns: takes events from the queue, lets the engine publish what they changed, watches its deadlines.
//!
//! A thread of the engine's own takes them, but for one case. A lone small transaction that finds the engine idle is
//! handled by whoever received it, since waking a thread that sleeps, and its waking the sessions' tasks, takes several
//! times as long as the turn itself (bench/README.md, "Latency").

use super::queue::{EventQueue, Queued};
use crate::limits::EVENTS_PER_FLUSH_MAX;
use convoy_engine::{Engine, Event, Limits};
use convoy_postgres::PostgresDatabase;
use std::io;
use std::sync::{Arc, Mutex, TryLockError};
use std::thread::JoinHandle;
use std::time::Instant;

/// The engine on the user's database.
pub type LiveEngine = Engine<PostgresDatabase>;

/// The engine and the queue that it works on. Whoever has the lock takes a turn, and takes events from the queue only
/// then: so they are handled in their order.
pub struct EngineTurns {
    engine: Mutex<LiveEngine>,
    queue: Arc<EventQueue>,
}

impl EngineTurns {
    /// Handles what was just put into the queue without waking the thread, if that is little and the engine is idle;
    /// else wakes the thread.
    pub fn take_inline_or_wake(&self) {
        if self.queue.is_short() {
            // Where it is poisoned, the thread has ended or ends now.
            if let Ok(mut engine) = self.engine.try_lock() {
                return self.turn(&mut engine);
            }
        }
        self.queue.wake();
    }

    fn turn(&self, engine: &mut LiveEngine) {
        for queued in self.queue.take(EVENTS_PER_FLUSH_MAX) {
            match queued {
                Queued::Event(event) => {
                    let answer_bytes = match &event {
                        Event::QueryRead(_, _, Ok(rows)) => rows.memory_bytes(),
                        _ => 0,
                    };
                    engine.handle(Instant::now(), event);
                    self.queue.answers().give_back(answer_bytes);
                }
                Queued::Request(events, room) => {
                    for event in events {
                        engine.handle(Instant::now(), event);
                    }
                    drop(room);
                }
                Queued::Ask(question) => question(engine),
            }
        }
        let now = Instant::now();
        if engine.next_deadline().is_some_and(|deadline| deadline <= now) {
            engine.handle(now, Event::Tick);
        }
        engine.flush(Instant::now());
        self.queue.set_progress(engine.confirmed(), engine.waiting_bytes());
        self.queue.set_deadline(engine.next_deadline());
    }

    /// Takes turns until the queue is stopped, or the engine has panicked.
    fn run(&self) {
        while self.queue.wait() {
            match self.engine.lock() {
                Ok(mut engine) => self.turn(&mut engine),
                Err(_poisoned) => return,
            }
        }
    }
}

/// The running thread.
pub struct EngineThread {
    turns: Arc<EngineTurns>,
    thread: Option<JoinHandle<()>>,
}

impl EngineThread {
    /// Starts an engine with a thread of its own.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn start(
        queue: Arc<EventQueue>,
        limits: Limits,
        database: PostgresDatabase,
    ) -> io::Result<Self> {
        let engine = Mutex::new(Engine::new(limits, database, Instant::now()));
        let turns = Arc::new(EngineTurns { engine, queue });
        let of_thread = turns.clone();
        let thread =
            std::thread::Builder::new().name("engine".to_owned()).spawn(move || of_thread.run())?;
        Ok(EngineThread { turns, thread: Some(thread) })
    }

    /// Returns the turns, for who puts transactions into the queue.
    pub fn turns(&self) -> Arc<EngineTurns> {
        self.turns.clone()
    }

    /// Returns whether it still runs; it ends by itself only where the engine panicked.
    pub fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
            && !matches!(self.turns.engine.try_lock(), Err(TryLockError::Poisoned(_)))
    }
}

impl Drop for EngineThread {
    fn drop(&mut self) {
        self.turns.queue.stop();
        if let Some(thread) = self.thread.take() {
            // A panic in it has been logged by the hook.
            let _ = thread.join();
        }
    }
}
