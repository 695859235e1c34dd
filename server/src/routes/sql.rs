//! `/api/sql`: ad hoc SQL, once or as a stream.

use super::open::{answer_once, stream_one};
use super::request::{UrlParams, read_body, was_told_to_stay_away};
use crate::app::App;
use crate::protocol::{ApiError, Reference, read_params};
use crate::reply::{Refusal, accepts_event_stream};
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};

/// `GET`: a stream, with the statement in the URL.
pub(super) async fn stream(
    State(app): State<App>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    if was_told_to_stay_away(&headers) {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let answer = async {
        let mut params = UrlParams::read(&uri)?;
        let Some(sql) = params.take("sql") else {
            return Err(ApiError::invalid("the URL needs sql: /api/sql?sql=select …&params=[…]"));
        };
        let given = params.take("params").unwrap_or_default();
        let bytes = sql.len() + given.len();
        let given = read_params(given.as_bytes(), app.limits.args_bytes_max)?;
        open(&app, &headers, &params, Reference::Sql { sql, params: given }, bytes).await
    };
    answer.await.map_err(|error| Refusal::new(error, &headers))
}

/// `POST`: once, or as a stream where the client accepts one.
pub(super) async fn post(
    State(app): State<App>,
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
        let reference = Reference::read_sql_body(&body, app.limits.args_bytes_max)?;
        if accepts_event_stream(&headers) {
            return open(&app, &headers, &params, reference, body.len()).await;
        }
        let query = app.resolve(reference)?;
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
    reference: Reference,
    bytes: usize,
) -> Result<Response, ApiError> {
    let scope = format!("{reference:?}");
    let query = app.resolve(reference)?;
    stream_one(app, headers, params, scope, query, bytes).await
}
