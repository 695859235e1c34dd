//! The crate against real projects in folders, with a host in memory.

mod calls;
mod support;
