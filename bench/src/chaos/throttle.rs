//! A socket that is read as slowly as somebody wishes, until told otherwise.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

/// How fast it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// As fast as it can be.
    Free,
    /// A byte a second.
    ByteASecond,
    /// Not at all.
    Stopped,
}

/// Sets the pace of sockets.
#[derive(Clone, Debug, Default)]
pub(super) struct Throttle {
    pace: Arc<AtomicU8>,
    /// Whether the system is to hold little for a socket, so that its server notices when it is not read.
    pub(super) has_small_buffers: bool,
}

impl Throttle {
    /// Returns one for sockets that will be read slowly, though they begin freely.
    pub(super) fn for_slow_readers() -> Self {
        Throttle { has_small_buffers: true, ..Throttle::default() }
    }

    /// Sets the pace from now on.
    pub(super) fn set(&self, pace: Pace) {
        self.pace.store(pace as u8, Ordering::Relaxed);
    }

    fn pace(&self) -> Pace {
        match self.pace.load(Ordering::Relaxed) {
            0 => Pace::Free,
            1 => Pace::ByteASecond,
            _ => Pace::Stopped,
        }
    }
}

/// The socket.
pub(super) struct Throttled {
    stream: TcpStream,
    throttle: Throttle,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Throttled {
    /// Reads this socket at this pace.
    pub(super) fn new(stream: TcpStream, throttle: Throttle) -> Self {
        Throttled { stream, throttle, pause: None }
    }
}

impl AsyncRead for Throttled {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let pace = self.throttle.pace();
            if pace == Pace::Free {
                return Pin::new(&mut self.stream).poll_read(cx, buffer);
            }
            let pause = self.pause.get_or_insert_with(|| Box::pin(sleep(Duration::from_secs(1))));
            ready!(pause.as_mut().poll(cx));
            if pace == Pace::Stopped {
                self.pause = None;
                continue;
            }
            let mut one = [0];
            let mut byte = ReadBuf::new(&mut one);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut byte))?;
            buffer.put_slice(byte.filled());
            self.pause = None;
            return Poll::Ready(Ok(()));
        }
    }
}

impl AsyncWrite for Throttled {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
