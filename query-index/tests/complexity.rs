//! What an answer costs does not depend on how many live queries there are; counted, not timed.

use crate::support::*;
use convoy_query_index::{CompareOp, Condition, Predicate, QueryId, QueryIndex, TemplateId};
use std::sync::Arc;

const MANY: u32 = 20_000;

/// Returns probes and tests of an insert that touches one query, among few and among many.
fn check(
    condition: Condition,
    slots: impl Fn(i64) -> Vec<convoy_query_index::SlotValue>,
    most: [usize; 2],
) {
    for len in [100, MANY] {
        let mut index = index_of(predicate(condition.clone()));
        for query in 0..len {
            let slots = slots(i64::from(query)).into();
            index
                .insert(QueryId(query), TemplateId(1), slots)
                .expect("the slots are the template's");
        }
        let row = [value(50), value(1), value(0)];
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
    let images = convoy_query_index::RowImages { changed: Some(&changed), ..updated(&row, &row) };
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
    let images = convoy_query_index::RowImages { new: None, old_key: Some(&id), ..inserted(&[]) };
    let (hits, stats) = found(&index, &images);
    assert_eq!((hits, stats.probes, stats.tested), (vec![50], 1, 1));
}
