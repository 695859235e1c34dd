//! Statements of which the database can't be asked for a while: nothing is wrong with them.

use crate::talk::Talk;
use crate::world::{Panel, Question};
use convoy_engine::{ErrorCode, Event, QueryError};
use std::time::Duration;

/// Says of the next statement that the database is away, and lets time pass until it is asked again.
fn turn_away(talk: &mut Talk) {
    let Question::Describe(id, _) = talk.question() else { panic!("another question") };
    let error = QueryError::new(ErrorCode::Unavailable, "terminating connection");
    talk.handle(Event::Described(id, Box::new(Err(error))));
}

fn pass(talk: &mut Talk, time: Duration) {
    talk.now += time;
    talk.handle(Event::Tick);
    talk.answer_probe();
}

#[test]
fn who_subscribes_while_the_database_is_away_waits() {
    let mut talk = Talk::new();
    talk.subscribe(Panel::Group);
    turn_away(&mut talk);
    assert!(!talk.is_told(Panel::Group), "a refusal would be final");
    pass(&mut talk, Duration::from_secs(1));
    talk.describe(|facts| facts);
    talk.read(1);
    assert_eq!(talk.shown(Panel::Group), Ok(talk.answer_now(Panel::Group)));
}

#[test]
fn who_has_waited_for_too_long_is_told_why() {
    let mut talk = Talk::new();
    talk.subscribe(Panel::Group);
    turn_away(&mut talk);
    let patience = talk.limits.first_answer_max;
    pass(&mut talk, patience + Duration::from_secs(1));
    let error = talk.shown(Panel::Group).expect_err("a refusal");
    assert_eq!(error.code, ErrorCode::Unavailable);
    assert!(error.message.ends_with(": terminating connection"), "{}", error.message);
}

#[test]
fn a_result_stays_while_its_statement_cannot_be_analysed_again() {
    let mut talk = Talk::new();
    talk.subscribe(Panel::Group);
    talk.describe(|facts| facts);
    talk.read(1);
    let table = talk.world.facts(Panel::Group).tables[0].id;
    talk.handle(Event::CatalogChanged(vec![table]));
    turn_away(&mut talk);
    talk.commit();
    pass(&mut talk, Duration::from_secs(1));
    assert!(talk.shown(Panel::Group).is_ok(), "nothing was wrong with it");
    talk.describe(|facts| facts);
    talk.read(1);
    assert_eq!(talk.shown(Panel::Group), Ok(talk.answer_now(Panel::Group)));
}

#[test]
fn a_database_that_stays_away_is_told_of_and_the_result_comes_back() {
    let mut talk = Talk::new();
    talk.subscribe(Panel::Group);
    talk.describe(|facts| facts);
    talk.read(1);
    let table = talk.world.facts(Panel::Group).tables[0].id;
    talk.handle(Event::CatalogChanged(vec![table]));
    for _ in 0..7 {
        turn_away(&mut talk);
        pass(&mut talk, Duration::from_secs(11));
    }
    let error = talk.shown(Panel::Group).expect_err("it has been told");
    assert_eq!(error.code, ErrorCode::Unavailable);
    talk.describe(|facts| facts);
    talk.read(1);
    assert_eq!(talk.shown(Panel::Group), Ok(talk.answer_now(Panel::Group)));
}
