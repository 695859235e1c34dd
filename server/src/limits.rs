//! Every bound of the server: what it counts, its default, its flag, and what happens when it is reached. Those of
//! results are the engine's (`convoy_engine::Limits`).
//!
//! Memory has one bound, `--memory-limit`, of which each part has its share, unless its own flag says otherwise:
//!
//! | part | share | what is in it | past it |
//! |---|---|---|---|
//! | results | 12/32 | live queries: results, diffs for slower subscribers | one that would be new is refused (`LIMIT_EXCEEDED`) |
//! | sessions | 4/32 | sessions, their subscriptions, the names that those had | further ones are refused (`LIMIT_EXCEEDED`) |
//! | streams | 4/32 | what waits for clients, from the engine to the socket, shared frames once | what waits for one client collapses to snapshots, from three quarters on; past it new streams and answers are refused (`LIMIT_EXCEEDED`) |
//! | backlog | 6/32 | row changes on their way: a quarter the transaction that is being received, half what waits for the engine, a quarter what waits there for a snapshot | they give way to the tables that they touched, which are read again; where those take too much, too, the stream is given up, and everything is read again |
//! | log | 2/32 | row changes kept for results being read, and before the first snapshot | those results are read once more |
//! | reads | 3/32 | answers on their way from the database to the engine | further rows wait in the database, but for one result at a time |
//! | requests | 1/32 | bodies being read, and requests that wait for the engine | further bytes wait in the network, but for one request at a time |
//!
//! Estimates are of what is kept, not of the allocator's leftovers or the program itself; both are in
//! `process_resident_memory_bytes`. `convoy_memory_bytes` and `convoy_memory_limit_bytes` have each part's use and bound.

use crate::error::ServerError;
use clap::Args;
use std::time::Duration;

/// What may be kept in memory, as flags.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Memory")]
pub struct MemoryLimits {
    /// All that is kept in memory, in bytes, estimated; each part below has a share of what the given ones leave
    #[arg(long, value_name = "BYTES", default_value_t = MEMORY_LIMIT, env = "CONVOY_MEMORY_LIMIT")]
    pub memory_limit: usize,
    /// Live queries, in bytes: their results, and diffs for slower subscribers; past it a subscription that needs a new
    /// one is refused, and the others go on [default: 12/32]
    #[arg(long, value_name = "BYTES", env = "CONVOY_MEMORY_RESULTS")]
    pub memory_results: Option<usize>,
    /// Sessions, in bytes: with their subscriptions, and the names that those had; past it further ones are refused
    /// [default: 4/32]
    #[arg(long, value_name = "BYTES", env = "CONVOY_MEMORY_SESSIONS")]
    pub memory_sessions: Option<usize>,
    /// What waits for clients, in bytes; from three quarters on it collapses to snapshots, past it new streams are refused
    /// [default: 4/32]
    #[arg(long, value_name = "BYTES", env = "CONVOY_MEMORY_STREAMS")]
    pub memory_streams: Option<usize>,
    /// Row changes that are received or wait to be applied, in bytes; past it what they touched is read again
    /// [default: 6/32]
    #[arg(long, value_name = "BYTES", env = "CONVOY_MEMORY_BACKLOG")]
    pub memory_backlog: Option<usize>,
    /// Row changes that are kept for results being read, in bytes; past it those are read once more [default: 2/32]
    #[arg(long, value_name = "BYTES", env = "CONVOY_MEMORY_LOG")]
    pub memory_log: Option<usize>,
    /// Answers on their way from the database, in bytes; past it further rows wait there [default: 3/32]
    #[arg(long, value_name = "BYTES", env = "CONVOY_MEMORY_READS")]
    pub memory_reads: Option<usize>,
    /// Requests that are being read or wait for the engine, in bytes; past it further ones wait [default: 1/32]
    #[arg(long, value_name = "BYTES", env = "CONVOY_MEMORY_REQUESTS")]
    pub memory_requests: Option<usize>,
}

/// The bound of all that is kept, by default.
const MEMORY_LIMIT: usize = 1 << 30;

impl Default for MemoryLimits {
    fn default() -> Self {
        MemoryLimits {
            memory_limit: MEMORY_LIMIT,
            memory_results: None,
            memory_sessions: None,
            memory_streams: None,
            memory_backlog: None,
            memory_log: None,
            memory_reads: None,
            memory_requests: None,
        }
    }
}

/// The bound of each part of memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryParts {
    /// Live queries.
    pub results: usize,
    /// Sessions and their subscriptions.
    pub sessions: usize,
    /// What waits for clients.
    pub streams: usize,
    /// Row changes that are received or wait to be applied.
    pub backlog: usize,
    /// Row changes that are kept for results being read.
    pub log: usize,
    /// Answers on their way from the database.
    pub reads: usize,
    /// Requests on their way to the engine.
    pub requests: usize,
}

impl MemoryLimits {
    /// Divides the whole: parts that are given have what they are given, the others their shares of the rest.
    ///
    /// # Errors
    /// Where the parts that are given are more than the whole.
    pub fn parts(&self) -> Result<MemoryParts, ServerError> {
        let all = [
            (12, self.memory_results),
            (4, self.memory_sessions),
            (4, self.memory_streams),
            (6, self.memory_backlog),
            (2, self.memory_log),
            (3, self.memory_reads),
            (1, self.memory_requests),
        ];
        let given = all.iter().filter_map(|(_, given)| *given).fold(0, usize::saturating_add);
        let Some(rest) = self.memory_limit.checked_sub(given) else {
            return Err(ServerError::Misused(format!(
                "the parts of memory that are given (--memory-results, …) are {given} bytes, more than --memory-limit {}: \
                 raise that, or give them less",
                self.memory_limit
            )));
        };
        let shares: u128 =
            all.iter().filter(|(_, given)| given.is_none()).map(|(share, _)| share).sum();
        let [results, sessions, streams, backlog, log, reads, requests] =
            all.map(|(share, given)| {
                // A share of a whole is no more than the whole.
                given.unwrap_or_else(|| {
                    usize::try_from(rest as u128 * share / shares).unwrap_or(rest)
                })
            });
        Ok(MemoryParts { results, sessions, streams, backlog, log, reads, requests })
    }
}

impl MemoryParts {
    /// Returns what one transaction may take while it is received.
    pub fn transaction(&self) -> usize {
        self.backlog / 4
    }

    /// Returns what row changes may take that wait for the engine.
    pub fn queued(&self) -> usize {
        self.backlog / 2
    }

    /// Returns what row changes may take that wait in the engine for a snapshot.
    pub fn waiting(&self) -> usize {
        self.backlog / 4
    }
}

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
    fn parts_of_memory_are_the_whole() {
        let limits = MemoryLimits::default();
        let parts = limits.parts().expect("shares");
        let sum = |parts: MemoryParts| {
            let MemoryParts { results, sessions, streams, backlog, log, reads, requests } = parts;
            results + sessions + streams + backlog + log + reads + requests
        };
        assert_eq!((sum(parts), parts.results, parts.streams), (1 << 30, 384 << 20, 128 << 20));
        assert_eq!(parts.transaction() + parts.queued() + parts.waiting(), parts.backlog);
        let given = MemoryLimits { memory_results: Some(1 << 29), memory_log: Some(0), ..limits };
        let parts = given.parts().expect("shares of the rest");
        assert_eq!((parts.results, parts.log, parts.streams), (1 << 29, 0, (1 << 29) * 4 / 18));
        assert!((1 << 30) - sum(parts) < 7);
        let too_much = MemoryLimits { memory_reads: Some(1 << 29), memory_limit: 100, ..given };
        assert!(too_much.parts().is_err());
    }

    #[test]
    fn seconds_are_positive_and_finite() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for wrong in ["", "0", "-1", "inf", "1e300", "5s"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
