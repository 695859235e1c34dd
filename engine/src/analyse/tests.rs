//! What the analysis makes of statements, by many small cases.

use crate::analyse::fixture::{Case, show, show_predicates};
use crate::facts::{Publication, TableKind};
use crate::template::{Count, Direction, Nulls, Plan, QueryTemplate, RowKeys, WindowPlan};
use convoy_query_index::{CompareOp, Condition, OldRows, Operand};
use convoy_types::{Key, PgType, RelationId, ReplicaIdentity};

fn analysed(case: &Case) -> QueryTemplate {
    match case.analyse() {
        Ok(template) => template,
        Err(error) => panic!("{}: {error}", case.sql),
    }
}

fn window(template: &QueryTemplate) -> &WindowPlan {
    match &template.plan {
        Plan::Window(window) => window,
        Plan::Refresh(refresh) => panic!("{}: {:?}", refresh.sql, template.notes),
    }
}

/// Checks that a WHERE on orders is exact, and what it says.
fn check_exact(condition: &str, params: &str, expect: &str) {
    let case = Case::new(&format!("select id from orders where {condition}"), "id").params(params);
    let template = analysed(&case);
    let window = window(&template);
    assert_eq!(show(&window.condition, &window.table), expect, "{condition}");
}

/// Checks that a WHERE on orders is refreshed, and what is known of it all the same.
fn check_weaker(condition: &str, params: &str, expect: &str) {
    let case = Case::new(&format!("select id from orders where {condition}"), "id").params(params);
    let template = analysed(&case);
    assert!(matches!(template.plan, Plan::Refresh(_)), "{condition}");
    let shown = show_predicates(&template);
    let shown = shown
        .strip_prefix("orders: ")
        .and_then(|shown| shown.rsplit_once(" ["))
        .expect("one predicate")
        .0;
    assert_eq!(shown, expect, "{condition}");
}

/// Checks how a refreshed statement's rows are told apart, and its predicates.
fn check_refresh(case: &Case, keys: &RowKeys, expect: &[&str]) {
    let template = analysed(case);
    let Plan::Refresh(plan) = &template.plan else { panic!("{} is no refresh", case.sql) };
    assert_eq!(&plan.keys, keys, "{}: {:?}", case.sql, template.notes);
    assert_eq!(show_predicates(&template), expect.join("\n"), "{}: {:?}", case.sql, template.notes);
    assert!(template.predicates.iter().all(|predicate| predicate.old_rows == OldRows::Condition));
}

/// Checks the SQL of a refreshed statement.
fn check_sql(case: &Case, expect: &str) {
    let template = analysed(case);
    let sql = template.read_sql().replace("pg_catalog.", "").replace('"', "");
    assert_eq!(sql, expect, "{}: {:?}", case.sql, template.notes);
}

fn check_refused(case: &Case, expect: &str) {
    let error = case.analyse().expect_err(&case.sql);
    assert!(error.message.contains(expect), "{}: {error}", case.sql);
}

#[test]
fn exact_conditions() {
    check_exact("tenant = 7", "", "tenant = *");
    check_exact("7 < orders.tenant", "", "tenant > *");
    check_exact(
        "TENANT = $1 and status = $2",
        "int4 order_status",
        "(tenant = s0 and status = s1)",
    );
    check_exact("tenant = $1::int4", "int4", "tenant = s0");
    check_exact("tenant = $1", "int8", "tenant = s0");
    check_exact("tenant >= -5 and not (id <> '9')", "", "(tenant >= * and not id <> *)");
    check_exact("tenant in (1, '2', null)", "", "tenant in (*, *, null)");
    check_exact("tenant not in (1, $1)", "int4", "not tenant in (*, s0)");
    check_exact("tenant = any($1)", "_int4", "tenant in (s0)");
    check_exact("tenant = any ($1::int4[])", "_int4", "tenant in (s0)");
    check_exact("status = any($1)", "_order_status", "status in (s0)");
    check_exact("tenant <> all($1)", "_int8", "not tenant in (s0)");
    check_exact("tenant between $1 and 5", "int4", "(tenant >= s0 and tenant <= *)");
    check_exact("tenant not between 1 and 5", "", "not (tenant >= * and tenant <= *)");
    check_exact("tenant is null or total is not null", "", "(tenant is null or total is not null)");
    check_exact("active and not active", "", "(active = * and not active = *)");
    check_exact("active is not true", "", "not (active is not null and active = *)");
    check_exact("active is unknown", "", "active is null");
    check_exact("active = true or false", "", "(active = * or false)");
    check_exact("tenant is distinct from 3", "", "not (tenant is not null and tenant = *)");
    check_exact("tenant is not distinct from null", "", "tenant is null");
    check_exact("tenant = null", "", "tenant = null");
    check_exact(
        "status = 'paid' and status <> 'open'::order_status",
        "",
        "(status = * and status <> *)",
    );
    check_exact("status = 'open'::shop.order_status", "", "status = *");
    check_exact(
        "total > 1.50 and total < 7 and total <> '1e3'",
        "",
        "(total > * and total < * and total <> *)",
    );
    check_exact(
        "weight > 1.5 and ratio > 1.5 and ratio < 7",
        "",
        "(weight > * and ratio > * and ratio < *)",
    );
    check_exact(
        "placed >= '2026-01-01' and placed < date '2026-02-01'",
        "",
        "(placed >= * and placed < *)",
    );
    check_exact("created > timestamp '2026-01-01 00:00:00'", "", "created > *");
    check_exact("label > 'a' and label = $$b$$", "", "(label > * and label = *)");
    check_exact("title = 'a'", "", "title = *");
    check_exact("token = $1", "uuid", "token = s0");
    check_exact(
        "tenant = $1 or id = $2 or tenant = $1",
        "int4 int8",
        "(tenant = s0 or id = s1 or tenant = s0)",
    );
}

#[test]
fn conditions_that_only_postgres_can_tell() {
    check_weaker("tenant = 7 and lower(label) = 'a'", "", "tenant = *");
    check_weaker("(tenant = 7 and id + 1 = 5) and label like 'a%'", "", "tenant = *");
    check_weaker("tenant = 7 or label like 'a%'", "", "true");
    check_weaker("not (tenant = 7 and label like 'a%')", "", "not (tenant = * and ?)");
    check_weaker("tenant = 1.5", "", "true");
    check_weaker("tenant = 99999999999999999999", "", "true");
    check_weaker("tenant = $1", "numeric", "true");
    check_weaker("tenant = $1::int4", "int8", "true");
    check_weaker("tenant = 1 + 2", "", "true");
    check_weaker("tenant = customer_id", "", "true");
    check_weaker("title > 'a'", "", "true");
    check_weaker("status > 'open'", "", "true");
    check_weaker("created > 'yesterday' and created > '2026-01-01'::date", "", "true");
    check_weaker("created > now()", "", "true");
    check_weaker("placed > 'bad'", "", "true");
    check_weaker("data = '{}'", "", "true");
    check_weaker("tags = '{a}'", "", "true");
    check_weaker("ratio in ('1.1', 1.1)", "", "true");
    check_weaker("ratio in (1.1, 2)", "", "true");
    check_weaker("(tenant, id) > (1, 2)", "", "true");
    check_weaker("tenant = any($1) and tenant is distinct from $2", "_int4 int4", "tenant in (s0)");
    check_weaker("label = 'x'::varchar(3)", "", "true");
    check_weaker("label = $1::varchar(3)", "varchar", "true");
    check_weaker("label = E'\\x41'", "", "true");
    check_weaker("label = 'a' collate \"de\"", "", "true");
}

#[test]
fn constants_are_read_by_the_right_type() {
    let key = |ty: PgType, text: &str| Some(Key::of(&ty, text.as_bytes()).expect("a value"));
    let check = |condition: &str, expect: Option<Key>| {
        let template =
            analysed(&Case::new(&format!("select id from orders where {condition}"), "id"));
        let Condition::Compare { operand: Operand::Constant(found), .. } =
            &window(&template).condition
        else {
            panic!("{condition}")
        };
        assert_eq!(*found, expect, "{condition}");
    };
    check("tenant = 7", key(PgType::Int4, "7"));
    check("tenant = -3000000000", key(PgType::Int8, "-3000000000"));
    check("id = '7'", key(PgType::Int8, "7"));
    check("total = 7", key(PgType::Numeric, "7.0"));
    check("ratio = 0.1", key(PgType::Float8, "0.1"));
    check("ratio = '0.1'", key(PgType::Float4, "0.1"));
    check("placed = '2026-01-01'", key(PgType::Date, "2026-01-01"));
    check("active = 'true'", key(PgType::Bool, "t"));
    check("label = 'it''s'", key(PgType::Text, "it's"));
    assert_ne!(key(PgType::Float4, "0.1"), key(PgType::Float8, "0.1"));
}

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
    assert_eq!(show_predicates(&template), "orders: tenant = s0 [id tenant total label active]");
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
    check(Case::new("select distinct id from orders", "id"), "DISTINCT");
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
fn long_lists_are_analysed() {
    let list = (0..5000).map(|n| n.to_string()).collect::<Vec<_>>().join(", ");
    let template =
        analysed(&Case::new(&format!("select id from orders where tenant in ({list})"), "id"));
    assert!(
        matches!(&window(&template).condition, Condition::In { operands, .. } if operands.len() == 5000)
    );
    let chain = vec!["label"; 1000].join(" || ");
    check_weaker(&format!("{chain} = 'x' and tenant = 1"), "", "tenant = *");
    let chain = (0..500).map(|n| format!("tenant = {n}")).collect::<Vec<_>>().join(" or ");
    let template = analysed(&Case::new(&format!("select id from orders where {chain}"), "id"));
    assert!(matches!(&window(&template).condition, Condition::Or(parts) if parts.len() == 500));
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
}

#[test]
fn refusals() {
    check_refused(&Case::new("select random() as r", "r"), "random is a volatile function");
    check_refused(
        &Case::new("-- @refresh 5s\nselect random() as r", "r"),
        "random is a volatile function",
    );
    check_refused(
        &Case::new("select table_to_xml('x', true, true, '') as x", "x"),
        "reads tables that can't be seen",
    );
    check_refused(&Case::new("select secret() as s", "s"), "shop.secret");
    check_refused(
        &Case::new("select message from logs", "message"),
        "ALTER TABLE \"shop\".\"logs\" REPLICA IDENTITY FULL",
    );
    check_refused(&Case::new("select ctid as c from orders", "c"), "ctid is a system column");
    check_refused(&Case::new("select 1", "?column?"), "column 1 of the result has no name");
    check_refused(
        &Case::new("select id, id from orders", "id id"),
        "two columns of the result are called id",
    );
    for (kind, expect) in [
        (TableKind::Unlogged, "unlogged"),
        (TableKind::Temporary, "temporary"),
        (TableKind::Foreign, "foreign"),
        (TableKind::MaterializedView, "materialized"),
        (TableKind::Sequence, "sequence"),
        (TableKind::Catalog, "catalog"),
    ] {
        let changed = |sql: &str| {
            Case::new(sql, "id").table("orders", |table| {
                table.kind = kind;
                table.publication = Publication::None;
            })
        };
        check_refused(&changed("select id from orders"), expect);
        let template = analysed(&changed("-- @refresh 5s\nselect id from orders"));
        assert!(template.predicates.is_empty());
    }
    let template = analysed(&Case::new(
        "-- @refresh 1m\nselect message from logs where message = 'a'",
        "message",
    ));
    assert_eq!(show_predicates(&template), "logs: message = * [message]");
    let template = analysed(&Case::new(
        "-- @depends customers\nselect secret() as s, id from orders where id = 1",
        "s id",
    ));
    assert_eq!(show_predicates(&template), "customers: true [all]\norders: id = * [id]");
}

#[test]
fn clocks_are_noted() {
    let warns = |sql: &str| {
        analysed(&Case::new(sql, "id")).notes.iter().any(|note| note.contains("with time"))
    };
    assert!(warns("select id from orders where created > now()"));
    assert!(warns("select id from orders where created > current_date"));
    assert!(!warns("-- @refresh 5s\nselect id from orders where created > now()"));
    assert!(!warns("select id from orders"));
    let notes =
        analysed(&Case::new("select id from orders where label = current_setting('x')", "id"))
            .notes;
    assert!(notes.iter().any(|note| note.contains("settings")), "{notes:?}");
}

#[test]
fn slots_say_what_they_are_compared_with() {
    let case = Case::new(
        "select id from orders where tenant = any($2) and label = $1 and status = $3",
        "id",
    )
    .params("text _int8 order_status");
    let template = analysed(&case);
    let slots = template
        .slots
        .iter()
        .map(|slot| (slot.param, slot.ty.clone(), slot.elements))
        .collect::<Vec<_>>();
    assert_eq!(
        slots,
        [(1, PgType::Int8, true), (0, PgType::Text, false), (2, PgType::Enum, false)]
    );
    assert!(
        matches!(&window(&template).condition, Condition::And(parts) if matches!(parts[1], Condition::Compare { op: CompareOp::Eq, .. }))
    );
}
