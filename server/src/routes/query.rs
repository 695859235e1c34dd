//! `/api/query/{name}`: a named query, once or as a stream.

use super::open::{answer_once, stream_one};
use super::request::{PathName, read_body, was_told_to_stay_away};
use super::url_params::UrlParams;
use crate::app::App;
use crate::auth::{Caller, RequestHead};
use crate::protocol::{ApiError, Reference, read_args};
use crate::reply::{Refusal, accepts_event_stream};
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};

/// `GET`: a stream, with the arguments in the URL.
pub(super) async fn stream(
    State(app): State<App>,
    PathName(name): PathName,
    head: RequestHead,
) -> Result<Response, Refusal> {
    if was_told_to_stay_away(&head.headers) {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let answer = async {
        let caller = app.identify(&head).await?;
        let mut params = UrlParams::read(&head.uri)?;
        let args = params.take("args").unwrap_or_default();
        open(&app, (&head.headers, &caller), &params, name, args.as_bytes()).await
    };
    answer.await.map_err(|error| Refusal::new(error, &head.headers))
}

/// `POST`: once, or as a stream where the client accepts one; the body is the arguments.
pub(super) async fn post(
    State(app): State<App>,
    PathName(name): PathName,
    head: RequestHead,
    body: Body,
) -> Result<Response, Refusal> {
    if was_told_to_stay_away(&head.headers) {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let answer = async {
        let caller = app.identify(&head).await?;
        let params = UrlParams::read(&head.uri)?;
        let body = read_body(&app, body).await?;
        if accepts_event_stream(&head.headers) {
            return open(&app, (&head.headers, &caller), &params, name, &body).await;
        }
        let args = read_args(&body, app.limits.args_bytes_max)?;
        let query = app.resolve(Reference::Named { name, args }, &caller)?;
        let bytes = body.len();
        drop(body);
        answer_once(&app, query, bytes, params.numbers).await
    };
    answer.await.map_err(|error| Refusal::new(error, &head.headers))
}

async fn open(
    app: &App,
    caller: (&HeaderMap, &Caller),
    params: &UrlParams,
    name: String,
    args_text: &[u8],
) -> Result<Response, ApiError> {
    let args = read_args(args_text, app.limits.args_bytes_max)?;
    let reference = Reference::Named { name, args };
    let scope = format!("{reference:?}");
    let query = app.resolve(reference, caller.1)?;
    stream_one(app, caller, params, scope, query, args_text.len()).await
}
