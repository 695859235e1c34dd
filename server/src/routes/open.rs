//! Opening a stream, whatever for; and asking once, which is a subscription that ends with its first answer.

use super::url_params::UrlParams;
use crate::app::App;
use crate::auth::{Caller, Identity};
use crate::pipeline::EventQueue;
use crate::protocol::{ApiError, Code, Numbers, SubscribeRequest, hello, one_shot};
use crate::reply;
use crate::sessions::{Attached, Claim, Digests, Session};
use crate::sse::{SseBody, StreamOptions};
use crate::stream_memory::Held;
use axum::body::{Body, Bytes};
use axum::http::HeaderMap;
use axum::response::Response;
use convoy_engine::{
    Event, Outbox, OutboxState, QueryReference, ResultSnapshot, SessionId, Shared, Transition,
    UpdateKind,
};
use convoy_types::Lsn;
use std::sync::Arc;
use tokio::sync::oneshot;

/// The `sub` of a stream of one query.
const ONLY_SUB: &str = "0";

/// Streams one query.
pub(super) async fn stream_one(
    app: &App,
    (headers, caller): (&HeaderMap, &Caller),
    params: &UrlParams,
    scope: String,
    query: QueryReference,
    bytes: usize,
) -> Result<Response, ApiError> {
    if let Some(token) = params.resume_token(headers, None)
        && let Some(attached) = app.sessions.resume(&token, Some(&scope), &Digests::new(), caller)
    {
        return Ok(stream(app, attached, params, caller));
    }
    // While the answer can still have a status.
    app.check_arguments(&query).await?;
    let room = app.queue.reserve(bytes, 1).await;
    let attached = app.sessions.open(Some(scope), caller)?;
    let session = attached.session.clone();
    // From here on nothing waits: what is opened is also answered.
    let response = stream(app, attached, params, caller);
    let sub: Arc<str> = ONLY_SUB.into();
    session.claim(&app.limits, &[Claim { sub: sub.clone(), have: None, bytes }])?;
    app.queue.push_request(
        room,
        vec![Event::Subscribe { session: session.id(), sub, query, have: None }],
    );
    Ok(response)
}

/// Returns the answer that is a stream.
pub(super) fn stream(
    app: &App,
    attached: Attached,
    params: &UrlParams,
    identity: &Identity,
) -> Response {
    let Attached { session, queue, resumed } = attached;
    let heartbeat = app.limits.heartbeat;
    let hello = hello(session.wire_id(), resumed, heartbeat);
    let options = StreamOptions {
        numbers: params.numbers,
        poll: params.poll,
        resumed,
        heartbeat,
        expires_at: identity.expires_at,
    };
    reply::stream(Body::from_stream(SseBody::new(
        app.sessions.clone(),
        session,
        queue,
        hello,
        &options,
    )))
}

/// Returns the events that subscribe; those with a bad reference are told so by themselves.
pub(super) fn subscribe_events(
    app: &App,
    session: &Session,
    identity: &Identity,
    requests: Vec<SubscribeRequest>,
) -> Vec<Event> {
    let mut events = Vec::with_capacity(requests.len());
    let mut refused = Vec::new();
    for SubscribeRequest { sub, reference, have } in requests {
        match reference.and_then(|reference| app.resolve(reference, identity)) {
            Ok(query) => events.push(Event::Subscribe { session: session.id(), sub, query, have }),
            Err(error) => refused.push((sub, error)),
        }
    }
    session.refuse(refused);
    events
}

type Answer = Result<(Arc<Shared<ResultSnapshot>>, Lsn), ApiError>;

/// The outbox of a session that wants one answer.
struct OnceOutbox(Option<oneshot::Sender<Answer>>);

impl Outbox for OnceOutbox {
    fn send(&mut self, transition: Transition) -> OutboxState {
        for update in transition.updates {
            let answer = match update.kind {
                UpdateKind::Snapshot(snapshot) => Ok((snapshot, transition.lsn)),
                UpdateKind::Error { error, .. } => Err(ApiError::from(error)),
                UpdateKind::Diffs(_) | UpdateKind::Unchanged | UpdateKind::Stale(_) => continue,
            };
            if let Some(sender) = self.0.take() {
                // Who asked may have gone.
                let _ = sender.send(answer);
            }
        }
        if self.0.is_some() { OutboxState::Ready } else { OutboxState::Closed }
    }
}

/// Ends the session, also where the client goes before its answer.
struct CloseOnDrop(Arc<EventQueue>, SessionId);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.push_control(Event::SessionClosed(self.1));
    }
}

/// Asks once.
pub(super) async fn answer_once(
    app: &App,
    query: QueryReference,
    bytes: usize,
    numbers: Numbers,
) -> Result<Response, ApiError> {
    let room = app.queue.reserve(bytes, 2).await;
    let (sender, receiver) = oneshot::channel();
    let session = app.sessions.next_id();
    app.queue.push_request(
        room,
        vec![
            Event::SessionOpened(session, Box::new(OnceOutbox(Some(sender)))),
            Event::Subscribe { session, sub: ONLY_SUB.into(), query, have: None },
        ],
    );
    let _guard = CloseOnDrop(app.queue.clone(), session);
    match tokio::time::timeout(app.answer_timeout, receiver).await {
        Ok(Ok(answer)) => {
            let (snapshot, lsn) = answer?;
            app.sessions.check_memory()?;
            let body = Bytes::from(one_shot(&snapshot.value, lsn, numbers));
            let mut held = Held::nothing(app.sessions.memory());
            held.grow(body.len());
            Ok(reply::json(Arc::new(held).into_chunk(body)))
        }
        Ok(Err(_)) => Err(ApiError::new(Code::Unavailable, "the server is shutting down")),
        Err(_) => Err(ApiError::new(
            Code::Timeout,
            format!("there was no answer within {:?}", app.answer_timeout),
        )),
    }
}
