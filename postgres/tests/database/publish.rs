//! Publications (P1, P2, P8) and the catalogue watch (P7).

use super::harness::{Harness, client, query, statement, until};
use convoy_engine::{Database, ErrorCode, Event, ProbeId, ProbeKind, Publication};
use convoy_types::ReplicaIdentity;
use std::time::Duration;

#[tokio::test]
async fn p1_only_tables_with_an_identity_are_published_for_updates() {
    let script = "create table keyed (id int primary key, x int); create table bare (x int); \
                  create table whole (x int); alter table whole replica identity full; \
                  create table late (id int primary key deferrable, x int); \
                  create table nothing (id int primary key, x int); alter table nothing replica identity nothing; \
                  create table indexed (id int not null, x int); create unique index i on indexed (id); \
                  alter table indexed replica identity using index i";
    let mut harness = Harness::new("p1", script).await;
    for (table, publication, identity) in [
        ("keyed", Publication::Full, ReplicaIdentity::Default),
        ("whole", Publication::Full, ReplicaIdentity::Full),
        ("indexed", Publication::Full, ReplicaIdentity::Index),
        ("bare", Publication::InsertsOnly, ReplicaIdentity::Nothing),
        ("late", Publication::InsertsOnly, ReplicaIdentity::Nothing),
        ("nothing", Publication::InsertsOnly, ReplicaIdentity::Nothing),
    ] {
        let facts = harness.table(table).await;
        assert_eq!((facts.publication, facts.identity), (publication, identity), "{table}");
        let expected = if publication == Publication::Full { "convoy_full" } else { "convoy_ins" };
        assert_eq!(harness.publications_of(table).await, [expected], "{table}");
        // The point of it all: the user's own writes go on.
        let write = format!("insert into {table} (x) values (1)");
        let write = if table == "bare" || table == "whole" {
            write
        } else {
            format!("insert into {table} (id, x) values (1, 1)")
        };
        harness.admin.batch_execute(&write).await.expect(table);
        harness.admin.batch_execute(&format!("update {table} set x = 2")).await.expect(table);
        harness.admin.batch_execute(&format!("delete from {table}")).await.expect(table);
    }
}

#[tokio::test]
async fn p1_generated_columns_do_not_break_writes() {
    let script = "create table whole (x int, g int generated always as (x * 2) stored); \
                  alter table whole replica identity full; \
                  create table keyed (x int, g int generated always as (x * 2) stored primary key)";
    let mut harness = Harness::new("p1_generated", script).await;
    let mut tables = vec![("whole", Publication::Full), ("keyed", Publication::Full)];
    let sql = "select current_setting('server_version_num')::int4 >= 180000";
    if harness.admin.query_one(sql, &[]).await.expect("a version").get(0) {
        let script = "create table virtual (x int primary key, g int generated always as (x * 2) virtual); \
                      alter table virtual replica identity full; \
                      create table beside (x int primary key, g int generated always as (x * 2) virtual)";
        harness.admin.batch_execute(script).await.expect("tables");
        tables.extend([("virtual", Publication::InsertsOnly), ("beside", Publication::Full)]);
    }
    for (table, publication) in tables {
        assert_eq!(harness.table(table).await.publication, publication, "{table}");
        for write in ["insert into {t} values (1)", "update {t} set x = 2", "delete from {t}"] {
            let write = write.replace("{t}", table);
            harness
                .admin
                .batch_execute(&write)
                .await
                .unwrap_or_else(|error| panic!("{write}: {error}"));
        }
    }
}

#[tokio::test]
async fn p1_a_table_that_loses_its_identity_moves_at_once() {
    let mut harness = Harness::new(
        "loses",
        "create table t (id int primary key, x int); insert into t values (1, 1)",
    )
    .await;
    let table = harness.oid("t").await;
    harness.table("t").await;
    harness.database.watch(vec![table]);
    harness.admin.batch_execute("alter table t drop constraint t_pkey").await.expect("alter");
    harness.changed(table).await;
    assert_eq!(harness.publications_of("t").await, ["convoy_ins"]);
    harness.admin.batch_execute("update t set x = 2").await.expect("the user's own write");
    assert_eq!(harness.table("t").await.publication, Publication::InsertsOnly);
    harness.admin.batch_execute("alter table t add primary key (id)").await.expect("alter");
    harness.changed(table).await;
    assert_eq!(harness.table("t").await.publication, Publication::Full);
    assert_eq!(harness.publications_of("t").await, ["convoy_full"]);
}

#[tokio::test]
async fn p1_without_ownership_the_sql_is_named() {
    let script = "create table t (id int primary key); \
                  do $$ begin create role convoy_not_owner login; exception when duplicate_object then null; end $$; \
                  grant select on t to convoy_not_owner; \
                  do $$ begin if current_setting('server_version_num')::int < 180000 \
                  then create publication convoy_full; \
                  else execute 'create publication convoy_full with (publish_generated_columns = stored)'; \
                  end if; end $$; \
                  create publication convoy_ins with (publish = 'insert, truncate')";
    let mut harness = Harness::with("owner", script, |mut options| {
        options.url.user = "convoy_not_owner".into();
        options
    })
    .await;
    let error = harness.describe(&statement("select id from t")).await.expect_err("not the owner");
    assert_eq!(error.code, ErrorCode::InvalidArgs);
    let sql = "ALTER PUBLICATION convoy_full ADD TABLE ONLY \"public\".\"t\"";
    assert!(error.message.contains(sql), "{error}");
    harness.admin.batch_execute(sql).await.expect("the very SQL");
    assert_eq!(harness.table("t").await.publication, Publication::Full);
}

#[tokio::test]
async fn p1_foreign_publications_of_our_name_are_refused() {
    for (name, theirs) in
        [("theirs", "all tables"), ("filter", "table t where (id > 1)"), ("list", "table t (id)")]
    {
        let script = format!(
            "create table t (id int primary key, note text); create publication convoy_full for {theirs}"
        );
        let harness = Harness::new(name, &script).await;
        let created = harness.database.handle().create_publications().await;
        let error = created.expect_err("not ours");
        assert!(error.message.contains("DROP PUBLICATION convoy_full"), "{theirs}: {error}");
    }
}

#[tokio::test]
async fn p1_a_publication_that_goes_again_and_again_has_its_tables_again() {
    let mut harness = Harness::new("gone", "create table t (id int primary key)").await;
    assert_eq!(harness.table("t").await.publication, Publication::Full);
    for _ in 0..3 {
        harness.admin.batch_execute("drop publication convoy_full").await.expect("a drop");
        harness.database.handle().create_publications().await.expect("publications");
        assert_eq!(harness.publications_of("t").await, ["convoy_full"]);
    }
}

#[tokio::test]
async fn p1_two_that_publish_at_once_are_not_in_each_others_way() {
    let tables = "do $$ begin for n in 1..20 loop \
                    execute format('create table t%s (id int primary key)', n); end loop; end $$";
    let mut one = Harness::new("race", tables).await;
    let mut other = Harness::at(one.url.clone(), |options| options).await;
    for n in 1..=20 {
        let sql = format!("select id from t{n}");
        let (here, there) = tokio::join!(one.facts(&sql), other.facts(&sql));
        assert_eq!(here.tables[0].publication, Publication::Full);
        assert_eq!(there.tables[0].publication, Publication::Full);
        assert_eq!(one.publications_of(&format!("t{n}")).await, ["convoy_full"]);
    }
}

#[tokio::test]
async fn p2_a_writer_from_before_is_waited_for() {
    let mut harness = Harness::new("p2", "create table t (id int primary key)").await;
    let mut other = client(&harness.url).await;
    let writing = other.transaction().await.expect("a transaction");
    writing.batch_execute("insert into t values (1)").await.expect("insert");
    let asked = convoy_engine::DescribeId(1000);
    harness.database.describe(asked, &statement("select id from t"));
    until(&harness.admin, "select from pg_publication_rel where prrelid = 't'::regclass").await;
    let looks = "select from pg_stat_activity where datname = current_database() \
                 and query like '%WHERE virtualtransaction = ANY%' and pid <> pg_backend_pid()";
    until(&harness.admin, looks).await;
    // A writer from after it was taken down who writes does not matter.
    let mut third = client(&harness.url).await;
    let later = third.transaction().await.expect("a transaction");
    later.batch_execute("insert into t values (2)").await.expect("insert");
    let described = |event: &Event| matches!(event, Event::Described(id, _) if *id == asked);
    assert!(!harness.kept().iter().any(described), "answered while somebody was writing");
    writing.commit().await.expect("commit");
    let facts = harness
        .wait(|event| match event {
            Event::Described(id, described) if id == asked => Ok(*described),
            other => Err(other),
        })
        .await
        .expect("facts");
    assert_eq!(facts.tables[0].publication, Publication::Full);
    later.commit().await.expect("commit");
}

#[tokio::test]
async fn p2_many_statements_of_one_table_wait_for_its_writers_once() {
    let mut harness = Harness::new("p2_many", "create table t (id int primary key)").await;
    let mut other = client(&harness.url).await;
    let writing = other.transaction().await.expect("a transaction");
    writing.batch_execute("insert into t values (1)").await.expect("insert");
    let asked: Vec<_> = (1000..1012).map(convoy_engine::DescribeId).collect();
    for (number, id) in asked.iter().enumerate() {
        let sql = format!("select id from t where id <> {number}");
        harness.database.describe(*id, &statement(&sql));
    }
    // As many wait as there are connections for it.
    let wait = "select from pg_stat_activity where datname = current_database() \
                and (query like '%WHERE virtualtransaction = ANY%' or query like '%WHERE transaction::%') \
                and pid <> pg_backend_pid() having count(*) = 3";
    until(&harness.admin, wait).await;
    // Who comes later finds the table published, and need not wait for who wrote since.
    let mut third = client(&harness.url).await;
    let later = third.transaction().await.expect("a transaction");
    later.batch_execute("insert into t values (2)").await.expect("insert");
    writing.commit().await.expect("commit");
    for id in asked {
        let described = harness.wait(|event| match event {
            Event::Described(of, described) if of == id => Ok(*described),
            other => Err(other),
        });
        assert_eq!(described.await.expect("facts").tables[0].publication, Publication::Full);
    }
    later.commit().await.expect("commit");
}

#[tokio::test]
async fn p2_a_prepared_writer_is_named() {
    let mut harness = Harness::with("prepared", "create table t (id int primary key)", |options| {
        convoy_postgres::DatabaseOptions { publish_wait_max: Duration::from_millis(100), ..options }
    })
    .await;
    let other = client(&harness.url).await;
    let prepare = "begin; insert into t values (1); prepare transaction 'convoy_p2'";
    other.batch_execute(prepare).await.expect("prepare");
    let error = harness.describe(&statement("select id from t")).await.expect_err("it is open");
    assert_eq!(error.code, ErrorCode::Unavailable);
    assert!(error.message.contains("ROLLBACK PREPARED 'convoy_p2'"), "{error}");
    // The next one must not be told otherwise because the table is a member by now.
    let error =
        harness.describe(&statement("select id from t")).await.expect_err("it is still open");
    assert_eq!(error.code, ErrorCode::Unavailable);
    other.batch_execute("commit prepared 'convoy_p2'").await.expect("commit");
    assert_eq!(harness.table("t").await.publication, Publication::Full);
}

#[tokio::test]
async fn p2_a_writer_of_a_leaf_is_named_by_its_pid() {
    let script = "create table t (id int primary key) partition by range (id); \
                  create table t_1 partition of t for values from (0) to (10)";
    let mut harness = Harness::with("leaf", script, |options| convoy_postgres::DatabaseOptions {
        publish_wait_max: Duration::from_millis(100),
        ..options
    })
    .await;
    let other = client(&harness.url).await;
    other.batch_execute("begin; insert into t_1 values (1)").await.expect("insert");
    let pid: i32 = other.query_one("select pg_backend_pid()", &[]).await.expect("a pid").get(0);
    let error = harness.describe(&statement("select id from t")).await.expect_err("it is open");
    assert_eq!(error.code, ErrorCode::Unavailable);
    assert!(error.message.contains(&format!("pg_terminate_backend({pid})")), "{error}");
    other.batch_execute("commit").await.expect("commit");
    assert_eq!(harness.table("t").await.publication, Publication::Full);
}

#[tokio::test]
async fn p2_publishing_does_not_wait_behind_locks_for_ever() {
    let mut harness =
        Harness::with("p2_lock", "create table t (id int primary key)", |mut options| {
            options.session.lock_timeout = Duration::from_millis(50);
            options
        })
        .await;
    let other = client(&harness.url).await;
    // The level that VACUUM takes.
    let lock = "begin; lock table t in share update exclusive mode";
    other.batch_execute(lock).await.expect("a lock");
    let error = harness.describe(&statement("select id from t")).await.expect_err("in the way");
    assert_eq!(error.code, ErrorCode::Unavailable);
    assert!(error.message.contains("somebody holds a lock on it"), "{error}");
    other.batch_execute("commit").await.expect("commit");
    assert_eq!(harness.table("t").await.publication, Publication::Full);
}

#[tokio::test]
async fn p8_partitions_and_children() {
    let script = "create table keyed (id int primary key, x int) partition by range (id); \
                  create table keyed_1 partition of keyed for values from (0) to (10); \
                  create table keyed_2 partition of keyed for values from (10) to (20) partition by range (id); \
                  create table keyed_2_1 partition of keyed_2 for values from (10) to (20); \
                  create table bare (x int) partition by range (x); \
                  create table bare_1 partition of bare for values from (0) to (10); \
                  create table bare_2 partition of bare for values from (10) to (20); \
                  alter table bare_1 replica identity full; \
                  create table parent (id int primary key); create table child () inherits (parent)";
    let mut harness = Harness::new("p8", script).await;
    let keyed = harness.table("keyed").await;
    assert_eq!(keyed.publication, Publication::Full);
    assert_eq!(keyed.leaves, [harness.oid("keyed_1").await, harness.oid("keyed_2_1").await]);
    assert_eq!(harness.publications_of("keyed").await, ["convoy_full"]);
    let bare = harness.table("bare").await;
    assert_eq!(bare.publication, Publication::InsertsOnly);
    assert_eq!(bare.identity, ReplicaIdentity::Nothing);
    assert!(harness.publications_of("bare").await.is_empty());
    assert_eq!(harness.publications_of("bare_1").await, ["convoy_full"]);
    assert_eq!(harness.publications_of("bare_2").await, ["convoy_ins"]);
    let parent = harness.table("parent").await;
    assert_eq!(parent.leaves, [harness.oid("child").await]);
    assert_eq!(harness.publications_of("parent").await, ["convoy_full"]);
    assert_eq!(harness.publications_of("child").await, ["convoy_ins"]);
    assert!(parent.primary_key.is_empty(), "children have no key of their own");
    harness
        .admin
        .batch_execute(
            "insert into bare values (1), (11); update bare set x = x + 1; delete from bare",
        )
        .await
        .expect("the user's own writes");
    harness
        .admin
        .batch_execute("insert into child values (1); update parent set id = id + 1")
        .await
        .expect("writes");
}

#[tokio::test]
async fn p8_new_partitions_and_children_are_added() {
    let script = "create table bare (x int) partition by range (x); \
                  create table bare_1 partition of bare for values from (0) to (10); \
                  create table parent (id int primary key)";
    let mut harness = Harness::new("p8_new", script).await;
    let (bare, parent) = (harness.oid("bare").await, harness.oid("parent").await);
    harness.table("bare").await;
    harness.table("parent").await;
    harness.database.watch(vec![bare, parent]);
    harness
        .admin
        .batch_execute("create table bare_2 partition of bare for values from (10) to (20)")
        .await
        .expect("create");
    harness.changed(bare).await;
    assert_eq!(harness.publications_of("bare_2").await, ["convoy_ins"]);
    harness
        .admin
        .batch_execute("create table child (primary key (id)) inherits (parent)")
        .await
        .expect("create");
    harness.changed(parent).await;
    assert_eq!(harness.publications_of("child").await, ["convoy_full"]);
}

#[tokio::test]
async fn p7_whatever_changes_what_readers_see_is_noticed() {
    let script = "create type mood as enum ('glad'); \
                  create table t (id int primary key, x int, y int, m mood); create view v as select id from t; \
                  do $$ begin create role convoy_p7; exception when duplicate_object then null; end $$";
    let mut harness = Harness::new("p7", script).await;
    let table = harness.oid("t").await;
    harness.table("v").await;
    harness.database.watch(vec![table]);
    for ddl in [
        "alter type mood rename value 'glad' to 'merry'",
        "grant create on schema public to convoy_p7",
        "revoke all on schema public from convoy_p7",
        "alter table t alter column x type bigint",
        "alter table t rename column x to z",
        "alter table t drop column y",
        "grant select on t to convoy_p7",
        "revoke select on t from convoy_p7",
        "grant select (id) on t to convoy_p7",
        "alter table t enable row level security",
        "create policy p on t using (id > 0)",
        "alter policy p on t using (id > 1)",
        "drop policy p on t",
        "alter table t replica identity full",
        "truncate t",
        "create or replace view v as select id + 0 as id from t",
        "create table u () inherits (t)",
        "alter table u no inherit t",
        "drop view v; drop table t; create table t (id int primary key)",
    ] {
        harness.admin.batch_execute(ddl).await.expect(ddl);
        harness.changed(table).await;
    }
}

#[tokio::test]
async fn p7_what_changes_nothing_for_readers_is_not() {
    let mut harness = Harness::new("p7_quiet", "create table t (id int primary key, x int)").await;
    let table = harness.oid("t").await;
    harness.table("t").await;
    harness.database.watch(vec![table]);
    let ddl =
        "create index on t (x); insert into t values (1, 1); analyze t; comment on table t is 'x'";
    harness.admin.batch_execute(ddl).await.expect("ddl");
    harness.admin.batch_execute("vacuum t").await.expect("vacuum");
    let answers = harness.read(vec![table], vec![query(1, "select 1::text")]).await;
    assert!(answers[&1].is_ok());
    let changed = |event: &Event| matches!(event, Event::CatalogChanged(_));
    assert!(!harness.kept().iter().any(changed));
}

#[tokio::test]
async fn p7_a_read_looks_at_its_own_snapshot() {
    let mut harness = Harness::with("p7_read", "create table t (id int primary key)", |options| {
        convoy_postgres::DatabaseOptions { watch_interval: Duration::from_secs(3600), ..options }
    })
    .await;
    let table = harness.oid("t").await;
    harness.table("t").await;
    harness.database.watch(vec![table]);
    harness.admin.batch_execute("alter table t add column x int").await.expect("alter");
    harness.read(vec![table], vec![query(1, "select 1::text")]).await;
    harness.changed(table).await;
}

#[tokio::test]
async fn p5_a_flush_streams_an_asynchronous_commit() {
    let script = "create table t (id int primary key)";
    let mut harness = Harness::new("p5", script).await;
    harness
        .admin
        .batch_execute("set synchronous_commit = off; insert into t values (1)")
        .await
        .expect("insert");
    let row = harness
        .admin
        .query_one("select pg_current_wal_insert_lsn()::text", &[])
        .await
        .expect("lsn");
    let insert: String = row.get(0);
    harness.database.flush_wal();
    harness.database.flush_wal();
    until(&harness.admin, &format!("select where pg_current_wal_flush_lsn() >= '{insert}'")).await;
    harness.database.probe_snapshot(ProbeId(7), ProbeKind::Newest);
    let probed = harness
        .wait(|event| match event {
            Event::SnapshotProbed(ProbeId(7), probed) => Ok(probed),
            other => Err(other),
        })
        .await;
    assert!(probed.expect("a snapshot").snapshot.mark.xmax.0 > 3);
}

#[tokio::test]
async fn p6_a_beginning_is_told_of_every_open_transaction() {
    let mut harness = Harness::new("open", "create table t (id int)").await;
    let prepared = client(&harness.url).await;
    let script = "begin; insert into t values (1); prepare transaction 'open_1'";
    prepared.batch_execute(script).await.expect("a prepared transaction");
    let open = client(&harness.url).await;
    let script = "begin; insert into t values (2); savepoint s; insert into t values (3)";
    open.batch_execute(script).await.expect("an open transaction");
    let mut ids = Vec::new();
    let sql = "select transaction::text from pg_prepared_xacts where gid = 'open_1'";
    ids.push(harness.admin.query_one(sql, &[]).await.expect("an id").get::<_, String>(0));
    let sql = "select pg_current_xact_id()::xid::text";
    ids.push(open.query_one(sql, &[]).await.expect("an id").get(0));
    let sql =
        "select max(transactionid::text::int8)::text from pg_locks where pid = pg_backend_pid()";
    let subtransaction: String = open.query_one(sql, &[]).await.expect("an id").get(0);
    assert!(!ids.contains(&subtransaction));

    harness.database.probe_snapshot(ProbeId(1), ProbeKind::Beginning);
    let probed = harness
        .wait(|event| match event {
            Event::SnapshotProbed(ProbeId(1), probed) => Ok(probed.expect("a snapshot")),
            other => Err(other),
        })
        .await;
    let found = |id: &String| probed.open.iter().any(|xid| xid.0.to_string() == **id);
    assert!(ids.iter().all(found), "{ids:?} are open, and not all in {:?}", probed.open);
    assert!(!found(&subtransaction));
    // The reason for it: the snapshot alone does not tell of the newest.
    let newest = probed.snapshot.mark.widen(convoy_types::Xid(ids[1].parse().expect("an id")));
    assert!(!probed.snapshot.mark.shows(newest));
    harness.admin.batch_execute("rollback prepared 'open_1'").await.expect("its end");
}
