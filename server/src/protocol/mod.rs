//! The wire contract (`docs/protocol.md`) as bytes: the only place in Convoy that writes or reads its JSON.
//!
//! What a request means is decided by whoever reads it; who is told what, by the engine.

mod answer;
mod error;
mod frame;
mod reference;
mod request;
mod rows;
#[cfg(test)]
mod spoilt;
mod text;
mod token;
mod transition;
mod update;

pub use answer::{Detail, mutation_answer, one_shot, queries, why};
pub use error::{ApiError, Code};
pub use frame::{CLOSED_TOKEN, Goodbye, RETRY_MS, comment, goodbye, hello, temporary_fault};
pub(crate) use reference::argument;
pub use reference::{Reference, arguments_by_name, arguments_text, read_args, read_params};
pub use request::{Claim, Digests, OpeningRequest, SessionRequest, SubscribeRequest};
pub use rows::{Numbers, encode_row, encode_snapshot_value};
pub(crate) use text::{push_json_str, shortened};
pub use token::ResumeToken;
pub use transition::TransitionWriter;

/// The version that `hello` names.
pub const PROTOCOL: u32 = 1;
