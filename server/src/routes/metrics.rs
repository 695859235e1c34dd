//! `/metrics`: Prometheus' text.

use crate::app::App;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};

pub(super) async fn get(State(app): State<App>) -> Response {
    let status = app.queue.ask(|engine| engine.status()).await;
    let text = app.metrics.encode(&app, status.as_ref());
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-store")], text).into_response()
}
