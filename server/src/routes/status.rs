//! `/api/status`: how the server is, as JSON.

use crate::app::App;
use crate::metrics::{memory_use, resident_bytes};
use crate::reply::json;
use axum::extract::State;
use axum::response::Response;
use serde_json::{Map, Value, json as value};
use std::time::Instant;

pub(super) async fn get(State(app): State<App>) -> Response {
    let status = app.queue.ask(|engine| engine.status()).await;
    let now = Instant::now();
    let lag = app.lag.view(now);
    let (sessions, streams) = app.sessions.count();
    let (events_waiting, backlog_bytes) = app.queue.backlog();
    let rates = app.metrics.rates(now);
    let milliseconds = |seconds: f64| (seconds * 1000.0).round() / 1000.0;
    let memory: Map<String, Value> = memory_use(&app, status.as_ref())
        .into_iter()
        .map(|part| {
            let of_part = value!({ "bytes": part.bytes, "limit_bytes": part.limit_bytes });
            (part.part.to_owned(), of_part)
        })
        .collect();
    let body = value!({
        "server": concat!("convoy/", env!("CARGO_PKG_VERSION")),
        "uptime_seconds": now.duration_since(app.started_at).as_secs(),
        "ready": lag.is_ready,
        "lag_bytes": lag.lag_bytes,
        "lag_seconds": milliseconds(lag.lag.as_secs_f64()),
        "live_queries": status.as_ref().map(|status| status.live_queries),
        "identities_watched": status.as_ref().map(|status| status.identities_watched),
        "live_query_bytes": status.as_ref().map(|status| status.memory_bytes),
        "live_query_limit_bytes": status.as_ref().map(|status| status.memory_bytes_max),
        "memory": memory,
        "resident_bytes": resident_bytes(),
        "sessions": sessions,
        "streams": streams,
        "subscriptions": status.as_ref().map(|status| status.subscriptions),
        "replication": {
            "state": lag.stream.as_str(),
            "slot": lag.slot,
            "received_lsn": lag.received.to_string(),
            "confirmed_lsn": lag.confirmed.to_string(),
            "retained_bytes": lag.retained_bytes,
            "reconnects": lag.reconnects,
            "error": lag.error,
            "waiting_for": lag.waiting_for,
            "last_loss": lag.last_loss.map(|(ago, reason)| value!({
                "seconds_ago": milliseconds(ago.as_secs_f64()),
                "reason": reason,
            })),
        },
        "engine": status.as_ref().map(|status| value!({
            "templates": status.templates,
            "dirty_queries": status.dirty_queries,
            "reads": status.reads,
            "transactions_waiting": status.transactions_waiting,
            "events_waiting": events_waiting,
            "backlog_bytes": backlog_bytes,
        })),
        "rates": {
            "transactions_per_second": milliseconds(rates.transactions),
            "changes_per_second": milliseconds(rates.changes),
            "transitions_per_second": milliseconds(rates.transitions),
            "reads_per_second": milliseconds(rates.reads),
        },
    });
    json(body.to_string())
}
