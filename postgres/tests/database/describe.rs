//! What a statement reads, takes and gives (P11), and what a table is.

use super::harness::{Harness, query, shown, statement};
use convoy_engine::{
    Directives, ErrorCode, FunctionFacts, ParamDeclaration, Statement, StatementKind, TableKind,
};
use convoy_types::{Collation, PgType, ReplicaIdentity};
use std::sync::Arc;

fn names(facts: &convoy_engine::StatementFacts) -> Vec<&str> {
    let mut names: Vec<&str> = facts.tables.iter().map(|table| table.name.as_str()).collect();
    names.sort_unstable();
    names
}

#[tokio::test]
async fn p11_relations_that_explain_would_lose() {
    let script = "create table a (id int primary key, x int); create table b (id int primary key references a); \
                  create table c (id int primary key); create view v as select a.id from a left join b using (id)";
    let mut harness = Harness::new("relations", script).await;
    for (sql, expected) in [
        ("select a.id from a left join b using (id)", &["a", "b"][..]),
        ("select id from a where false", &["a"]),
        ("with unused as (select * from c) select id from a", &["a", "c"]),
        ("select id from v", &["a", "b", "v"]),
        ("select id from a where exists (select from b where b.id = a.x)", &["a", "b"]),
        ("select 1 as one", &[]),
        ("select id from a union all (select id from b order by 1 limit 1)", &["a", "b"]),
    ] {
        let facts = harness.facts(sql).await;
        assert_eq!(names(&facts), expected, "{sql}");
    }
}

#[tokio::test]
async fn p11_types_of_our_own_look_ups_are_not_taken_for_the_statements() {
    let script = "create type mood as enum ('sad', 'happy'); create domain grade as numeric(3, 1); \
                  create type pair as (x int, y int); \
                  create table t (id int primary key, m mood, g grade, ms mood[], p pair, r int4range)";
    let mut harness = Harness::new("types", script).await;
    for _ in 0..3 {
        let facts = harness.facts("select m, g, ms, p, r, $1::mood as q from t where g > $2").await;
        assert_eq!(names(&facts), ["t"]);
        let types: Vec<&str> =
            facts.columns.iter().map(|column| column.type_name.as_str()).collect();
        // Postgres describes a domain as its base type.
        assert_eq!(types, ["mood", "numeric", "_mood", "pair", "int4range", "mood"]);
        let read: Vec<PgType> = facts.columns.into_iter().map(|column| column.ty).collect();
        let moods = PgType::Array(Box::new(PgType::Enum));
        assert_eq!(
            read,
            [PgType::Enum, PgType::Numeric, moods, PgType::Other, PgType::Other, PgType::Enum]
        );
        assert_eq!(facts.params[0].type_name, "mood");
        assert_eq!(facts.params[1].ty, PgType::Numeric);
    }
}

#[tokio::test]
async fn p11_what_writes_or_locks_is_refused() {
    let mut harness = Harness::new("writes", "create table t (id int primary key)").await;
    for (sql, expected) in [
        ("insert into t values (1) returning id", "writes"),
        ("with gone as (delete from t returning id) select id from gone", "writes"),
        ("select id from t for update", "locks rows"),
        ("select id from t; select 1", "several"),
        ("create table u (id int)", "syntax error"),
        ("select id into u from t", "no result"),
        ("", "syntax error"),
        ("select id from nothing", "relation \"nothing\" does not exist at line 1, column 16"),
        ("select id,\n  missing\nfrom t", "column \"missing\" does not exist at line 2, column 3"),
    ] {
        let error = harness.describe(&statement(sql)).await.expect_err(sql);
        assert!(error.message.contains(expected), "{sql}: {error}");
        assert_eq!(error.code, ErrorCode::InvalidArgs, "{sql}: {error}");
    }
    harness.facts("select id from t").await;
}

#[tokio::test]
async fn p11_functions_of_the_text_of_views_and_of_policies() {
    let script = "create function mine(int) returns int language sql stable as 'select 1'; \
                  create function odd(int) returns int language plpgsql volatile as 'begin return 1; end'; \
                  create table t (id int primary key); \
                  create function derived(t) returns int language sql as 'select 2'; \
                  create view v as select id, clock_timestamp() as at, mine(id) as m from t; \
                  create table s (id int primary key); alter table s enable row level security; \
                  create policy p on s using (id = mine(id) and random() < 2)";
    let mut harness = Harness::new("functions", script).await;
    let called = |facts: &[FunctionFacts]| -> Vec<String> {
        facts.iter().map(|f| format!("{}.{}", f.namespace, f.name)).collect()
    };
    let facts = harness.facts("select lower('x'), count(*), 'odd(1)' as q from t -- odd(1)").await;
    assert_eq!(called(&facts.functions), ["pg_catalog.count", "pg_catalog.lower"]);
    assert!(facts.functions[0].aggregate && !facts.functions[0].volatile);
    let facts = harness.facts("select odd(id) as o from t").await;
    assert_eq!(called(&facts.functions), ["public.odd"]);
    assert!(facts.functions[0].volatile);
    let facts = harness.facts("select * from v").await;
    assert_eq!(called(&facts.functions), ["pg_catalog.clock_timestamp", "public.mine"]);
    assert!(facts.functions[0].volatile && facts.functions[1].stable);
    let facts = harness.facts("select id from s").await;
    assert_eq!(called(&facts.functions), ["pg_catalog.random", "public.mine"]);
    let facts = harness.facts("select t.derived from t").await;
    assert_eq!(called(&facts.functions), ["public.derived"]);
    let facts =
        harness.facts("select current_date, id from t where now() > current_timestamp(3)").await;
    let stable: Vec<&str> =
        facts.functions.iter().filter(|f| f.stable).map(|f| f.name.as_str()).collect();
    assert_eq!(stable, ["now", "current_date", "current_timestamp"]);
}

#[tokio::test]
async fn p12_functions_that_are_called_without_their_names() {
    let script = "create table t (id int primary key, p text); \
                  create type pair as (x int); \
                  create function to_pair(int) returns pair language plpgsql as 'begin return row($1); end'; \
                  create cast (int as pair) with function to_pair(int); \
                  create function from_pair(pair) returns int language plpgsql as 'begin return ($1).x; end'; \
                  create cast (pair as int) with function from_pair(pair) as implicit; \
                  create table pairs (id int primary key, p pair); \
                  create function good(int) returns bool language plpgsql as 'begin return true; end'; \
                  create domain checked as int check (good(value)); create domain twice as checked; \
                  create function fine(int) returns bool language plpgsql stable as 'begin return true; end'; \
                  create domain calm as int check (fine(value)); \
                  create function step(int, int) returns int language plpgsql as 'begin return $1; end'; \
                  create aggregate steps(int) (sfunc = step, stype = int); \
                  create function more(t, int default 1) returns int language plpgsql as 'begin return 1; end'; \
                  create function any_row(anyelement) returns int language plpgsql as 'begin return 1; end'";
    let mut harness = Harness::new("unnamed_functions", script).await;
    for (sql, expected) in [
        // Where there is a pair, it may become an int of itself.
        ("select (1::pair).x as x", &["from_pair", "to_pair"][..]),
        ("select cast(id as \"pair\") as p from t", &["from_pair", "to_pair"]),
        ("select abs(p) as a from pairs", &["from_pair"]),
        ("select p::int as a from pairs", &["from_pair"]),
        ("select 1::twice as a", &["good"]),
        ("select checked '1' as a", &["good"]),
        ("select $1::checked as a", &["good"]),
        ("select steps(id) as s from t", &["step"]),
        ("select t.more from t", &["more"]),
        ("select (t).any_row from t", &["any_row"]),
        ("select U&\"!0067ood\" uescape '!' (1) as g", &["good"]),
        // And nothing that is not called.
        ("select id::int as i, 'p'::text as p, 1 as checked from t", &[]),
        ("select id, 1::calm as c from pairs", &[]),
    ] {
        let facts = harness.facts(sql).await;
        let volatile: Vec<&str> = facts
            .functions
            .iter()
            .filter(|function| function.volatile)
            .map(|function| function.name.as_str())
            .collect();
        assert_eq!(volatile, expected, "{sql}");
    }
}

#[tokio::test]
async fn p12_no_setting_hides_a_call() {
    let mut harness = Harness::new("strings", "create table t (id int primary key)").await;
    let sql = "select current_database()::text";
    let name: String = harness.admin.query_one(sql, &[]).await.expect("a row").get(0);
    let off = format!("alter database \"{name}\" set standard_conforming_strings = off");
    harness.admin.batch_execute(&off).await.expect("a setting");
    // With that setting the first string would go on to the second quote, and what follows would be a call.
    let error = harness.describe(&statement(r"select 'a\', ', pg_sleep(0) as a")).await;
    let error = error.expect_err("an unterminated string");
    assert!(error.message.contains("unterminated"), "{error}");
}

#[tokio::test]
async fn p11_depends_adds_tables() {
    let mut harness = Harness::new("depends", "create table t (id int primary key)").await;
    let with = |depends: &str| {
        let directives = Directives { depends: vec![depends.to_owned()], ..Directives::default() };
        Arc::new(Statement { directives, ..Statement::clone(&statement("select 1 as one")) })
    };
    let facts = harness.describe(&with("t")).await.expect("facts");
    assert_eq!(names(&facts), ["t"]);
    let error = harness.describe(&with("nothing")).await.expect_err("no table");
    assert!(error.message.contains("@depends names nothing"), "{error}");
}

#[tokio::test]
async fn declared_parameters_have_their_types() {
    let mut harness = Harness::new("declared", "create table t (id int8 primary key)").await;
    let params = vec![ParamDeclaration {
        source: convoy_engine::ParamSource::Argument,
        name: "id".into(),
        type_name: "int4".into(),
        default: None,
        nullable: false,
    }];
    let text = "select id from t where id = $1 + $2".to_owned();
    let named = Statement {
        kind: StatementKind::Query,
        name: Some("q".into()),
        text,
        params,
        directives: Directives::default(),
    };
    let facts = harness.describe(&Arc::new(named)).await.expect("facts");
    let types: Vec<&str> = facts.params.iter().map(|param| param.type_name.as_str()).collect();
    assert_eq!(types, ["integer", "integer"]);
}

#[tokio::test]
async fn p9_columns_keys_and_collations() {
    let script = "create collation folded (provider = icu, locale = 'und-u-ks-level2', deterministic = false); \
                  create collation english (provider = icu, locale = 'en'); \
                  create domain name_text as text collate \"C\"; \
                  create table t (gone int, a text, b text collate folded, c text collate english, d name_text, \
                    e varchar(3), f char(5), id int, g int generated always as (id + 1) stored, \
                    primary key (id, a)); \
                  alter table t drop column gone; \
                  create table d (id int primary key deferrable)";
    let mut harness = Harness::new("columns_facts", script).await;
    let table = harness.table("t").await;
    let shown: Vec<(&str, Collation, &str)> = table
        .columns
        .iter()
        .map(|column| (column.name.as_str(), column.collation, column.type_name.as_str()))
        .collect();
    assert_eq!(
        shown,
        [
            ("a", Collation::ByteOrder, "text"),
            ("b", Collation::Nondeterministic, "text"),
            ("c", Collation::Deterministic, "text"),
            ("d", Collation::ByteOrder, "name_text"),
            ("e", Collation::ByteOrder, "character varying"),
            ("f", Collation::ByteOrder, "bpchar"),
            ("id", Collation::None, "integer"),
            ("g", Collation::None, "integer"),
        ]
    );
    let key: Vec<u16> = table.primary_key.iter().map(|field| field.0).collect();
    assert_eq!(key, [6, 0]);
    assert!(table.columns[7].generated && table.columns[6].not_null);
    let deferrable = harness.table("d").await;
    assert!(deferrable.primary_key.is_empty());
    assert_eq!(deferrable.identity, ReplicaIdentity::Nothing);
}

#[tokio::test]
async fn a_columns_scale_is_that_of_its_type() {
    let script = "create domain price as numeric(10,2); \
                  create table t (a numeric, b numeric(10,2), c numeric(5), d numeric(3,-2), e numeric(2,4), f price, \
                    g varchar(6))";
    let mut harness = Harness::new("columns_scales", script).await;
    let table = harness.table("t").await;
    let scales: Vec<Option<u32>> = table.columns.iter().map(|column| column.scale).collect();
    // A domain's modifier is not its column's.
    assert_eq!(scales, [None, Some(2), Some(0), None, Some(4), None, None]);
}

#[tokio::test]
async fn p1_what_cannot_be_published_is_left_out() {
    let script = "create unlogged table u (id int primary key); create sequence s; \
                  create materialized view m as select 1 as id; create view v as select 1 as id";
    let mut harness = Harness::new("kinds", script).await;
    for (name, kind) in [
        ("u", TableKind::Unlogged),
        ("s", TableKind::Sequence),
        ("m", TableKind::MaterializedView),
        ("v", TableKind::View),
        ("pg_catalog.pg_class", TableKind::Catalog),
    ] {
        let table = harness.table(name).await;
        assert_eq!(table.kind, kind, "{name}");
        assert_eq!(table.publication, convoy_engine::Publication::None, "{name}");
    }
}

#[tokio::test]
async fn p12_ad_hoc_statements_are_described_and_read_as_their_role() {
    let script = "create table open (id int primary key); insert into open values (1); \
                  create table secret (id int primary key); insert into secret values (2); \
                  do $$ begin create role convoy_ad_hoc login; exception when duplicate_object then null; end $$; \
                  grant select on open to convoy_ad_hoc; \
                  alter table open enable row level security; create policy p on open using (true)";
    let mut harness = Harness::with("adhoc", script, |mut options| {
        let mut url = options.url.clone();
        url.user = "convoy_ad_hoc".into();
        options.ad_hoc_url = Some(url);
        options
    })
    .await;
    let error = harness.describe(&statement("select id from secret")).await.expect_err("no right");
    assert!(error.message.contains("permission denied"), "{error}");
    let facts = harness.facts("select id from open").await;
    assert!(facts.tables[0].row_security);
    let named =
        Statement { name: Some("q".into()), ..Statement::clone(&statement("select id from open")) };
    let facts = harness.describe(&Arc::new(named)).await.expect("facts");
    assert!(!facts.tables[0].row_security, "a superuser sees all");

    let table = harness.oid("open").await;
    let own = query(1, "select current_user::text from secret");
    let mut ad_hoc = query(2, "select current_user::text from open");
    ad_hoc.role = convoy_engine::ReadingRole::AdHoc;
    let mut refused = query(3, "select id::text from secret");
    refused.role = convoy_engine::ReadingRole::AdHoc;
    let answers = harness.read(vec![table], vec![own, ad_hoc, refused]).await;
    assert_eq!(shown(answers[&1].as_ref().expect("rows")), [["postgres"]]);
    assert_eq!(shown(answers[&2].as_ref().expect("rows")), [["convoy_ad_hoc"]]);
    assert!(answers[&3].is_err());
}

#[tokio::test]
async fn casts_read_by_the_types_input_and_fail_alone() {
    use convoy_engine::{CastRequest, CastValue};
    let script =
        "create type mood as enum ('sad', 'happy'); create domain small as int check (value < 10)";
    let mut harness = Harness::new("casts", script).await;
    let text = |type_name: &str, text: &str| CastRequest {
        type_name: type_name.into(),
        value: CastValue::Text(text.into()),
    };
    let outcomes = harness
        .cast(vec![
            text("integer", " 07 "),
            text("boolean", "yes"),
            text("bpchar", "ab  "),
            text("mood", "happy"),
            text("small", "11"),
            text("integer", "x"),
            text("integer[]", "{1, 2}"),
            text("jsonb", "{\"b\": 1.0,\"a\":2}"),
            CastRequest { type_name: "date".into(), value: CastValue::Expression("null".into()) },
            CastRequest {
                type_name: "integer".into(),
                value: CastValue::Expression("1 + 2 -- three".into()),
            },
        ])
        .await;
    let shown: Vec<String> = outcomes
        .into_iter()
        .map(|outcome| match outcome {
            Ok(value) => value.unwrap_or_else(|| "NULL".into()),
            Err(error) => format!("{:?}", error.code),
        })
        .collect();
    assert_eq!(
        shown,
        [
            "7",
            "t",
            "ab  ",
            "happy",
            "InvalidArgs",
            "InvalidArgs",
            "{1,2}",
            "{\"a\": 2, \"b\": 1.0}",
            "NULL",
            "3"
        ]
    );
}

#[tokio::test]
async fn p9_statements_read_as_they_do_by_default() {
    let mut harness =
        Harness::new("conforming", "create table t (id int primary key, x text)").await;
    let set = "do $$ begin execute format('alter database %I set standard_conforming_strings = off', \
               current_database()); execute format('alter database %I set transform_null_equals = on', \
               current_database()); end $$; insert into t values (1, null), (2, E'a\\\\n')";
    harness.admin.batch_execute(set).await.expect("settings");
    let table = harness.oid("t").await;
    let queries = vec![
        query(1, "select id::text from t where x = null"),
        query(2, r"select id::text from t where x = 'a\n'"),
    ];
    let answers = harness.read(vec![table], queries).await;
    assert_eq!(shown(answers[&1].as_ref().expect("rows")), Vec::<Vec<&str>>::new());
    assert_eq!(shown(answers[&2].as_ref().expect("rows")), [["2"]]);
}
