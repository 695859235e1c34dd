//! Integration tests of `convoy-postgres`, in one binary: they share one private server.

mod database;
mod launcher;
mod predicate_laws;
mod value_laws;
