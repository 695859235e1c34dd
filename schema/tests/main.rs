//! Integration tests of `convoy-schema`, in one binary: they share one private server.

mod dice;
mod operations;
mod plans;
mod support;
