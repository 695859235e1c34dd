//! Integration tests of `convoy-postgres`, in one binary: they share one private server.

mod database;
mod launcher;
mod value_laws;
