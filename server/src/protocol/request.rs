//! The envelopes of `/api/sync`.

use super::error::ApiError;
use super::reference::{Reference, parse};
use super::shortened;
use convoy_engine::{Digest, IDENTITY_SUB};
use convoy_types::Lsn;
use serde_json::{Map, Value};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Which digests a client has, by `sub`.
pub type Digests = HashMap<Arc<str>, Digest>;

/// The longest name of a subscription, in bytes.
const SUB_BYTES_MAX: usize = 256;

/// A wish to subscribe. A bad reference is the subscription's own misfortune, not the envelope's.
#[derive(Debug, PartialEq, Eq)]
pub struct SubscribeRequest {
    /// The client's name for it.
    pub sub: Arc<str>,
    /// What it wants to see.
    pub reference: Result<Reference, ApiError>,
    /// The digest of what the client has from before.
    pub have: Option<Digest>,
}

/// The same, as far as its session is concerned.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The client's name for it.
    pub sub: Arc<str>,
    /// The digest that the client has.
    pub have: Option<Digest>,
    /// What is kept of its arguments, in bytes.
    pub bytes: usize,
}

/// The body of `POST /api/sync/{session}`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct SessionRequest {
    /// What to subscribe to; each `sub` once.
    pub subscribe: Vec<SubscribeRequest>,
    /// What to end.
    pub unsubscribe: Vec<Arc<str>>,
    /// What to wait for.
    pub awaited: Option<Lsn>,
}

/// The body of `POST /api/sync`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct OpeningRequest {
    /// What to subscribe to; each `sub` once.
    pub subscribe: Vec<SubscribeRequest>,
    /// The token of the session to go on with.
    pub resume: Option<String>,
    /// The digests of what the client has, by `sub`.
    pub have: Digests,
}

impl SubscribeRequest {
    /// Returns it as far as its session is concerned.
    pub fn claim(&self) -> Claim {
        let bytes = self.reference.as_ref().map_or(0, Reference::kept_bytes);
        Claim { sub: self.sub.clone(), have: self.have, bytes }
    }
}

impl SessionRequest {
    /// Reads the body.
    ///
    /// # Errors
    /// `INVALID_ARGS` where the envelope is malformed.
    pub fn read(body: &[u8], args_bytes_max: usize) -> Result<Self, ApiError> {
        let mut envelope = object(body)?;
        let have = digests(envelope.remove("have"))?;
        let subscribe = subscriptions(envelope.remove("subscribe"), &have, args_bytes_max)?;
        let unsubscribe = match envelope.remove("unsubscribe") {
            None => Vec::new(),
            Some(Value::Array(subs)) => subs.into_iter().map(sub_name).collect::<Result<_, _>>()?,
            Some(_) => return Err(ApiError::invalid("\"unsubscribe\" must be an array of subs")),
        };
        let awaited = match envelope.remove("await") {
            None => None,
            Some(Value::String(text)) => Some(text.parse().map_err(|_| {
                ApiError::invalid(format!(
                    "\"await\" must be an LSN like \"16/B374D848\", not {:?}",
                    shortened(&text)
                ))
            })?),
            Some(_) => {
                return Err(ApiError::invalid("\"await\" must be an LSN like \"16/B374D848\""));
            }
        };
        nothing_else(envelope, "subscribe, have, unsubscribe, await")?;
        Ok(SessionRequest { subscribe, unsubscribe, awaited })
    }
}

impl OpeningRequest {
    /// Reads the body; an empty one wishes for nothing yet.
    ///
    /// # Errors
    /// `INVALID_ARGS` where the envelope is malformed.
    pub fn read(body: &[u8], args_bytes_max: usize) -> Result<Self, ApiError> {
        if body.trim_ascii().is_empty() {
            return Ok(Self::default());
        }
        let mut envelope = object(body)?;
        let have = digests(envelope.remove("have"))?;
        let subscribe = subscriptions(envelope.remove("subscribe"), &have, args_bytes_max)?;
        let resume = match envelope.remove("resume") {
            None | Some(Value::Null) => None,
            Some(Value::String(token)) => Some(token),
            Some(_) => {
                return Err(ApiError::invalid(
                    "\"resume\" must be a token: the id of a transition",
                ));
            }
        };
        nothing_else(envelope, "subscribe, resume, have")?;
        Ok(OpeningRequest { subscribe, resume, have })
    }
}

fn object(body: &[u8]) -> Result<Map<String, Value>, ApiError> {
    match parse(body, "the body")? {
        Value::Object(object) => Ok(object),
        _ => Err(ApiError::invalid("the body must be a JSON object")),
    }
}

fn nothing_else(envelope: Map<String, Value>, known: &str) -> Result<(), ApiError> {
    match envelope.into_iter().next() {
        Some((unknown, _)) => Err(ApiError::invalid(format!(
            "unknown field {:?}: there are {known}",
            shortened(&unknown)
        ))),
        None => Ok(()),
    }
}

fn digests(have: Option<Value>) -> Result<Digests, ApiError> {
    let wrong =
        || ApiError::invalid("\"have\" must be an object of digests by sub: {\"a\": \"…\"}");
    let Some(have) = have else { return Ok(HashMap::new()) };
    let Value::Object(have) = have else { return Err(wrong()) };
    let mut digests = Digests::new();
    for (sub, digest) in have {
        let Value::String(digest) = digest else { return Err(wrong()) };
        // What is none is nobody's, as one that was ours is when the result has changed.
        if let Some(digest) = Digest::read(&digest) {
            digests.insert(sub.into(), digest);
        }
    }
    Ok(digests)
}

fn subscriptions(
    subscribe: Option<Value>,
    have: &Digests,
    args_bytes_max: usize,
) -> Result<Vec<SubscribeRequest>, ApiError> {
    let wrong = || {
        ApiError::invalid("\"subscribe\" must be an array of {\"sub\": \"a\", …query reference…}")
    };
    let Some(subscribe) = subscribe else { return Ok(Vec::new()) };
    let Value::Array(entries) = subscribe else { return Err(wrong()) };
    let mut seen = HashSet::new();
    entries
        .into_iter()
        .map(|entry| {
            let Value::Object(mut entry) = entry else { return Err(wrong()) };
            let sub = sub_name(entry.remove("sub").ok_or_else(wrong)?)?;
            if !seen.insert(sub.clone()) {
                return Err(ApiError::invalid(format!(
                    "sub {sub:?} stands twice in \"subscribe\""
                )));
            }
            let have = have.get(&sub).copied();
            Ok(SubscribeRequest { sub, reference: Reference::read(entry, args_bytes_max), have })
        })
        .collect()
}

fn sub_name(value: Value) -> Result<Arc<str>, ApiError> {
    match value {
        Value::String(sub) if sub == IDENTITY_SUB => {
            Err(ApiError::invalid("this sub is taken: choose another"))
        }
        Value::String(sub) if sub.len() <= SUB_BYTES_MAX => Ok(sub.into()),
        Value::String(_) => {
            Err(ApiError::invalid(format!("a sub has at most {SUB_BYTES_MAX} bytes")))
        }
        _ => Err(ApiError::invalid("a sub must be a string")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Code;

    #[test]
    fn reads_an_envelope() {
        let body =
            br#"{"subscribe":[{"sub":"a","sql":"select 1"},{"sub":"b","query":7}],"have":{"a":"00112233445566778899aabbccddeeff","b":"?"},
                        "unsubscribe":["c"],"await":"0/10"}"#;
        let request = SessionRequest::read(body, 100).expect("good");
        assert_eq!(&*request.subscribe[0].sub, "a");
        let digest = Digest::read("00112233445566778899aabbccddeeff").expect("a digest");
        assert_eq!(request.subscribe[0].have, Some(digest));
        assert_eq!(request.subscribe[1].have, None, "no result has that digest");
        assert!(request.subscribe[0].reference.is_ok());
        // A bad reference is no bad envelope.
        assert!(request.subscribe[1].reference.is_err());
        assert_eq!(request.unsubscribe, ["c".into()]);
        assert_eq!(request.awaited, Some(Lsn(16)));
    }

    #[test]
    fn refuses_what_is_malformed() {
        for body in [
            "",
            "[]",
            "{",
            r#"{"subscribe":{}}"#,
            r#"{"subscribe":[1]}"#,
            r#"{"subscribe":[{"query":"a"}]}"#,
            r#"{"subscribe":[{"sub":1,"query":"a"}]}"#,
            r#"{"unsubscribe":"a"}"#,
            r#"{"unsubscribe":[1]}"#,
            r#"{"await":"x"}"#,
            r#"{"await":1}"#,
            r#"{"have":[]}"#,
            r#"{"have":{"a":1}}"#,
            r#"{"subscibe":[]}"#,
            r#"{"subscribe":[{"sub":"a","query":"x"},{"sub":"a","query":"y"}]}"#,
        ] {
            let error = SessionRequest::read(body.as_bytes(), 100).expect_err(body);
            assert_eq!(error.code, Code::InvalidArgs, "{body}");
        }
    }

    #[test]
    fn an_opening_may_be_empty() {
        assert_eq!(OpeningRequest::read(b" \n", 100), Ok(OpeningRequest::default()));
        let resume = OpeningRequest::read(br#"{"resume":"t"}"#, 100).expect("good");
        assert_eq!(resume.resume.as_deref(), Some("t"));
    }
}
