//! HTTP, server-sent events and the command line: wires the database, the replication stream and the engine together,
//! and speaks the wire contract (`docs/protocol.md`).
//!
//! Only this crate serves HTTP, writes JSON frames and reads the environment.

// What is configured.
#[cfg(feature = "functions")]
mod backend;
pub mod config;
pub mod generation;
pub mod limits;
pub mod loading;
pub mod mutations;
mod passfile;
pub mod project;
mod saves;

// From the database to the sessions.
pub mod pipeline;
pub mod sessions;
pub mod sse;
mod stream_memory;

// HTTP.
pub mod app;
pub mod auth;
pub mod guard;
pub mod listener;
pub mod protocol;
pub mod public_folder;
mod reply;
mod routes;
mod wish;

// The process.
pub mod commands;
mod demo;
pub mod error;
pub mod metrics;
pub mod open_files;
pub mod reload;
pub mod serve;
pub mod shutdown;
pub mod telemetry;
