//! The index's rules, one example each: what the oracle tests at random and a reader wants to see.

use crate::generate;
use crate::support::*;
use convoy_query_index::{
    AccessPath, CompareOp, Condition, FieldId, FieldValue, IndexError, OldRows, Operand, Predicate,
    QueryId, RowImages, SlotId, SlotValue, TemplateId, Truth,
};
use rand::Rng;
use rand::rngs::StdRng;
use roaring::RoaringBitmap;
use std::sync::Arc;

fn check(index: &convoy_query_index::QueryIndex, images: &RowImages<'_>, expected: &[u32]) {
    assert_eq!(found(index, images).0, expected);
}

/// Returns the row with its unknown fields filled in at random.
fn completed(random: &mut StdRng, row: &[FieldValue]) -> Vec<FieldValue> {
    let known = generate::full_row(random, 0.0);
    let rest = std::iter::repeat(&FieldValue::Unknown);
    row.iter()
        .chain(rest)
        .zip(known)
        .map(|(value, known)| if *value == FieldValue::Unknown { known } else { value.clone() })
        .collect()
}

/// Returns the condition with each part that can't be evaluated made true, false or null.
fn decided(random: &mut StdRng, condition: &Condition) -> Condition {
    let mut parts = |parts: &[Condition]| parts.iter().map(|part| decided(random, part)).collect();
    match condition {
        Condition::And(list) => Condition::And(parts(list)),
        Condition::Or(list) => Condition::Or(parts(list)),
        Condition::Not(inner) => Condition::Not(Box::new(decided(random, inner))),
        Condition::Unknown => match random.random_range(0..3) {
            0 => Condition::always(),
            1 => Condition::Or(Vec::new()),
            _ => equal(0, Operand::Constant(None)),
        },
        known => known.clone(),
    }
}

#[test]
fn all_groups_of_a_table_are_asked() {
    // However many there are: they are asked in batches.
    for groups in [1, 2, 3, 23, 24, 25, 26, 47, 48, 49, 50, 73] {
        let mut index = convoy_query_index::QueryIndex::new();
        for group in 0..groups {
            let condition = match group % 3 {
                0 => equal(group as u16, slot(0)),
                1 => compare(group as u16, CompareOp::Ge, slot(0)),
                _ => Condition::IsNotNull(FieldId(group as u16)),
            };
            index.add_template(TemplateId(group), vec![predicate(condition)]).expect("it is new");
            for query in 0..100 {
                let at = if group % 3 == 0 { query % 2 } else { query };
                index
                    .insert(
                        QueryId(query * 100 + group),
                        TemplateId(group),
                        [one(at.into())].into(),
                    )
                    .expect("the slots are the template's");
            }
        }
        let row: Vec<FieldValue> = (0..groups).map(|_| value(1)).collect();
        let expected = (0..100).flat_map(|query| (0..groups).map(move |group| (query, group)));
        let expected = expected.filter(|&(query, group)| match group % 3 {
            0 => query % 2 == 1,
            1 => query <= 1,
            _ => true,
        });
        let expected: Vec<u32> = expected.map(|(query, group)| query * 100 + group).collect();
        check(&index, &inserted(&row), &expected);
    }
}

#[test]
fn however_many_intervals_of_several_groups_are_found() {
    // More nodes and more sets than are read ahead at a time: all intervals overlap, or as many as are in some leaves.
    const QUERIES: u32 = 3_000;
    for width in [1, 40, 900, 5_000] {
        let mut index = convoy_query_index::QueryIndex::new();
        for field in 0..3_u32 {
            let compare = |op, number| compare(field as u16, op, slot(number));
            let between = and([compare(CompareOp::Ge, 0), compare(CompareOp::Lt, 1)]);
            index.add_template(TemplateId(field), vec![predicate(between)]).expect("it is new");
            for query in 0..QUERIES {
                // Not in the order of their beginnings.
                let from = i64::from(query * 7_919 % QUERIES);
                let slots = [one(from), one(from + width)].into();
                let inserted = index.insert(QueryId(3 * query + field), TemplateId(field), slots);
                inserted.expect("the slots are the template's");
            }
        }
        for point in [-1, 0, 1, 999, 1_500, 2_999, 3_000, 3_899, 7_999] {
            let row = [value(point), value(point), value(point)];
            let expected = (0..3 * QUERIES).filter(|query| {
                let from = i64::from(query / 3 * 7_919 % QUERIES);
                (from..from + width).contains(&point)
            });
            check(&index, &inserted(&row), &expected.collect::<Vec<_>>());
        }
    }
}

#[test]
fn what_is_said_of_unknown_values_holds_for_any() {
    for_seeds(20_000, |random| {
        let condition = generate::condition(random, 3);
        if !generate::is_typed(&condition) {
            return;
        }
        let slots = generate::slots(random);
        let row = generate::row(random, 0.4);
        let said = condition.eval(&row, &slots);
        for _ in 0..10 {
            let row = completed(random, &row);
            let known = decided(random, &condition).eval(&row, &slots);
            let agrees = match said {
                Truth::True => known == Truth::True,
                Truth::False => known == Truth::False,
                Truth::Null => matches!(known, Truth::Null | Truth::False),
                Truth::Unknown => known != Truth::Unknown,
            };
            assert!(agrees, "{condition:?} on {row:?}: said {said:?}, is {known:?}");
        }
    });
}

#[test]
fn a_row_touches_the_queries_that_it_meets() {
    let mut index = index_of(predicate(equal(0, slot(0))));
    insert(&mut index, 1, [one(1)]);
    insert(&mut index, 2, [one(2)]);
    insert(&mut index, 3, [SlotValue::One(None)]);
    check(&index, &inserted(&[value(1)]), &[1]);
    check(&index, &inserted(&[FieldValue::Null]), &[]);
    check(&index, &inserted(&[FieldValue::Unknown]), &[1, 2]);
    check(&index, &updated(&[value(1)], &[value(2)]), &[1, 2]);
    check(&index, &RowImages { new: None, ..updated(&[value(2)], &[]) }, &[2]);
    index.remove(QueryId(2));
    check(&index, &updated(&[value(1)], &[value(2)]), &[1]);
}

#[test]
fn an_update_of_other_columns_touches_nothing() {
    let mut index = index_of(Predicate { fields: fields([0, 2]), ..predicate(equal(0, slot(0))) });
    insert(&mut index, 1, [one(1)]);
    let row = [value(1), value(5), value(6)];
    let changed = |set| {
        let set = fields(set);
        found(&index, &RowImages { changed: Some(&set), ..updated(&row, &row) }).0
    };
    assert_eq!(changed(vec![1]), [0; 0]);
    assert_eq!(changed(vec![]), [0; 0]);
    assert_eq!(changed(vec![1, 2]), [1]);
    check(&index, &updated(&row, &row), &[1]);
}

#[test]
fn an_old_row_that_was_not_sent_may_be_any() {
    let mut index = index_of(predicate(equal(0, slot(0))));
    insert(&mut index, 1, [one(1)]);
    insert(&mut index, 2, [one(2)]);
    let id = key(7);
    let new = [value(3)];
    check(&index, &RowImages { old_key: Some(&id), ..inserted(&new) }, &[1, 2]);
    check(&index, &RowImages { new: None, ..inserted(&new) }, &[1, 2]);
    check(&index, &inserted(&new), &[]);
}

#[test]
fn membership_tells_of_rows_that_were_not_sent() {
    let mut index =
        index_of(Predicate { old_rows: OldRows::Membership, ..predicate(equal(0, slot(0))) });
    insert(&mut index, 1, [one(1)]);
    insert(&mut index, 2, [one(2)]);
    let id = key(7);
    index.hold(QueryId(1), ORDERS, id.clone());
    index.hold(QueryId(2), ITEMS, id.clone());
    let old = [FieldValue::Unknown, value(7)];
    let new = [value(2)];
    let moved = RowImages { old: Some(&old), old_key: Some(&id), ..inserted(&new) };
    check(&index, &moved, &[1, 2]);
    check(&index, &RowImages { old: None, ..moved }, &[1, 2]);
    check(&index, &RowImages { new: None, ..moved }, &[1]);
    // A row that is known is not looked up: it does not meet what holds it.
    check(&index, &RowImages { old: Some(&new), new: None, ..moved }, &[2]);
    // Without a key there is nothing to look up.
    check(&index, &RowImages { old_key: None, new: None, ..moved }, &[1, 2]);
    index.release(QueryId(1), ORDERS, &id);
    check(&index, &RowImages { new: None, ..moved }, &[]);
}

#[test]
fn a_query_that_released_its_rows_holds_nothing() {
    let mut index =
        index_of(Predicate { old_rows: OldRows::Membership, ..predicate(equal(0, slot(0))) });
    let id = key(7);
    insert(&mut index, 1, [one(1)]);
    index.hold(QueryId(1), ORDERS, id.clone());
    index.release(QueryId(1), ORDERS, &id);
    index.remove(QueryId(1));
    insert(&mut index, 1, [one(1)]);
    check(&index, &RowImages { new: None, old_key: Some(&id), ..inserted(&[]) }, &[]);
}

#[test]
fn ranges_are_half_open_where_sql_says_so() {
    let between = and([compare(0, CompareOp::Ge, slot(0)), compare(0, CompareOp::Lt, slot(1))]);
    let mut index = index_of(predicate(between));
    insert(&mut index, 1, [one(-5), one(5)]);
    insert(&mut index, 2, [one(5), one(9)]);
    insert(&mut index, 3, [one(9), one(5)]);
    insert(&mut index, 4, [one(0), SlotValue::One(None)]);
    for (at, expected) in [(-6, &[][..]), (-5, &[1]), (4, &[1]), (5, &[2]), (8, &[2]), (9, &[])] {
        check(&index, &inserted(&[value(at)]), expected);
    }
    assert_eq!(index.access_path(TemplateId(1), 0), AccessPath::Range(FieldId(0)));
}

#[test]
fn arrays_are_an_entry_for_each_element() {
    let mut index = index_of(predicate(any_of(0, vec![slot(0)])));
    insert(&mut index, 1, [many([1, 2, 2])]);
    insert(&mut index, 2, [many([2, 3])]);
    insert(&mut index, 3, [many([])]);
    check(&index, &inserted(&[value(2)]), &[1, 2]);
    index.remove(QueryId(1));
    check(&index, &inserted(&[value(2)]), &[2]);
    check(&index, &inserted(&[value(1)]), &[]);
}

#[test]
fn a_slot_moves() {
    let before = and([equal(0, slot(0)), compare(1, CompareOp::Lt, slot(1))]);
    let mut index = index_of(predicate(before));
    insert(&mut index, 1, [one(1), SlotValue::Open]);
    insert(&mut index, 2, [one(1), one(5)]);
    check(&index, &inserted(&[value(1), value(9)]), &[1]);
    index.set_slot(QueryId(1), SlotId(1), one(7)).expect("it is a bound");
    index.set_slot(QueryId(2), SlotId(0), SlotValue::Open).expect("any value then");
    check(&index, &inserted(&[value(1), value(9)]), &[]);
    check(&index, &inserted(&[value(1), value(6)]), &[1]);
    check(&index, &inserted(&[value(3), value(4)]), &[2]);
    check(&index, &inserted(&[FieldValue::Null, value(4)]), &[]);
    index.set_slot(QueryId(1), SlotId(1), SlotValue::Open).expect("it is a bound");
    check(&index, &inserted(&[value(1), value(9)]), &[1]);
    let refused = [
        (index.set_slot(QueryId(9), SlotId(0), one(1)), IndexError::UnknownQuery(QueryId(9))),
        (index.set_slot(QueryId(1), SlotId(0), many([1])), IndexError::ArrayInSlot(SlotId(0))),
        (
            index.set_slot(QueryId(1), SlotId(2), one(1)),
            IndexError::MissingSlot { slot: SlotId(2), given: 2 },
        ),
    ];
    assert!(refused.iter().all(|(refused, error)| refused.as_ref() == Err(error)));
    check(&index, &inserted(&[value(1), value(9)]), &[1]);
}

#[test]
fn what_comes_and_goes_while_others_are_on_their_way_is_found() {
    // Lists that become so long that a range is better.
    let condition = and([
        any_of(1, vec![slot(0)]),
        compare(0, CompareOp::Ge, slot(1)),
        compare(0, CompareOp::Le, slot(1)),
    ]);
    let slots = |at: u32| [many(0..if at < 32 { 8 } else { 300 }), one(at.into())];
    let row = |at: u32| [value(at.into()), value(7)];
    for query in 0..70 {
        let mut index = index_of(predicate(condition.clone()));
        let suggested = index.access_path(TemplateId(1), 0);
        (0..64).for_each(|query| insert(&mut index, query, slots(query)));
        assert!(index.is_moving());
        index.remove(QueryId(query));
        assert!(index.is_moving());
        check(&index, &inserted(&row(query)), &[]);
        insert(&mut index, query, slots(query + 100));
        check(&index, &inserted(&row(query)), &[]);
        check(&index, &inserted(&row(query + 100)), &[query]);
        index.set_slot(QueryId(query), SlotId(1), one(1_000)).expect("it is a bound");
        index.tidy(100);
        assert!(!index.is_moving() && index.access_path(TemplateId(1), 0) != suggested);
        for other in (0..64).filter(|&other| other != query) {
            check(&index, &inserted(&row(other)), &[other]);
        }
        check(&index, &inserted(&row(query + 100)), &[]);
        check(&index, &inserted(&row(1_000)), &[query]);
    }
}

#[test]
fn a_template_may_go_while_its_queries_are_on_their_way() {
    let condition = and([equal(0, slot(0)), any_of(1, vec![slot(1)])]);
    let mut index = index_of(predicate(condition.clone()));
    (0..32).for_each(|query| insert(&mut index, query, [one(1), many([query.into()])]));
    assert!(index.is_moving());
    index.remove_template(TemplateId(1));
    assert!(!index.is_moving() && index.is_empty());
    check(&index, &inserted(&[value(1), value(1)]), &[]);
    index.add_template(TemplateId(1), vec![predicate(condition)]).expect("it was taken away");
    insert(&mut index, 1, [one(1), many([1])]);
    check(&index, &inserted(&[value(1), value(1)]), &[1]);
}

#[test]
fn truncate_concerns_all_that_read_the_table() {
    let mut index = index_of(predicate(equal(0, slot(0))));
    let items = Predicate { relation: ITEMS, ..predicate(Condition::always()) };
    index.add_template(TemplateId(2), vec![items]).expect("it is new");
    insert(&mut index, 1, [SlotValue::One(None)]);
    index.insert(QueryId(2), TemplateId(2), Arc::new([])).expect("it has no slots");
    let on = |relation| {
        let mut hits = RoaringBitmap::new();
        index.on_relation(relation, &mut hits);
        hits.iter().collect::<Vec<_>>()
    };
    assert_eq!((on(ORDERS), on(ITEMS)), (vec![1], vec![2]));
}

#[test]
fn fields_of_interest_are_those_of_conditions() {
    let mut index = index_of(predicate(equal(3, slot(0))));
    index.add_template(TemplateId(2), vec![predicate(equal(1, slot(0)))]).expect("it is new");
    assert_eq!(index.fields_of_interest(ORDERS), Some(&fields([1, 3])));
    index.remove_template(TemplateId(1));
    assert_eq!(index.fields_of_interest(ORDERS), Some(&fields([1])));
    index.remove_template(TemplateId(2));
    assert_eq!(index.fields_of_interest(ORDERS), None);
}

#[test]
fn access_paths_are_told() {
    let mut index = index_of(predicate(or([
        and([equal(0, slot(0)), compare(1, CompareOp::Gt, slot(1))]),
        any_of(2, vec![slot(2)]),
    ])));
    let name = |field: FieldId| format!("c{}", field.0);
    let path = index.access_path(TemplateId(1), 0).describe(&name);
    assert_eq!(path, "equality (c0) with range (c1) or in (c2)");
    assert_eq!(index.access_path(TemplateId(1), 1), AccessPath::Never);
    let never = predicate(or([]));
    index.add_template(TemplateId(2), vec![never]).expect("it is new");
    assert_eq!(index.access_path(TemplateId(2), 0), AccessPath::Never);
    let table = predicate(or([equal(0, slot(0)), Condition::Unknown]));
    index.add_template(TemplateId(3), vec![table]).expect("it is new");
    assert_eq!(index.access_path(TemplateId(3), 0), AccessPath::Table);
    let either = predicate(or([equal(0, slot(0)), Condition::IsNull(FieldId(1))]));
    index.add_template(TemplateId(4), vec![either]).expect("it is new");
    let path = index.access_path(TemplateId(4), 0).describe(&name);
    assert_eq!(path, "equality (c0) or null (c1)");
    let arms = (0..17).map(|field| equal(field, slot(0))).collect();
    index.add_template(TemplateId(5), vec![predicate(Condition::Or(arms))]).expect("it is new");
    assert_eq!(index.access_path(TemplateId(5), 0), AccessPath::WideOr);
    let path = index.access_path(TemplateId(5), 0).describe(&name);
    assert_eq!(path, "table, for an OR has more than 16 alternatives");
}

#[test]
fn what_does_not_fit_is_refused() {
    let mut index = index_of(predicate(and([equal(0, slot(0)), any_of(1, vec![slot(1)])])));
    let mut check = |query, template, slots: Vec<SlotValue>, expected: IndexError, text: &str| {
        assert_eq!(expected.to_string(), text);
        let refused = index.insert(QueryId(query), TemplateId(template), slots.into());
        assert_eq!(refused, Err(expected));
        assert!(index.is_empty());
    };
    check(
        1,
        2,
        vec![],
        IndexError::UnknownTemplate(TemplateId(2)),
        "template 2 is not in the index",
    );
    check(
        1,
        1,
        vec![one(1)],
        IndexError::MissingSlot { slot: SlotId(1), given: 1 },
        "slot 1 is not among the 1 given",
    );
    check(
        1,
        1,
        vec![many([1]), one(1)],
        IndexError::ArrayInSlot(SlotId(0)),
        "slot 0 holds an array where one value is compared",
    );
    check(
        1 << 31,
        1,
        vec![one(1), one(1)],
        IndexError::QueryIdRange(QueryId(1 << 31)),
        "query id 2147483648 is above 2147483647",
    );
    insert(&mut index, 1, [one(1), many([])]);
    let again = index.insert(QueryId(1), TemplateId(1), Arc::new([one(1), one(1)]));
    assert_eq!(again, Err(IndexError::DuplicateQuery(QueryId(1))));
    let again = index.add_template(TemplateId(1), vec![]);
    assert_eq!(again, Err(IndexError::DuplicateTemplate(TemplateId(1))));
}
