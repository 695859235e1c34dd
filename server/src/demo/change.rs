//! `POST /demo/change`: changes one row, over a connection of its own, like any program that knows nothing of Convoy.

use super::shop;
use crate::app::App;
use crate::error::{ServerError, chain};
use crate::protocol::{ApiError, Code};
use crate::reply::{self, Refusal};
use axum::Router;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::post;
use convoy_postgres::connect;
use convoy_types::{DatabaseUrl, Lsn};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Changes that are made at a time, each with a connection; further ones wait.
const CHANGES_MAX: usize = 4;
/// How long a change may take, with the wait.
const CHANGE_MAX: Duration = Duration::from_secs(8);

/// A change that was made.
#[derive(Debug)]
struct Change {
    sql: String,
    /// The commit's record ends at or before this.
    lsn: Lsn,
}

/// Returns the route.
pub(crate) fn route(url: DatabaseUrl) -> Router<App> {
    let url = Arc::new(url);
    let room = Arc::new(Semaphore::new(CHANGES_MAX));
    let handler = move |headers: HeaderMap| {
        let (url, room) = (url.clone(), room.clone());
        async move { answer(&url, &room).await.map_err(|error| Refusal::new(error, &headers)) }
    };
    Router::new().route("/demo/change", post(handler))
}

async fn answer(url: &DatabaseUrl, room: &Semaphore) -> Result<Response, ApiError> {
    let work = async {
        // Held until the change is made. The semaphore is never closed.
        let _permit = room.acquire().await;
        change(url).await
    };
    let change = match timeout(CHANGE_MAX, work).await {
        Ok(Ok(change)) => change,
        Ok(Err(error)) => {
            return Err(ApiError::new(
                Code::Unavailable,
                format!("no row was changed: {}", chain(&error)),
            ));
        }
        Err(_) => {
            let message =
                format!("the change was not made within {CHANGE_MAX:?}: is a lock held on orders?");
            return Err(ApiError::new(Code::Timeout, message));
        }
    };
    Ok(reply::json(json!({"sql": change.sql, "lsn": change.lsn.to_string()}).to_string()))
}

/// The newest order costs more: that shows in the list, in the sums, and in no other order.
async fn change(url: &DatabaseUrl) -> Result<Change, ServerError> {
    let connection = connect(url, &shop::session("convoy demo button")).await?;
    let client = connection.client();
    let newest: Option<i64> =
        client.query_one("SELECT max(id) FROM orders", &[]).await?.try_get(0)?;
    let Some(id) = newest else {
        return Err(ServerError::Unwell("there is no order left to change".to_owned()));
    };
    let sql = format!("update orders set total = total + 100 where id = {id}");
    client.batch_execute(&sql).await?;
    let lsn = flushed(client).await?;
    Ok(Change { sql, lsn })
}

/// Returns up to where the WAL is on disk: past every commit that has returned, since the demo commits synchronously.
pub(crate) async fn flushed(client: &tokio_postgres::Client) -> Result<Lsn, ServerError> {
    let row = client.query_one("SELECT pg_catalog.pg_current_wal_flush_lsn()::text", &[]).await?;
    let text: String = row.try_get(0)?;
    let lsn: Lsn = text.parse().map_err(|_| {
        ServerError::Unwell(format!("the database named {text:?} as a position of its log"))
    })?;
    Ok(lsn.before_bare_page_header())
}
