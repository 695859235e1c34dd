//! A subscriber to the panels, as any client would be one: over HTTP, on one stream, applying what it is told.

use super::panels::PANELS;
use bytes::{Bytes, BytesMut};
use convoy_types::{Lsn, PgTimestamp};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long the head of an answer may take.
const HEAD_MAX: Duration = Duration::from_secs(30);
/// The largest event, in bytes: five results of a few rows each.
const EVENT_BYTES_MAX: usize = 16 << 20;
/// The most that is read of an answer that is no stream, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Why there are no results.
#[derive(Debug, Error)]
pub(crate) enum SubscriberError {
    #[error("connecting to our own server")]
    Connect(#[source] std::io::Error),
    #[error("asking our own server")]
    Http(#[from] hyper::Error),
    #[error("the server did not answer {0} within {HEAD_MAX:?}")]
    NoAnswer(&'static str),
    #[error("the server answered {path} with {status}: {text}")]
    Refused { path: &'static str, status: u16, text: String },
    #[error("the stream ended: {0}")]
    Ended(String),
    #[error("the stream has what the contract does not know: {0}")]
    Unexpected(String),
    #[error("panel {sub}: {message}")]
    Query { sub: String, message: String },
}

/// A row: its key, and its columns.
pub(crate) type Row = (String, Map<String, Value>);

/// One panel's result.
#[derive(Debug, Default)]
pub(crate) struct Panel {
    /// Its rows, in order.
    pub rows: Vec<Row>,
    /// Whether it is at the session's position: it has come, and it is not stale.
    pub is_current: bool,
}

/// What a transition was.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    /// Every commit up to here is in the results.
    pub lsn: Lsn,
    /// When the newest commit in it was made.
    pub committed_at: Option<PgTimestamp>,
    /// When its last byte was here.
    pub received_at: SystemTime,
    /// Whether it changed a result.
    pub is_change: bool,
}

/// The stream, and the results as of its last transition.
pub(crate) struct Subscriber {
    address: SocketAddr,
    session: String,
    body: Incoming,
    buffer: BytesMut,
    panels: HashMap<String, Panel>,
}

#[derive(Deserialize)]
struct Hello {
    session: String,
}

#[derive(Deserialize)]
struct Transition {
    lsn: String,
    committed_at: Option<String>,
    updates: Vec<Update>,
}

// Fields that a kind does not have are none, rather than an enum tagged by the kind: serde reads such an enum by way of a
// buffer in which numbers that keep every digit are no numbers.

#[derive(Deserialize)]
struct Update {
    sub: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    keys: Vec<String>,
    #[serde(default)]
    value: Vec<Map<String, Value>>,
    #[serde(default)]
    ops: Vec<Operation>,
    error: Option<Fault>,
}

#[derive(Deserialize)]
struct Fault {
    message: String,
}

#[derive(Deserialize)]
struct Operation {
    op: String,
    key: String,
    at: Option<usize>,
    row: Option<Map<String, Value>>,
    set: Option<Map<String, Value>>,
}

impl Subscriber {
    /// Subscribes to all panels.
    pub(crate) async fn open(address: SocketAddr) -> Result<Self, SubscriberError> {
        let subscribe: Vec<_> =
            PANELS.iter().map(|panel| json!({"sub": panel.id, "sql": panel.sql})).collect();
        let response = post(address, "/api/sync", json!({"subscribe": subscribe})).await?;
        let panels = PANELS.iter().map(|panel| (panel.id.to_owned(), Panel::default())).collect();
        let mut subscriber = Subscriber {
            address,
            session: String::new(),
            body: response.into_body(),
            buffer: BytesMut::new(),
            panels,
        };
        let (name, data) = subscriber.event().await?;
        if name != "hello" {
            return Err(SubscriberError::Unexpected(format!("{name} before hello")));
        }
        subscriber.session = read::<Hello>(&data)?.session;
        Ok(subscriber)
    }

    /// Waits for the next transition, and applies it. Cancelling it loses nothing.
    pub(crate) async fn next(&mut self) -> Result<Step, SubscriberError> {
        let (name, data) = self.event().await?;
        let received_at = SystemTime::now();
        match name.as_str() {
            "transition" => {}
            "goodbye" => return Err(SubscriberError::Ended(data)),
            _ => return Err(SubscriberError::Unexpected(name)),
        }
        let transition: Transition = read(&data)?;
        let lsn = transition
            .lsn
            .parse()
            .map_err(|_| SubscriberError::Unexpected(transition.lsn.clone()))?;
        let committed_at = transition.committed_at.as_deref().map(|text| {
            PgTimestamp::from_iso_8601(text)
                .ok_or_else(|| SubscriberError::Unexpected(text.to_owned()))
        });
        let is_change = !transition.updates.is_empty();
        for update in transition.updates {
            self.apply(update)?;
        }
        Ok(Step { lsn, committed_at: committed_at.transpose()?, received_at, is_change })
    }

    /// Returns a panel's result.
    pub(crate) fn panel(&self, id: &str) -> Option<&Panel> {
        self.panels.get(id)
    }

    /// Returns whether all panels are at the session's position.
    pub(crate) fn is_current(&self) -> bool {
        self.panels.values().all(|panel| panel.is_current)
    }

    /// Returns what can speak to the session while somebody else follows the stream.
    pub(crate) fn session_handle(&self) -> SessionHandle {
        SessionHandle { address: self.address, path: format!("/api/sync/{}", self.session) }
    }

    fn apply(&mut self, update: Update) -> Result<(), SubscriberError> {
        let sub = update.sub;
        let Some(panel) = self.panels.get_mut(&sub) else {
            return Err(SubscriberError::Unexpected(format!("an update of {sub:?}")));
        };
        panel.is_current = update.kind != "stale";
        match update.kind.as_str() {
            "snapshot" => panel.rows = update.keys.into_iter().zip(update.value).collect(),
            "diff" => {
                let misfit = |what: String| {
                    SubscriberError::Unexpected(format!("{what} in a diff of {sub}"))
                };
                update.ops.into_iter().try_for_each(|op| panel.apply(op).map_err(misfit))?;
            }
            "unchanged" | "stale" => {}
            "error" => {
                let message = update.error.map_or_else(String::new, |error| error.message);
                return Err(SubscriberError::Query { sub, message });
            }
            other => {
                return Err(SubscriberError::Unexpected(format!("an update of type {other:?}")));
            }
        }
        Ok(())
    }

    /// Waits for the next event: its name and its data.
    async fn event(&mut self) -> Result<(String, String), SubscriberError> {
        loop {
            if let Some(event) = take_event(&mut self.buffer) {
                return Ok(event);
            }
            let Some(frame) = self.body.frame().await else {
                return Err(SubscriberError::Ended("without a goodbye".to_owned()));
            };
            if let Some(data) = frame?.data_ref() {
                if self.buffer.len() + data.len() > EVENT_BYTES_MAX {
                    return Err(SubscriberError::Unexpected(format!(
                        "an event of over {EVENT_BYTES_MAX} bytes"
                    )));
                }
                self.buffer.extend_from_slice(data);
            }
        }
    }
}

/// The session, without its stream.
pub(crate) struct SessionHandle {
    address: SocketAddr,
    path: String,
}

impl SessionHandle {
    /// Asks for a transition once the stream has passed `lsn`.
    pub(crate) async fn await_lsn(&self, lsn: Lsn) -> Result<(), SubscriberError> {
        let body = json!({"await": lsn.to_string()});
        post_to(self.address, "/api/sync/{session}", &self.path, body).await.map(drop)
    }
}

impl Panel {
    /// Applies one operation, or says what of it can't be.
    fn apply(&mut self, op: Operation) -> Result<(), String> {
        let Operation { op, key, at, row, set } = op;
        let known = self.rows.iter().position(|(known, _)| *known == key);
        match (op.as_str(), known, at, row, set) {
            ("remove", Some(position), ..) => drop(self.rows.remove(position)),
            ("insert", None, Some(at), Some(row), _) if at <= self.rows.len() => {
                self.rows.insert(at, (key, row))
            }
            ("update", Some(position), _, _, Some(set)) => self.rows[position].1.extend(set),
            ("move", Some(position), Some(at), ..) if at < self.rows.len() => {
                let row = self.rows.remove(position);
                self.rows.insert(at, row);
            }
            (_, known, at, ..) => {
                let known = if known.is_some() { "known" } else { "unknown" };
                return Err(format!(
                    "{op:?} of the {known} key {key:?} at {at:?} of {} rows",
                    self.rows.len()
                ));
            }
        }
        Ok(())
    }
}

/// Takes the first whole event out of the buffer; comments are passed over.
fn take_event(buffer: &mut BytesMut) -> Option<(String, String)> {
    loop {
        let end = buffer.windows(2).position(|pair| pair == b"\n\n")?;
        let block = buffer.split_to(end + 2);
        let text = String::from_utf8_lossy(&block);
        let field = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim_start))
        };
        if let Some(data) = field("data") {
            return Some((field("event").unwrap_or("message").to_owned(), data.to_owned()));
        }
    }
}

fn read<'a, T: Deserialize<'a>>(data: &'a str) -> Result<T, SubscriberError> {
    serde_json::from_str(data).map_err(|error| {
        SubscriberError::Unexpected(format!(
            "{error} in {}",
            data.chars().take(200).collect::<String>()
        ))
    })
}

async fn post(
    address: SocketAddr,
    path: &'static str,
    body: Value,
) -> Result<Response<Incoming>, SubscriberError> {
    post_to(address, path, path, body).await
}

/// Posts over a connection of its own; `name` stands for the path in errors.
async fn post_to(
    address: SocketAddr,
    name: &'static str,
    path: &str,
    body: Value,
) -> Result<Response<Incoming>, SubscriberError> {
    let socket = TcpStream::connect(address).await.map_err(SubscriberError::Connect)?;
    socket.set_nodelay(true).map_err(SubscriberError::Connect)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
    // It ends with its socket; whatever goes wrong with it, the answer's reader hears.
    tokio::spawn(connection);
    let request = Request::post(path)
        .header("host", address.to_string())
        .header("accept", "text/event-stream, application/json")
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body.to_string())))
        .map_err(|error| SubscriberError::Unexpected(error.to_string()))?;
    let response = timeout(HEAD_MAX, sender.send_request(request)).await;
    let response = response.map_err(|_| SubscriberError::NoAnswer(name))??;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let text = match Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await {
        Ok(body) => String::from_utf8_lossy(&body.to_bytes()).into_owned(),
        Err(error) => error.to_string(),
    };
    Err(SubscriberError::Refused { path: name, status: status.as_u16(), text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_whole_or_not_at_all() {
        let mut buffer = BytesMut::from(": here\n\nevent: hello\ndata: {\"a\":1}\n\nevent: tran");
        assert_eq!(take_event(&mut buffer), Some(("hello".to_owned(), "{\"a\":1}".to_owned())));
        assert_eq!(take_event(&mut buffer), None);
        buffer.extend_from_slice(b"sition\nid: x\ndata: {}\n\n");
        assert_eq!(take_event(&mut buffer), Some(("transition".to_owned(), "{}".to_owned())));
    }

    #[test]
    fn operations_apply_in_order() {
        let row = |n: u32| Map::from_iter([("n".to_owned(), json!(n))]);
        let rows = ["1", "2", "3"].map(|key| (key.to_owned(), row(0))).to_vec();
        let mut panel = Panel { rows, is_current: true };
        let ops: Vec<Operation> = read(
            r#"[{"op":"remove","key":"1"},{"op":"insert","key":"9","at":0,"row":{"n":9}},
                {"op":"move","key":"3","at":0},{"op":"update","key":"2","set":{"n":7}}]"#,
        )
        .expect("operations");
        for op in ops {
            panel.apply(op).expect("it fits");
        }
        assert_eq!(
            panel.rows,
            [("3".to_owned(), row(0)), ("9".to_owned(), row(9)), ("2".to_owned(), row(7))]
        );
        for wrong in [
            r#"{"op":"remove","key":"1"}"#,
            r#"{"op":"insert","key":"9","at":0,"row":{}}"#,
            r#"{"op":"move","key":"9","at":9}"#,
        ] {
            assert!(panel.apply(read(wrong).expect("an operation")).is_err(), "{wrong}");
        }
    }
}
