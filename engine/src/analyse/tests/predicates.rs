//! What a refreshed statement reads of each table.

use super::{analysed, check_refresh};
use crate::analyse::fixture::Case;
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
        &["customers: id = * [id]", "orders: tenant = * [id tenant]"],
    );
    check_refresh(
        &Case::new(
            "select o.id from customers c full join orders o on c.id = 3 where o.tenant = 1",
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
            "order_lines: quantity = * [all]",
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
        &Case::new(
            "select id, product from orders join order_lines using (id) where id = 1",
            "id product",
        ),
        &RowKeys::Appended(3),
        &["orders: id = * [id]", "order_lines: true [order_id position product]"],
    );
    check_refresh(
        &Case::new("select o as o from orders o", "o:record"),
        &RowKeys::Appended(1),
        &["orders: true [all]"],
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
