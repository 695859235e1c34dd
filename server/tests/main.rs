//! The server as its clients see it: over HTTP, against a real Postgres.

mod auth;
mod chaos;
mod choice;
mod cli;
mod client;
mod cuts;
mod ddl;
mod demo;
mod faults;
mod frozen;
#[cfg(feature = "functions")]
mod functions;
mod guard;
mod init;
mod locks;
mod logs;
mod memory;
mod mirror;
mod one_shot;
mod oracle;
mod process;
mod public;
mod reload;
mod resume;
mod rules;
mod screen;
mod slots;
mod stream;
mod support;
mod sync;
mod waits;
mod why;
