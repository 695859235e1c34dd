//! What becomes of statements when the catalogue changes under them.

use crate::talk::Talk;
use crate::world::{Panel, Question};
use convoy_engine::{ColumnFacts, Event, StatementFacts};
use convoy_query_index::FieldId;
use convoy_types::Lsn;
use std::sync::Arc;

/// The table after `ALTER TABLE items ADD COLUMN`, if a column could be added in the middle.
fn altered(mut facts: StatementFacts) -> StatementFacts {
    let mut table = (*facts.tables[0]).clone();
    let added = ColumnFacts { name: "added".to_owned(), ..table.columns[2].clone() };
    table.columns.insert(0, added);
    table.primary_key = vec![FieldId(1)];
    facts.tables = vec![Arc::new(table)];
    facts
}

#[test]
fn p7_statements_that_know_a_table_otherwise_are_analysed_again() {
    // Which facts count for the stream was a matter of chance.
    for order in 0..16 {
        let mut talk = Talk::new();
        let (earlier, later): (fn(_) -> _, fn(_) -> _) =
            if order % 2 == 0 { (|facts| facts, altered) } else { (altered, |facts| facts) };
        talk.subscribe(Panel::Group);
        talk.describe(earlier);
        talk.read(1);
        // Described after the ALTER, or by somebody slow from before it; nobody has told of it yet.
        talk.subscribe(Panel::Top);
        talk.describe(later);
        for _ in 0..5 {
            talk.commit();
        }
        // Both again, and now they agree.
        talk.describe(altered);
        talk.describe(altered);
        talk.read(2);
        talk.commit();
        assert_eq!(talk.engine.status().dirty_queries, 0);
    }
}

#[test]
fn p2_what_was_analysed_meanwhile_is_not_read_at_an_older_snapshot() {
    let mut talk = Talk::new();
    talk.subscribe(Panel::Group);
    talk.describe(|facts| facts);
    talk.read(1);
    // Sums are always read.
    talk.subscribe(Panel::Sum);
    talk.describe(|facts| facts);
    // Somebody writes without a table's being published, until it is: the snapshot does not show that.
    talk.world.commit(&mut talk.random);
    let (_, _) = talk.snapshot();
    let table = talk.world.facts(Panel::Sum).tables[0].id;
    talk.handle(Event::CatalogChanged(vec![table]));
    talk.describe(|facts| facts);
    talk.describe(|facts| facts);
    // The old snapshot closes, and nothing is read at it.
    let commit = talk.world.stream().expect("a commit");
    talk.handle(Event::Progress(Lsn(commit.end_lsn.0)));
    while !talk.world.is_all_visible() {
        talk.world.show(&mut talk.random);
    }
    let (newer, shown) = talk.snapshot();
    talk.settle();
    assert_eq!(talk.run(newer, &shown), 2);
    assert_eq!(talk.engine.status().dirty_queries, 0);
}

#[test]
fn a_read_that_is_silent_is_given_up_and_read_again() {
    let mut talk = Talk::new();
    talk.subscribe(Panel::STATEMENTS[0]);
    talk.describe(|facts| facts);
    let silence = talk.limits.read_silence_max;
    // Waiting for its locks.
    assert!(matches!(talk.question(), Question::OpenRead(_)));
    let pass = |talk: &mut Talk| {
        talk.now += silence;
        for _ in 0..2 {
            // Once for the silence, once for the pause after it.
            talk.handle(Event::Tick);
            talk.now += silence / 10;
        }
        talk.handle(Event::Tick);
        talk.answer_probe();
    };
    pass(&mut talk);
    // Running.
    let (read, shown) = talk.snapshot();
    talk.settle();
    assert!(matches!(talk.question(), Question::Run(id, ..) if id == read));
    pass(&mut talk);
    let (again, shown_again) = talk.snapshot();
    talk.settle();
    // What the first one has to say comes too late.
    assert_ne!(read, again);
    assert_eq!(shown, shown_again);
    assert_eq!(talk.run(again, &shown_again), 1);
    assert_eq!(talk.engine.status().dirty_queries, 0);
}
