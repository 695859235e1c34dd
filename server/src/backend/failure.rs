//! What went wrong in a call, as the engine and clients are told it.

use convoy_engine::{ErrorCode, OwnError, QueryError};
use convoy_functions::{CallError, HostError};
use convoy_schema::StoreError;

/// Returns a call's error as it is told; its details go to the log alone.
pub(super) fn of_call(name: &str, error: CallError) -> QueryError {
    if let Some(detail) = &error.detail {
        tracing::warn!(function = name, code = error.code, "a function failed: {detail}");
    }
    let known = ErrorCode::named(&error.code);
    let own = (known.is_none() || error.data.is_some())
        .then(|| Box::new(OwnError { code: error.code, data: error.data }));
    QueryError { code: known.unwrap_or(ErrorCode::InvalidArgs), message: error.message, own }
}

/// Returns an operation's error as its function may catch it.
pub(super) fn of_operation(error: &StoreError) -> HostError {
    HostError {
        code: error.code().to_owned(),
        message: error.to_string(),
        data: error.data().map(|data| data.to_string()),
    }
}
