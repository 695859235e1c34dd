//! `/healthz` and `/readyz`: for whoever restarts the process, and for whoever sends requests to it.

use crate::app::App;
use crate::protocol::{ApiError, Code};
use crate::reply::{Refusal, json};
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use std::time::{Duration, Instant};

/// The longest that the engine may leave a question unanswered: what takes it longer is a fault.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Answers as long as the engine's thread does.
pub(super) async fn alive(State(app): State<App>, headers: HeaderMap) -> Result<Response, Refusal> {
    let problem = match tokio::time::timeout(ANSWER_MAX, app.queue.ask(|_| ())).await {
        Ok(Some(())) => return Ok(json("{\"status\":\"ok\"}")),
        Ok(None) => "the engine has stopped",
        Err(_) => "the engine does not answer",
    };
    Err(Refusal::new(ApiError::new(Code::Internal, problem), &headers))
}

/// Answers 200 once the stream runs and has caught up, and from then on while it runs.
pub(super) async fn ready(State(app): State<App>, headers: HeaderMap) -> Result<Response, Refusal> {
    let lag = app.lag.view(Instant::now());
    if lag.is_ready {
        return Ok(json("{\"status\":\"ready\"}"));
    }
    let message = match (&lag.waiting_for, &lag.error) {
        (Some(blockers), _) => format!(
            "replication is {}: its slot waits for transactions that are open: {blockers}",
            lag.stream.as_str()
        ),
        (None, Some(error)) => format!("replication is {}: {error}", lag.stream.as_str()),
        (None, None) => {
            format!("replication is {}, and has not caught up yet", lag.stream.as_str())
        }
    };
    Err(Refusal::new(ApiError::new(Code::Unavailable, message), &headers))
}
