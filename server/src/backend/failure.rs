//! What went wrong in a call, as the engine and clients are told it.

use convoy_engine::{ErrorCode, FunctionRead, Outlook, OwnError, QueryError};
use convoy_functions::{CallError, Fault, HostError};
use convoy_schema::StoreError;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};

/// How many live queries' failures are remembered; then they are forgotten, and some are logged once more.
const FAILURES_MAX: usize = 4096;

/// Returns a call's error as it is told; its details go to the log alone.
pub(super) fn of_call(name: &str, error: CallError) -> QueryError {
    log(name, &error);
    told(error)
}

/// What live queries failed of when they ran last: they run again and again, and one failure is logged once.
#[derive(Debug, Default)]
pub(super) struct Failures(Mutex<HashMap<u64, u64>>);

impl Failures {
    /// Returns a live query's error as it is told.
    pub fn of_query(&self, query: &FunctionRead, error: CallError) -> QueryError {
        let failure = hash(&(&error.code, &error.message, &error.detail));
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= FAILURES_MAX {
            known.clear();
        }
        let before = known.insert(key(query), failure);
        drop(known);
        if before != Some(failure) {
            log(query.statement.name.as_deref().unwrap_or_default(), &error);
        }
        told(error)
    }

    /// Notes that a live query has a result.
    pub fn mended(&self, query: &FunctionRead) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.is_empty() {
            known.remove(&key(query));
        }
    }
}

/// Returns what tells a live query from others: another version of its function is another one.
fn key(query: &FunctionRead) -> u64 {
    hash(&(&query.statement.name, &query.statement.text, &query.params))
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

fn log(name: &str, error: &CallError) {
    let Some(detail) = &error.detail else { return };
    match error.fault {
        // What a client gave is no news of the project's.
        Fault::Arguments => {
            tracing::debug!(function = name, code = error.code, "arguments do not fit: {detail}");
        }
        Fault::Limit => {
            tracing::warn!(
                function = name,
                code = error.code,
                "a function reached a limit: {detail}"
            );
        }
        Fault::Function | Fault::Server => {
            tracing::warn!(function = name, code = error.code, "a function failed: {detail}");
        }
    }
}

fn told(error: CallError) -> QueryError {
    let known = ErrorCode::named(&error.code);
    let own = (known.is_none() || error.data.is_some())
        .then(|| Box::new(OwnError { code: error.code, data: error.data }));
    let code = known.unwrap_or(ErrorCode::InvalidArgs);
    let outlook = match (error.fault, code) {
        (Fault::Arguments, _) => Outlook::OtherArguments,
        (Fault::Server, ErrorCode::Unavailable | ErrorCode::Timeout | ErrorCode::Internal) => {
            Outlook::Passes
        }
        (Fault::Function | Fault::Limit | Fault::Server, _) => Outlook::Lasts,
    };
    QueryError { code, message: error.message, own, outlook }
}

/// Returns an operation's error as its function may catch it.
pub(super) fn of_operation(error: &StoreError) -> HostError {
    HostError {
        code: error.code().to_owned(),
        message: error.to_string(),
        data: error.data().map(|data| data.to_string()),
    }
}
