//! The server's own reading of requests, file by file: to build all of the server with instrumentation would be what a
//! run waits for.

// Most of what answers are made of is not called here.
#![allow(dead_code, unused_imports)]

#[path = "../../server/src/protocol/error.rs"]
mod error;
#[path = "../../server/src/protocol/reference.rs"]
mod reference;
#[path = "../../server/src/protocol/request.rs"]
mod request;
#[path = "../../server/src/protocol/rows.rs"]
mod rows;
#[path = "../../server/src/protocol/text.rs"]
mod text;
#[path = "../../server/src/protocol/token.rs"]
mod token;

pub use error::{ApiError, Code};
pub use reference::{Reference, arguments_by_name, arguments_text, read_args, read_params};
pub use request::{Digests, OpeningRequest, SessionRequest, SubscribeRequest};
pub use rows::Numbers;
pub(crate) use text::{push_json_str, shortened};
pub use token::ResumeToken;
