//! Integration tests of `convoy-replication`, in one binary: they share one private server.
//!
//! A test that proves a rule of `docs/postgres.md` starts with the rule's number.

mod fake;
mod log_in;
mod protocol;
mod rows;
mod rules;
mod server;
mod slots;
mod support;
mod values;
