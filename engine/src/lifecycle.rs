//! Beginnings and ends: replication that starts and is lost, what is visible now, and the clock.

use crate::database::{Database, QueryError, Snapshot};
use crate::engine::Engine;
use crate::line::Line;
use crate::live_query::Knowledge;
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// How often the newest snapshot is looked at, at least: it widens transaction ids, and shows what has become visible.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

impl<D: Database> Engine<D> {
    /// Begins a line. All that was known is from before the slot: it is read again, and what differs is sent.
    pub(crate) fn replication_started(&mut self) {
        info!("replication streams");
        self.forget_what_is_not_settled();
        self.streaming = true;
        self.probe.outdated += u32::from(self.probe.in_flight);
        self.probe.in_flight = true;
        self.database.probe_snapshot();
    }

    /// Ends the line. Results stay as they were shown, and are read again when there is a new line
    /// (`docs/postgres.md`, P4).
    pub(crate) fn replication_lost(&mut self) {
        warn!("replication is down: results stay as they are");
        self.forget_what_is_not_settled();
        self.streaming = false;
    }

    fn forget_what_is_not_settled(&mut self) {
        self.last_head = self.head();
        self.line = None;
        self.early.clear();
        self.flush_batch();
        self.abandon_reads();
        self.dissolve_stages();
        let ids: Vec<_> = self.queries.keys().copied().collect();
        for id in ids {
            self.make_dirty(id);
        }
    }

    pub(crate) fn snapshot_probed(&mut self, outcome: Result<Snapshot, QueryError>) {
        if self.probe.outdated > 0 {
            self.probe.outdated -= 1;
            return;
        }
        self.probe.in_flight = false;
        let snapshot = match outcome {
            Ok(snapshot) => snapshot,
            Err(error) => {
                warn!(%error, "could not ask what is visible: trying again");
                self.probe.due = self.now + Duration::from_millis(250);
                return;
            }
        };
        self.probe.due = self.now + PROBE_INTERVAL;
        if let Some(line) = &mut self.line {
            line.see(&snapshot);
            self.advance();
            // What still waits is held by a standby: asked again after 1, 2, 4 … 512 ms.
            let waits = self.line.as_ref().is_some_and(Line::wants_probe);
            self.probe.attempts = if waits { (self.probe.attempts + 1).min(10) } else { 0 };
        } else if self.streaming {
            self.line = Some(Line::new(snapshot, self.last_head));
            let now = self.now;
            for event in std::mem::take(&mut self.early) {
                self.handle(now, event);
            }
        }
    }

    /// Asks what is visible where something waits for that, or it has not been asked for a while.
    pub(crate) fn probe_if_wanted(&mut self) {
        if self.probe.in_flight || !self.streaming {
            return;
        }
        let wanted = self.line.as_ref().is_none_or(Line::wants_probe);
        let is_first_try = wanted && self.probe.attempts == 0 && self.line.is_some();
        if is_first_try || self.now >= self.probe_due() {
            self.probe.in_flight = true;
            self.database.probe_snapshot();
        }
    }

    fn probe_due(&self) -> Instant {
        match self.probe.attempts.checked_sub(1) {
            Some(doublings) => {
                self.probe.due - PROBE_INTERVAL + Duration::from_millis(1 << doublings)
            }
            None => self.probe.due,
        }
    }

    pub(crate) fn tick(&mut self) {
        self.tick_reads();
        self.tick_templates();
        self.tick_queries();
        self.tick_sessions();
    }

    /// Makes queries dirty whose time has come: those on an interval, and those whose last read failed.
    fn tick_queries(&mut self) {
        for id in self.due.take_due(self.now) {
            if self.queries.get(&id).is_some_and(|query| query.knowledge == Knowledge::Known) {
                self.make_dirty(id);
            }
        }
    }

    /// Returns when [`Event::Tick`](crate::Event::Tick) is wanted next.
    pub fn next_deadline(&self) -> Option<Instant> {
        let probe = (self.streaming && !self.probe.in_flight).then(|| self.probe_due());
        let scheduled = [self.retries.next(), self.due.next(), self.reads_deadline(), probe];
        scheduled.into_iter().flatten().chain([self.sessions_deadline()]).min()
    }
}
