//! Beginnings and ends: replication that starts and is lost, what is visible now, and the clock.

use crate::database::{Database, ProbeId, ProbeKind, Probed, QueryError};
use crate::early::Early;
use crate::engine::Engine;
use crate::line::Line;
use crate::live_query::Knowledge;
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// How often the newest snapshot is looked at, at least: it widens transaction ids, and shows what has become visible.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// Between two turns in which nothing but live queries in the index moves: half of the time is for others.
const MOVES_PAUSE: Duration = Duration::from_millis(1);

impl<D: Database> Engine<D> {
    /// Begins a line. All that was known is from before the slot: it is read again, and what differs is sent.
    pub(crate) fn replication_started(&mut self) {
        info!("replication streams");
        self.forget_what_is_not_settled();
        self.streaming = true;
        // One that is on its way may have been taken before there was a slot.
        self.ask_probe(ProbeKind::Beginning);
    }

    fn ask_probe(&mut self, kind: ProbeKind) {
        let id = self.next_probe_id();
        self.probe.in_flight = Some(id);
        self.database.probe_snapshot(id, kind);
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
        self.early = Early::default();
        self.flush_batch();
        self.abandon_reads();
        self.dissolve_stages();
        self.make_all_dirty();
    }

    fn make_all_dirty(&mut self) {
        let ids: Vec<_> = self.queries.ids().collect();
        for id in ids {
            self.make_dirty(id);
        }
    }

    /// Reads everything again where a transaction has become visible that the stream will never bring: its commit
    /// record lies before the slot, and it was seen by nobody until later.
    pub(crate) fn read_what_was_overlooked(&mut self) {
        if self.line.as_mut().is_some_and(Line::overlooked) {
            info!(
                "a transaction from before the slot has become visible: everything is read again"
            );
            self.make_all_dirty();
        }
    }

    pub(crate) fn snapshot_probed(&mut self, id: ProbeId, outcome: Result<Probed, QueryError>) {
        if self.probe.in_flight != Some(id) {
            return;
        }
        self.probe.in_flight = None;
        let Probed { snapshot, open } = match outcome {
            Ok(probed) => probed,
            Err(error) => {
                warn!(%error, "could not ask what is visible: trying again");
                self.probe.due = self.now + Duration::from_millis(250);
                self.probe.attempts = self.probe.attempts.max(1);
                return;
            }
        };
        self.probe.answered = id;
        if let Some(line) = &mut self.line {
            line.see(&snapshot);
            self.advance();
            // What still waits is held by a standby: asked again after 1, 2, 4 … 512 ms.
            let waits = self.line.as_ref().is_some_and(Line::wants_probe);
            self.probe.attempts = if waits { (self.probe.attempts + 1).min(10) } else { 0 };
            if self.line.as_ref().is_some_and(Line::may_have_overlooked) {
                // The line stands until the stream has got as far as this snapshot.
                self.database.flush_wal();
            }
        } else if self.streaming {
            let mut line = Line::new(snapshot, &open, self.last_head);
            let early = std::mem::take(&mut self.early);
            early.let_go().for_each(|xid| line.let_go(xid));
            line.progress(early.received);
            for transaction in early.transactions {
                line.receive(transaction, self.now);
            }
            self.line = Some(line);
            self.probe.attempts = 0;
            self.advance();
        }
        let pause = self.probe.attempts.checked_sub(1);
        self.probe.due = self.now
            + pause.map_or(PROBE_INTERVAL, |doublings| Duration::from_millis(1 << doublings));
    }

    /// Asks what is visible where something waits for that, or it has not been asked for a while.
    pub(crate) fn probe_if_wanted(&mut self) {
        if self.probe.in_flight.is_some() || !self.streaming {
            return;
        }
        let waits = self.line.as_ref().is_some_and(Line::wants_probe);
        if (waits && self.probe.attempts == 0) || self.now >= self.probe.due {
            let begins = self.line.is_none();
            self.ask_probe(if begins { ProbeKind::Beginning } else { ProbeKind::Newest });
        }
    }

    pub(crate) fn tick(&mut self) {
        self.tick_reads();
        self.tick_templates();
        self.tick_queries();
        self.tick_audit();
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
        let may_probe = self.streaming && self.probe.in_flight.is_none();
        let probe = may_probe.then_some(self.probe.due);
        let audit = self.audit_deadline();
        // What is on its way in the index goes on a little after each turn.
        let moves = self.index.is_moving().then_some(self.now + MOVES_PAUSE);
        let scheduled =
            [self.retries.next(), self.due.next(), self.reads_deadline(), probe, audit, moves];
        scheduled.into_iter().flatten().chain([self.sessions_deadline()]).min()
    }
}
