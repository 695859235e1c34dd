//! `/api/queries`: the live queries, and the last changes that touched one.

use super::request::PathName;
use crate::app::App;
use crate::protocol::{self, ApiError, Code};
use crate::reply::{Refusal, json};
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use convoy_engine::WhyEntry;
use convoy_query_index::QueryId;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub(super) async fn list(State(app): State<App>, headers: HeaderMap) -> Result<Response, Refusal> {
    match app.queue.ask(|engine| engine.live_queries()).await {
        Some(queries) => Ok(json(protocol::queries(&queries, app.detail()).to_string())),
        None => {
            Err(Refusal::new(ApiError::new(Code::Unavailable, "the engine has stopped"), &headers))
        }
    }
}

pub(super) async fn why(
    State(app): State<App>,
    PathName(id): PathName,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let entries = match id.parse() {
        Ok(number) => app.queue.ask(move |engine| engine.why(QueryId(number))).await.flatten(),
        Err(_) => None,
    };
    match entries {
        Some(entries) => {
            let (now, wall) = (Instant::now(), SystemTime::now());
            let since_commit = |entry: &WhyEntry| {
                let received =
                    wall.checked_sub(now.saturating_duration_since(entry.received_at))?;
                let received = received.duration_since(UNIX_EPOCH).ok()?;
                let committed =
                    Duration::from_micros(entry.committed_at.unix_micros().try_into().ok()?);
                received.checked_sub(committed)
            };
            Ok(json(protocol::why(&id, &entries, app.detail(), since_commit).to_string()))
        }
        None => {
            let message = "no live query has this id: /api/queries lists them, and ids go with their last subscriber";
            Err(Refusal::new(ApiError::new(Code::NotFound, message), &headers))
        }
    }
}
