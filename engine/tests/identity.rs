//! The watch of who a session belongs to: it stands in the session's cuts, from the first on, and is nobody's subscription.

use crate::talk::Talk;
use crate::world::{Panel, Question};
use convoy_engine::{
    Argument, ErrorCode, Event, FunctionAnswer, FunctionRead, IDENTITY_SUB, Limits, QueryError,
    QueryReference, ReadId, SessionId, Statement,
};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// A function that says who calls by the rows of a group: the world runs it as it runs any.
fn by_group(grp: i32) -> QueryReference {
    let args = [grp.to_string(), "ann".to_owned()].map(|arg| Some(Argument::String(arg)));
    QueryReference::fixed(Arc::new(Statement::identity("who()")), args.into())
}

fn watch(talk: &mut Talk, by: Option<QueryReference>) {
    talk.handle(Event::IdentityWatched { session: SessionId(1), by });
}

/// A function that was asked and not answered, with what its snapshot shows.
type Withheld = Vec<(ReadId, FunctionRead, Vec<bool>)>;

/// Answers all that is asked but what functions say.
fn answer_all_but_functions(talk: &mut Talk) -> Withheld {
    let mut shown_at = HashMap::new();
    let mut withheld = Vec::new();
    while !talk.questions.is_empty() {
        match talk.question() {
            Question::Describe(id, panel) => {
                let facts = talk.world.facts(panel);
                talk.handle(Event::Described(id, Box::new(Ok(facts))));
            }
            Question::OpenRead(id) => talk.handle(Event::ReadOpened(id, Ok(BTreeSet::new()))),
            Question::TakeSnapshot(id) => {
                let (snapshot, shown) = talk.world.snapshot();
                shown_at.insert(id, shown);
                talk.handle(Event::SnapshotTaken(id, Ok(snapshot)));
                talk.settle();
            }
            Question::Run(id, queries, functions) => {
                let shown = shown_at.remove(&id).expect("a snapshot");
                for query in &queries {
                    let rows = talk.world.read(&shown, query);
                    talk.handle(Event::QueryRead(id, query.query, Ok(rows)));
                }
                if functions.is_empty() {
                    talk.handle(Event::ReadFinished(id));
                }
                withheld.extend(functions.into_iter().map(|one| (id, one, shown.clone())));
            }
            Question::Probe(id) => {
                let probed = talk.world.probe();
                talk.handle(Event::SnapshotProbed(id, Ok(probed)));
            }
            Question::Cast(..) => panic!("nothing has to be cast"),
        }
    }
    withheld
}

fn answer(talk: &mut Talk, withheld: Withheld) {
    for (read, function, shown) in withheld {
        let answer = talk.world.run(&shown, &function);
        talk.handle(Event::FunctionRead(read, function.query, answer));
        talk.handle(Event::ReadFinished(read));
    }
}

fn answer_all(talk: &mut Talk) {
    loop {
        match answer_all_but_functions(talk) {
            withheld if withheld.is_empty() => return,
            withheld => answer(talk, withheld),
        }
    }
}

/// Returns a talk whose session is watched by a group and shows it.
fn watched() -> Talk {
    let mut talk = Talk::new();
    watch(&mut talk, Some(by_group(0)));
    talk.subscribe(Panel::Group);
    answer_all(&mut talk);
    assert_eq!(talk.shown(Panel::Group), Ok(talk.answer_now(Panel::Group)));
    talk
}

/// Commits until the group is another; returns what it was.
fn change_group(talk: &mut Talk) -> Vec<Vec<String>> {
    let before = talk.answer_now(Panel::Group);
    while talk.answer_now(Panel::Group) == before {
        talk.commit();
    }
    before
}

#[test]
fn nothing_is_shown_of_a_cut_before_it_is_known_there() {
    let mut talk = Talk::new();
    watch(&mut talk, Some(by_group(0)));
    talk.subscribe(Panel::Group);
    let withheld = answer_all_but_functions(&mut talk);
    assert!(!talk.is_told(Panel::Group), "not even the first answer");
    // What it reads by has to be analysed, and then it has to say it again.
    answer(&mut talk, withheld);
    let withheld = answer_all_but_functions(&mut talk);
    assert!(!talk.is_told(Panel::Group));
    answer(&mut talk, withheld);
    assert_eq!(talk.shown(Panel::Group), Ok(talk.answer_now(Panel::Group)));

    // The rows are kept from the changes themselves, and are known at once.
    let before = change_group(&mut talk);
    let withheld = answer_all_but_functions(&mut talk);
    assert_eq!(talk.shown(Panel::Group), Ok(before));
    answer(&mut talk, withheld);
    answer_all(&mut talk);
    assert_eq!(talk.shown(Panel::Group), Ok(talk.answer_now(Panel::Group)));
}

#[test]
fn an_error_is_told_with_the_cut_that_it_is_of() {
    let mut talk = watched();
    change_group(&mut talk);
    for (read, function, shown) in answer_all_but_functions(&mut talk) {
        let FunctionAnswer { reads, .. } = talk.world.run(&shown, &function);
        let value = Err(QueryError::new(ErrorCode::Unauthorized, "gone"));
        assert_eq!(talk.error_of(IDENTITY_SUB), None);
        talk.handle(Event::FunctionRead(read, function.query, FunctionAnswer { value, reads }));
        talk.handle(Event::ReadFinished(read));
    }
    let error = talk.error_of(IDENTITY_SUB).expect("it is told");
    assert_eq!(error.code, ErrorCode::Unauthorized);
}

#[test]
fn it_holds_a_session_up_no_longer_than_anything() {
    let mut talk = watched();
    change_group(&mut talk);
    let withheld = answer_all_but_functions(&mut talk);
    for _ in 0..2 {
        talk.now += talk.limits.max_hold + Duration::from_millis(100);
        talk.handle(Event::Tick);
    }
    assert_eq!(talk.shown(Panel::Group), Ok(talk.answer_now(Panel::Group)));
    answer(&mut talk, withheld);
    answer_all(&mut talk);
    // It is in the cuts again.
    let before = change_group(&mut talk);
    let withheld = answer_all_but_functions(&mut talk);
    assert_eq!(talk.shown(Panel::Group), Ok(before));
    answer(&mut talk, withheld);
}

#[test]
fn one_takes_the_place_of_another() {
    let mut talk = watched();
    watch(&mut talk, Some(by_group(0)));
    assert!(talk.questions.is_empty(), "who shows the same is not asked again");
    watch(&mut talk, Some(by_group(1)));
    let before = talk.shown(Panel::Group);
    change_group(&mut talk);
    let withheld = answer_all_but_functions(&mut talk);
    assert_eq!(talk.shown(Panel::Group), before, "it is to be known first");
    answer(&mut talk, withheld);
    answer_all(&mut talk);
    assert_eq!(talk.shown(Panel::Group), Ok(talk.answer_now(Panel::Group)));
    // Without one nothing is waited for.
    watch(&mut talk, None);
    change_group(&mut talk);
    assert_eq!(talk.shown(Panel::Group), Ok(talk.answer_now(Panel::Group)));
    talk.handle(Event::IdentitiesDoubted);
    assert!(answer_all_but_functions(&mut talk).is_empty());
}

#[test]
fn other_code_is_asked_again() {
    let mut talk = watched();
    talk.handle(Event::IdentitiesDoubted);
    let withheld = answer_all_but_functions(&mut talk);
    assert_eq!(withheld.len(), 1);
    answer(&mut talk, withheld);
}

#[test]
fn it_is_nobodys_subscription_and_goes_with_its_session() {
    let mut talk = watched();
    let status = talk.engine.status();
    assert_eq!((status.live_queries, status.identities_watched), (1, 1));
    assert_eq!(status.subscriptions, 1);
    let listed = talk.engine.live_queries();
    let shown = listed.iter().find(|query| query.name.is_some()).expect("it has a name");
    let claim = Some("(claim)".to_owned());
    assert_eq!(shown.args, [claim.clone(), claim], "what a caller showed is not");
    let bytes_before = status.memory_bytes;
    talk.handle(Event::SessionClosed(SessionId(1)));
    let status = talk.engine.status();
    assert_eq!((status.live_queries, status.identities_watched), (0, 0));
    // Statements stay, in case that somebody asks again.
    assert!(status.memory_bytes + (2 << 10) < bytes_before, "{status:?}");
}

#[test]
fn without_room_for_it_there_is_no_session() {
    let mut talk = Talk::with_limits(Limits { memory_bytes_max: 1000, ..Limits::default() });
    watch(&mut talk, Some(by_group(0)));
    let error = talk.error_of(IDENTITY_SUB).expect("it is told");
    assert_eq!(error.code, ErrorCode::LimitExceeded);
}
