//! What a client sends: the body of a request, the parameters in its URL, and the token of a session to go on with.

use crate::protocol::{
    ApiError, OpeningRequest, Reference, ResumeToken, SessionRequest, read_args, read_params,
};
use crate::url_params::UrlParams;
use axum::http::{HeaderMap, HeaderValue, Uri};

/// More than any message says.
const MESSAGE_BYTES_MAX: usize = 1_000;

/// The bounds of arguments that are tried: one that is met soon, and the server's own.
const ARGS_BYTES_MAX: [usize; 2] = [64, 64 << 10];

fn check<T>(read: Result<T, ApiError>) -> Option<T> {
    if let Err(error) = &read {
        assert!(!error.message.is_empty());
        assert!(error.message.len() <= MESSAGE_BYTES_MAX, "{}", error.message);
    }
    read.ok()
}

/// Bodies.
pub fn bodies(data: &[u8]) {
    for limit in ARGS_BYTES_MAX {
        if let Some(request) = check(SessionRequest::read(data, limit)) {
            let mut subs: Vec<_> = request.subscribe.iter().map(|wish| &wish.sub).collect();
            subs.sort_unstable();
            subs.dedup();
            assert_eq!(subs.len(), request.subscribe.len(), "each name stands once");
        }
        let opening = check(OpeningRequest::read(data, limit));
        if let Some(token) = opening.and_then(|opening| opening.resume) {
            tokens(&token);
        }
        check(Reference::read_sql_body(data, limit));
        check(read_args(data, limit));
        check(read_params(data, limit));
    }
}

/// URLs, with a header in the line after: what a client that comes back sends.
pub fn urls(data: &[u8]) {
    let (url, header) = match data.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&data[..end], &data[end + 1..]),
        None => (data, &b""[..]),
    };
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_bytes(header) {
        headers.insert("last-event-id", value);
    }
    let Ok(uri) = Uri::try_from(url) else { return };
    let Some(mut params) = check(UrlParams::read(&uri)) else { return };
    if let Some(token) = params.resume_token(&headers, None) {
        assert!(!token.is_empty());
        tokens(&token);
    }
    for (name, limit) in ["args", "params"].into_iter().zip(ARGS_BYTES_MAX) {
        if let Some(text) = params.take(name) {
            check(read_args(text.as_bytes(), limit));
            check(read_params(text.as_bytes(), limit));
        }
    }
}

/// What is read as a token is one that we would have written, but for how its number is put.
fn tokens(text: &str) {
    if let Some(token) = ResumeToken::read(text) {
        let written = token.to_string();
        assert_eq!(ResumeToken::read(&written), Some(token));
        assert!(text.starts_with(token.secret));
    }
}
