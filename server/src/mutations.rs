//! A project's functions as requests see them, whoever runs them: mutations, and the arguments of queries.

use crate::auth::Identify;
use crate::pipeline::EventQueue;
use crate::protocol::ApiError;
use convoy_engine::SessionId;
use convoy_postgres::Functions;
use convoy_types::Lsn;
use futures_util::future::BoxFuture;
use std::sync::Arc;

/// A mutation that a client asks for.
#[derive(Clone, Debug)]
pub struct MutationRequest {
    /// The function's name.
    pub name: String,
    /// Its arguments: a JSON object.
    pub args: String,
    /// The id by which it is done once, however often it is asked for (`x-convoy-mutation`): a UUID in lower case.
    pub id: Option<Arc<str>>,
    /// The session whose stream is to name it (`x-convoy-session`).
    pub session: Option<SessionId>,
    /// Who asks, as JSON for `ctx.auth`; none where nobody is known.
    pub identity: Option<Arc<str>>,
}

/// What came of one.
#[derive(Clone, Debug)]
pub struct MutationAnswer {
    /// Its value, as JSON.
    pub value: String,
    /// A position that includes its commit; the same for each repeat.
    pub lsn: Lsn,
}

/// Who runs a project's functions.
pub struct Backend {
    /// Its queries.
    pub functions: Arc<dyn Functions>,
    /// Its mutations.
    pub mutations: Arc<dyn Mutations>,
    /// Its `createContext`, where it has one: who calls.
    pub identify: Option<Arc<dyn Identify>>,
}

/// Carries mutations out.
pub trait Mutations: Send + Sync {
    /// Does what has to be done now and then, until it is dropped.
    fn keep_up(&self) -> BoxFuture<'_, ()>;

    /// Does what is left to be done when no further mutation comes.
    fn finish(&self) -> BoxFuture<'_, ()>;

    /// Says where the engine is to be told of mutations that are about to commit.
    fn attach(&self, queue: Arc<EventQueue>);

    /// Returns whether clients know a mutation by this name.
    fn is_mutation(&self, name: &str) -> bool;

    /// Holds arguments, a JSON object, against what a query function takes, without running it. What says nothing of them
    /// is no error.
    fn check_arguments<'a>(
        &'a self,
        query: &'a str,
        args: &'a str,
    ) -> BoxFuture<'a, Result<(), ApiError>>;

    /// Carries one out, in one transaction.
    fn mutate(&self, request: MutationRequest) -> BoxFuture<'_, Result<MutationAnswer, ApiError>>;
}
