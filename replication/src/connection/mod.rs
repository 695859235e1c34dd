//! One connection to a walsender: opening it, logging in, asking simple queries, moving bytes.
//!
//! Writes go through a buffer that survives a dropped future, and reads keep no state outside theirs: every wait here
//! can be cancelled without losing a byte. What the stream means is [`crate::stream`]'s concern.

mod auth;
mod channel_binding;
mod frame;
mod server_error;
mod socket;
mod tls;

#[cfg(fuzzing)]
pub(crate) use frame::FrameBuffer as FuzzedFrames;
pub(crate) use frame::{Frame, FrameError};
pub use server_error::ServerError;
pub use tls::TlsSetupError;

use crate::config::ReplicationConfig;
use crate::error::ReplicationError;
use bytes::{Buf, Bytes, BytesMut};
use convoy_types::{DatabaseUrl, Host, SslMode};
use frame::FrameBuffer;
use postgres_protocol::message::frontend;
use socket::{Encryption, Socket};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tracing::debug;

/// How long a request to cancel may take; nobody waits for it.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(2);
/// The most rows that a query of ours may return; each returns a few.
const QUERY_ROWS_MAX: usize = 10_000;

/// One row of a query's result, as text.
pub(crate) type TextRow = Vec<Option<String>>;

/// A logged-in connection.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: Socket,
    input: FrameBuffer,
    /// What is to be sent, from here on.
    output: BytesMut,
    /// Whether sent bytes may still be held in the TLS layer.
    unflushed: bool,
    backend_pid: i32,
    canceller: Canceller,
}

/// What it takes to stop what a backend is doing.
#[derive(Clone, Debug)]
pub(crate) struct Canceller {
    host: Host,
    encryption: Encryption,
    backend_pid: i32,
    secret_key: i32,
}

impl Connection {
    /// Opens a connection to one host, within the time that the configuration allows.
    pub(crate) async fn open(
        config: &ReplicationConfig,
        host: &Host,
        data_bytes_max: usize,
    ) -> Result<Self, ReplicationError> {
        let limit = config.url.connect_timeout;
        let opening = Self::open_by_mode(config, host, data_bytes_max);
        let late = |_| ReplicationError::ConnectTimeout { host: host.to_string(), limit };
        timeout(limit, opening).await.map_err(late)?
    }

    /// Opens a connection, encrypted or not in the order that the mode asks for.
    async fn open_by_mode(
        config: &ReplicationConfig,
        host: &Host,
        data_bytes_max: usize,
    ) -> Result<Self, ReplicationError> {
        let attempt = |encryption| Self::log_in(config, host, encryption, data_bytes_max);
        if matches!(host, Host::Unix { .. }) || config.url.ssl_mode == SslMode::Disable {
            return attempt(Encryption::Never).await;
        }
        let url = config.url.clone();
        let tls = tokio::task::spawn_blocking(move || tls::client_config(&url)).await;
        let tls =
            tls.map_err(|_| ReplicationError::Protocol { what: "the set-up of encryption" })??;
        let (first, second) = match config.url.ssl_mode {
            SslMode::Disable => (Encryption::Never, None),
            SslMode::Allow => (Encryption::Never, Some(Encryption::Always(tls))),
            SslMode::Prefer => (Encryption::IfOffered(tls), Some(Encryption::Never)),
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => {
                (Encryption::Always(tls), None)
            }
        };
        match (attempt(first).await, second) {
            // As libpq has it: the other way helps where the handshake failed or pg_hba.conf refused this one.
            (
                Err(
                    error @ (ReplicationError::TlsHandshake { .. }
                    | ReplicationError::HostRefused { .. }),
                ),
                Some(second),
            ) => attempt(second).await.map_err(|_| error),
            (result, _) => result,
        }
    }

    async fn log_in(
        config: &ReplicationConfig,
        host: &Host,
        encryption: Encryption,
        data_bytes_max: usize,
    ) -> Result<Self, ReplicationError> {
        let url = &config.url;
        let socket = Socket::open(host, &encryption).await?;
        let canceller = Canceller { host: host.clone(), encryption, backend_pid: 0, secret_key: 0 };
        let mut connection = Connection {
            socket,
            input: FrameBuffer::new(data_bytes_max),
            output: BytesMut::new(),
            unflushed: false,
            backend_pid: 0,
            canceller,
        };
        let parameters = startup_parameters(config);
        let parameters = parameters.iter().map(|(name, value)| (*name, value.as_str()));
        frontend::startup_message(parameters, &mut connection.output)
            .map_err(|source| ReplicationError::LogIn { source })?;
        connection.send().await?;
        let ready = async {
            auth::authenticate(&mut connection, url).await?;
            connection.read_until_ready().await.map(drop)
        };
        ready.await.map_err(|error| error.at_log_in(url))?;
        Ok(connection)
    }

    /// Returns the process id of the walsender.
    pub(crate) fn backend_pid(&self) -> i32 {
        self.backend_pid
    }

    /// Returns what it takes to stop what the walsender is doing.
    pub(crate) fn canceller(&self) -> Canceller {
        self.canceller.clone()
    }

    /// Asks a simple query or gives a replication command, and returns the rows.
    pub(crate) async fn query(&mut self, sql: &str) -> Result<Vec<TextRow>, ReplicationError> {
        frontend::query(sql, &mut self.output)
            .map_err(|_| ReplicationError::Protocol { what: "a query with a zero byte" })?;
        self.send().await?;
        self.read_until_ready().await
    }

    /// Gives the command that begins the stream, and waits until the server accepts it.
    pub(crate) async fn start_copy(&mut self, command: &str) -> Result<(), ReplicationError> {
        frontend::query(command, &mut self.output)
            .map_err(|_| ReplicationError::Protocol { what: "a command with a zero byte" })?;
        self.send().await?;
        loop {
            match self.read_frame().await {
                // CopyBothResponse.
                Ok(Frame { tag: b'W', .. }) => return Ok(()),
                Ok(_) => {}
                Err(error @ ReplicationError::Server(_)) => {
                    // The session goes on after a refused command, so that it can be asked why.
                    self.read_until_ready().await?;
                    return Err(error);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads a query's answer to its end.
    async fn read_until_ready(&mut self) -> Result<Vec<TextRow>, ReplicationError> {
        let (mut rows, mut failure) = (Vec::new(), None);
        loop {
            match self.read_frame().await {
                Ok(Frame { tag: b'Z', .. }) => return failure.map_or(Ok(rows), Err),
                Ok(Frame { tag: b'D', body, .. }) => {
                    rows.push(
                        text_row(body)
                            .ok_or(ReplicationError::Protocol { what: "a row of a result" })?,
                    );
                    if rows.len() > QUERY_ROWS_MAX {
                        return Err(ReplicationError::Protocol {
                            what: "the number of a result's rows",
                        });
                    }
                }
                Ok(Frame { tag: b'K', mut body, .. }) => {
                    let error = |_| ReplicationError::Protocol { what: "the backend's process id" };
                    self.backend_pid = body.try_get_i32().map_err(error)?;
                    self.canceller.backend_pid = self.backend_pid;
                    self.canceller.secret_key = body.try_get_i32().map_err(error)?;
                }
                Ok(_) => {}
                Err(error @ ReplicationError::Server(_)) if self.backend_pid != 0 => {
                    failure = Some(error);
                }
                // What the server said before it hung up is the better reason.
                Err(error) => return Err(failure.unwrap_or(error)),
            }
        }
    }

    /// Waits for the next message; the server's notices are passed over and its errors are errors.
    async fn read_frame(&mut self) -> Result<Frame, ReplicationError> {
        loop {
            match self.pop()? {
                Some(frame) => return Ok(frame),
                None => poll_fn(|cx| self.poll_read(cx)).await?,
            }
        }
    }

    /// Takes the next message that is there already.
    pub(crate) fn pop(&mut self) -> Result<Option<Frame>, ReplicationError> {
        while let Some(frame) = self.input.pop()? {
            match frame.tag {
                b'E' => return Err(ReplicationError::Server(ServerError::parse(&frame.body))),
                b'N' => debug!(notice = %ServerError::parse(&frame.body), "the walsender says"),
                // A setting's new value.
                b'S' => {}
                _ => return Ok(Some(frame)),
            }
        }
        Ok(None)
    }

    /// Returns the buffer of what is to be sent.
    pub(crate) fn output(&mut self) -> &mut BytesMut {
        &mut self.output
    }

    /// Sends all that is to be sent.
    pub(crate) async fn send(&mut self) -> Result<(), ReplicationError> {
        poll_fn(|cx| self.poll_send(cx)).await
    }

    /// Sends what the socket takes; ready when all is sent.
    pub(crate) fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ReplicationError>> {
        let lost = |source| ReplicationError::ConnectionLost { source };
        while !self.output.is_empty() {
            let sent =
                ready!(Pin::new(&mut self.socket).poll_write(cx, &self.output)).map_err(lost)?;
            if sent == 0 {
                return Poll::Ready(Err(lost(std::io::ErrorKind::WriteZero.into())));
            }
            self.output.advance(sent);
            self.unflushed = true;
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.socket).poll_flush(cx)).map_err(lost)?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads what the socket has; ready when something came.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ReplicationError>> {
        let read = pin!(self.socket.read_buf(self.input.room()));
        match ready!(read.poll(cx)) {
            Ok(0) => Poll::Ready(Err(ReplicationError::ConnectionClosed)),
            Ok(_) => Poll::Ready(Ok(())),
            Err(source) => Poll::Ready(Err(ReplicationError::ConnectionLost { source })),
        }
    }

    /// Ends the session and waits until the server has closed it, by when its temporary slots are gone.
    pub(crate) async fn close(mut self) -> Result<(), ReplicationError> {
        frontend::terminate(&mut self.output);
        self.send().await?;
        let mut rest = vec![0; 64 * 1024];
        loop {
            match self.socket.read(&mut rest).await {
                Ok(0) | Err(_) => return Ok(()),
                Ok(_) => {}
            }
        }
    }
}

impl Canceller {
    /// Asks the server to stop what the backend is doing. Whether it did, nobody says.
    pub(crate) async fn cancel(self) {
        let request = async {
            let mut socket = Socket::open(&self.host, &self.encryption).await.ok()?;
            let mut request = BytesMut::new();
            frontend::cancel_request(self.backend_pid, self.secret_key, &mut request);
            socket.write_all(&request).await.ok()?;
            socket.flush().await.ok()?;
            // The server closes when it has passed the request on.
            socket.read(&mut [0; 1]).await.ok()
        };
        if timeout(CANCEL_TIMEOUT, request).await.is_err() {
            debug!(pid = self.backend_pid, "no time left to cancel what a walsender waits for");
        }
    }
}

/// Returns the session's settings. As start-up parameters they go before those of the role and the database, which
/// would otherwise change how values are written (P9).
fn startup_parameters(config: &ReplicationConfig) -> Vec<(&'static str, String)> {
    let url: &DatabaseUrl = &config.url;
    let mut parameters = vec![
        ("user", url.user.clone()),
        ("database", url.database.clone()),
        ("replication", "database".to_owned()),
        ("application_name", url.application_name.clone().unwrap_or_else(|| "convoy".to_owned())),
        ("client_encoding", "UTF8".to_owned()),
        ("TimeZone", config.time_zone.clone()),
        ("DateStyle", "ISO".to_owned()),
        ("IntervalStyle", "postgres".to_owned()),
        ("extra_float_digits", "1".to_owned()),
        ("bytea_output", "hex".to_owned()),
        ("lc_monetary", "C".to_owned()),
        ("wal_sender_timeout", config.wal_sender_timeout.as_millis().max(1000).to_string()),
        // Creating a slot waits for other transactions, as long as our caller likes.
        ("lock_timeout", "0".to_owned()),
        ("statement_timeout", "0".to_owned()),
    ];
    if let Some(options) = &url.options {
        parameters.push(("options", options.clone()));
    }
    parameters
}

/// Reads a DataRow in text form.
fn text_row(mut body: Bytes) -> Option<TextRow> {
    let count = usize::from(body.try_get_u16().ok()?);
    // A column takes four bytes at least.
    if count * 4 > body.len() {
        return None;
    }
    let column = |_| match body.try_get_i32().ok()? {
        -1 => Some(None),
        len => {
            let len = usize::try_from(len).ok().filter(|len| *len <= body.len())?;
            Some(Some(String::from_utf8(body.split_to(len).into()).ok()?))
        }
    };
    (0..count).map(column).collect()
}
