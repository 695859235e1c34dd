//! `POST /api/sync/{session}`: changes what a session subscribes to. Answers arrive on its stream.

use super::open::subscribe_events;
use super::request::{PathName, read_body};
use crate::app::App;
use crate::auth::RequestHead;
use crate::protocol::{SessionRequest, SubscribeRequest};
use crate::reply::{self, Refusal};
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use convoy_engine::Event;

pub(super) async fn post(
    State(app): State<App>,
    PathName(session): PathName,
    head: RequestHead,
    body: Body,
) -> Result<Response, Refusal> {
    let answer = async {
        let caller = app.identify(&head).await?;
        let session = app.sessions.find(&session, &caller.key)?;
        let body = read_body(&app, body).await?;
        let SessionRequest { subscribe, unsubscribe, awaited } =
            SessionRequest::read(&body, app.limits.args_bytes_max)?;
        let bytes = body.len();
        drop(body);
        let room = app.queue.reserve(bytes, subscribe.len() + unsubscribe.len() + 1).await;
        // From here on nothing waits or fails, so that all of it is applied or nothing.
        let claims: Vec<_> = subscribe.iter().map(SubscribeRequest::claim).collect();
        session.claim(&app.limits, &claims)?;
        let mut events = subscribe_events(&app, &session, &caller, subscribe);
        let id = session.id();
        let ended = session.unsubscribe(&unsubscribe);
        events.extend(ended.into_iter().map(|sub| Event::Unsubscribe { session: id, sub }));
        // An insert position may name bytes that no record fills: the stream never gets there (P5).
        events.extend(awaited.map(|lsn| Event::Await(id, lsn.before_bare_page_header())));
        app.queue.push_request(room, events);
        Ok(reply::json_with_status(StatusCode::ACCEPTED, "{}"))
    };
    answer.await.map_err(|error| Refusal::new(error, &head.headers))
}
