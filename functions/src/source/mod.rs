//! A project's modules: found, stripped of their types, compiled to bytecode.
//!
//! A module's name is its path from the project's root (`functions/orders.ts`, `../node_modules/zod/index.js`), which is what
//! stacks say; those that are part of Convoy begin with `convoy:`. Compiling one needs no other, so one that did not change is
//! not compiled again (`cache.rs`).

mod bytecode;
mod cache;
mod embedded;
mod graph;
mod position;
mod resolve;
mod transpile;

pub use cache::ModuleCache;
pub(crate) use graph::{ENTRY, Graph, SERVER, Single};
pub use position::Position;
