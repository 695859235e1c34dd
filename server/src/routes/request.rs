//! What of a request many endpoints read: its body, within bounds, and the parameters in its URL.

use crate::app::App;
use crate::protocol::{ApiError, CLOSED_TOKEN, Code, Numbers};
use crate::reply::Refusal;
use axum::body::Body;
use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Uri};
use convoy_postgres::{MemoryBudget, Room};
use http_body_util::BodyExt;
use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

/// The longest `?poll=`: what waits longer is no poll.
const POLL_MAX: Duration = Duration::from_secs(600);
/// So much of a body that is too large is read all the same, in bytes, and thrown away: a client that is still sending
/// when the connection closes never sees the answer.
const DRAIN_BYTES_MAX: usize = 64 << 20;

/// The part of a path that names something.
pub(super) struct PathName(pub String);

impl FromRequestParts<App> for PathName {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Refusal> {
        match Path::<String>::from_request_parts(parts, app).await {
            Ok(Path(name)) => Ok(PathName(name)),
            Err(_) => {
                let error = ApiError::invalid("the path's percent-encoding is no UTF-8");
                Err(Refusal::new(error, &parts.headers))
            }
        }
    }
}

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

fn last_event_id(headers: &HeaderMap) -> Option<String> {
    let value = headers.get("last-event-id")?.to_str().ok()?;
    (!value.is_empty()).then(|| value.to_owned())
}

/// Returns whether this is an event source that was told not to come back.
pub(super) fn was_told_to_stay_away(headers: &HeaderMap) -> bool {
    last_event_id(headers).as_deref() == Some(CLOSED_TOKEN)
}

/// A request's body, with the room that it takes.
pub(super) struct ReadBody {
    bytes: Vec<u8>,
    room: Room,
}

impl Deref for ReadBody {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Reads a request's body, once there is room for it.
pub(super) async fn read_body(app: &App, body: Body) -> Result<ReadBody, ApiError> {
    let collecting = collect(body, app.limits.body_bytes_max, app.queue.requests());
    match tokio::time::timeout(app.limits.body_timeout, collecting).await {
        Ok(read) => read,
        Err(_) => {
            let message = format!(
                "the body did not arrive within {:?} (--body-timeout)",
                app.limits.body_timeout
            );
            Err(ApiError::new(Code::Timeout, message))
        }
    }
}

async fn collect(
    mut body: Body,
    bytes_max: usize,
    memory: &Arc<MemoryBudget>,
) -> Result<ReadBody, ApiError> {
    let mut collected = ReadBody { bytes: Vec::new(), room: Room::new(memory) };
    let mut read_bytes = 0_usize;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ApiError::invalid("the body broke off"))?;
        let Ok(data) = frame.into_data() else { continue };
        read_bytes = read_bytes.saturating_add(data.len());
        if read_bytes <= bytes_max {
            collected.room.grow(data.len()).await;
            collected.bytes.extend_from_slice(&data);
        } else {
            collected = ReadBody { bytes: Vec::new(), room: Room::new(memory) };
            if read_bytes - bytes_max > DRAIN_BYTES_MAX {
                break;
            }
        }
    }
    if read_bytes > bytes_max {
        let message = format!("the body has more than {bytes_max} bytes (--body-bytes-max)");
        return Err(ApiError::new(Code::PayloadTooLarge, message));
    }
    Ok(collected)
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
