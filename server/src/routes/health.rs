//! `/healthz` and `/readyz`: for whoever restarts the process, and for whoever sends requests to it.

use crate::app::App;
use crate::protocol::{ApiError, Code};
use crate::reply::{Refusal, json};
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use std::time::Instant;

/// Answers as long as the engine's thread does.
pub(super) async fn alive(State(app): State<App>, headers: HeaderMap) -> Result<Response, Refusal> {
    match app.queue.ask(|_| ()).await {
        Some(()) => Ok(json("{\"status\":\"ok\"}")),
        None => {
            Err(Refusal::new(ApiError::new(Code::Internal, "the engine has stopped"), &headers))
        }
    }
}

/// Answers 200 once the stream runs and has caught up, and from then on while it runs.
pub(super) async fn ready(State(app): State<App>, headers: HeaderMap) -> Result<Response, Refusal> {
    let lag = app.lag.view(Instant::now());
    if lag.is_ready {
        return Ok(json("{\"status\":\"ready\"}"));
    }
    let message = match &lag.error {
        Some(error) => format!("replication is {}: {error}", lag.stream.as_str()),
        None => format!("replication is {}, and has not caught up yet", lag.stream.as_str()),
    };
    Err(Refusal::new(ApiError::new(Code::Unavailable, message), &headers))
}
