//! Who calls, and how that is known (`docs/auth.md`).
//!
//! Each request or stream is identified once, by whoever is configured to: nobody at all, the tokens that
//! `--jwt-…` describes ([`Bearer`]), or a project's `createContext`. What comes of it, an [`Identity`], is what sessions
//! belong to, what functions see as `ctx.auth`, and what `@claim` takes its values from. Where tables were read to find it
//! out, it is watched for as long as its session lives ([`Caller`]). Whether a token counts is decided
//! in one place ([`Verifier`]).

mod bearer;
mod claims;
mod crypto;
mod error;
mod fetch;
mod host;
mod identity;
mod jwks;
mod jwt;
mod key;
#[cfg(test)]
mod testing;

pub use bearer::{Bearer, JwtArgs, Secret};
pub use error::{AuthError, OptionsError};
pub use host::JwtHost;
pub(crate) use identity::Peer;
pub use identity::{AUTH_BYTES_MAX, Caller, Identify, Identity, RequestHead};
pub use jwt::{KeySource, Verified, Verifier, VerifyOptions};
