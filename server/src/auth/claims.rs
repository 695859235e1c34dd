//! What a token says of itself, checked (RFC 7519, 4.1).
//!
//! `jsonwebtoken` could do it, but for dates with a fraction, which the RFC allows: it can't read those where numbers keep
//! every digit (serde_json's `arbitrary_precision`), as they do here.

use super::error::AuthError;
use super::jwt::{LEEWAY_MAX, VerifyOptions};
use serde_json::{Map, Value};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Checks claims; returns until when they count, the leeway included. None: for ever.
pub(super) fn check(
    claims: &Map<String, Value>,
    options: &VerifyOptions,
    now: SystemTime,
) -> Result<Option<SystemTime>, AuthError> {
    let leeway = options.leeway.min(LEEWAY_MAX);
    let expires_at = match date(claims, "exp")? {
        None if options.require_exp => return Err(missing("exp")),
        None | Some(Date::Never) => None,
        Some(Date::At(at)) => Some(at + leeway),
    };
    if expires_at.is_some_and(|at| at <= now) {
        return Err(AuthError::Expired);
    }
    match date(claims, "nbf")? {
        Some(Date::Never) => return Err(AuthError::NotYet),
        Some(Date::At(at)) if at > now + leeway => return Err(AuthError::NotYet),
        Some(Date::At(_)) | None => {}
    }
    if !options.issuers.is_empty() {
        match claims.get("iss") {
            Some(Value::String(issuer)) if options.issuers.contains(issuer) => {}
            Some(Value::String(_)) => return Err(AuthError::Issuer),
            _ => return Err(missing("iss")),
        }
    }
    if !options.audiences.is_empty() {
        let is_ours = |audience: &Value| {
            audience
                .as_str()
                .is_some_and(|audience| options.audiences.iter().any(|our| our == audience))
        };
        match claims.get("aud") {
            Some(audience @ Value::String(_)) if is_ours(audience) => {}
            Some(Value::Array(audiences)) if audiences.iter().any(is_ours) => {}
            Some(Value::String(_) | Value::Array(_)) => return Err(AuthError::Audience),
            _ => return Err(missing("aud")),
        }
    }
    Ok(expires_at)
}

fn missing(name: &str) -> AuthError {
    AuthError::Claim(name.to_owned())
}

/// A NumericDate.
enum Date {
    At(SystemTime),
    /// Later than any clock will show.
    Never,
}

/// The latest date that is one, in seconds: the year 9999.
const SECONDS_MAX: f64 = 253_402_300_799.0;

fn date(claims: &Map<String, Value>, name: &str) -> Result<Option<Date>, AuthError> {
    let seconds = match claims.get(name) {
        None | Some(Value::Null) => return Ok(None),
        Some(value) => value.as_f64().filter(|seconds| *seconds >= 0.0),
    };
    match seconds {
        None => Err(missing(name)),
        Some(seconds) if seconds > SECONDS_MAX => Ok(Some(Date::Never)),
        Some(seconds) => Ok(Some(Date::At(UNIX_EPOCH + Duration::from_secs_f64(seconds)))),
    }
}
