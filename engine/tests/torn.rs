//! What a function reads is known only with its answer: a change that came before that may have touched it, though nobody
//! knew, and a session that was to be told the answer at a later point must not be.

use crate::talk::Talk;
use crate::world::{Item, Panel, Question};
use convoy_engine::Event;

/// What a panel shows of the row that row 0 names.
fn shown(talk: &Talk, panel: Panel) -> String {
    let rows = talk.shown(panel).expect("a result");
    rows[0].last().expect("a cell").clone()
}

#[test]
fn a_stage_takes_no_answer_that_a_later_change_has_touched() {
    let mut talk = Talk::new();
    // Then the index tells that a change is of another group.
    talk.world.tell_old_rows();
    talk.subscribe(Panel::Linked);
    talk.subscribe(Panel::Joined);
    talk.answer_everything();
    assert_eq!(
        (shown(&talk, Panel::Linked), shown(&talk, Panel::Joined)),
        ("5".into(), "5".into())
    );

    // Row 0 names another row, 7, of which the function has read nothing until now. Nobody is told where that is read.
    talk.stall();
    talk.world.commit_row(0, Some(Item { id: 0, grp: 0, val: 7 }));
    talk.stream();
    let (first, shown_first) = talk.snapshot();
    talk.settle();
    let Question::Run(id, queries, functions) = talk.question() else { panic!("another question") };
    assert_eq!((id, queries.len(), functions.len()), (first, 1, 1));
    talk.drain();

    // That row changes, which touches the join alone, as far as anybody knows. The session stages with both.
    talk.world.commit_row(7, Some(Item { id: 7, grp: 1, val: 4 }));
    talk.stream();
    let (second, shown_second) = talk.snapshot();
    talk.settle();
    let Question::Run(id, queries_second, functions_second) = talk.question() else {
        panic!("another question")
    };
    assert_eq!((id, queries_second.len(), functions_second.len()), (second, 1, 0));

    // The function's answer is from before that change, and says that it has read the row.
    let answer = talk.world.run(&shown_first, &functions[0]);
    talk.handle(Event::FunctionRead(first, functions[0].query, answer));
    talk.answer(first, &queries, &shown_first);
    talk.answer(second, &queries_second, &shown_second);
    assert_eq!(shown(&talk, Panel::Linked), shown(&talk, Panel::Joined), "one point of the line");
    talk.answer_everything();
    assert_eq!(
        (shown(&talk, Panel::Linked), shown(&talk, Panel::Joined)),
        ("4".into(), "4".into())
    );
}
