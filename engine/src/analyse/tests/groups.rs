//! Which aggregates are kept from row changes, and how their groups are read.

use super::{analysed, check_sql};
use crate::analyse::fixture::{Case, show_predicates};
use crate::template::Plan;
use convoy_types::{Collation, ReplicaIdentity};

fn full(sql: &str, columns: &str) -> Case {
    Case::new(sql, columns).table("orders", |table| table.identity = ReplicaIdentity::Full)
}

/// Checks that an aggregate is kept.
fn check_kept(sql: &str, columns: &str) {
    let template = analysed(&full(sql, columns));
    assert!(matches!(template.plan, Plan::Groups(_)), "{sql}: {:?}", template.notes);
}

/// Checks that an aggregate is refreshed, and why.
fn check_refreshed(case: &Case, why: &str) {
    let template = analysed(case);
    assert!(matches!(template.plan, Plan::Refresh(_)), "{}", case.sql);
    assert!(template.notes[0].contains(why), "{}: {:?}", case.sql, template.notes);
}

#[test]
fn groups_are_read_with_their_state() {
    let case = full(
        "select o.tenant, count(*) filter (where o.label = ')') as n, sum(o.total) as t from orders o \
         where customer_id > $1 group by o.tenant having count(*) > $2 order by n desc limit $3",
        "tenant n:int8 t:numeric",
    )
    .params("int4 int8 int8");
    check_sql(
        &case,
        "SELECT o.tenant::text, scale(o.total)::text, GROUPING(scale(o.total))::text, count(*)::text, \
         (count(*) FILTER (WHERE o.label = ')'))::text, \
         (sum(o.total) FILTER (WHERE o.total > '-Infinity'::numeric AND o.total < 'Infinity'::numeric))::text, \
         (count(o.total) FILTER (WHERE o.total > '-Infinity'::numeric AND o.total < 'Infinity'::numeric))::text, \
         (count(o.total) FILTER (WHERE o.total = 'NaN'::numeric))::text, \
         (count(o.total) FILTER (WHERE o.total = 'Infinity'::numeric))::text, \
         (count(o.total) FILTER (WHERE o.total = '-Infinity'::numeric))::text, (count(*))::text \
         FROM shop.orders AS o WHERE customer_id > $1 GROUP BY GROUPING SETS ((o.tenant), (o.tenant, scale(o.total))) \
         LIMIT CASE WHEN $3::int8 < 0 THEN $3::int8 ELSE NULL END",
    );
    let template = analysed(&case);
    assert_eq!(
        show_predicates(&template),
        "orders: customer_id > s0 [tenant customer_id total label]"
    );
    check_sql(
        &full("select max(placed) as m, status from orders group by 2", "m:date status"),
        "SELECT orders.status::text, (dense_rank() OVER (ORDER BY orders.status))::text, orders.placed::text, \
         GROUPING(orders.placed)::text, count(*)::text, (count(orders.placed))::text FROM shop.orders \
         GROUP BY GROUPING SETS ((orders.status), (orders.status, orders.placed))",
    );
    check_sql(
        &full("select count(*) as n from orders", "n:int8"),
        "SELECT count(*)::text, (count(*))::text FROM shop.orders",
    );
}

#[test]
fn what_is_kept() {
    check_kept(
        "select sum(customer_id)::int8 as s from orders having sum(customer_id) is not null",
        "s:int8",
    );
    check_kept(
        "select coalesce(sum(total), 0) as s, count(1) as n from orders",
        "s:numeric n:int8",
    );
    check_kept("select coalesce(sum(customer_id), 7)::int as s from orders", "s:int4");
    check_kept(
        "select title, count(*) as n from orders group by title order by title",
        "title n:int8",
    );
    check_kept(
        "select count(distinct title) as n, min(label) as low from orders",
        "n:int8 low:text",
    );
    check_kept(
        "select tenant as t from orders group by t having min(placed) < '2026-01-01'",
        "t:int4",
    );
    check_kept(
        "select avg(total) as a from orders group by tenant order by count(*), 1",
        "a:numeric",
    );
    let kept = full("select total from orders group by total", "total")
        .table("orders", |table| table.columns[4].scale = Some(2));
    assert!(matches!(analysed(&kept).plan, Plan::Groups(_)));
}

#[test]
fn rows_of_a_distinct_are_groups() {
    let case = full(
        "select distinct tenant, label as l from orders where active order by l limit 3",
        "tenant l:text",
    );
    check_sql(
        &case,
        "SELECT orders.tenant::text, orders.label::text, count(*)::text FROM shop.orders WHERE active \
         GROUP BY orders.tenant, orders.label",
    );
    let template = analysed(&case);
    let Plan::Groups(plan) = &template.plan else { panic!("{:?}", template.notes) };
    assert_eq!(
        &*plan.refresh.sql.replace("pg_catalog.", ""),
        "SELECT to_jsonb(q.\"tenant\")::text, to_jsonb(q.\"l\")::text, q.\"tenant\"::text, q.\"l\"::text \
         FROM (select distinct tenant, label as l from orders where active order by l, 1, 2 limit 3) AS q"
    );
    let check = |sql: &str, columns: &str, why: &str| check_refreshed(&full(sql, columns), why);
    check("select distinct lower(label) as l from orders", "l:text", "of more than columns");
    check("select distinct on (tenant) tenant from orders", "tenant", "of more than columns");
    check("select distinct data from orders", "data", "may be equal and look different");
    check("select distinct tenant, tenant as t from orders", "tenant t:int4", "twice");
    check("select distinct count(*) as n from orders", "n:int8", "of more than columns");
    check("select distinct tenant from orders group by tenant", "tenant", "of more than columns");
}

#[test]
fn conditions_may_be_on_values_inside_of_documents() {
    let case =
        full("select count(*) as n from orders where data->>'k' = $1", "n:int8").params("text");
    let template = analysed(&case);
    assert!(matches!(template.plan, Plan::Groups(_)), "{:?}", template.notes);
    assert_eq!(show_predicates(&template), "orders: data->>'k' = s0 [data]");
    check_kept(
        "select tenant, count(*) filter (where (data->>'n')::int4 > 3) as n from orders \
         where data @> '{\"a\": 1}' group by tenant",
        "tenant n:int8",
    );
    check_kept(
        "select count(*) as n from orders where data->>'k' = 'x' and data->'a'->>'b' = 'y'",
        "n:int8",
    );
}

#[test]
fn what_is_read_again() {
    let check = |sql: &str, columns: &str, why: &str| check_refreshed(&full(sql, columns), why);
    check_refreshed(
        &Case::new("select count(*) as n from orders", "n:int8"),
        "with ALTER TABLE \"shop\".\"orders\" REPLICA IDENTITY FULL it would",
    );
    check("select sum(ratio) as s from orders", "s:float4", "the order in which they are added up");
    check("select max(status) as m from orders", "m:order_status", "the order of status");
    check("select max(total) as m from orders", "m:numeric", "may be equal and look different");
    check("select total from orders group by total", "total", "may be equal and look different");
    check(
        "select doubled, count(*) as n from orders group by doubled",
        "doubled n:int8",
        "is a generated column",
    );
    check("select count(*) + 1 as n from orders", "n:int8", "it computes with more");
    check(
        "select count(*) as n from orders where lower(label) = 'x'",
        "n:int8",
        "its WHERE has more",
    );
    check(
        "select count(*) filter (where lower(label) = 'x') as n from orders",
        "n:int8",
        "a FILTER has more",
    );
    check(
        "select tenant from orders group by tenant having count(*) filter (where active) > 1",
        "tenant",
        "it filters otherwise",
    );
    check(
        "select tenant from orders group by tenant having count(*) > count(label)",
        "tenant",
        "its HAVING has more",
    );
    check(
        "select count(*) as n from orders group by rollup (tenant)",
        "n:int8",
        "GROUP BY is more than columns",
    );
    check("select sum(distinct tenant) as s from orders", "s:int8", "sum(DISTINCT");
    check(
        "select count(distinct tenant) as n from orders group by tenant",
        "n:int8",
        "the values of a column that it groups by",
    );
    check_refreshed(
        &full(
            "-- @key tenant\nselect tenant, count(*) as n from orders group by tenant",
            "tenant n:int8",
        ),
        "told apart by other columns",
    );
    check_refreshed(
        &full("select title, count(*) as n from orders group by title", "title n:int8")
            .table("orders", |table| table.columns[12].collation = Collation::Nondeterministic),
        "may be equal and look different",
    );
}
