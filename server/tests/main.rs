//! The server as its clients see it: over HTTP, against a real Postgres.

mod cli;
mod client;
mod demo;
mod guard;
mod locks;
mod one_shot;
mod oracle;
mod reload;
mod rules;
mod stream;
mod support;
mod sync;
