//! What an answer costs does not depend on how many live queries there are; counted, not timed.

use crate::support::*;
use convoy_query_index::{
    CompareOp, Condition, FieldId, FieldValue, Holdings, Predicate, QueryId, QueryIndex, RowImages,
    SlotId, SlotValue, TemplateId, Unheld,
};
use std::sync::Arc;

const MANY: u32 = 20_000;

/// Returns probes and tests of an insert that touches one query, among few and among many.
fn check(condition: Condition, slots: impl Fn(i64) -> Vec<SlotValue>, most: [usize; 2]) {
    for len in [100, MANY] {
        let mut index = index_of(predicate(condition.clone()));
        for query in 0..len {
            let slots = slots(i64::from(query)).into();
            index
                .insert(QueryId(query), TemplateId(1), slots)
                .expect("the slots are the template's");
        }
        let text = FieldValue::Key(text_key("000050"));
        let elements = FieldValue::Elements([key(7_000_000), key(50), key(1 << 40)].into());
        let row = [value(50), value(1), FieldValue::Null, text, elements];
        let (hits, stats) = found(&index, &inserted(&row));
        assert_eq!(hits, [50]);
        assert!(stats.probes <= most[0] && stats.tested <= most[1], "{len}: {stats:?}");
    }
}

#[test]
fn equality_is_one_probe() {
    check(equal(0, slot(0)), |at| vec![one(at)], [1, 0]);
    check(and([equal(1, constant(1)), equal(0, slot(0))]), |at| vec![one(at)], [1, 0]);
    // The constant alone would find them all.
    check(
        and([or([equal(0, slot(0)), equal(2, slot(0))]), equal(1, constant(1))]),
        |at| vec![one(at + if at == 0 { -1 } else { 0 })],
        [2, 0],
    );
}

#[test]
fn lists_are_one_probe() {
    check(any_of(0, vec![slot(0)]), |at| vec![many([at, -at - 1])], [1, 0]);
    check(or([equal(0, slot(0)), equal(0, slot(1))]), |at| vec![one(at), one(-at - 1)], [1, 0]);
}

#[test]
fn prefixes_are_a_descent() {
    let begins = |field| Condition::Prefix { field: FieldId(field), operand: slot(0) };
    let text = |at: i64| SlotValue::One(Some(text_key(&format!("{at:06}"))));
    for condition in [begins(3), and([equal(1, constant(1)), begins(3)])] {
        check(condition, |at| vec![text(at)], [100, 0]);
    }
    // What begins the row's text as well is found too, and nothing else.
    let mut index = index_of(predicate(begins(0)));
    for query in 0..MANY {
        insert(&mut index, query, [text(i64::from(query))]);
    }
    for (query, start) in [(MANY, ""), (MANY + 1, "0"), (MANY + 2, "000050 and more")] {
        insert(&mut index, query, [SlotValue::One(Some(text_key(start)))]);
    }
    let row = [FieldValue::Key(text_key("000050 and"))];
    let (hits, stats) = found(&index, &inserted(&row));
    assert_eq!(hits, [50, MANY, MANY + 1]);
    assert!(stats.probes <= 200 && stats.tested == 0, "{stats:?}");
}

#[test]
fn elements_are_a_probe_each() {
    let has = |operand| Condition::HasElement { field: FieldId(4), operand };
    check(has(slot(0)), |at| vec![one(at)], [3, 0]);
    check(has(slot(0)), |at| vec![many([at, -at - 1])], [3, 0]);
    check(or([has(slot(0)), has(slot(1))]), |at| vec![one(at), one(-at - 1)], [3, 0]);
    check(and([equal(1, constant(1)), has(slot(0))]), |at| vec![one(at)], [3, 0]);
    // The equality tells them apart already.
    check(and([equal(0, slot(0)), has(slot(1))]), |at| vec![one(at), one(50)], [1, 1]);
}

#[test]
fn tests_for_null_are_a_gate() {
    let is_null = |field| Condition::IsNull(FieldId(field));
    check(and([equal(0, slot(0)), is_null(2)]), |at| vec![one(at)], [1, 0]);
    check(and([equal(0, slot(0)), Condition::IsNotNull(FieldId(1))]), |at| vec![one(at)], [1, 0]);
    check(and([equal(0, slot(0)), Condition::IsNotNull(FieldId(0))]), |at| vec![one(at)], [1, 0]);
    // Without a key, a row that the gate refuses still costs nothing.
    let mut index = index_of(predicate(and([is_null(0), compare(1, CompareOp::Ne, slot(0))])));
    for query in 0..MANY {
        insert(&mut index, query, [one(i64::from(query))]);
    }
    let (hits, stats) = found(&index, &inserted(&[value(1), value(1)]));
    assert_eq!((hits.len(), stats.probes, stats.tested), (0, 0, 0));
}

#[test]
fn open_bounds_cost_what_they_find() {
    // The boundary of a LIMIT: most results have one, and some are not full.
    let condition = and([equal(1, slot(0)), compare(0, CompareOp::Ge, slot(1))]);
    let mut index = index_of(predicate(condition));
    for query in 0..MANY {
        let bound = if query % 1_000 == 50 { SlotValue::Open } else { one(i64::from(query) + 100) };
        insert(&mut index, query, [one(1), bound]);
    }
    let (hits, stats) = found(&index, &inserted(&[value(50), value(1)]));
    assert_eq!(hits.len(), 20);
    assert!(stats.probes <= 200 && stats.tested == 0, "{stats:?}");
    // What moves is found where it is.
    for query in 0..MANY {
        index.set_slot(QueryId(query), SlotId(1), one(i64::from(query))).expect("it is a bound");
    }
    let (hits, stats) = found(&index, &inserted(&[value(9), value(1)]));
    assert_eq!(hits, (0..10).collect::<Vec<_>>());
    assert!(stats.probes <= 200 && stats.tested == 0, "{stats:?}");
}

#[test]
fn residuals_are_tested_on_what_is_found() {
    let condition = and([equal(0, slot(0)), compare(1, CompareOp::Ne, constant(7))]);
    check(condition, |at| vec![one(at)], [1, 1]);
}

#[test]
fn ranges_are_a_descent() {
    let between = |field| {
        and([compare(field, CompareOp::Ge, slot(0)), compare(field, CompareOp::Lt, slot(1))])
    };
    check(between(0), |at| vec![one(at), one(at + 1)], [100, 0]);
    // The range comes first, because all queries share the constant.
    check(and([equal(1, constant(1)), between(0)]), |at| vec![one(at), one(at + 1)], [100, 0]);
    // All share the symbol, and their prices differ.
    check(and([equal(1, slot(2)), between(0)]), |at| vec![one(at), one(at + 1), one(1)], [100, 0]);
}

#[test]
fn statements_that_differ_in_constants_share_a_probe() {
    let mut index = QueryIndex::new();
    for template in 0..1_000 {
        let condition = equal(0, constant(i64::from(template)));
        index.add_template(TemplateId(template), vec![predicate(condition)]).expect("it is new");
        index
            .insert(QueryId(template), TemplateId(template), Arc::new([]))
            .expect("it has no slots");
    }
    let (hits, stats) = found(&index, &inserted(&[value(50)]));
    assert_eq!((hits, stats.probes, stats.tested), (vec![50], 1, 0));
}

#[test]
fn an_update_of_other_columns_costs_nothing() {
    let mut index = index_of(Predicate { fields: fields([0]), ..predicate(equal(0, slot(0))) });
    for query in 0..1_000 {
        insert(&mut index, query, [one(1)]);
    }
    let row = [value(1), value(2)];
    let changed = fields([1]);
    let images = RowImages { changed: Some(&changed), ..updated(&row, &row) };
    let (hits, stats) = found(&index, &images);
    assert_eq!((hits.len(), stats.probes, stats.tested), (0, 0, 0));
}

#[test]
fn an_update_that_leaves_the_key_alone_is_one_probe() {
    let mut index = index_of(predicate(equal(0, slot(0))));
    for query in 0..1_000 {
        insert(&mut index, query, [one(i64::from(query))]);
    }
    let (hits, stats) = found(&index, &updated(&[value(50), value(1)], &[value(50), value(2)]));
    assert_eq!((hits, stats.probes, stats.tested), (vec![50], 1, 0));
    let (hits, stats) = found(&index, &updated(&[value(50)], &[value(51)]));
    assert_eq!((hits, stats.probes, stats.tested), (vec![50, 51], 2, 0));
}

#[test]
fn membership_is_one_probe() {
    let by_key = Predicate {
        old_rows: convoy_query_index::OldRows::Membership,
        ..predicate(equal(0, slot(0)))
    };
    let mut index = index_of(by_key);
    for query in 0..MANY {
        insert(&mut index, query, [one(i64::from(query))]);
        index.hold(QueryId(query), ORDERS, key(i64::from(query)));
    }
    let id = key(50);
    let images = RowImages { new: None, old_key: Some(&id), ..inserted(&[]) };
    let (hits, stats) = found(&index, &images);
    assert_eq!((hits, stats.probes, stats.tested), (vec![50], 1, 1));
}

#[test]
fn what_matters_to_holders_alone_is_found_by_key() {
    let unheld = Some(Unheld { decided_by: fields([0]), deletes_matter: false });
    // Of no use to find the live queries: any row meets it.
    let mut index = index_of(Predicate { unheld, ..predicate(Condition::always()) });
    for query in 0..MANY {
        insert(&mut index, query, []);
        index.hold(QueryId(query), ORDERS, key(i64::from(query)));
        index.set_holdings(QueryId(query), Holdings::Known);
    }
    let (row, id) = ([value(50), value(1)], key(50));
    let changed = fields([1]);
    let update = RowImages { old_key: Some(&id), changed: Some(&changed), ..updated(&row, &row) };
    let delete = RowImages { old: Some(&row), old_key: Some(&id), new: None, ..inserted(&row) };
    for images in [update, delete] {
        // And one probe for the group, empty now, of those of which it is not known what they hold.
        let (hits, stats) = found(&index, &images);
        assert_eq!((hits, stats.probes, stats.tested), (vec![50], 2, 1));
    }
    // One of which nobody knows what it holds is found as if nothing were known of any.
    index.set_holdings(QueryId(70), Holdings::Unknown);
    let (hits, stats) = found(&index, &update);
    assert_eq!((hits, stats.probes, stats.tested), (vec![50, 70], 2, 1));
    assert_eq!(found(&index, &inserted(&row)).0.len(), MANY as usize);
}

/// Adds live queries, and returns what an insert costs then that hits one of them, and how they are found.
fn chosen(
    condition: Condition,
    len: u32,
    slots: impl Fn(i64) -> Vec<SlotValue>,
    row: &[FieldValue],
) -> (convoy_query_index::MatchStats, String) {
    let mut index = index_of(predicate(condition));
    for query in 0..len {
        index
            .insert(QueryId(query), TemplateId(1), slots(i64::from(query)).into())
            .expect("the slots are the template's");
    }
    index.tidy(MANY as usize);
    assert!(!index.is_moving());
    let (hits, stats) = found(&index, &inserted(row));
    assert_eq!(hits, [50]);
    let path = index.access_path(TemplateId(1), 0);
    (stats, path.describe(&|field| format!("c{}", field.0)))
}

/// Checks how live queries are found whose statement suggests another way, and that few are tested for it.
fn check_choice(
    condition: Condition,
    slots: impl Fn(i64) -> Vec<SlotValue>,
    expected: &str,
    most: [usize; 2],
) {
    let row = [value(50), value(1), value(2), value(50)];
    for len in [500, MANY] {
        let (stats, path) = chosen(condition.clone(), len, &slots, &row);
        assert_eq!(path, expected);
        assert!(stats.probes <= most[0] && stats.tested <= most[1], "{expected}, {len}: {stats:?}");
    }
    // Of few, what the statement suggests is as good as anything.
    let index = index_of(predicate(condition));
    let suggested = index.access_path(TemplateId(1), 0).describe(&|field| format!("c{}", field.0));
    assert_ne!(suggested, expected);
}

#[test]
fn what_live_queries_share_is_not_looked_up() {
    let between = |field, from, to| {
        and([compare(field, CompareOp::Ge, slot(from)), compare(field, CompareOp::Lt, slot(to))])
    };
    check_choice(
        and([any_of(0, vec![slot(0)]), any_of(1, vec![slot(1)])]),
        |at| vec![many([at, -at - 1]), many([1, 2])],
        "in (c0)",
        [1, 1],
    );
    check_choice(
        and([between(0, 0, 1), between(1, 2, 3)]),
        |at| vec![one(at), one(at + 1), one(0), one(9)],
        "range (c0)",
        [100, 1],
    );
    check_choice(
        and([equal(1, slot(0)), any_of(0, vec![slot(1)])]),
        |at| vec![one(1), many([at, -at - 1])],
        "equality (c1) with in (c0)",
        [1, 0],
    );
    check_choice(
        and([equal(1, slot(0)), or([equal(0, slot(1)), equal(2, slot(2))])]),
        |at| vec![one(1), one(at), one(at + 1_000_000)],
        "equality (c0, c1) or equality (c1, c2)",
        [2, 0],
    );
}

#[test]
fn long_lists_give_way_to_a_range() {
    check_choice(
        and([
            any_of(1, vec![slot(0)]),
            compare(0, CompareOp::Ge, slot(1)),
            compare(0, CompareOp::Le, slot(2)),
        ]),
        |at| vec![many((0..100).map(|element| 100 * at + element).chain([1])), one(at), one(at)],
        "range (c0)",
        [100, 1],
    );
}

#[test]
fn what_the_statement_suggests_stays_where_it_is_good() {
    let listed = and([any_of(0, vec![slot(0)]), compare(1, CompareOp::Ge, slot(1))]);
    let row = [value(50), value(1)];
    let (stats, path) = chosen(listed, MANY, |at| vec![many([at, -at - 1]), one(1)], &row);
    assert_eq!(path, "in (c0) with range (c1)");
    assert!(stats.probes <= 2 && stats.tested == 0, "{stats:?}");
}

#[test]
fn a_choice_is_carried_out_little_by_little_and_does_not_flap() {
    let mut index = index_of(predicate(and([equal(0, slot(0)), any_of(1, vec![slot(1)])])));
    let apart = |at: u32| [one(at.into()), many([1])];
    let alike = |at: u32| [one(1), many([at.into()])];
    for query in 0..MANY {
        insert(&mut index, query, apart(query));
    }
    let suggested = index.access_path(TemplateId(1), 0);
    // They come to share what alone is looked up, one here and one there.
    let mut places = (0..MANY).map(|number| number * 7_919 % MANY);
    while !index.is_moving() {
        let query = places.next().expect("it is chosen before all share it");
        index.remove(QueryId(query));
        insert(&mut index, query, alike(query));
    }
    assert_eq!(index.access_path(TemplateId(1), 0), suggested);
    let (mut steps, mut seen) = (0, Vec::new());
    while index.is_moving() {
        if steps % 100 == 0 {
            let (hits, stats) = found(&index, &inserted(&[value(1), value(7_919)]));
            assert_eq!(hits, [7_919]);
            seen.push(stats.tested);
        }
        index.set_slot(QueryId(7_919), SlotId(1), many([7_919])).expect("it is a list");
        steps += 1;
    }
    assert_ne!(index.access_path(TemplateId(1), 0), suggested);
    // Each moves a few, and what has moved is not tested any more.
    assert!(steps >= MANY as usize / 20, "{steps} steps");
    assert!(seen[0] > 500 && seen.is_sorted_by(|one, next| one > next), "{seen:?}");
    // Half of the queries share one thing, half the other: whatever is chosen stays.
    let mut paths = vec![index.access_path(TemplateId(1), 0)];
    for step in 0..10 * MANY {
        let query = step % MANY;
        index.remove(QueryId(query));
        insert(&mut index, query, if (step / 2) % 2 == 0 { apart(query) } else { alike(query) });
        let path = index.access_path(TemplateId(1), 0);
        if paths.last() != Some(&path) {
            paths.push(path);
        }
    }
    assert!(paths.len() <= 2, "{paths:?}");
}
