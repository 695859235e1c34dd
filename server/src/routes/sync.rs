//! `/api/sync`: one stream for many subscriptions.

use super::open::{stream, subscribe_events};
use super::request::{read_body, was_told_to_stay_away};
use super::url_params::UrlParams;
use crate::app::App;
use crate::auth::{Caller, RequestHead};
use crate::protocol::{ApiError, OpeningRequest, SubscribeRequest};
use crate::reply::Refusal;
use crate::sessions::Standing;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};

/// `GET`: for event sources, which subscribe by posting to the session.
pub(super) async fn get(State(app): State<App>, head: RequestHead) -> Result<Response, Refusal> {
    if was_told_to_stay_away(&head.headers) {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let answer = async {
        let caller = app.identify(&head).await?;
        let params = UrlParams::read(&head.uri)?;
        open(&app, (&head.headers, &caller), &params, OpeningRequest::default(), 0).await
    };
    answer.await.map_err(|error| Refusal::new(error, &head.headers))
}

/// `POST`: with what to subscribe to in the body.
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
        let request = OpeningRequest::read(&body, app.limits.args_bytes_max)?;
        let bytes = body.len();
        drop(body);
        open(&app, (&head.headers, &caller), &params, request, bytes).await
    };
    answer.await.map_err(|error| Refusal::new(error, &head.headers))
}

async fn open(
    app: &App,
    caller: (&HeaderMap, &Caller),
    params: &UrlParams,
    request: OpeningRequest,
    bytes: usize,
) -> Result<Response, ApiError> {
    let (headers, caller) = caller;
    let OpeningRequest { mut subscribe, resume, have } = request;
    let room = app.queue.reserve(bytes, subscribe.len()).await;
    let token = params.resume_token(headers, resume);
    let resumed = token.and_then(|token| app.sessions.resume(&token, None, &have, caller));
    let claims: Vec<_> = subscribe.iter().map(SubscribeRequest::claim).collect();
    let is_new = resumed.is_none();
    let attached = match resumed {
        Some(attached) => attached,
        None => app.sessions.open(None, caller)?,
    };
    let session = attached.session.clone();
    // Dropping the response ends the stream again.
    let response = stream(app, attached, params, caller);
    if is_new {
        session.claim(&app.limits, &claims)?;
    } else {
        // What stands already is answered by the resume; the others must not be met with silence.
        let mut standings = session.claim_free(&app.limits, &claims)?.into_iter();
        let mut gone = Vec::new();
        subscribe.retain(|request| match standings.next() {
            Some(Standing::Free) => true,
            Some(Standing::Gone(error)) => {
                gone.push((request.sub.clone(), error));
                false
            }
            Some(Standing::Stands) | None => false,
        });
        session.refuse(gone);
    }
    let events = subscribe_events(app, &session, caller, subscribe);
    app.queue.push_request(room, events);
    Ok(response)
}
