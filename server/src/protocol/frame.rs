//! The stream's events, but for transitions: `hello`, `goodbye`, comments, and what stands in for a refusal.

use super::error::{ApiError, Code};
use super::{PROTOCOL, push_json_str};
use bytes::Bytes;
use std::fmt::Write;
use std::time::Duration;

/// How long a client that should come back waits, in ms.
pub const RETRY_MS: u64 = 1_000;

/// So many clients are asked to come back in a millisecond when the server stops, as long as that takes no longer than
/// this.
const COME_BACK_PER_MS: u64 = 5;
const SPREAD_MS_MAX: u64 = 10_000;

/// The event id that a final `goodbye` leaves with an event source. When it comes back all the same, this is what it
/// says it saw last, and it gets 204: the one answer that keeps it away.
pub const CLOSED_TOKEN: &str = "closed";

/// Why a stream ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Goodbye {
    /// The code: one of the errors', or `SUPERSEDED`.
    pub code: &'static str,
    /// In words.
    pub message: String,
    /// When to come back, in ms; none: don't.
    pub retry_ms: Option<u64>,
    /// Whether the session can then be resumed.
    pub resume: bool,
}

impl Goodbye {
    /// Returns what the older stream of a session is told.
    pub fn superseded() -> Self {
        let message = "a newer stream of this session took over".to_owned();
        Goodbye { code: "SUPERSEDED", message, retry_ms: None, resume: false }
    }

    /// Returns what the streams are told when the server stops, of which this is one of so many: they come back one after
    /// the other, to a server that has just begun.
    pub fn shutting_down(index: usize, streams: usize) -> Self {
        let message = "the server is shutting down".to_owned();
        let spread_ms = (streams as u64 / COME_BACK_PER_MS).min(SPREAD_MS_MAX);
        let place_ms = spread_ms * index as u64 / streams.max(1) as u64;
        Goodbye {
            code: Code::Unavailable.as_str(),
            message,
            retry_ms: Some(RETRY_MS + place_ms),
            resume: false,
        }
    }

    /// Returns what a stream of one query is told that has no query any more.
    pub fn refused(error: &ApiError) -> Self {
        Goodbye {
            code: error.code.as_str(),
            message: error.message.clone(),
            retry_ms: error.is_temporary.then_some(RETRY_MS),
            resume: false,
        }
    }

    /// Returns what a stream is told whose caller is no longer known to be who it was. With a new token it goes on where
    /// it was.
    pub fn expired() -> Self {
        let message = "the token has expired: come back with a new one".to_owned();
        Goodbye {
            code: Code::Unauthorized.as_str(),
            message,
            retry_ms: Some(RETRY_MS),
            resume: true,
        }
    }

    /// Returns what a stream is told whose session belongs to nobody any more: who began it is not who it was.
    pub fn disowned() -> Self {
        let message =
            "who calls is no longer who it was when the stream began: open a new one".to_owned();
        Goodbye {
            code: Code::Unauthorized.as_str(),
            message,
            retry_ms: Some(RETRY_MS),
            resume: false,
        }
    }

    /// Returns what a stream is told whose session the server has ended.
    pub fn session_over() -> Self {
        let message = "the session is over: subscribe again".to_owned();
        Goodbye {
            code: Code::Unavailable.as_str(),
            message,
            retry_ms: Some(RETRY_MS),
            resume: false,
        }
    }
}

/// Returns the first event of a stream.
pub fn hello(session: &str, resumed: bool, heartbeat: Duration) -> Bytes {
    let mut out = String::from("event: hello\ndata: {\"session\":");
    push_json_str(&mut out, session);
    let _ = write!(
        out,
        ",\"resumed\":{resumed},\"protocol\":{PROTOCOL},\"heartbeat_ms\":{},\"server\":\"convoy/{}\"}}\n\n",
        heartbeat.as_millis(),
        env!("CARGO_PKG_VERSION")
    );
    out.into()
}

/// Returns the last event of a stream.
pub fn goodbye(goodbye: &Goodbye) -> Bytes {
    let mut out = String::new();
    match goodbye.retry_ms {
        Some(retry_ms) => {
            let _ = writeln!(out, "retry: {retry_ms}");
        }
        None => {
            let _ = writeln!(out, "id: {CLOSED_TOKEN}");
        }
    }
    out.push_str("event: goodbye\ndata: {\"code\":");
    push_json_str(&mut out, goodbye.code);
    out.push_str(",\"message\":");
    push_json_str(&mut out, &goodbye.message);
    out.push_str(",\"retry_ms\":");
    match goodbye.retry_ms {
        Some(retry_ms) => {
            let _ = write!(out, "{retry_ms}");
        }
        None => out.push_str("null"),
    }
    let _ = write!(out, ",\"resume\":{}}}\n\n", goodbye.resume);
    out.into()
}

/// Returns the whole stream that answers an event source whose request meets a temporary fault: it would give up for
/// good on a status.
pub fn temporary_fault(error: &ApiError) -> Bytes {
    goodbye(&Goodbye {
        code: error.code.as_str(),
        message: error.message.clone(),
        retry_ms: Some(RETRY_MS),
        resume: true,
    })
}

/// Returns a comment: a sign of life that means nothing else.
pub fn comment() -> Bytes {
    Bytes::from_static(b":\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hello_is_the_contracts() {
        let expected = format!(
            "event: hello\ndata: {{\"session\":\"ab\",\"resumed\":false,\"protocol\":1,\"heartbeat_ms\":15000,\
             \"server\":\"convoy/{}\"}}\n\n",
            env!("CARGO_PKG_VERSION")
        );
        assert_eq!(hello("ab", false, Duration::from_secs(15)), expected);
    }

    #[test]
    fn goodbye_says_whether_to_come_back() {
        assert_eq!(
            goodbye(&Goodbye::superseded()),
            "id: closed\nevent: goodbye\ndata: {\"code\":\"SUPERSEDED\",\"message\":\"a newer stream of this session \
             took over\",\"retry_ms\":null,\"resume\":false}\n\n"
        );
        let retry_ms = |index, streams| Goodbye::shutting_down(index, streams).retry_ms;
        assert_eq!((retry_ms(0, 1), retry_ms(3, 4)), (Some(1000), Some(1000)));
        assert_eq!((retry_ms(0, 10_000), retry_ms(9_999, 10_000)), (Some(1000), Some(2999)));
        assert_eq!(retry_ms(999_999, 1_000_000), Some(10_999));
        assert_eq!(
            temporary_fault(&ApiError::no_room("too\nmany")),
            "retry: 1000\nevent: goodbye\ndata: {\"code\":\"LIMIT_EXCEEDED\",\"message\":\"too\\nmany\",\
             \"retry_ms\":1000,\"resume\":true}\n\n"
        );
    }
}
