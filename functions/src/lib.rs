//! Runs a project's TypeScript inside the process: its schema, its queries and its mutations.
//!
//! A [`Project`] is a folder, read and compiled. A [`Runtime`] answers calls of its functions, each in a context that was
//! prepared ahead and is as no call has seen it. What a function asks of the database goes to a [`Host`]; this crate knows no database, no HTTP and no engine.
//!
//! Each call has an engine of its own (a QuickJS *runtime*, which is its heap, job queue and limits), not only a context of its
//! own: so a call that loops or uses up its memory has nothing in common with its neighbours.

mod call;
mod limits;
mod project;
mod runtime;
mod source;

pub use call::{Call, CallError, CallKind, Caller, Fault, Host, HostError, HostFuture};
pub use limits::Limits;
pub use project::{FunctionInfo, FunctionKind, Project, ProjectError, Visibility};
pub use runtime::Runtime;
pub use source::{ModuleCache, Position};
