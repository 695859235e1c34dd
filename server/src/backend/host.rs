//! What one call may ask: the operations of its `ctx.db`, on one connection, and its log.

use super::tables::OpenTables;
use super::{console, failure};
use convoy_functions::{Host, HostError, HostFuture};
use convoy_schema::{CreationClock, RecordedRead};
use std::sync::{Arc, Mutex, PoisonError};
use tokio_postgres::Client;

/// The host of one call.
pub(super) struct CallHost {
    function: String,
    client: Arc<Client>,
    tables: Arc<OpenTables>,
    state: Mutex<State>,
    /// Of a mutation, what gives the rows that it inserts their times.
    clock: tokio::sync::Mutex<CreationClock>,
}

#[derive(Default)]
struct State {
    reads: Vec<RecordedRead>,
    failure: Option<Failure>,
    is_outdated: bool,
}

/// The first error after which the transaction is of no more use. The function may have caught it.
pub(super) struct Failure {
    pub error: HostError,
    /// Whether the transaction may succeed if it is tried again.
    pub is_retryable: bool,
}

impl CallHost {
    pub fn new(
        function: &str,
        client: Arc<Client>,
        tables: Arc<OpenTables>,
        now_ms: f64,
    ) -> Arc<CallHost> {
        Arc::new(CallHost {
            function: function.to_owned(),
            client,
            tables,
            state: Mutex::default(),
            clock: tokio::sync::Mutex::new(CreationClock::new(now_ms)),
        })
    }

    /// Takes what was read.
    pub fn take_reads(&self) -> Vec<RecordedRead> {
        std::mem::take(&mut self.state().reads)
    }

    /// Takes what has spoilt the transaction, where something has.
    pub fn take_failure(&self) -> Option<Failure> {
        self.state().failure.take()
    }

    /// Returns the tables that it went by, where they have turned out to be others.
    pub fn outdated(&self) -> Option<&Arc<OpenTables>> {
        self.state().is_outdated.then_some(&self.tables)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn carry_out(&self, op: &str, args: &str) -> Result<String, HostError> {
        let mut reads = Vec::new();
        let (store, client) = (&self.tables.store, &*self.client);
        let outcome = match op {
            "db.scan" => store.scan(client, args, &mut reads).await,
            "db.get" => store.get(client, args, &mut reads).await,
            "db.raw" => store.raw(client, args, &mut reads).await,
            "db.insert" => store.insert(client, args, &mut *self.clock.lock().await).await,
            "db.patch" => store.patch(client, args).await,
            "db.replace" => store.replace(client, args).await,
            "db.delete" => store.delete(client, args).await,
            "log" => {
                console::write(&self.function, args);
                return Ok("null".to_owned());
            }
            _ => {
                let message = format!("there is no operation {op:?}");
                return Err(HostError { code: "INTERNAL".into(), message, data: None });
            }
        };
        let mut state = self.state();
        // One that failed may have read before it did.
        state.reads.append(&mut reads);
        outcome.map_err(|error| {
            let told = failure::of_operation(&error);
            state.is_outdated |= error.is_outdated();
            if error.ends_transaction() && state.failure.is_none() {
                let is_retryable = error.is_retryable();
                state.failure = Some(Failure { error: told.clone(), is_retryable });
            }
            told
        })
    }
}

impl Host for CallHost {
    fn call<'a>(&'a self, op: &'a str, args: String) -> HostFuture<'a> {
        Box::pin(async move { self.carry_out(op, &args).await })
    }
}
