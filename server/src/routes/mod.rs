//! The endpoints, one a file.

mod health;
mod metrics;
mod mutation;
mod open;
mod pages;
mod queries;
mod query;
mod request;
mod session;
mod sql;
mod status;
mod sync;
mod url_params;

use crate::app::{App, FrontPage};
use crate::protocol::{ApiError, Code};
use crate::reply::Refusal;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, Method, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

pub(crate) fn router() -> Router<App> {
    Router::new()
        .route("/api/query/{name}", get(query::stream).post(query::post))
        .route("/api/sql", get(sql::stream).post(sql::post))
        .route("/api/sync", get(sync::get).post(sync::post))
        .route("/api/sync/{session}", post(session::post))
        .route("/api/mutation/{name}", post(mutation::post))
        .route("/api/action/{name}", post(not_yet))
        .route("/api/status", get(status::get))
        .route("/api/queries", get(queries::list))
        .route("/api/queries/{id}/why", get(queries::why))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(metrics::get))
        .route("/", get(pages::front))
        .route("/assets/{*path}", get(pages::asset))
        .route("/favicon.ico", get(pages::icon))
}

/// Answers a path that is none of the server's own: with a file of the public folder, where there is one.
pub(crate) async fn elsewhere(
    State(app): State<App>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    if let FrontPage::Public(folder) = &app.front_page
        && matches!(method, Method::GET | Method::HEAD)
        && !is_api(uri.path())
        && let Some(response) = folder.file_or_index(uri.path(), &headers).await
    {
        return response;
    }
    not_found(uri, headers).await
}

/// Whether a path is the server's own, though it may know it only in another version.
fn is_api(path: &str) -> bool {
    path == "/api" || path.starts_with("/api/")
}

/// Answers a path that nothing stands at.
pub(crate) async fn not_found(uri: Uri, headers: HeaderMap) -> Response {
    let shown: String = uri.path().chars().take(200).collect();
    let message = format!("nothing is at {shown}: the endpoints are under /api");
    Refusal::new(ApiError::new(Code::NotFound, message), &headers).into_response()
}

/// Answers a path that knows other methods.
pub(crate) async fn method_not_allowed(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let shown: String = uri.path().chars().take(200).collect();
    let message = format!("{shown} does not take {method}: the Allow header says what it takes");
    Refusal::new(ApiError::new(Code::MethodNotAllowed, message), &headers).into_response()
}

/// Answers for actions.
async fn not_yet(headers: HeaderMap) -> Response {
    let message = "actions are not there yet: write a mutation, or call the other service from a backend of your own";
    Refusal::new(ApiError::new(Code::NotFound, message), &headers).into_response()
}
