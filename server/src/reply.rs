//! Answers to requests: JSON, errors with their status, and streams.

use crate::protocol::{ApiError, temporary_fault};
use axum::body::Body;
use axum::http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue, WWW_AUTHENTICATE,
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
        if self.is_event_source && self.error.code.is_temporary() {
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
        let status = |code, accept| {
            let refusal = Refusal::new(ApiError::new(code, "m"), &headers(accept));
            refusal.into_response().status().as_u16()
        };
        assert_eq!(status(Code::Unavailable, "text/event-stream"), 200);
        assert_eq!(status(Code::LimitExceeded, "text/event-stream"), 200);
        assert_eq!(status(Code::Unavailable, "application/json"), 503);
        assert_eq!(status(Code::InvalidArgs, "text/event-stream"), 400);
    }
}
