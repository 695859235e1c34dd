//! Answers to requests: JSON, errors with their status, and streams.

use crate::protocol::{ApiError, RETRY_MS, temporary_fault};
use axum::body::Body;
use axum::http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};

const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const BEARER: HeaderValue = HeaderValue::from_static("Bearer");
const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream");
/// Asks a proxy of nginx' kind not to buffer.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// What a request is answered with where it fails.
#[derive(Debug)]
pub(crate) struct Refusal {
    error: ApiError,
    is_event_source: bool,
}

impl Refusal {
    /// Returns a refusal fit for whoever sent these headers.
    pub fn new(error: ApiError, headers: &HeaderMap) -> Self {
        Refusal { error, is_event_source: accepts_event_stream(headers) }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        if self.is_event_source && self.error.is_temporary {
            // On any other status an event source would give up for good.
            return stream(Body::from(temporary_fault(&self.error)));
        }
        let headers = [(CONTENT_TYPE, JSON), (CACHE_CONTROL, NO_STORE)];
        let status = self.error.code.status();
        let mut response = (status, headers, self.error.body()).into_response();
        if status == StatusCode::UNAUTHORIZED {
            // RFC 9110, 15.5.2: a 401 names a way to be known.
            response.headers_mut().insert(WWW_AUTHENTICATE, BEARER);
        }
        if self.error.is_temporary {
            // RFC 9110, 10.2.3. Without it a client has nothing to wait for.
            response.headers_mut().insert(RETRY_AFTER, (RETRY_MS / 1000).into());
        }
        response
    }
}

/// Returns an answer of JSON.
pub(crate) fn json(body: impl Into<Body>) -> Response {
    ([(CONTENT_TYPE, JSON), (CACHE_CONTROL, NO_STORE)], body.into()).into_response()
}

/// Returns an answer of JSON with another status.
pub(crate) fn json_with_status(status: StatusCode, body: impl Into<Body>) -> Response {
    (status, json(body)).into_response()
}

/// Returns a stream.
pub(crate) fn stream(body: Body) -> Response {
    let headers = [
        (CONTENT_TYPE, EVENT_STREAM),
        (CACHE_CONTROL, NO_STORE),
        (ACCEL_BUFFERING, HeaderValue::from_static("no")),
    ];
    (headers, body).into_response()
}

/// Returns whether a request takes an event stream for an answer, by name: `*/*` does not ask for one.
pub(crate) fn accepts_event_stream(headers: &HeaderMap) -> bool {
    headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|range| {
            let mut parts = range.split(';').map(str::trim);
            let is_named =
                parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("text/event-stream"));
            is_named && !parts.any(|part| matches!(part, "q=0" | "q=0.0"))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Code;

    fn headers(accept: &'static str) -> HeaderMap {
        [(ACCEPT, HeaderValue::from_static(accept))].into_iter().collect()
    }

    #[test]
    fn event_streams_are_asked_for_by_name() {
        assert!(accepts_event_stream(&headers("application/json, Text/Event-Stream;q=0.9")));
        assert!(!accepts_event_stream(&headers("*/*")));
        assert!(!accepts_event_stream(&headers("text/event-stream;q=0")));
        assert!(!accepts_event_stream(&HeaderMap::new()));
    }

    #[test]
    fn an_event_source_is_told_to_come_back() {
        let answer = |error: ApiError, accept| {
            let response = Refusal::new(error, &headers(accept)).into_response();
            let retry_after = response.headers().get(RETRY_AFTER).cloned();
            (
                response.status().as_u16(),
                retry_after.and_then(|value| value.to_str().ok().map(str::to_owned)),
            )
        };
        let one = Some("1".to_owned());
        let (away, full) = (ApiError::new(Code::Unavailable, "m"), ApiError::no_room("m"));
        assert_eq!(answer(away.clone(), "text/event-stream"), (200, None));
        assert_eq!(answer(full.clone(), "text/event-stream"), (200, None));
        assert_eq!(answer(away, "application/json"), (503, one.clone()));
        assert_eq!(answer(full, "application/json"), (429, one));
        assert_eq!(answer(ApiError::invalid("m"), "text/event-stream"), (400, None));
        // A limit that the same request meets again.
        let own = ApiError::new(Code::LimitExceeded, "m");
        assert_eq!(answer(own.clone(), "text/event-stream"), (429, None));
        assert_eq!(answer(own, "application/json"), (429, None));
    }
}
