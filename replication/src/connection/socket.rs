//! The bytes' way to the server: TCP, TCP with TLS, or a Unix socket.

use crate::error::ReplicationError;
use convoy_types::Host;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Asks the server whether it speaks TLS (PostgreSQL manual, 55.7 "Message Formats": SSLRequest).
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// Whether to encrypt one attempt.
#[derive(Clone, Debug)]
pub(super) enum Encryption {
    Never,
    IfOffered(Arc<ClientConfig>),
    Always(Arc<ClientConfig>),
}

/// An open way to the server.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Unix(UnixStream),
}

impl Socket {
    /// Opens the way to a host. Unix sockets are never encrypted.
    pub(super) async fn open(
        host: &Host,
        encryption: &Encryption,
    ) -> Result<Self, ReplicationError> {
        let error = |source| ReplicationError::Connect { host: host.to_string(), source };
        match host {
            Host::Unix { directory, port } => {
                let path = directory.join(format!(".s.PGSQL.{port}"));
                UnixStream::connect(path).await.map(Socket::Unix).map_err(error)
            }
            Host::Tcp { name, port } => {
                let mut socket = TcpStream::connect((name.as_str(), *port)).await.map_err(error)?;
                socket.set_nodelay(true).map_err(error)?;
                let (Encryption::IfOffered(tls) | Encryption::Always(tls)) = encryption else {
                    return Ok(Socket::Tcp(socket));
                };
                socket.write_all(&SSL_REQUEST).await.map_err(error)?;
                // One byte and no more: bytes that were slipped in before the handshake must not pass for the
                // server's.
                match socket.read_u8().await.map_err(error)? {
                    b'S' => {}
                    b'N' if matches!(encryption, Encryption::IfOffered(_)) => {
                        return Ok(Socket::Tcp(socket));
                    }
                    _ => return Err(ReplicationError::TlsRefused { host: host.to_string() }),
                }
                let tls_error =
                    |source| ReplicationError::TlsHandshake { host: host.to_string(), source };
                let server_name = ServerName::try_from(name.clone()).map_err(|_| {
                    tls_error(io::Error::new(
                        io::ErrorKind::InvalidInput,
                        "the host's name is none that TLS knows",
                    ))
                })?;
                let stream = TlsConnector::from(Arc::clone(tls)).connect(server_name, socket);
                Ok(Socket::Tls(Box::new(stream.await.map_err(tls_error)?)))
            }
        }
    }

    /// Returns the certificate that the server showed, if the way is encrypted.
    pub(super) fn peer_certificate(&self) -> Option<&[u8]> {
        match self {
            Socket::Tls(socket) => Some(socket.get_ref().1.peer_certificates()?.first()?),
            Socket::Tcp(_) | Socket::Unix(_) => None,
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Tcp(socket) => Pin::new(socket).poll_read(cx, buffer),
            Socket::Tls(socket) => Pin::new(socket).poll_read(cx, buffer),
            Socket::Unix(socket) => Pin::new(socket).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Socket::Tcp(socket) => Pin::new(socket).poll_write(cx, bytes),
            Socket::Tls(socket) => Pin::new(socket).poll_write(cx, bytes),
            Socket::Unix(socket) => Pin::new(socket).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Tcp(socket) => Pin::new(socket).poll_flush(cx),
            Socket::Tls(socket) => Pin::new(socket).poll_flush(cx),
            Socket::Unix(socket) => Pin::new(socket).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Tcp(socket) => Pin::new(socket).poll_shutdown(cx),
            Socket::Tls(socket) => Pin::new(socket).poll_shutdown(cx),
            Socket::Unix(socket) => Pin::new(socket).poll_shutdown(cx),
        }
    }
}
