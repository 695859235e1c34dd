//! What is invalidated again while it waits is read once.

use crate::talk::Talk;
use crate::world::{Panel, Question};
use convoy_engine::{Event, StatementFacts};
use convoy_types::ReplicaIdentity;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Commits of a burst: some of them touch the query.
const BURST: usize = 16;

/// The table as far as sums over it must be read: its old rows are not told.
fn without_old_rows(mut facts: StatementFacts) -> StatementFacts {
    let mut table = (*facts.tables[0]).clone();
    table.identity = ReplicaIdentity::Default;
    facts.tables = vec![Arc::new(table)];
    facts
}

#[test]
fn a_burst_of_commits_is_one_read() {
    let mut talk = Talk::new();
    talk.subscribe(Panel::Sum);
    talk.describe(without_old_rows);
    talk.read(1);
    let burst = |talk: &mut Talk| (0..BURST).for_each(|_| talk.commit());

    // Before anything is asked, and while the read waits for its locks.
    burst(&mut talk);
    let Question::OpenRead(id) = talk.question() else { panic!("another question") };
    burst(&mut talk);
    assert!(talk.questions.is_empty(), "one read for all of them");
    talk.handle(Event::ReadOpened(id, Ok(BTreeSet::new())));
    let shown = talk.take_snapshot(id);
    talk.settle();
    assert_eq!(talk.run(id, &shown), 1);
    assert!(talk.questions.is_empty(), "nothing is left to be read");
    assert_eq!(talk.engine.status().dirty_queries, 0);
    assert_eq!(talk.engine.status().counters.reads, 2);

    // While it is being read: once more for all that came meanwhile.
    burst(&mut talk);
    let (running, shown) = talk.snapshot();
    talk.settle();
    let Question::Run(id, queries, _) = talk.question() else { panic!("another question") };
    assert_eq!((id, queries.len()), (running, 1));
    burst(&mut talk);
    let (next, shown_next) = talk.snapshot();
    talk.settle();
    talk.answer(running, &queries, &shown);
    assert_eq!(talk.run(next, &shown_next), 1);
    assert!(talk.questions.is_empty(), "nothing is left to be read");
    assert_eq!(talk.engine.status().counters.reads, 4);
}
