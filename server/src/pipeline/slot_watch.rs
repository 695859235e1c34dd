//! What the server says of the slot, asked now and then in the background: also while nothing streams, for a slot that is
//! kept goes on keeping WAL.

use super::lag::Lag;
use super::slot::{self, SlotView, WalView};
use crate::error::chain;
use convoy_postgres::Pool;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tracing::warn;

/// How often the server is asked.
const INTERVAL: Duration = Duration::from_secs(5);

/// Watches one slot at a time.
pub(super) struct SlotWatch {
    /// The slot; without a name, the end of the WAL alone is looked at.
    slot: watch::Sender<Option<String>>,
    latest: watch::Receiver<Option<WalView>>,
    task: JoinHandle<()>,
    warned: bool,
}

impl SlotWatch {
    /// Begins to look, at no slot yet; tells what it sees there.
    pub fn new(pool: Pool, lag: Arc<Lag>) -> Self {
        let (slot, mut names) = watch::channel(None);
        let (sender, latest) = watch::channel(None);
        let task = tokio::spawn(async move {
            let mut is_told = false;
            loop {
                let name: Option<String> = names.borrow_and_update().clone();
                // What was seen of another slot, or of this one before it was made anew, says nothing of this one.
                lag.wal(None);
                sender.send_replace(None);
                let look = async {
                    loop {
                        sleep(INTERVAL).await;
                        match slot::view(&pool, name.as_deref().unwrap_or_default()).await {
                            Ok(view) => {
                                is_told = false;
                                lag.wal(Some(&view));
                                sender.send_replace(Some(view));
                            }
                            Err(error) if !std::mem::replace(&mut is_told, true) => {
                                warn!(error = %chain(&error), "can't say what the slot holds back");
                            }
                            Err(_) => {}
                        }
                    }
                };
                tokio::select! {
                    changed = names.changed() => if changed.is_err() { return },
                    () = look => {}
                }
            }
        });
        SlotWatch { slot, latest, task, warned: false }
    }

    /// Looks at this slot from now on, as if it had never been seen.
    pub fn look_at(&self, slot: Option<&str>) {
        self.slot.send_replace(slot.map(str::to_owned));
    }

    fn slot(&self) -> Option<SlotView> {
        self.latest.borrow().as_ref()?.slot.clone()
    }

    /// Returns how much WAL the engine has not confirmed, by the server's own end of it.
    pub fn unconfirmed_bytes(&self) -> u64 {
        self.slot().map_or(0, |slot| slot.unconfirmed_bytes)
    }

    /// Before 18 the stream ends by itself when a publication is dropped; since 18 it goes on without its changes.
    pub fn publications_are_gone(&self) -> bool {
        self.slot().is_some_and(|slot| !slot.has_publications)
    }

    /// Waits until the slot, which nobody reads, holds back more than so many bytes; returns how many.
    pub async fn abandoned_past(&mut self, max_bytes: u64) -> u64 {
        let past = |view: &Option<WalView>| {
            let slot = view.as_ref()?.slot.as_ref()?;
            let is_past = !slot.is_active && slot.unconfirmed_bytes > max_bytes;
            is_past.then_some(slot.unconfirmed_bytes)
        };
        let seen = self.latest.wait_for(|view| past(view).is_some()).await;
        match seen.ok().and_then(|view| past(&view)) {
            Some(bytes) => bytes,
            // Nobody looks any more.
            None => std::future::pending().await,
        }
    }

    /// Dropping the slot would not help where somebody's open transaction holds the WAL back: a new slot would wait for
    /// the same one. So it is named instead.
    pub fn warn_past(&mut self, max_bytes: u64) {
        let Some(slot) = self.slot().filter(|slot| slot.retained_bytes > max_bytes) else {
            self.warned = false;
            return;
        };
        if !std::mem::replace(&mut self.warned, true) {
            let (pid, age_seconds) = slot.oldest_writer.unzip();
            warn!(
                retained_bytes = slot.retained_bytes,
                pid,
                age_seconds,
                "an open transaction makes the server keep WAL for the slot; `SELECT pg_terminate_backend(pid);` ends \
                 it, and max_slot_wal_keep_size bounds what a slot may keep"
            );
        }
    }
}

impl Drop for SlotWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}
