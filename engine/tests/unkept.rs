//! Aggregates whose groups can't be kept: they are read again instead, and stay right.

use crate::talk::Talk;
use crate::world::{Item, Panel, Question};
use convoy_engine::{ErrorCode, Event, Limits, QueryError, QueryRead, ReadId};
use std::ops::Range;

/// What groups may take: a few of them fit, and hundreds do not.
const GROUPS_BYTES_MAX: usize = 16 << 10;

/// A talk about groups of a table whose old rows are told.
fn talk(panel: Panel) -> Talk {
    let mut talk =
        Talk::with_limits(Limits { groups_bytes_max: GROUPS_BYTES_MAX, ..Limits::default() });
    talk.world.tell_old_rows();
    talk.subscribe(panel);
    talk.describe(|facts| facts);
    talk
}

/// Whether the live query is kept from the row changes.
fn is_kept(talk: &Talk) -> bool {
    let [query] = talk.engine.live_queries().try_into().expect("one live query");
    query.incremental
}

/// Answers a whole read; says whether it was of the plan's own statement.
fn read(talk: &mut Talk) -> bool {
    let (read, queries, shown) = asked(talk);
    talk.answer(read, &queries, &shown);
    is_of_plan(&queries)
}

/// Lets a read get as far as its queries.
fn asked(talk: &mut Talk) -> (ReadId, Vec<QueryRead>, Vec<bool>) {
    let (read, shown) = talk.snapshot();
    talk.settle();
    let Question::Run(id, queries, _) = talk.question() else { panic!("another question") };
    assert_eq!(id, read);
    (read, queries, shown)
}

/// Answers a whole read with an error; says whether it was of the plan's own statement.
fn fail(talk: &mut Talk, message: &str) -> bool {
    let (read, queries, _) = asked(talk);
    for query in &queries {
        let error = QueryError::new(ErrorCode::InvalidArgs, message);
        talk.handle(Event::QueryRead(read, query.query, Err(error)));
    }
    talk.handle(Event::ReadFinished(read));
    is_of_plan(&queries)
}

fn is_of_plan(queries: &[QueryRead]) -> bool {
    // The plan reads texts, the statement itself stands in a subquery.
    queries.iter().all(|query| query.statement.sql.contains("count(*))::"))
}

/// Commits a row in each of these groups.
fn commit_groups(talk: &mut Talk, groups: Range<i32>) {
    talk.world.commit_rows(groups.map(|grp| Item { id: 1_000 + i64::from(grp), grp, val: 1 }));
    talk.stream();
}

#[test]
fn groups_that_outgrow_their_limit_are_read_again() {
    let panel = Panel::Groups;
    let mut talk = talk(panel);
    assert!(read(&mut talk), "the plan's own statement is read");
    commit_groups(&mut talk, 10..14);
    assert!(is_kept(&talk) && talk.questions.is_empty(), "a few more are kept");
    assert_eq!(talk.shown(panel), Ok(talk.answer_now(panel)));

    let before = talk.shown(panel);
    commit_groups(&mut talk, 20..200);
    assert!(!is_kept(&talk));
    assert_eq!(talk.shown(panel), before, "nothing is shown of what could not be kept");
    assert!(!read(&mut talk), "the statement itself is read");
    assert_eq!(talk.shown(panel), Ok(talk.answer_now(panel)));

    // From now on each change that touches it is read; also when they would fit again.
    for _ in 0..20 {
        talk.commit();
        if !talk.questions.is_empty() {
            assert!(!read(&mut talk));
        }
        assert_eq!(talk.shown(panel), Ok(talk.answer_now(panel)));
    }
    assert!(!is_kept(&talk));
}

#[test]
fn groups_that_are_too_many_from_the_beginning_are_read() {
    let panel = Panel::Groups;
    let mut talk = talk(panel);
    talk.world.commit_rows((0..300).map(|grp| Item { id: 1_000 + i64::from(grp), grp, val: 1 }));
    talk.stream();
    assert!(read(&mut talk));
    assert!(!is_kept(&talk));
    assert!(!read(&mut talk), "what was too much is not shown: the statement itself is read");
    assert_eq!(talk.shown(panel), Ok(talk.answer_now(panel)));
}

#[test]
fn where_the_plan_can_not_be_read_the_statement_is() {
    for panel in [Panel::Groups, Panel::Sum] {
        let mut talk = talk(panel);
        assert!(fail(&mut talk, "target lists can have at most 1664 entries"));
        assert!(!is_kept(&talk));
        assert!(!read(&mut talk));
        assert_eq!(talk.shown(panel), Ok(talk.answer_now(panel)));
        for _ in 0..10 {
            talk.commit();
            if !talk.questions.is_empty() {
                assert!(!read(&mut talk));
            }
            assert_eq!(talk.shown(panel), Ok(talk.answer_now(panel)));
        }
    }
}

#[test]
fn where_neither_can_be_read_the_statements_own_error_is_told() {
    let panel = Panel::Sum;
    let mut talk = talk(panel);
    assert!(fail(&mut talk, "the plan's"));
    assert!(!fail(&mut talk, "integer out of range"));
    assert_eq!(
        talk.shown(panel).map_err(|error| error.message),
        Err("integer out of range".to_owned())
    );

    // A change may be what mends it.
    while talk.questions.is_empty() {
        talk.commit();
    }
    assert!(!read(&mut talk));
    assert_eq!(talk.shown(panel), Ok(talk.answer_now(panel)));
}
