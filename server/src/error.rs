//! Why a command of the `convoy` binary failed.

use crate::auth::OptionsError;
use crate::project::ProjectError;
use convoy_engine::QueryError;
use convoy_postgres::PostgresError;
use convoy_postgres::doctor::PreflightError;
use convoy_postgres::launcher::LaunchError;
use std::net::SocketAddr;
use std::path::PathBuf;
use thiserror::Error;

/// Why a command failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ServerError {
    /// It was called in a way that makes no sense; exit status 2.
    #[error("{0}")]
    Misused(String),
    /// The project's files are not in order.
    #[error(transparent)]
    Project(#[from] ProjectError),
    /// How callers are identified makes no sense; exit status 2.
    #[error(transparent)]
    Auth(#[from] OptionsError),
    /// The address is taken, or not ours.
    #[error("listening on {address}: choose another with --listen")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's words.
        #[source]
        source: std::io::Error,
    },
    /// The database is not fit.
    #[error(transparent)]
    Preflight(#[from] PreflightError),
    /// There is no stream, and there will be none.
    #[error("no replication: {reason}")]
    Replication {
        /// The reason, with what mends it.
        reason: String,
    },
    /// The passfile can't be read.
    #[error("reading the passfile {}", path.display())]
    Passfile {
        /// The file.
        path: PathBuf,
        /// The system's words.
        #[source]
        source: std::io::Error,
    },
    /// The database can't be used.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    /// A statement of our own failed.
    #[error("asking the database")]
    Database(#[from] tokio_postgres::Error),
    /// The tables that functions use are not in order.
    #[cfg(feature = "functions")]
    #[error(transparent)]
    Schema(#[from] convoy_schema::SchemaError),
    /// Code could not be generated.
    #[error("generating code")]
    Generation(#[from] crate::generation::GenerationError),
    /// A query failed.
    #[error("{0}")]
    Query(#[from] QueryError),
    /// There is no private Postgres.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// The engine's thread ended, which is a fault of ours.
    #[error("the engine has stopped: what it last said is in the log")]
    EngineStopped,
    /// The system refused something.
    #[error("{doing}")]
    System {
        /// What we were doing.
        doing: &'static str,
        /// The system's words.
        #[source]
        source: std::io::Error,
    },
    /// A file can't be read or written.
    #[error("{doing} {}", path.display())]
    File {
        /// What we were doing.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's words.
        #[source]
        source: std::io::Error,
    },
    /// What was checked is not in order; it has been printed.
    #[error("{0}")]
    Unwell(String),
}

impl ServerError {
    /// Returns the exit status: 1 failed, 2 misused.
    pub fn exit_status(&self) -> u8 {
        match self {
            ServerError::Misused(_) | ServerError::Auth(_) => 2,
            _ => 1,
        }
    }
}

/// Returns an error with its sources in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        // Some errors say what their source says.
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
        source = error.source();
    }
    text
}
