//! Functions of a project that has none yet: a server that begins without them serves them from when they come.

use super::Functions;
use crate::mutations::{Backend, MutationAnswer, MutationRequest, Mutations};
use crate::pipeline::EventQueue;
use crate::protocol::{ApiError, Code};
use convoy_engine::{ErrorCode, FunctionRead, QueryError};
use convoy_postgres::FunctionRun;
use futures_util::future::{BoxFuture, ready};
use std::fmt;
use std::sync::{Arc, OnceLock};
use tokio::sync::Notify;
use tokio_postgres::Client;

/// Stands for them.
#[derive(Default)]
pub(crate) struct LateFunctions {
    there: OnceLock<Arc<Functions>>,
    queue: OnceLock<Arc<EventQueue>>,
    came: Notify,
}

impl fmt::Debug for LateFunctions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("LateFunctions").field("there", &self.there).finish_non_exhaustive()
    }
}

impl LateFunctions {
    /// Returns them as what the server works with. Who calls is nobody's business but that of flags: whether a project says
    /// it is decided when a server begins.
    pub(crate) fn backend(self: &Arc<Self>) -> Backend {
        Backend { functions: self.clone(), mutations: self.clone(), identify: None }
    }

    /// Has these be the ones that are served from now on.
    pub(crate) fn come(&self, functions: Arc<Functions>) {
        // Both orders: a server may attach its queue at the same time.
        if self.there.set(functions).is_ok() {
            self.attach_both();
            self.came.notify_one();
        }
    }

    fn attach_both(&self) {
        if let (Some(functions), Some(queue)) = (self.there.get(), self.queue.get()) {
            functions.attach(queue.clone());
        }
    }
}

impl convoy_postgres::Functions for LateFunctions {
    fn run<'a>(
        &'a self,
        function: &'a FunctionRead,
        client: Arc<Client>,
    ) -> BoxFuture<'a, FunctionRun> {
        match self.there.get() {
            Some(functions) => convoy_postgres::Functions::run(&**functions, function, client),
            None => {
                let message = "the project has no functions yet";
                let outcome = Err(QueryError::new(ErrorCode::Unavailable, message));
                Box::pin(ready(FunctionRun { outcome, spoilt: false }))
            }
        }
    }
}

impl Mutations for LateFunctions {
    fn keep_up(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            loop {
                match self.there.get() {
                    Some(functions) => return functions.keep_up().await,
                    None => self.came.notified().await,
                }
            }
        })
    }

    fn finish(&self) -> BoxFuture<'_, ()> {
        match self.there.get() {
            Some(functions) => functions.finish(),
            None => Box::pin(ready(())),
        }
    }

    fn attach(&self, queue: Arc<EventQueue>) {
        let _ = self.queue.set(queue);
        self.attach_both();
    }

    fn is_mutation(&self, name: &str) -> bool {
        self.there.get().is_some_and(|functions| functions.is_mutation(name))
    }

    fn check_arguments<'a>(
        &'a self,
        query: &'a str,
        args: &'a str,
    ) -> BoxFuture<'a, Result<(), ApiError>> {
        match self.there.get() {
            Some(functions) => functions.check_arguments(query, args),
            None => Box::pin(ready(Ok(()))),
        }
    }

    fn mutate(&self, request: MutationRequest) -> BoxFuture<'_, Result<MutationAnswer, ApiError>> {
        match self.there.get() {
            Some(functions) => functions.mutate(request),
            None => {
                let message = "the project has no functions yet: convoy init writes some";
                Box::pin(ready(Err(ApiError::new(Code::NotFound, message))))
            }
        }
    }
}
