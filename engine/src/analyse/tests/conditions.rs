//! Which conditions are read, how exactly, and what they are compared with.

use super::{analysed, check_exact, check_weaker, window};
use crate::analyse::fixture::Case;
use crate::template::SlotReads;
use convoy_query_index::{CompareOp, Condition, Operand};
use convoy_types::{Key, PgType};

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
    check_weaker("(tenant = 7 and id + 1 = 5) and label ilike 'a%'", "", "tenant = *");
    check_weaker("tenant = 7 or label ilike 'a%'", "", "true");
    check_weaker("not (tenant = 7 and label ilike 'a%')", "", "not (tenant = * and ?)");
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
    check_weaker("title collate \"de\" > 'a'", "", "true");
    check_weaker("title collate c > 'a'", "", "true");
    check_weaker("title collate public.\"C\" > 'a'", "", "true");
}

#[test]
fn a_collation_of_ones_own_counts_where_it_is_that_of_bytes() {
    check_exact("title collate \"C\" > 'a'", "", "title > *");
    check_exact("(title) collate pg_catalog.\"C\" > 'a'", "", "title > *");
    check_exact("(title collate \"C\") >= 'a'", "", "title >= *");
    check_weaker("tenant collate \"C\" > 1", "", "true");
}

#[test]
fn texts_that_begin_with_something() {
    check_exact("label like 'ab%'", "", "label ^@ *");
    check_exact("title not like 'ab%'", "", "not title ^@ *");
    check_exact("label like 'ab'", "", "label = *");
    check_exact("label like null", "", "label = null");
    check_exact("label ^@ $1 or starts_with(label, 'x')", "text", "(label ^@ s0 or label ^@ *)");
    check_exact("pg_catalog.starts_with(label, $1)", "text", "label ^@ s0");
    check_weaker("label like 'a_c%'", "", "(label ^@ * and ?)");
    check_weaker(
        "label like $1 and label like '%a'",
        "text",
        "((label ^@ s0 and ?) and (label ^@ * and ?))",
    );
    check_weaker("label not like $1", "text", "not (label ^@ s0 and ?)");
    check_weaker("label like 'a!%%' escape '!'", "", "true");
    check_weaker("label like 'a\\'", "", "true");
    check_weaker("label ilike 'a%'", "", "true");
    check_weaker("status::text like 'a%'", "", "true");
}

#[test]
fn arrays_that_have_elements() {
    check_exact("tags @> array['a', 'b']", "", "(tags has * and tags has *)");
    check_exact("tags @> '{a,b}'", "", "(tags has * and tags has *)");
    check_exact("array['a']::text[] <@ tags", "", "tags has *");
    check_exact("tags && array['a', null, 'b']", "", "(tags has * or tags has *)");
    check_exact("tags && $1", "_text", "tags has s0");
    check_exact("'a' = any(tags) or $1 = any(tags)", "text", "(tags has * or tags has s0)");
    check_weaker("tags @> $1", "_text", "(tags has s0 and ?)");
    check_weaker("tags @> array['a', null]", "", "(tags has * and ?)");
    check_weaker("tags @> '{}'", "", "true");
    check_weaker("tags && '{}'", "", "true");
    check_weaker("not ('a' = any(tags))", "", "true");
    check_weaker("not tags && $1", "_text", "true");
    check_weaker("tags <@ array['a']", "", "true");
    check_weaker("'a' <> all(tags)", "", "true");
    check_weaker("tags @> array[label]", "", "true");
}

#[test]
fn values_inside_of_jsonb() {
    check_exact("data->>'k' = 'x'", "", "data->>'k' = *");
    check_exact("data->'a'->>'b' in ('x', $1)", "text", "data->'a'->>'b' in (*, s0)");
    check_exact("data #>> '{a,b}' is null", "", "data->'a'->>'b' is null");
    check_exact(
        "(data->>'n')::int4 >= 5 and cast(data->>'n' as numeric) < $1",
        "numeric",
        "((data->>'n')::int4 >= * and (data->>'n')::numeric < s0)",
    );
    check_exact(
        "(data->>'on')::bool and not (data->>'off')::boolean",
        "",
        "((data->>'on')::bool = * and not (data->>'off')::bool = *)",
    );
    check_exact(
        "data->>'k' like 'a%' and (orders.data)->>'id' = any($1)",
        "_text",
        "(data->>'k' ^@ * and data->>'id' in (s0))",
    );
    check_exact("(data->>'id')::uuid = $1", "uuid", "(data->>'id')::uuid = s0");
    check_exact(
        "data @> '{\"a\": 1, \"b\": {\"c\": \"x\"}}'",
        "",
        "(data->'a' = * and data->'b'->'c' = *)",
    );
    check_exact("data @> '{\"k\": null}'::jsonb", "", "data->'k' = *");
    check_exact(
        "'{\"tags\": [\"x\", 1]}' <@ data",
        "",
        "(data->'tags' has * and data->'tags' has *)",
    );
    check_exact("data->'a' @> '{\"k\": true}'", "", "data->'a'->'k' = *");
    check_exact("data @> '[1]'", "", "data has *");
    check_weaker("data @> '{\"a\": 1, \"b\": {}}'", "", "(data->'a' = * and ?)");
    check_weaker("data @> '{\"a\": [[1], 2]}'", "", "(data->'a' has * and ?)");
    check_weaker("not data->'a' @> '{\"k\": true}'", "", "not (data->'a'->'k' = * and ?)");
    check_weaker("data @> '5'", "", "true");
    check_weaker("data->'a' @> '5'", "", "true");
    check_weaker("data @> $1", "jsonb", "true");
    check_weaker("data->>0 = 'x'", "", "true");
    check_weaker("data #>> '{0}' = 'x'", "", "true");
    check_weaker("data #>> '{\"a\"}' = 'x'", "", "true");
    check_weaker("data->>$1 = 'x'", "text", "true");
    check_weaker("data->'k' = '1'", "", "true");
    check_weaker("(data->>'at')::date = '2026-01-01'", "", "true");
    check_weaker("(data->>'k')::varchar(3) = 'x'", "", "true");
    check_weaker("label->>'k' = 'x'", "", "true");
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
        .map(|slot| (slot.param, slot.ty.clone(), slot.reads))
        .collect::<Vec<_>>();
    assert_eq!(
        slots,
        [
            (1, PgType::Int8, SlotReads::Elements),
            (0, PgType::Text, SlotReads::Value),
            (2, PgType::Enum, SlotReads::Value)
        ]
    );
    assert!(
        matches!(&window(&template).condition, Condition::And(parts) if matches!(parts[1], Condition::Compare { op: CompareOp::Eq, .. }))
    );
}
