//! Which statements are kept from row changes, and how their rows are read.

use super::{analysed, check_sql, window};
use crate::analyse::fixture::{Case, show_predicates};
use crate::facts::TableKind;
use crate::template::{Count, Direction, Nulls, Plan};
use convoy_query_index::OldRows;
use convoy_types::{RelationId, ReplicaIdentity};

#[test]
fn windows() {
    let case = Case::new(
        "select o.total as sum, o.id, o.label from shop.orders as o where o.tenant = $1 -- mine\n\
         order by sum desc, 3, o.active nulls first limit 10 offset $2;",
        "sum:numeric id label",
    )
    .params("int4 int8");
    let template = analysed(&case);
    let plan = window(&template);
    let names =
        plan.source.iter().map(|field| plan.table.column(*field).name.as_str()).collect::<Vec<_>>();
    assert_eq!(names, ["total", "id", "label", "active"]);
    assert_eq!(
        (plan.output.as_slice(), plan.key.as_slice()),
        ([0, 1, 2].as_slice(), [1].as_slice())
    );
    let order =
        plan.order.iter().map(|item| (item.source, item.direction, item.nulls)).collect::<Vec<_>>();
    assert_eq!(
        order,
        [
            (0, Direction::Descending, Nulls::First),
            (2, Direction::Ascending, Nulls::Last),
            (3, Direction::Ascending, Nulls::First)
        ]
    );
    assert_eq!((plan.limit, plan.offset), (Some(Count::Constant(10)), Some(Count::Param(1))));
    assert_eq!(
        show_predicates(&template),
        "orders: (tenant = s0 and (total >= s1 or total is null)) [id tenant total label active]"
    );
    assert_eq!(template.predicates[0].old_rows, OldRows::Membership);
    check_sql(
        &case,
        "SELECT o.total::text, o.id::text, o.label::text, CASE WHEN o.active THEN 't' WHEN NOT o.active THEN 'f' END \
         FROM shop.orders AS o WHERE o.tenant = $1 ORDER BY o.total DESC, o.label, o.active NULLS FIRST, o.id \
         LIMIT least(coalesce($2::int8, 0)::numeric + 10 + 13, 9223372036854775807)::int8 OFFSET least($2::int8, 0)",
    );
    check_sql(
        &Case::new(
            "select * from order_lines order by 2 desc",
            "order_id position product quantity",
        ),
        "SELECT order_lines.order_id::text, order_lines.position::text, order_lines.product::text, \
         order_lines.quantity::text FROM shop.order_lines ORDER BY order_lines.position DESC, order_lines.order_id",
    );
    check_sql(
        &Case::new("select c.country from customers c fetch first 2 rows only", "country"),
        "SELECT textin(bpcharout(c.country)), c.id::text FROM shop.customers AS c ORDER BY c.id \
         LIMIT least(0::numeric + 2 + 9, 9223372036854775807)::int8",
    );
    check_sql(
        &Case::new("select id from customers order by id limit $1::int8 offset 5", "id")
            .params("int8"),
        "SELECT customers.id::text FROM shop.customers ORDER BY customers.id LIMIT CASE WHEN $1::int8 >= 0 THEN \
         least(5::numeric + $1::int8 + least($1::int8 / 2 + 8, 1000), 9223372036854775807)::int8 ELSE $1::int8 END",
    );
}

#[test]
fn an_order_names_the_results_columns_first() {
    let case = Case::new(
        "select tenant as id, id as tenant from orders order by id",
        "id:int4 tenant:int8",
    );
    let template = analysed(&case);
    let plan = window(&template);
    assert_eq!(plan.table.column(plan.source[plan.order[0].source]).name, "tenant");
}

#[test]
fn no_windows() {
    let check = |case: Case, expect: &str| {
        let template = analysed(&case);
        assert!(matches!(template.plan, Plan::Refresh(_)), "{}", case.sql);
        assert!(template.notes[0].contains(expect), "{}: {:?}", case.sql, template.notes);
    };
    let orders = || Case::new("select id from orders", "id");
    check(orders().table("orders", |table| table.row_security = true), "row level security");
    check(
        orders().table("orders", |table| table.identity = ReplicaIdentity::Index),
        "replica identity",
    );
    check(orders().table("orders", |table| table.primary_key.clear()), "no primary key");
    check(
        orders().table("orders", |table| table.leaves.push(RelationId(9))),
        "inheritance children",
    );
    check(Case::new("select id + 1 as id from orders", "id"), "more than plain columns");
    check(Case::new("select notes from customers", "notes"), "shown by Postgres alone");
    check(Case::new("select doubled from orders", "doubled"), "generated column");
    check(Case::new("select id from orders where doubled = 4", "id"), "generated column");
    check(Case::new("select id from orders order by title", "id"), "not that of its bytes");
    check(
        Case::new("select id from orders order by id + 1", "id"),
        "ORDER BY is more than columns",
    );
    check(Case::new("select distinct on (id) id from orders", "id"), "DISTINCT");
    check(Case::new("select id from orders limit 2 + 3", "id"), "LIMIT or OFFSET");
    check(
        Case::new("select id from orders order by id fetch first 2 rows with ties", "id"),
        "WITH TIES",
    );
    check(Case::new("select o.id from orders o, customers c", "id"), "just one table");
    check(Case::new("select id from only orders", "id"), "FROM ONLY");
    check(Case::new("select x.a as id from orders as x(a)", "id"), "renames columns");
    check(
        Case::new("select id, label from orders", "id x:text"),
        "names the columns of the result otherwise",
    );
}

#[test]
fn partitions_and_full_identity_make_windows() {
    let case = Case::new("select id from orders", "id").table("orders", |table| {
        table.kind = TableKind::Partitioned;
        table.leaves.push(RelationId(9));
        table.identity = ReplicaIdentity::Full;
    });
    let template = analysed(&case);
    window(&template);
    assert_eq!(template.predicates[0].old_rows, OldRows::Condition);
}
