//! Integration tests of `convoy-postgres`, in one binary: they share one private server.

mod aggregate_laws;
mod database;
mod launcher;
mod launcher_kept;
mod predicate_laws;
mod value_laws;
