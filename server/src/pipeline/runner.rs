//! The engine's thread: takes events from the queue, lets the engine publish what they changed, watches its deadlines.

use super::queue::{EventQueue, Queued};
use crate::limits::EVENTS_PER_FLUSH_MAX;
use convoy_engine::{Database, Engine, EngineStatus, Event, Limits, LiveQueryInfo, WhyEntry};
use convoy_query_index::QueryId;
use convoy_types::Lsn;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

/// The engine as its thread uses it, whatever its database is.
pub trait LiveEngine {
    /// Takes an event in.
    fn handle(&mut self, now: Instant, event: Event);
    /// Publishes what events changed.
    fn flush(&mut self, now: Instant);
    /// Returns when it wants to be ticked.
    fn next_deadline(&self) -> Option<Instant>;
    /// Returns what replication may confirm.
    fn confirmed(&self) -> Lsn;
    /// Returns its state in numbers.
    fn status(&self) -> EngineStatus;
    /// Returns the live queries.
    fn live_queries(&self) -> Vec<LiveQueryInfo>;
    /// Returns the last changes that touched a live query.
    fn why(&self, id: QueryId) -> Option<Vec<WhyEntry>>;
}

impl<D: Database> LiveEngine for Engine<D> {
    fn handle(&mut self, now: Instant, event: Event) {
        Engine::handle(self, now, event);
    }

    fn flush(&mut self, now: Instant) {
        Engine::flush(self, now);
    }

    fn next_deadline(&self) -> Option<Instant> {
        Engine::next_deadline(self)
    }

    fn confirmed(&self) -> Lsn {
        Engine::confirmed(self)
    }

    fn status(&self) -> EngineStatus {
        Engine::status(self)
    }

    fn live_queries(&self) -> Vec<LiveQueryInfo> {
        Engine::live_queries(self)
    }

    fn why(&self, id: QueryId) -> Option<Vec<WhyEntry>> {
        Engine::why(self, id)
    }
}

/// The running thread.
pub struct EngineThread {
    queue: Arc<EventQueue>,
    thread: Option<JoinHandle<()>>,
}

impl EngineThread {
    /// Starts an engine on a thread of its own.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn start<D: Database + Send + 'static>(
        queue: Arc<EventQueue>,
        limits: Limits,
        database: D,
    ) -> io::Result<Self> {
        let events = queue.clone();
        let thread = std::thread::Builder::new().name("engine".to_owned()).spawn(move || {
            run(&mut Engine::new(limits, database, Instant::now()), &events);
        })?;
        Ok(EngineThread { queue, thread: Some(thread) })
    }

    /// Returns whether it still runs; it ends by itself only where it panicked.
    pub fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }
}

impl Drop for EngineThread {
    fn drop(&mut self) {
        self.queue.stop();
        if let Some(thread) = self.thread.take() {
            // A panic in it has been logged by the hook.
            let _ = thread.join();
        }
    }
}

fn run(engine: &mut dyn LiveEngine, queue: &EventQueue) {
    let mut taken = Vec::new();
    loop {
        // Events from before the last flush are all handled: only now may it wait.
        queue.take(engine.next_deadline(), EVENTS_PER_FLUSH_MAX, &mut taken);
        for queued in taken.drain(..) {
            match queued {
                Queued::Event(event) => engine.handle(Instant::now(), event),
                Queued::Request(events, room) => {
                    for event in events {
                        engine.handle(Instant::now(), event);
                    }
                    drop(room);
                }
                Queued::Ask(question) => question(engine),
                Queued::Stop => return,
            }
        }
        let now = Instant::now();
        if engine.next_deadline().is_some_and(|deadline| deadline <= now) {
            engine.handle(now, Event::Tick);
        }
        engine.flush(Instant::now());
        queue.set_confirmed(engine.confirmed());
    }
}
