//! Reads: locks before snapshots, many queries, errors that stay alone.

use super::harness::{Harness, client, query, read_statement, shown, until};
use convoy_engine::{Database, ErrorCode, QueryRead};
use convoy_postgres::launcher::{PrivatePostgres, Shutdown};
use convoy_postgres::testing;
use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Duration;

#[tokio::test]
async fn p3_lock_before_snapshot() {
    let mut harness =
        Harness::new("lock", "create table t (id int primary key); insert into t values (1)").await;
    let table = harness.oid("t").await;
    let mut other = client(&harness.url).await;
    let truncating = other.transaction().await.expect("a transaction");
    truncating.batch_execute("truncate t; insert into t values (2), (3)").await.expect("truncate");
    let read = harness.start_open(vec![table]);
    // The read waits for the lock, and has no snapshot yet.
    until(
        &harness.admin,
        "select from pg_locks where not granted and mode = 'AccessShareLock' \
           and relation = 't'::regclass",
    )
    .await;
    // A snapshot from before the commit would show an empty table.
    truncating.commit().await.expect("commit");
    harness.opened(read).await.expect("an open read");
    let snapshot = harness.snapshot(read).await.expect("a snapshot");
    assert!(!snapshot.synchronous_standbys);
    let answers = harness.run(read, vec![query(1, "select id::text from t order by id")]).await;
    assert_eq!(shown(answers[&1].as_ref().expect("rows")), [["2"], ["3"]]);
}

#[tokio::test]
async fn p3_truncate_waits_for_an_open_read() {
    let mut harness =
        Harness::new("hold", "create table t (id int primary key); insert into t values (1)").await;
    let table = harness.oid("t").await;
    let (read, opened) = harness.open(vec![table]).await;
    opened.expect("an open read");
    harness.snapshot(read).await.expect("a snapshot");
    let other = client(&harness.url).await;
    other.batch_execute("set lock_timeout = '50ms'").await.expect("set");
    other.batch_execute("truncate t").await.expect_err("the read's lock is in the way");
    let answers = harness.run(read, vec![query(1, "select id::text from t")]).await;
    assert_eq!(shown(answers[&1].as_ref().expect("rows")), [["1"]]);
    other.batch_execute("set lock_timeout = '10s'; truncate t").await.expect("the read is over");
}

#[tokio::test]
async fn p3_a_table_that_keeps_readers_out_is_left_out() {
    let sql = "create table t (id int primary key); create table u (id int primary key); \
               create table p (id int primary key) partition by list (id); \
               create table p1 partition of p for values in (1); insert into u values (1)";
    let mut harness = Harness::new("kept_out", sql).await;
    let tables = [harness.oid("t").await, harness.oid("u").await, harness.oid("p").await];
    let mut other = client(&harness.url).await;
    let altering = other.transaction().await.expect("a transaction");
    altering.batch_execute("lock table t, p1 in access exclusive mode").await.expect("a lock");
    // The second one asks first, and need not wait.
    for _ in 0..2 {
        let (read, opened) = harness.open(tables.to_vec()).await;
        assert_eq!(opened.expect("an open read"), BTreeSet::from([tables[0], tables[2]]));
        harness.snapshot(read).await.expect("a snapshot");
        let answers = harness.run(read, vec![query(1, "select id::text from u")]).await;
        assert_eq!(shown(answers[&1].as_ref().expect("rows")), [["1"]]);
    }
    altering.commit().await.expect("commit");
    let (_, opened) = harness.open(tables.to_vec()).await;
    assert_eq!(opened.expect("an open read"), BTreeSet::new());
}

#[tokio::test]
async fn p3_a_retaken_snapshot_is_newer_and_locked() {
    let mut harness = Harness::new("again", "create table t (id int primary key)").await;
    let table = harness.oid("t").await;
    let (read, opened) = harness.open(vec![table]).await;
    opened.expect("an open read");
    let first = harness.snapshot(read).await.expect("a snapshot");
    harness.admin.batch_execute("insert into t values (1)").await.expect("insert");
    let second = harness.snapshot(read).await.expect("another snapshot");
    assert!(second.mark.xmax > first.mark.xmax);
    assert!(second.settle_lsn > first.settle_lsn);
    let other = client(&harness.url).await;
    other.batch_execute("set lock_timeout = '50ms'").await.expect("set");
    other.batch_execute("truncate t").await.expect_err("the lock is there again");
    let answers = harness.run(read, vec![query(1, "select id::text from t")]).await;
    assert_eq!(shown(answers[&1].as_ref().expect("rows")), [["1"]]);
}

#[tokio::test]
async fn p3_without_the_right_to_lock_files_are_compared() {
    let script = "create table t (id int primary key, secret text); insert into t values (1, 'x'); \
                  do $$ begin create role convoy_column_reader login; exception when duplicate_object then null; end $$; \
                  grant select (id) on t to convoy_column_reader";
    let mut harness = Harness::with("columns", script, |mut options| {
        options.url.user = "convoy_column_reader".into();
        options
    })
    .await;
    let table = harness.oid("t").await;
    let rows = vec![query(1, "select id::text from t")];
    let answers = harness.read(vec![table], rows.clone()).await;
    assert_eq!(shown(answers[&1].as_ref().expect("rows")), [["1"]]);
    let (read, opened) = harness.open(vec![table]).await;
    opened.expect("an open read");
    harness.snapshot(read).await.expect("a snapshot");
    harness.admin.batch_execute("truncate t").await.expect("nobody holds a lock");
    let answers = harness.run(read, rows).await;
    let error = answers[&1].as_ref().expect_err("the snapshot shows rows that are gone");
    assert_eq!(error.code, ErrorCode::Unavailable);
    assert!(error.message.contains("truncated"), "{error}");
}

#[tokio::test]
async fn p3_a_read_of_a_standby_is_refused() {
    let server = PrivatePostgres::start(testing::options()).await.expect("a server");
    client(&server.url("postgres"))
        .await
        .batch_execute(
            "create table t (id int primary key); create publication convoy_full; \
                        create publication convoy_ins with (publish = 'insert, truncate'); \
                        alter publication convoy_full add table t",
        )
        .await
        .expect("a table");
    server.down(Shutdown::Fast).await.expect("it is down");
    let signal = server.folder().join("data/standby.signal");
    std::fs::write(&signal, "").expect("a file");
    let owner = server.folder().join("data").metadata().expect("the data folder");
    std::os::unix::fs::chown(&signal, Some(owner.uid()), Some(owner.gid())).expect("an owner");
    server.up().await.expect("it is up");
    let mut harness = Harness::at(server.url("postgres"), |options| options).await;
    // What it says of itself: nothing is in progress, whatever the primary does.
    let standby = harness.admin.query_one("select pg_is_in_recovery()", &[]).await;
    assert!(standby.expect("a row").get::<_, bool>(0));
    let table = harness.oid("t").await;
    let (read, opened) = harness.open(vec![table]).await;
    opened.expect("an open read");
    let error = harness.snapshot(read).await.expect_err("a standby's snapshot");
    assert_eq!(error.code, ErrorCode::Unavailable);
    assert!(error.message.contains("connect to the primary"), "{error}");
    server.stop().await.expect("it is gone");
}

/// What is on its way on a connection must be taken before the answer to anything sent after it comes.
#[tokio::test]
async fn statements_are_prepared_beside_large_results() {
    let mut harness =
        Harness::with("beside", "create table t (id int primary key)", |mut options| {
            options.helpers_max = 0;
            options
        })
        .await;
    let table = harness.oid("t").await;
    // Quick ones first, so that several are put on their way at a time.
    let rows = |n| if n < 16 { 1 } else { 900 };
    let sql = |n| format!("select repeat('x', 1000) || {n} from generate_series(1, {})", rows(n));
    let queries: Vec<QueryRead> = (0..40).map(|n| query(n, &sql(n))).collect();
    let answers = tokio::time::timeout(Duration::from_secs(30), harness.read(vec![table], queries));
    let answers = answers.await.expect("answers");
    for (number, answer) in &answers {
        assert_eq!(answer.as_ref().expect("rows").len(), rows(*number));
    }
}

#[tokio::test]
async fn p13_an_error_stays_alone() {
    let mut harness =
        Harness::new("errors", "create table t (id int primary key); insert into t values (1)")
            .await;
    let table = harness.oid("t").await;
    let mut queries: Vec<QueryRead> =
        (0..40).map(|n| query(n, &format!("select (id + {n})::text from t"))).collect();
    queries[7] = query(7, "select (id / 0)::text from t");
    queries[8] = query(8, "select nonsense from t");
    queries[20] = query(20, "select (id / 0)::text from t");
    let answers = harness.read(vec![table], queries).await;
    assert_eq!(answers.len(), 40);
    for (number, answer) in &answers {
        match number {
            7 | 20 => {
                let error = answer.as_ref().expect_err("a division by zero");
                assert_eq!(
                    (error.code, error.message.as_str()),
                    (ErrorCode::InvalidArgs, "division by zero")
                );
            }
            8 => {
                let error = answer.as_ref().expect_err("an unknown column");
                assert_eq!(error.message, "column \"nonsense\" does not exist at line 1, column 8");
            }
            _ => assert_eq!(shown(answer.as_ref().expect("rows")), [[(number + 1).to_string()]]),
        }
    }
}

#[tokio::test]
async fn p3_several_connections_read_at_one_snapshot() {
    let mut harness =
        Harness::new("slow", "create table t (id int primary key); insert into t values (1)").await;
    let table = harness.oid("t").await;
    let (read, opened) = harness.open(vec![table]).await;
    opened.expect("an open read");
    harness.snapshot(read).await.expect("a snapshot");
    // Others see neither this row nor less.
    harness.admin.batch_execute("insert into t values (2)").await.expect("insert");
    let mut queries = vec![query(0, "select pg_sleep(3)::text from t")];
    queries.extend((1..50).map(|n| query(n, "select count(*)::text from t")));
    harness.database.run(read, queries, Vec::new());
    for _ in 1..50 {
        let (id, rows) = harness
            .wait(|event| match event {
                convoy_engine::Event::QueryRead(_, id, Ok(rows)) => Ok((id, rows)),
                other => Err(other),
            })
            .await;
        assert_ne!(id.0, 0, "nobody waits for the slow one");
        assert_eq!(shown(&rows), [["1"]]);
    }
    harness
        .wait(|event| match event {
            convoy_engine::Event::ReadFinished(_) => Ok(()),
            other => Err(other),
        })
        .await;
}

#[tokio::test]
async fn nothing_quick_waits_behind_a_query_that_is_known_to_be_slow() {
    let script = "create table pace (seconds float8); insert into pace values (0)";
    let two = |options| convoy_postgres::DatabaseOptions {
        connections_max: 2,
        helpers_max: 1,
        ..options
    };
    let mut harness = Harness::with("slow_behind", script, two).await;
    let table = harness.oid("pace").await;
    const SLOW: u32 = 4;
    let queries = || -> Vec<QueryRead> {
        let quick = |number| query(number, &format!("select 'quick {number}'"));
        let mut queries: Vec<_> = (0..12).map(quick).collect();
        queries[SLOW as usize] = QueryRead {
            last_took: Duration::from_secs(2),
            ..query(SLOW, "select pg_sleep(seconds)::text from pace")
        };
        queries
    };
    // Until all are prepared, one is not sent behind another anyway.
    for _ in 0..4 {
        harness.read(vec![table], queries()).await;
    }
    harness.admin.batch_execute("update pace set seconds = 2").await.expect("a pace");
    let (read, opened) = harness.open(vec![table]).await;
    opened.expect("an open read");
    harness.snapshot(read).await.expect("a snapshot");
    harness.database.run(read, queries(), Vec::new());
    let mut order = Vec::new();
    harness
        .wait(|event| match event {
            convoy_engine::Event::QueryRead(_, id, _) => {
                order.push(id.0);
                Err(convoy_engine::Event::Tick)
            }
            convoy_engine::Event::ReadFinished(_) => Ok(()),
            other => Err(other),
        })
        .await;
    assert_eq!((order.len(), order.last()), (12, Some(&SLOW)), "{order:?}");
}

/// The connection that took the locks may end while others still read: what they read stays what the snapshot shows.
#[tokio::test]
async fn p3_a_table_is_not_truncated_under_those_who_help() {
    let mut harness = Harness::new(
        "helpers_lock",
        "create table s (id int primary key); insert into s values (1); \
         create table t (id int primary key); insert into t values (1), (2)",
    )
    .await;
    let tables = vec![harness.oid("s").await, harness.oid("t").await];
    let (read, opened) = harness.open(tables).await;
    opened.expect("an open read");
    harness.snapshot(read).await.expect("a snapshot");
    // The first is the read's own connection's, the others are a helper's.
    let queries = vec![
        query(0, "select pg_sleep(3)::text || 'own' from s"),
        query(1, "select pg_sleep(1)::text || 'helper' from s"),
        query(2, "select count(*)::text from t"),
    ];
    harness.database.run(read, queries, Vec::new());
    for at_work in ["own", "helper"] {
        let sql = "select count(*) from pg_stat_activity where state = 'active' \
                   and pid <> pg_backend_pid() and query like '%pg_sleep%' || $1 || '%'";
        while harness.admin.query_one(sql, &[&at_work]).await.expect("a row").get::<_, i64>(0) == 0
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    let ended = "select pg_terminate_backend(pid) from pg_stat_activity where state = 'active' \
                 and pid <> pg_backend_pid() and query like '%pg_sleep%own%'";
    harness.admin.batch_execute(ended).await.expect("it is ended");
    let other = client(&harness.url).await;
    let truncated = tokio::spawn(async move { other.batch_execute("truncate t").await });
    let rows = harness
        .wait(|event| match event {
            convoy_engine::Event::QueryRead(_, id, result) if id.0 == 2 => Ok(result),
            other => Err(other),
        })
        .await;
    assert_eq!(shown(&rows.expect("a count")), [["2"]]);
    truncated.await.expect("it ends").expect("it is truncated");
}

#[tokio::test]
async fn limits_end_a_query_and_no_other() {
    let mut harness =
        Harness::new("limits", "create table t (id int primary key); insert into t values (1)")
            .await;
    let table = harness.oid("t").await;
    let many = "select g::text from generate_series(1, 3000000) g";
    let rows = QueryRead { rows_max: 10, ..query(1, many) };
    let bytes = QueryRead { bytes_max: 100, rows_max: 1 << 30, ..query(2, many) };
    let time =
        QueryRead { timeout: Duration::from_millis(100), ..query(3, "select pg_sleep(9)::text") };
    let good = query(4, "select id::text from t");
    let answers = harness.read(vec![table], vec![rows, bytes, time, good]).await;
    let code = |number| answers[&number].as_ref().expect_err("a limit").code;
    assert_eq!(code(1), ErrorCode::LimitExceeded);
    assert_eq!(code(2), ErrorCode::LimitExceeded);
    assert_eq!(code(3), ErrorCode::Timeout);
    assert_eq!(shown(answers[&4].as_ref().expect("rows")), [["1"]]);
}

#[tokio::test]
async fn parameters_are_read_by_their_types() {
    let script = "create type mood as enum ('sad', 'happy'); create domain small as int check (value < 10); \
                  create table t (id small primary key, m mood, a int[]); insert into t values (1, 'happy', '{1,2}')";
    let mut harness = Harness::new("params", script).await;
    let facts = harness.facts("select id from t where id = $1 and m = $2 and a = $3").await;
    let types: Vec<u32> = facts.params.iter().map(|param| param.type_oid).collect();
    let sql = "select id::text from t where id = $1 and m = $2 and a = $3";
    let read = QueryRead {
        statement: read_statement(sql, &types),
        params: Arc::from([
            Some(Arc::from("1")),
            Some(Arc::from("happy")),
            Some(Arc::from("{1,2}")),
        ]),
        ..query(1, sql)
    };
    let none = QueryRead {
        query: convoy_query_index::QueryId(2),
        params: Arc::from([None, None, None]),
        ..read.clone()
    };
    let table = harness.oid("t").await;
    let answers = harness.read(vec![table], vec![read, none]).await;
    assert_eq!(shown(answers[&1].as_ref().expect("rows")), [["1"]]);
    assert!(answers[&2].as_ref().expect("rows").is_empty());
}

#[tokio::test]
async fn p7_a_plan_that_is_out_of_date_is_made_again() {
    let mut harness = Harness::with(
        "replan",
        "create table t (id text primary key); insert into t values ('1')",
        |options| convoy_postgres::DatabaseOptions { connections_max: 1, ..options },
    )
    .await;
    let table = harness.oid("t").await;
    let all = || vec![query(1, "select * from t")];
    assert_eq!(shown(harness.read(vec![table], all()).await[&1].as_ref().expect("rows")), [["1"]]);
    harness
        .admin
        .batch_execute("alter table t add column extra text default 'x'")
        .await
        .expect("alter");
    assert_eq!(
        shown(harness.read(vec![table], all()).await[&1].as_ref().expect("rows")),
        [["1", "x"]]
    );
}

#[tokio::test]
async fn a_closed_read_frees_its_connection() {
    let mut harness = Harness::with("close", "create table t (id int primary key)", |options| {
        convoy_postgres::DatabaseOptions { connections_max: 1, ..options }
    })
    .await;
    let table = harness.oid("t").await;
    let (read, opened) = harness.open(vec![table]).await;
    opened.expect("an open read");
    harness.snapshot(read).await.expect("a snapshot");
    harness.database.run(read, vec![query(1, "select pg_sleep(60)::text")], Vec::new());
    until(
        &harness.admin,
        "select from pg_stat_activity where query like '%pg_sleep(60)%' and state = 'active' \
           and pid <> pg_backend_pid() and datname = current_database()",
    )
    .await;
    harness.database.close_read(read);
    let answers = harness.read(vec![table], vec![query(2, "select 1::text")]).await;
    assert_eq!(shown(answers[&2].as_ref().expect("rows")), [["1"]]);
    until(
        &harness.admin,
        "select where not exists (select from pg_stat_activity where query like '%pg_sleep(60)%' \
           and state = 'active' and pid <> pg_backend_pid() and datname = current_database())",
    )
    .await;
}

#[tokio::test]
async fn a_read_whose_engine_is_gone_frees_its_connection() {
    let mut harness = Harness::new("orphan", "create table t (id int primary key)").await;
    let table = harness.oid("t").await;
    let (read, opened) = harness.open(vec![table]).await;
    opened.expect("an open read");
    harness.snapshot(read).await.expect("a snapshot");
    let Harness { database, admin, .. } = harness;
    drop(database);
    until(
        &admin,
        "select where not exists (select from pg_stat_activity where state = 'idle in transaction' \
           and datname = current_database())",
    )
    .await;
}

#[tokio::test]
async fn p12_nothing_is_left_on_a_connection() {
    let mut harness = Harness::with("leave", "create table t (id int primary key)", |options| {
        convoy_postgres::DatabaseOptions { connections_max: 1, ..options }
    })
    .await;
    let leave = "select set_config('app.tenant', '7', false), set_config('TimeZone', 'Asia/Tokyo', false), \
                 set_config('role', 'pg_monitor', false), pg_advisory_lock(42)::text";
    let answers = harness.read(vec![], vec![query(1, leave)]).await;
    answers[&1].as_ref().expect("settings");
    let left = "select coalesce(current_setting('app.tenant', true), ''), current_setting('TimeZone'), \
                current_user::text, (select count(*)::text from pg_locks where locktype = 'advisory' \
                and database = (select oid from pg_database where datname = current_database()))";
    let answers = harness.read(vec![], vec![query(1, left)]).await;
    let user = harness.admin.query_one("select current_user::text", &[]).await.expect("a user");
    assert_eq!(
        shown(answers[&1].as_ref().expect("rows")),
        [["", "UTC", user.get::<_, &str>(0), "0"]]
    );
}

#[tokio::test]
async fn p9_settings_are_pinned_whatever_the_database_says() {
    let script = "do $$ begin execute format('alter database %I set datestyle = ''German''', current_database()); \
                  execute format('alter database %I set timezone = ''Asia/Tokyo''', current_database()); end $$";
    let mut harness = Harness::new("pinned", script).await;
    let sql = "select timestamptz '2026-01-02 03:04:05+00'::text, interval '1 day'::text, '\\x00'::bytea::text";
    let answers = harness.read(vec![], vec![query(1, sql)]).await;
    assert_eq!(
        shown(answers[&1].as_ref().expect("rows")),
        [["2026-01-02 03:04:05+00", "1 day", "\\x00"]]
    );
}

#[tokio::test]
async fn a_cancellation_meets_nobody_elses_statement() {
    let mut harness = Harness::with("stray_cancel", "create table t (id int)", |options| {
        convoy_postgres::DatabaseOptions { connections_max: 1, ..options }
    })
    .await;
    let table = harness.oid("t").await;
    let pid = || query(1, "select pg_backend_pid()::text");
    let first = harness.read(vec![table], vec![pid()]).await;
    let again = harness.read(vec![table], vec![pid()]).await;
    assert_eq!(first[&1], again[&1], "there is one connection");
    // One row too many: the statement ends by itself, and its cancellation may come at any time after that.
    let many = "select g::text from generate_series(1, 1001) g";
    let large = QueryRead { rows_max: 1000, ..query(2, many) };
    let slow = query(3, "select 'done' from pg_sleep(0.01)");
    let answers = harness.read(vec![table], vec![large, slow]).await;
    assert_eq!(answers[&2].as_ref().expect_err("too large").code, ErrorCode::LimitExceeded);
    assert_eq!(shown(answers[&3].as_ref().expect("an answer")), [["done"]]);
    let next = harness.read(vec![table], vec![pid()]).await;
    assert!(next[&1].is_ok() && next[&1] != first[&1], "{next:?}");
}
