//! `PostgresDatabase` against a real server; the tests are named after the rules of `docs/postgres.md`.

mod batch;
mod describe;
mod doctor;
pub mod harness;
mod publish;
mod read;
mod rules;
mod tls;
