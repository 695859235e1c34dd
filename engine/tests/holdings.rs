//! A join whose result holds rows of its inner table: other rows' changes are spared while the result is known, and not
//! while it is read.

use crate::talk::Talk;
use crate::world::{Item, Panel, Question};
use convoy_engine::Event;

/// Subscribes to a join, of whose inner table row 5 alone is held, and answers it.
fn joined(panel: Panel) -> Talk {
    let mut talk = Talk::new();
    talk.world.tell_old_rows();
    talk.subscribe(panel);
    talk.describe(|facts| facts);
    talk.read(1);
    talk
}

impl Talk {
    fn put(&mut self, id: i64, grp: i32, val: i32) {
        self.world.commit_row(id, Some(Item { id, grp, val }));
        self.stream();
    }

    /// Changes what the join shows of a row of its inner table, and nothing that decides whether it shows it: the first time,
    /// the second.
    fn show(&mut self, panel: Panel, id: i64, time: i32) {
        match panel {
            Panel::Joined => self.put(id, 1, 20 + time),
            // Its order is by `val`.
            _ => self.put(id, 1 + time % 2, 5),
        }
    }

    fn delete(&mut self, id: i64) {
        self.world.commit_row(id, None);
        self.stream();
    }

    /// Reads what is dirty; returns whether anything was.
    fn reads(&mut self) -> bool {
        if self.questions.is_empty() {
            return false;
        }
        let (read, shown) = self.snapshot();
        self.settle();
        assert_eq!(self.run(read, &shown), 1);
        true
    }
}

#[test]
fn rows_that_are_not_held_are_spared() {
    for panel in [Panel::Joined, Panel::TopJoined] {
        let mut talk = joined(panel);
        // Of group 1, which is not asked for, and in nobody's `val`.
        talk.show(panel, 4, 1);
        talk.show(panel, 7, 1);
        talk.delete(10);
        assert!(!talk.reads(), "{panel:?}");
        talk.show(panel, 5, 2);
        assert!(talk.reads(), "{panel:?}: row 5 is held");
        talk.delete(5);
        assert!(talk.reads(), "{panel:?}: row 5 is held");
        talk.delete(4);
        assert!(!talk.reads(), "{panel:?}");
        talk.put(5, 1, 5);
        assert!(talk.reads(), "{panel:?}: a row that comes may be asked for");
        talk.put(0, 0, 7);
        assert!(talk.reads(), "{panel:?}: one of the group changes");
        talk.show(panel, 7, 2);
        assert!(talk.reads(), "{panel:?}: row 7 is held now");
        talk.handle(Event::SessionClosed(convoy_engine::SessionId(1)));
        talk.show(panel, 7, 1);
        assert!(!talk.reads(), "{panel:?}: nobody asks");
    }
}

#[test]
fn nothing_is_spared_while_a_result_is_read() {
    for panel in [Panel::Joined, Panel::TopJoined] {
        let mut talk = joined(panel);
        // Row 7 comes to be held by what is read now. That it was not held before is of no interest.
        talk.put(0, 0, 7);
        let (read, shown) = talk.snapshot();
        talk.settle();
        let Question::Run(id, queries, _) = talk.question() else { panic!("it does not run") };
        assert_eq!(id, read);
        talk.show(panel, 7, 1);
        let (next, shown_next) = talk.snapshot();
        talk.settle();
        // The older answer comes, and says nothing of now.
        talk.answer(read, &queries, &shown);
        talk.show(panel, 7, 2);
        let Question::Run(id, queries, _) = talk.question() else { panic!("it does not run") };
        assert_eq!(id, next);
        let next_queries = queries;
        let (last, shown_last) = talk.snapshot();
        talk.settle();
        // The answers come in the wrong order.
        assert_eq!(talk.run(last, &shown_last), 1);
        talk.answer(next, &next_queries, &shown_next);
        assert!(!talk.reads(), "{panel:?}");
        talk.show(panel, 7, 1);
        assert!(talk.reads(), "{panel:?}: the newest answer holds row 7");
        talk.show(panel, 8, 1);
        assert!(!talk.reads(), "{panel:?}");
    }
}
