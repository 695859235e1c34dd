//! Functions that fail: whether they are run again, and who hears of it.

use crate::talk::Talk;
use crate::world::{Panel, Question};
use convoy_engine::{
    ErrorCode, Event, FunctionAnswer, Outlook, QueryError, RecordedRead, Statement,
};
use std::sync::Arc;
use std::time::Duration;

fn error(code: ErrorCode, outlook: Outlook) -> QueryError {
    QueryError::new(code, "it fails").with_outlook(outlook)
}

/// Has the function fail that is about to be run.
fn fail(talk: &mut Talk, error: &QueryError, reads: Vec<RecordedRead>) {
    let (read, _) = talk.snapshot();
    talk.settle();
    let Question::Run(_, _, functions) = talk.question() else { panic!("another question") };
    let [function] = &functions[..] else { panic!("{functions:?}") };
    let answer = FunctionAnswer { value: Err(error.clone()), reads };
    talk.handle(Event::FunctionRead(read, function.query, answer));
    talk.handle(Event::ReadFinished(read));
}

/// Lets time pass; returns whether anything is read then.
fn is_run_again(talk: &mut Talk) -> bool {
    for _ in 0..10 {
        talk.now += Duration::from_secs(5);
        talk.handle(Event::Tick);
        talk.answer_probe();
    }
    let question = talk.questions.take(&mut talk.random);
    assert!(matches!(question, None | Some(Question::OpenRead(_))), "{question:?}");
    question.is_some()
}

#[test]
fn only_what_passes_by_itself_is_tried_again_though_nothing_changed() {
    for (code, outlook, again) in [
        (ErrorCode::InvalidArgs, Outlook::Lasts, false),
        (ErrorCode::LimitExceeded, Outlook::Lasts, false),
        (ErrorCode::Internal, Outlook::Lasts, false),
        (ErrorCode::Internal, Outlook::Passes, true),
    ] {
        let mut talk = Talk::new();
        talk.subscribe(Panel::Linked);
        fail(&mut talk, &error(code, outlook), Vec::new());
        assert_eq!(talk.shown(Panel::Linked).expect_err("it failed").code, code);
        assert_eq!(is_run_again(&mut talk), again, "{code:?} {outlook:?}");
    }
}

#[test]
fn what_it_read_before_it_failed_wakes_it() {
    let mut talk = Talk::new();
    let failure = error(ErrorCode::Internal, Outlook::Lasts);
    let reads = || {
        let statement = Statement::recorded(Panel::LinkedGroup.sql()).expect("a statement");
        vec![RecordedRead { statement: Arc::new(statement), args: Arc::new([Some("0".into())]) }]
    };
    talk.subscribe(Panel::Linked);
    // Once to learn what it reads, and once more when that is analysed.
    fail(&mut talk, &failure, reads());
    talk.describe(|facts| facts);
    fail(&mut talk, &failure, reads());
    assert!(talk.shown(Panel::Linked).is_err());
    assert!(!is_run_again(&mut talk));
    let mut is_woken = false;
    for _ in 0..20 {
        talk.commit();
        if let Some(question) = talk.questions.take(&mut talk.random) {
            assert!(matches!(question, Question::OpenRead(_)), "{question:?}");
            is_woken = true;
            break;
        }
    }
    assert!(is_woken, "none of these commits touched the group");
}

#[test]
fn arguments_that_it_does_not_take_end_the_subscription() {
    let mut talk = Talk::new();
    talk.subscribe(Panel::Linked);
    fail(&mut talk, &error(ErrorCode::InvalidArgs, Outlook::OtherArguments), Vec::new());
    assert_eq!(talk.shown(Panel::Linked).expect_err("it failed").code, ErrorCode::InvalidArgs);
    assert_eq!(talk.engine.status().live_queries, 0);
    assert!(!is_run_again(&mut talk));
}
