//! The end: the first SIGINT or SIGTERM begins it, the second cuts it short.

use std::io;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tracing::info;

/// The exit status of a process that a second signal stopped.
const STATUS_CUT_SHORT: i32 = 1;

/// Signals that come so close to the first are the same wish: timeout(1), for one, signals a process and then its group.
const ONE_WISH: Duration = Duration::from_millis(300);

/// Listens for signals from here on; the receiver turns true at the first.
///
/// # Errors
/// Where the system lets nobody listen.
pub fn listen() -> io::Result<watch::Receiver<bool>> {
    let (sender, receiver) = watch::channel(false);
    let mut signals = Signals {
        interrupt: signal(SignalKind::interrupt())?,
        terminate: signal(SignalKind::terminate())?,
    };
    tokio::spawn(async move {
        signals.next().await;
        info!("shutting down; once more to stop at once");
        let _ = sender.send(true);
        let one_wish = Instant::now() + ONE_WISH;
        while timeout_at(one_wish, signals.next()).await.is_ok() {}
        signals.next().await;
        std::process::exit(STATUS_CUT_SHORT);
    });
    Ok(receiver)
}

/// Listens for SIGHUP.
///
/// # Errors
/// Where the system lets nobody listen.
pub fn hang_ups() -> io::Result<Signal> {
    signal(SignalKind::hangup())
}

/// Waits until the end has begun.
pub async fn begun(mut receiver: watch::Receiver<bool>) {
    // A sender that is gone never says so: wait with whoever else decides.
    if receiver.wait_for(|stopping| *stopping).await.is_err() {
        std::future::pending::<()>().await;
    }
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
