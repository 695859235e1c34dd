//! The crate against real projects in folders, with a host in memory.

mod calls;
mod database;
mod determinism;
mod errors;
mod isolation;
mod limits;
mod loading;
mod reuse;
mod support;
mod swap;
mod throughput;
mod types;
