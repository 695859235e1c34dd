//! Who asks: what a request is looked at for, and what comes of that.

use crate::protocol::{ApiError, Code};
use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, Uri};
use axum::serve::IncomingStream;
use convoy_engine::{Argument, QueryReference};
use futures_util::future::BoxFuture;
use serde_json::{Map, Value};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::time::SystemTime;

use crate::listener::BoundedListener;

/// The largest context that an identity may be, in bytes: each session and each live query of a function keeps it.
pub const AUTH_BYTES_MAX: usize = 16 << 10;

/// What identifies a caller: all of a request but its body.
#[derive(Clone, Debug)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// The path and what follows it.
    pub uri: Uri,
    /// The headers.
    pub headers: HeaderMap,
    /// Who is at the other end of the connection, which may be a proxy; none where that is not known.
    pub peer: Option<SocketAddr>,
}

/// The address at the other end of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(SocketAddr);

impl Connected<IncomingStream<'_, BoundedListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, BoundedListener>) -> Self {
        Peer(*stream.remote_addr())
    }
}

impl<S: Sync> FromRequestParts<S> for RequestHead {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(RequestHead {
            method: parts.method.clone(),
            uri: parts.uri.clone(),
            headers: parts.headers.clone(),
            peer: parts.extensions.get::<ConnectInfo<Peer>>().map(|peer| peer.0.0),
        })
    }
}

/// Who asks.
#[derive(Clone, Debug)]
pub struct Identity(Arc<Known>);

/// What is known of who asks.
#[derive(Debug)]
pub struct Known {
    /// What identities are compared by: the same for equal contexts, whatever the order of their members.
    pub key: Arc<str>,
    /// The context, as JSON for `ctx.auth`; none: nobody. Equal contexts have one text.
    pub auth: Option<Arc<str>>,
    /// Until when it counts; none: for ever.
    pub expires_at: Option<SystemTime>,
    claims: Option<Value>,
}

impl Deref for Identity {
    type Target = Known;

    fn deref(&self) -> &Known {
        &self.0
    }
}

impl Identity {
    /// Returns nobody.
    pub fn nobody() -> Identity {
        Identity::nobody_until(None)
    }

    fn nobody_until(expires_at: Option<SystemTime>) -> Identity {
        Identity(Arc::new(Known { key: "null".into(), auth: None, expires_at, claims: None }))
    }

    /// Returns who this context says; null is nobody.
    ///
    /// # Errors
    /// Where it is larger than any context may be.
    pub fn new(auth: Value, expires_at: Option<SystemTime>) -> Result<Identity, ApiError> {
        if auth.is_null() {
            return Ok(Identity::nobody_until(expires_at));
        }
        let auth = sorted(auth);
        let text = auth.to_string();
        if text.len() > AUTH_BYTES_MAX {
            let message = format!(
                "the identity has {} bytes as JSON, and at most {AUTH_BYTES_MAX} are taken: keep in it what queries need",
                text.len()
            );
            return Err(ApiError::new(Code::Internal, message));
        }
        // The text itself: a hash could be met by somebody who chooses what is in a token.
        let text: Arc<str> = text.into();
        let (key, auth, claims) = (text.clone(), Some(text), Some(auth));
        Ok(Identity(Arc::new(Known { key, auth, expires_at, claims })))
    }

    /// Returns whether nobody is known.
    pub fn is_nobody(&self) -> bool {
        self.auth.is_none()
    }

    /// Returns a member of the context.
    pub fn claim(&self, name: &str) -> Option<&Value> {
        self.claims.as_ref()?.get(name)
    }

    /// Returns the context as a function's argument.
    pub fn argument(&self) -> Option<Argument> {
        self.auth.as_ref().map(|auth| Argument::String(auth.to_string()))
    }
}

/// Who asks, and what that hangs on. It holds what the caller showed: it is for whoever opens a stream, and is not kept.
#[derive(Clone)]
pub struct Caller {
    /// Who it is.
    pub identity: Identity,
    /// What says the same again for as long as it is so, where tables were read to find it out.
    pub watch: Option<QueryReference>,
}

impl From<Identity> for Caller {
    fn from(identity: Identity) -> Caller {
        Caller { identity, watch: None }
    }
}

impl Deref for Caller {
    type Target = Identity;

    fn deref(&self) -> &Identity {
        &self.identity
    }
}

/// Returns a value with the members of its objects in the order of their names.
fn sorted(value: Value) -> Value {
    match value {
        Value::Array(values) => Value::Array(values.into_iter().map(sorted).collect()),
        Value::Object(object) => {
            let mut members: Vec<_> = object.into_iter().collect();
            members.sort_by(|(left, _), (right, _)| left.cmp(right));
            let members = members.into_iter().map(|(name, value)| (name, sorted(value)));
            Value::Object(members.collect::<Map<_, _>>())
        }
        other => other,
    }
}

/// Finds out who asks, once for each request or stream. Where there is none of it, all are nobody.
pub trait Identify: Send + Sync {
    /// Identifies the caller.
    ///
    /// # Errors
    /// Why it may not call, fit for it.
    fn identify<'a>(&'a self, request: &'a RequestHead) -> BoxFuture<'a, Result<Caller, ApiError>>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn identity(auth: &str) -> Identity {
        Identity::new(serde_json::from_str(auth).expect("JSON"), None).expect("small")
    }

    #[test]
    fn equal_contexts_have_one_key() {
        let one = identity(r#"{"b":[{"y":1,"x":2}],"a":"ü"}"#);
        let same = identity(r#"{ "a": "\u00fc", "b": [{"x":2,"y":1}] }"#);
        assert_eq!((&one.key, &one.auth), (&same.key, &same.auth));
        assert_eq!(one.auth.as_deref(), Some(r#"{"a":"ü","b":[{"x":2,"y":1}]}"#));
        for other in [r#"{"a":"ü"}"#, r#"{"a":"ü","b":[{"x":2,"y":"1"}]}"#, r#""null""#, "{}"] {
            assert_ne!(identity(other).key, one.key, "{other}");
            assert_ne!(identity(other).key, Identity::nobody().key, "{other}");
        }
        assert!(identity("null").is_nobody());
        assert_eq!(identity("null").key, Identity::nobody().key);
    }

    #[test]
    fn a_context_has_a_bound() {
        let error = Identity::new(json!("x".repeat(AUTH_BYTES_MAX)), None).expect_err("large");
        assert!(error.message.contains("16384"), "{error}");
    }
}
