//! As much of an HTTP client as is needed: one request, one connection.

use anyhow::{Context, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// The most that is read of an answer that is no stream, in bytes.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// How long the head of an answer may take. A first answer that needs long comes on the stream.
const HEAD_LIMIT: Duration = Duration::from_secs(30);

/// Sends a GET and returns the answer's status and text.
pub(crate) async fn get(address: SocketAddr, path: &str) -> anyhow::Result<(u16, String)> {
    let response = send(address, Method::GET, path, None).await?;
    let status = response.status().as_u16();
    Ok((status, text(response).await?))
}

/// Opens a stream of events, by POST where there is a body.
pub(crate) async fn open_stream(
    address: SocketAddr,
    path: &str,
    body: Option<String>,
) -> anyhow::Result<Incoming> {
    let socket = connect(address).await?;
    open_stream_over(socket, address, path, body).await
}

/// Opens a stream of events over a connection that is there.
pub(crate) async fn open_stream_over(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    address: SocketAddr,
    path: &str,
    body: Option<String>,
) -> anyhow::Result<Incoming> {
    let method = if body.is_some() { Method::POST } else { Method::GET };
    let response = send_over(io, address, method, path, body).await?;
    if response.status() != 200 {
        bail!("the server answered {} to {path}: {}", response.status(), text(response).await?);
    }
    Ok(response.into_body())
}

async fn send(
    address: SocketAddr,
    method: Method,
    path: &str,
    body: Option<String>,
) -> anyhow::Result<Response<Incoming>> {
    send_over(connect(address).await?, address, method, path, body).await
}

async fn connect(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let socket = TcpStream::connect(address)
        .await
        .with_context(|| format!("could not connect to {address}"))?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

async fn send_over(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    address: SocketAddr,
    method: Method,
    path: &str,
    body: Option<String>,
) -> anyhow::Result<Response<Incoming>> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await?;
    // It ends with its connection; what goes wrong with it the body tells.
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", address.to_string())
        .header("accept", "text/event-stream, application/json")
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body.unwrap_or_default())))?;
    let response = tokio::time::timeout(HEAD_LIMIT, sender.send_request(request)).await;
    response
        .with_context(|| format!("no answer to {path} within {} s", HEAD_LIMIT.as_secs()))?
        .with_context(|| format!("no answer to {path}"))
}

async fn text(response: Response<Incoming>) -> anyhow::Result<String> {
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!("could not read the answer: {error}"))?;
    Ok(String::from_utf8_lossy(&body.to_bytes()).into_owned())
}

/// Encodes a text for a query string (RFC 3986, 2.3: all but the unreserved characters).
pub(crate) fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte))
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sql_fits_into_a_query_string() {
        assert_eq!(percent_encoded("a = $1"), "a%20%3D%20%241");
    }
}
