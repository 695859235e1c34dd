//! WAL in, transactions out: reads committed transactions from a logical replication slot.
//!
//! ```no_run
//! # async fn example(config: convoy_replication::ReplicationConfig) -> Result<(), convoy_replication::ReplicationError> {
//! use convoy_replication::{ReplicationSession, StreamEvent};
//!
//! let session = ReplicationSession::open(config).await?;
//! println!("pg_blocking_pids({}) says who start() waits for", session.backend_pid());
//! let mut stream = session.start().await?;
//! loop {
//!     match stream.next().await? {
//!         StreamEvent::Committed(transaction) => stream.confirm(transaction.end_lsn),
//!         StreamEvent::Progress { wal_end } => println!("nothing else up to {wal_end}"),
//!     }
//! }
//! # }
//! ```
//!
//! It speaks the replication protocol itself (`connection`), decodes pgoutput (`pgoutput`) and puts its messages
//! together (`assembler`). It knows nothing of queries, results or SQL connections, and starts no task of its own.
//! Values are slices of the receive buffer: who keeps one for long copies it.

mod config;
mod session;
mod stream;

mod slot;

mod assembler;
mod pgoutput;
mod relation_cache;
mod streamed;

mod connection;

mod error;
mod retry;

#[cfg(fuzzing)]
pub mod fuzzing;

pub use config::{ReplicationConfig, SlotChoice};
pub use connection::{ServerError, TlsSetupError};
pub use error::{ReplicationError, SlotMismatch};
pub use pgoutput::DecodeError;
pub use retry::Backoff;
pub use session::{ReplicationSession, ServerIdentity};
pub use stream::{ReplicationStream, StreamEvent};
