//! `/api/sql`: ad hoc SQL, once or as a stream.

use super::open::{answer_once, stream_one};
use super::request::{read_body, was_told_to_stay_away};
use super::url_params::UrlParams;
use crate::app::App;
use crate::auth::{Caller, RequestHead};
use crate::protocol::{ApiError, Reference, read_params};
use crate::reply::{Refusal, accepts_event_stream};
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};

/// `GET`: a stream, with the statement in the URL.
pub(super) async fn stream(State(app): State<App>, head: RequestHead) -> Result<Response, Refusal> {
    if was_told_to_stay_away(&head.headers) {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let answer = async {
        let caller = app.identify(&head).await?;
        let mut params = UrlParams::read(&head.uri)?;
        let Some(sql) = params.take("sql") else {
            return Err(ApiError::invalid("the URL needs sql: /api/sql?sql=select …&params=[…]"));
        };
        let given = params.take("params").unwrap_or_default();
        let bytes = sql.len() + given.len();
        let given = read_params(given.as_bytes(), app.limits.args_bytes_max)?;
        open(&app, (&head.headers, &caller), &params, Reference::Sql { sql, params: given }, bytes)
            .await
    };
    answer.await.map_err(|error| Refusal::new(error, &head.headers))
}

/// `POST`: once, or as a stream where the client accepts one.
pub(super) async fn post(
    State(app): State<App>,
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
        let reference = Reference::read_sql_body(&body, app.limits.args_bytes_max)?;
        if accepts_event_stream(&head.headers) {
            return open(&app, (&head.headers, &caller), &params, reference, body.len()).await;
        }
        let query = app.resolve(reference, &caller)?;
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
    reference: Reference,
    bytes: usize,
) -> Result<Response, ApiError> {
    let scope = format!("{reference:?}");
    let query = app.resolve(reference, caller.1)?;
    stream_one(app, caller, params, scope, query, bytes).await
}
