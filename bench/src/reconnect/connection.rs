//! A client's stream, read by as little as can be: ten thousand of them share the processors with what is measured.

use anyhow::{Context, bail};
use serde_json::Value;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The longest head or event of a stream, in bytes.
const EVENT_BYTES_MAX: usize = 1 << 20;

/// A stream as it comes: of HTTP/1.0, whose answers are not cut into chunks.
pub(super) struct Connection {
    socket: TcpStream,
    bytes: Vec<u8>,
}

impl Connection {
    pub(super) async fn open(address: SocketAddr, body: &str) -> anyhow::Result<Self> {
        let mut socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        let length = body.len();
        let request = format!(
            "POST /api/sync HTTP/1.0\r\nhost: {address}\r\naccept: text/event-stream\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        socket.write_all(request.as_bytes()).await?;
        Ok(Connection { socket, bytes: Vec::new() })
    }

    /// Waits for the next block of lines: the head or an event; none at the end.
    pub(super) async fn next(&mut self) -> anyhow::Result<Option<String>> {
        loop {
            let ends: [&[u8]; 2] = [b"\n\n", b"\r\n\r\n"];
            let found = ends.into_iter().filter_map(|end| {
                let at = self.bytes.windows(end.len()).position(|window| window == end)?;
                Some(at + end.len())
            });
            if let Some(end) = found.min() {
                let block: Vec<u8> = self.bytes.drain(..end).collect();
                if self.bytes.is_empty() {
                    self.bytes = Vec::new();
                }
                return Ok(Some(String::from_utf8_lossy(&block).into_owned()));
            }
            if self.bytes.len() > EVENT_BYTES_MAX {
                bail!("an event is larger than {EVENT_BYTES_MAX} bytes");
            }
            self.bytes.reserve(2048);
            match self.socket.read_buf(&mut self.bytes).await {
                Ok(0) | Err(_) => return Ok(None),
                Ok(_) => {}
            }
        }
    }
}

#[derive(Debug)]
pub(super) struct Event {
    pub(super) name: String,
    pub(super) id: Option<String>,
    pub(super) data: Value,
}

impl Event {
    /// Reads a block; none for a comment and the answer's head, which must be good.
    pub(super) fn read(block: &str) -> anyhow::Result<Option<Self>> {
        if let Some(head) = block.strip_prefix("HTTP/1.0 ") {
            match head.starts_with("200") {
                true => return Ok(None),
                false => bail!("the server answered {}", head.lines().next().unwrap_or_default()),
            }
        }
        let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
        let (Some(name), Some(data)) = (field("event: "), field("data: ")) else { return Ok(None) };
        let data = serde_json::from_str(data).context("an event's data")?;
        Ok(Some(Event { name: name.to_owned(), id: field("id: ").map(str::to_owned), data }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_no_event() {
        assert!(Event::read("HTTP/1.0 503 Service Unavailable\r\n").is_err());
        let event = Event::read("event: hello\ndata: {\"resumed\":true}\n\n").expect("good");
        assert_eq!(event.expect("an event").data["resumed"], true);
    }
}
