//! The stream of committed transactions.
//!
//! One task does all: it reads as much as the socket has, cuts and decodes it without waking up again, and answers
//! the server in between. There is no queue here: what is not asked for stays in the socket, and the walsender waits.
//! So whoever calls [`ReplicationStream::next`] must not stop for longer than `wal_sender_timeout`.

use crate::assembler::{Assembler, Budget, Extent};
use crate::config::ReplicationConfig;
use crate::connection::{Connection, Frame};
use crate::error::ReplicationError;
use crate::session::{ReplicationSession, ServerIdentity};
use crate::slot::{self, Slot};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use convoy_types::{Lsn, PgTimestamp, Transaction};
use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, timeout};
use tracing::debug;

/// How long the server may take to end the session and drop a temporary slot.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// XLogData's start, end and time (PostgreSQL manual, 55.4 "Streaming Replication Protocol"): where the change lies,
/// which says nothing about which commits were received (P5).
const DATA_HEADER_BYTES: usize = 24;

/// What the stream brings.
#[derive(Clone, Debug)]
pub enum StreamEvent {
    /// A transaction committed.
    Committed(Transaction),
    /// Nothing that concerns us happened before this position: every transaction that committed before it was
    /// delivered.
    Progress {
        /// The position.
        wal_end: Lsn,
    },
}

/// A running stream from a slot.
#[derive(Debug)]
pub struct ReplicationStream {
    connection: Connection,
    assembler: Assembler,
    slot: Slot,
    identity: ServerIdentity,
    /// The greatest of Commit's `end_lsn` and keepalive's `wal_end`.
    received: Lsn,
    /// The greatest of keepalive's `wal_end`.
    keepalive: Lsn,
    /// The end of the last transaction that was handed out.
    delivered: Lsn,
    /// Up to where the caller needs no WAL any more.
    confirmed: Lsn,
    /// Whether `received` grew by keepalives that were not told yet.
    progress_is_due: bool,
    /// Whether the server is to be told how far we are as soon as it can be.
    status_is_due: bool,
    tick: Interval,
    /// When bytes last came.
    heard: Instant,
    /// Since when the server was asked for a sign of life.
    asked: Option<Instant>,
    silence_max: Duration,
}

impl ReplicationStream {
    /// Logs in, makes the slot or takes it over, and begins to stream: [`ReplicationSession::open`] and
    /// [`ReplicationSession::start`] in one.
    ///
    /// # Errors
    /// Those of the two.
    pub async fn connect(config: ReplicationConfig) -> Result<Self, ReplicationError> {
        ReplicationSession::open(config).await?.start().await
    }

    pub(crate) fn new(
        connection: Connection,
        slot: Slot,
        identity: ServerIdentity,
        budget: Budget,
        config: &ReplicationConfig,
    ) -> Self {
        // Silence is noticed on a tick, too.
        let period = config.status_interval.min(config.wal_sender_timeout / 4);
        let mut tick = interval(period.max(Duration::from_millis(10)));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ReplicationStream {
            connection,
            assembler: Assembler::new(budget),
            identity,
            received: slot.start,
            keepalive: slot.start,
            delivered: slot.start,
            confirmed: slot.start,
            slot,
            progress_is_due: false,
            status_is_due: false,
            tick,
            heard: Instant::now(),
            asked: None,
            silence_max: config.wal_sender_timeout,
        }
    }

    /// Returns which server this is.
    pub fn identity(&self) -> ServerIdentity {
        self.identity
    }

    /// Returns the walsender's process id.
    pub fn backend_pid(&self) -> i32 {
        self.connection.backend_pid()
    }

    /// Returns the slot's name.
    pub fn slot_name(&self) -> &str {
        &self.slot.name
    }

    /// Returns where the stream began: it brings all that committed after this position.
    pub fn start_lsn(&self) -> Lsn {
        self.slot.start
    }

    /// Returns up to where every commit has been received: the `recv` of P5.
    pub fn received(&self) -> Lsn {
        self.received
    }

    /// Waits for the next event. Cancel-safe: dropping the future loses nothing.
    ///
    /// # Errors
    /// The stream is over after any error.
    pub async fn next(&mut self) -> Result<StreamEvent, ReplicationError> {
        loop {
            if let Some(event) = self.next_buffered()? {
                return Ok(event);
            }
            poll_fn(|cx| self.poll_wait(cx)).await.map_err(slot::in_stream)?;
        }
    }

    /// Returns the next event if it is here already, so that all that waits can be taken as one batch.
    ///
    /// # Errors
    /// The stream is over after any error.
    pub fn next_buffered(&mut self) -> Result<Option<StreamEvent>, ReplicationError> {
        while let Some(frame) = self.connection.pop().map_err(slot::in_stream)? {
            if let Some(transaction) = self.take(frame)? {
                self.received = self.received.max(transaction.end_lsn);
                self.delivered = self.delivered.max(transaction.end_lsn);
                // The commit says more than the keepalives before it.
                self.progress_is_due = false;
                return Ok(Some(StreamEvent::Committed(transaction)));
            }
        }
        Ok(std::mem::take(&mut self.progress_is_due)
            .then_some(StreamEvent::Progress { wal_end: self.received }))
    }

    /// Lets the server know that WAL before this position is not needed any more: everything up to it was dealt
    /// with. Sent within the status interval. Never goes back, nor past what was received.
    pub fn confirm(&mut self, position: Lsn) {
        self.confirmed = self.confirmed.max(position.min(self.received));
    }

    /// Ends the stream, after a last word on what was confirmed. A temporary slot is gone when this returns, unless
    /// the server took longer than 2 s.
    pub async fn shutdown(mut self) {
        self.put_status(Reply::NotNeeded);
        if !matches!(timeout(CLOSE_TIMEOUT, self.connection.close()).await, Ok(Ok(()))) {
            debug!(slot = self.slot.name, "the server did not end the session in time");
        }
    }

    fn take(&mut self, frame: Frame) -> Result<Option<Transaction>, ReplicationError> {
        match frame {
            Frame { tag: b'd', body, is_whole } => self.take_data(body, is_whole),
            // CopyDone and what follows it: the server is shutting down, and hangs up next.
            _ => Ok(None),
        }
    }

    fn take_data(
        &mut self,
        mut body: Bytes,
        is_whole: bool,
    ) -> Result<Option<Transaction>, ReplicationError> {
        let error = |_| ReplicationError::Protocol { what: "a message of the stream" };
        match body.try_get_u8().map_err(error)? {
            b'w' if body.len() > DATA_HEADER_BYTES => {
                body.advance(DATA_HEADER_BYTES);
                let extent = if is_whole { Extent::Whole } else { Extent::Head };
                Ok(self.assembler.push(body, extent)?)
            }
            b'k' => {
                let wal_end = Lsn(body.try_get_u64().map_err(error)?);
                let _sent_at = body.try_get_i64().map_err(error)?;
                self.status_is_due |= body.try_get_u8().map_err(error)? != 0;
                self.keepalive = self.keepalive.max(wal_end);
                if self.keepalive > self.received {
                    self.received = self.keepalive;
                    self.progress_is_due = true;
                }
                Ok(None)
            }
            _ => Err(ReplicationError::Protocol { what: "a message of the stream" }),
        }
    }

    /// Ready when something came. Tells the server how far we are meanwhile.
    fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ReplicationError>> {
        let now = Instant::now();
        if self.tick.poll_tick(cx).is_ready() {
            // Registers for the next one.
            let _ = self.tick.poll_tick(cx);
            self.status_is_due = true;
        }
        if self.status_is_due && self.connection.output().is_empty() {
            self.status_is_due = false;
            let reply = self.need_of_reply(now);
            self.put_status(reply);
        }
        if let Poll::Ready(Err(error)) = self.connection.poll_send(cx) {
            return Poll::Ready(Err(self.last_words(cx).unwrap_or(error)));
        }
        match self.connection.poll_read(cx) {
            Poll::Ready(result) => {
                self.heard = now;
                self.asked = None;
                Poll::Ready(result)
            }
            // Only now: what lay in the socket while nobody asked for it is no silence.
            Poll::Pending => match self.asked {
                Some(asked) if now.duration_since(asked) > self.silence_max / 2 => {
                    Poll::Ready(Err(ReplicationError::Silent {
                        silence: now.duration_since(self.heard),
                    }))
                }
                _ => Poll::Pending,
            },
        }
    }

    /// Returns the error that the server sent before it closed the connection under our hands.
    fn last_words(&mut self, cx: &mut Context<'_>) -> Option<ReplicationError> {
        while let Poll::Ready(Ok(())) = self.connection.poll_read(cx) {
            loop {
                match self.connection.pop() {
                    Err(error) => return Some(error),
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                }
            }
        }
        None
    }

    /// Returns whether to ask for an answer: the server, hearing from us, sees no need to speak itself.
    fn need_of_reply(&mut self, now: Instant) -> Reply {
        if self.asked.is_none() && now.duration_since(self.heard) >= self.silence_max / 2 {
            self.asked = Some(now);
            return Reply::Wanted;
        }
        Reply::NotNeeded
    }

    /// Writes a standby status update (PostgreSQL manual, 55.4 "Streaming Replication Protocol").
    fn put_status(&mut self, reply: Reply) {
        let flushed = self.flush_position();
        let received = self.received;
        let output: &mut BytesMut = self.connection.output();
        output.put_u8(b'd');
        output.put_u32(4 + 1 + 8 + 8 + 8 + 8 + 1);
        output.put_u8(b'r');
        output.put_u64(received.0);
        output.put_u64(flushed.0);
        output.put_u64(flushed.0);
        output.put_i64(now_timestamp().0);
        output.put_u8(match reply {
            Reply::Wanted => 1,
            Reply::NotNeeded => 0,
        });
    }

    /// Returns up to where the server may let WAL go. Where the caller has confirmed all that it was given, the WAL
    /// since then holds nothing for us: so the slot of an idle database moves, too.
    fn flush_position(&self) -> Lsn {
        if self.confirmed >= self.delivered {
            self.confirmed.max(self.keepalive)
        } else {
            self.confirmed
        }
    }
}

/// Whether a status update asks the server to answer at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reply {
    Wanted,
    NotNeeded,
}

fn now_timestamp() -> PgTimestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    PgTimestamp::from_unix_micros(i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX))
}
