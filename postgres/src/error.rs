//! What can go wrong between us and a database, and how Postgres' own errors are told to a client.

use convoy_engine::{ErrorCode, QueryError, Refusal};
use std::collections::HashSet;
use std::error::Error as _;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};
use thiserror::Error;
use tokio_postgres::error::{DbError, ErrorPosition, SqlState};

/// Why a database could not be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PostgresError {
    /// None of the URL's places let us in; the last one's reason is the source.
    #[error("could not connect to {target}")]
    Connect {
        /// The place: `host:port` or a socket.
        target: String,
        /// The reason.
        #[source]
        source: tokio_postgres::Error,
    },
    /// A place did not answer in time.
    #[error("{target} did not answer within {limit:?}")]
    ConnectTimeout {
        /// The place: `host:port` or a socket.
        target: String,
        /// The limit.
        limit: Duration,
    },
    /// Connected, but not to the kind of server that `target_session_attrs` asks for.
    #[error("{target} is {found}, and target_session_attrs={wanted} asks for another")]
    WrongServer {
        /// The place: `host:port` or a socket.
        target: String,
        /// What it is.
        found: &'static str,
        /// What was asked for.
        wanted: &'static str,
    },
    /// Connected, but not to the server whose stream is read: its transactions would be taken for that one's.
    #[error("{target} is not the server that the replication stream comes from")]
    OtherServer {
        /// The place: `host:port` or a socket.
        target: String,
    },
    /// A certificate or key file does not serve.
    #[error("{} can't be read as {what}: {reason}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What should be in it.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The server's certificate was to be checked, and nothing says against what.
    #[error(
        "sslmode=verify-ca and verify-full need sslrootcert, a file with the authority's certificate \
         (or sslrootcert=system)"
    )]
    NoRootCertificate,
    /// Only one of our certificate and its key was given.
    #[error("sslcert and sslkey must be given together")]
    HalfIdentity,
    /// The TLS library would not take the configuration.
    #[error("could not set up TLS")]
    Tls(#[from] rustls::Error),
    /// All connections were in use for too long.
    #[error("all {connections_max} connections to the database were in use for {limit:?}")]
    PoolBusy {
        /// How many connections there are.
        connections_max: usize,
        /// How long we waited.
        limit: Duration,
    },
    /// A statement of our own failed.
    #[error("the database refused or did not answer")]
    Query(#[from] tokio_postgres::Error),
    /// The server said something that it never should.
    #[error("the database's answer made no sense: {what}")]
    Unexpected {
        /// What it should have been.
        what: &'static str,
    },
}

impl PostgresError {
    /// Returns whether the same may succeed a moment later.
    pub fn is_retryable(&self) -> bool {
        match self {
            PostgresError::Connect { source, .. } => source.as_db_error().is_none_or(is_transient),
            PostgresError::Query(source) => source.as_db_error().is_none_or(is_transient),
            PostgresError::ConnectTimeout { .. }
            | PostgresError::WrongServer { .. }
            | PostgresError::OtherServer { .. }
            | PostgresError::PoolBusy { .. } => true,
            PostgresError::Certificate { .. }
            | PostgresError::NoRootCertificate
            | PostgresError::HalfIdentity
            | PostgresError::Tls(_)
            | PostgresError::Unexpected { .. } => false,
        }
    }

    /// Returns whether a statement failed for this reason.
    pub fn is_state(&self, state: &SqlState) -> bool {
        match self {
            PostgresError::Query(source) => source.code() == Some(state),
            _ => false,
        }
    }

    /// Returns the error with its causes, one clause after another.
    pub fn chain(&self) -> String {
        chain(self)
    }
}

impl From<PostgresError> for QueryError {
    fn from(error: PostgresError) -> QueryError {
        match &error {
            PostgresError::Query(source) => query_error(source, None),
            PostgresError::Unexpected { .. } => QueryError::new(ErrorCode::Internal, error.chain()),
            _ => QueryError::new(ErrorCode::Unavailable, error.chain()),
        }
    }
}

/// Returns an error with its causes, one clause after another.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// The statement in which an error's position lies: Postgres counts in what *we* sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent<'a> {
    /// What the person wrote.
    pub(crate) text: &'a str,
    /// How many characters we put before it.
    pub(crate) prefix_chars: usize,
}

/// Returns what a client is told of a failed statement that is ours.
pub fn statement_error(error: &tokio_postgres::Error) -> QueryError {
    query_error(error, None)
}

/// Returns what a client is told of a failed statement.
pub(crate) fn query_error(error: &tokio_postgres::Error, sent: Option<Sent<'_>>) -> QueryError {
    let Some(db) = error.as_db_error() else {
        // A value that does not encode or decode is our own fault; the rest is the connection's.
        let code = match error.source() {
            Some(source) if !source.is::<std::io::Error>() => ErrorCode::Internal,
            _ => ErrorCode::Unavailable,
        };
        let code = if error.is_closed() { ErrorCode::Unavailable } else { code };
        return QueryError::new(code, chain(error));
    };
    let refusal = refusal(db);
    if let Some(withheld) = refusal.for_the_log().filter(|withheld| is_news(withheld)) {
        tracing::warn!(sqlstate = refusal.state, "Postgres refused: {withheld}");
    }
    QueryError::new(code(db), placed(db, sent, &refusal.for_clients()))
}

/// Returns what a client is told of a value of its own that its type does not take: all that Postgres says.
pub(crate) fn argument_error(error: &tokio_postgres::Error) -> QueryError {
    match error.as_db_error() {
        Some(db) => QueryError::new(code(db), refusal(db).in_full()),
        None => query_error(error, None),
    }
}

fn refusal(db: &DbError) -> Refusal<'_> {
    Refusal {
        state: db.code().code(),
        message: db.message(),
        detail: db.detail(),
        hint: db.hint(),
        is_of_text: matches!(db.position(), Some(ErrorPosition::Original(_))),
    }
}

/// Returns whether this was not said a moment ago: a result that can't be read is tried again and again, and there may be
/// many such results.
fn is_news(text: &str) -> bool {
    /// How soon the same is said again.
    const AGAIN: Duration = Duration::from_secs(600);
    /// At most so many are remembered.
    const REMEMBERED_MAX: usize = 1_000;
    static SAID: LazyLock<Mutex<(Instant, HashSet<u64>)>> =
        LazyLock::new(|| Mutex::new((Instant::now(), HashSet::new())));
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    if said.0.elapsed() > AGAIN || said.1.len() >= REMEMBERED_MAX {
        *said = (Instant::now(), HashSet::new());
    }
    said.1.insert(hasher.finish())
}

/// Returns the kind of one of Postgres' errors (PostgreSQL manual, appendix A).
fn code(db: &DbError) -> ErrorCode {
    let state = db.code().code();
    match state {
        // query_canceled, lock_not_available, transaction_timeout, idle_in_transaction_session_timeout
        "57014" | "55P03" | "25P04" | "25P03" => ErrorCode::Timeout,
        // program_limit_exceeded and the out-of-memory kin
        _ if state.starts_with("54") => ErrorCode::LimitExceeded,
        _ => match state.get(..2).unwrap_or_default() {
            "08" | "53" | "57" | "58" | "40" | "55" | "25" | "28" | "3D" => ErrorCode::Unavailable,
            "XX" => ErrorCode::Internal,
            _ => ErrorCode::InvalidArgs,
        },
    }
}

/// Returns words about a statement with the place that they are about, where there is one.
fn placed(db: &DbError, sent: Option<Sent<'_>>, words: &str) -> String {
    let (message, more) = match words.strip_prefix(db.message()) {
        Some(more) => (db.message(), more),
        None => (words, ""),
    };
    let mut text = message.to_owned();
    if let (Some(sent), Some(ErrorPosition::Original(position))) = (sent, db.position()) {
        let position = (*position as usize).saturating_sub(sent.prefix_chars).max(1);
        let before = sent.text.chars().take(position - 1);
        let (line, column) =
            before.fold(
                (1, 1),
                |(line, column), c| if c == '\n' { (line + 1, 1) } else { (line, column + 1) },
            );
        text.push_str(&format!(" at line {line}, column {column}"));
    }
    text.push_str(more);
    text
}

/// Returns whether it is the connection that failed, and not what was asked over it: the server ends it with an error of
/// class 57P (operator intervention), or without a word.
pub(crate) fn is_lost(error: &tokio_postgres::Error) -> bool {
    match error.as_db_error() {
        Some(db) => db.code().code().starts_with("57P"),
        None => {
            error.is_closed() || error.source().is_some_and(|source| source.is::<std::io::Error>())
        }
    }
}

fn is_transient(db: &DbError) -> bool {
    matches!(code(db), ErrorCode::Unavailable | ErrorCode::Timeout)
        && !matches!(db.code().code().get(..2), Some("28" | "3D"))
}
