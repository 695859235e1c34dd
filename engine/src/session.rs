//! Sessions: who subscribes, and where what they are told goes.

use crate::args::Argument;
use crate::digest::Digest;
use crate::statement::{ParamSource, Statement};
use crate::update::Transition;
use std::sync::Arc;

/// A session, by a number of the process' own; the wire's 128-bit id belongs to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// What a client wants to see.
#[derive(Clone, Debug)]
pub struct QueryReference {
    /// The statement: a named query's, or ad hoc.
    pub statement: Arc<Statement>,
    /// The arguments, `$1` first; none for one that is not given and has a default.
    pub args: Vec<Option<Argument>>,
}

impl QueryReference {
    /// Returns what was given from this source, by the parameters' names; none of ad hoc SQL has one.
    pub(crate) fn given(&self, source: ParamSource) -> Vec<(String, Argument)> {
        let given = self.statement.params.iter().zip(&self.args);
        let given = given.filter(|(param, _)| param.source == source);
        given.filter_map(|(param, arg)| Some((param.name.clone(), arg.clone()?))).collect()
    }
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
}
