//! `/api/query/{name}`: a named query, once or as a stream.

use super::open::{answer_once, stream_one};
use super::request::{PathName, UrlParams, read_body, was_told_to_stay_away};
use crate::app::App;
use crate::protocol::{ApiError, Reference, read_args};
use crate::reply::{Refusal, accepts_event_stream};
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};

/// `GET`: a stream, with the arguments in the URL.
pub(super) async fn stream(
    State(app): State<App>,
    PathName(name): PathName,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    if was_told_to_stay_away(&headers) {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let answer = async {
        let mut params = UrlParams::read(&uri)?;
        let args = params.take("args").unwrap_or_default();
        open(&app, &headers, &params, name, args.as_bytes()).await
    };
    answer.await.map_err(|error| Refusal::new(error, &headers))
}

/// `POST`: once, or as a stream where the client accepts one; the body is the arguments.
pub(super) async fn post(
    State(app): State<App>,
    PathName(name): PathName,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    if was_told_to_stay_away(&headers) {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let answer = async {
        let params = UrlParams::read(&uri)?;
        let body = read_body(&app, body).await?;
        if accepts_event_stream(&headers) {
            return open(&app, &headers, &params, name, &body).await;
        }
        let args = read_args(&body, app.limits.args_bytes_max)?;
        let query = app.resolve(Reference::Named { name, args })?;
        let bytes = body.len();
        drop(body);
        answer_once(&app, query, bytes, params.numbers).await
    };
    answer.await.map_err(|error| Refusal::new(error, &headers))
}

async fn open(
    app: &App,
    headers: &HeaderMap,
    params: &UrlParams,
    name: String,
    args_text: &[u8],
) -> Result<Response, ApiError> {
    let args = read_args(args_text, app.limits.args_bytes_max)?;
    let reference = Reference::Named { name, args };
    let scope = format!("{reference:?}");
    let query = app.resolve(reference)?;
    stream_one(app, headers, params, scope, query, args_text.len()).await
}
