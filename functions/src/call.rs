//! One call of a function: what it is given, what it may ask, how it ends.

use std::fmt;
use std::pin::Pin;
use thiserror::Error;

/// A call.
#[derive(Clone, Debug)]
pub struct Call {
    /// The function, as in `orders.list`.
    pub name: String,
    /// Its arguments, a JSON object.
    pub args: String,
    /// What the caller takes it for.
    pub kind: CallKind,
    /// Who calls.
    pub caller: Caller,
    /// The time that stands still during the call, in milliseconds since 1970.
    pub now_ms: f64,
    /// What the call's chance is made of: the same seed gives the same `Math.random()`.
    pub seed: u64,
    /// What stands at `ctx.auth`, as JSON. `null` is `createContext`'s own null; none is an object that knows nobody.
    pub auth: Option<String>,
}

/// Whether a call may write.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CallKind {
    /// Reads alone.
    Query,
    /// Reads and writes.
    Mutation,
    /// Takes the arguments of a query and nothing else: the function is not run. The value is null.
    Arguments,
    /// Says who calls: `createContext` of `server.ts`. Its arguments are a request, its value is what functions have as
    /// `ctx.auth`; it reads alone, and may ask `jwt.verify`.
    Context,
}

/// Who calls a function.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Caller {
    /// Somebody outside: public functions alone.
    Client,
    /// The server itself.
    Internal,
}

/// What an operation of the host becomes.
pub type HostFuture<'a> = Pin<Box<dyn Future<Output = Result<String, HostError>> + Send + 'a>>;

/// What functions ask of the world. One value serves one call, or many.
pub trait Host: Send + Sync {
    /// Carries out an operation: `db.scan`, `db.get`, `db.insert`, `db.patch`, `db.replace`, `db.delete`, `db.raw`, `log`.
    /// Arguments and result are JSON. Operations of one call begin in the order in which it asks, and are told in that order.
    fn call<'a>(&'a self, op: &'a str, args: String) -> HostFuture<'a>;
}

/// Why the host did not carry out an operation. The function may catch it; else the call ends with it.
#[derive(Clone, Debug, Error)]
#[error("{code}: {message}")]
pub struct HostError {
    /// A code of `docs/protocol.md`, section 4.
    pub code: String,
    /// What was wrong, for the client.
    pub message: String,
    /// More of it, as JSON.
    pub data: Option<String>,
}

/// Why a call has no result.
#[derive(Clone, Debug)]
pub struct CallError {
    /// A code of `docs/protocol.md`, section 4, or the function's own.
    pub code: String,
    /// What was wrong, for the client.
    pub message: String,
    /// More of it, as JSON, for the client.
    pub data: Option<String>,
    /// What it was and where, for the log alone: the error's own words and its stack, in the lines of the sources; which
    /// limit was reached, and what the call took.
    pub detail: Option<String>,
    /// Whose fault it is.
    pub fault: Fault,
}

/// Whose fault it is that a call has no result.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// The caller's: the function does not take these arguments. It was not run.
    Arguments,
    /// The function's: it threw, or gave what is no result.
    Function,
    /// The function's: it reached a limit of its own.
    Limit,
    /// None of theirs: there was no such function, no worker was free, or what it asked of the host could not be had.
    Server,
}

impl CallError {
    pub(crate) fn new(code: &str, message: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            message: message.into(),
            data: None,
            detail: None,
            fault: Fault::Server,
        }
    }

    pub(crate) fn of(mut self, fault: Fault) -> Self {
        self.fault = fault;
        self
    }

    pub(crate) fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }
}

impl From<HostError> for CallError {
    fn from(HostError { code, message, data }: HostError) -> Self {
        Self { code, message, data, detail: None, fault: Fault::Server }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for CallError {}
