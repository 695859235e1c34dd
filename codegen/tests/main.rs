//! Integration tests of `convoy-codegen`, in one binary: generated projects under the TypeScript compiler and its
//! language server, and `.sql` files described by a real Postgres.

mod calls;
mod definitions;
mod golden;
mod language_server;
mod npm;
mod null_law;
mod rows;
mod runtime;
mod shop;
mod variants;
