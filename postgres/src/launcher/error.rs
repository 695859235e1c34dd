//! What can go wrong while finding, starting or stopping a private Postgres.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use super::discover::Version;

/// Why there is no private Postgres; the message says what would mend it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LaunchError {
    /// No usable installation anywhere; `tried` says where we looked and what was wrong there.
    #[error("found no Postgres {minimum} or newer ({}); install it with `{install}`, or name the folder of its programs with --pg-bin", tried.join("; "))]
    NotFound {
        /// The oldest major version that serves.
        minimum: u32,
        /// One clause for each place, in the order of the search.
        tried: Vec<String>,
        /// The command that installs Postgres on this platform.
        install: String,
    },
    /// The folder that the caller named does not serve.
    #[error("the Postgres in {} can't be used: {reason}", folder.display())]
    UnusableFolder {
        /// The folder as given.
        folder: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file operation failed.
    #[error("could not {doing}")]
    Io {
        /// What we were doing, with the path.
        doing: String,
        /// The operating system's word.
        #[source]
        source: io::Error,
    },
    /// The socket's path would not fit into `sockaddr_un`.
    #[error("the socket path {} is longer than {limit} bytes; pass a shorter temporary folder, such as /tmp", path.display())]
    SocketPathTooLong {
        /// The path that is too long.
        path: PathBuf,
        /// The longest that the system takes, in bytes.
        limit: usize,
    },
    /// Somebody else has the kept data.
    #[error("the data in {} are in use{}: end that one first, or keep the data of this one in another folder", folder.display(), by(*pid))]
    InUse {
        /// The folder of the kept data.
        folder: PathBuf,
        /// Who has them; `None` where that can't be seen from here, such as in another container.
        pid: Option<u32>,
    },
    /// The kept data are of another major version than the programs.
    #[error("the data in {} were made by Postgres {made_by}, and the Postgres in {} is {found}: install Postgres {made_by}, or name the folder of its programs with --pg-bin; or move {} away to begin with empty data", folder.display(), bin.display(), folder.display())]
    OtherVersion {
        /// The folder of the kept data.
        folder: PathBuf,
        /// The major version that made them.
        made_by: u32,
        /// The version of the programs.
        found: Version,
        /// Where these are.
        bin: PathBuf,
    },
    /// The folder can't have kept data.
    #[error("{} can't be used to keep data in: {reason}", folder.display())]
    UnfitFolder {
        /// The folder.
        folder: PathBuf,
        /// What is wrong with it, and what would be right.
        reason: String,
    },
    /// We are root, and the account that the server runs as can't get at the kept data.
    #[error("the data can't be kept in {}: Postgres does not run as root but as {account}, who may not enter {}; run this as an ordinary user, move the project (to /srv, say), or let others pass with `chmod o+x {}`", folder.display(), closed.display(), closed.display())]
    ClosedToAccount {
        /// The folder of the kept data.
        folder: PathBuf,
        /// The first folder on the way that is closed.
        closed: PathBuf,
        /// The account.
        account: String,
    },
    /// The kept data are another user's.
    #[error("{} belongs to the user with the id {owner}, and has to belong to {uid}, as who this runs: run it as that user, or give the folder away with `chown -R {uid} {}`", path.display(), path.display())]
    WrongOwner {
        /// The folder.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Whose it would have to be.
        uid: u32,
    },
    /// `initdb` failed.
    #[error("initdb ended with {status}; its output ends: {output}")]
    Initdb {
        /// How it ended.
        status: ExitStatus,
        /// The end of its output.
        output: String,
    },
    /// The server ended before it took a connection.
    #[error("postgres ended with {status} before it took a connection; its log ends: {log}")]
    Exited {
        /// How it ended.
        status: ExitStatus,
        /// The end of its log.
        log: String,
    },
    /// A step took too long.
    #[error("{what} took longer than {} s; the log ends: {log}", limit.as_secs())]
    Timeout {
        /// The step.
        what: &'static str,
        /// What it was allowed.
        limit: Duration,
        /// The end of the step's log.
        log: String,
    },
    /// The server would not die within the limits, even of SIGKILL.
    #[error("postgres with pid {pid} did not end within {} s", limit.as_secs())]
    WouldNotStop {
        /// Its process id.
        pid: u32,
        /// What it was allowed.
        limit: Duration,
    },
    /// A statement or connection failed.
    #[error("could not {doing}")]
    Database {
        /// What we were doing.
        doing: String,
        /// The driver's word.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The server was stopped, or its thread ended.
    #[error("the private Postgres is not running any more")]
    Gone,
    /// The caller gave up while the server was being started.
    #[error("the start of the private Postgres was given up")]
    Cancelled,
}

/// Says who it is, in a clause.
fn by(pid: Option<u32>) -> String {
    match pid {
        Some(pid) => format!(" by the process {pid}"),
        None => " by a process that can't be seen from here".to_owned(),
    }
}

impl LaunchError {
    /// Returns a function that wraps an I/O error with what we were doing.
    pub(super) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> LaunchError {
        let doing = doing.into();
        move |source| LaunchError::Io { doing, source }
    }
}
