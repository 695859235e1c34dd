//! The TypeScript that Convoy writes for a project: `_generated/{api,server,functions,http}.ts`, and `queries.d.ts`
//! where there are `.sql` files (`docs/protocol.md`, section 7).
//!
//! [`generate`] is pure: from what a [`Project`] has to the files' texts, the same for the same project. [`describe`]
//! asks Postgres what a `.sql` file takes and gives; [`write()`] and [`check`] are all that touches the disk.

// What goes in.
mod project;
mod value_type;

// What comes out.
mod api;
mod functions;
mod generate;
mod http;
mod queries;
mod server;
mod source_map;
mod tree;
mod typescript;

// The database and the disk.
mod describe;
mod files;
mod nulls;

pub use describe::describe;
pub use files::{FilesError, Stale, Staleness, check, write};
pub use generate::{FOLDER, GenerateError, GeneratedFile, generate};
pub use project::{
    FunctionEntry, FunctionKind, Project, QueryColumn, QueryParam, SqlQuery, StatedType, Visibility,
};
pub use value_type::{ValueType, type_of};
