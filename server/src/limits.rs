//! Every bound of the server: what it counts, its default, its flag, and what happens when it is reached. Those of
//! results are the engine's (`convoy_engine::Limits`).

use clap::Args;
use std::time::Duration;

/// The bounds of requests and sessions, as flags.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Limits")]
pub struct RequestLimits {
    /// The largest request body, in bytes; past it 413
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 20, env = "CONVOY_BODY_BYTES_MAX")]
    pub body_bytes_max: usize,
    /// The largest arguments of one query, in bytes; past it 413, or an error of that subscription
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 10, env = "CONVOY_ARGS_BYTES_MAX")]
    pub args_bytes_max: usize,
    /// Subscriptions in one session; past it 429
    #[arg(long, value_name = "N", default_value_t = 4096, env = "CONVOY_SUBSCRIPTIONS_MAX")]
    pub subscriptions_max: usize,
    /// Names of subscriptions that one session may use in its life; past it 429
    #[arg(long, value_name = "N", default_value_t = 65_536, env = "CONVOY_SUBSCRIPTION_NAMES_MAX")]
    pub subscription_names_max: usize,
    /// Sessions in all; past it 429
    #[arg(long, value_name = "N", default_value_t = 100_000, env = "CONVOY_SESSIONS_MAX")]
    pub sessions_max: usize,
    /// Connections in all, as far as the process may have files open; further ones wait to be accepted
    #[arg(long, value_name = "N", default_value_t = 100_000, env = "CONVOY_CONNECTIONS_MAX")]
    pub connections_max: usize,
    /// How long a session waits to be resumed, in seconds; then it is forgotten
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds, env = "CONVOY_SESSION_TTL")]
    pub session_ttl: Duration,
    /// How often a quiet stream hears that it is up to date, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "15", value_parser = seconds, env = "CONVOY_HEARTBEAT")]
    pub heartbeat: Duration,
    /// How long a client may read nothing of what waits for it, in seconds; then its connection is closed
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds, env = "CONVOY_SEND_TIMEOUT")]
    pub send_timeout: Duration,
    /// How long a request's body may take to arrive, in seconds; then 504
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds, env = "CONVOY_BODY_TIMEOUT")]
    pub body_timeout: Duration,
    /// Transitions that wait for one client; past it they collapse
    #[arg(long, value_name = "N", default_value_t = 64, env = "CONVOY_QUEUE_TRANSITIONS_MAX")]
    pub queue_transitions_max: usize,
    /// Bytes that wait for one client; past it they collapse
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 20, env = "CONVOY_QUEUE_BYTES_MAX")]
    pub queue_bytes_max: usize,
}

/// The bounds of one stream's queue.
#[derive(Clone, Copy, Debug)]
pub struct StreamLimits {
    /// Transitions that wait.
    pub queue_transitions_max: usize,
    /// Bytes that they hold on to, about.
    pub queue_bytes_max: usize,
}

impl RequestLimits {
    /// Returns the bounds of one stream's queue.
    pub fn stream(&self) -> StreamLimits {
        StreamLimits {
            queue_transitions_max: self.queue_transitions_max.max(1),
            queue_bytes_max: self.queue_bytes_max.max(1),
        }
    }
}

impl Default for RequestLimits {
    fn default() -> Self {
        RequestLimits {
            body_bytes_max: 1 << 20,
            args_bytes_max: 64 << 10,
            subscriptions_max: 4096,
            subscription_names_max: 65_536,
            sessions_max: 100_000,
            connections_max: 100_000,
            session_ttl: Duration::from_secs(30),
            heartbeat: Duration::from_secs(15),
            send_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(30),
            queue_transitions_max: 64,
            queue_bytes_max: 1 << 20,
        }
    }
}

/// Bytes of client requests that wait for the engine; further requests wait before they are taken in.
pub const REQUEST_QUEUE_BYTES_MAX: usize = 32 << 20;
/// Bytes of row changes that wait for the engine, however much WAL that is; past it they give way to the tables that they
/// touched. Twice what `--refresh-lag` is by default: rows take more memory than WAL.
pub const BACKLOG_ROW_BYTES_MAX: usize = 128 << 20;
/// Transactions that wait for the engine; past it the stream is given up and everything is read again.
pub const BACKLOG_TRANSACTIONS_MAX: usize = 1 << 20;
/// Events that the engine takes before it publishes what they changed, while more keep coming.
pub const EVENTS_PER_FLUSH_MAX: usize = 1024;

/// Reads a duration in seconds: `15`, `0.5`.
///
/// # Errors
/// Where it is no number of seconds, or none that a clock can count.
pub fn seconds(text: &str) -> Result<Duration, String> {
    text.parse()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .filter(|duration| !duration.is_zero() && *duration < Duration::from_secs(1 << 30))
        .ok_or_else(|| "a number of seconds, like 15 or 0.5".to_owned())
}

/// Reads a duration in seconds, or 0 for none.
///
/// # Errors
/// As [`seconds`].
pub fn seconds_or_none(text: &str) -> Result<Duration, String> {
    if text == "0" { Ok(Duration::ZERO) } else { seconds(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_positive_and_finite() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for wrong in ["", "0", "-1", "inf", "1e300", "5s"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
