//! A plain HTTP client, and a reader of event streams.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{HeaderMap, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longer than anything takes that works.
const PATIENCE: Duration = Duration::from_secs(30);

/// An answer that has ended.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The code of an error.
    pub fn code(&self) -> String {
        self.json()["error"]["code"]
            .as_str()
            .unwrap_or_else(|| panic!("no error: {}", self.body))
            .to_owned()
    }
}

/// Sends a request; the answer's body is still to come.
pub async fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Response<Incoming> {
    let stream = TcpStream::connect(address).await.expect("a connection");
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
    tokio::spawn(async move {
        // The server may end it.
        let _ = connection.await;
    });
    let mut request = Request::builder().method(method).uri(path);
    if !headers.iter().any(|(name, _)| *name == "host") {
        request = request.header("host", address.to_string());
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::from(body.to_owned()))).expect("a request");
    timeout(PATIENCE, sender.send_request(request)).await.expect("in time").expect("an answer")
}

/// Sends a request and waits for the whole answer.
pub async fn ask(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let response = send(address, method, path, headers, body).await;
    let (parts, body) = response.into_parts();
    let body =
        timeout(PATIENCE, body.collect()).await.expect("in time").expect("a body").to_bytes();
    let body = String::from_utf8(body.to_vec()).expect("UTF-8");
    Answer { status: parts.status, headers: parts.headers, body }
}

pub async fn get(address: SocketAddr, path: &str) -> Answer {
    ask(address, "GET", path, &[], "").await
}

pub async fn post(address: SocketAddr, path: &str, body: &str) -> Answer {
    ask(address, "POST", path, &[("content-type", "application/json")], body).await
}

/// One event.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamEvent {
    pub name: String,
    pub id: Option<String>,
    pub data: Value,
}

/// A stream that is being read.
pub struct EventStream {
    pub status: StatusCode,
    pub headers: HeaderMap,
    body: Incoming,
    text: String,
}

impl EventStream {
    pub async fn open(
        address: SocketAddr,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> EventStream {
        let mut all = vec![("accept", "text/event-stream")];
        all.extend_from_slice(headers);
        let (parts, body) = send(address, method, path, &all, body).await.into_parts();
        EventStream { status: parts.status, headers: parts.headers, body, text: String::new() }
    }

    /// The next event; none at the stream's end.
    pub async fn next(&mut self) -> Option<StreamEvent> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                if let Some(event) = read_event(&block) {
                    return Some(event);
                }
                // A comment.
                continue;
            }
            let frame = timeout(PATIENCE, self.body.frame()).await.expect("an event in time")?;
            let Ok(data) = frame.expect("a frame").into_data() else { continue };
            self.text.push_str(std::str::from_utf8(&data).expect("frames end between characters"));
        }
    }

    /// The next event, which must be this one.
    pub async fn expect(&mut self, name: &str) -> StreamEvent {
        let event = self.next().await.unwrap_or_else(|| panic!("the stream ended before a {name}"));
        assert_eq!(event.name, name, "{event:?}");
        event
    }

    /// The next transition that says something.
    pub async fn transition(&mut self) -> StreamEvent {
        loop {
            let event = self.expect("transition").await;
            if event.data["updates"].as_array().is_some_and(|updates| !updates.is_empty()) {
                return event;
            }
        }
    }
}

fn read_event(block: &str) -> Option<StreamEvent> {
    let (mut name, mut id, mut data) = (String::new(), None, Vec::new());
    for line in block.lines() {
        match line.split_once(": ") {
            Some(("event", value)) => name = value.to_owned(),
            Some(("id", value)) => id = Some(value.to_owned()),
            Some(("data", value)) => data.push(value),
            Some(("retry", _)) => {}
            _ => assert!(line.starts_with(':'), "an unknown line: {line:?}"),
        }
    }
    if name.is_empty() && data.is_empty() {
        return None;
    }
    let [data] = data[..] else { panic!("an event has one data line: {block:?}") };
    Some(StreamEvent { name, id, data: serde_json::from_str(data).expect("JSON") })
}
