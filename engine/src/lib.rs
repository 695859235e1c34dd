//! Live queries: what a statement reads, how its result is kept up to date, and who is told.
//!
//! The engine is a state machine. It is fed [`Event`]s (committed transactions from the stream, answers from the
//! database, wishes of clients) with the time, and acts through two traits: it asks the [`Database`], and it tells
//! sessions through their [`Outbox`]. It opens no connection, starts no thread and reads no clock.

// The boundary: what the engine is fed, asks and tells.
mod args;
mod database;
mod event;
mod facts;
mod function;
mod session;
mod update;

// From a statement to a template.
pub mod analyse;
mod statement;
mod template;

// Results.
mod array;
mod derived;
mod diff;
mod digest;
mod groups;
mod held_rows;
mod indifference;
mod read_rows;
mod result;
mod result_row;
mod row_key;
mod row_list;
mod window;

// The engine.
mod answers;
mod audit;
mod early;
mod engine;
mod holdings;
mod identity;
mod images;
mod json_patch;
mod lifecycle;
mod limits;
mod line;
mod live_queries;
mod live_query;
mod memory;
mod moves;
mod mutations;
mod observer;
mod precision;
mod reads;
mod recorded;
mod redefine;
mod refusal;
mod schedule;
mod sessions;
mod status;
mod subscribe;
mod subscribers;
mod tables;
mod templates;
mod upkeep;
mod why;
mod write_log;

pub use args::{Argument, ArgumentMisfit, argument_text, arguments_with_claims};
pub use database::{
    CastId, CastRequest, CastValue, Database, DescribeId, Described, ErrorCode, Outlook, OwnError,
    ProbeId, ProbeKind, Probed, QueryError, QueryRead, ReadCompany, ReadId, ReadingRole, Snapshot,
};
pub use derived::{DerivedField, JsonReads, JsonValue};
pub use diff::apply as apply_diff;
pub use digest::Digest;
pub use engine::{Counters, Engine};
pub use event::Event;
pub use facts::{
    ColumnFacts, FunctionFacts, OutputColumn, ParamType, Publication, StatementFacts, TableFacts,
    TableKind, quote_identifier,
};
pub use function::{FunctionAnswer, FunctionRead, RecordedRead};
pub use limits::Limits;
pub use line::Position;
pub use mutations::MUTATION_PREFIX;
pub use observer::Observer;
pub use precision::WakeUps;
pub use read_rows::{ReadRow, ReadRows};
pub use redefine::{Definition, Redefinition};
pub use refusal::Refusal;
pub use result_row::{Cells, ResultRow};
pub use session::{IDENTITY_SUB, Outbox, OutboxState, QueryReference, SessionId, Wish};
pub use statement::{Directives, ParamDeclaration, ParamSource, Statement, StatementKind};
pub use status::{EngineStatus, LiveQueryInfo};
pub use template::{
    Audit, BatchStatement, Batching, Count, Direction, GroupColumn, GroupValue, GroupsPlan,
    HeldTable, Nulls, OrderBy, OrderGroups, Plan, QueryTemplate, ReadStatement, RefreshPlan,
    RowKeys, Scale, SlotReads, SlotSpec, State, StateKind, ValueOf, ValueSet, WindowPlan,
    spare_rows,
};
pub use update::{Diff, DiffOp, ResultSnapshot, Shared, Transition, Update, UpdateKind};
pub use why::{RefreshReason, WhyAction, WhyEntry};
