//! Sessions: who subscribes, and where what they are told goes.

use crate::args::Argument;
use crate::database::QueryError;
use crate::digest::Digest;
use crate::statement::Statement;
use crate::update::Transition;
use convoy_types::Lsn;
use std::fmt::Debug;
use std::sync::Arc;

/// A session, by a number of the process' own; the wire's 128-bit id belongs to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// The name under which a session's outbox is told what became of the watch of its identity
/// ([`Event::IdentityWatched`](crate::Event::IdentityWatched)). No subscription may have it.
pub const IDENTITY_SUB: &str = "\0identity";

/// What a client wants to see.
#[derive(Clone, Debug)]
pub struct QueryReference {
    /// The statement: a named query's, or ad hoc.
    pub statement: Arc<Statement>,
    /// The arguments, `$1` first; none for one that is not given and has a default.
    pub args: Vec<Option<Argument>>,
    /// What they were made of, where the statement is what a name means at present. Without it the reference is to this
    /// statement, whatever its name comes to mean.
    pub wish: Option<Arc<dyn Wish>>,
}

impl QueryReference {
    /// Returns a reference to just this statement.
    pub fn fixed(statement: Arc<Statement>, args: Vec<Option<Argument>>) -> QueryReference {
        QueryReference { statement, args, wish: None }
    }

    /// Returns a reference to what a name means.
    ///
    /// # Errors
    /// Why what was given does not fit that.
    pub fn named(
        statement: Arc<Statement>,
        wish: Arc<dyn Wish>,
    ) -> Result<QueryReference, QueryError> {
        let args = wish.arguments(&statement)?;
        Ok(QueryReference { statement, args, wish: Some(wish) })
    }
}

/// What somebody gave with a name, and who that is: it outlives what the name means.
pub trait Wish: Debug + Send + Sync {
    /// Returns the arguments of a statement, `$1` first; none for one that is not given and has a default.
    ///
    /// # Errors
    /// Why what was given does not fit it.
    fn arguments(&self, statement: &Statement) -> Result<Vec<Option<Argument>>, QueryError>;
}

/// What became of a transition that was put into an outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutboxState {
    /// It is in, and there is room for another.
    Ready,
    /// It is in, and now the box is full: send nothing before `Event::OutboxDrained`.
    Full,
    /// It was not taken, and what was sent before may not arrive either: tell everything anew.
    Lost,
    /// Nobody reads any more.
    Closed,
}

/// Where a session's transitions go: a bounded queue that a connection's writer empties.
pub trait Outbox: Send {
    /// Puts a transition in. Never waits.
    fn send(&mut self, transition: Transition) -> OutboxState;

    /// Returns the digest of what the reader has of a subscription from before; none where it has nothing, or nobody
    /// knows. Asked when a session is resumed, of what it had been told.
    fn has(&self, _sub: &str) -> Option<Digest> {
        None
    }

    /// Returns a position that what the reader has is not from before. Asked where something that was sent may not have
    /// arrived, and where a session is resumed.
    fn label(&self) -> Lsn {
        Lsn(0)
    }
}
