//! How far behind the engine is, and whether the server may call itself ready.

use super::slot::WalView;
use convoy_types::Lsn;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Points in time that are remembered, to say how old the oldest change is that is not through.
const SAMPLES_MAX: usize = 1024;

/// What the stream is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StreamState {
    /// It is being set up for the first time.
    #[default]
    Connecting,
    /// It streams.
    Streaming,
    /// It was lost, and is being set up again.
    Reconnecting,
}

impl StreamState {
    /// Returns the word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            StreamState::Connecting => "connecting",
            StreamState::Streaming => "streaming",
            StreamState::Reconnecting => "reconnecting",
        }
    }
}

#[derive(Debug, Default)]
struct State {
    stream: StreamState,
    slot: Option<String>,
    received: Lsn,
    confirmed: Lsn,
    /// The server's end of the WAL and what the slot retains, as it was last asked.
    wal_end: Lsn,
    retained_bytes: Option<u64>,
    /// How many transactions the slot that is being made waits for, and which.
    waiting: (usize, String),
    /// When which position had been received, the oldest first; only those that are not confirmed.
    samples: VecDeque<(Instant, Lsn)>,
    was_ready: bool,
    error: Option<String>,
    last_loss: Option<(Instant, String)>,
    reconnects: u64,
}

/// How far behind we are. Replication writes it, whoever wants to know reads it.
#[derive(Debug)]
pub struct Lag {
    state: Mutex<State>,
    ready_lag: Duration,
}

/// What is to be known of it at one moment.
#[derive(Clone, Debug)]
pub struct LagView {
    /// What the stream is doing.
    pub stream: StreamState,
    /// The slot's name, while there is one.
    pub slot: Option<String>,
    /// Up to where the stream was received.
    pub received: Lsn,
    /// Up to where the engine has applied it.
    pub confirmed: Lsn,
    /// WAL that was received and not applied; while there is no stream, all that the server has and is not applied.
    pub lag_bytes: u64,
    /// The age of the oldest change that is not applied.
    pub lag: Duration,
    /// WAL that the slot makes the server keep, as it was last asked.
    pub retained_bytes: Option<u64>,
    /// How many open transactions the slot that is being made waits for.
    pub blockers: usize,
    /// Which they are, in words.
    pub waiting_for: Option<String>,
    /// Whether requests should be sent here.
    pub is_ready: bool,
    /// Why there is no stream.
    pub error: Option<String>,
    /// How long ago the stream was last lost, and why. Stays when there is another one.
    pub last_loss: Option<(Duration, String)>,
    /// How often the stream was lost.
    pub reconnects: u64,
}

impl Lag {
    /// Returns that of a server which has just begun.
    pub fn new(ready_lag: Duration) -> Self {
        Lag { state: Mutex::default(), ready_lag }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the stream runs.
    pub fn streaming(&self, slot: &str, start: Lsn) {
        let mut state = self.lock();
        state.stream = StreamState::Streaming;
        state.slot = Some(slot.to_owned());
        state.received = start;
        state.confirmed = start;
        state.samples.clear();
        state.error = None;
        state.waiting = Default::default();
    }

    /// Notes that the stream is lost.
    pub fn lost(&self, now: Instant, error: String) {
        let mut state = self.lock();
        if state.stream == StreamState::Streaming {
            state.stream = StreamState::Reconnecting;
            state.reconnects += 1;
            state.last_loss = Some((now, error.clone()));
        }
        state.slot = None;
        state.error = Some(error);
        state.waiting = Default::default();
    }

    /// Notes how far the stream and the engine are.
    pub fn progress(&self, now: Instant, received: Lsn, confirmed: Lsn) {
        let mut state = self.lock();
        state.confirmed = state.confirmed.max(confirmed);
        let confirmed = state.confirmed;
        if received > state.received {
            state.received = received;
            if state.samples.len() >= SAMPLES_MAX {
                // Every second one will do: the oldest stays exact.
                let mut position = 0;
                state.samples.retain(|_| {
                    position += 1;
                    position % 2 == 1
                });
            }
            state.samples.push_back((now, received));
        }
        while state.samples.front().is_some_and(|(_, lsn)| *lsn <= confirmed) {
            state.samples.pop_front();
        }
        if state.stream == StreamState::Streaming && state.lag(now) < self.ready_lag {
            state.was_ready = true;
        }
    }

    /// Notes where the WAL ends and what the slot retains; none where nobody knows now.
    pub(super) fn wal(&self, view: Option<&WalView>) {
        let mut state = self.lock();
        state.wal_end = view.map_or(state.wal_end, |view| view.end);
        let slot = view.and_then(|view| view.slot.as_ref());
        state.retained_bytes = slot.map(|slot| slot.retained_bytes);
    }

    /// Notes how many transactions the slot that is being made waits for, and which.
    pub fn waiting(&self, blockers: usize, which: &str) {
        self.lock().waiting = (blockers, which.to_owned());
    }

    /// Returns how much WAL is not applied, as [`LagView::lag_bytes`].
    pub fn lag_bytes(&self) -> u64 {
        self.lock().lag_bytes()
    }

    /// Returns how things stand.
    pub fn view(&self, now: Instant) -> LagView {
        let state = self.lock();
        LagView {
            stream: state.stream,
            slot: state.slot.clone(),
            received: state.received,
            confirmed: state.confirmed,
            lag_bytes: state.lag_bytes(),
            lag: state.lag(now),
            retained_bytes: state.retained_bytes,
            blockers: state.waiting.0,
            waiting_for: (state.waiting.0 > 0).then(|| state.waiting.1.clone()),
            is_ready: state.was_ready && state.stream == StreamState::Streaming,
            error: state.error.clone(),
            last_loss: state
                .last_loss
                .as_ref()
                .map(|(at, reason)| (now.saturating_duration_since(*at), reason.clone())),
            reconnects: state.reconnects,
        }
    }
}

impl State {
    fn lag_bytes(&self) -> u64 {
        // While it streams, what others of the server's databases write is none of ours.
        let end = match self.stream {
            StreamState::Reconnecting => self.received.max(self.wal_end),
            StreamState::Connecting | StreamState::Streaming => self.received,
        };
        end.bytes_since(self.confirmed)
    }

    fn lag(&self, now: Instant) -> Duration {
        let received = self.samples.front().map(|(since, _)| *since);
        let lost = self.last_loss.as_ref().map(|(at, _)| *at);
        // When what came since was written, nobody knows: since the loss at most.
        let is_behind = self.stream == StreamState::Reconnecting && self.lag_bytes() > 0;
        let since = received.or(lost.filter(|_| is_behind));
        since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_once_the_lag_was_small_and_while_it_streams() {
        let lag = Lag::new(Duration::from_secs(10));
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(!lag.view(start).is_ready);
        lag.streaming("s", Lsn(100));
        lag.progress(at(0), Lsn(200), Lsn(0));
        lag.progress(at(1), Lsn(300), Lsn(200));
        let view = lag.view(at(5));
        assert_eq!((view.lag_bytes, view.lag, view.is_ready), (100, Duration::from_secs(4), true));
        // A lag that grows later is no reason to be taken out.
        assert!(lag.view(at(100)).is_ready);
        lag.lost(at(100), "gone".into());
        let view = lag.view(at(101));
        assert_eq!(
            (view.is_ready, view.stream, view.reconnects),
            (false, StreamState::Reconnecting, 1)
        );
        lag.streaming("s", Lsn(400));
        assert!(lag.view(at(102)).is_ready);
        // Whoever comes to look afterwards finds out what it was.
        let loss = Some((Duration::from_secs(2), "gone".to_owned()));
        assert_eq!((lag.view(at(102)).error, lag.view(at(102)).last_loss), (None, loss));
        assert_eq!(lag.view(at(102)).lag, Duration::ZERO);
    }

    #[test]
    fn without_a_stream_it_is_what_the_server_has() {
        let lag = Lag::new(Duration::from_secs(10));
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        lag.streaming("s", Lsn(100));
        lag.progress(at(0), Lsn(200), Lsn(200));
        let view = WalView { end: Lsn(900), slot: None };
        lag.wal(Some(&view));
        assert_eq!((lag.view(at(1)).lag_bytes, lag.view(at(1)).lag), (0, Duration::ZERO));
        lag.lost(at(2), "gone".into());
        lag.waiting(1, "pid 7");
        let seen = lag.view(at(5));
        assert_eq!((seen.lag_bytes, seen.lag), (700, Duration::from_secs(3)));
        assert_eq!((seen.blockers, seen.waiting_for.as_deref()), (1, Some("pid 7")));
        lag.streaming("s", Lsn(900));
        let seen = lag.view(at(6));
        assert_eq!((seen.lag_bytes, seen.lag, seen.waiting_for), (0, Duration::ZERO, None));
    }

    #[test]
    fn many_samples_keep_the_oldest() {
        let lag = Lag::new(Duration::from_secs(10));
        let start = Instant::now();
        lag.streaming("s", Lsn(0));
        for n in 0..3 * SAMPLES_MAX as u64 {
            lag.progress(start + Duration::from_millis(n), Lsn(n + 1), Lsn(0));
        }
        assert_eq!(lag.view(start + Duration::from_secs(7)).lag, Duration::from_secs(7));
    }
}
