//! How a stream begins, and what becomes of answers that are late or none.

use crate::world::{Question, Questions, World};
use convoy_engine::{Engine, ErrorCode, Event, Limits, ProbeId, QueryError};
use convoy_types::Lsn;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use std::time::{Duration, Instant};

struct Beginning {
    engine: Engine<Questions>,
    questions: Questions,
    world: World,
    random: SmallRng,
    now: Instant,
}

impl Beginning {
    fn new() -> Self {
        let mut random = SmallRng::seed_from_u64(1);
        let (world, questions) = (World::new(&mut random), Questions::default());
        let now = Instant::now();
        let engine = Engine::new(Limits::default(), questions.clone(), now);
        Beginning { engine, questions, world, random, now }
    }

    fn handle(&mut self, event: Event) {
        self.engine.handle(self.now, event);
        self.engine.flush(self.now);
    }

    /// Returns the probe that was asked for.
    fn probe(&mut self) -> Option<ProbeId> {
        match self.questions.take(&mut self.random) {
            Some(Question::Probe(id)) => Some(id),
            Some(other) => panic!("{other:?} is asked"),
            None => None,
        }
    }

    /// Returns whether there is a line, which takes what the stream says.
    fn has_line(&mut self, lsn: u64) -> bool {
        self.handle(Event::Progress(Lsn(lsn)));
        self.engine.status().received == Lsn(lsn)
    }
}

#[test]
fn p4_an_answer_from_before_the_slot_says_nothing_of_the_line() {
    let mut beginning = Beginning::new();
    beginning.handle(Event::ReplicationStarted);
    let late = beginning.probe().expect("a probe");
    beginning.handle(Event::ReplicationLost);
    beginning.handle(Event::ReplicationStarted);
    let wanted = beginning.probe().expect("another probe");
    let answer = || QueryError::new(ErrorCode::Unavailable, "gone");
    beginning.handle(Event::SnapshotProbed(late, Err(answer())));
    assert!(!beginning.has_line(100));
    let probed = beginning.world.probe();
    beginning.handle(Event::SnapshotProbed(late, Ok(probed.clone())));
    assert!(!beginning.has_line(200));
    beginning.handle(Event::SnapshotProbed(wanted, Ok(probed)));
    assert!(beginning.has_line(300));
}

#[test]
fn a_probe_that_fails_is_sent_again_after_a_pause() {
    let mut beginning = Beginning::new();
    beginning.world.synchronous_standbys = true;
    beginning.handle(Event::ReplicationStarted);
    for waits_for_visibility in [false, true] {
        if waits_for_visibility {
            // Committed and not visible: the standby has not answered.
            beginning.world.commit(&mut beginning.random);
            let transaction = beginning.world.stream().expect("a commit");
            beginning.handle(Event::Committed(transaction));
        }
        for _ in 0..5 {
            let id = beginning.probe().expect("a probe");
            let error = QueryError::new(ErrorCode::Unavailable, "too many clients");
            beginning.handle(Event::SnapshotProbed(id, Err(error)));
            assert_eq!(beginning.probe(), None, "at once");
            beginning.now += Duration::from_millis(250);
            beginning.handle(Event::Tick);
        }
        let id = beginning.probe().expect("a probe");
        let probed = beginning.world.probe();
        beginning.handle(Event::SnapshotProbed(id, Ok(probed)));
        assert!(beginning.has_line(1_000_000 + u64::from(waits_for_visibility)));
    }
}
