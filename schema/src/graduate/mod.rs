//! From documents to columns: the SQL, and the change of `schema.ts`.

mod source;
mod sql;

pub use source::{EditError, SourceEdit, schema_edit};
pub use sql::{Graduation, graduation};
