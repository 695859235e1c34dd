//! Which changes of rows that a result does not hold are said not to matter.

use super::analysed;
use crate::analyse::fixture::Case;
use crate::facts::TableFacts;
use crate::template::{Plan, QueryTemplate};
use convoy_query_index::{FieldSet, FieldValue, RowImages};
use convoy_types::{Key, PgType, ReplicaIdentity};

/// Writes down, for each place of a table of which it is known, which columns decide what is held, and whether deletes
/// matter.
fn shown(template: &QueryTemplate) -> Vec<String> {
    let unheld = template.predicates.iter().filter_map(|predicate| {
        let unheld = predicate.unheld.as_ref()?;
        let table = template.tables.iter().find(|table| table.id == predicate.relation);
        let table = table.expect("a predicate's table is one of the template's");
        let columns = unheld.decided_by.iter().map(|field| table.column(field).name.clone());
        let columns = columns.collect::<Vec<_>>().join(" ");
        let deletes = if unheld.deletes_matter { " and deletes" } else { "" };
        Some(format!("{}: {columns}{deletes}", table.name))
    });
    unheld.collect()
}

/// Checks a statement's notes of what is not held, and that its plan names what is held of the same tables.
fn check_case(case: &Case, expect: &[&str]) {
    let template = analysed(case);
    assert_eq!(shown(&template), expect, "{}: {:?}", case.sql, template.notes);
    let Plan::Refresh(plan) = &template.plan else { panic!("{} is no refresh", case.sql) };
    let asked = template.predicates.iter().filter(|predicate| predicate.unheld.is_some());
    let asked: Vec<_> = asked.map(|predicate| predicate.relation).collect();
    let held: Vec<_> = plan.held.iter().map(|table| table.relation).collect();
    assert_eq!(held, asked, "{}", case.sql);
}

fn case(sql: &str) -> Case {
    let list = sql.split_once(" from ").map_or(sql, |(list, _)| list);
    let list = list.trim_start_matches("select ").trim_start_matches("distinct ");
    let names = list.split(", ").map(|item| item.rsplit([' ', '.']).next().unwrap_or(item));
    let params = if sql.contains("$1") { "int4" } else { "" };
    Case::new(sql, &names.collect::<Vec<_>>().join(" ")).params(params)
}

/// Checks `select o.id, c.name, c.email from …`.
fn check(from: &str, expect: &[&str]) {
    check_case(&case(&format!("select o.id, c.name, c.email from {from}")), expect);
}

const JOIN: &str = "orders o join customers c on c.id = o.customer_id";
const LEFT: &str = "orders o left join customers c on c.id = o.customer_id";

#[test]
fn the_inner_tables_rows_matter_where_the_result_holds_them() {
    check(&format!("{JOIN} where o.tenant = $1"), &["customers: id"]);
    check(&format!("{JOIN} and c.active where o.tenant = $1"), &["customers: id active"]);
    check(&format!("{JOIN} where o.tenant = $1 and c.name <> o.label"), &["customers: id name"]);
    check(&format!("{JOIN} where o.tenant = $1 order by c.name, 2"), &["customers: id"]);
    check("orders o, customers c where c.id = o.customer_id and o.tenant = $1", &["customers: id"]);
    // By an argument live queries are told apart already.
    check(&format!("{JOIN} where o.tenant = $1 and c.country = o.label and c.id = $1"), &[]);
    check(&format!("{JOIN} where o.tenant = $1 and o.customer_id = $1"), &[]);
    // No constant of the statement's does so.
    check(
        &format!("{JOIN} where o.tenant = 1"),
        &["customers: id", "orders: id tenant customer_id"],
    );
    // Any row has its place in the result; but not where nothing is there to have it with.
    check("orders o, customers c", &[]);
    check("orders o, customers c where o.tenant = $1", &["customers: id"]);
    let both = "select a.id, b.label from orders a join orders b using (tenant) where a.id = $1";
    check_case(&case(both), &["orders: id tenant"]);
    let natural = "select l.quantity, o.label from order_lines l natural join orders o";
    check_case(&case(natural), &[]);
}

#[test]
fn a_delete_may_bring_a_row_with_nulls() {
    check(&format!("{LEFT} where o.tenant = $1"), &["customers: id"]);
    check(&format!("{LEFT} where o.tenant = $1 and c.active"), &["customers: id active"]);
    check(
        &format!("{LEFT} where o.tenant = $1 and c.active is null"),
        &["customers: id active and deletes"],
    );
    check(
        &format!("{LEFT} where o.tenant = $1 and coalesce(c.active, true)"),
        &["customers: id active and deletes"],
    );
    // Another join sees whether there is one.
    check(
        &format!("{LEFT} left join order_lines l on l.order_id = c.id where o.tenant = $1"),
        &["customers: id and deletes", "order_lines: order_id position"],
    );
    check(
        &format!("{LEFT} join order_lines l on l.order_id = o.id where o.tenant = $1"),
        &["customers: id", "order_lines: order_id position"],
    );
    check(
        &format!("{LEFT} join order_lines l on l.order_id = c.id where o.tenant = $1"),
        &["customers: id", "order_lines: order_id position"],
    );
    check(
        "customers c right join orders o on c.id = o.customer_id and o.active where o.tenant = $1",
        &["customers: id"],
    );
    // Rows of either side are shown anyway.
    check("orders o full join customers c on c.id = o.customer_id", &[]);
    check(
        "orders o full join customers c on c.id = o.customer_id where o.label = c.name",
        &["customers: id name", "orders: id customer_id label"],
    );
    check(
        "orders o full join customers c on c.id = o.customer_id where o.label is null limit 3",
        &["customers: id and deletes"],
    );
}

#[test]
fn where_rows_are_counted_off_their_order_decides() {
    let limited = |tail: &str| format!("{JOIN} where o.tenant = $1 {tail}");
    let orders = "orders: id tenant customer_id";
    check(&limited("order by o.id limit 3"), &["customers: id", orders]);
    check(&limited("order by c.name limit 3"), &["customers: id name", orders]);
    check(&limited("order by c.name fetch first 3 rows only"), &["customers: id name", orders]);
    check(&limited("order by name desc limit $1"), &["customers: id name", orders]);
    check(&limited("order by 3 limit 3"), &["customers: id email", orders]);
    check(&limited("order by lower(c.name) limit 3"), &["customers: id name", orders]);
    check(&limited("order by c.name offset 3"), &["customers: id name and deletes"]);
    check(&limited("limit 3 offset 3"), &["customers: id and deletes"]);
    check(
        &format!("{LEFT} where o.tenant = $1 order by o.id limit 3"),
        &["customers: id and deletes", orders],
    );
    // A bare name is a column of the result first of all.
    let named =
        format!("select o.id, lower(c.email) as label, c.name from {JOIN} order by label limit 3");
    check_case(&case(&named), &["customers: id email", "orders: id customer_id label"]);
    let inside = named.replace("by label", "by label || 'a'");
    check_case(&case(&inside), &["customers: id", "orders: id customer_id label"]);
    // Which item of the list it is can't be told.
    let all = Case::new(
        &format!("select c.*, o.label from {JOIN} order by 8 limit 3"),
        "id name email country active created notes label",
    );
    let of_customer = "customers: id name email country active created notes";
    check_case(&all, &[of_customer, "orders: id customer_id label"]);
    // One table, for its order is not ours.
    let one = "select id, token from orders where tenant = $1 order by title limit 3";
    check_case(&case(one), &["orders: id tenant title"]);
}

#[test]
fn only_rows_that_are_combinations_say_what_they_hold() {
    let joined = |list: &str, tail: &str| format!("select {list} from {JOIN} {tail}");
    for sql in [
        joined("distinct o.id, c.name", ""),
        joined("o.status, count(*) as n", "group by o.status"),
        joined("count(*) as n", ""),
        joined("o.id, row_number() over (order by c.name) as n", ""),
        joined("o.id, unnest(o.tags) as tag", ""),
        joined("o.id, secret(o.id) as n", ""),
        joined("o.id, now() as n", ""),
        format!("{} union all {}", joined("o.id", ""), joined("o.id", "")),
        joined("o.id, c.name", ", (select 1 as one) s"),
        joined("o.id, c.name", "join lateral (select 1 as one) s on s.one = o.id"),
        format!("with s as (select 1 as one) {}", joined("o.id", "join s on s.one = o.id")),
        joined("o.id, c.name", "join recent_orders r on r.id = o.id"),
        joined("o.id, c.name", "join logs l on l.message = c.name"),
    ] {
        let template = case(&sql).analyse();
        // Some of them can't be live at all.
        let shown = template.as_ref().map(shown).unwrap_or_default();
        assert_eq!(shown, [""; 0], "{sql}");
    }
    // What stands in subqueries as well is read as a whole.
    let exists =
        joined("o.id, c.name", "where exists (select 1 from customers i where i.name = o.label)");
    check_case(&case(&exists), &["orders: id customer_id label"]);
    let listed = joined(
        "o.id, (select max(l.quantity) from order_lines l where l.order_id = c.id) as most",
        "",
    );
    check_case(&case(&listed), &["customers: id", "orders: id customer_id"]);
}

#[test]
fn directives_and_tables_may_forbid_it() {
    let sql = format!("select o.id, c.name from {JOIN} where o.tenant = $1");
    for directive in ["-- @refresh 5s\n", "-- @key id\n", "-- @depends customers\n"] {
        let mut case = case(&sql);
        case.sql.insert_str(0, directive);
        check_case(&case, &[]);
    }
    let with = |change: fn(&mut TableFacts)| case(&sql).table("customers", change);
    check_case(&with(|_| {}), &["customers: id"]);
    check_case(&with(|table| table.identity = ReplicaIdentity::Full), &["customers: id"]);
    check_case(&with(|table| table.identity = ReplicaIdentity::Index), &[]);
    let keyless = |table: &mut TableFacts| {
        table.primary_key.clear();
        table.identity = ReplicaIdentity::Full;
    };
    check_case(&with(keyless), &[]);
    check_case(&with(|table| table.row_security = true), &[]);
    check_case(&with(|table| table.leaves.push(convoy_types::RelationId(77))), &[]);
    check_case(&with(|table| table.columns[0].ty = PgType::Other), &[]);
}

#[test]
fn why_names_the_place_where_a_row_matters() {
    let from = "orders b join orders a on b.id = a.customer_id where a.label > 'a'";
    let template = analysed(&case(&format!("select a.id, b.label from {from}")));
    assert_eq!(shown(&template), ["orders: id", "orders: id customer_id label"]);
    let table = &template.tables[0];
    let label = table.field("label").expect("it has one");
    let row = |text: &str| {
        let mut row = vec![FieldValue::Unknown; table.columns.len()];
        let key = Key::of(&PgType::Text, text.as_bytes()).expect("a text");
        row[usize::from(label.0)] = FieldValue::Key(key);
        row
    };
    let key = Key::of(&PgType::Int8, b"7").expect("a number");
    let (old, changed): (_, FieldSet) = (row("b"), [label].into_iter().collect());
    let images = RowImages {
        relation: table.id,
        old: Some(&old),
        new: Some(&row("c")),
        old_key: Some(&key),
        new_key: Some(&key),
        changed: Some(&changed),
    };
    // As the inner row it matters where it is held alone.
    assert_eq!(template.predicate_met(&[], &images, || true), 0);
    assert_eq!(template.predicate_met(&[], &images, || false), 1);
}
