//! A project's functions through the real server, on a real Postgres: queries that stay live, mutations, and what becomes
//! of both when tables and files change under them.

mod auth_docs;
mod commands;
mod context;
mod ddl;
mod exactly_once;
mod identity;
mod live;
mod mutations;
mod oracle;
mod project;
mod reflects;
mod refusals;
mod reload;
mod shapes;
mod shell;
mod viewer;
