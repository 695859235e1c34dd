//! The database as the engine sees it: questions that don't wait, answered by [`Event`](crate::Event)s.
//!
//! A *read* is one database transaction in which the results of many queries are read at one snapshot. It goes in
//! steps, because the engine holds the stream back between asking for the snapshot and hearing of it
//! (`docs/postgres.md`, P3, P5 and P6): opened (locks taken, which may wait), snapshot taken (never waits), queries
//! run, closed.

use crate::facts::StatementFacts;
use crate::function::FunctionRead;
use crate::statement::Statement;
use crate::template::ReadStatement;
use convoy_query_index::QueryId;
use convoy_types::{Lsn, RelationId, SnapshotMark, Xid};
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;

/// Names one `describe`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DescribeId(pub u64);

/// Names one `cast`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CastId(pub u64);

/// Names one read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReadId(pub u64);

/// Names one `probe_snapshot`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProbeId(pub u64);

/// A text that should be read by a type's own input function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CastRequest {
    /// The type's name, fit for a cast; comes from the catalog, never from a client.
    pub type_name: String,
    /// What to read: a text for the type's input, or an SQL expression of our own project's headers.
    pub value: CastValue,
}

/// What a cast reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CastValue {
    /// A text for the type's input function.
    Text(String),
    /// An SQL expression: a default from a named query's header. Never from a client.
    Expression(String),
}

/// Whom a query is read as (`docs/postgres.md`, P12).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ReadingRole {
    /// The role that the server logs in as: for named queries.
    #[default]
    Server,
    /// The role for SQL that a client wrote (`Statement::name` is none), where one is configured.
    AdHoc,
}

/// Whether a query is read together with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadCompany {
    /// With others of its template, where that can be done.
    Others,
    /// By a statement of its own: it failed the last time, and would spoil it for the others again.
    Alone,
}

/// One query of a read.
#[derive(Clone, Debug)]
pub struct QueryRead {
    /// The live query.
    pub query: QueryId,
    /// Whom it is read as.
    pub role: ReadingRole,
    /// The statement: the same object for all live queries of one template.
    pub statement: Arc<ReadStatement>,
    /// Whether others of the template may be read by the same statement.
    pub company: ReadCompany,
    /// The arguments in their types' text form.
    pub params: Arc<[Option<Arc<str>>]>,
    /// At most so long.
    pub timeout: Duration,
    /// At most so many rows; one more is an error of kind [`ErrorCode::LimitExceeded`].
    pub rows_max: usize,
    /// At most so many bytes of text.
    pub bytes_max: usize,
    /// How long it took the last time, waiting included; zero the first time.
    pub last_took: Duration,
}

/// What was true when the snapshot was taken.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Which transactions it shows.
    pub mark: SnapshotMark,
    /// Every transaction that it shows has its commit record before this position, which the stream will reach
    /// (`pg_current_wal_insert_lsn()` after the snapshot, rounded: `Lsn::before_bare_page_header`).
    pub settle_lsn: Lsn,
    /// Whether `synchronous_standby_names` is set: then the stream may run ahead of what is visible (P6).
    pub synchronous_standbys: bool,
    /// The exported snapshot's name, for tests that compare.
    pub exported: Option<String>,
}

/// What a probe is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeKind {
    /// The beginning of a stream: which transactions are open is wanted, too.
    Beginning,
    /// What is visible by now.
    Newest,
}

/// What a probe found.
#[derive(Clone, Debug)]
pub struct Probed {
    /// What is visible.
    pub snapshot: Snapshot,
    /// For [`ProbeKind::Beginning`], the transactions that were open just before the snapshot was taken, prepared ones
    /// too; else none. A snapshot itself does not tell of those that began after the last one that ended.
    pub open: Vec<Xid>,
}

/// The kind of an error, as the protocol names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// The request is wrong: SQL, arguments, a statement that can't be live.
    InvalidArgs,
    /// There is no such query.
    NotFound,
    /// Nobody, as far as is known.
    Unauthorized,
    /// Known, and not allowed.
    Forbidden,
    /// It met others' changes, too often.
    Conflict,
    /// A limit was reached.
    LimitExceeded,
    /// It took too long.
    Timeout,
    /// The database can't be reached now.
    Unavailable,
    /// Our own fault.
    Internal,
}

impl ErrorCode {
    const ALL: [ErrorCode; 9] = [
        ErrorCode::InvalidArgs,
        ErrorCode::NotFound,
        ErrorCode::Unauthorized,
        ErrorCode::Forbidden,
        ErrorCode::Conflict,
        ErrorCode::LimitExceeded,
        ErrorCode::Timeout,
        ErrorCode::Unavailable,
        ErrorCode::Internal,
    ];

    /// Returns the code as the protocol has it (`docs/protocol.md`, section 4).
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorCode::InvalidArgs => "INVALID_ARGS",
            ErrorCode::NotFound => "NOT_FOUND",
            ErrorCode::Unauthorized => "UNAUTHORIZED",
            ErrorCode::Forbidden => "FORBIDDEN",
            ErrorCode::Conflict => "CONFLICT",
            ErrorCode::LimitExceeded => "LIMIT_EXCEEDED",
            ErrorCode::Timeout => "TIMEOUT",
            ErrorCode::Unavailable => "UNAVAILABLE",
            ErrorCode::Internal => "INTERNAL",
        }
    }

    /// Returns the kind that the protocol names so; none where it is a code of somebody's own.
    pub fn named(code: &str) -> Option<ErrorCode> {
        ErrorCode::ALL.into_iter().find(|kind| kind.as_str() == code)
    }
}

/// Why a question to the database, or a subscription, failed; fit to be shown to the client that asked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct QueryError {
    /// The kind.
    pub code: ErrorCode,
    /// What was wrong and what would be right, in Postgres' own words where it spoke, with the position.
    pub message: String,
    /// What a function of the project said beyond that.
    pub own: Option<Box<OwnError>>,
    /// What would make it right.
    pub outlook: Outlook,
}

/// What would make an error right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outlook {
    /// A change: of what was asked, of the data, of the project.
    Lasts,
    /// Time: the same may succeed a little later, though nothing that it depends on has changed.
    Passes,
    /// Other arguments: a function does not take these, whatever the data are.
    OtherArguments,
}

/// What an error that a function throws says by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnError {
    /// Its code, in place of the kind's.
    pub code: String,
    /// Its data, as JSON.
    pub data: Option<String>,
}

impl QueryError {
    /// Returns an error of this kind. One that says that something is away passes, any other lasts.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let outlook = match code {
            ErrorCode::Unavailable => Outlook::Passes,
            _ => Outlook::Lasts,
        };
        QueryError { code, message: message.into(), own: None, outlook }
    }

    /// Returns the error as one of which that is known.
    pub fn with_outlook(self, outlook: Outlook) -> Self {
        QueryError { outlook, ..self }
    }
}

/// The database. No call waits; each is answered by the event that its documentation names.
pub trait Database {
    /// Asks what a statement reads, takes and gives. Answered by `Event::Described`, once every table that it reads
    /// is published and every transaction that was writing to one of them at that time has ended (P1, P2).
    fn describe(&mut self, id: DescribeId, statement: &Arc<Statement>);

    /// Reads values by their types' own input functions. Answered by `Event::Cast`.
    fn cast(&mut self, id: CastId, values: Vec<CastRequest>);

    /// Opens a read: a connection, a transaction, locks on the tables, less those that can't be locked soon. Answered by
    /// `Event::ReadOpened`.
    fn open_read(&mut self, id: ReadId, tables: Vec<RelationId>);

    /// Takes (or takes again, in a new transaction with the same locks) an open read's snapshot. Answered by
    /// `Event::SnapshotTaken`.
    fn take_snapshot(&mut self, id: ReadId);

    /// Runs queries at the read's snapshot, in any order, and those of one template and role together where that is
    /// quicker; and functions. Each is answered by `Event::QueryRead`, or `Event::FunctionRead`, the last of them
    /// followed by `Event::ReadFinished`, after which the read is closed.
    fn run(&mut self, id: ReadId, queries: Vec<QueryRead>, functions: Vec<FunctionRead>);

    /// Gives an open read up. Not answered.
    fn close_read(&mut self, id: ReadId);

    /// Makes the server flush its WAL, so that what is visible gets streamed (P5). Not answered.
    fn flush_wal(&mut self);

    /// Asks which transactions are visible now. Answered by `Event::SnapshotProbed`.
    fn probe_snapshot(&mut self, id: ProbeId, kind: ProbeKind);

    /// Sets the tables whose catalogue entries are watched (P7); a difference comes as `Event::CatalogChanged`.
    fn watch(&mut self, tables: Vec<RelationId>);
}

/// An answer to [`Database::describe`].
pub type Described = Result<StatementFacts, QueryError>;
