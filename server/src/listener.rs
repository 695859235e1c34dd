//! Connections: how many there may be, and how long one may refuse to take what waits for it.
//!
//! hyper asks a stream's body for more only once the peer took what there was, so a peer that reads nothing shows only
//! here, as a write that does not end. For one that reads slowly to look different, the system's own buffer has to be
//! small: it takes more only once a third of it is free.

use crate::error::ServerError;
use axum::serve::Listener;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};

/// After how long to accept again when the system has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What the system may hold of what a peer has not taken, in bytes. Left to itself it grows to megabytes, of which a peer
/// on a slow line does not take a third within any reasonable send timeout; and nothing in there can be collapsed.
const SEND_BUFFER_BYTES: u32 = 192 << 10;

/// Connections that wait to be accepted, as far as the system lets them (net.core.somaxconn). One that finds no room is
/// not refused, but its system tries again only after a second, and then after two.
const BACKLOG: u32 = 16_384;

/// Ports that are tried, beginning with the one that was asked for.
const PORTS_MAX: u16 = 100;

/// Listens at the address, or at the next port that is free.
///
/// # Errors
/// As [`bind`].
pub(crate) async fn bind_next(address: SocketAddr) -> Result<TcpListener, ServerError> {
    let mut next = address;
    let mut tried = 1;
    loop {
        match bind(next).await {
            Err(ServerError::Listen { source, .. })
                if source.kind() == io::ErrorKind::AddrInUse
                    && tried < PORTS_MAX
                    && next.port() < u16::MAX =>
            {
                next.set_port(next.port() + 1);
                tried += 1;
            }
            outcome => return outcome,
        }
    }
}

/// Binds the address that was asked for.
///
/// # Errors
/// [`ServerError::Listen`] where it is taken or not ours.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, ServerError> {
    let listen = || {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        }?;
        // A port whose last connections are still being forgotten is free.
        socket.set_reuseaddr(true)?;
        // Accepted connections inherit it.
        socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    listen().map_err(|source| ServerError::Listen { address, source })
}

/// A listener whose connections are bounded.
pub struct BoundedListener {
    inner: TcpListener,
    connections: Arc<Semaphore>,
    send_timeout: Duration,
}

impl BoundedListener {
    /// Bounds a listener.
    pub fn new(inner: TcpListener, connections_max: usize, send_timeout: Duration) -> Self {
        let permits = connections_max.clamp(1, Semaphore::MAX_PERMITS);
        BoundedListener { inner, connections: Arc::new(Semaphore::new(permits)), send_timeout }
    }
}

impl Listener for BoundedListener {
    type Io = TimedStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TimedStream, SocketAddr) {
        let permit =
            self.connections.clone().acquire_owned().await.expect("the semaphore is never closed");
        loop {
            match self.inner.accept().await {
                Ok((stream, address)) => {
                    // A frame is a message: waiting for another to share its packet only delays it.
                    let _ = stream.set_nodelay(true);
                    let timed = TimedStream {
                        stream,
                        waiting: None,
                        limit: self.send_timeout,
                        _permit: permit,
                    };
                    return (timed, address);
                }
                Err(error) => {
                    tracing::warn!(%error, "accepting a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

/// A connection that breaks when its peer takes nothing for too long.
pub struct TimedStream {
    stream: TcpStream,
    /// Since a write had to wait.
    waiting: Option<Pin<Box<Sleep>>>,
    limit: Duration,
    _permit: OwnedSemaphorePermit,
}

impl TimedStream {
    fn timed<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.waiting = None;
            return written;
        }
        let limit = self.limit;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(limit)));
        match waiting.as_mut().poll(cx) {
            Poll::Ready(()) => {
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer reads nothing")))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for TimedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for TimedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.timed(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.timed(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.timed(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn a_peer_that_reads_nothing_is_given_up() {
        let inner = bind("127.0.0.1:0".parse().expect("an address")).await.expect("a port");
        let address = inner.local_addr().expect("an address");
        let mut listener = BoundedListener::new(inner, 1, Duration::from_millis(50));
        let (accepted, mut peer) = tokio::join!(listener.accept(), async {
            TcpStream::connect(address).await.expect("a connection")
        });
        let (mut stream, _) = accepted;
        stream.write_all(b"hello").await.expect("room");
        let mut greeting = [0; 5];
        peer.read_exact(&mut greeting).await.expect("a greeting");
        // More than both sides' buffers hold.
        let chunk = vec![0; 1 << 20];
        let error = loop {
            match stream.write_all(&chunk).await {
                Ok(()) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_peer_that_reads_slowly_is_not() {
        const BYTES: usize = 6 << 20;
        let inner = bind("127.0.0.1:0".parse().expect("an address")).await.expect("a port");
        let address = inner.local_addr().expect("an address");
        let mut listener = BoundedListener::new(inner, 1, Duration::from_millis(500));
        let (accepted, mut peer) = tokio::join!(listener.accept(), async {
            let socket = TcpSocket::new_v4().expect("a socket");
            socket.set_recv_buffer_size(32 << 10).expect("a small buffer");
            socket.connect(address).await.expect("a connection")
        });
        let (mut stream, _) = accepted;
        let writing =
            tokio::spawn(async move { stream.write_all(&vec![0; BYTES]).await.map(|()| stream) });
        // A megabyte a second.
        let (mut read_bytes, mut buffer) = (0, vec![0; 32 << 10]);
        while read_bytes < BYTES {
            match peer.read(&mut buffer).await.expect("a connection that lasts") {
                0 => panic!("given up after {read_bytes} bytes"),
                bytes => read_bytes += bytes,
            }
            sleep(Duration::from_millis(25)).await;
        }
        writing.await.expect("no panic").expect("all is written");
    }

    #[tokio::test]
    async fn takes_the_next_port_where_one_is_taken() {
        let first = bind_next("127.0.0.1:0".parse().expect("an address")).await.expect("a port");
        let taken = first.local_addr().expect("an address");
        let second =
            bind_next(taken).await.expect("the next port").local_addr().expect("an address");
        assert!(second.port() > taken.port() && second.ip() == taken.ip(), "{taken} {second}");
    }
}
