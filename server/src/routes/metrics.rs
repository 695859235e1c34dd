//! `/metrics`: Prometheus' text.

use crate::app::App;
use axum::extract::State;
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};

/// What OpenMetrics writes is also Prometheus' older text format; whoever does not ask for the newer by name, as curl and
/// browsers, is told so.
pub(super) async fn get(State(app): State<App>, headers: HeaderMap) -> Response {
    let status = app.queue.ask(|engine| engine.status()).await;
    let text = app.metrics.encode(&app, status.as_ref());
    let asks = |value: &HeaderValue| {
        value.to_str().is_ok_and(|accept| accept.contains("application/openmetrics-text"))
    };
    let kind = match headers.get_all(ACCEPT).iter().any(asks) {
        true => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        false => "text/plain; version=0.0.4; charset=utf-8",
    };
    ([(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-store")], text).into_response()
}
