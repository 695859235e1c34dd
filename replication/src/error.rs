//! What can go wrong between us and the walsender, each with what mends it.

use crate::connection::{FrameError, ServerError, TlsSetupError};
use crate::pgoutput::DecodeError;
use convoy_types::DatabaseUrl;
use std::time::Duration;
use thiserror::Error;

/// Why there is no stream, or none any more.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReplicationError {
    /// None of several hosts would do.
    #[error("none of the hosts would do: {}", list(attempts))]
    NoHost {
        /// What was wrong with each, in order.
        attempts: Vec<ReplicationError>,
    },
    /// Nobody answers there.
    #[error("connecting to {host}")]
    Connect {
        /// The host.
        host: String,
        /// What was wrong.
        #[source]
        source: std::io::Error,
    },
    /// It took too long.
    #[error("{host} did not let us in within {limit:?}")]
    ConnectTimeout {
        /// The host.
        host: String,
        /// How long we waited.
        limit: Duration,
    },
    /// The server does not encrypt, and the URL insists on it.
    #[error(
        "{host} does not encrypt connections: enable ssl there, or allow it with sslmode=prefer"
    )]
    TlsRefused {
        /// The host.
        host: String,
    },
    /// Encryption failed, or the server's certificate is none that we trust.
    #[error("setting up encryption with {host}")]
    TlsHandshake {
        /// The host.
        host: String,
        /// What was wrong.
        #[source]
        source: std::io::Error,
    },
    /// Our own files for encryption are not in order.
    #[error("preparing encryption")]
    TlsSetup(#[from] TlsSetupError),
    /// The server wants a password.
    #[error(
        "the server asks for the password of {user:?}: give it in the database URL, or in a passfile"
    )]
    PasswordMissing {
        /// The role.
        user: String,
    },
    /// The password is wrong, or the role may not log in.
    #[error("logging in as {user:?}")]
    LogInRefused {
        /// The role.
        user: String,
        /// The server's words.
        #[source]
        source: ServerError,
    },
    /// pg_hba.conf has no place for us.
    #[error(
        "pg_hba.conf does not let {user:?} into database {database:?} from here; a line like `host {database} {user} \
         samenet scram-sha-256` there and `SELECT pg_reload_conf();` would"
    )]
    HostRefused {
        /// The role.
        user: String,
        /// The database.
        database: String,
        /// The server's words.
        #[source]
        source: ServerError,
    },
    /// The server asks for a way to log in that we don't know.
    #[error(
        "the server asks for authentication of kind {kind}; Convoy knows SCRAM-SHA-256, md5, password and trust"
    )]
    AuthenticationUnsupported {
        /// The kind's number in the protocol.
        kind: u32,
    },
    /// The URL insists that the password be bound to the encrypted channel, and it can't be.
    #[error(
        "the password can't be bound to the encrypted channel: that takes TLS and SCRAM-SHA-256, or \
         channel_binding=prefer"
    )]
    NotBound,
    /// The server's part of the log-in does not add up.
    #[error("proving the password to the server")]
    LogIn {
        /// What was wrong.
        #[source]
        source: std::io::Error,
    },
    /// The role may not replicate.
    #[error(
        "role {user:?} may not read the write-ahead log; `ALTER ROLE {} REPLICATION;` allows it",
        quoted(user)
    )]
    NotReplicationRole {
        /// The role.
        user: String,
    },
    /// No walsender is free.
    #[error(
        "no walsender is free; `ALTER SYSTEM SET max_wal_senders = 10;` (or more than now) and a restart of the server \
         make room"
    )]
    NoWalSender {
        /// The server's words.
        #[source]
        source: ServerError,
    },
    /// The server does not write what logical decoding needs.
    #[error(
        "wal_level is {actual}, and must be logical: run `ALTER SYSTEM SET wal_level = 'logical';` and restart the \
         server"
    )]
    WalLevel {
        /// What it is.
        actual: String,
    },
    /// The server is older than we support.
    #[error("the server is Postgres {major}; Convoy needs 15 or later")]
    TooOld {
        /// Its major version.
        major: u32,
    },
    /// The server is a standby.
    #[error(
        "the server is a standby, from which results can't be read exactly: give the primary's address"
    )]
    InRecovery,
    /// Publications that should be read don't exist.
    #[error("no publication {}: make it before the slot, `CREATE PUBLICATION {};`", names.join(", "), quoted(&names[0]))]
    PublicationsMissing {
        /// Their names; at least one.
        names: Vec<String>,
    },
    /// A publication that is being read was dropped. A new slot is needed, also after it was made again.
    #[error("a publication that is being read was dropped")]
    PublicationDropped {
        /// The server's words.
        #[source]
        source: ServerError,
    },
    /// Every slot is taken.
    #[error(
        "all {max} replication slots are taken; drop one (`SELECT slot_name, active FROM pg_replication_slots;`), or \
         run `ALTER SYSTEM SET max_replication_slots = {};` and restart the server", max.saturating_add(10)
    )]
    NoFreeSlot {
        /// How many there are (`max_replication_slots`).
        max: u32,
    },
    /// A slot name that Postgres does not allow.
    #[error("{name:?} is no slot name: 1 to 63 lower-case letters, digits and underscores")]
    SlotName {
        /// The name.
        name: String,
    },
    /// Another process reads from the slot.
    #[error(
        "slot {name:?} is held by {}: give each Convoy a slot of its own", holder(*pid, application.as_deref())
    )]
    SlotHeld {
        /// The slot.
        name: String,
        /// The walsender that holds it, if the server says.
        pid: Option<i32>,
        /// What that one's client calls itself, if the server says.
        application: Option<String>,
    },
    /// The slot was not made for us.
    #[error(
        "slot {name:?} can't be used: {reason}; choose another name, or drop it with \
             `SELECT pg_drop_replication_slot('{name}');`"
    )]
    SlotForeign {
        /// The slot.
        name: String,
        /// What does not fit.
        reason: SlotMismatch,
    },
    /// The server let go WAL that the slot needs.
    #[error(
        "slot {name:?} lost WAL that it needs; drop it with `SELECT pg_drop_replication_slot('{name}');`"
    )]
    SlotLost {
        /// The slot.
        name: String,
    },
    /// Published tables changed each time that the slot was made.
    #[error("published tables were altered each of the {attempts} times that the slot was made")]
    CatalogChanging {
        /// How often it was made.
        attempts: u32,
    },
    /// The server refused something else.
    #[error("the server refused")]
    Server(#[source] ServerError),
    /// The connection broke.
    #[error("the replication connection broke")]
    ConnectionLost {
        /// What was wrong.
        #[source]
        source: std::io::Error,
    },
    /// The server hung up.
    #[error("the server closed the replication connection")]
    ConnectionClosed,
    /// The server is silent although it was asked to answer.
    #[error("the server has been silent for {silence:?}")]
    Silent {
        /// How long.
        silence: Duration,
    },
    /// The server sent bytes that are no message of its protocol.
    #[error("reading the server's messages: {what} does not read as the protocol has it")]
    Protocol {
        /// What was being read.
        what: &'static str,
    },
    /// The server sent something that is no message at all.
    #[error("reading the server's messages: {what}")]
    Frame {
        /// What was wrong.
        what: String,
    },
    /// A message of the stream does not read as pgoutput has it.
    #[error("decoding the stream")]
    Decode(#[from] DecodeError),
}

/// Why an existing slot is not one of ours.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SlotMismatch {
    /// It is a physical slot.
    #[error("it is a physical slot")]
    Physical,
    /// It has another output plugin.
    #[error("its output plugin is {plugin}, not pgoutput")]
    Plugin {
        /// The plugin.
        plugin: String,
    },
    /// It belongs to another database.
    #[error("it belongs to database {database:?}")]
    Database {
        /// The database.
        database: String,
    },
    /// It is temporary, so of another session.
    #[error("it is another session's temporary slot")]
    Temporary,
}

impl ReplicationError {
    /// Returns whether the same attempt may succeed later without anybody's help.
    ///
    /// A slot that is held counts: the walsender of a process that died goes away by itself.
    pub fn is_retryable(&self) -> bool {
        match self {
            ReplicationError::NoHost { attempts } => attempts.iter().any(ReplicationError::is_retryable),
            ReplicationError::Connect { .. }
            | ReplicationError::ConnectTimeout { .. }
            | ReplicationError::ConnectionLost { .. }
            | ReplicationError::ConnectionClosed
            | ReplicationError::Silent { .. }
            | ReplicationError::NoWalSender { .. }
            | ReplicationError::NoFreeSlot { .. }
            | ReplicationError::SlotHeld { .. }
            | ReplicationError::CatalogChanging { .. }
            // A standby may be promoted, and after a failover the address may name another server.
            | ReplicationError::InRecovery
            // Whoever connects makes sure of the publications first.
            | ReplicationError::PublicationDropped { .. } => true,
            ReplicationError::Server(error) => is_passing(error.code()),
            ReplicationError::TlsRefused { .. }
            | ReplicationError::TlsHandshake { .. }
            | ReplicationError::TlsSetup(_)
            | ReplicationError::PasswordMissing { .. }
            | ReplicationError::LogInRefused { .. }
            | ReplicationError::HostRefused { .. }
            | ReplicationError::AuthenticationUnsupported { .. }
            | ReplicationError::NotBound
            | ReplicationError::LogIn { .. }
            | ReplicationError::NotReplicationRole { .. }
            | ReplicationError::WalLevel { .. }
            | ReplicationError::TooOld { .. }
            | ReplicationError::PublicationsMissing { .. }
            | ReplicationError::SlotName { .. }
            | ReplicationError::SlotForeign { .. }
            | ReplicationError::SlotLost { .. }
            | ReplicationError::Protocol { .. }
            | ReplicationError::Frame { .. }
            | ReplicationError::Decode(_) => false,
        }
    }

    /// Returns whether the slot as it is would only lead here again: from another one, which begins later, all is well.
    ///
    /// Internal errors of the server count. What a slot is decoded by comes from when it was made, and where that lacks a
    /// table which was made at the same time, the server can't get past the first change of it (P2).
    pub fn is_of_slot(&self) -> bool {
        match self {
            ReplicationError::PublicationDropped { .. }
            | ReplicationError::SlotLost { .. }
            | ReplicationError::Decode(_) => true,
            ReplicationError::Server(error) => error.code().starts_with("XX"),
            _ => false,
        }
    }

    /// Returns whether another of several hosts may do where this one failed. A wrong password is wrong everywhere,
    /// as libpq has it.
    pub(crate) fn is_of_host(&self) -> bool {
        match self {
            ReplicationError::Server(error) => is_passing(error.code()),
            ReplicationError::Connect { .. }
            | ReplicationError::ConnectTimeout { .. }
            | ReplicationError::ConnectionLost { .. }
            | ReplicationError::ConnectionClosed
            | ReplicationError::TlsRefused { .. }
            | ReplicationError::TlsHandshake { .. }
            | ReplicationError::InRecovery => true,
            _ => false,
        }
    }

    /// Says what the server's refusal means when it comes at log-in.
    pub(crate) fn at_log_in(self, url: &DatabaseUrl) -> Self {
        let ReplicationError::Server(source) = self else { return self };
        let user = url.user.clone();
        match (source.code(), source.routine()) {
            ("28000", "ClientAuthentication") => {
                ReplicationError::HostRefused { user, database: url.database.clone(), source }
            }
            ("28000" | "28P01", _) => ReplicationError::LogInRefused { user, source },
            ("42501", "InitPostgres") => ReplicationError::NotReplicationRole { user },
            ("53300", "InitWalSenderSlot" | "InitProcess") => {
                ReplicationError::NoWalSender { source }
            }
            _ => ReplicationError::Server(source),
        }
    }
}

impl From<FrameError> for ReplicationError {
    fn from(error: FrameError) -> Self {
        ReplicationError::Frame { what: error.to_string() }
    }
}

/// Returns whether an error of the server passes by itself (PostgreSQL manual, appendix A).
fn is_passing(code: &str) -> bool {
    match code.get(..2) {
        // Connection exceptions, insufficient resources, transaction rollback, system errors.
        Some("08" | "53" | "40" | "58") => true,
        // Shut down, crashed, starting up, dropped connection, slot in use; not cancelled queries (57014), which are
        // ours to cancel.
        _ => matches!(code, "57P01" | "57P02" | "57P03" | "57P05" | "55006"),
    }
}

/// Returns an identifier as SQL writes it.
fn quoted(name: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let starts_well = name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
    if starts_well && name.bytes().all(is_plain) {
        name.to_owned()
    } else {
        crate::slot::quote_identifier(name)
    }
}

fn holder(pid: Option<i32>, application: Option<&str>) -> String {
    match (pid, application.filter(|name| !name.is_empty())) {
        (Some(pid), Some(application)) => format!("the walsender with pid {pid} ({application:?})"),
        (Some(pid), None) => format!("the walsender with pid {pid}"),
        (None, _) => "another process".to_owned(),
    }
}

fn list(attempts: &[ReplicationError]) -> String {
    let texts = attempts.iter().map(|error| match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    });
    texts.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(code: &str) -> ReplicationError {
        ReplicationError::Server(ServerError::parse(&format!("C{code}\0\0").into()))
    }

    #[test]
    fn what_passes_is_tried_again() {
        for code in ["57P01", "57P03", "08006", "53300", "55006"] {
            assert!(server(code).is_retryable(), "{code}");
        }
        for code in ["42501", "28P01", "57014", "42704", "", "é"] {
            assert!(!server(code).is_retryable(), "{code}");
        }
    }

    #[test]
    fn says_what_mends_it() {
        let role = ReplicationError::NotReplicationRole { user: "App User".to_owned() };
        assert!(role.to_string().contains(r#"`ALTER ROLE "App User" REPLICATION;`"#), "{role}");
        let level = ReplicationError::WalLevel { actual: "replica".to_owned() };
        assert!(
            level.to_string().contains("`ALTER SYSTEM SET wal_level = 'logical';` and restart"),
            "{level}"
        );
    }
}
