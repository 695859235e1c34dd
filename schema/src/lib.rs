//! Declared tables: what `schema.ts` says, how it stands in Postgres, and how functions use it.
//!
//! [`Schema`] is the declaration, read from JSON. [`plan`] compares it with the database and [`apply`] creates what is
//! missing; nothing is ever dropped. [`graduation`] writes the SQL that moves a table from documents to columns.
//! [`Store`] is a function's `ctx.db`: each operation is one or a few statements, and each read is *recorded*: as a
//! statement that covers what was read, never executed, for the engine to analyse as it does any other.
//!
//! This crate knows no JavaScript and no HTTP, and begins no transaction but in [`apply`]: whose a read is, and at
//! which snapshot, is its caller's.

mod catalogue;
mod declared;
mod declared_json;
mod error;
mod graduate;
mod layout;
mod names;
mod plan;
mod store;

pub use declared::{Field, FieldType, Index, Layout, Schema, Table};
pub use error::{SchemaError, StoreError};
pub use graduate::{EditError, Graduation, SourceEdit, graduation, schema_edit};
pub use plan::{Plan, Step, StepKind, Warning, WarningKind, apply, plan};
pub use store::{CreationClock, RecordedRead, Store};
