//! Query functions, run at a read's snapshot for the engine.

use super::host::CallHost;
use super::{Functions, STATEMENTS_MAX, failure, now_ms, seed_of};
use convoy_engine::{FunctionAnswer, FunctionRead, QueryError, RecordedRead, Statement};
use convoy_functions::{Call, CallKind, Caller};
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

impl Functions {
    async fn run_query(&self, function: &FunctionRead, client: Arc<Client>) -> FunctionRun {
        let name = function.statement.name.as_deref().unwrap_or_default();
        let param = |at: usize| function.params.get(at).and_then(Option::as_deref);
        let args = param(0).unwrap_or("{}");
        let now_ms = now_ms();
        let host = CallHost::new(name, client, self.store(), now_ms);
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
        if let Some(failure) = host.take_failure() {
            let error = convoy_functions::CallError {
                code: failure.error.code,
                message: failure.error.message,
                data: failure.error.data,
                detail: None,
            };
            return FunctionRun { outcome: Err(failure::of_call(name, error)), spoilt: true };
        }
        let value = outcome.map_err(|error| failure::of_call(name, error));
        let answer = self.recorded(host.take_reads()).map(|reads| FunctionAnswer { value, reads });
        FunctionRun { outcome: answer, spoilt: false }
    }

    /// Returns what was read as the engine takes it.
    fn recorded(
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
