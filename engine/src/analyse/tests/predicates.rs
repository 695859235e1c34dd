//! What a refreshed statement reads of each table.

use super::{analysed, check_refresh};
use crate::analyse::fixture::{Case, show_predicates};
use crate::template::RowKeys;
use convoy_query_index::Condition;

#[test]
fn joins_read_rows_by_their_conditions() {
    check_refresh(
        &Case::new(
            "select o.id, c.name from orders o join customers c on c.id = o.customer_id and c.active \
             where o.tenant = $1 and c.name > 'a' and o.total > c.id",
            "id name",
        )
        .params("int4"),
        &RowKeys::Appended(2),
        &["customers: (active = * and name > *) [id name active]", "orders: tenant = s0 [id tenant customer_id total]"],
    );
    check_refresh(
        &Case::new(
            "select o.id, c.name from orders o left join customers c on c.id = o.customer_id and c.active and o.active \
             where o.tenant = 1 and c.name is null",
            "id name",
        ),
        &RowKeys::Appended(2),
        &[
            "customers: active = * [id name active]",
            "orders: tenant = * [id tenant customer_id active]",
        ],
    );
    check_refresh(
        &Case::new(
            "select o.id from customers c right join orders o on c.id = 3 and o.id = 4 where o.tenant = 1 and c.id = 5",
            "id",
        ),
        &RowKeys::Appended(2),
        &["customers: (id = * and id = *) [id]", "orders: (tenant = * and id = *) [id tenant]"],
    );
    check_refresh(
        &Case::new(
            "select o.id from customers c full join orders o on c.id = 3 where o.tenant is null",
            "id",
        ),
        &RowKeys::Appended(2),
        &["customers: true [id]", "orders: true [id tenant]"],
    );
    // What an outer join makes null is null however the rows behind it look.
    check_refresh(
        &Case::new(
            "select o.id from (orders o left join order_lines l on l.order_id = o.id and l.quantity = 1) \
             join customers c on c.id = 7 and l.product = 'x' and o.tenant = 2",
            "id",
        ),
        &RowKeys::Appended(4),
        &[
            "customers: id = * [id]",
            "orders: tenant = * [id tenant]",
            "order_lines: (quantity = * and product = *) [all]",
        ],
    );
    check_refresh(
        &Case::new(
            "select a.id from orders a, orders b where a.id = 1 and b.tenant = 2 and b.label = a.label",
            "id",
        ),
        &RowKeys::Appended(2),
        &["orders: id = * [id label]", "orders: tenant = * [id tenant label]"],
    );
    check_refresh(
        &Case::new("select o as o from orders o", "o:record"),
        &RowKeys::Appended(1),
        &["orders: true [all]"],
    );
}

/// Checks the predicates of `select 1 as n from …`, without the columns that matter.
fn check_join(from: &str, params: &str, expect: &[&str]) {
    let template = analysed(&Case::new(&format!("select 1 as n from {from}"), "n").params(params));
    let shown = show_predicates(&template);
    let shown = shown.lines().map(|line| line.split(" [").next().unwrap_or(line));
    assert_eq!(shown.collect::<Vec<_>>(), expect, "{from}");
}

#[test]
fn equal_columns_share_conditions() {
    let check = check_join;
    check(
        "orders o join order_lines l on l.order_id = o.id where o.id = $1 and l.quantity > 2",
        "int8",
        &["orders: id = s0", "order_lines: (order_id = s0 and quantity > *)"],
    );
    check(
        "orders o, order_lines l, customers c where l.order_id = o.id and c.id = l.order_id and c.id in (1, $1)",
        "int4",
        &["customers: id in (*, s0)", "orders: id in (*, s0)", "order_lines: order_id in (*, s0)"],
    );
    check(
        "orders o join order_lines l on l.order_id = o.id where o.id between 3 and 5 or (o.id > $1 and not o.id = 8)",
        "int8",
        &[
            "orders: ((id >= * and id <= *) or (id > s0 and not id = *))",
            "order_lines: ((order_id >= * and order_id <= *) or (order_id > s0 and not order_id = *))",
        ],
    );
    // Values of other types, or under a collation of their own, are not equal when their keys are.
    check(
        "orders o join customers c on c.id = o.total and c.country = o.label and o.total = 7 and o.label = 'a'",
        "",
        &["customers: true", "orders: (total = * and label = *)"],
    );
    check(
        "orders o join customers c on c.email = o.label where c.email = 'a' and o.title = c.name and o.title = 'b'",
        "",
        &["customers: (email = * and name = *)", "orders: (label = * and title = *)"],
    );
    check(
        "orders o join customers c on o.id = c.id or c.id = 1 where c.id = 5",
        "",
        &["customers: id = *", "orders: true"],
    );
}

#[test]
fn templates_say_how_they_are_looked_up() {
    let check = |condition: &str, expect: &str| {
        let case = Case::new(&format!("select id from orders where {condition}"), "id");
        assert_eq!(analysed(&case).describe_access(), [expect], "{condition}");
    };
    check("tenant = 1 and data->>'k' = 'x'", "equality (tenant, data->>'k')");
    check("label like 'a%'", "prefix (label)");
    check("tags @> '{a}'", "element (tags)");
    check("label ilike 'a%'", "table");
    let wide = |column: &str| {
        let parts = (0..40).map(|n| format!("({column} = {n} and id <> {n})"));
        format!("({})", parts.collect::<Vec<_>>().join(" or "))
    };
    let case = Case::new(&format!("select id from orders where {}", wide("tenant")), "id");
    let access = analysed(&case).describe_access();
    assert!(access[0].starts_with("table, for an OR has more than"), "{access:?}");
}

#[test]
fn merged_columns_share_conditions() {
    let check = check_join;
    check(
        "orders a join orders b using (id, tenant) where id = $1 and b.tenant = 7",
        "int8",
        &["orders: (id = s0 and tenant = *)", "orders: (id = s0 and tenant = *)"],
    );
    check(
        "orders a left join orders b using (tenant) where tenant = 7",
        "",
        &["orders: tenant = *", "orders: tenant = *"],
    );
    check(
        "orders a right join orders b using (tenant) where tenant = 7",
        "",
        &["orders: tenant = *", "orders: tenant = *"],
    );
    check(
        "orders a full join orders b using (tenant) where tenant = 7",
        "",
        &["orders: true", "orders: true"],
    );
    // An int4 and an int8.
    check(
        "orders join customers using (id) where id = 7 and customers.id = 8",
        "",
        &["customers: id = *", "orders: id = *"],
    );
    check("orders a natural join orders b where id = 7", "", &["orders: id = *", "orders: id = *"]);
    check(
        "orders a join orders b using (id) join orders c using (id) where id = 7 and c.tenant = 1",
        "",
        &["orders: id = *", "orders: id = *", "orders: (id = * and tenant = *)"],
    );
    check(
        "orders a natural join (select 1 as id) q join orders b on b.id = a.id where id = 7",
        "",
        &["orders: true", "orders: true"],
    );
}

#[test]
fn outer_joins_share_what_is_said_of_the_side_that_is_kept() {
    let check = check_join;
    check(
        "orders o left join order_lines l on l.order_id = o.id and o.active where o.id = $1 and o.label = 'x'",
        "int8",
        &["orders: (id = s0 and label = *)", "order_lines: order_id = s0"],
    );
    // The other way: a row of orders is shown whether there is a line or not.
    check(
        "orders o left join order_lines l on l.order_id = o.id and l.order_id = 5",
        "",
        &["orders: true", "order_lines: order_id = *"],
    );
    check(
        "orders o left join order_lines l on l.order_id = o.id where l.order_id is null and o.tenant = 1",
        "",
        &["orders: tenant = *", "order_lines: true"],
    );
    // Never true where there is no line: an inner join.
    check(
        "orders o left join order_lines l on l.order_id = o.id where l.order_id = 5 and l.quantity is null",
        "",
        &["orders: id = *", "order_lines: (order_id = * and quantity is null)"],
    );
    check(
        "orders o left join order_lines l on l.order_id = o.id where l.order_id = 5 or o.id = 5",
        "",
        &["orders: true", "order_lines: true"],
    );
    check(
        "orders o left join order_lines l on l.order_id = o.id left join customers c on c.id = l.order_id \
         where o.id = 5",
        "",
        &["customers: id = *", "orders: id = *", "order_lines: order_id = *"],
    );
    check(
        "orders o left join order_lines l on l.order_id = o.id \
         left join customers c on c.id = o.id and l.order_id is null where o.id = 5",
        "",
        &["customers: id = *", "orders: id = *", "order_lines: order_id = *"],
    );
    check(
        "orders o left join order_lines l on l.order_id = o.id join customers c on c.id = l.order_id \
         where c.id = 5",
        "",
        &["customers: id = *", "orders: id = *", "order_lines: order_id = *"],
    );
    check(
        "orders o full join order_lines l on l.order_id = o.id and l.order_id = 3 where o.id = 5 and l.quantity is null",
        "",
        &["orders: id = *", "order_lines: true"],
    );
    check(
        "(orders o left join order_lines l on l.order_id = o.id) join customers c on c.id = o.id where c.id = 5",
        "",
        &["customers: id = *", "orders: id = *", "order_lines: order_id = *"],
    );
}

#[test]
fn subqueries_and_views_read_whole_tables() {
    check_refresh(
        &Case::new(
            "select o.id, (select count(*) from order_lines l where l.order_id = o.id and label = 'x') as n \
             from orders o where o.tenant = 1",
            "id n",
        ),
        &RowKeys::Appended(1),
        &["orders: tenant = * [id tenant label]", "order_lines: true [all]"],
    );
    check_refresh(
        &Case::new(
            "select id from orders where tenant = 1 and id in (select order_id from order_lines)",
            "id",
        ),
        &RowKeys::Appended(1),
        &["orders: tenant = * [id tenant]", "order_lines: true [all]"],
    );
    check_refresh(
        &Case::new(
            "select id from orders where tenant = 1 and id > (select max(id) from orders)",
            "id",
        ),
        &RowKeys::Appended(1),
        &["orders: true [all]"],
    );
    check_refresh(
        &Case::new(
            "select id, (select max(total) from order_lines, orders) as m from customers where active",
            "id m",
        ),
        &RowKeys::Appended(1),
        &["customers: active = * [id active]", "orders: true [all]", "order_lines: true [all]"],
    );
    check_refresh(
        &Case::new(
            "with w as (select * from orders) select w.id from w join customers c on c.id = 1",
            "id",
        ),
        &RowKeys::Hash,
        &["customers: id = * [id]", "orders: true [all]"],
    );
    check_refresh(
        &Case::new(
            "with orders as (select * from orders) select id from orders where tenant = 1",
            "id",
        ),
        &RowKeys::Hash,
        &["orders: true [all]"],
    );
    check_refresh(
        &Case::new("select id from recent_orders where id = 1", "id"),
        &RowKeys::Hash,
        &["orders: true [all]"],
    );
    check_refresh(
        &Case::new("select q.id from (select id from orders where tenant = 1) q", "id"),
        &RowKeys::Hash,
        &["orders: true [all]"],
    );
    check_refresh(
        &Case::new(
            "select o.id, u as u from orders o, unnest(o.tags) u where o.tenant = 1",
            "id u",
        ),
        &RowKeys::Hash,
        &["orders: tenant = * [id tenant tags]"],
    );
}

#[test]
fn what_is_not_understood_reads_whole_tables() {
    let check = |case: Case, expect: &str| {
        let template = analysed(&case);
        for predicate in &template.predicates {
            assert_eq!(predicate.condition, Condition::always(), "{}", case.sql);
        }
        assert_eq!(template.predicates.len(), case.facts.tables.len(), "{}", case.sql);
        assert!(
            template.notes.iter().any(|note| note.contains(expect)),
            "{}: {:?}",
            case.sql,
            template.notes
        );
    };
    check(Case::new("select id from only orders where tenant = 1", "id"), "FROM ONLY");
    check(
        Case::new("select id from orders tablesample system (10) where tenant = 1", "id"),
        "FROM",
    );
    check(
        Case::new("select id from orders where data is json and tenant = 1", "id"),
        "expression is not analysed",
    );
    check(
        Case::new("select id from orders where tenant = 1 /* customers */", "id"),
        "customers, which the statement",
    );
    check(
        Case::new("select o.id from orders o, customers c where tenant = 1", "id")
            .table("orders", |table| table.row_security = true),
        "policies",
    );
    let chain = vec!["label"; 100_000].join(" || ");
    check(
        Case::new(&format!("select id from orders where {chain} = 'x' and tenant = 1"), "id"),
        "too long",
    );
    let deep = format!("{}tenant = 1{}", "(".repeat(2000), ")".repeat(2000));
    check(Case::new(&format!("select id from orders where {deep}"), "id"), "too long");
    let deep = format!("{}tenant = 1{}", "(".repeat(200), ")".repeat(200));
    check(Case::new(&format!("select id from orders where {deep}"), "id"), "syntax");
}

#[test]
fn set_operations_read_each_side_by_its_conditions() {
    check_refresh(
        &Case::new(
            "select id from orders where tenant = 1 union all (select id from customers where active) order by 1",
            "id",
        ),
        &RowKeys::Hash,
        &["customers: active = * [id active]", "orders: tenant = * [id tenant]"],
    );
    // A WITH query of a subquery hides no table from the other side.
    check_refresh(
        &Case::new(
            "select id from orders where tenant = 1 and exists (with orders as (select 1 as x) select 2) \
             union all select id from orders",
            "id",
        ),
        &RowKeys::Hash,
        &["orders: tenant = * [id tenant]", "orders: true [id]"],
    );
}
