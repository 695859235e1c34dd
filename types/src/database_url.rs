//! Where a database is and how to get in: libpq's connection URL.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;
use thiserror::Error;

/// One place to try.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// A name or an address on the network.
    Tcp {
        /// The name, or the address without brackets.
        name: String,
        /// The port.
        port: u16,
    },
    /// A Unix socket.
    Unix {
        /// The folder in which the socket `.s.PGSQL.<port>` lies.
        directory: PathBuf,
        /// The port, which is part of the socket's name.
        port: u16,
    },
}

/// Whether a connection is encrypted, and what is checked (PostgreSQL manual, 34.19 "SSL Support").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SslMode {
    /// Never encrypted.
    Disable,
    /// Encrypted only where the server insists.
    Allow,
    /// Encrypted where the server can.
    #[default]
    Prefer,
    /// Always encrypted; the certificate is not checked unless a root certificate is given.
    Require,
    /// Always encrypted, by a certificate of a known authority.
    VerifyCa,
    /// Always encrypted, by a certificate of a known authority for this very host.
    VerifyFull,
}

/// What `target_session_attrs` asks of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TargetSession {
    /// Any server.
    #[default]
    Any,
    /// One whose sessions may write by default.
    ReadWrite,
    /// One whose sessions may not write by default.
    ReadOnly,
    /// One that is not a standby.
    Primary,
    /// A standby.
    Standby,
    /// A standby, else any.
    PreferStandby,
}

/// Where a database is and how to get in.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl {
    /// The places to try, in order; never empty.
    pub hosts: Vec<Host>,
    /// The role to log in as.
    pub user: String,
    /// The role's password.
    pub password: Option<String>,
    /// The database's name.
    pub database: String,
    /// Whether and how the connection is encrypted.
    pub ssl_mode: SslMode,
    /// The file with the authorities' certificates.
    pub ssl_root_cert: Option<PathBuf>,
    /// The file with our own certificate.
    pub ssl_cert: Option<PathBuf>,
    /// The file with our own certificate's key.
    pub ssl_key: Option<PathBuf>,
    /// How long one host is tried; `None` is without a limit.
    pub connect_timeout: Option<Duration>,
    /// The name that `pg_stat_activity` shows.
    pub application_name: Option<String>,
    /// The server's command-line options for the session (`-c name=value`).
    pub options: Option<String>,
    /// Which kind of server will do.
    pub target_session: TargetSession,
}

/// A text that is no connection URL. Never holds the password.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ParseUrlError {
    /// It starts like no URL and has no `keyword=value` pair.
    #[error("a database URL looks like postgres://user:password@host:5432/database")]
    NotAUrl,
}

impl FromStr for DatabaseUrl {
    type Err = ParseUrlError;

    fn from_str(_text: &str) -> Result<Self, ParseUrlError> {
        Err(ParseUrlError::NotAUrl)
    }
}

impl DatabaseUrl {
    /// Returns the same way in to another database.
    #[must_use]
    pub fn with_database(&self, name: impl Into<String>) -> Self {
        DatabaseUrl { database: name.into(), ..self.clone() }
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "postgres://{}@/{}", self.user, self.database)
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "DatabaseUrl({self})")
    }
}
