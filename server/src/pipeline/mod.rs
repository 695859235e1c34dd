//! From the database to the sessions: the queue of events, the thread that runs the engine over it, and the task that
//! fills it from the replication stream.

mod backlog;
mod lag;
mod queue;
mod replication;
mod runner;
mod slot;
mod slot_watch;

pub use backlog::Pushed;
pub use lag::{Lag, LagView, StreamState};
pub use queue::{EventQueue, Reservation};
pub use replication::{Replication, ReplicationOptions, Started};
pub use runner::{EngineThread, EngineTurns};
