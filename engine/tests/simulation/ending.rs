//! The end of a schedule: nothing is wrong any more, everything arrives, and every client has what the database has.

use super::clients::{Client, Wish};
use super::schedule::Schedule;
use super::truth::shows;
use super::wishes::serves;
use crate::world::Panel;
use convoy_engine::Event;
use std::sync::Arc;
use std::time::Duration;

impl Schedule {
    pub fn settle(&mut self) {
        self.trace(|_| "settle".to_owned());
        // What is quiet may still have been told to flush only in the next turn.
        let mut quiet_turns = 0;
        self.world.standby_answers = true;
        self.waits = None;
        self.temper.failures = 0.0;
        self.temper.silence = 0.0;
        self.temper.touched = 0.0;
        for at in 0..self.clients.len() {
            if self.clients[at].inbox.is_cut() {
                self.resume(at);
            }
        }
        for turn in 0.. {
            assert!(
                turn < 3_000,
                "seed {}: it never comes to an end: {}",
                self.seed,
                self.unsettled()
            );
            self.turn();
            if turn % 8 == 7 {
                // What is tried again now and then is; who is silent is given up.
                self.leap(Duration::from_secs(1));
            }
            // Where audits go on all the time, something is always being asked.
            let audits = self.engine.status().counters.audits > 0;
            let is_quiet = audits || (self.questions.is_empty() && self.answers.is_empty());
            let is_settled =
                is_quiet && self.engine.status().dirty_queries == 0 && self.is_answered();
            quiet_turns = if is_settled { quiet_turns + 1 } else { 0 };
            if quiet_turns == 5 {
                // What is only noticed by asking now and then is noticed, and what failed last is tried again.
                self.leap(Duration::from_secs(11));
            }
            if quiet_turns > 20 {
                break;
            }
        }
        self.compare_with_database();
        self.hear_heartbeats();
        self.close_all();
    }

    fn turn(&mut self) {
        if !self.stream.is_up() {
            self.mend_stream();
        }
        if self.catalogue_changed {
            self.tell_catalogue();
        }
        while self.world.has_open() {
            self.world.end(&mut self.random);
        }
        self.end_mutations();
        while !self.world.is_all_visible() {
            self.world.show(&mut self.random);
        }
        while self.stream.is_up() && !self.world.streamed().1 {
            self.stream_one();
        }
        self.progress();
        self.answer();
        self.arrive();
        self.tick();
        for at in 0..self.clients.len() {
            self.read(at);
        }
    }

    fn compare_with_database(&self) {
        let seed = self.seed;
        let counters = self.engine.status().counters;
        assert_eq!(counters.audit_mismatches, 0, "seed {seed}");
        let items = self.world.items_after(|_, _| true);
        for client in &self.clients {
            for (sub, (wish, grp)) in &client.subs {
                let Some(panel) = self.panel_of(*wish) else {
                    let is_told = client.in_error.contains(sub);
                    assert!(is_told, "seed {seed}: {sub} does not know that it is gone");
                    continue;
                };
                let rows = client.results.get(sub).expect("it is answered");
                let answer = panel.answer(&items, *grp);
                assert!(
                    shows(rows, answer.clone()),
                    "seed {seed}: session {} {sub} {panel:?} is {rows:?} in the end, not {answer:?}",
                    client.id.0
                );
            }
        }
    }

    /// Every session hears that it is up to date, though nothing happens.
    fn hear_heartbeats(&mut self) {
        self.world.write_wal();
        let lsn = self.world.streamed().0;
        for _ in 0..12 {
            self.leap(Duration::from_secs(2));
            self.turn();
        }
        self.check_all_are_named();
        for client in &self.clients {
            let (seed, id) = (self.seed, client.id.0);
            assert!(client.lsn >= lsn, "seed {seed}: session {id} is at {} for ever", client.lsn);
            assert!(
                client.awaits.is_empty(),
                "seed {seed}: session {id} waits {:?}",
                client.awaits
            );
        }
    }

    /// What live queries take goes with them.
    fn close_all(&mut self) {
        let status = self.engine.status();
        assert!(status.memory_bytes >= status.live_queries << 10, "seed {}: {status:?}", self.seed);
        for at in 0..self.clients.len() {
            let id = self.clients[at].id;
            self.handle(Event::SessionClosed(id));
        }
        let status = self.engine.status();
        assert_eq!(status.live_queries, 0, "seed {}", self.seed);
        // Statements may be kept in case somebody asks again.
        assert!(
            status.memory_bytes <= status.templates * (6 << 10),
            "seed {}: {status:?}",
            self.seed
        );
        self.seen.audits = status.counters.audits;
        self.seen.retaken = status.counters.snapshots_retaken;
    }

    /// Returns what a subscription is to see in the end, where there is something that fits it.
    fn panel_of(&self, wish: Wish) -> Option<Panel> {
        match wish {
            Wish::Panel(panel) => Some(panel),
            Wish::Name(name, _) => self.names[name].last().copied().filter(serves).flatten(),
        }
    }

    fn is_answered(&self) -> bool {
        self.clients
            .iter()
            .all(|client| client.subs.keys().all(|sub| self.is_sub_answered(client, sub)))
            && self.clients.iter().all(|client| client.inbox.len() == 0)
    }

    fn is_sub_answered(&self, client: &Client, sub: &Arc<str>) -> bool {
        let (wish, _) = client.subs[sub];
        let in_error = client.in_error.contains(sub);
        if client.unanswered.contains(sub) {
            return false;
        }
        match self.panel_of(wish) {
            None => in_error,
            // A new version that is no good is told, and what serves goes on.
            Some(_) => {
                let may_be_in_error = matches!(wish, Wish::Name(..)) && in_error;
                let is_fresh = client.stale.get(sub) == Some(&false) && !in_error;
                client.results.contains_key(sub) && (is_fresh || may_be_in_error)
            }
        }
    }

    /// Says what it is that does not come to an end.
    fn unsettled(&self) -> String {
        let mut subs = Vec::new();
        for client in &self.clients {
            for sub in client.subs.keys().filter(|sub| !self.is_sub_answered(client, sub)) {
                subs.push(format!(
                    "session {} {sub} {:?} (stale {:?}, in error {}, unanswered {})",
                    client.id.0,
                    client.subs[sub],
                    client.stale.get(sub),
                    client.in_error.contains(sub),
                    client.unanswered.contains(sub)
                ));
            }
        }
        let status = self.engine.status();
        format!(
            "{} dirty, {} reads, {} answers on their way, streaming {} {:?}; {}",
            status.dirty_queries,
            status.reads,
            self.answers.len(),
            status.streaming,
            self.stream,
            subs.join(", ")
        )
    }
}
