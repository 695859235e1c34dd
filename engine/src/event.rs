//! Everything that can cause work, on one page.

use crate::database::{
    CastId, DescribeId, Described, ProbeId, Probed, QueryError, ReadId, Snapshot,
};
use crate::digest::Digest;
use crate::function::FunctionAnswer;
use crate::read_rows::ReadRows;
use crate::redefine::Redefinition;
use crate::session::{Outbox, QueryReference, SessionId};
use convoy_query_index::QueryId;
use convoy_types::{Lsn, RelationId, Transaction};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Something happened.
pub enum Event {
    // From the stream.
    /// Replication streams from a slot made (or found) after everything before this event was thrown away.
    ReplicationStarted,
    /// A transaction committed.
    Committed(Transaction),
    /// The stream has passed this position: nothing that commits before it is still to come.
    Progress(Lsn),
    /// Replication is down: results that are not settled are worth nothing (`docs/postgres.md`, P4).
    ReplicationLost,

    // From the database.
    /// Answers `Database::describe`.
    Described(DescribeId, Box<Described>),
    /// Answers `Database::cast`: a text or null for each value, in order.
    Cast(CastId, Vec<Result<Option<String>, QueryError>>),
    /// Answers `Database::open_read`, with the tables that are not part of it, since somebody keeps readers out of them.
    ReadOpened(ReadId, Result<BTreeSet<RelationId>, QueryError>),
    /// Answers `Database::take_snapshot`.
    SnapshotTaken(ReadId, Result<Snapshot, QueryError>),
    /// Answers one query of `Database::run`.
    QueryRead(ReadId, QueryId, Result<ReadRows, QueryError>),
    /// Answers one function of `Database::run` that gave a value; one that failed is answered by `QueryRead`.
    FunctionRead(ReadId, QueryId, FunctionAnswer),
    /// The last query of a read has been answered.
    ReadFinished(ReadId),
    /// Answers `Database::probe_snapshot`.
    SnapshotProbed(ProbeId, Result<Probed, QueryError>),
    /// The catalogue entries of these tables are no longer what they were.
    CatalogChanged(Vec<RelationId>),

    // From the project.
    /// These named queries are no longer what they were.
    QueriesRedefined(Vec<Redefinition>),

    // From clients.
    /// A session begins; what it is to be told goes to the outbox.
    SessionOpened(SessionId, Box<dyn Outbox>),
    /// A session has a new connection to write to: everything it subscribes to is sent anew, or as `unchanged`.
    SessionResumed(SessionId, Box<dyn Outbox>),
    /// Who a session belongs to hangs on what this function reads ([`Statement::identity`](crate::Statement::identity)), and
    /// on nothing where there is none; it takes the place of the one before. It stands in the session's cuts from the
    /// beginning, and what became of it is told to the outbox as of a subscription named
    /// [`IDENTITY_SUB`](crate::IDENTITY_SUB): a value for as long as it is the same, else an error.
    IdentityWatched {
        /// The session.
        session: SessionId,
        /// The function with what the caller showed.
        by: Option<QueryReference>,
    },
    /// The code that says who calls has become another: all that are watched are asked again.
    IdentitiesDoubted,
    /// A session subscribes. `sub` was never used before in the session.
    Subscribe {
        /// The session.
        session: SessionId,
        /// The client's name for the subscription.
        sub: Arc<str>,
        /// What it wants to see.
        query: QueryReference,
        /// The digest of what the client has from before.
        have: Option<Digest>,
    },
    /// A session no longer wants to see it.
    Unsubscribe {
        /// The session.
        session: SessionId,
        /// The subscription.
        sub: Arc<str>,
    },
    /// A session wants to hear when everything before this position is in.
    Await(SessionId, Lsn),
    /// A session's mutation is about to commit: once its transaction is in what the session is shown, it is told so.
    MutationBegun {
        /// The session.
        session: SessionId,
        /// The mutation's id, as the transaction names it ([`MUTATION_PREFIX`](crate::MUTATION_PREFIX)).
        mutation: Arc<str>,
    },
    /// A mutation that had begun did not commit.
    MutationFailed(Arc<str>),
    /// A mutation that had begun is committed, before this position: what contains all up to there contains it, whether or
    /// not its transaction came by itself.
    MutationDone(Arc<str>, Lsn),
    /// The session's outbox, which was full, has room again.
    OutboxDrained(SessionId),
    /// The session's outbox let go what it held: everything that the session subscribes to is sent anew.
    OutboxLost(SessionId),
    /// A session is over.
    SessionClosed(SessionId),

    /// Time has passed: the deadline that `Engine::next_deadline` named, or later.
    Tick,
}
