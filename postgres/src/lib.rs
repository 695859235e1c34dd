//! Everything in Convoy that asks the database.
//!
//! [`PostgresDatabase`] is the engine's `Database`: it describes statements, publishes tables, reads results at
//! snapshots that can be stitched to the stream, and watches the catalog. `docs/postgres.md` has the rules that the
//! modules cite as P1 to P14. [`launcher`] starts a Postgres of our own.

mod batch;
mod budget;
mod cast;
mod catalog;
mod collation;
mod connect;
mod database;
mod describe;
pub mod doctor;
mod error;
mod function_runs;
mod functions;
mod jobs;
mod kept_out;
pub mod launcher;
mod lock_script;
mod names;
mod pool;
mod publication;
mod read;
mod results;
mod session;
mod shape;
pub mod testing;
mod text_param;
mod tls;
mod types;
mod watch;
mod worker;

pub use batch::ReadCounters;
pub use budget::{MemoryBudget, Room};
pub use connect::{Connection, ServerStart, connect};
pub use database::{BATCH_MAX, DatabaseHandle, DatabaseOptions, PostgresDatabase, Sink};
pub use error::{PostgresError, statement_error};
pub use function_runs::{FunctionRun, Functions};
pub use pool::{Lease, Pool};
pub use publication::{FULL, INSERTS_ONLY, PublishMode};
pub use session::SessionOptions;
pub use shape::{ColumnOrigin, ColumnShape, SqlType, StatementShape, shape};
pub use tls::system_roots;
