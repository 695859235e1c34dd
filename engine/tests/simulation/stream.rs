//! The stream: it brings what commits, is lost at any moment, and begins again with a slot that is new or found.

use super::schedule::Schedule;
use crate::world::{Creation, Telling};
use convoy_engine::Event;
use convoy_types::Lsn;
use rand::Rng;

/// How far the stream's loss and return have got.
#[derive(Debug)]
enum State {
    Up,
    /// It broke off; the engine has not heard.
    Broken,
    /// The engine has heard.
    Lost,
    /// A new slot was asked for.
    Asked(Creation),
}

/// The stream.
#[derive(Debug)]
pub struct Stream {
    state: State,
    /// The position that the slot has: what the engine confirmed while there was a line.
    confirmed: Lsn,
    /// So many transactions are told by their tables alone: the engine is far behind.
    pub behind: usize,
    pub crashes: usize,
}

impl Stream {
    pub fn new() -> Self {
        Stream { state: State::Lost, confirmed: Lsn(0), behind: 0, crashes: 0 }
    }

    pub fn begin(&mut self) {
        self.state = State::Up;
    }

    pub fn is_up(&self) -> bool {
        matches!(self.state, State::Up)
    }
}

impl Schedule {
    /// The stream brings a transaction.
    pub fn stream_one(&mut self) {
        if !self.stream.is_up() {
            return;
        }
        let is_touched = self.stream.behind > 0 || self.random.random_bool(self.temper.touched);
        let telling = match is_touched {
            true => Telling::Touched,
            false => Telling::Rows {
                unchanged_toast: self.temper.unchanged_toast && self.random.random_bool(0.5),
            },
        };
        if let Some(transaction) = self.world.stream_as(telling) {
            self.stream.behind = self.stream.behind.saturating_sub(1);
            let end_lsn = transaction.end_lsn;
            if self.fault.takes(&transaction) {
                return;
            }
            self.handle(Event::Committed(transaction));
            if self.temper.lets_go && self.engine.status().received < end_lsn {
                // There is no line, and it was not kept: the first snapshots show it.
                self.truth.let_go(&self.world, end_lsn);
            }
            self.note_confirmed();
        }
    }

    /// The stream says how far it is, where it has brought everything.
    pub fn progress(&mut self) {
        let (lsn, is_all) = self.world.streamed();
        if is_all && self.stream.is_up() {
            self.handle(Event::Progress(lsn));
            self.note_confirmed();
        }
    }

    /// The slot hears now and then what the engine confirms, which is none of it while there is no line.
    fn note_confirmed(&mut self) {
        if self.random.random_bool(0.3) {
            self.stream.confirmed = self.stream.confirmed.max(self.engine.confirmed());
        }
    }

    pub fn lose(&mut self) {
        if self.stream.is_up() {
            self.seen.losses += 1;
            self.stream.state = State::Broken;
        }
    }

    /// The server crashes and recovers, without the last of what nobody had flushed. Connections that were open are
    /// no more, and nobody has heard of it.
    pub fn crash(&mut self) {
        if self.stream.is_up() {
            self.stream.state = State::Broken;
        }
        let unflushed = self.world.unflushed();
        let vanish = self.random.random_range(0..=unflushed);
        self.seen.crashes += 1;
        self.seen.reused += usize::from(self.world.crash(vanish));
        self.stream.crashes += 1;
        self.open_reads.clear();
        if let State::Asked(_) = self.stream.state {
            self.stream.state = State::Lost;
        }
    }

    pub fn hear_of_loss(&mut self) {
        if let State::Broken = self.stream.state {
            self.stream.state = State::Lost;
            self.handle(Event::ReplicationLost);
        }
    }

    /// Who lost the stream looks for the slot, which may still be there, or asks for another.
    pub fn ask_for_slot(&mut self) {
        let State::Lost = self.stream.state else { return };
        if self.random.random_bool(0.3) && self.world.find_slot(self.stream.confirmed) {
            self.seen.found += 1;
            return self.begin_epoch();
        }
        self.stream.state = State::Asked(self.world.ask_for_slot());
    }

    pub fn slot_is_there(&mut self) {
        let State::Asked(creation) = &self.stream.state else { return };
        if self.world.make_slot(creation) {
            self.stream.confirmed = self.world.streamed().0;
            self.begin_epoch();
        }
    }

    /// Brings the stream back.
    pub fn mend_stream(&mut self) {
        self.hear_of_loss();
        self.ask_for_slot();
        self.slot_is_there();
    }
}
