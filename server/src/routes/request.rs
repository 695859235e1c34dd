//! What of a request many endpoints read: its body, within bounds, and names in its path.

use super::url_params::last_event_id;
use crate::app::App;
use crate::protocol::{ApiError, CLOSED_TOKEN, Code};
use crate::reply::Refusal;
use axum::body::Body;
use axum::extract::{FromRequestParts, Path};
use axum::http::HeaderMap;
use axum::http::request::Parts;
use convoy_postgres::{MemoryBudget, Room};
use http_body_util::BodyExt;
use std::ops::Deref;
use std::sync::Arc;

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
