//! A subscriber that keeps what it is shown, comes back where its stream breaks, and is compared at the end.

use super::mirror::Shown;
use super::throttle::{Throttle, Throttled};
use crate::http::{open_stream_over, percent_encoded};
use crate::sse::EventReader;
use anyhow::Context;
use serde_json::{Map, Value};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpSocket;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// What a slow reader's system holds for it, in bytes: little, so that the server notices.
const RECEIVE_BUFFER_BYTES: u32 = 8 << 10;
/// How soon one comes back whose stream broke, where the server names no time.
const BACK_AFTER: Duration = Duration::from_millis(500);

/// What all subscribers of a case share.
#[derive(Debug, Default)]
pub(super) struct Common {
    /// Streams that ended and were gone on with.
    pub(super) came_back: AtomicU64,
    /// Streams that were refused, to be tried again.
    pub(super) refused: AtomicU64,
    /// Set by a test of the comparison itself: the next diff is thrown away.
    pub(super) loses_one: AtomicBool,
    changed: Notify,
}

/// A subscriber.
pub(super) struct Watcher {
    pub(super) sql: String,
    state: Arc<Mutex<State>>,
    common: Arc<Common>,
    reader: JoinHandle<()>,
}

#[derive(Default)]
struct State {
    shown: Shown,
    fault: Option<String>,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watcher {
    /// Subscribes, and reads on at the pace that the throttle says, by and by.
    pub(super) fn start(
        address: SocketAddr,
        sql: &str,
        throttle: Throttle,
        common: &Arc<Common>,
    ) -> Self {
        let state = Arc::default();
        let path = format!("/api/sql?sql={}", percent_encoded(sql));
        let reader =
            tokio::spawn(read(address, path, throttle, Arc::clone(&state), common.clone()));
        Watcher { sql: sql.to_owned(), state, common: common.clone(), reader }
    }

    /// Waits for the first answer.
    pub(super) async fn answered(&self) -> anyhow::Result<()> {
        self.until(|state| state.shown.is_answered()).await
    }

    async fn until(&self, condition: impl Fn(&State) -> bool) -> anyhow::Result<()> {
        loop {
            let mut changed = std::pin::pin!(self.common.changed.notified());
            changed.as_mut().enable();
            {
                let state = lock(&self.state);
                if let Some(fault) = &state.fault {
                    anyhow::bail!("{fault}");
                }
                if condition(&state) {
                    return Ok(());
                }
            }
            changed.await;
        }
    }

    /// Waits until it shows these rows; after this time returns what differs.
    pub(super) async fn shows(
        &self,
        expected: &[Map<String, Value>],
        patience: Duration,
    ) -> Result<(), String> {
        let shows = self.until(|state| state.shown.difference(expected).is_none());
        match tokio::time::timeout(patience, shows).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(fault)) => Err(fault.to_string()),
            Err(_) => {
                let difference = lock(&self.state).shown.difference(expected);
                difference.map_or(Ok(()), Err)
            }
        }
    }

    /// Returns snapshots after the first, and diffs.
    pub(super) fn counts(&self) -> (u64, u64) {
        let state = lock(&self.state);
        (state.shown.snapshots, state.shown.diffs)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

async fn read(
    address: SocketAddr,
    path: String,
    throttle: Throttle,
    state: Arc<Mutex<State>>,
    common: Arc<Common>,
) {
    loop {
        let after = match stream(address, &path, &throttle, &state, &common).await {
            Ok(after) => after,
            Err(Broken::Stream) => BACK_AFTER,
            Err(Broken::Rules(error)) => {
                lock(&state).fault = Some(format!("{error:#}"));
                return common.changed.notify_waiters();
            }
        };
        common.came_back.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(after).await;
    }
}

/// Why a stream is not read any more.
enum Broken {
    /// It broke off, and may be gone on with.
    Stream,
    /// It said what can't be.
    Rules(anyhow::Error),
}

/// Reads one stream to its end; returns after how long to come back.
async fn stream(
    address: SocketAddr,
    path: &str,
    throttle: &Throttle,
    state: &Mutex<State>,
    common: &Common,
) -> Result<Duration, Broken> {
    let token = lock(state).shown.token.clone();
    let path = match token {
        Some(token) => format!("{path}&resume={}", percent_encoded(&token)),
        None => path.to_owned(),
    };
    let socket = TcpSocket::new_v4().map_err(|_| Broken::Stream)?;
    // The buffer is set before the connection: it goes into the handshake.
    if throttle.has_small_buffers {
        let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES);
    }
    let socket = socket.connect(address).await.map_err(|_| Broken::Stream)?;
    let io = Throttled::new(socket, throttle.clone());
    let body = open_stream_over(io, address, &path, None).await.map_err(|_| Broken::Stream)?;
    let mut reader = EventReader::new(body);
    while let Some(event) = reader.next().await.map_err(|_| Broken::Stream)? {
        match event.name.as_str() {
            "transition" => {
                let loses = event.data.contains(r#""type":"diff""#)
                    && common.loses_one.swap(false, Ordering::Relaxed);
                let mut state = lock(state);
                if !loses {
                    state.shown.apply(&event.data, event.at).map_err(Broken::Rules)?;
                }
                state.shown.token = event.id.or(state.shown.token.take());
                drop(state);
                common.changed.notify_waiters();
            }
            "goodbye" => {
                let goodbye: Value = serde_json::from_str(&event.data)
                    .context("a goodbye is no JSON")
                    .map_err(Broken::Rules)?;
                let Some(retry_ms) = goodbye["retry_ms"].as_u64() else {
                    return Err(Broken::Rules(anyhow::anyhow!("told to stay away: {goodbye}")));
                };
                if goodbye["code"] == "LIMIT_EXCEEDED" {
                    common.refused.fetch_add(1, Ordering::Relaxed);
                }
                return Ok(Duration::from_millis(retry_ms));
            }
            _ => {}
        }
    }
    Err(Broken::Stream)
}
