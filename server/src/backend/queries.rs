//! Query functions, run at a read's snapshot for the engine.

use super::host::CallHost;
use super::tables::OpenTables;
use super::{Functions, STATEMENTS_MAX, failure, now_ms, seed_of};
use convoy_engine::{
    ErrorCode, FunctionAnswer, FunctionRead, Outlook, QueryError, RecordedRead, Statement,
};
use convoy_functions::{Call, CallKind, Caller, Fault, Host, HostError, HostFuture};
use convoy_postgres::FunctionRun;
use futures_util::future::BoxFuture;
use std::sync::{Arc, PoisonError};
use tokio_postgres::Client;

impl convoy_postgres::Functions for Functions {
    fn run<'a>(
        &'a self,
        function: &'a FunctionRead,
        client: Arc<Client>,
    ) -> BoxFuture<'a, FunctionRun> {
        Box::pin(self.run_query(function, client))
    }
}

/// The host of a call that only has its arguments looked at: there is nothing to be asked.
struct NoHost;

impl Host for NoHost {
    fn call<'a>(&'a self, op: &'a str, _: String) -> HostFuture<'a> {
        let message = format!("{op} while arguments are looked at");
        let refused = HostError { code: "INTERNAL".to_owned(), message, data: None };
        Box::pin(std::future::ready(Err(refused)))
    }
}

impl Functions {
    async fn run_query(&self, function: &FunctionRead, client: Arc<Client>) -> FunctionRun {
        let (run, outdated) = self.run_once(function, client.clone()).await;
        match outdated {
            // After an error of Postgres' nothing more can be read here.
            Some(tables) if self.renew(&tables).await && !run.spoilt => {
                self.run_once(function, client).await.0
            }
            _ => run,
        }
    }

    /// Runs a function. Returns also the tables that it went by, where they have turned out to be others.
    async fn run_once(
        &self,
        function: &FunctionRead,
        client: Arc<Client>,
    ) -> (FunctionRun, Option<Arc<OpenTables>>) {
        if function.statement.is_identity() {
            return self.check_identity(function, client).await;
        }
        let name = function.statement.name.as_deref().unwrap_or_default();
        let param = |at: usize| function.params.get(at).and_then(Option::as_deref);
        let args = param(0).unwrap_or("{}");
        let now_ms = now_ms();
        let host = CallHost::new(name, client, self.tables(), now_ms);
        let call = Call {
            name: name.to_owned(),
            args: args.to_owned(),
            kind: CallKind::Query,
            caller: Caller::Client,
            now_ms,
            seed: seed_of(name, args),
            auth: self.auth_of(param(1)),
        };
        let outcome = self.runtime.call(call, host.clone()).await;
        let outdated = host.outdated().cloned();
        let failure = host.take_failure();
        let spoilt = failure.is_some();
        let outcome = match failure {
            // Whatever the function made of it.
            Some(failure) => Err(failure.error.into()),
            None => outcome,
        };
        let outcome = match outcome {
            Ok(value) => {
                self.failures.mended(function);
                Ok(value)
            }
            // A table that comes later is nothing that was read.
            Err(error) if outdated.is_some() => {
                Err(self.failures.of_query(function, error).with_outlook(Outlook::Passes))
            }
            Err(error) => Err(self.failures.of_query(function, error)),
        };
        let outcome = match outcome {
            // It says nothing of the data.
            Err(error) if matches!(error.code, ErrorCode::Unavailable | ErrorCode::Timeout) => {
                Err(error)
            }
            value => match self.recorded(host.take_reads()) {
                Ok(reads) => Ok(FunctionAnswer { value, reads }),
                // A statement that can't be analysed, and was refused by Postgres too.
                Err(error) => Err(value.err().unwrap_or(error)),
            },
        };
        (FunctionRun { outcome, spoilt }, outdated)
    }

    /// Holds arguments against what a query function takes.
    pub(super) async fn check_arguments_of(
        &self,
        name: &str,
        args: &str,
    ) -> Result<(), QueryError> {
        let call = Call {
            name: name.to_owned(),
            args: args.to_owned(),
            kind: CallKind::Arguments,
            caller: Caller::Client,
            now_ms: now_ms(),
            seed: seed_of(name, args),
            auth: None,
        };
        match self.runtime.call(call, Arc::new(NoHost)).await {
            Err(error) if error.fault == Fault::Arguments => Err(failure::of_call(name, error)),
            // Whatever else there is to be said, the function says when it runs.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Returns what was read as the engine takes it.
    pub(super) fn recorded(
        &self,
        reads: Vec<convoy_schema::RecordedRead>,
    ) -> Result<Vec<RecordedRead>, QueryError> {
        let mut known = self.statements.lock().unwrap_or_else(PoisonError::into_inner);
        let mut recorded = |read: convoy_schema::RecordedRead| {
            let statement = match known.get(&read.sql) {
                Some(statement) => statement.clone(),
                None => {
                    if known.len() >= STATEMENTS_MAX {
                        known.clear();
                    }
                    let statement = Arc::new(Statement::recorded(&read.sql)?);
                    known.insert(read.sql, statement.clone());
                    statement
                }
            };
            let args = read.args.into_iter().map(|arg| arg.map(Arc::from)).collect();
            Ok(RecordedRead { statement, args })
        };
        reads.into_iter().map(&mut recorded).collect()
    }
}
