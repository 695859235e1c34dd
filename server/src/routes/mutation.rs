//! `POST /api/mutation/{name}`: one transaction.

use super::request::{PathName, read_body};
use crate::app::App;
use crate::auth::{Identity, RequestHead};
use crate::mutations::MutationRequest;
use crate::protocol::{ApiError, Code, arguments_text, mutation_answer, read_args};
use crate::reply::{self, Refusal};
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use convoy_engine::SessionId;
use std::sync::Arc;

pub(super) async fn post(
    State(app): State<App>,
    PathName(name): PathName,
    head: RequestHead,
    body: Body,
) -> Result<Response, Refusal> {
    let answer = async {
        let caller = app.identify(&head).await?;
        let id = mutation_id(&head.headers)?;
        let session = session(&app, &head.headers, &caller)?;
        let body = read_body(&app, body).await?;
        let args = arguments_text(read_args(&body, app.limits.args_bytes_max)?);
        let Some(mutations) = &app.mutations else {
            let message = "this server runs no functions: it has no project with functions, or was built without \
                           --features functions";
            return Err(ApiError::new(Code::NotFound, message));
        };
        let request = MutationRequest { name, args, id, session, identity: caller.auth.clone() };
        let answer = mutations.mutate(request).await?;
        Ok(reply::json(Body::from(Bytes::from(mutation_answer(&answer.value, answer.lsn)))))
    };
    answer.await.map_err(|error| Refusal::new(error, &head.headers))
}

/// Returns the id by which a mutation is done once.
fn mutation_id(headers: &HeaderMap) -> Result<Option<Arc<str>>, ApiError> {
    let Some(value) = headers.get("x-convoy-mutation") else { return Ok(None) };
    let id = value.to_str().ok().map(str::to_ascii_lowercase).filter(|id| is_uuid(id));
    match id {
        Some(id) => Ok(Some(id.into())),
        None => {
            Err(ApiError::invalid("x-convoy-mutation must be a UUID, as crypto.randomUUID() gives"))
        }
    }
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// Returns the session whose stream is to name the mutation.
fn session(
    app: &App,
    headers: &HeaderMap,
    identity: &Identity,
) -> Result<Option<SessionId>, ApiError> {
    let Some(value) = headers.get("x-convoy-session") else { return Ok(None) };
    let wire_id = value.to_str().unwrap_or_default();
    Ok(Some(app.sessions.find(wire_id, &identity.key)?.id()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_uuids() {
        assert!(is_uuid("0198c1f0-7b1e-7c3a-9d2b-0123456789ab"));
        for wrong in
            ["", "1", "0198c1f07b1e7c3a9d2b0123456789ab", "0198c1f0-7b1e-7c3a-9d2b-0123456789ag"]
        {
            assert!(!is_uuid(wrong), "{wrong}");
        }
    }
}
