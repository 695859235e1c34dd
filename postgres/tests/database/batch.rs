//! Batches: many results by one statement are what single statements give.

use super::harness::{Harness, shown};
use convoy_engine::{
    Batching, ErrorCode, QueryRead, ReadCompany, ReadRows, ReadStatement, ReadingRole,
};
use convoy_postgres::testing::values::{TYPES, laws};
use convoy_query_index::QueryId;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

type Params = Vec<Option<String>>;

fn read(number: usize, statement: &Arc<ReadStatement>, params: &Params) -> QueryRead {
    QueryRead {
        query: QueryId(number as u32),
        role: ReadingRole::Server,
        statement: statement.clone(),
        company: ReadCompany::Others,
        params: params.iter().map(|param| param.as_deref().map(Arc::from)).collect(),
        timeout: Duration::from_secs(10),
        rows_max: 1000,
        bytes_max: 1 << 20,
        last_took: Duration::ZERO,
    }
}

fn texts(params: &[&str]) -> Params {
    params.iter().map(|param| (*param != "NULL").then(|| (*param).to_owned())).collect()
}

fn numbers(count: usize) -> Vec<Params> {
    (0..count).map(|number| texts(&[&number.to_string()])).collect()
}

/// How many statements read how many results, of which so many in batches.
#[derive(Debug, PartialEq, Eq)]
struct Counted {
    statements: u64,
    batched: u64,
}

type Answers = HashMap<u32, Result<ReadRows, convoy_engine::QueryError>>;

impl Harness {
    fn counted(&self) -> Counted {
        let counters = self.database.handle().read_counters();
        Counted { statements: counters.statements(), batched: counters.batched() }
    }

    /// Reads all of them in one read; says what that took.
    async fn read_all(&mut self, queries: Vec<QueryRead>) -> (Answers, Counted) {
        let before = self.counted();
        let count = queries.len();
        let answers = self.read(vec![], queries).await;
        assert_eq!(answers.len(), count, "each is answered");
        let after = self.counted();
        let counted = Counted {
            statements: after.statements - before.statements,
            batched: after.batched - before.batched,
        };
        (answers, counted)
    }

    /// Reads results together and one by one, and checks that they are the same. Returns what reading them together
    /// took.
    async fn compare(&mut self, sql: &str, arguments: &[Params]) -> Counted {
        let statement = self.read_statement(sql).await;
        let together: Vec<QueryRead> = (arguments.iter().enumerate())
            .map(|(number, params)| read(number, &statement, params))
            .collect();
        let alone = |query: &QueryRead| QueryRead { company: ReadCompany::Alone, ..query.clone() };
        let singly = together.iter().map(alone).collect();
        let (together, counted) = self.read_all(together).await;
        let (singly, by_itself) = self.read_all(singly).await;
        assert_eq!(by_itself.batched, 0);
        for (number, params) in arguments.iter().enumerate() {
            let number = number as u32;
            assert_eq!(together[&number], singly[&number], "{sql} with {params:?}");
        }
        counted
    }
}

const TABLE: &str = "create table t (id int primary key, grp int, name text, value numeric); \
    insert into t select n, n % 50, 'n' || n, n / 7.0 from generate_series(1, 1000) n; \
    create index on t (grp); analyze t";

/// One harness reads everything on one connection, so that what is counted is not a matter of time.
async fn one_connection(name: &str, script: &str) -> Harness {
    Harness::with(name, script, |mut options| {
        options.helpers_max = 0;
        options
    })
    .await
}

#[tokio::test]
async fn p13_a_batch_gives_what_single_statements_give() {
    let mut harness = one_connection("batch_equal", TABLE).await;
    let statements = [
        // Kept from row changes: columns as texts, ordered by the key.
        "select id, name from t where grp = $1",
        "select * from t where grp = $1 order by value desc limit 3",
        "select id from t where grp > $1 order by name offset 2",
        "select id from t where grp = 7 order by id limit $1",
        // Refreshed.
        "select count(*), sum(value) from t where grp = $1",
        "select grp, max(name) from t where grp < $1 group by grp order by 2 desc",
        "select distinct grp from t where id > $1",
        "select a.id, b.name from t a join t b on b.id = a.id + 1 where a.grp = $1 order by b.value desc limit 5",
        "with w as (select * from t where grp = $1) select id, (select count(*) from w) from w",
        "with recursive w(n) as (select $1::int union all select n + 1 from w where n < 8) select n from w",
        "select id from t where grp = $1 union all select $1 + 1 order by 1 desc limit 4",
        "select $1::int as a, grp from t where id = 1",
        "select id, row_number() over (partition by grp order by value) from t where grp = $1",
        "select exists (select from t where grp = $1) as there",
        "select t from t where t.id = $1",
        "select name as \"$1\", '$1' as b /* $1 */ from t where grp = $1 -- $1\n",
        "select id from t convoy_batch where grp = $1",
        "select id from t where value > $1::numeric / 3 and value < $1 order by value fetch first 2 rows only",
    ];
    let arguments: Vec<Params> =
        (0..60).map(|n| texts(&[&n.to_string()])).chain([texts(&["NULL"])]).collect();
    for sql in statements {
        let counted = harness.compare(sql, &arguments).await;
        assert_eq!(counted, Counted { statements: 1, batched: 61 }, "{sql}");
    }
}

#[tokio::test]
async fn p13_what_lateral_does_not_take_is_read_singly() {
    let mut harness = one_connection("batch_refused", TABLE).await;
    for sql in [
        "select sum($1::int) from t",
        "select id, (select max($1::int) from t) from t where grp = 1",
        "select count(*) filter (where $1::int > 3) from t",
    ] {
        let counted = harness.compare(sql, &numbers(5)).await;
        assert_eq!(counted, Counted { statements: 5, batched: 0 }, "{sql}");
    }
}

#[tokio::test]
async fn p13_where_an_index_needs_the_value_it_is_read_singly() {
    let script = "create table t (id int primary key, kind text, value int); \
                  insert into t select n, case when n % 1000 = 0 then 'rare' else 'often' end, n % 77 \
                  from generate_series(1, 20000) n; \
                  create index on t (value) where kind = 'rare'; create index on t (kind text_pattern_ops); analyze t";
    let mut harness = one_connection("batch_partial", script).await;
    let rare: Vec<Params> = (0..9).map(|n| texts(&["rare", &n.to_string()])).collect();
    let counted = harness.compare("select id from t where kind = $1 and value = $2", &rare).await;
    assert_eq!(counted, Counted { statements: 9, batched: 0 });
    // `$1 is null or …` falls away where the value is known.
    let optional = "select id from t where ($1::int is null or id = $1)";
    let counted = harness.compare(optional, &numbers(9)).await;
    assert_eq!(counted, Counted { statements: 9, batched: 0 });
    let like: Vec<Params> = ["ra%", "x%"].map(|pattern| texts(&[pattern])).into();
    let counted = harness.compare("select id from t where kind like $1", &like).await;
    assert_eq!(counted, Counted { statements: 2, batched: 0 });
    let counted = harness.compare("select value from t where id = $1", &numbers(9)).await;
    assert_eq!(counted, Counted { statements: 1, batched: 9 });
}

#[tokio::test]
async fn p13_an_error_in_a_batch_stays_alone() {
    let mut harness = one_connection("batch_errors", TABLE).await;
    let sql = "select 10 / (id - $1) as a from t where id < 3 order by id";
    // The second and the third divide by zero.
    let counted = harness.compare(sql, &numbers(200)).await;
    assert!(counted.statements < 40, "{counted:?}");
    assert!(counted.batched > 180, "{counted:?}");
    let all: Vec<Params> = vec![texts(&["1"]); 8];
    harness.compare(sql, &all).await;
    // What fails while it is planned spoils nothing, either.
    harness.compare("select id from t where grp = $1 and 1 / $1 > 0", &numbers(60)).await;
    // Nor what a type does not take.
    let statement = harness.read_statement("select id from t where id = $1").await;
    let mut queries: Vec<QueryRead> =
        (0..20).map(|n| read(n, &statement, &texts(&[&n.to_string()]))).collect();
    queries[7].params = Arc::from([Some(Arc::from("no number"))]);
    let (answers, _) = harness.read_all(queries).await;
    for (number, answer) in answers {
        match number {
            0 => assert_eq!(answer, Ok(ReadRows::default())),
            7 => {
                let error = answer.expect_err("no number");
                assert_eq!(error.code, ErrorCode::InvalidArgs, "{error}");
                assert!(error.message.contains("a value is no integer"), "{error}");
            }
            _ => assert_eq!(shown(&answer.expect("rows")), [[number.to_string()]]),
        }
    }
}

#[tokio::test]
async fn a_result_of_a_batch_that_is_too_large_fails_alone() {
    let mut harness = one_connection("batch_limits", "create table t (id int primary key)").await;
    let sql = "select n from generate_series(1, $1) n, t";
    harness.admin.batch_execute("insert into t values (1)").await.expect("insert");
    let statement = harness.read_statement(sql).await;
    let queries = |change: fn(QueryRead) -> QueryRead| {
        let counts = [3, 0, 11, 10, 5, 200_000, 1].into_iter().enumerate();
        let query =
            |(number, count): (usize, i32)| read(number, &statement, &texts(&[&count.to_string()]));
        counts.map(query).map(change).collect::<Vec<_>>()
    };
    for change in [
        |query| QueryRead { rows_max: 10, ..query },
        |query| QueryRead { bytes_max: 11, rows_max: usize::MAX, ..query },
    ] {
        let (answers, _) = harness.read_all(queries(change)).await;
        let sizes: Vec<_> = (0..7)
            .map(|number| match &answers[&number] {
                Ok(rows) => Some(rows.len()),
                Err(error) => {
                    assert_eq!(error.code, ErrorCode::LimitExceeded);
                    None
                }
            })
            .collect();
        assert_eq!(sizes, [Some(3), Some(0), None, Some(10), Some(5), None, Some(1)]);
    }
}

#[tokio::test]
async fn after_the_limit_of_time_each_of_a_batch_is_run_by_itself() {
    let mut harness = one_connection("batch_timeout", TABLE).await;
    harness
        .admin
        .batch_execute(
            "create function wait(n int) returns int language sql stable as \
        'select n from pg_sleep(n * 0.3)'",
        )
        .await
        .expect("a function");
    // As if it had been looked at and found good: what sleeps is no statement that could be live.
    let mut statement = harness.read_statement("select id from t where id = $1").await;
    {
        let statement = Arc::get_mut(&mut statement).expect("nobody else has it");
        let slow = |sql: &str| -> Arc<str> {
            sql.replace("WHERE id", "WHERE wait(id % 10) >= 0 AND id").into()
        };
        statement.sql = slow(&statement.sql);
        let Batching::Together(batch) = &mut statement.batching else { panic!("a batch") };
        batch.sql = slow(&batch.sql);
    }
    let query = |n: usize| QueryRead {
        timeout: Duration::from_millis(1500),
        ..read(n, &statement, &texts(&[&n.to_string()]))
    };
    // Two seconds together, and one of them longer than it may by itself.
    let queries: Vec<QueryRead> = [1, 2, 3, 9, 11].map(query).into();
    let (answers, counted) = harness.read_all(queries).await;
    assert_eq!(counted.statements, 1 + 5 - counted.batched, "{counted:?}");
    for number in [1, 2, 3, 11] {
        assert_eq!(shown(answers[&number].as_ref().expect("rows")), [[number.to_string()]]);
    }
    let error = answers[&9].as_ref().expect_err("too slow");
    assert_eq!(error.code, ErrorCode::Timeout);
    assert!(error.message.contains("--statement-timeout"), "{error}");
}

#[tokio::test]
async fn batches_are_bounded() {
    let mut harness = Harness::with("batch_bounds", TABLE, |mut options| {
        options.batch_max = 10;
        options.helpers_max = 0;
        options
    })
    .await;
    let counted = harness.compare("select id from t where grp = $1", &numbers(101)).await;
    assert_eq!(counted, Counted { statements: 11, batched: 100 });
    // In bytes, too: three go into one.
    let long: Vec<Params> =
        (0..9).map(|n| texts(&[&format!("{n}{}", "x".repeat(300 << 10))])).collect();
    let counted = harness.compare("select id from t where name = $1", &long).await;
    assert_eq!(counted, Counted { statements: 3, batched: 9 });
    let mut singly = Harness::at(harness.url.clone(), |mut options| {
        options.batch_max = 1;
        options
    })
    .await;
    let counted = singly.compare("select id from t where grp = $1", &numbers(20)).await;
    assert_eq!(counted, Counted { statements: 20, batched: 0 });
}

/// Types beyond those that we read ourselves, with values; the last two are told apart by another delimiter, and by what
/// the type checks.
const OTHER_TYPES: [(&str, &[&str]); 11] = [
    ("json", &["{}", "[1, {\"a\": \"\\\\\"}]", "null", " 1 "]),
    ("xml", &["<a>,&amp;\"</a>", "x"]),
    ("bit(5)", &["10101", "00000"]),
    ("varbit", &["", "1", "111111111"]),
    ("\"char\"", &["", "a", "\"", "\\"]),
    ("name", &["", "a", "x\"y"]),
    ("oid", &["0", "4294967295"]),
    ("inet", &["10.0.0.1/8", "::1"]),
    ("int4range", &["empty", "[1,5)", "(,)"]),
    ("box", &["(1,1),(0,0)", "(2,3),(1,1)"]),
    ("small", &["1", "9"]),
];

#[tokio::test]
async fn p13_arguments_of_every_type_arrive_as_they_are() {
    let script = format!(
        "{TYPES}; create type pair as (a int, b text); create type one as (a int); create domain ones as one; \
         create domain small as int check (value < 10); create domain ints as int[]; \
         create table t (id int primary key); insert into t values (1)"
    );
    let mut harness = one_connection("batch_types", &script).await;
    let mut types: Vec<(String, Vec<Params>)> = Vec::new();
    let typed = |sql_type: &str, values: &[&str]| {
        let values = values.iter().map(|value| vec![Some((*value).to_owned())]);
        (sql_type.to_owned(), values.chain([vec![None]]).collect::<Vec<Params>>())
    };
    for (sql_type, values) in OTHER_TYPES {
        types.push(typed(sql_type, values));
    }
    types.push(typed("ints", &["{}", "{1,NULL,3}", "{{1,2},{3,4}}"]));
    harness.admin.batch_execute("select setseed(0.5)").await.expect("a seed");
    for law in laws() {
        let sql = format!("select ({})::text from generate_series(1, 12)", law.value());
        let rows = harness.admin.query(&sql, &[]).await.expect("values");
        let random: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        let values: Vec<&str> =
            law.edges.iter().copied().chain(random.iter().map(String::as_str)).collect();
        types.push(typed(law.sql_type, &values));
        let quoted =
            |value: &str| format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""));
        let arrays: Vec<String> = values
            .chunks(3)
            .map(|part| part.iter().map(|value| quoted(value)).collect::<Vec<_>>().join(","))
            .flat_map(|part| {
                [
                    format!("{{{part}}}"),
                    format!("{{NULL,{part}}}"),
                    format!("[2:2][0:0]={{{{{}}}}}", part.split(',').next().unwrap_or("NULL")),
                ]
            })
            .filter(|array| !array.starts_with("[2") || !array.contains("\"\\"))
            .collect();
        let arrays: Vec<&str> = arrays.iter().map(String::as_str).chain(["{}"]).collect();
        let array_type = match law.sql_type {
            "char(9)" => "bpchar[]".to_owned(),
            other => format!("{other}[]"),
        };
        types.push(typed(&array_type, &arrays));
    }
    for (sql_type, arguments) in &types {
        let sql = format!(
            "select $1::{sql_type} as a, ($1::{sql_type})::text as b, pg_typeof($1)::text as c from t where id = 1"
        );
        let counted = harness.compare(&sql, arguments).await;
        // Some of the arrays are none, which is told alike.
        assert!(counted.batched * 3 > arguments.len() as u64 * 2, "{sql_type}: {counted:?}");
    }
    // What would be unnested to its columns is read singly.
    for sql_type in ["pair", "one", "ones"] {
        let value = if sql_type == "pair" { "(1,\"a,\"\"b\")" } else { "(1)" };
        let sql = format!("select $1::{sql_type}::text as a from t where id = 1");
        let counted = harness.compare(&sql, &[texts(&[value]), texts(&["NULL"])]).await;
        assert_eq!(counted, Counted { statements: 2, batched: 0 }, "{sql_type}");
    }
    // Side by side, as they are in one statement.
    let sql = "select $1::text as a, $2::int[] as b, $3::numeric as c, $4::bytea as d from t where id = $5 or $1 = 'x'";
    let columns = [
        &["x", "", "NULL", "{", "a\"b\\,", "\n"][..],
        &["{1,2}", "{}", "NULL", "{NULL}", "{{1},{2}}", "{5}"],
        &["1.50", "NaN", "-0.1", "NULL", "Infinity", "0"],
        &["\\x00ff", "\\x", "NULL", "\\x5c22", "\\x2c", "\\x7b"],
        &["1", "2", "1", "1", "NULL", "1"],
    ];
    let rows: Vec<Params> = (0..6).map(|row| texts(&columns.map(|column| column[row]))).collect();
    let counted = harness.compare(sql, &rows).await;
    assert_eq!(counted, Counted { statements: 1, batched: 6 });
}

#[tokio::test]
async fn p12_a_batch_is_of_one_role() {
    let role = "create role batch_reader login; create table t (id int primary key, owner name); \
                insert into t values (1, 'batch_reader'), (2, 'somebody'); \
                alter table t enable row level security; create policy own on t using (owner = current_user); \
                grant select on t to batch_reader";
    let mut harness = one_connection("batch_roles", role).await;
    let url = harness.url.clone();
    drop(harness);
    harness = Harness::at(url, |mut options| {
        let mut url = options.url.clone();
        url.user = "batch_reader".to_owned();
        options.ad_hoc_url = Some(url);
        options
    })
    .await;
    let statement = harness.read_statement("select id from t where id = $1").await;
    let queries = (0..40).map(|number: usize| QueryRead {
        role: if number.is_multiple_of(2) { ReadingRole::Server } else { ReadingRole::AdHoc },
        ..read(number, &statement, &texts(&[&(1 + number / 2 % 2).to_string()]))
    });
    let (answers, counted) = harness.read_all(queries.collect()).await;
    assert_eq!(counted, Counted { statements: 2, batched: 40 });
    for (number, answer) in answers {
        let sees_all = number.is_multiple_of(2);
        let rows = answer.expect("rows").len();
        assert_eq!(rows, usize::from(sees_all || number / 2 % 2 == 0), "{number}");
    }
}
