//! What can go wrong with a schema, and with an operation of `ctx.db`.

use convoy_engine::{ErrorCode, QueryError, Refusal};
use serde_json::{Value, json};
use thiserror::Error;
use tokio_postgres::error::{DbError, ErrorPosition, SqlState};

/// Why a schema can't be read, or brought into the database.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SchemaError {
    /// The declaration is no JSON.
    #[error("the schema can't be read as JSON")]
    Json(#[source] serde_json::Error),
    /// Something declared can't stand in Postgres.
    #[error("{place} {what}")]
    Declared {
        /// Which table, field or index.
        place: String,
        /// What is wrong with it, and what would be right.
        what: String,
    },
    /// A step of a plan failed; nothing of the plan was done.
    #[error("{what}: Postgres refused `{sql}`; nothing was changed")]
    Step {
        /// What the step was to do.
        what: String,
        /// The statement.
        sql: String,
        /// The reason.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The database could not be asked.
    #[error("the database refused or did not answer")]
    Database(#[from] tokio_postgres::Error),
}

/// Why an operation of `ctx.db` failed. After an error of Postgres' the transaction is of no more use.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// What was asked makes no sense: names, values, a cursor, a constraint.
    #[error("{message}")]
    InvalidArgs {
        /// What was wrong, and what would be right.
        message: String,
        /// The constraint, where one was violated.
        constraint: Option<String>,
        /// Whether Postgres said so, and not we before it was asked.
        is_postgres: bool,
    },
    /// There is no row of that id.
    #[error("there is no {id:?} in table {table:?}")]
    NotFound {
        /// The table.
        table: String,
        /// The id.
        id: String,
    },
    /// A value that has to be unique is there already.
    #[error("{message}")]
    Conflict {
        /// Postgres' words, without the key.
        message: String,
        /// The constraint or index.
        constraint: String,
    },
    /// A scan without a limit found too much.
    #[error("{message}")]
    LimitExceeded {
        /// How much, and what to do.
        message: String,
    },
    /// The transaction lost against another: the whole of it may be tried again.
    #[error("the transaction conflicts with another")]
    Retry(#[source] tokio_postgres::Error),
    /// The table does not stand in the database as the schema says.
    #[error("{message}")]
    Layout {
        /// What is missing, and the command that mends it.
        message: String,
        /// The table.
        table: String,
    },
    /// Postgres failed, or could not be reached.
    #[error("{}", .error.message)]
    Database {
        /// The code and the words for whoever asked.
        error: QueryError,
        /// The reason.
        #[source]
        source: Box<tokio_postgres::Error>,
    },
}

impl StoreError {
    pub(crate) fn invalid(message: impl Into<String>) -> StoreError {
        StoreError::InvalidArgs { message: message.into(), constraint: None, is_postgres: false }
    }

    /// Returns what Postgres refused, in words of our own.
    pub(crate) fn refused(message: impl Into<String>) -> StoreError {
        StoreError::InvalidArgs { message: message.into(), constraint: None, is_postgres: true }
    }

    /// Returns the protocol's code (`docs/protocol.md`, section 4).
    pub fn code(&self) -> &'static str {
        match self {
            StoreError::InvalidArgs { .. } => "INVALID_ARGS",
            StoreError::NotFound { .. } => "NOT_FOUND",
            StoreError::Conflict { .. } | StoreError::Retry(_) => "CONFLICT",
            StoreError::LimitExceeded { .. } => "LIMIT_EXCEEDED",
            StoreError::Layout { .. } => "INTERNAL",
            StoreError::Database { error, .. } => error.code.as_str(),
        }
    }

    /// Returns what a program can go by: the constraint that was violated, or the id that is not there.
    pub fn data(&self) -> Option<Value> {
        match self {
            StoreError::InvalidArgs { constraint: Some(constraint), .. }
            | StoreError::Conflict { constraint, .. } => Some(json!({ "constraint": constraint })),
            StoreError::NotFound { table, id } => Some(json!({ "table": table, "id": id })),
            StoreError::InvalidArgs { constraint: None, .. }
            | StoreError::LimitExceeded { .. }
            | StoreError::Retry(_)
            | StoreError::Layout { .. }
            | StoreError::Database { .. } => None,
        }
    }

    /// Returns whether the whole transaction, tried again, may succeed: it lost against another (40001, 40P01).
    pub fn is_retryable(&self) -> bool {
        match self {
            StoreError::Retry(_) => true,
            StoreError::InvalidArgs { .. }
            | StoreError::NotFound { .. }
            | StoreError::Conflict { .. }
            | StoreError::LimitExceeded { .. }
            | StoreError::Layout { .. }
            | StoreError::Database { .. } => false,
        }
    }

    /// Returns whether Postgres refused something: then it refuses all that follows in the transaction.
    pub fn ends_transaction(&self) -> bool {
        match self {
            StoreError::InvalidArgs { is_postgres, .. } => *is_postgres,
            StoreError::Retry(_) | StoreError::Conflict { .. } | StoreError::Database { .. } => {
                true
            }
            StoreError::NotFound { .. }
            | StoreError::LimitExceeded { .. }
            | StoreError::Layout { .. } => false,
        }
    }

    /// Returns whether the tables have changed since the store was loaded: load it again, and try again.
    pub fn is_outdated(&self) -> bool {
        match self {
            StoreError::Layout { .. } => true,
            StoreError::Database { source, .. } => matches!(
                source.code(),
                Some(&SqlState::UNDEFINED_COLUMN | &SqlState::UNDEFINED_TABLE)
            ),
            _ => false,
        }
    }
}

impl From<tokio_postgres::Error> for StoreError {
    fn from(source: tokio_postgres::Error) -> StoreError {
        let Some(db) = source.as_db_error() else { return database(source) };
        let (state, constraint) = (db.code(), db.constraint());
        if [&SqlState::T_R_SERIALIZATION_FAILURE, &SqlState::T_R_DEADLOCK_DETECTED].contains(&state)
        {
            return StoreError::Retry(source);
        }
        if [&SqlState::UNIQUE_VIOLATION, &SqlState::EXCLUSION_VIOLATION].contains(&state) {
            let constraint = constraint.unwrap_or_default().to_owned();
            return StoreError::Conflict { message: words(db), constraint };
        }
        // Class 23, integrity constraint violation: the rest of it is the arguments' fault.
        if state.code().starts_with("23") {
            let column = || db.column().map(|column| format!("not null: {column}"));
            let constraint = constraint.map(str::to_owned).or_else(column);
            return StoreError::InvalidArgs { message: words(db), constraint, is_postgres: true };
        }
        database(source)
    }
}

fn database(source: tokio_postgres::Error) -> StoreError {
    // Postgres' index rows are bounded, which the words of the error do not say of the field.
    if source.code() == Some(&SqlState::PROGRAM_LIMIT_EXCEEDED)
        && let Some(db) = source.as_db_error()
        && db.message().contains("index row")
    {
        let message = format!("an indexed value is too long to be indexed: {}", words(db));
        return StoreError::refused(message);
    }
    let error = match source.as_db_error() {
        Some(db) => QueryError::new(kind(db), words(db)),
        None => QueryError::new(ErrorCode::Unavailable, format!("the connection failed: {source}")),
    };
    StoreError::Database { error, source: Box::new(source) }
}

/// Returns the kind of one of Postgres' errors (PostgreSQL manual, appendix A), as `convoy-postgres` tells them.
fn kind(db: &DbError) -> ErrorCode {
    let state = db.code().code();
    match state {
        // query_canceled, lock_not_available, transaction_timeout, idle_in_transaction_session_timeout
        "57014" | "55P03" | "25P04" | "25P03" => ErrorCode::Timeout,
        // A write in a transaction that may only read: the function's own doing.
        "25006" => ErrorCode::InvalidArgs,
        _ => match state.get(..2).unwrap_or_default() {
            "54" => ErrorCode::LimitExceeded,
            "08" | "53" | "57" | "58" | "40" | "55" | "25" | "28" | "3D" => ErrorCode::Unavailable,
            "XX" => ErrorCode::Internal,
            _ => ErrorCode::InvalidArgs,
        },
    }
}

/// Returns what clients may hear of what Postgres said; the rest of it goes to the log.
fn words(db: &DbError) -> String {
    let refusal = Refusal {
        state: db.code().code(),
        message: db.message(),
        detail: db.detail(),
        hint: db.hint(),
        is_of_text: matches!(db.position(), Some(ErrorPosition::Original(_))),
    };
    if let Some(withheld) = refusal.for_the_log() {
        tracing::warn!(sqlstate = refusal.state, "Postgres refused: {withheld}");
    }
    refusal.for_clients().into_owned()
}
