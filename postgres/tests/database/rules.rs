//! What Postgres itself does, as the rules of `docs/postgres.md` have it: experiments in SQL alone, which say why the
//! rest is as it is. A server on which one of them fails is one that Convoy was not made for.

use super::harness::client;
use convoy_postgres::launcher::{PrivatePostgres, Shutdown};
use convoy_postgres::testing;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error, SimpleQueryMessage};

/// Makes a database with this in it, and returns two ways in.
async fn database(hint: &str, script: &str) -> (Client, Client) {
    let url = testing::shared().await.database(hint).await;
    let (one, other) = (client(&url).await, client(&url).await);
    run(&one, script).await;
    (one, other)
}

async fn run(client: &Client, sql: &str) {
    if let Err(error) = client.batch_execute(sql).await {
        panic!("{sql}: {error:?}");
    }
}

async fn refused(client: &Client, sql: &str) -> Error {
    match client.batch_execute(sql).await {
        Ok(()) => panic!("not refused: {sql}"),
        Err(error) => error,
    }
}

/// Returns the first column of the answer, with `NULL` for null.
async fn column(client: &Client, sql: &str) -> Vec<String> {
    let answer = client.simple_query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    let text = |message| match message {
        SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or("NULL").to_owned()),
        _ => None,
    };
    answer.into_iter().filter_map(text).collect()
}

async fn text(client: &Client, sql: &str) -> String {
    column(client, sql).await.into_iter().next().unwrap_or_else(|| panic!("no row: {sql}"))
}

/// Makes roles that the whole server shares, which another run of the same server may have made.
async fn role(client: &Client, name: &str) {
    let sql = format!(
        "do $$ begin create role {name} login; exception when duplicate_object then null; end $$"
    );
    run(client, &sql).await;
}

/// Asks whether a snapshot taken now shows a transaction.
async fn shows(client: &Client, xid: &str) -> bool {
    let sql = format!("select pg_visible_in_snapshot('{xid}', pg_current_snapshot())");
    text(client, &sql).await == "t"
}

/// Takes an xid and ends: whatever had one before is now below every snapshot's xmax.
async fn end_a_transaction(client: &Client) {
    run(client, "select pg_current_xact_id()").await;
}

#[tokio::test]
async fn p1_publishing_updates_can_break_the_users_writes() {
    let (user, owner) = database(
        "p1_break",
        "create table bare (id int); create table late (id int primary key deferrable); \
         create table part (id int, x int); alter table part replica identity full; \
         create table chosen (id int primary key, x int)",
    )
    .await;
    for (table, publication) in [
        ("bare", "for table bare"),
        ("late", "for table late"),
        ("part", "for table part (id)"),
        ("chosen", "for table chosen where (x > 0)"),
    ] {
        let insert = format!("insert into {table} values (1)");
        let update = format!("update {table} set id = 2");
        run(&user, &insert).await;
        run(&user, &update).await;
        run(&owner, &format!("create publication p {publication}")).await;
        let error = refused(&user, &update).await;
        assert!(
            error.as_db_error().is_some_and(|error| {
                error.message().starts_with(&format!("cannot update table \"{table}\""))
            }),
            "{table}: {error:?}"
        );
        // Inserts go on, and with a publication of inserts alone so does everything.
        run(&user, &insert.replace("(1)", "(3)")).await;
        run(&owner, "drop publication p").await;
        if !publication.contains('(') {
            run(
                &owner,
                &format!("create publication p {publication} with (publish = 'insert, truncate')"),
            )
            .await;
            run(&user, &update.replace('2', "4 where id = 2")).await;
            run(&owner, "drop publication p").await;
        }
    }
    // Tables that nobody has made yet.
    run(&owner, "create publication p for all tables").await;
    run(&user, "create table newer (id int); insert into newer values (1)").await;
    let error = refused(&user, "delete from newer").await;
    assert_eq!(error.code(), Some(&SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE), "{error:?}");
}

#[tokio::test]
async fn p1_a_table_of_the_information_schema_can_be_added_by_mistake() {
    let (client, _) = database("p1_schema", "create publication p").await;
    run(&client, "alter publication p add table information_schema.sql_features").await;
    refused(&client, "alter publication p add table pg_catalog.pg_class").await;
}

#[tokio::test]
async fn p3_truncate_and_rewrites_are_not_mvcc() {
    for ddl in ["truncate t", "alter table t alter x type bigint"] {
        let script = "create table t (x int); insert into t values (1), (2)";
        let (reader, other) = database("p3_mvcc", script).await;
        run(&reader, "begin isolation level repeatable read read only").await;
        text(&reader, "select pg_current_snapshot()").await;
        run(&other, "begin").await;
        let xid = text(&other, "select pg_current_xact_id()").await;
        run(&other, &format!("{ddl}; commit")).await;
        assert!(!shows(&reader, &xid).await, "{ddl}");
        // Neither what was there before it nor what is after it.
        assert_eq!(text(&reader, "select count(*) from t").await, "0", "{ddl}");
        run(&reader, "rollback").await;
        // With the lock first, the snapshot is one from after it or keeps it out.
        run(
            &reader,
            "begin isolation level repeatable read read only; lock table t in access share mode",
        )
        .await;
        text(&reader, "select pg_current_snapshot()").await;
        let error = refused(&other, &format!("set lock_timeout = '20ms'; {ddl}")).await;
        assert_eq!(error.code(), Some(&SqlState::LOCK_NOT_AVAILABLE), "{ddl}: {error:?}");
    }
}

#[tokio::test]
async fn p4_a_running_subtransaction_tests_as_visible() {
    let (writer, other) = database("p4_sub", "create table t (id int)").await;
    run(&writer, "begin").await;
    let top = text(&writer, "select pg_current_xact_id()").await;
    run(&writer, "savepoint s; insert into t values (1)").await;
    let sub = text(&writer, "select xmin from t").await;
    assert_ne!(top, sub);
    end_a_transaction(&other).await;
    assert!(!shows(&other, &top).await, "the top-level id is in the snapshot");
    assert!(shows(&other, &sub).await, "the id of the subtransaction is not");
    assert_eq!(text(&other, "select count(*) from t").await, "0");
}

#[tokio::test]
async fn p4_a_prepared_transaction_is_in_progress_until_it_is_committed() {
    let (writer, other) = database("p4_prepared", "create table t (id int)").await;
    run(&writer, "begin; insert into t values (1)").await;
    let xid = text(&writer, "select pg_current_xact_id()").await;
    run(&writer, "prepare transaction 'convoy_p4'").await;
    end_a_transaction(&other).await;
    assert!(!shows(&other, &xid).await);
    run(&writer, "commit prepared 'convoy_p4'").await;
    assert!(shows(&other, &xid).await);
}

#[tokio::test]
async fn p4_a_crash_gives_an_xid_to_somebody_else() {
    let mut options = testing::options();
    // Nobody flushes what was committed asynchronously.
    options.settings.push(("wal_writer_delay".into(), "10s".into()));
    let server = PrivatePostgres::start(options).await.expect("a server");
    let url = server.url("postgres");
    let facts = "select system_identifier || ' ' || timeline_id from pg_control_system(), pg_control_checkpoint()";
    run(&client(&url).await, "create table t (note text)").await;
    for attempt in 0.. {
        let one = client(&url).await;
        let before = text(&one, facts).await;
        run(&one, "set synchronous_commit = off; begin; insert into t values ('gone')").await;
        let xid = text(&one, "select pg_current_xact_id()").await;
        run(&one, "commit").await;
        let other = client(&url).await;
        assert!(shows(&other, &xid).await);
        assert_ne!(text(&other, "select count(*) from t where note = 'gone'").await, "0");
        server.kill_immediately(Shutdown::Immediate).await.expect("it is up again");
        let one = client(&url).await;
        run(&one, "begin").await;
        let next = text(&one, "select pg_current_xact_id()").await;
        run(&one, "insert into t values ('other'); commit").await;
        assert_eq!(text(&one, facts).await, before);
        if next == xid {
            assert_eq!(
                text(&one, &format!("select note from t where xmin = '{xid}'")).await,
                "other"
            );
            break;
        }
        // Something else flushed the WAL in time, as the server's own housekeeping may.
        assert!(attempt < 8, "no id was given twice");
    }
    server.stop().await.expect("it is gone");
}

#[tokio::test]
async fn p5_a_plain_role_may_have_the_wal_flushed() {
    let url = testing::shared().await.database("p5_plain").await;
    let admin = client(&url).await;
    role(&admin, "convoy_p5_plain").await;
    let plain = client(&url.replace("postgres@", "convoy_p5_plain@")).await;
    run(&admin, "create table t (id int); set synchronous_commit = off; insert into t values (1)")
        .await;
    let end = text(&admin, "select pg_current_wal_insert_lsn()").await;
    let flush = "begin; set local synchronous_commit = local; \
                 select pg_logical_emit_message(true, 'convoy', ''); commit";
    run(&plain, flush).await;
    assert_eq!(text(&admin, &format!("select pg_current_wal_flush_lsn() >= '{end}'")).await, "t");
}

#[tokio::test]
async fn p9_to_jsonb_sorts_keys_and_drops_twins() {
    let (client, _) = database("p9_twins", "").await;
    let sql = "select to_jsonb(r) from (select 1 as bb, 2 as a, 3 as a) r";
    assert_eq!(text(&client, sql).await, "{\"a\": 3, \"bb\": 1}");
}

/// The relations that a prepared statement has locked, which is what Convoy asks.
async fn locked(client: &Client, sql: &str) -> Vec<String> {
    run(client, "begin read only").await;
    run(client, &format!("prepare asked as {sql}")).await;
    let locks = "select relation::regclass::text from pg_locks where pid = pg_backend_pid() \
                 and locktype = 'relation' and relation >= 16384 order by 1";
    let locked = column(client, locks).await;
    run(client, "rollback; deallocate asked").await;
    locked
}

#[tokio::test]
async fn p11_explain_is_no_authority() {
    let (client, _) = database(
        "p11_explain",
        "create table a (id int primary key, x int); create table b (id int primary key); \
         create table p (id int) partition by range (id); create table p1 partition of p for values from (0) to (10); \
         create function hidden() returns bigint language sql stable as 'select count(*) from b'",
    )
    .await;
    for (sql, lost, is_locked) in [
        ("select a.id from a left join b using (id)", "b", true),
        ("select id from a where false", "a", true),
        ("with unused as (select * from b) select id from a", "b", true),
        // Partitions are what pg_inherits adds; a function's body is what nothing adds.
        ("select id from p where id = 50", "p1", false),
        ("select hidden() from a", "b", false),
    ] {
        let plan = column(&client, &format!("explain (costs off) {sql}")).await.join("\n");
        let names_it = plan.lines().any(|line| line.contains(&format!(" on {lost}")));
        assert!(!names_it, "{sql}: {plan}");
        let locked = locked(&client, sql).await;
        assert_eq!(locked.iter().any(|name| name == lost), is_locked, "{sql}: {locked:?}");
    }
    let inherited = "select inhrelid::regclass from pg_inherits where inhparent = 'p'::regclass";
    assert_eq!(column(&client, inherited).await, ["p1"]);
}

#[tokio::test]
async fn p11_prepare_locks_what_a_policy_reads_for_who_is_subject_to_it() {
    let script = "create table t (id int primary key); create table allowed (id int primary key); \
                  alter table t enable row level security; \
                  create policy p on t using (exists (select from allowed where allowed.id = t.id))";
    let (admin, _) = database("p11_policy", script).await;
    role(&admin, "convoy_p11_policy").await;
    assert_eq!(locked(&admin, "select id from t").await, ["t"]);
    run(&admin, "grant select on t, allowed to convoy_p11_policy; set role convoy_p11_policy")
        .await;
    let locked = locked(&admin, "select id from t").await;
    assert!(locked.iter().any(|name| name == "allowed"), "{locked:?}");
}

#[tokio::test]
async fn p11_prepare_checks_no_rights() {
    let (client, _) = database("p11_rights", "create table secret (id int)").await;
    role(&client, "convoy_p11_rights").await;
    run(&client, "set role convoy_p11_rights; prepare asked as select id from secret").await;
    let error = refused(&client, "execute asked").await;
    assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{error:?}");
}

#[tokio::test]
async fn p11_a_prepared_statement_survives_rollback() {
    let (client, _) = database("p11_survives", "").await;
    run(&client, "begin; prepare kept as select 7; rollback").await;
    assert_eq!(text(&client, "execute kept").await, "7");
}

#[tokio::test]
async fn p11_select_into_passes_prepare() {
    let (client, _) = database("p11_into", "").await;
    run(&client, "begin read only; prepare made as select 1 as one into made").await;
    let error = refused(&client, "execute made").await;
    assert!(!error.is_closed(), "{error:?}");
    run(&client, "rollback").await;
    assert_eq!(text(&client, "select to_regclass('made')").await, "NULL");
    // As it is described, it gives nothing.
    let statement = client.prepare("select 1 as one into made").await.expect("prepared");
    assert!(statement.columns().is_empty());
}

#[tokio::test]
async fn p11_a_domain_is_described_as_its_base_type() {
    let script = "create domain grade as numeric(3, 1); create table t (g grade)";
    let (client, _) = database("p11_domain", script).await;
    let statement = client.prepare("select g from t where g = $1").await.expect("prepared");
    assert_eq!(statement.columns()[0].type_().name(), "numeric");
    assert_eq!(statement.params()[0].name(), "numeric");
    // A parameter keeps the domain where the statement says so.
    let statement = client.prepare("select $1::grade").await.expect("prepared");
    assert_eq!(statement.params()[0].name(), "grade");
}

#[tokio::test]
async fn p2_a_prepared_transactions_locks_keep_its_sessions_name_and_no_pid() {
    let (writer, other) = database("p2_locks", "create table t (id int)").await;
    run(&writer, "begin; insert into t values (1)").await;
    let sql = "select virtualtransaction from pg_locks where relation = 't'::regclass";
    let name = text(&other, sql).await;
    run(&writer, "prepare transaction 'convoy_p2_locks'").await;
    assert_eq!(column(&other, &format!("{sql} and pid is null")).await, [name.as_str()]);
    // Who waits for the virtual transaction waits no more, although the locks name it.
    let own = format!("select 1 from pg_locks where virtualxid = '{name}'");
    assert!(column(&other, &own).await.is_empty());
    run(&writer, "rollback prepared 'convoy_p2_locks'").await;
}

#[tokio::test]
async fn p12_set_local_role_is_no_wall() {
    let script = "create table secret (word text); insert into secret values ('swordfish')";
    let (client, _) = database("p12_wall", script).await;
    role(&client, "convoy_p12_wall").await;
    run(&client, "begin read only; set local role convoy_p12_wall").await;
    let sql = "select set_config('role', 'none', true) || query_to_xml('select word from secret', true, true, '')";
    assert!(text(&client, sql).await.contains("swordfish"));
}

#[tokio::test]
async fn p12_settings_and_locks_survive_commit() {
    let (client, _) = database("p12_survive", "").await;
    run(
        &client,
        "begin read only; select set_config('app.tenant', '7', false), pg_advisory_lock(1); commit",
    )
    .await;
    assert_eq!(text(&client, "select current_setting('app.tenant')").await, "7");
    let locks =
        "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()";
    assert_eq!(text(&client, locks).await, "1");
    run(&client, "reset all; select pg_advisory_unlock_all()").await;
    assert_eq!(text(&client, "select current_setting('app.tenant', true)").await, "");
    assert_eq!(text(&client, locks).await, "0");
}

#[tokio::test]
async fn p12_a_claim_that_is_not_set_reads_empty() {
    let (client, _) = database("p12_claim", "").await;
    let claim = "select current_setting('app.claim', true)";
    assert_eq!(text(&client, claim).await, "NULL");
    run(&client, "begin; set local app.claim = 'x'; commit").await;
    assert_eq!(text(&client, claim).await, "");
}

#[tokio::test]
async fn p13_what_lateral_takes_and_what_it_does_not() {
    let (client, _) = database(
        "p13",
        "create table t (id int primary key, tenant int); insert into t select n, n % 3 from generate_series(1, 30) n",
    )
    .await;
    let sql = "select string_agg(a.ids, ' ' order by n) from unnest(array[2, 0]) with ordinality p(v, n) \
               cross join lateral (select string_agg(id::text, ',' order by id) as ids \
                 from (select id from t where tenant = p.v order by id limit 2) l) a";
    assert_eq!(text(&client, sql).await, "2,5 3,6");
    let sum =
        "select s.* from unnest(array[1, 2]) p(v) cross join lateral (select sum(p.v) from t) s";
    let error = refused(&client, sum).await;
    assert_eq!(error.code(), Some(&SqlState::GROUPING_ERROR), "{error:?}");
    assert_eq!(column(&client, "select unnest(array[[1, 2], [3, 4]])").await.len(), 4);
    let spoilt = "select 10 / p.v from unnest(array[1, 0]) p(v)";
    assert_eq!(refused(&client, spoilt).await.code(), Some(&SqlState::DIVISION_BY_ZERO));
}

#[tokio::test]
async fn p13_unnest_of_several_arrays_is_syntax_and_no_function() {
    let (client, _) = database("p13_unnest", "").await;
    assert_eq!(
        column(&client, "select * from unnest(array[1, 2], array['a', 'b'])").await.len(),
        2
    );
    for sql in [
        "select unnest(array[1], array['a'])",
        "select * from pg_catalog.unnest(array[1], array['a'])",
    ] {
        assert_eq!(
            refused(&client, sql).await.code(),
            Some(&SqlState::UNDEFINED_FUNCTION),
            "{sql}"
        );
    }
    let sql =
        "select * from rows from (pg_catalog.unnest(array[1, 2]), pg_catalog.unnest(array['a']))";
    assert_eq!(column(&client, sql).await, ["1", "2"]);
}
