//! "Typed rows" (docs/protocol.md, section 7): each rule, on a real Postgres, from the `.sql` file to the TypeScript.

use convoy_codegen::{Project, describe, generate};
use convoy_engine::Statement;
use convoy_postgres::{Pool, SessionOptions, testing};
use std::time::Duration;

const TABLES: &str = "
create type status as enum ('open', 'paid', 'it''s lost');
create type point2 as (x int4, y int4);
create domain email as text check (value like '%@%');
create domain tags as text[];
create table customers (id int8 primary key, name text not null, email email, note text);
create table orders (
  id int8 primary key, customer int8 not null references customers, tenant int4 not null,
  status status not null, total numeric, meta jsonb not null, raw json, placed timestamptz not null);
create table kinds (
  a bool not null, b int2 not null, c int4 not null, d float4 not null, e float8 not null,
  f int8 not null, g numeric(8, 2) not null, h text not null, i uuid not null, j date not null,
  k interval not null, l bytea not null, m json not null, n jsonb not null, o status not null,
  p int4[] not null, q text[][] not null, r status[] not null, s jsonb[] not null, t email not null,
  u tags not null, v point2 not null, w int4range not null, x oid not null, y numeric[] not null,
  z varchar(5) not null);
create view open_orders as select * from orders where status = 'open';
create table parts (id int4 not null, region text not null, x text not null) partition by list (region);
create table parts_eu partition of parts for values in ('eu');
create table parents (id int4 not null);
create table children () inherits (parents);
create table generated (a int4 not null, b int4 not null generated always as (a + 1) stored);
";

struct Sql {
    pool: Pool,
}

impl Sql {
    async fn new(name: &str) -> Sql {
        let url = testing::shared().await.database(name).await;
        let url = url.parse().expect("a URL");
        let pool = Pool::new(url, SessionOptions::default(), 1, Duration::from_secs(5));
        let lease = pool.get().await.expect("a connection");
        lease.client().batch_execute(TABLES).await.expect("tables");
        drop(lease);
        Sql { pool }
    }

    /// Returns the type that is generated of a file, or why there is none.
    async fn type_of(&self, text: &str) -> Result<String, String> {
        let statement = Statement::named("a.b", text).map_err(|error| error.to_string())?;
        let mut lease = self.pool.get().await.expect("a connection");
        let query = describe(&mut lease, &statement, "queries/a/b.sql").await;
        let query = query.map_err(|error| error.message)?;
        let project = Project { queries: vec![query], ..Project::default() };
        let files = generate(&project).expect("a good project");
        let file = files.iter().find(|file| file.name == "queries.d.ts").expect("declarations");
        let line = file.text.lines().find_map(|line| line.trim().strip_prefix("readonly b: "));
        Ok(line.expect("the query").trim_end_matches(';').to_owned())
    }

    /// Checks the rows of a file.
    async fn rows(&self, text: &str, expect: &str) {
        let ty = self.type_of(text).await.unwrap_or_else(|error| panic!("{text}: {error}"));
        let rows = ty.strip_prefix("QueryRef<Record<string, never>, {").expect("no arguments");
        assert_eq!(rows.trim_end_matches("}[]>").trim(), expect, "{text}");
    }

    /// Checks the arguments of a file.
    async fn args(&self, text: &str, expect: &str) {
        let ty = self.type_of(text).await.unwrap_or_else(|error| panic!("{text}: {error}"));
        let (args, _) = ty.split_once(", { ok: ").expect("one column");
        assert_eq!(args.strip_prefix("QueryRef<"), Some(expect), "{text}");
    }

    async fn refused(&self, text: &str, expect: &str) {
        assert_eq!(self.type_of(text).await.expect_err(text), expect, "{text}");
    }
}

#[tokio::test]
async fn the_example_of_the_contract() {
    let sql = Sql::new("example").await;
    let text = "-- @param tenant int4\nselect id, total from orders where tenant = $1";
    let ty = sql.type_of(text).await.expect("good");
    assert_eq!(ty, "QueryRef<{ tenant: number }, { id: string; total: string | null }[]>");
}

#[tokio::test]
async fn types_are_what_the_wire_carries() {
    let sql = Sql::new("types").await;
    let check = async |column: &str, expect: &str| {
        let text = format!("select {column} as ok from kinds");
        sql.rows(&text, &format!("ok: {expect}")).await;
    };
    check("a", "boolean").await;
    for number in ["b", "c", "d", "e"] {
        check(number, "number").await;
    }
    for text in ["f", "g", "h", "i", "j", "k", "l", "t", "w", "x", "z"] {
        check(text, "string").await;
    }
    check("m", "unknown").await;
    check("n", "unknown").await;
    check("o", "'open' | 'paid' | 'it\\'s lost'").await;
    check("p", "number[]").await;
    check("q", "string[]").await;
    check("r", "('open' | 'paid' | 'it\\'s lost')[]").await;
    check("s", "unknown[]").await;
    check("u", "string[]").await;
    check("v", "unknown").await;
    check("y", "string[]").await;
}

#[tokio::test]
async fn a_not_null_column_as_it_is_is_not_null() {
    let sql = Sql::new("plain").await;
    sql.rows("select id, note from customers", "id: string; note: string | null").await;
    sql.rows("select id as \"Kunde Nr\" from customers", "'Kunde Nr': string").await;
    sql.rows("select c.name from orders o join customers c on c.id = o.customer", "name: string")
        .await;
    sql.rows("select s.id from (select id from orders limit 3) s", "id: string").await;
    sql.rows(
        "with w as (select id, total from orders) select id, total from w",
        "id: string; total: string | null",
    )
    .await;
    sql.rows("select b from generated", "b: number").await;
    sql.rows("select x from parts", "x: string").await;
    sql.rows(
        "select status from orders group by status",
        "status: 'open' | 'paid' | 'it\\'s lost'",
    )
    .await;
    sql.rows("select distinct on (tenant) tenant from orders", "tenant: number").await;
}

#[tokio::test]
async fn what_is_computed_may_be_null() {
    let sql = Sql::new("computed").await;
    sql.rows("select id + 1 as ok from orders", "ok: string | null").await;
    sql.rows("select count(*) as ok from orders", "ok: string | null").await;
    sql.rows("select coalesce(note, '') as ok from customers", "ok: string | null").await;
    sql.rows("select (select id from orders limit 1) as ok", "ok: string | null").await;
    sql.rows("select max(id) as ok from orders", "ok: string | null").await;
    sql.rows("select id::text as ok from orders", "ok: string | null").await;
    sql.rows("select g as ok from generate_series(1, 2) g", "ok: number | null").await;
    sql.rows("select id from open_orders", "id: string | null").await;
    // Rows of a child need not keep the parent's rule, before Postgres 18.
    sql.rows("select id from parents", "id: number | null").await;
    sql.rows("select id from children", "id: number").await;
}

#[tokio::test]
async fn what_an_outer_join_makes_up_may_be_null() {
    let sql = Sql::new("outer").await;
    let both = |o: &str, c: &str| format!("o: string{o}; c: string{c}");
    let (sure, null) = ("", " | null");
    let select = "select o.id as o, c.id as c from";
    let on = "on c.id = o.customer";
    for (join, o, c) in [
        ("orders o join customers c", sure, sure),
        ("orders o left join customers c", sure, null),
        ("orders o right join customers c", null, sure),
        ("orders o full join customers c", null, null),
    ] {
        sql.rows(&format!("{select} {join} {on}"), &both(o, c)).await;
    }
    let nested = "select o, c from (select o.id as o, c.id as c from orders o left join customers c on true) s";
    sql.rows(nested, &both(sure, null)).await;
    let lateral = "select o.id as o, s.id as c from orders o left join lateral (select id from customers c where c.id = o.customer) s on true";
    sql.rows(lateral, &both(sure, null)).await;
    let with = "with w as (select id from customers) select o.id as o, w.id as c from orders o left join w on true";
    sql.rows(with, &both(sure, null)).await;
    let using = "select id as o, c.id as c from orders o left join customers c using (id)";
    sql.rows(using, &both(sure, null)).await;
    let using = "select id from orders full join customers using (id)";
    sql.rows(using, "id: string | null").await;
    let itself = "select a.id as o, b.id as c from orders a left join orders b on b.id = a.id + 1";
    sql.rows(itself, &both(sure, null)).await;
    // Which of the two an unqualified name is of, only Postgres knows; so it may be either's.
    let unqualified =
        "select tenant from orders left join (select id as other from orders) b on true";
    sql.rows(unqualified, "tenant: number | null").await;
    let quoted =
        "select o.id as o, c.id as c from orders o left join public.\"customers\" c on true";
    sql.rows(quoted, &both(sure, null)).await;
    // An outer join in an expression changes no column outside of it.
    let inside = "select o.id as o, c.id as c from orders o, customers c where exists (select from kinds left join parts on true)";
    sql.rows(inside, &both(sure, sure)).await;
    let chain = "select o.id as o, c.id as c from customers c left join kinds on true join orders o on true";
    sql.rows(chain, &both(sure, sure)).await;
    let last = "select o.id as o, c.id as c from customers c join orders o on true right join kinds on true";
    sql.rows(last, &both(null, null)).await;
}

#[tokio::test]
async fn sets_and_grouping_sets_may_be_null() {
    let sql = Sql::new("sets").await;
    sql.rows("select id from orders union all select id from customers", "id: string | null").await;
    sql.rows("select id from orders union all select null", "id: string | null").await;
    sql.rows("select s.id from (select id from orders except select null) s", "id: string | null")
        .await;
    let recursive = "with recursive r as (select id from orders union select id + 1 from r where id < 9) select id from r";
    sql.rows(recursive, "id: string | null").await;
    sql.rows("select tenant from orders group by rollup (tenant)", "tenant: number | null").await;
    sql.rows(
        "select tenant from orders group by grouping sets ((tenant), ())",
        "tenant: number | null",
    )
    .await;
}

#[tokio::test]
async fn a_file_states_what_postgres_can_not_know() {
    let sql = Sql::new("stated").await;
    sql.rows(
        "-- @notnull n\nselect count(*) as n, max(id) as m from orders",
        "n: string; m: string | null",
    )
    .await;
    sql.rows("-- @notnull \"N\"\nselect count(*) as \"N\" from orders", "N: string").await;
    sql.rows(
        "-- @type meta Meta from './meta'\nselect meta from orders",
        "meta: import('../queries/a/meta.js').Meta",
    )
    .await;
    sql.rows(
        "-- @type raw Meta[] from '../../types'\nselect raw from orders",
        "raw: import('../types.js').Meta[] | null",
    )
    .await;
    sql.rows("-- @type meta { a: number }\nselect meta from orders", "meta: { a: number }").await;
    sql.rows(
        "-- @type id OrderId from 'brands'\nselect id from orders",
        "id: import('brands').OrderId",
    )
    .await;
    sql.refused(
        "-- @notnull totl\nselect total from orders",
        "@notnull names the column \"totl\", and the result has total",
    )
    .await;
    sql.refused(
        "-- @type mta Meta\nselect meta, id from orders",
        "@type names the column \"mta\", and the result has meta, id",
    )
    .await;
}

#[tokio::test]
async fn arguments_are_what_the_header_says() {
    let sql = Sql::new("arguments").await;
    let check = async |header: &str, expect: &str| {
        let params: Vec<String> =
            (1..=header.matches("-- @").count()).map(|n| format!("${n} is null")).collect();
        sql.args(&format!("{header}\nselect {} as ok", params.join(" or ")), expect).await;
    };
    check("-- @param a int4", "{ a: number }").await;
    check(
        "-- @param a int8\n-- @param b numeric(5, 2)",
        "{ a: string | number; b: string | number }",
    )
    .await;
    check("-- @param a status", "{ a: 'open' | 'paid' | 'it\\'s lost' }").await;
    check("-- @param a int8[]\n-- @param b text[]", "{ a: (string | number)[]; b: string[] }")
        .await;
    check("-- @param a jsonb", "{ a: unknown }").await;
    check("-- @param a timestamptz", "{ a: string }").await;
    check("-- @param a point2", "{ a: string }").await;
    check("-- @param a email", "{ a: string }").await;
    // Who asks gives no claim.
    check("-- @claim a int4\n-- @param b text\n-- @claim c text = 'x'", "{ b: string }").await;
    // Null may be given; only what has a default may be left out (section 1).
    check("-- @param a text null", "{ a: string | null }").await;
    check("-- @param a text = 'x'", "{ a?: string }").await;
    check("-- @param a text = null", "{ a?: string | null }").await;
    check("-- @param a text null = 'x'", "{ a?: string | null }").await;
    sql.refused(
        "-- @param a int4\nselect $1 + $2 as ok",
        "$2 has no name: the 2. `@param` line declares it, like `-- @param tenant int4`",
    )
    .await;
}

#[tokio::test]
async fn what_is_wrong_is_said_and_harms_no_neighbour() {
    let sql = Sql::new("wrong").await;
    let error = sql.type_of("select nme from customers").await.expect_err("no such column");
    assert!(error.contains("\"nme\" does not exist"), "{error}");
    sql.refused("select 1", "column 1 has no name: give it one with AS").await;
    sql.refused("select id, id from orders", "two columns are named \"id\": rename one with AS")
        .await;
    // The one connection of the pool goes on.
    sql.rows("select id from customers", "id: string").await;
    sql.rows("select id from customers", "id: string").await;
    let lease = sql.pool.get().await.expect("a connection");
    let left = lease.client().query_one(
        "select count(*) from pg_prepared_statements where name = 'convoy_describe'",
        &[],
    );
    assert_eq!(left.await.expect("a count").get::<_, i64>(0), 0);
}
