//! The groups' law: applying changes gives what reading again would, and both what the rows come to.

use crate::analyse::fixture::Case;
use crate::diff::apply;
use crate::groups::plan::{GroupsPlan, StateKind, ValueSet};
use crate::groups::{Groups, Lost};
use crate::read_rows::ReadRows;
use crate::tables::{Fields, TableChange};
use crate::template::Plan;
use crate::window::Bounds;
use bytes::Bytes;
use convoy_query_index::Truth;
use convoy_types::{Datum, ReplicaIdentity};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;

/// A row of the test's table: `tenant`, `customer_id` and `total` of `orders`; all else is null.
#[derive(Clone, Debug, PartialEq)]
struct Order {
    tenant: Option<i32>,
    customer: Option<i32>,
    total: Option<&'static str>,
}

const TENANT: usize = 1;
const CUSTOMER: usize = 2;
const TOTAL: usize = 4;

const STATEMENTS: [(&str, &str); 5] = [
    (
        "select tenant, count(*) as n, count(customer_id) as c, sum(customer_id) as s, sum(total) as t \
         from orders group by tenant",
        "tenant n:int8 c:int8 s:int8 t:numeric",
    ),
    (
        "select count(*) as n, avg(total) as a, min(customer_id) as low, max(customer_id) as high, \
         count(distinct customer_id) as d, count(distinct total) as e from orders where tenant > 1",
        "n:int8 a:numeric low:int4 high:int4 d:int8 e:int8",
    ),
    (
        "select avg(customer_id) as a, tenant from orders where customer_id is not null group by 2 \
         having count(*) > 1 and sum(customer_id) <> 4 order by a desc, tenant desc",
        "a:numeric tenant",
    ),
    (
        "select tenant, customer_id, coalesce(sum(total) filter (where total > 0), 0) as s from orders \
         group by tenant, orders.customer_id order by s desc limit 3 offset 1",
        "tenant customer_id s:numeric",
    ),
    (
        "select max(tenant) filter (where customer_id = 2) as m, sum(tenant)::int4 as s from orders \
         having count(*) <> 3",
        "m:int4 s:int4",
    ),
];

fn case(sql: &str, columns: &str) -> Case {
    Case::new(sql, columns).table("orders", |table| table.identity = ReplicaIdentity::Full)
}

fn random_order(random: &mut SmallRng) -> Order {
    let totals =
        ["0", "1.5", "1.50", "-3.125", "NaN", "Infinity", "-Infinity", "100000000000000000000"];
    let number =
        |random: &mut SmallRng| random.random_bool(0.8).then(|| random.random_range(0..4_i32));
    Order {
        tenant: number(random),
        customer: number(random),
        total: random.random_bool(0.8).then(|| {
            // The special ones are rare, for they hide all others.
            let rare = if random.random_bool(0.2) { totals.len() } else { 4 };
            totals[random.random_range(0..rare)]
        }),
    }
}

fn fields(order: &Order, columns: usize) -> Fields {
    let text = |text: String| Datum::Text(Bytes::from(text));
    let mut fields = vec![Datum::Null; columns];
    fields[TENANT] = order.tenant.map_or(Datum::Null, |number| text(number.to_string()));
    fields[CUSTOMER] = order.customer.map_or(Datum::Null, |number| text(number.to_string()));
    fields[TOTAL] = order.total.map_or(Datum::Null, |total| text(total.to_owned()));
    fields.into()
}

fn text_of(fields: &Fields, position: u16) -> Option<&str> {
    let text = fields[usize::from(position)].known().expect("known")?;
    Some(std::str::from_utf8(text).expect("text"))
}

/// A number at the scale of the tests' finest, and its own scale.
fn thousandths(text: &str) -> (i128, u32) {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = format!("{whole}{fraction:0<3}");
    (digits.parse().expect("digits"), u32::try_from(fraction.len()).expect("small"))
}

fn show_thousandths(sum: i128, scale: u32) -> String {
    let sign = if sum < 0 { "-" } else { "" };
    let (whole, rest) = (sum.unsigned_abs() / 1000, sum.unsigned_abs() % 1000);
    let rest = &format!("{rest:03}")[..usize::try_from(scale).expect("small")];
    if rest.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{rest}") }
}

/// A group's columns, and the value of a set.
type GroupTexts = (Vec<Option<String>>, Option<String>);

/// Reads what the plan's statement would of these rows.
fn read(plan: &GroupsPlan, rows: &BTreeMap<u32, Order>) -> ReadRows {
    let columns = plan.table.columns.len();
    let rows: Vec<Fields> = rows.values().map(|order| fields(order, columns)).collect();
    let values =
        |row: &Fields| crate::tables::field_values(&plan.table, &[], row, &plan.table.fields());
    let counted: Vec<&Fields> =
        rows.iter().filter(|row| plan.condition.eval(&values(row), &[]) == Truth::True).collect();
    let texts = |row: &Fields| -> Vec<Option<String>> {
        let column = |column: &crate::GroupColumn| text_of(row, column.field.0).map(str::to_owned);
        plan.group_by.iter().map(column).collect()
    };
    let value_of = |row: &Fields, set: &ValueSet| match set {
        ValueSet::Column(field) => text_of(row, field.0).map(str::to_owned),
        ValueSet::Scale(field) => text_of(row, field.0)
            .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit() || b".-".contains(&byte)))
            .map(|text| thousandths(text).1.to_string()),
    };
    let mut read = Vec::new();
    for set in std::iter::once(None).chain((0..plan.sets.len()).map(Some)) {
        let mut groups: BTreeMap<GroupTexts, Vec<&Fields>> = BTreeMap::new();
        if set.is_none() && plan.group_by.is_empty() {
            groups.insert((Vec::new(), None), Vec::new());
        }
        for row in &counted {
            let value = set.and_then(|set| value_of(row, &plan.sets[set]));
            groups.entry((texts(row), value)).or_default().push(row);
        }
        for ((texts, value), rows) in groups {
            let mut row: Vec<Option<String>> = texts;
            for at in 0..plan.sets.len() {
                row.push(if set == Some(at) { value.clone() } else { None });
            }
            if !plan.sets.is_empty() {
                let all = (1 << plan.sets.len()) - 1;
                let own = set.map_or(0, |set| 1 << (plan.sets.len() - 1 - set));
                row.push(Some((all - own).to_string()));
            }
            row.push(Some(rows.len().to_string()));
            for state in &plan.states {
                let filter = state.filter.map(|filter| &plan.filters[filter]);
                let rows = rows.iter().filter(|row| {
                    filter.is_none_or(|filter| filter.eval(&values(row), &[]) == Truth::True)
                });
                let given: Vec<&str> = match state.column {
                    None => rows.map(|_| "").collect(),
                    Some(field) => rows.filter_map(|row| text_of(row, field.0)).collect(),
                };
                let finite: Vec<(i128, u32)> = given
                    .iter()
                    .filter(|text| !text.contains(['N', 'I']) && !text.is_empty())
                    .map(|text| thousandths(text))
                    .collect();
                let sum: i128 = finite.iter().map(|(number, _)| number).sum();
                let scale = finite.iter().map(|(_, scale)| *scale).max();
                let sum = scale.map(|scale| show_thousandths(sum, scale));
                let count = |special: &str| {
                    Some(given.iter().filter(|text| **text == special).count().to_string())
                };
                match state.kind {
                    StateKind::Count | StateKind::Values { .. } => {
                        row.push(Some(given.len().to_string()));
                    }
                    StateKind::Sum => row.extend([sum, Some(given.len().to_string())]),
                    StateKind::NumericSum { .. } => row.extend([
                        sum,
                        Some(finite.len().to_string()),
                        count("NaN"),
                        count("Infinity"),
                        count("-Infinity"),
                    ]),
                }
            }
            read.push(row);
        }
    }
    read.into_iter().collect()
}

#[test]
fn applying_changes_gives_what_reading_again_would() {
    for (number, (sql, columns)) in (0..).zip(STATEMENTS) {
        let template = case(sql, columns).analyse().expect("a statement");
        let Plan::Groups(plan) = &template.plan else { panic!("{sql}: {:?}", template.notes) };
        let constant = |count| match count {
            Some(crate::Count::Constant(rows)) => Some(rows),
            _ => None,
        };
        let bounds =
            Bounds { offset: constant(plan.offset).unwrap_or(0), limit: constant(plan.limit) };
        let mut random = SmallRng::seed_from_u64(number);
        let mut rows: BTreeMap<u32, Order> =
            (0..12).map(|id| (id, random_order(&mut random))).collect();
        let mut groups =
            Groups::read(plan, bounds, &[], &read(plan, &rows)).expect("groups that are kept");
        let change = |old: Option<&Order>, new: Option<&Order>| TableChange {
            table: plan.table.clone(),
            old: old.map(|order| fields(order, plan.table.columns.len())),
            new: new.map(|order| fields(order, plan.table.columns.len())),
            is_update: old.is_some() && new.is_some(),
            identity: None,
        };
        let mut shown = groups.visible().rows().to_vec();
        for step in 0..600 {
            let mut changes = Vec::new();
            for _ in 0..random.random_range(1..6) {
                let id = random.random_range(0..16);
                // Now and then all go, so that groups come and go too.
                let new = random
                    .random_bool(if step % 100 > 80 { 0.2 } else { 0.75 })
                    .then(|| random_order(&mut random));
                let old = rows.remove(&id);
                if old.is_some() || new.is_some() {
                    changes.push(change(old.as_ref(), new.as_ref()));
                }
                rows.extend(new.map(|new| (id, new)));
            }
            let ops = groups
                .apply(plan, &[], changes.iter(), usize::MAX)
                .unwrap_or_else(|lost| panic!("{sql}: {lost:?} at step {step}"));
            apply(&mut shown, &ops).expect("steps that fit");
            let again = Groups::read(plan, bounds, &[], &read(plan, &rows)).expect("groups");
            assert_eq!(groups.visible().rows(), again.visible().rows(), "{sql} at step {step}");
            assert_eq!(groups.visible().digest(&[]), again.visible().digest(&[]));
            assert_eq!(shown, again.visible().rows());
            assert_eq!(groups.state_bytes(), again.state_bytes(), "{sql} at step {step}");
        }
    }
}

#[test]
fn what_is_no_such_group_or_too_much_is_read_again() {
    let (sql, columns) = STATEMENTS[0];
    let template = case(sql, columns).analyse().expect("a statement");
    let Plan::Groups(plan) = &template.plan else { panic!("{sql}: {:?}", template.notes) };
    let bounds = Bounds { offset: 0, limit: None };
    let rows = BTreeMap::from([(1, Order { tenant: Some(1), customer: Some(1), total: None })]);
    let mut groups = Groups::read(plan, bounds, &[], &read(plan, &rows)).expect("groups");
    let row = |tenant, total| {
        fields(&Order { tenant: Some(tenant), customer: None, total }, plan.table.columns.len())
    };
    let gone = |row| TableChange {
        table: plan.table.clone(),
        old: Some(row),
        new: None,
        is_update: false,
        identity: None,
    };
    let none_there = gone(row(2, None));
    let before = groups.visible().rows().to_vec();
    assert_eq!(
        groups.apply(plan, &[], [&none_there].into_iter(), usize::MAX),
        Err(Lost::ReadAgain)
    );
    let comes = TableChange {
        new: Some(row(3, Some("170141183460469231731687303715884105727"))),
        old: None,
        ..gone(row(3, None))
    };
    let twice = [&comes, &comes];
    assert_eq!(groups.apply(plan, &[], twice.into_iter(), usize::MAX), Err(Lost::TooLarge));
    assert_eq!(groups.apply(plan, &[], [&comes].into_iter(), 100), Err(Lost::TooLarge));
    assert_eq!(groups.visible().rows(), before);
}

#[test]
fn an_unchanged_long_value_is_the_old_rows() {
    let sql = "select label, count(*) as n from orders group by label";
    let template = case(sql, "label n:int8").analyse().expect("a statement");
    let Plan::Groups(plan) = &template.plan else { panic!("{:?}", template.notes) };
    let label = usize::from(plan.group_by[0].field.0);
    let mut old = vec![Datum::Null; plan.table.columns.len()];
    old[label] = Datum::Text(Bytes::from_static(b"long"));
    let mut new = old.clone();
    new[label] = Datum::UnchangedToast;
    let there: ReadRows = [["long", "1", "1"].map(Some)].into_iter().collect();
    let mut groups =
        Groups::read(plan, Bounds { offset: 0, limit: None }, &[], &there).expect("groups");
    let change = TableChange {
        table: plan.table.clone(),
        old: Some(old.into()),
        new: Some(new.clone().into()),
        is_update: true,
        identity: None,
    };
    assert_eq!(groups.apply(plan, &[], [&change].into_iter(), usize::MAX), Ok(Vec::new()));
    // Where nobody knows it, the result must be read.
    let change = TableChange { old: None, is_update: false, ..change };
    assert_eq!(groups.apply(plan, &[], [&change].into_iter(), usize::MAX), Err(Lost::ReadAgain));
}

#[test]
fn ranks_order_what_has_no_order_of_its_own() {
    let sql = "select status, count(*) as n from orders group by status order by status desc";
    let template = case(sql, "status n:int8").analyse().expect("a statement");
    let Plan::Groups(plan) = &template.plan else { panic!("{:?}", template.notes) };
    let row = |(label, rank)| [label, rank, "1", "1"].map(Some);
    let rows: ReadRows =
        [("open", "2"), ("new", "1"), ("paid", "3")].into_iter().map(row).collect();
    let bounds = Bounds { offset: 0, limit: None };
    let mut groups = Groups::read(plan, bounds, &[], &rows).expect("groups");
    let keys = |groups: &Groups| {
        groups.visible().rows().iter().map(|row| row.key().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(keys(&groups), ["paid", "open", "new"]);
    let of = |label: &'static str| {
        let mut row = vec![Datum::Null; plan.table.columns.len()];
        row[usize::from(plan.group_by[0].field.0)] =
            Datum::Text(Bytes::from_static(label.as_bytes()));
        Some(Fields::from(row))
    };
    let change = |old: Option<Fields>, new: Option<Fields>| TableChange {
        table: plan.table.clone(),
        is_update: old.is_some() && new.is_some(),
        old,
        new,
        identity: None,
    };
    let moved = change(of("open"), of("new"));
    groups.apply(plan, &[], [&moved].into_iter(), usize::MAX).expect("known labels");
    assert_eq!(keys(&groups), ["paid", "new"]);
    let back = change(None, of("open"));
    groups.apply(plan, &[], [&back].into_iter(), usize::MAX).expect("a label that had a rank");
    assert_eq!(keys(&groups), ["paid", "open", "new"]);
    let new = change(None, of("lost"));
    assert_eq!(groups.apply(plan, &[], [&new].into_iter(), usize::MAX), Err(Lost::ReadAgain));
}
