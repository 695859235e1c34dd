//! The parameters in a request's URL, and the resume token wherever it stands.

use crate::protocol::{ApiError, Numbers};
use axum::extract::Query;
use axum::http::{HeaderMap, Uri};
use std::collections::HashMap;
use std::time::Duration;

/// The longest `?poll=`: what waits longer is no poll.
const POLL_MAX: Duration = Duration::from_secs(600);

/// The parameters in a URL.
#[derive(Debug, Default)]
pub(super) struct UrlParams {
    pub numbers: Numbers,
    pub poll: Option<Duration>,
    pub resume: Option<String>,
    rest: HashMap<String, String>,
}

impl UrlParams {
    /// Reads them. Unknown ones are not an error: proxies and cache busters add their own.
    pub fn read(uri: &Uri) -> Result<Self, ApiError> {
        let Query(mut rest) =
            Query::<HashMap<String, String>>::try_from_uri(uri).map_err(|error| {
                ApiError::invalid(format!("the URL's parameters can't be read: {error}"))
            })?;
        let numbers = match rest.remove("numbers").as_deref() {
            None | Some("number") => Numbers::Number,
            Some("string") => Numbers::String,
            Some(_) => return Err(ApiError::invalid("numbers must be string or number")),
        };
        let wrong = || ApiError::invalid("poll must be a number of milliseconds, at most 600000");
        let poll = match rest.remove("poll") {
            None => None,
            Some(text) => Some(text.parse().map(Duration::from_millis).map_err(|_| wrong())?),
        };
        if poll.is_some_and(|poll| poll > POLL_MAX) {
            return Err(wrong());
        }
        Ok(UrlParams { numbers, poll, resume: rest.remove("resume"), rest })
    }

    /// Takes one that belongs to an endpoint.
    pub fn take(&mut self, name: &str) -> Option<String> {
        self.rest.remove(name)
    }

    /// Returns the token of the session to go on with. An event source that comes back has the newest in its header.
    pub fn resume_token(&self, headers: &HeaderMap, body: Option<String>) -> Option<String> {
        last_event_id(headers)
            .or(body)
            .or_else(|| self.resume.clone())
            .filter(|token| !token.is_empty())
    }
}

pub(super) fn last_event_id(headers: &HeaderMap) -> Option<String> {
    let value = headers.get("last-event-id")?.to_str().ok()?;
    (!value.is_empty()).then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Result<UrlParams, ApiError> {
        UrlParams::read(&format!("/api/sync?{query}").parse().expect("a URI"))
    }

    #[test]
    fn parameters_are_read_or_refused() {
        let params = read("numbers=string&poll=250&resume=t&_=1").expect("good");
        assert_eq!(
            (params.numbers, params.poll),
            (Numbers::String, Some(Duration::from_millis(250)))
        );
        for wrong in ["numbers=text", "poll=", "poll=-1", "poll=1s", "poll=600001"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_header_has_the_newest_token() {
        let params = read("resume=url").expect("good");
        let headers: HeaderMap =
            [("last-event-id".parse().expect("a name"), "header".parse().expect("a value"))]
                .into_iter()
                .collect();
        assert_eq!(params.resume_token(&headers, None).as_deref(), Some("header"));
        assert_eq!(
            params.resume_token(&HeaderMap::new(), Some("body".into())).as_deref(),
            Some("body")
        );
        assert_eq!(params.resume_token(&HeaderMap::new(), None).as_deref(), Some("url"));
    }
}
