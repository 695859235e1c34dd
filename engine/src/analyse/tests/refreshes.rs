//! How a refreshed statement's rows are told apart, and the SQL that reads them.

use super::{analysed, check_refresh, check_refused, check_sql};
use crate::analyse::fixture::Case;
use crate::template::{Plan, RowKeys};

#[test]
fn groups_and_aggregates() {
    check_refresh(
        &Case::new(
            "select status, count(*) from orders where tenant = 1 group by status",
            "status count",
        ),
        &RowKeys::Appended(1),
        &["orders: tenant = * [id tenant status]"],
    );
    check_refresh(
        &Case::new("select sum(total) from orders where tenant = 1", "sum"),
        &RowKeys::OneRow,
        &["orders: tenant = * [id tenant total]"],
    );
    check_refresh(&Case::new("select 1 as a", "a"), &RowKeys::OneRow, &[]);
    check_refresh(
        &Case::new("select sum(total), unnest(tags) as t from orders", "sum t"),
        &RowKeys::Hash,
        &["orders: true [id total tags]"],
    );
    check_refresh(
        &Case::new("select (select sum(o.total)) as sum from orders o", "sum"),
        &RowKeys::Hash,
        &["orders: true [id total]"],
    );
    check_refresh(
        &Case::new(
            "select status, tenant, count(*) from orders group by rollup (status, tenant)",
            "status tenant count",
        ),
        &RowKeys::Hash,
        &["orders: true [id tenant status]"],
    );
    check_refresh(
        &Case::new(
            "select id, row_number() over (order by total) as n from orders where tenant = 1",
            "id n",
        ),
        &RowKeys::Appended(1),
        &["orders: tenant = * [id tenant total]"],
    );
}

#[test]
fn the_sql_of_refreshes() {
    check_sql(
        &Case::new("select id, total + 1 as t from orders order by total limit 5", "id t"),
        "SELECT to_jsonb(q.id)::text, to_jsonb(q.t)::text, q.convoy_key_0 FROM (select id, total + 1 as t, \
         (orders.id)::text AS convoy_key_0 from orders order by total, orders.id limit 5) AS q",
    );
    check_sql(
        &Case::new(
            "select lower(label) as label, count(*) as n from orders group by label, date_trunc('day', created)",
            "label n",
        ),
        "SELECT to_jsonb(q.label)::text, to_jsonb(q.n)::text, q.convoy_key_0, q.convoy_key_1 FROM (select lower(label) \
         as label, count(*) as n, (orders.label)::text AS convoy_key_0, (date_trunc('day', created))::text AS \
         convoy_key_1 from orders group by label, date_trunc('day', created) ORDER BY orders.label, \
         (date_trunc('day', created))) AS q",
    );
    check_sql(
        &Case::new(
            "select lower(label) as l, count(*) as n from orders group by 1 order by n desc",
            "l n",
        ),
        "SELECT to_jsonb(q.l)::text, to_jsonb(q.n)::text, q.l::text FROM (select lower(label) as l, count(*) as n \
         from orders group by 1 order by n desc, 1) AS q",
    );
    check_sql(
        &Case::new(
            "select distinct notes, name from customers limit 3; -- some",
            "notes:json name",
        ),
        "SELECT to_jsonb(q.notes)::text, to_jsonb(q.name)::text FROM (select distinct notes, name from customers) AS q \
         ORDER BY q.notes::text, q.name limit 3",
    );
    check_sql(
        &Case::new("select distinct label, data from orders order by label limit 3", "label data"),
        "SELECT to_jsonb(q.label)::text, to_jsonb(q.data)::text FROM (select distinct label, data from orders \
         order by label, 1, 2 limit 3) AS q",
    );
    check_sql(
        &Case::new("(select total + 1 as a from orders order by 1) limit 3", "a"),
        "SELECT to_jsonb(q.a)::text FROM ((select total + 1 as a from orders order by 1) limit 3) AS q",
    );
    check_sql(
        &Case::new(
            "select total + 1 as a from orders order by 1 fetch first 3 rows with ties",
            "a",
        ),
        "SELECT to_jsonb(q.a)::text, q.convoy_key_0 FROM (select total + 1 as a, (orders.id)::text AS convoy_key_0 \
         from orders order by 1 fetch first 3 rows with ties) AS q",
    );
    check_sql(
        &Case::new("-- @key a\nselect total + 1 as a from orders", "a"),
        "SELECT to_jsonb(q.a)::text FROM (select total + 1 as a from orders ORDER BY orders.id) AS q",
    );
    let case = Case::new("-- @key a\nselect total + 1 as a from orders", "a");
    assert!(
        matches!(&analysed(&case).plan, Plan::Refresh(plan) if plan.keys == RowKeys::Output(vec![0]))
    );
    check_refused(&Case::new("-- @key b\nselect total + 1 as a from orders", "a"), "@key names b");
    // Also where rows are told apart by the primary key.
    check_refused(&Case::new("-- @key b\nselect total as a from orders", "a"), "@key names b");
}
